"""The answer cache in a real Redis: shared by gateways, kept over a restart, and never waited for."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.support.gateway import answer, node, openai_engine, running_gateway, said, settings
from tests.support.redis import BINARY, redis_running
from tests.support.upstreams import respond_json, stall, stream_sse

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def redis_of_all():
    if BINARY is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    with redis_running() as redis:
        yield redis


@pytest.fixture
def redis(redis_of_all):
    redis_of_all.flush()
    return redis_of_all


@asynccontextmanager
async def sharing(redis, upstream, directory, **cache):
    """A gateway whose cache keeps its answers in this Redis."""
    directory.mkdir(exist_ok=True)
    config = settings(gateway={"shared_state": redis.url}, nodes={"box": node(upstream)}, cache=cache)
    async with running_gateway(config, directory) as gateway:
        yield gateway


def marks(*replies):
    return [reply.header("x-fleetgate-cache") for reply in replies]


def kept(gateway, count=1):
    return gateway.until(lambda: gateway.app.cache.counts.kept == count)


async def test_an_answer_of_another_gateway(redis, tmp_path):
    whole = respond_json(200, answer("hi"))
    async with (
        openai_engine(whole, stream_sse(said("hi")), whole) as a,
        sharing(redis, a, tmp_path / "one") as one,
        sharing(redis, a, tmp_path / "two") as two,
    ):
        for stream in (False, True):
            first = await one.chat(stream=stream)
            await kept(one, 1 + stream)
            second = await two.chat(stream=stream)
            assert marks(first, second) == ["miss", "hit"]
            assert first.body == second.body
        assert len(a.requests) == 2
        assert await two.app.cache.flush() == 2
        assert marks(await one.chat()) == ["miss"]


async def test_a_restart_forgets_nothing(redis, tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        for mark in ("miss", "hit"):
            async with sharing(redis, a, tmp_path / "one") as gateway:
                assert marks(await gateway.chat()) == [mark]
                await kept(gateway, mark == "miss")


async def test_one_look_for_all_who_wait(redis, tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    async with openai_engine(script) as a, sharing(redis, a, tmp_path / "one") as gateway:
        asked = [asyncio.get_running_loop().create_task(gateway.chat()) for _ in range(10)]
        flights = gateway.app.cache.flights
        await gateway.until(lambda: sum(len(one.waiting) for one in flights._flying.values()) == 9)
        go.set()
        assert sorted(marks(*await asyncio.gather(*asked))) == ["joined"] * 9 + ["miss"]
        assert len(a.requests) == 1
        await kept(gateway)
        again = await asyncio.gather(*[gateway.chat() for _ in range(10)])
        assert set(marks(*again)) <= {"hit", "joined"}
        assert len(a.requests) == 1


async def test_answers_to_one_key(redis, tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        sharing(redis, a, tmp_path / "x") as gateway,
    ):
        made = (await gateway.post("/admin/api/keys", {"alias": "anna"})).json()
        key = {"authorization": f"Bearer {made['secret']}"}
        await gateway.chat()
        await gateway.chat(headers=key)
        await kept(gateway, 2)
        flushed = await gateway.post("/admin/api/cache/flush", {"key": "anna"})
        assert flushed.json() == {"flushed": 1, "key": made["key"]["id"]}
        assert marks(await gateway.chat(headers=key), await gateway.chat()) == ["miss", "hit"]


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_redis_that_is_gone_is_a_miss(tmp_path, how):
    if BINARY is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    with redis_running() as redis:
        async with (
            openai_engine(respond_json(200, answer("hi"))) as a,
            sharing(redis, a, tmp_path / "x") as gateway,
        ):
            await gateway.chat()
            await kept(gateway)
            if how == "killed":
                redis.kill()
            else:
                redis.freeze()
            try:
                replies = [await gateway.chat() for _ in range(8)]
                assert {(one.status, *marks(one)) for one in replies} == {(200, "miss")}
                flush = await gateway.post("/admin/api/cache/flush", {})
                assert (flush.status, flush.error["code"]) == (503, "shared_state_down")
                figures = (await gateway.get("/admin/api/cache")).json()
                assert (figures["where"], figures["shared_healthy"]) == ("shared", False)
                assert figures["failed"] > 0
            finally:
                if how == "frozen":
                    redis.thaw()
