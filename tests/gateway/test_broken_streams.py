"""Answers that come too late, break off, or end oddly: what the caller has, and what is recorded."""

import pytest
from tests.gateway.pairs import SSE_HEAD, alone, both, good
from tests.support.gateway import (
    chain,
    content_frame,
    error,
    finish_frame,
    node,
    openai_engine,
    role_frame,
    running_gateway,
    said,
    usage_frame,
)
from tests.support.upstreams import chunk, close, drip, head, reset, send, stall, stream_sse

from fleetgate.errors import FailureClass

pytestmark = pytest.mark.asyncio
F = FailureClass


@pytest.mark.parametrize(
    "script",
    [
        [stall()],
        [send(head(200, SSE_HEAD)), stall()],
        [send(head(200, SSE_HEAD) + chunk(b": hello\n\n")), stall()],
        stream_sse([role_frame(), stall()]),
    ],
    ids=["silent", "after the head", "after a comment", "after the role"],
)
async def test_no_content_in_time(tmp_path, script):
    async with (
        openai_engine(script) as a,
        good() as b,
        running_gateway(both(a, b, first={"first_token": "50ms"}), tmp_path) as gateway,
    ):
        for streamed in (True, False):
            reply = await gateway.chat("both", stream=streamed)
            assert reply.text == "fine"
            assert reply.header("x-fleetgate-attempts") == "2"
        assert a.requests[1].json()["stream"] is True
        assert gateway.deployment("a/openai/m").breaker.fails_in_row == 2
        await a.peers[-1].closed.wait()
        assert {e.attempts[0].outcome for e in gateway.entries} == {F.FIRST_TOKEN_TIMEOUT}


async def test_no_content_in_time_and_nobody_else(tmp_path):
    async with openai_engine([stall()]) as a:
        text = alone(a, roles={"r": chain({"pool": "a/m", "first_token": "50ms"})})
        async with running_gateway(text, tmp_path) as gateway:
            reply = await gateway.chat("r", stream=True)
            assert (reply.status, reply.error["class"]) == (504, F.FIRST_TOKEN_TIMEOUT)
            assert len(a.requests) == 1


# --- after the first content ---------------------------------------------------------------------------


BROKEN = {
    "reset": [role_frame(), content_frame("Hel"), reset()],
    "end of the connection": [role_frame(), content_frame("Hel"), close()],
    "end of the body": [role_frame(), content_frame("Hel")],
    "end mark without a finish reason": [role_frame(), content_frame("Hel"), "[DONE]"],
    "error frame": [role_frame(), content_frame("Hel"), error("boom")],
}


@pytest.mark.parametrize("transport", ["lean", "general"])
@pytest.mark.parametrize("frames", BROKEN.values(), ids=BROKEN)
async def test_a_stream_that_breaks(tmp_path, frames, transport):
    async with (
        openai_engine(stream_sse(frames)) as a,
        good() as b,
        running_gateway(both(a, b, transport=transport), tmp_path) as gateway,
    ):
        reply = await gateway.chat("both", stream=True)
        assert (reply.status, reply.complete, reply.text) == (200, True, "Hel")
        assert reply.error["class"] == reply.error["code"] == F.STREAM_BROKEN
        assert reply.error["source"] == "upstream"
        assert b"[DONE]" not in reply.body
        assert b'"finish_reason": "' not in reply.body
        entry = await gateway.entry()
        assert (entry.status, entry.outcome) == (200, F.STREAM_BROKEN)
        assert [one.outcome for one in entry.attempts] == [F.STREAM_BROKEN]
        assert gateway.deployment("a/openai/m").breaker.fails_in_row == 1
        assert b.requests == []


async def test_a_stream_that_stalls(tmp_path):
    async with openai_engine(stream_sse([role_frame(), content_frame("Hel"), stall()])) as a, good() as b:
        text = both(a, b, gateway={"between_tokens": "50ms"})
        async with running_gateway(text, tmp_path) as gateway:
            reply = await gateway.chat("both", stream=True)
            assert reply.text == "Hel"
            assert reply.error["class"] == F.STREAM_BROKEN
            assert b"[DONE]" not in reply.body
            await a.peers[-1].closed.wait()
            entry = await gateway.entry()
            assert [one.outcome for one in entry.attempts] == [F.STREAM_BROKEN]
            assert gateway.deployment("a/openai/m").breaker.fails_in_row == 1


@pytest.mark.parametrize("frames", BROKEN.values(), ids=BROKEN)
async def test_a_stream_that_breaks_while_it_is_put_together_for_somebody(tmp_path, frames):
    """Nothing has gone out yet: the next candidate answers."""
    async with (
        openai_engine(stream_sse(frames)) as a,
        good() as b,
        running_gateway(both(a, b, first={"first_token": "5s"}), tmp_path) as gateway,
    ):
        reply = await gateway.chat("both")
        assert (reply.status, reply.text) == (200, "fine")
        assert reply.header("x-fleetgate-attempts") == "2"
        entry = await gateway.entry()
        assert [one.outcome for one in entry.attempts][1:] == ["ok"]
        assert gateway.deployment("a/openai/m").breaker.fails_in_row == 1


ENDED_WELL = {
    "no end mark": [*said("Hel", "lo")[:-1]],
    "no usage, no end mark": [*said("Hel", "lo", usage=False)[:-1]],
    "reset behind the finish reason": [*said("Hel", "lo")[:-1], reset()],
    "end behind the finish reason": [*said("Hel", "lo")[:-1], close()],
    "two end marks": [*said("Hel", "lo"), "[DONE]"],
    "tokens behind the end mark": [*said("Hel", "lo"), content_frame("!")],
}


@pytest.mark.parametrize("transport", ["lean", "general"])
@pytest.mark.parametrize("frames", ENDED_WELL.values(), ids=ENDED_WELL)
async def test_a_finish_reason_decides_that_an_answer_is_whole(tmp_path, frames, transport):
    async with openai_engine(stream_sse(frames)) as a:
        nodes = {"a": node(a, transport=transport)}
        text = alone(a, nodes=nodes, roles={"r": chain({"pool": "a/m", "first_token": "5s"})})
        async with running_gateway(text, tmp_path) as gateway:
            for streamed in (True, False):
                reply = await gateway.chat("r", stream=streamed)
                assert (reply.status, reply.complete, reply.text) == (200, True, "Hello")
                if streamed:
                    assert reply.body.count(b"data: [DONE]\n\n") == 1
                    assert reply.frames[-1] == b"data: [DONE]\n\n"
            await gateway.entry(2)
            assert {entry.outcome for entry in gateway.entries} == {"ok"}
            assert gateway.deployment("a/openai/m").breaker.fails_in_row == 0


async def test_a_missing_end_mark_is_noted(tmp_path):
    async with (
        openai_engine(stream_sse(said("hi")[:-1])) as a,
        running_gateway(alone(a), tmp_path) as gateway,
    ):
        await gateway.chat("a/m", stream=True)
        assert (await gateway.entry()).note == "no [DONE] after the finish reason"


async def test_usage_that_never_comes_is_unknown_and_not_zero(tmp_path):
    async with (
        openai_engine(stream_sse(said("hi", usage=False))) as a,
        running_gateway(alone(a), tmp_path) as gateway,
    ):
        assert (await gateway.chat("a/m", stream=True)).text == "hi"
        usage = (await gateway.entry()).usage
        assert (usage.input_tokens, usage.output_tokens) == (None, None)


async def test_a_stream_in_pieces_of_one_byte(tmp_path):
    frames = [
        role_frame(),
        content_frame("Hé"),
        content_frame("llo"),
        finish_frame(),
        usage_frame(),
        "[DONE]",
    ]
    script = [drip(head(200, SSE_HEAD))]

    async def capture(data):
        raw.extend(data)

    raw = bytearray()
    for step in stream_sse(frames)[1:]:
        await step(type("Peer", (), {"send": staticmethod(capture)}))
    script.append(drip(bytes(raw)))
    async with openai_engine(script) as a, running_gateway(alone(a), tmp_path) as gateway:
        reply = await gateway.chat("a/m", stream=True)
        assert (reply.text, reply.frames[-1]) == ("Héllo", b"data: [DONE]\n\n")
