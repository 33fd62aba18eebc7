"""Callers that leave, and callers that do not read: what is left of them afterwards is nothing."""

import asyncio
import json

import pytest
from tests.gateway.pairs import SSE_HEAD, alone
from tests.support.gateway import (
    answer,
    chain,
    content_frame,
    node,
    openai_engine,
    role_frame,
    running_gateway,
    said,
)
from tests.support.upstreams import chunk, head, respond_json, send, stall, stream_sse

from fleetgate.errors import FailureClass

pytestmark = pytest.mark.asyncio
F = FailureClass


def data(value):
    """A frame as `stream_sse` sends it."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


LEAVING = ["close", "reset", "half_close"]


async def leave(caller, how):
    if how == "half_close":
        caller.half_close()
    elif how == "reset":
        caller.reset()
    else:
        caller.writer.close()


async def gone(gateway, a, tasks):
    """Afterwards: logged as 499, the engine's socket closed, the seat free, no task left over."""
    entry = await gateway.entry()
    assert (entry.status, entry.outcome) == (499, F.CALLER_GONE)
    await a.peers[-1].closed.wait()
    await gateway.until(lambda: gateway.deployment("a/openai/m").in_flight == 0)
    await gateway.until(lambda: gateway.tasks == tasks)
    deployment = gateway.deployment("a/openai/m")
    assert deployment.breaker.fails_in_row == 0
    assert gateway.engine("a/openai").in_flight == 0
    return entry


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_caller_that_leaves_during_prefill(tmp_path, how, streamed):
    async with openai_engine([stall()]) as a, running_gateway(alone(a), tmp_path) as gateway:
        tasks = gateway.tasks
        async with gateway.asking("a/m", stream=streamed) as caller:
            await a.wait_for_requests(1)
            await leave(caller, how)
            entry = await gone(gateway, a, tasks)
            assert [one.outcome for one in entry.attempts] == ["cancelled"]


@pytest.mark.parametrize("how", LEAVING)
async def test_a_caller_that_leaves_in_the_middle_of_a_stream(tmp_path, how):
    script = stream_sse([role_frame(), content_frame("Hel"), stall()])
    async with openai_engine(script) as a, running_gateway(alone(a), tmp_path) as gateway:
        tasks = gateway.tasks
        async with gateway.asking("a/m") as caller:
            await caller.head()
            await caller.until(b"Hel")
            await leave(caller, how)
            await gone(gateway, a, tasks)


async def test_a_caller_that_leaves_while_its_answer_is_put_together(tmp_path):
    script = stream_sse([role_frame(), content_frame("Hel"), stall()])
    roles = {"r": chain({"pool": "a/m", "first_token": "10s"})}
    async with openai_engine(script) as a, running_gateway(alone(a, roles=roles), tmp_path) as gateway:
        tasks = gateway.tasks
        async with gateway.asking("r", stream=False) as caller:
            await a.wait_for_requests(1)
            await leave(caller, "close")
            await gone(gateway, a, tasks)


async def test_a_caller_that_leaves_while_it_waits_for_a_seat(tmp_path):
    async with (
        openai_engine([stall()]) as a,
        running_gateway(alone(a, nodes={"a": node(a, slots=1)}), tmp_path) as gateway,
        gateway.asking("a/m") as first,
    ):
        await a.wait_for_requests(1)
        async with gateway.asking("a/m") as second:
            await gateway.until(lambda: gateway.app.fleet.seats.waiting == 1)
            await leave(second, "close")
            entry = await gateway.entry()
            assert (entry.outcome, entry.attempts) == (F.CALLER_GONE, ())
            assert gateway.app.fleet.seats.waiting == 0
        await leave(first, "close")
        await gateway.entry(2)


async def test_many_callers_that_leave_cost_nothing(tmp_path):
    async with openai_engine([stall()]) as a, running_gateway(alone(a), tmp_path) as gateway:
        tasks = gateway.tasks

        async def come_and_go(number):
            async with gateway.asking("a/m", stream=number % 2 == 0) as caller:
                await a.wait_for_requests(20)
                await leave(caller, LEAVING[number % 3])
                await gateway.entry(20)

        await asyncio.gather(*(come_and_go(number) for number in range(20)))
        await gateway.until(lambda: gateway.tasks == tasks)
        await asyncio.gather(*(peer.closed.wait() for peer in a.peers))
        assert {entry.outcome for entry in gateway.entries} == {F.CALLER_GONE}


async def test_a_caller_that_leaves_inside_its_body(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("never"))) as a,
        running_gateway(alone(a), tmp_path) as gateway,
    ):
        async with gateway.caller() as caller:
            headers = gateway.headers({"content-length": "1000"})
            await caller.ask("GET", "/x", headers)  # the head of a POST, written by hand below
        async with gateway.caller() as caller:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            await caller.send(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + b'{"model"')
            await gateway.until(lambda: gateway.app.gateway.active == 1)
        entry = await gateway.entry()
        assert (entry.status, entry.outcome) == (499, F.CALLER_GONE)
        assert a.requests == []


# --- S9: who does not read -------------------------------------------------------------------------------


async def test_a_caller_that_reads_nothing_is_cut_and_the_engine_is_paused_meanwhile(tmp_path):
    frame = content_frame("x" * 2**15)

    async def endless(peer):
        while True:
            await peer.send(chunk(data(frame)))

    script = [send(head(200, SSE_HEAD)), endless]
    limits = {"slow_reader": "300ms", "between_tokens": "10s"}
    async with (
        openai_engine(script, send_buffer=2**16) as a,
        running_gateway(alone(a, gateway=limits), tmp_path) as gateway,
    ):
        async with gateway.asking("a/m", receive_buffer=2**13) as caller:
            await caller.head()
            caller.writer.transport.pause_reading()
            entry = await gateway.entry()
            assert (entry.status, entry.outcome) == (499, F.CALLER_GONE)
            assert entry.note.startswith("the caller took nothing")
            assert a.peers[-1].sent < 16 * 2**20  # and not all there is: it was paused
            await a.peers[-1].closed.wait()
        assert gateway.deployment("a/openai/m").breaker.fails_in_row == 0


async def test_a_slow_caller_that_takes_some_is_served_to_the_end(tmp_path):
    words = ["x" * 2**15] * 40
    limits = {"slow_reader": "5s"}
    async with (
        openai_engine(stream_sse(said(*words))) as a,
        running_gateway(alone(a, gateway=limits), tmp_path) as gateway,
    ):
        async with gateway.asking("a/m", receive_buffer=2**13) as caller:
            reply = await caller.head()
            while await caller.piece():
                pass
        assert reply.complete
        assert len(reply.text) == 40 * 2**15
        assert (await gateway.entry()).outcome == "ok"
