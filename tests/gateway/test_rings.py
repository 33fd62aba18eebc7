"""An exchange leaves nothing behind that only the garbage collector can take away.

Rings of references between an exchange, its walk and its caller's side once made the collector run all
the time: answers stood still for tens of milliseconds, and a tenth of the machine was spent on it.
"""

import gc

import pytest
from tests.support.gateway import answer, node, openai_engine, running_gateway, said, settings
from tests.support.upstreams import respond_json, stream_sse

pytestmark = pytest.mark.asyncio

ROUNDS = 5


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_exchange_leaves_no_rings(tmp_path, stream):
    reply = stream_sse(said("a", "b")) if stream else respond_json(200, answer("a b"))
    async with (
        openai_engine(reply) as engine,
        running_gateway(settings(nodes={"box": node(engine)}), tmp_path) as gateway,
    ):
        before = gateway.tasks
        await gateway.chat("m", stream=stream)
        await gateway.until(lambda: gateway.tasks == before)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(ROUNDS):
                await gateway.chat("m", stream=stream)
            await gateway.entry(ROUNDS + 1)
            await gateway.until(lambda: gateway.tasks == before)
            gc.collect()
            left = [type(one).__qualname__ for one in gc.garbage if _ours(one)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert left == []


def _ours(one):
    return type(one).__module__.startswith("fleetgate.")
