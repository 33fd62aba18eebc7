"""Every row of the route table, with every kind of key, in both modes: it behaves as it declares."""

import json

import pytest
from tests.support.forms import recording
from tests.support.gateway import MASTER_KEY, answer, openai_engine, running_gateway, settings
from tests.support.gateway import node as node_at
from tests.support.upstreams import respond_json

from fleetgate.http.table import Access

pytestmark = pytest.mark.asyncio

KEYS = {
    "no key": {},
    "wrong key": {"authorization": "Bearer fg_wrong_0123456789"},
    "other scheme": {"authorization": f"Basic {MASTER_KEY}"},
    "key in the wrong place": {"cookie": f"key={MASTER_KEY}"},
    "master key": {"authorization": f"Bearer {MASTER_KEY}"},
    "master key, other header": {"x-api-key": MASTER_KEY},
}
ISSUED = {
    "caller": {},
    "viewer": {"kind": "viewer"},
    "admin": {"kind": "admin"},
    "expired": {"kind": "admin", "expires_in": "0s"},
    "disabled": {"kind": "admin", "enabled": False},
    "revoked": {"kind": "admin"},
}
MASTER = {"master key", "master key, other header"}
OPENS = {
    Access.CALLER: {*MASTER, "caller", "admin"},
    Access.VIEWER: {*MASTER, "viewer", "admin"},
    Access.ADMIN: {*MASTER, "admin"},
}
BODY = json.dumps({"model": "m", "messages": [], "input": "x", "prompt": "x"}).encode()
FITTING = {
    "/responses": {"model": "m", "input": "x"},
    "/messages": {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9},
    "/messages/count_tokens": {"model": "m", "messages": [{"role": "user", "content": "x"}]},
    "/api/chat": {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": False},
    "/api/generate": {"model": "m", "prompt": "x", "stream": False},
}
"""bodies of routes that do not take `BODY`, by the end of their paths"""
REFUSED = {"/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/{digest}"}
"""what is answered with 403 to whoever is let in: models are not managed there"""


FORMS = ("/images/edits", "/audio/transcriptions", "/audio/translations")
"""ends of paths that take forms with files"""


def body_of(path):
    fitting = next((form for end, form in FITTING.items() if path.partition("?")[0].endswith(end)), None)
    return BODY if fitting is None else json.dumps(fitting).encode()


def target(row):
    """A path of the row that succeeds for whoever may use it."""
    name = "box" if row.template.startswith("/admin/api/nodes/") else "m"
    path = row.template.partition("{")[0] + (name if "{" in row.template else "")
    path += row.template.partition("}")[2]
    return f"{path}?model=m" if path.endswith("/explain") else path


def opens(row, auth, key):
    """Whether the row's access and the mode let this key in."""
    access = row.access
    return access is Access.ANYONE or key in OPENS[access] or (access is Access.CALLER and auth == "open")


def declared(row, auth, key, reached):
    """The status for a key. `reached`: what is answered behind the door, as the master key showed."""
    if opens(row, auth, key):
        return reached[row.method, row.template]
    return 403 if key in {"caller", "viewer"} else 401


async def behind(gateway):
    """What each row answers to whoever is let in.

    In the admin API there is no `m`, and `BODY` is not always a form; that is an answer from behind, too.
    """
    found = {}
    for row in gateway.app.surface.table.rows:
        status = (await ask(gateway, row.method, target(row), KEYS["master key"])).status
        fine = {200, 400, 404} if row.template.startswith("/admin") else {200}
        fine = {403} if row.template in REFUSED else fine
        assert status in fine, (row.method, row.template, status)
        found[row.method, row.template] = status
    return found


async def issue(gateway):
    """A key of every kind and in every state, as headers."""
    found = {}
    for name, members in ISSUED.items():
        form = json.dumps({"alias": name, **members}).encode()
        made = await ask(gateway, "POST", "/admin/api/keys", KEYS["master key"], form)
        assert made.status == 201
        found[name] = {"authorization": f"Bearer {made.json()['secret']}"}
    revoked = await ask(gateway, "POST", "/admin/api/keys/revoked/revoke", KEYS["master key"])
    assert revoked.json()["key"]["state"] == "revoked"
    return found


def engine():
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    return openai_engine(respond_json(200, {**answer("hi"), "data": [vector], "results": []}))


def written(upstream, auth, **gateway):
    return settings(gateway={"auth": auth, **gateway}, nodes={"box": node_at(upstream)})


async def ask(gateway, method, path, headers, body=None):
    fitting, extra = body_of(path), {"content-type": "application/json"}
    if path.partition("?")[0].endswith(FORMS):
        fitting, extra = recording(b"x")
    body = fitting if body is None else body
    body = body if method in {"POST", "PATCH"} else b""
    extra = extra if method not in {"GET", "HEAD"} else {}
    host = {"host": f"127.0.0.1:{gateway.port}"}
    async with gateway.caller() as caller:
        await caller.ask(method, path, {**host, **extra, **headers}, body)
        reply = await caller.head()
        return await caller.rest() if method != "HEAD" else reply


@pytest.mark.parametrize("auth", ["keys", "open"])
async def test_every_row_with_every_key(auth, tmp_path):
    async with engine() as upstream, running_gateway(written(upstream, auth), tmp_path) as gateway:
        found, wanted = {}, {}
        everybody = {**KEYS, **await issue(gateway)}
        reached = await behind(gateway)
        for row in gateway.app.surface.table.rows:
            for name, headers in everybody.items():
                reply = await ask(gateway, row.method, target(row), headers)
                found[row.method, row.template, name] = reply.status
                wanted[row.method, row.template, name] = declared(row, auth, name, reached)
                assert reply.header("x-fleetgate-instance") == gateway.app.gateway.instance
                assert reply.header("x-request-id")
                assert MASTER_KEY not in reply.body.decode()
                assert headers.get("authorization", "-" * 99)[7:] not in reply.body.decode()
        assert found == wanted


@pytest.mark.parametrize("auth", ["keys", "open"])
async def test_every_row_while_the_database_is_down(auth, tmp_path):
    """Keys that were known go on; a key that was not is let in nowhere."""
    async with engine() as upstream, running_gateway(written(upstream, auth), tmp_path) as gateway:
        issued = await issue(gateway)
        unseen = json.dumps({"alias": "unseen", "kind": "admin"}).encode()
        made = await ask(gateway, "POST", "/admin/api/keys", KEYS["master key"], unseen)
        unseen = {"authorization": f"Bearer {made.json()['secret']}"}
        # as in a gateway that was restarted
        gateway.app.people.keys._issued.ring._drop(made.json()["key"]["id"])
        gateway.store._reading.dispose()
        gateway.store.path.rename(tmp_path / "away.db")
        await gateway.app.people.keys.poll()
        for row in gateway.app.surface.table.rows:
            if row.access is Access.ANYONE:
                continue
            everybody = row.access is Access.CALLER and auth == "open"
            well = 403 if row.template in REFUSED else 200
            reply = await ask(gateway, row.method, target(row), unseen)
            assert (reply.status, row.template) == (well if everybody else 503, row.template)
            reply = await ask(gateway, row.method, target(row), issued["revoked"])
            assert (reply.status, row.template) == (well if everybody else 401, row.template)
            if row.access is Access.CALLER:
                assert (await ask(gateway, row.method, target(row), issued["caller"])).status == well
            elif row.method == "GET":
                reply = await ask(gateway, row.method, target(row), issued["viewer"])
                assert (reply.status, row.template) == (503 if row.store == "503" else 200, row.template)


@pytest.mark.parametrize("auth", ["keys", "open"])
async def test_other_methods_are_not_there(auth, tmp_path):
    async with engine() as upstream, running_gateway(written(upstream, auth), tmp_path) as gateway:
        table = gateway.app.surface.table
        for path in {target(row).partition("?")[0] for row in table.rows}:
            rows, _ = table.find(path)
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
                if method in rows or (method == "HEAD" and "GET" in rows):
                    continue
                reply = await ask(gateway, method, path, KEYS["master key"])
                assert (reply.status, method, path) == (405, method, path)


async def test_head_is_get_without_its_body(tmp_path):
    async with engine() as upstream, running_gateway(written(upstream, "keys"), tmp_path) as gateway:
        reply = await ask(gateway, "HEAD", "/v1/models", KEYS["master key"])
        whole = await ask(gateway, "GET", "/v1/models", KEYS["master key"])
        assert (reply.status, reply.header("content-length")) == (200, whole.header("content-length"))
        assert (await ask(gateway, "HEAD", "/v1/models", {})).status == 401


VARIANTS = [
    "/{path}",
    "//{path}",
    "/./{path}",
    "/x/../{path}",
    "/%2e/{path}",
    "/x/%2e%2e/{path}",
    "/livez/../{path}",
    "/livez/%2e%2e/{path}",
    "/livez%2f..%2f{path}",
    "/{path}/",
    "/{path}%2f",
    "/{path}//",
    "/{path}/.",
    "/{path};x=y",
    "/{path}%00",
    "/{path}%20",
    "/{path}?",
    "/{path}?/livez",
    "/{path}%3f/livez",
    "/{path}#/livez",
    "/{upper}",
    "/{first}",
    "http://127.0.0.1/{path}",
    "http://evil.example/{path}",
    "\\{path}",
    "/base/{path}",
]


@pytest.mark.parametrize("auth", ["keys", "open"])
async def test_no_spelling_of_a_path_gets_past_its_key(auth, tmp_path):
    config = lambda upstream: written(upstream, auth, base_path="/base")  # noqa: E731
    async with engine() as upstream, running_gateway(config(upstream), tmp_path) as gateway:
        let_in = set()
        for row in gateway.app.surface.table.rows:
            if opens(row, auth, "no key"):
                continue
            path = target(row).partition("?")[0].lstrip("/")
            first = f"%{ord(path[0]):02x}{path[1:]}"
            for variant in VARIANTS:
                spelled = variant.format(path=path, upper=path.upper(), first=first)
                reply = await ask(gateway, row.method, spelled, KEYS["wrong key"])
                if reply.status not in (400, 401, 404, 405):
                    let_in.add((row.method, spelled, reply.status))
        assert let_in == set()
        assert upstream.requests == []


FORWARDED = [
    {"x-forwarded-for": "127.0.0.1"},
    {"forwarded": "for=127.0.0.1;host=localhost"},
    {"x-forwarded-host": "localhost"},
    {"x-original-url": "/livez"},
    {"x-rewrite-url": "/livez"},
    {"x-http-method-override": "HEAD"},
    {"x-forwarded-user": "master"},
    {"x-forwarded-prefix": "/livez"},
    {"x-real-ip": "127.0.0.1", "x-forwarded-proto": "https"},
    {"tailscale-user-login": "ada@example.com"},
    {"x-user": "master", "x-remote-user": "master", "remote-user": "master"},
]


@pytest.mark.parametrize("auth", ["keys", "open"])
async def test_no_header_of_a_proxy_gets_past_a_key(auth, tmp_path):
    async with engine() as upstream, running_gateway(written(upstream, auth), tmp_path) as gateway:
        reached = await behind(gateway)
        for row in gateway.app.surface.table.rows:
            for headers in FORWARDED:
                reply = await ask(gateway, row.method, target(row), headers)
                assert (reply.status, row.template, headers) == (
                    declared(row, auth, "no key", reached),
                    row.template,
                    headers,
                )


HOSTS = ["evil.example", "localhost", "127.0.0.1:4000/livez", "/livez", "livez?", "x@127.0.0.1", "[::1]", ""]


async def test_no_host_gets_past_a_key(tmp_path):
    """With keys the name by which the gateway is asked changes nothing at all."""
    async with engine() as upstream, running_gateway(written(upstream, "keys"), tmp_path) as gateway:
        reached = await behind(gateway)
        for row in gateway.app.surface.table.rows:
            for host in HOSTS:
                for key in ("no key", "master key"):
                    headers = {**KEYS[key], "host": host}
                    reply = await ask(gateway, row.method, target(row), headers)
                    wanted = declared(row, "keys", key, reached)
                    assert (reply.status, row.template, host) == (wanted, row.template, host)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
async def test_open_mode_is_not_for_web_pages_of_others(headers, tmp_path):
    async with engine() as upstream, running_gateway(written(upstream, "open"), tmp_path) as gateway:
        for row in gateway.app.surface.table.rows:
            if row.access is Access.ANYONE:
                continue
            reply = await ask(gateway, row.method, target(row), {**headers, **KEYS["master key"]})
            assert (reply.status, row.template) == (403, row.template)
        assert upstream.requests == []


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_open_mode_takes_no_forms(kind, tmp_path):
    async with engine() as upstream, running_gateway(written(upstream, "open"), tmp_path) as gateway:
        for row in gateway.app.surface.table.rows:
            if row.method != "GET" and not kind.startswith(row.takes):
                reply = await ask(gateway, row.method, target(row), {"content-type": kind})
                assert (reply.status, row.template) == (415, row.template)


async def test_a_base_path_works_present_and_stripped(tmp_path):
    config = lambda upstream: written(upstream, "keys", base_path="/llm")  # noqa: E731
    async with engine() as upstream, running_gateway(config(upstream), tmp_path) as gateway:
        reached = await behind(gateway)
        for row in gateway.app.surface.table.rows:
            inside = reached[row.method, row.template]
            for path in (target(row), f"/llm{target(row)}"):
                assert (await ask(gateway, row.method, path, KEYS["master key"])).status == inside
                wanted = declared(row, "keys", "no key", reached)
                assert (await ask(gateway, row.method, path, {})).status == wanted
        for path in ("/llm", "/llm/"):
            assert (await ask(gateway, "GET", path, {})).json()["name"] == "fleetgate"
        for path in ("/llmv1/models", "/llm/llm/v1/models", "/LLM/v1/models"):
            assert (await ask(gateway, "GET", path, KEYS["master key"])).status == 404


async def test_a_model_with_slashes_in_its_name_has_its_entry(tmp_path):
    async with engine() as upstream, running_gateway(written(upstream, "keys"), tmp_path) as gateway:
        for path in ("/v1/models/box/openai/m", "/v1/models/box%2Fopenai%2Fm", "/models/box/m"):
            reply = await ask(gateway, "GET", path, KEYS["master key"])
            assert reply.status == 200
            assert reply.json()["id"] in ("box/openai/m", "box/m")
        reply = await ask(gateway, "GET", "/v1/models/box/nobody", KEYS["master key"])
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")


async def test_health_without_a_key_names_no_machine_and_no_model(tmp_path):
    async with engine() as upstream:
        named = settings(
            gateway={"auth": "keys"},
            nodes={"secret-machine": node_at(upstream)},
            aliases={"secret-alias": "secret-machine/m"},
        )
        async with running_gateway(named, tmp_path) as gateway:
            for row in gateway.app.surface.table.rows:
                if row.access is Access.ANYONE:
                    reply = await ask(gateway, row.method, f"{target(row)}?verbose", {})
                    assert reply.status == 200
                    assert "secret" not in reply.body.decode()


async def test_while_it_stops_only_what_says_so_is_answered(tmp_path):
    async with engine() as upstream, running_gateway(written(upstream, "keys"), tmp_path) as gateway:
        gateway.app.gateway.draining = gateway.app.gateway.refusing = True
        for row in gateway.app.surface.table.rows:
            reply = await ask(gateway, row.method, target(row), KEYS["master key"])
            if not row.while_draining:
                assert (reply.status, reply.header("retry-after")) == (503, "5")
            else:
                assert reply.status == (503 if "read" in row.template else 200)
