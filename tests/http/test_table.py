import pytest

from fleetgate.domain import Capability
from fleetgate.http.routes import Owners, every_row
from fleetgate.http.status import Status
from fleetgate.http.table import Access, RouteTable, Row, describe


async def nothing(_call):
    pass


def row(method, template, access=Access.CALLER):
    return Row(method, template, access, nothing, "A row.")


TABLE = RouteTable(
    [
        row("GET", "/"),
        row("GET", "/models"),
        row("POST", "/models"),
        row("GET", "/models/{id}"),
        row("GET", "/v1/m/{id}"),
    ]
)


@pytest.mark.parametrize(
    ("path", "methods", "argument"),
    [
        ("/", {"GET"}, ""),
        ("/models", {"GET", "POST"}, ""),
        ("/models/a", {"GET"}, "a"),
        ("/models/box/gpu1/story", {"GET"}, "box/gpu1/story"),
        ("/models/org/model:7b", {"GET"}, "org/model:7b"),
        ("/models//", {"GET"}, "/"),
        ("/models/../admin", {"GET"}, "../admin"),
        ("/v1/m/x", {"GET"}, "x"),
    ],
)
def test_a_path_has_its_rows_and_its_argument(path, methods, argument):
    rows, found = TABLE.find(path)
    assert set(rows) == methods
    assert found == argument


@pytest.mark.parametrize(
    "path", ["", "//", "/models/", "//models", "/Models", "/models?", "/v1/m", "/v1/m/", "models", "/x"]
)
def test_a_path_without_a_row_does_not_exist(path):
    assert TABLE.find(path) is None


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/v1/mesages", "Did you mean /v1/messages?"),
        ("/v1/v1/messages", "The base URL has a /v1 that the program adds itself: leave it out there."),
        ("/v1/api/chat", "The base URL has a /v1 that the program adds itself: leave it out there."),
        ("/v1/responses/r", "Responses are not kept here: send the whole conversation with `store: false`."),
        ("/admin/api/key", "OpenAI's routes begin with /v1, Ollama's with /api."),
        ("/v1/messages" * 100, "OpenAI's routes begin with /v1, Ollama's with /api."),
    ],
)
def test_a_path_that_does_not_exist_gets_advice(path, advice):
    kept = row("POST", "/admin/api/keys", Access.ADMIN)
    assert RouteTable([row("POST", "/v1/messages"), kept]).hint(path) == advice


def test_two_rows_for_the_same_are_a_mistake_of_ours():
    with pytest.raises(ValueError, match="two rows for GET /a"):
        RouteTable([row("GET", "/a"), row("GET", "/a")])
    with pytest.raises(ValueError, match="two rows"):
        RouteTable([row("GET", "/a/{x}"), row("GET", "/a/{y}")])


def test_a_row_as_the_reference_shows_it():
    shown = describe(Row("POST", "/x", Access.ADMIN, nothing, "Does it.", audited=True))
    assert shown == {
        "method": "POST",
        "path": "/x",
        "access": "admin",
        "store_down": "not used",
        "audited": True,
        "doc": "Does it.",
    }


# --- the rows that exist ----------------------------------------------------------------------------


def test_an_argument_ends_before_a_verb():
    plain = Row("GET", "/keys/{id}", Access.ADMIN, nothing, "One.")
    verb = Row("POST", "/keys/{id}/rotate", Access.ADMIN, nothing, "Rotate.")
    table = RouteTable([plain, verb])
    assert table.find("/keys/a") == ({"GET": plain}, "a")
    assert table.find("/keys/a/rotate") == ({"POST": verb}, "a")
    assert table.find("/keys/a/b/rotate") == ({"POST": verb}, "a/b")
    assert table.find("/keys//rotate") == ({"GET": plain}, "/rotate")
    assert table.find("/keys/a/rotate/") == ({"GET": plain}, "a/rotate/")


def rows_of_the_gateway():
    return RouteTable(every_row(Owners(Status("1", 0.0), *[None] * 9))).rows


def test_every_row_has_one_line_of_documentation():
    assert all(one.doc.endswith(".") and "\n" not in one.doc for one in rows_of_the_gateway())


def test_what_changes_something_is_for_administrators_and_audited():
    for one in rows_of_the_gateway():
        # Explaining has a body, and so have counting, showing and what is refused; none changes anything.
        a_question = one.template == "/admin/api/explain" or one.dialect is not None
        if one.method != "GET" and one.capability is None and not a_question:
            assert one.access is Access.ADMIN
            assert one.audited


def test_administration_is_for_administrators():
    for one in rows_of_the_gateway():
        assert (one.access in (Access.ADMIN, Access.VIEWER)) is one.template.startswith("/admin/")


def test_models_are_never_asked_without_being_a_caller():
    rows = [one for one in rows_of_the_gateway() if one.capability is not None]
    assert {one.access for one in rows} == {Access.CALLER}
    assert {one.capability for one in rows} >= {Capability.CHAT, Capability.COMPLETE, Capability.EMBED}


def test_openais_routes_exist_with_and_without_their_version():
    paths = {one.template for one in rows_of_the_gateway()}
    for path in ("/chat/completions", "/completions", "/embeddings", "/models", "/models/{id}"):
        assert {path, f"/v1{path}"} <= paths


def test_while_draining_only_health_is_answered():
    assert all(one.access is Access.ANYONE for one in rows_of_the_gateway() if one.while_draining)
