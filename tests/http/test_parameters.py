"""What stands behind the `?`, and members of bodies: what is not declared is refused, with what was meant."""

import pytest
from tests.support.gateway import MASTER_KEY, running_gateway, settings

from fleetgate.errors import Refused
from fleetgate.http.parameters import Parameter, hold_against

KNOWN = (Parameter("since", "a time"), Parameter("until", "a time"))


def refusal(query, declared=KNOWN):
    with pytest.raises(Refused) as caught:
        hold_against(query, declared)
    assert (caught.value.status, caught.value.code) == (400, "malformed")
    return caught.value.message, caught.value.advice


def test_what_is_declared_passes():
    hold_against({}, ())
    hold_against({"until": "x", "since": "y"}, KNOWN)


def test_a_misspelt_one_is_refused_with_the_near_name():
    assert refusal({"until": "x", "sinse": ""}) == ("there is no parameter 'sinse'", "Did you mean `since`?")
    assert refusal({"colour": ""}) == ("there is no parameter 'colour'", "Known: since, until.")
    assert refusal({"Since": ""})[1] == "Did you mean `since`?"
    assert refusal({"x" * 10_000: ""})[0] == f"there is no parameter {'x' * 50!r}"


def test_where_nothing_is_declared_nothing_is_known():
    assert refusal({"x": ""}, ())[1] == "None is known here."


REFUSED = (
    ("GET", "/admin/api/keys?usr=ada", b"", "Did you mean `user`?"),
    ("GET", "/admin/api/keys?revoked=yes", b"", "`revoked` is true or false"),
    ("GET", "/admin/api/models?x", b"", "None is known here."),
    ("POST", "/admin/api/budget/pause?why=so", b"{}", "None is known here."),
    ("POST", "/admin/api/keys", b'{"expire_in": "1d"}', "Did you mean `expires_in`?"),
    ("POST", "/admin/api/teams", b'{"name": "a", "colour": 1}', "Known: name, note."),
    ("POST", "/admin/api/keys", b'{"limits": [{"reqests": 5}]}', "there is no member `limits.0.reqests`"),
    ("POST", "/admin/api/keys", b'{"enabled": "no"}', "`enabled`"),
    ("POST", "/admin/api/keys", b'{"alias": 7}', "`alias`"),
    ("POST", "/admin/api/limits", b'{"requests": "5"}', "`requests`"),
    ("POST", "/admin/api/limits", b'{"requests": 1000000000000000000000}', "`requests`"),
)


@pytest.mark.asyncio
async def test_over_http_it_is_the_same_everywhere(tmp_path):
    async with running_gateway(settings(gateway={"auth": "keys"}), tmp_path) as gateway:
        for method, path, body, said in REFUSED:
            reply = await ask(gateway, method, path, body)
            assert (path, body, reply.status) == (path, body, 400)
            assert said in reply.error["message"]
        for path in ("/admin/api/keys?revoked=false&user=", "/admin/api/audit?below=999999999999999999"):
            assert (await ask(gateway, "GET", path)).status == 200
        for path in ("/v1/models?anything", "/livez?anything"):
            assert (await ask(gateway, "GET", path)).status == 200, "clients of others send what they like"


@pytest.mark.asyncio
async def test_who_may_not_ask_learns_no_parameters(tmp_path):
    async with running_gateway(settings(gateway={"auth": "keys"}), tmp_path) as gateway:
        assert (await ask(gateway, "GET", "/admin/api/keys?usr=ada", key="fg_wrong")).status == 401


@pytest.mark.asyncio
async def test_another_method_is_refused_with_those_that_are_possible(tmp_path):
    async with running_gateway(settings(gateway={"auth": "keys"}), tmp_path) as gateway:
        for path, allowed in (
            ("/admin/api/keys", "GET, HEAD, POST"),
            ("/admin/api/keys/a", "GET, HEAD, PATCH"),
            ("/v1/chat/completions", "POST"),
        ):
            reply = await ask(gateway, "PUT", path)
            assert (reply.status, reply.header("allow")) == (405, allowed)


async def ask(gateway, method, path, body=b"", key=MASTER_KEY):
    headers = {"host": "x", "authorization": f"Bearer {key}", "content-type": "application/json"}
    async with gateway.caller() as caller:
        await caller.ask(method, path, headers, body)
        await caller.head()
        return await caller.rest()
