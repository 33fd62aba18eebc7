"""An engine that goes on computing for a caller who left: its seat stays taken until it says it is idle."""

import pytest
from tests.support.gateway import content_frame, node, role_frame, running_gateway, said, settings
from tests.support.upstreams import ScriptedUpstream, respond_json, stall, stream_sse

pytestmark = pytest.mark.asyncio


class OneSeat(ScriptedUpstream):
    """llama.cpp's server as far as probes see it; `busy` is what `/slots` says of its only seat."""

    busy = False

    def _choose(self, request):
        if request.method == "POST":
            return super()._choose(request)
        answers = {
            "/health": {"status": "ok"},
            "/v1/models": {"data": [{"id": "m"}]},
            "/props": {"total_slots": 1, "build_info": "b1"},
            "/slots": [{"id": 0, "n_ctx": 512, "is_processing": self.busy}],
        }
        known = answers.get(request.path)
        if known is None:
            return respond_json(501, {"error": {"code": 501, "message": "not supported"}})
        return respond_json(200, known, [("Connection", "close")])

    def note(self, request):
        if request.method == "POST":
            super().note(request)


async def test_the_seat_of_a_caller_who_left_is_given_on_when_the_engine_is_idle(tmp_path):
    endless = stream_sse([role_frame(), content_frame("Hel"), stall()])
    async with OneSeat(endless, stream_sse(said("next"))) as a:
        a.busy = True
        house = settings(nodes={"a": node(a, kind="llamacpp")}, health={"every": "50ms"})
        async with running_gateway(house, tmp_path) as gateway:
            engine = gateway.engine("a/llamacpp")
            async with gateway.asking("a/m") as caller:
                await caller.head()
                await caller.until(b"Hel")
                await gateway.until(lambda: engine.slots_busy == 1)
            await gateway.entry()
            assert (engine.in_flight, len(engine.orphans)) == (1, 1)
            async with gateway.asking("a/m") as waiting:
                await gateway.until(lambda: gateway.app.fleet.seats.waiting == 1)
                assert len(a.requests) == 1
                a.busy = False
                await waiting.head()
                await waiting.until(b"next")
            await gateway.until(lambda: engine.in_flight == 0)
            assert engine.orphans == []
