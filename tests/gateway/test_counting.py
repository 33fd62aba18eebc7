"""`/v1/messages/count_tokens`: counted by whoever would answer and can, else estimated and said so."""

import pytest
from tests.support.gateway import PROVIDER_KEY, chain, node, openai_engine, provider, running_gateway
from tests.support.gateway import settings as house
from tests.support.upstreams import respond, respond_json, stall

pytestmark = pytest.mark.asyncio

ASKED = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def claude(engine):
    return {"claude": provider(engine, kind="anthropic")}


async def test_the_provider_counts(tmp_path):
    engine = openai_engine(respond_json(200, {"input_tokens": 4711}))
    async with engine, running_gateway(house(providers=claude(engine)), tmp_path) as gateway:
        body = {**ASKED, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}
        reply = await gateway.post("/v1/messages/count_tokens", body, {"anthropic-beta": "counting"})
        assert (reply.status, reply.json()) == (200, {"input_tokens": 4711})
        assert reply.header("x-fleetgate-estimated") is None
        request = engine.requests[0]
        assert (request.path, request.json()) == ("/v1/messages/count_tokens", body)
        assert request.header("x-api-key") == PROVIDER_KEY
        assert request.header("anthropic-beta") == "counting"


@pytest.mark.parametrize(
    "script",
    [
        respond_json(404, {"error": {"message": "no such path"}}),
        respond_json(200, {"tokens": 1}),
        respond_json(200, {"input_tokens": True}),
        respond(200, b"[", "application/json"),
        respond(200, b'{"input_tokens":' + b" " * 5_000 + b"1}", "application/json"),
    ],
)
async def test_who_cannot_count_leaves_it_to_the_estimate(tmp_path, script):
    engine = openai_engine(script)
    async with engine, running_gateway(house(providers=claude(engine)), tmp_path) as gateway:
        reply = await gateway.post("/v1/messages/count_tokens", ASKED)
        assert reply.status == 200
        assert 0 < reply.json()["input_tokens"] < 100
        assert reply.header("x-fleetgate-estimated") == "true"
        assert len(engine.requests) == 1


async def test_nobody_waits_long_for_a_counter(tmp_path, monkeypatch):
    monkeypatch.setattr("fleetgate.gateway.counting.PATIENCE", 0.05)
    engine = openai_engine([stall()])
    async with engine, running_gateway(house(providers=claude(engine)), tmp_path) as gateway:
        reply = await gateway.post("/v1/messages/count_tokens", ASKED)
        assert reply.header("x-fleetgate-estimated") == "true"


async def test_engines_that_are_not_known_to_count_are_not_asked(tmp_path):
    engine = openai_engine(respond_json(200, {"input_tokens": 1}))
    async with engine:
        blocks = {"nodes": {"box": node(engine, dialects=["anthropic"])}, "roles": {"r": chain("box/m")}}
        async with running_gateway(house(**blocks), tmp_path) as gateway:
            reply = await gateway.post("/v1/messages/count_tokens", {**ASKED, "model": "r"})
            assert reply.header("x-fleetgate-estimated") == "true"
            assert engine.requests == []
