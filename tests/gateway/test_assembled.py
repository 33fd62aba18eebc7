"""Answers that were asked for whole and are put together from a stream."""

import json

import pytest
from tests.support.gateway import (
    chain,
    content_frame,
    finish_frame,
    node,
    openai_engine,
    running_gateway,
    settings,
)
from tests.support.upstreams import stream_sse

pytestmark = pytest.mark.asyncio


def house(upstream):
    role = chain({"pool": "box/m", "first_token": "5s"})
    return settings(nodes={"box": node(upstream)}, roles={"r": role})


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
async def test_line_ends_of_any_kind_even_at_the_very_end(end, tmp_path):
    """The last frame of a stream that ends in a CR was left out, and the answer called cut short."""
    frames = [
        b"data: " + json.dumps(one).encode() + end + end for one in (content_frame("hi"), finish_frame())
    ]
    async with (
        openai_engine(stream_sse(frames)) as engine,
        running_gateway(house(engine), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r")
        assert (reply.status, reply.text) == (200, "hi")
        assert reply.json()["choices"][0]["finish_reason"] == "stop"
        assert engine.requests[0].json()["stream"] is True


async def test_a_stream_whose_pieces_fit_nowhere_is_garbage_and_no_fault_of_ours(tmp_path):
    odd = {"choices": [{"index": 0, "delta": {"tool_calls": ["x"]}}]}
    script = stream_sse([content_frame("hi"), odd, finish_frame(), "[DONE]"])
    async with openai_engine(script) as engine, running_gateway(house(engine), tmp_path) as gateway:
        reply = await gateway.chat("r")
        assert (reply.status, reply.error["class"]) == (502, "garbage")
        assert (await gateway.chat("r")).status == 502
        # Each was read to its end, and its connection is free again.
        assert len({request.connection for request in engine.requests}) == 1
