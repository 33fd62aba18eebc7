"""Ollama gives a load up when its caller leaves. The request that loads a cold model is not taken back."""

import asyncio

import pytest
from tests.support.gateway import answer, chain, node, running_gateway, settings
from tests.support.upstreams import ScriptedUpstream, respond_json, send, stall

pytestmark = pytest.mark.asyncio


class Ollama(ScriptedUpstream):
    """Ollama as far as probes see it; `resident` is what `/api/ps` lists."""

    resident = ()

    def _choose(self, request):
        if request.method == "POST":
            return super()._choose(request)
        rows = {"/api/tags": ("m:latest",), "/api/ps": self.resident}.get(request.path)
        if rows is None:
            return respond_json(200, {"version": "0.14.0"}, [("Connection", "close")])
        models = [{"name": name, "model": name} for name in rows]
        return respond_json(200, {"models": models}, [("Connection", "close")])

    def note(self, request):
        if request.method == "POST":
            super().note(request)


def sent(upstream):
    """The connection of the first request that was no probe."""
    return upstream.peers[upstream.requests[0].connection]


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_load_outlives_its_first_token_limit(tmp_path, streamed):
    loaded = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    slow = [stall(loaded), send(head), stall()]
    async with Ollama(slow) as cold, Ollama(respond_json(200, answer("quick"))) as quick:
        quick.resident = ("m:latest",)
        house = settings(
            nodes={"cold": node(cold, kind="ollama"), "quick": node(quick, kind="ollama")},
            roles={"r": chain({"pool": "cold/m", "first_token": "100ms"}, "quick/m")},
        )
        async with running_gateway(house, tmp_path) as gateway:
            tasks = gateway.tasks
            await gateway.until(lambda: gateway.deployment("cold/ollama/m").resident is False)
            reply = await gateway.chat("r", stream=False) if not streamed else None
            if streamed:
                async with gateway.asking("cold/m") as caller:
                    await cold.wait_for_requests(1)
                    caller.writer.close()
                    await gateway.entry()
            else:
                assert reply.text == "quick"
            assert not sent(cold).closed.is_set(), "the engine still loads"
            loaded.set()
            await sent(cold).closed.wait()
            await gateway.until(lambda: gateway.tasks == tasks)
            assert gateway.deployment("cold/ollama/m").breaker.fails_in_row == 0


async def test_a_resident_model_stops_with_its_caller(tmp_path):
    async with Ollama([stall()]) as warm:
        warm.resident = ("m:latest",)
        house = settings(nodes={"warm": node(warm, kind="ollama")})
        async with running_gateway(house, tmp_path) as gateway:
            await gateway.until(lambda: gateway.deployment("warm/ollama/m").resident is True)
            async with gateway.asking("warm/m") as caller:
                await warm.wait_for_requests(1)
                caller.writer.close()
                await sent(warm).closed.wait()
