"""Health routes answer from state: what is degraded is told, and nothing is asked of an engine."""

import pytest
from tests.support.gateway import answer, node, openai_engine, running_gateway, settings
from tests.support.upstreams import refusing_port, respond_json


async def told(gateway, path):
    reply = await gateway.get(path)
    return reply.status, reply.json()


@pytest.mark.asyncio
async def test_a_silent_engine_degrades_and_leaves_the_gateway_ready(tmp_path):
    with refusing_port() as port:
        async with (
            openai_engine(respond_json(200, answer("hi"))) as well,
            running_gateway(settings(nodes={"a": node(well), "b": node(port)}), tmp_path) as gateway,
        ):
            status, health = await told(gateway, "/health")
            assert (status, health["status"]) == (200, "degraded")
            assert health["degraded"] == ["engines"]
            assert health["engines"] == {"known": 2, "alive": 1}
            assert await told(gateway, "/readyz") == (200, {"status": "ready"})
            status, verbose = await told(gateway, "/readyz?verbose")
            assert (status, verbose["degraded"]) == (200, ["engines"])


@pytest.mark.asyncio
async def test_a_gateway_without_trouble_says_ok_and_asks_no_engine(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as well,
        running_gateway(settings(nodes={"a": node(well)}), tmp_path) as gateway,
    ):
        status, health = await told(gateway, "/health")
        assert (status, health["status"], health["degraded"]) == (200, "ok", [])
        assert not well.requests
