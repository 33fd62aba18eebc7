"""Who asks, beside keys: end users in trusted headers, Tailscale's word, and sources that guess keys."""

import json
from contextlib import asynccontextmanager

import pytest
from tests.http.test_door import BEARER, HOST, JSON, KEY, OPEN, ROWS, call, refusal
from tests.keys.house import ADA, MASTER_KEY, house
from tests.support.gateway import answer, node, openai_engine, running_gateway, settings
from tests.support.live import Clock, Told
from tests.support.tailscale import tailscaled
from tests.support.upstreams import respond_json

from fleetgate.config.schema import Gateway
from fleetgate.domain import KeyKind
from fleetgate.errors import Refused
from fleetgate.http.door import LONGEST_END_USER, Door
from fleetgate.http.table import Access
from fleetgate.http.throttle import SHUT_FOR, TRIES, Throttle
from fleetgate.keys.owner import ANYBODY, MASTER, Keys
from fleetgate.keys.ring import Unfamiliar
from fleetgate.keys.tailscale import Tailscale

CALLER, VIEWER, ADMIN = ROWS[Access.CALLER], ROWS[Access.VIEWER], ROWS[Access.ADMIN]
LOGIN = "ada@example.com"
FAR = "100.64.0.7"
NAMED = ("tailscale-user-login", LOGIN)

# --- end users ----------------------------------------------------------------------------------------

TRUSTED = {"trust_user_headers": ["X-User", "x-mail"]}


def end_user(*headers, **gateway):
    door = Door(Gateway.model_validate({**TRUSTED, **gateway}), Keys(KEY))
    return door.admit(call([HOST, BEARER, *headers]), CALLER).end_user


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("x-user", "ada")], "ada"),
        ([("x-mail", "a@x"), ("x-user", "ada")], "ada"),
        ([("x-mail", "a@x")], "a@x"),
        ([("x-user", ""), ("x-mail", "a@x")], "a@x"),
        ([("x-user", " \t "), ("x-mail", "a@x")], "a@x"),
        ([("x-user", "ada"), ("x-user", "eve"), ("x-mail", "a@x")], "a@x"),
        ([("x-user", "ada"), ("x-user", "ada")], None),
        ([("x-other", "eve")], None),
        ([], None),
        ([("x-user", "a\x00d\x1ba\x7f")], "ada"),
        ([("x-user", "a" * 500)], "a" * LONGEST_END_USER),
        ([("x-user", "J\xc3\xb6rg")], "Jörg"),
        ([("x-user", "J\xf6rg")], "Jörg"),
        ([("x-user", "a\xe2\x80\xaedb")], "adb"),
    ],
    ids=range(14),
)
def test_an_end_user_is_named_by_the_first_trusted_header_that_is_there_once(headers, found):
    assert end_user(*headers) == found


def test_no_header_is_trusted_unless_it_is_written():
    assert end_user(("x-user", "eve"), trust_user_headers=[]) is None


def test_an_end_user_changes_nothing_else_of_who_asks():
    door = Door(Gateway.model_validate(TRUSTED), Keys(KEY))
    found = door.admit(call([BEARER, ("x-user", "ada")]), CALLER)
    assert (found.id, found.kind) == (MASTER.id, MASTER.kind)
    assert door.admit(call([BEARER, ("x-user", "ada")]), ADMIN) is MASTER
    assert refusal(door.admit, call([("x-user", "ada")]), CALLER) == (401, "invalid_api_key")


def test_in_open_mode_everybody_who_may_connect_may_name_one():
    door = Door(Gateway.model_validate({**TRUSTED, **OPEN}), Keys(KEY))
    found = door.admit(call([HOST, ("x-user", "ada")]), CALLER)
    assert (found.id, found.end_user) == (ANYBODY.id, "ada")
    far = call([HOST, ("x-user", "ada")], client="203.0.113.9")
    assert refusal(door.admit_address, far) == (403, "address_not_allowed")


# --- guessing -----------------------------------------------------------------------------------------


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def door(clock):
    return Door(Gateway(), Keys(KEY), Throttle(clock, Told()))


def wrong(number, **where):
    return call([("x-api-key", f"wrong-{number}")], **where)


def guess(door, row=CALLER, times=TRIES, **where):
    return [refusal(door.admit, wrong(number, **where), row)[0] for number in range(times)]


@pytest.mark.parametrize("row", [CALLER, VIEWER, ADMIN], ids=lambda row: row.access.value)
def test_whoever_tries_many_keys_is_told_to_wait(row, door, clock):
    assert guess(door, row) == [401] * (TRIES - 1) + [429]
    with pytest.raises(Refused) as caught:
        door.admit(wrong(0), row)
    assert (caught.value.code, caught.value.retry_after) == ("too_many_wrong_keys", SHUT_FOR)
    assert not caught.value.terminal
    clock.pass_(SHUT_FOR)
    assert refusal(door.admit, wrong(0), row)[0] == 401


def test_while_a_source_is_shut_not_even_the_right_master_key_counts_from_there(door, clock):
    guess(door)
    for row in (CALLER, VIEWER, ADMIN):
        assert refusal(door.admit, call([BEARER]), row) == (429, "too_many_wrong_keys")
        assert door.admit(call([BEARER], client="203.0.113.9"), row) is MASTER
    assert door.admit(call([BEARER]), ROWS[Access.ANYONE]) is ANYBODY
    clock.pass_(SHUT_FOR)
    assert door.admit(call([BEARER]), ADMIN) is MASTER


def test_who_sends_no_key_guesses_none(door):
    for _ in range(3 * TRIES):
        assert refusal(door.admit, call(), CALLER)[0] == 401
        assert refusal(door.admit, wrong(0), CALLER)[0] == 401
    assert door.admit(call([BEARER]), ADMIN) is MASTER


def test_in_open_mode_any_key_may_be_sent_where_none_is_needed(clock):
    door = Door(Gateway.model_validate(OPEN), Keys(KEY), Throttle(clock, Told()))
    for number in range(3 * TRIES):
        assert door.admit(call([HOST, ("x-api-key", f"any-{number}")]), CALLER) is ANYBODY
    assert door.admit(call([HOST, BEARER]), ADMIN) is MASTER


@pytest.mark.asyncio
async def test_issued_keys_go_on_asking_from_a_source_that_is_shut(tmp_path, clock):
    async with house(tmp_path) as here:
        door = Door(Gateway(), here.keys, Throttle(clock, Told()))
        _, key = await here.make()
        _, admin = await here.make(KeyKind.ADMIN)
        guess(door)
        for issued in (key, admin):
            assert door.admit(call([("x-api-key", issued)]), CALLER).id in issued
            assert refusal(door.admit, call([("x-api-key", issued)]), ADMIN)[0] == 429
        beside = Door(Gateway(), here.beside().keys, Throttle(clock, Told()))
        guess(beside)  # there the key must be read first
        with pytest.raises(Unfamiliar) as caught:
            beside.admit(call([("x-api-key", key)]), CALLER)
        found = await beside.admit_unfamiliar(call([("x-api-key", key)]), CALLER, caught.value)
        assert found.id in key


# --- Tailscale ----------------------------------------------------------------------------------------


@asynccontextmanager
async def neighbours(directory, **gateway):
    """A door that believes both the header and the daemon."""
    async with house(directory) as here, tailscaled() as daemon:
        daemon.machines[FAR] = {"login": LOGIN}
        await here.people.create_user(ADA, LOGIN, None, "")
        tailscale = Tailscale(here.keys, here.people, lambda: here.clock.now, patience=5.0)
        block = {"headers": True, "whois": daemon.path}
        written = Gateway.model_validate({"tailscale": block, "hosts": ["box.tail1234.ts.net"], **gateway})
        yield Door(written, here.keys, Throttle(lambda: here.clock.now, Told()), tailscale), here, daemon


async def admit(door, one, row=CALLER):
    try:
        return door.admit(one, row)
    except Unfamiliar as unfamiliar:
        return await door.admit_unfamiliar(one, row, unfamiliar)


async def refused(door, one, row=CALLER):
    with pytest.raises(Refused) as caught:
        await admit(door, one, row)
    return caught.value.status, caught.value.code


@pytest.mark.asyncio
async def test_a_neighbour_asks_without_a_key(tmp_path):
    async with neighbours(tmp_path, trust_user_headers=["x-user"]) as (door, _, daemon):
        here = await admit(door, call([HOST, NAMED, ("x-user", "child")]))
        far = await admit(door, call([HOST], client=FAR))
        for found in (here, far):
            assert (found.id, found.user, found.kind) == (f"tailscale:{LOGIN}", LOGIN, KeyKind.CALLER)
        assert (here.end_user, far.end_user) == ("child", None)
        assert await refused(door, call([HOST], client="100.64.0.8")) == (401, "invalid_api_key")
        assert await refused(door, call([HOST, NAMED], client="192.168.0.7")) == (401, "invalid_api_key")
        assert len(daemon.asked) == 2


@pytest.mark.asyncio
async def test_a_neighbour_is_no_administrator(tmp_path):
    async with neighbours(tmp_path) as (door, _, daemon):
        for row in (VIEWER, ADMIN):
            assert await refused(door, call([HOST, NAMED]), row) == (401, "invalid_api_key")
            assert await refused(door, call([HOST], client=FAR), row) == (401, "invalid_api_key")
        assert daemon.asked == []


@pytest.mark.asyncio
async def test_a_key_decides_alone(tmp_path):
    async with neighbours(tmp_path) as (door, here, daemon):
        key_id, key = await here.make()
        assert (await admit(door, call([HOST, NAMED, ("x-api-key", key)]))).id == key_id
        assert await admit(door, call([HOST, NAMED, ("x-api-key", MASTER_KEY)])) is MASTER
        for bad in ("wrong", "", key[:-1] + "-"):
            for client in ("127.0.0.1", FAR):
                one = call([HOST, NAMED, ("x-api-key", bad)], client=client)
                assert await refused(door, one) == (401, "invalid_api_key")
        one = call([HOST, NAMED, ("authorization", "Bearer ")])
        assert await refused(door, one) == (401, "invalid_api_key")
        assert daemon.asked == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([("host", "evil.example")], "host_not_allowed"),
        ([HOST, ("origin", "https://evil.example")], "foreign_origin"),
        ([HOST, ("sec-fetch-site", "cross-site")], "foreign_origin"),
        ([HOST, ("content-type", "text/plain")], "json_only"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_web_pages_cannot_ask_in_a_neighbours_name(headers, code, tmp_path):
    async with neighbours(tmp_path) as (door, _, _daemon):
        for client, more in (("127.0.0.1", [NAMED]), (FAR, [])):
            one = call([*headers, *more], client=client, method="POST")
            assert (await refused(door, one))[1] == code
        served = call([("host", "box.tail1234.ts.net"), JSON, NAMED], method="POST")
        assert (await admit(door, served)).user == LOGIN


@pytest.mark.asyncio
async def test_in_open_mode_a_neighbour_has_a_name_and_everybody_else_none(tmp_path):
    async with neighbours(tmp_path, **OPEN, allow_from=["100.64.0.0/10"]) as (door, here, daemon):
        assert (await admit(door, call([HOST, NAMED]))).user == LOGIN
        assert (await admit(door, call([HOST], client=FAR))).user == LOGIN
        assert await admit(door, call([HOST], client="100.64.0.8")) is ANYBODY
        assert await admit(door, call([HOST, NAMED, ("x-api-key", "any")])) is ANYBODY
        daemon.raw = b"nonsense"
        here.clock.move(60)
        assert await admit(door, call([HOST], client=FAR)) is ANYBODY


@pytest.mark.asyncio
async def test_a_daemon_that_does_not_answer_is_told(tmp_path):
    async with neighbours(tmp_path) as (door, here, daemon):
        daemon.raw = b"nonsense"
        assert await refused(door, call([HOST], client=FAR)) == (503, "identity_unavailable")
        _, key = await here.make()
        one = call([HOST, ("x-api-key", key)], client=FAR)
        assert (await admit(door, one)).kind is KeyKind.CALLER


# --- on a whole gateway -------------------------------------------------------------------------------


async def ask(gateway, path, form, headers, method="POST"):
    async with gateway.caller() as caller:
        given = {"host": "127.0.0.1", "content-type": "application/json", **headers}
        await caller.ask(method, path, given, json.dumps(form).encode() if form is not None else b"")
        await caller.head()
        return await caller.rest()


@pytest.mark.asyncio
async def test_what_is_recorded_of_who_asks(tmp_path):
    admin = {"authorization": f"Bearer {MASTER_KEY}"}
    async with openai_engine(respond_json(200, answer("hi"))) as one:
        written = settings(
            nodes={"box": node(one)},
            gateway={"trust_user_headers": "x-user", "tailscale": {"headers": True, "create": True}},
        )
        async with running_gateway(written, tmp_path) as gateway:
            await ask(gateway, "/admin/api/teams", {"name": "family"}, admin)
            await ask(gateway, "/admin/api/users", {"name": "eve", "team": "family"}, admin)
            made = await ask(gateway, "/admin/api/keys", {"user": "eve", "tags": ["home", "tv"]}, admin)
            key = {"authorization": f"Bearer {made.json()['secret']}"}
            chat = {"model": "m", "messages": [], "user": "of the body"}
            for headers in (key, {**key, "x-user": "of the header"}, dict([NAMED]), {}):
                reply = await ask(gateway, "/v1/chat/completions", chat, headers)
            assert reply.status == 401
            first, second, third = [await gateway.entry(number) for number in (1, 2, 3)]
            assert (first.end_user, second.end_user) == ("of the body", "of the header")
            assert (first.user, first.team, first.tags) == ("eve", "family", ("home", "tv"))
            assert (third.principal, third.user, third.end_user) == (
                f"tailscale:{LOGIN}",
                LOGIN,
                "of the body",
            )
            users = (await ask(gateway, "/admin/api/users", None, admin, "GET")).json()["rows"]
            assert {row["name"] for row in users} == {"eve", LOGIN}
            await ask(gateway, "/admin/api/teams", {"name": "work"}, admin)
            changed = await ask(gateway, "/admin/api/users/eve", {"team": "work"}, admin, "PATCH")
            assert changed.json()["user"]["team"] == "work"
            await ask(gateway, "/v1/chat/completions", chat, key)
            assert (await gateway.entry(4)).team == "work"


@pytest.mark.asyncio
async def test_guessing_is_told_in_the_log_and_survives_a_reload(tmp_path):
    house_of = lambda one: settings(nodes={"box": node(one)})  # noqa: E731
    async with openai_engine() as one, running_gateway(house_of(one), tmp_path) as gateway:
        for number in range(TRIES):
            reply = await ask(gateway, "/v1/models", None, {"x-api-key": f"wrong-{number}"}, "GET")
        assert (reply.status, reply.error["code"]) == (429, "too_many_wrong_keys")
        assert 290 <= int(reply.header("retry-after")) <= 300
        line = await gateway.logged("source_shut")
        assert (line["address"], line["level"]) == ("127.0.0.1", "warning")
        assert "wrong-" not in json.dumps(gateway.log.lines)
        gateway.app._configure(gateway.app.settings, None)
        admin = {"authorization": f"Bearer {MASTER_KEY}"}
        assert (await ask(gateway, "/admin/api/status", None, admin, "GET")).status == 429
