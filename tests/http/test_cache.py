"""The admin API of the answer cache."""

import json

import pytest
from tests.support.gateway import answer, node, openai_engine, running_gateway, settings
from tests.support.upstreams import respond_json

pytestmark = pytest.mark.asyncio
AT = "/admin/api/cache"


def written(upstream, **blocks):
    return settings(nodes={"box": node(upstream)}, **blocks)


def engine():
    return openai_engine(respond_json(200, answer("hi")))


async def key_of(gateway, alias, **members):
    made = await gateway.post("/admin/api/keys", {"alias": alias, **members})
    return made.json()["key"]["id"], {"authorization": f"Bearer {made.json()['secret']}"}


async def test_what_it_holds_and_spares(tmp_path):
    async with engine() as a, running_gateway(written(a, cache={"ttl": "5m"}), tmp_path) as gateway:
        for _ in range(3):
            await gateway.chat()
        found = (await gateway.get(AT)).json()
        assert {name: found[name] for name in ("enabled", "where", "entries", "hits", "misses", "kept")} == {
            "enabled": True,
            "where": "memory",
            "entries": 1,
            "hits": 2,
            "misses": 1,
            "kept": 1,
        }
        assert (found["ttl_s"], found["size"], found["shared_healthy"]) == (300.0, 64 * 1024 * 1024, None)
        assert 0 < found["bytes"] < 2_000


async def test_flushing_everything_is_audited(tmp_path):
    async with engine() as a, running_gateway(written(a, cache={}), tmp_path) as gateway:
        await gateway.chat()
        reply = await gateway.request("POST", f"{AT}/flush")
        assert (reply.status, reply.json()) == (200, {"flushed": 1, "key": None})
        assert (await gateway.chat()).header("x-fleetgate-cache") == "miss"
        line = (await gateway.get("/admin/api/audit")).json()["rows"][0]
        assert (line["who"], line["action"], line["subject"]) == ("master", "cache.flush", "everything")
        assert line["after"] == {"flushed": 1}


async def test_flushing_the_answers_to_one_key(tmp_path):
    async with engine() as a, running_gateway(written(a, cache={}), tmp_path) as gateway:
        (one, anna), (two, ben) = await key_of(gateway, "anna"), await key_of(gateway, "ben")
        for key in (anna, ben, {}):
            await gateway.chat(headers=key)
        assert (await gateway.post(f"{AT}/flush", {"key": "anna"})).json() == {"flushed": 1, "key": one}
        marks = [(await gateway.chat(headers=key)).header("x-fleetgate-cache") for key in (anna, ben, {})]
        assert marks == ["miss", "hit", "hit"]
        assert (await gateway.post(f"{AT}/flush", {"key": two})).json()["flushed"] == 1
        assert (await gateway.post(f"{AT}/flush", {"key": "nobody"})).status == 404
        assert (await gateway.post(f"{AT}/flush", {"keys": "anna"})).status == 400


async def test_a_shared_cache_knows_no_keys(tmp_path):
    async with engine() as a, running_gateway(written(a, cache={"share": True}), tmp_path) as gateway:
        await key_of(gateway, "anna")
        reply = await gateway.post(f"{AT}/flush", {"key": "anna"})
        assert (reply.status, reply.error["code"]) == (400, "shared_cache")


async def test_without_a_cache(tmp_path):
    async with engine() as a, running_gateway(written(a), tmp_path) as gateway:
        assert (await gateway.get(AT)).json()["enabled"] is False
        reply = await gateway.post(f"{AT}/flush", {})
        assert (reply.status, reply.error["code"]) == (409, "no_cache")


async def test_who_may(tmp_path):
    async with engine() as a, running_gateway(written(a, cache={}), tmp_path) as gateway:
        for kind, look, flush in (("caller", 403, 403), ("viewer", 200, 403), ("admin", 200, 200)):
            _, key = await key_of(gateway, kind, kind=kind)
            assert (await gateway.request("GET", AT, headers=key)).status == look
            body = json.dumps({}).encode()
            assert (await gateway.request("POST", f"{AT}/flush", body, key)).status == flush
