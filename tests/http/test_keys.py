"""Keys as callers and administrators meet them: over HTTP, on a whole gateway."""

import json

import pytest
from tests.support.gateway import (
    MASTER_KEY,
    answer,
    chain,
    node,
    openai_engine,
    provider,
    running_gateway,
    said,
    settings,
)
from tests.support.upstreams import respond_json, stream_sse

from fleetgate.store.failures import StoreError, Trouble

pytestmark = pytest.mark.asyncio

KEYS = "/admin/api/keys"


async def ask(gateway, method, path, form=None, key=MASTER_KEY):
    body = json.dumps(form).encode() if form is not None else b""
    headers = {"host": "x", "authorization": f"Bearer {key}", "content-type": "application/json"}
    async with gateway.caller() as caller:
        await caller.ask(method, path, headers, body)
        await caller.head()
        return await caller.rest()


async def made(gateway, **form):
    reply = await ask(gateway, "POST", KEYS, form)
    assert reply.status == 201, reply.body
    assert reply.header("cache-control") == "no-store"
    return reply.json()["secret"]


async def chat(gateway, model, key, **members):
    return await ask(
        gateway, "POST", "/v1/chat/completions", {"model": model, "messages": [], **members}, key
    )


def engine(**options):
    return openai_engine(respond_json(200, answer("hi")), **options)


async def test_a_key_asks_and_is_recorded_with_its_user_and_whom_it_asks_for(tmp_path):
    async with engine() as one, running_gateway(settings(nodes={"box": node(one)}), tmp_path) as gateway:
        await ask(gateway, "POST", "/admin/api/teams", {"name": "family"})
        await ask(gateway, "POST", "/admin/api/users", {"name": "anna", "team": "family"})
        key = await made(gateway, alias="laptop", user="anna")
        for user in ("child", 7, None, "x" * 500):
            assert (await chat(gateway, "m", key, user=user)).status == 200
        shown = (await ask(gateway, "GET", f"{KEYS}/laptop")).json()["key"]
        entry = await gateway.entry(4)
        assert (entry.principal, entry.user, entry.team) == (shown["id"], "anna", "family")
        assert [one.end_user for one in gateway.entries] == ["child", None, None, "x" * 200]
        await gateway.store.flush()
        rows = gateway.store.exchanges(10)
        assert {(row["person"], row["team"]) for row in rows} == {("anna", "family")}
        assert "child" in {row["end_user"] for row in rows}
        assert {one.user for one in gateway.store.entries(10)} == {"anna"}
        assert json.loads(one.requests[0].body)["user"] == "child"  # it still reaches the engine


async def test_a_key_sees_and_uses_only_what_it_may(tmp_path):
    async with engine(models=("a", "b")) as one, engine(models=("a",)) as two:
        house = settings(nodes={"box": node(one), "desk": node(two)})
        async with running_gateway(house, tmp_path) as gateway:
            key = await made(gateway, alias="k", names=["desk/*"])
            listed = (await ask(gateway, "GET", "/v1/models", key=key)).json()["data"]
            assert [entry["id"] for entry in listed] == ["a"]
            assert (await ask(gateway, "GET", "/v1/models/box/a", key=key)).status == 403
            assert (await ask(gateway, "GET", "/v1/models/desk/a", key=key)).status == 200
            for _ in range(4):
                assert (await chat(gateway, "a", key)).status == 200
            assert (len(one.requests), len(two.requests)) == (0, 4)
            for name in ("b", "box/a", "box/openai/a"):
                reply = await chat(gateway, name, key)
                assert (reply.status, reply.error["code"]) == (403, "model_not_allowed")
            reply = await chat(gateway, "desk/b", key)
            assert (reply.status, "box" in reply.body.decode()) == (404, False)
            assert one.requests == []

            plan = await ask(gateway, "GET", "/admin/api/explain?model=a&key=k")
            rows = {row["deployment"]: row["reason"] for row in plan.json()["steps"][0]["candidates"]}
            assert rows == {"box/openai/a": "not_allowed", "desk/openai/a": "ok"}
            assert (await ask(gateway, "GET", "/admin/api/explain?model=b&key=k")).status == 403
            assert (await ask(gateway, "GET", "/admin/api/explain?model=b&key=x")).status == 404


async def test_a_fallback_that_the_key_may_not_use_is_not_tried(tmp_path):
    async with (
        openai_engine(respond_json(503, {"error": {"message": "down"}}), models=("a",)) as one,
        engine(models=("b",)) as two,
    ):
        house = settings(
            nodes={"box": node(one), "desk": node(two)}, roles={"chat": chain("box/a", "desk/b")}
        )
        async with running_gateway(house, tmp_path) as gateway:
            key = await made(gateway, names=["chat", "!desk/*"])
            reply = await chat(gateway, "chat", key)
            assert reply.status == 502
            assert "desk" not in reply.body.decode()
            assert two.requests == []
            assert (await chat(gateway, "chat", MASTER_KEY)).status == 200


async def test_everything_forbidden_behind_a_name_is_not_allowed(tmp_path):
    async with engine() as one:
        house = settings(nodes={"box": node(one)}, roles={"chat": chain("box/m")})
        async with running_gateway(house, tmp_path) as gateway:
            reply = await chat(gateway, "chat", await made(gateway, names=["chat", "!m"]))
            assert (reply.status, reply.error["code"]) == (403, "model_not_allowed")


async def test_a_stream_works_with_a_key_and_revoking_stops_the_next_one(tmp_path):
    house = lambda one: settings(nodes={"box": node(one)})  # noqa: E731
    stream = stream_sse(said("a", "b"))
    async with openai_engine(stream) as one, running_gateway(house(one), tmp_path) as gateway:
        key = await made(gateway, alias="k")
        assert (await chat(gateway, "m", key, stream=True)).text == "ab"
        assert (await ask(gateway, "POST", f"{KEYS}/k/revoke")).json()["key"]["state"] == "revoked"
        reply = await chat(gateway, "m", key, stream=True)
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")


async def test_every_key_that_is_not_valid_gets_the_same_answer(tmp_path):
    async with engine() as one, running_gateway(settings(nodes={"box": node(one)}), tmp_path) as gateway:
        good, gone = await made(gateway), await made(gateway, alias="gone")
        await ask(gateway, "POST", f"{KEYS}/gone/revoke")
        expired = await made(gateway, expires_in="0s")
        off = await made(gateway, enabled=False)
        replies = [
            await chat(gateway, "m", key) for key in (gone, expired, off, good[:-1] + "-", "fg_x", "nonsense")
        ]
        told = [{**reply.error, "request_id": ""} for reply in replies]
        assert {reply.status for reply in replies} == {401}
        assert all(one == told[0] for one in told)


async def test_without_the_database_a_known_key_gets_own_machines_but_no_provider(tmp_path):
    async with engine() as one, engine(models=("big",)) as two:
        house = settings(nodes={"box": node(one)}, providers={"cloud": provider(two, "big")})
        async with running_gateway(house, tmp_path) as gateway:
            key = await made(gateway)
            assert (await chat(gateway, "big", key)).status == 200
            gateway.store._reading.dispose()
            gateway.store.path.rename(tmp_path / "away.db")
            await gateway.app.people.keys.poll()
            assert (await chat(gateway, "m", key)).status == 200
            reply = await chat(gateway, "big", key)
            assert reply.status == 503
            assert "confirmed" in reply.error["message"]
            assert (await chat(gateway, "big", MASTER_KEY)).status == 200
            assert len(two.requests) == 2


async def test_in_open_mode_a_key_says_who_asks(tmp_path):
    house = lambda one: settings(gateway={"auth": "open"}, nodes={"box": node(one)})  # noqa: E731
    async with engine() as one, running_gateway(house(one), tmp_path) as gateway:
        body = {"model": "m", "messages": []}

        async def who(key):
            reply = await _ask_open(gateway, "/v1/chat/completions", body, key)
            assert reply.status == 200
            return (await gateway.entry(len(gateway.entries))).principal

        made_ = await _ask_open(gateway, KEYS, {"alias": "k"}, MASTER_KEY)
        key_id, key = made_.json()["key"]["id"], made_.json()["secret"]
        assert await who(key) == key_id
        await _ask_open(gateway, f"{KEYS}/k/revoke", {}, MASTER_KEY)
        assert await who(key) == "anonymous"
        assert await who("fg_whatever") == "anonymous"


async def _ask_open(gateway, path, form, key):
    headers = {"host": "127.0.0.1", "authorization": f"Bearer {key}", "content-type": "application/json"}
    async with gateway.caller() as caller:
        await caller.ask("POST", path, headers, json.dumps(form).encode())
        await caller.head()
        return await caller.rest()


@pytest.mark.parametrize(
    ("method", "path", "form", "status", "said_"),
    [
        ("POST", KEYS, {"aliass": "x"}, 400, "aliass"),
        ("POST", KEYS, {"alias": "a b"}, 400, "alias"),
        ("POST", KEYS, {"names": "chat"}, 400, "names"),
        ("POST", KEYS, {"names": ["!"]}, 400, "must name something"),
        ("POST", KEYS, {"expires_in": "soon"}, 400, "duration"),
        ("POST", KEYS, {"expires_in": "200000d"}, 400, "100 years"),
        ("POST", KEYS, {"kind": "master"}, 400, "kind"),
        ("POST", KEYS, {"user": "nobody"}, 400, "there is no user"),
        ("POST", KEYS, [1], 400, "object"),
        ("PATCH", f"{KEYS}/x", {}, 400, "nothing is to be changed"),
        ("PATCH", f"{KEYS}/x", {"tags": []}, 404, "there is no key"),
        ("POST", f"{KEYS}/x/rotate", {"grace": "-1s"}, 400, "grace"),
        ("POST", "/admin/api/users", {}, 400, "name"),
        ("POST", "/admin/api/users", {"name": "a/b"}, 400, "name"),
        ("POST", "/admin/api/teams", {"name": "x", "note": "y" * 501}, 400, "note"),
        ("DELETE", "/admin/api/users/x", None, 404, "there is no user"),
        ("GET", "/admin/api/audit?limit=x", None, 400, "limit"),
    ],
)
async def test_what_the_admin_api_refuses(method, path, form, status, said_, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        reply = await ask(gateway, method, path, form)
        assert (reply.status, said_ in reply.error["message"]) == (status, True), reply.body


async def test_an_administrators_day(tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        boss = await made(gateway, alias="boss", kind="admin")
        viewer = await made(gateway, alias="eye", kind="viewer")
        assert (await ask(gateway, "POST", KEYS, {}, viewer)).status == 403
        form = {"alias": "app", "tags": ["x"], "names": ["chat"], "expires_in": "30d"}
        reply = await ask(gateway, "POST", KEYS, form, boss)
        app = reply.json()["key"]["id"]
        changed = await ask(gateway, "PATCH", f"{KEYS}/app", {"expires_in": None, "names": []}, boss)
        assert (changed.json()["key"]["expires_at"], changed.json()["key"]["names"]) == (None, [])
        assert changed.json()["key"]["tags"] == ["x"]
        rotated = await ask(gateway, "POST", f"{KEYS}/app/rotate", None, boss)
        assert rotated.json()["key"]["old_secret_until"] is not None
        listed = await ask(gateway, "GET", KEYS, None, viewer)
        assert {row["alias"] for row in listed.json()["rows"]} == {"boss", "eye", "app"}
        trail = (await ask(gateway, "GET", "/admin/api/audit?limit=2", None, viewer)).json()["rows"]
        assert [row["action"] for row in trail] == ["key.rotate", "key.update"]
        assert {row["subject"] for row in trail} == {f"key {app}"}
        assert trail[0]["who"] == (await ask(gateway, "GET", f"{KEYS}/boss")).json()["key"]["id"]
        assert trail[0]["address"] == "127.0.0.1"
        assert trail[0]["request_id"] == rotated.header("x-request-id")
        below = trail[-1]["number"]
        older = await ask(gateway, "GET", f"/admin/api/audit?below={below}", None, viewer)
        assert [row["action"] for row in older.json()["rows"]] == ["key.create"] * 3


async def test_a_reload_is_in_the_trail(tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        for body in ({"wait": "5s"}, {"wait": "6s"}):
            gateway.config.write_text(settings(gateway=body))
            assert (await ask(gateway, "POST", "/admin/api/reload")).json()["applied"]
        row, *_ = (await ask(gateway, "GET", "/admin/api/audit")).json()["rows"]
        assert (row["action"], row["who"]) == ("config.reload", "master")
        assert row["before"]["fingerprint"] != row["after"]["fingerprint"]

        async def fails(_act, _patience):
            raise StoreError(Trouble.FULL, "the disk is full")

        gateway.store.change = fails
        assert (await ask(gateway, "POST", "/admin/api/reload")).json()["applied"]
        await gateway.logged("audit_failed", action="config.reload")
        del gateway.store.change


async def test_a_lost_pepper_is_reported(tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        key = await made(gateway, kind="viewer")
        assert (await ask(gateway, "GET", KEYS, None, key)).status == 200
    (tmp_path / "state" / "keys.pepper").unlink()
    async with running_gateway(settings(), tmp_path) as gateway:
        await gateway.logged("pepper_changed")
        assert (await ask(gateway, "GET", KEYS, None, key)).status == 401


async def test_no_secret_is_in_the_log(tmp_path):
    async with engine() as one, running_gateway(settings(nodes={"box": node(one)}), tmp_path) as gateway:
        key = await made(gateway)
        await chat(gateway, "m", key)
        await chat(gateway, key, key)
        await gateway.entry(2)
        await gateway.count_logged("exchange")
        assert key[-49:] not in json.dumps(gateway.log.lines)
