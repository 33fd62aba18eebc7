"""The contract of the transport port, from the head of the answer on: bodies, aborts, connections."""

import asyncio
import gzip

import pytest
from tests.support.upstreams import (
    ScriptedUpstream,
    chunk,
    close,
    drip,
    half_close,
    head,
    hold,
    play,
    read_request,
    reset,
    respond,
    respond_json,
    send,
    stall,
    stream_sse,
    tell,
    wait_for_head,
)
from tests.upstream.asking import A_LOT, CHUNKED, F, ask, exchange, fails, soon, turns

from fleetgate.errors import AttemptFailed
from fleetgate.upstream.port import read_all

pytestmark = pytest.mark.asyncio


# --- bodies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "script"),
    [
        ("HEAD", [send(head(200, [("Content-Length", "500")]))]),
        ("HEAD", [send(head(200, CHUNKED))]),
        ("GET", [send(head(204))]),
        ("GET", [send(head(304, [("Content-Length", "500")]))]),
        ("GET", respond(200, b"")),
    ],
    ids=["HEAD", "HEAD chunked", "204", "304", "empty"],
)
async def test_answers_without_body(transport, method, script):
    async with ScriptedUpstream(script, respond(200, b"next")) as upstream:
        status, body = await exchange(transport, ask(upstream, method=method, body=b""))
        assert (status in {200, 204, 304}, body) == (True, b"")
        assert await exchange(transport, ask(upstream)) == (200, b"next")
        assert upstream.connection_count == 1


async def test_stream_is_not_held_back(transport):
    gates = [asyncio.Event() for _ in range(3)]
    frames = ["one", stall(gates[0]), "two", stall(gates[1]), "three", stall(gates[2])]
    async with ScriptedUpstream(stream_sse(frames)) as upstream:
        answer = await soon(transport.open(ask(upstream)))
        for word, gate in zip(("one", "two", "three"), gates, strict=True):
            assert await soon(answer.read()) == b"data: %b\n\n" % word.encode()
            gate.set()
        assert await soon(answer.read()) == b""


async def test_head_comes_before_the_body(transport):
    gate = asyncio.Event()
    async with ScriptedUpstream(stream_sse([stall(gate), "one"])) as upstream:
        answer = await soon(transport.open(ask(upstream)))
        assert answer.header("content-type") == "text/event-stream"
        gate.set()
        assert await soon(answer.read()) == b"data: one\n\n"
        assert await soon(answer.read()) == b""


@pytest.mark.parametrize("end", [reset, close, half_close], ids=["reset", "close", "half_close"])
@pytest.mark.parametrize(
    "begin",
    [
        [send(head(200, [("Content-Length", "10")]) + b"abc")],
        [send(head(200, CHUNKED) + chunk(b"abc"))],
        [send(head(200, CHUNKED) + b"a\r\nabc")],
    ],
    ids=["length", "between chunks", "in a chunk"],
)
async def test_cut_in_the_body(transport, begin, end):
    gate = asyncio.Event()
    async with ScriptedUpstream([*begin, stall(gate), end()]) as upstream:
        answer = await soon(transport.open(ask(upstream)))
        assert await soon(answer.read()) == b"abc"
        gate.set()
        for _ in range(2):
            with fails(F.CUT_SHORT):
                await soon(answer.read())
        answer.abort()


async def test_what_arrived_before_the_cut_is_read_first(transport):
    """aiohttp forgets it: a stream would lose the tokens that came last."""
    gate = asyncio.Event()
    script = [send(head(200, CHUNKED)), send(chunk(b"abc")), stall(gate), send(chunk(b"def")), close()]
    async with ScriptedUpstream(script) as upstream:
        answer = await soon(transport.open(ask(upstream)))
        gate.set()
        await soon(upstream.peers[0].closed.wait())
        await turns()
        assert await soon(answer.read()) == b"abcdef"
        with fails(F.CUT_SHORT):
            await soon(answer.read())


async def test_reset_of_a_body_without_length(transport):
    """For aiohttp this is a good end."""
    gate = asyncio.Event()
    async with ScriptedUpstream([send(head(200) + b"abc"), stall(gate), reset()]) as upstream:
        answer = await soon(transport.open(ask(upstream)))
        assert await soon(answer.read()) == b"abc"
        gate.set()
        with fails(F.CUT_SHORT):
            await soon(answer.read())


@pytest.mark.parametrize("end", [close, half_close], ids=["close", "half_close"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_body_that_ends_with_the_connection(transport, version, end):
    async with ScriptedUpstream([drip(head(200, version=version) + b"abcdef", 3), end()]) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"abcdef")
        assert await exchange(transport, ask(upstream)) == (200, b"abcdef")
        assert upstream.connection_count == 2


async def test_http_1_0_with_length(transport):
    script = [send(head(200, [("Content-Length", "3")], version="1.0") + b"abc"), stall()]
    async with ScriptedUpstream(script) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"abc")
        await soon(upstream.peers[0].closed.wait())


async def test_connection_close_is_obeyed(transport):
    async with ScriptedUpstream(
        [*respond(200, b"a", headers=[("Connection", "close")]), stall()]
    ) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"a")
        await soon(upstream.peers[0].closed.wait())


async def test_gzip_passes_untouched(transport):
    packed = gzip.compress(b"hello" * 100)
    script = respond(200, packed, headers=[("Content-Encoding", "gzip")])
    async with ScriptedUpstream(script) as upstream:
        answer = await soon(transport.open(ask(upstream, headers=[("accept-encoding", "gzip")])))
        assert answer.header("content-encoding") == "gzip"
        assert await soon(read_all(answer, A_LOT)) == packed
        assert [value for name, value in upstream.requests[0].headers if name == "accept-encoding"] == [
            "gzip"
        ]


async def test_redirect_is_not_followed(transport):
    script = respond(301, b"", headers=[("Location", "/elsewhere"), ("Set-Cookie", "a=b")])
    async with ScriptedUpstream(script) as upstream:
        for _ in range(2):
            assert await exchange(transport, ask(upstream, method="GET", body=b"")) == (301, b"")
        assert [request.path for request in upstream.requests] == ["/v1/chat/completions"] * 2
        assert upstream.requests[1].header("cookie") is None


async def test_chunk_extensions_and_trailers_are_ignored(transport):
    whole = head(200, CHUNKED) + b'3;a="b"\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n'
    async with ScriptedUpstream([send(whole)]) as upstream:
        for _ in range(2):
            answer = await soon(transport.open(ask(upstream)))
            assert await soon(read_all(answer, A_LOT)) == b"abc"
            assert answer.header("x-sum") is None
        assert upstream.connection_count == 1


# --- back-pressure and abort ------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_unread_body_stops_the_upstream(transport, framing):
    piece = b"x" * 65536
    count = 1024

    async def flood(peer):
        lines = [("Content-Length", str(len(piece) * count))] if framing == "length" else CHUNKED
        await peer.send(head(200, lines))
        for _ in range(count):
            await peer.send(piece if framing == "length" else chunk(piece))
        if framing == "chunks":
            await peer.send(chunk(b""))

    async with ScriptedUpstream([flood]) as upstream:
        answer = await soon(transport.open(ask(upstream)))
        await turns(3 * count)
        sent = upstream.peers[0].sent
        await turns(3 * count)
        assert upstream.peers[0].sent == sent < len(piece) * count / 2
        total = 0
        while got := await soon(answer.read()):
            assert len(got) <= 1 << 20
            total += len(got)
        assert total == len(piece) * count
        # A connection that had been paused serves again.
        again = await soon(transport.open(ask(upstream)))
        assert again.reused
        again.abort()


async def test_abort_in_the_body(transport):
    async with ScriptedUpstream(stream_sse(["one", stall()])) as upstream:
        answer = await soon(transport.open(ask(upstream)))
        assert await soon(answer.read()) == b"data: one\n\n"
        answer.abort()
        answer.abort()
        await soon(upstream.peers[0].closed.wait())
        with fails(F.CUT_SHORT):
            await answer.read()


async def test_cancelled_while_the_body_is_awaited(transport):
    async with ScriptedUpstream(stream_sse([stall()])) as upstream:
        answer = await soon(transport.open(ask(upstream)))
        task = asyncio.get_running_loop().create_task(answer.read())
        await turns(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await soon(upstream.peers[0].closed.wait())


async def test_abort_after_the_end_leaves_the_connection_alone(transport):
    gate = asyncio.Event()
    async with ScriptedUpstream(respond(200, b"a"), [stall(gate), *respond(200, b"b")]) as upstream:
        first = await soon(transport.open(ask(upstream)))
        assert await soon(read_all(first, A_LOT)) == b"a"
        task = asyncio.get_running_loop().create_task(exchange(transport, ask(upstream)))
        await soon(upstream.wait_for_requests(2))
        first.abort()  # its connection serves the second one by now
        gate.set()
        assert await soon(task) == (200, b"b")
        assert upstream.connection_count == 1


async def test_answer_before_the_request_is_written(transport):
    done = asyncio.Event()
    script = [wait_for_head(), hold(), *respond(413, b"too large"), stall(done)]
    async with ScriptedUpstream(connections=[script], route=lambda _: respond(200, b"ok")) as upstream:
        assert await exchange(transport, ask(upstream, body=bytes(32 << 20))) == (413, b"too large")
        upstream.peers[0].release()
        await soon(upstream.peers[0].closed.wait())
        assert upstream.peers[0].unread < 32 << 20
        assert await exchange(transport, ask(upstream)) == (200, b"ok")
        done.set()


# --- connections ------------------------------------------------------------------------------------


async def test_connections_are_reused(transport):
    async with ScriptedUpstream(respond(200, b"a"), stream_sse(["b"])) as upstream:
        reused = []
        for _ in range(4):
            answer = await soon(transport.open(ask(upstream)))
            reused.append(answer.reused)
            await soon(read_all(answer, A_LOT))
        assert reused == [False, True, True, True]
        assert upstream.connection_count == 1
        answer = await soon(transport.open(ask(upstream, fresh=True)))
        assert not answer.reused
        await soon(read_all(answer, A_LOT))
        assert upstream.connection_count == 2


async def test_many_at_once(transport):
    gate = asyncio.Event()
    async with ScriptedUpstream(route=lambda request: [stall(gate), *respond(200, request.body)]) as upstream:
        tasks = [
            asyncio.get_running_loop().create_task(exchange(transport, ask(upstream, body=b"%d" % n)))
            for n in range(150)
        ]
        await soon(upstream.wait_for_requests(150))
        gate.set()
        assert await soon(asyncio.gather(*tasks)) == [(200, b"%d" % n) for n in range(150)]
        assert upstream.connection_count == 150
        assert await exchange(transport, ask(upstream)) == (200, b"{}")
        assert upstream.connection_count == 150


@pytest.mark.parametrize("end", [reset, close], ids=["reset", "close"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_stale_connection(transport, method, end):
    """GET too: a library that repeats idempotent requests by itself would hide it."""
    script = [read_request(), *respond(200, b"a"), read_request(), end()]
    async with ScriptedUpstream(respond(200, b"b"), connections=[script]) as upstream:
        request = ask(upstream, method=method, body=b"")
        assert await exchange(transport, request) == (200, b"a")
        with fails(F.STALE_CONNECTION):
            await soon(transport.open(request))
        assert upstream.connection_count == 1
        assert await exchange(transport, ask(upstream, method=method, body=b"", fresh=True)) == (200, b"b")


async def test_idle_connection_closed_as_we_send(transport):
    async with ScriptedUpstream(respond(200, b"a")) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"a")
        upstream.peers[0].shut()
        with fails(F.STALE_CONNECTION):
            await soon(transport.open(ask(upstream)))


async def test_reused_connection_cut_in_the_head_is_not_stale(transport):
    script = [read_request(), *respond(200, b"a"), read_request(), send(b"HTTP/1.1 2"), close()]
    async with ScriptedUpstream(connections=[script]) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"a")
        with fails(F.CUT_SHORT):
            await soon(transport.open(ask(upstream)))


async def test_closed_idle_connection_is_not_used(transport):
    script = [read_request(), *respond(200, b"a"), close()]
    async with ScriptedUpstream(respond(200, b"b"), connections=[script]) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"a")
        await soon(upstream.peers[0].closed.wait())
        await turns(20)
        answer = await soon(transport.open(ask(upstream)))
        assert not answer.reused
        assert await soon(read_all(answer, A_LOT)) == b"b"


async def test_idle_connection_expires(transport):
    async with ScriptedUpstream(respond(200, b"a")) as upstream:
        for _ in range(2):
            assert await exchange(transport, ask(upstream, idle_expiry=0.03)) == (200, b"a")
        await soon(upstream.peers[0].closed.wait())
        assert await exchange(transport, ask(upstream, idle_expiry=0.03)) == (200, b"a")
        assert upstream.connection_count == 2


@pytest.mark.parametrize("extra", [b"garbage\r\n", respond(200, b"smuggled")], ids=["garbage", "answer"])
async def test_bytes_while_idle_end_the_connection(transport, extra):
    """An answer nobody asked for would be given to the next request."""
    gate, sent = asyncio.Event(), asyncio.Event()
    more = extra if isinstance(extra, list) else [send(extra)]
    script = [read_request(), *respond(200, b"a"), stall(gate), *more, tell(sent), stall()]
    async with ScriptedUpstream(respond(200, b"b"), connections=[script]) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"a")
        gate.set()
        await soon(sent.wait())
        await turns(20)
        assert await exchange(transport, ask(upstream)) == (200, b"b")
        assert upstream.connection_count == 2
        await soon(upstream.peers[0].closed.wait())


@pytest.mark.parametrize("extra", [b"garbage", head(200, [("Content-Length", "8")]) + b"smuggled"])
async def test_more_than_the_length_ends_the_connection(transport, extra):
    """With the answer in the same segment: it may be taken or refused, the rest never."""
    whole = head(200, [("Content-Length", "3")]) + b"abc" + extra
    async with ScriptedUpstream([send(whole), stall()], respond(200, b"next")) as upstream:
        try:
            assert await exchange(transport, ask(upstream)) == (200, b"abc")
        except AttemptFailed as failed:
            assert failed.failure is F.GARBAGE  # noqa: PT017
        await soon(upstream.peers[0].closed.wait())
        assert await exchange(transport, ask(upstream)) == (200, b"next")
        assert upstream.connection_count == 2


async def test_targets_do_not_share_connections(transport):
    async with ScriptedUpstream(respond(200, b"a")) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"a")
        assert await exchange(transport, ask(upstream, hosts=("engine.test",))) == (200, b"a")
        assert upstream.connection_count == 2


async def test_close_ends_idle_connections(transport):
    async with ScriptedUpstream(respond(200, b"a")) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"a")
        await transport.close()
        await soon(upstream.peers[0].closed.wait())


async def test_scripts_can_be_played_by_hand(transport):
    """The scripted upstream itself: a route that answers by path, with a step of the test's own."""
    seen = []

    async def note(peer):
        seen.append(peer.request.json())
        await play(respond_json(201, {"n": len(seen)}), peer)

    async with ScriptedUpstream(route=lambda request: [note] if request.path == "/a" else respond(404)) as up:
        assert await exchange(transport, ask(up, path="/a", body=b'{"q": 1}')) == (201, b'{"n": 1}')
        assert (await exchange(transport, ask(up, path="/b")))[0] == 404
        assert seen == [{"q": 1}]
