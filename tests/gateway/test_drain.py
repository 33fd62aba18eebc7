"""Signals: the gateway as a process, and how it goes."""

import asyncio
import signal

import pytest
from tests.support.gateway import (
    answer,
    content_frame,
    finish_frame,
    gateway_process,
    node,
    openai_engine,
    role_frame,
    settings,
)
from tests.support.upstreams import respond_json, stall, stream_sse

pytestmark = pytest.mark.asyncio
END = b"data: [DONE]\n\n"


def endless(more):
    """A stream that says `Hel`, waits, and ends well."""
    return stream_sse(
        [role_frame(), content_frame("Hel"), stall(more), content_frame("lo"), finish_frame(), "[DONE]"]
    )


def one(a, **gateway):
    return settings(nodes={"a": node(a, slots=2)}, gateway=gateway)


async def begin(caller):
    await caller.head()
    await caller.until(b"Hel")


async def test_running_answers_end_well_and_queued_requests_are_sent_away(tmp_path):
    more = asyncio.Event()
    async with openai_engine(endless(more)) as a, gateway_process(one(a), tmp_path) as gateway:
        async with (
            gateway.asking("a/m") as first,
            gateway.asking("a/m") as second,
            gateway.asking("a/m") as queued,
            gateway.asking("a/m", stream=False) as queued_whole,
        ):
            await asyncio.gather(begin(first), begin(second))
            while (await gateway.get("/health")).json()["waiting"] < 2:
                pass  # it has no event for us
            gateway.signal(signal.SIGTERM)
            for caller in (queued, queued_whole):
                reply = await caller.head()
                assert reply.status == 503
                assert (await caller.rest()).error["code"] == "draining"
                assert reply.header("retry-after") is not None
            line = await gateway.logged("draining")
            assert line["in_flight"] == 4
            more.set()
            for caller in (first, second):
                reply = await caller.rest()
                assert (reply.complete, reply.text, reply.frames[-1]) == (True, "Hello", END)
        assert await gateway.exit_code() == 0
        await gateway.logged("stopped")
        outcomes = [one["outcome"] for one in gateway.log.lines if one["event"] == "exchange"]
        assert sorted(outcomes) == ["draining", "draining", "ok", "ok"]
        assert len(a.requests) == 2


async def ask_until_it_is_refused(gateway):
    """Until the listening socket is closed the answer is no."""
    while True:
        assert (await gateway.get("/readyz")).status == 503


async def test_new_connections_are_not_taken_while_it_drains(tmp_path):
    more = asyncio.Event()
    async with openai_engine(endless(more)) as a, gateway_process(one(a), tmp_path) as gateway:
        async with gateway.asking("a/m") as caller:
            await begin(caller)
            gateway.signal(signal.SIGTERM)
            await gateway.logged("draining")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await ask_until_it_is_refused(gateway)
            more.set()
            assert (await caller.rest()).frames[-1] == END
        assert await gateway.exit_code() == 0


async def test_a_lame_duck_still_serves_but_is_not_ready(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        gateway_process(one(a, lame_duck="1h"), tmp_path) as gateway,
    ):
        assert (await gateway.get("/readyz")).status == 200
        gateway.signal(signal.SIGTERM)
        await gateway.logged("draining")
        reply = await gateway.get("/readyz")
        assert (reply.status, reply.json()["status"]) == (503, "draining")
        assert (await gateway.chat("a/m")).text == "hi"
        assert (await gateway.get("/livez")).status == 200
        gateway.signal(signal.SIGTERM)
        assert await gateway.exit_code() == 130


async def test_what_outlasts_the_drain_is_told_so(tmp_path):
    async with (
        openai_engine(endless(asyncio.Event())) as a,
        gateway_process(one(a, drain="100ms"), tmp_path) as gateway,
    ):
        async with gateway.asking("a/m") as caller:
            await begin(caller)
            gateway.signal(signal.SIGTERM)
            reply = await caller.rest()
        assert (reply.complete, reply.text) == (True, "Hel")
        assert reply.error["code"] == "draining"
        assert END not in reply.body
        assert await gateway.exit_code() == 0
        await gateway.logged("drain_over", in_flight=1)
        await a.peers[-1].closed.wait()


async def test_a_second_signal_ends_everything_at_once(tmp_path):
    async with openai_engine(endless(asyncio.Event())) as a, gateway_process(one(a), tmp_path) as gateway:
        async with gateway.asking("a/m") as caller:
            await begin(caller)
            gateway.signal(signal.SIGINT)
            await gateway.logged("draining")
            gateway.signal(signal.SIGINT)
            reply = await caller.rest()
            assert reply.error["code"] == "draining"
        assert await gateway.exit_code() == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_idle_gateway_goes_at_once(tmp_path, number):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        gateway_process(one(a), tmp_path) as gateway,
        gateway.caller() as idle,
    ):
        await idle.ask("GET", "/livez", gateway.headers())
        await idle.head()
        await idle.rest()
        gateway.signal(number)
        assert await gateway.exit_code() == 0
        assert gateway.log.plain == []


async def test_a_whole_answer_that_is_being_made_is_finished(tmp_path):
    more = asyncio.Event()
    async with (
        openai_engine([stall(more), *respond_json(200, answer("hi"))]) as a,
        gateway_process(one(a), tmp_path) as gateway,
        gateway.asking("a/m", stream=False) as caller,
    ):
        await a.wait_for_requests(1)
        gateway.signal(signal.SIGTERM)
        await gateway.logged("draining")
        more.set()
        await caller.head()
        assert (await caller.rest()).text == "hi"
        assert await gateway.exit_code() == 0
