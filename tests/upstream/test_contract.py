"""The contract of the transport port: hostile upstreams, and both transports see them alike."""

import asyncio
import os
import socket

import pytest
from tests.support.upstreams import (
    ScriptedUpstream,
    black_hole,
    chunk,
    close,
    drip,
    half_close,
    head,
    hold,
    refusing_port,
    reset,
    respond,
    respond_json,
    send,
    stall,
    tell,
    wait_for_head,
)
from tests.upstream.asking import A_LOT, CHUNKED, F, ask, exchange, fails, soon, turns

from fleetgate.upstream.port import MAX_HEAD, read_all

pytestmark = pytest.mark.asyncio


# --- a plain exchange -------------------------------------------------------------------------------


async def test_request_arrives_as_written(transport):
    headers = [("Authorization", "Bearer x"), ("Content-Type", "application/json"), ("X-Odd", "é")]
    async with ScriptedUpstream(
        respond_json(200, {"ok": True}, [("X-Two", "1"), ("X-Two", "2")])
    ) as upstream:
        answer = await soon(transport.open(ask(upstream, path="/v1/x?a=b%2Fc&d=%20", headers=headers)))
        assert (answer.status, answer.reused) == (200, False)
        assert answer.header("content-type") == "application/json"
        assert answer.header("x-two") == "1"
        assert answer.header("x-none") is None
        assert await soon(read_all(answer, A_LOT)) == b'{"ok": true}'
        assert await answer.read() == b""
        answer.abort()
        answer.abort()
        got = upstream.requests[0]
        assert got.head.startswith(b"POST /v1/x?a=b%2Fc&d=%20 HTTP/1.1\r\n")
        assert got.body == b"{}"
        assert sorted(name for name, _ in got.headers) == [
            "accept-encoding", "authorization", "content-length", "content-type", "host", "x-odd",
        ]  # fmt: skip
        assert got.header("host") == f"127.0.0.1:{upstream.port}"
        assert got.header("accept-encoding") == "identity"
        assert b"Authorization: Bearer x\r\n" in got.head


async def test_get_has_no_body_and_post_always_a_length(transport):
    async with ScriptedUpstream(respond(200, b"x")) as upstream:
        assert await exchange(transport, ask(upstream, method="GET", body=b"")) == (200, b"x")
        assert await exchange(transport, ask(upstream, method="POST", body=b"")) == (200, b"x")
        assert upstream.requests[0].header("content-length") is None
        assert upstream.requests[1].header("content-length") == "0"


async def test_name_and_ipv6(transport):
    async with ScriptedUpstream(respond(200, b"x"), host="::1") as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"x")
        assert upstream.requests[0].header("host") == f"[::1]:{upstream.port}"
    async with ScriptedUpstream(respond(200, b"x")) as upstream:
        assert await exchange(transport, ask(upstream, hosts=("engine.test",))) == (200, b"x")
        assert upstream.requests[0].header("host") == f"engine.test:{upstream.port}"


@pytest.mark.parametrize(
    "broken",
    [
        {"headers": [("X", "a\r\nY: b")]},
        {"headers": [("X", "a\nY: b")]},
        {"headers": [("X", "a\rb")]},
        {"headers": [("X", "a\0b")]},
        {"headers": [("X", "\u20ac")]},
        {"headers": [("X y", "a")]},
        {"headers": [("", "a")]},
        {"headers": [("X\r\nY", "a")]},
        {"headers": [("Content-Length", "5")]},
        {"headers": [("Transfer-Encoding", "chunked")]},
        {"headers": [("host", "elsewhere")]},
        {"path": "/a b"},
        {"path": "/a\r\nX: y"},
        {"path": "http://elsewhere/"},
        {"path": "/é"},
        {"path": "/a#b"},
        {"path": ""},
        {"method": "GET /"},
    ],
    ids=str,
)
async def test_what_cannot_be_written_is_refused(transport, broken):
    with pytest.raises(ValueError, match=r"."):
        await transport.open(ask(1, **broken))


async def test_a_secret_is_not_in_the_refusal(transport):
    with pytest.raises(ValueError, match=r".") as caught:
        await transport.open(ask(1, headers=[("Authorization", "Bearer s3cret\u20ac")]))
    assert "s3cret" not in repr(caught.value)
    assert caught.value.__cause__ is None


async def test_large_bodies_both_ways(transport):
    body = os.urandom(3 << 20)
    async with ScriptedUpstream(respond(200, body)) as upstream:
        assert await exchange(transport, ask(upstream, body=body)) == (200, body)
        assert upstream.requests[0].body == body


async def test_longer_than_the_reader_wants(transport):
    async with ScriptedUpstream(respond(200, b"x" * 100_000)) as upstream:
        answer = await soon(transport.open(ask(upstream)))
        assert await soon(read_all(answer, 1000)) is None


# --- no connection ----------------------------------------------------------------------------------


async def test_refused(transport):
    with refusing_port() as port, fails(F.UNSENT_REFUSED) as caught:
        await soon(transport.open(ask(port)))
    assert "refused" in caught.value.text


async def test_black_hole(transport):
    with black_hole() as port, fails(F.UNSENT_UNREACHABLE):
        await soon(transport.open(ask(port, connect_timeout=0.05)))


async def test_name_not_found(transport):
    with fails(F.UNSENT_UNREACHABLE) as caught:
        await soon(transport.open(ask(1, hosts=("missing.test",))))
    assert "missing.test" in caught.value.text
    assert "not found" in caught.value.text


@pytest.mark.parametrize("host", ["169.254.169.254", "cloud.test", "fe80::1", "0.0.0.0", "::", "224.0.0.1"])
async def test_forbidden_address(transport, host):
    with fails(F.UNSENT_UNREACHABLE) as caught:
        await soon(transport.open(ask(1, hosts=(host,))))
    assert "not allowed" in caught.value.text


async def test_second_host_works_and_is_remembered(transport):
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        hosts, port = ("127.0.0.1", "::1"), first.getsockname()[1]
        async with ScriptedUpstream(respond(200, b"second"), host="::1", port=port):
            assert await exchange(transport, ask(port, hosts=hosts)) == (200, b"second")
            first.listen()
            first.setblocking(False)
            assert await exchange(transport, ask(port, hosts=hosts, fresh=True)) == (200, b"second")
            with pytest.raises(BlockingIOError):
                first.accept()


async def test_every_host_refuses(transport):
    with refusing_port() as port, fails(F.UNSENT_REFUSED) as caught:
        await soon(transport.open(ask(port, hosts=("127.0.0.1", "::1"))))
    assert "127.0.0.1" in caught.value.text
    assert "::1" in caught.value.text


async def test_a_refusal_is_told_before_silence(transport):
    with black_hole() as port, fails(F.UNSENT_REFUSED):
        await soon(transport.open(ask(port, hosts=("127.0.0.1", "::1"), connect_timeout=0.05)))


# --- heads ------------------------------------------------------------------------------------------


async def test_cancelled_while_the_head_is_awaited(transport):
    async with ScriptedUpstream([stall()]) as upstream:
        task = asyncio.get_running_loop().create_task(transport.open(ask(upstream)))
        await soon(upstream.wait_for_requests(1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await soon(upstream.peers[0].closed.wait())


async def test_cancelled_while_the_request_is_stuck(transport):
    stuck = asyncio.Event()
    script = [wait_for_head(), hold(), tell(stuck), stall()]
    async with ScriptedUpstream(connections=[script]) as upstream:
        task = asyncio.get_running_loop().create_task(transport.open(ask(upstream, body=bytes(32 << 20))))
        await soon(stuck.wait())
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        upstream.peers[0].release()
        await soon(upstream.peers[0].closed.wait())
        assert upstream.peers[0].unread < 32 << 20


async def test_a_byte_at_a_time(transport):
    whole = head(200, [("Content-Type", "text/plain"), *CHUNKED]) + chunk(b"abc") + chunk(b"de") + chunk(b"")
    async with ScriptedUpstream([drip(whole)]) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"abcde")
        assert await exchange(transport, ask(upstream)) == (200, b"abcde")
        assert upstream.connection_count == 1


@pytest.mark.parametrize("end", [reset, close], ids=["reset", "close"])
async def test_cut_in_the_head(transport, end):
    async with ScriptedUpstream([send(b"HTTP/1.1 200 OK\r\nContent-"), end()]) as upstream:
        with fails(F.CUT_SHORT):
            await soon(transport.open(ask(upstream)))


@pytest.mark.parametrize("end", [reset, close, half_close], ids=["reset", "close", "half_close"])
async def test_no_answer_at_all(transport, end):
    async with ScriptedUpstream([end()]) as upstream:
        with fails(F.CUT_SHORT):
            await soon(transport.open(ask(upstream)))


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"<html>no</html>\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        head(200, [("Content-Length", "2"), *CHUNKED]) + b"2\r\nab\r\n0\r\n\r\n",
        head(200, [*CHUNKED, ("Content-Length", "2")]) + b"2\r\nab\r\n0\r\n\r\n",
        head(200, [("Content-Length", "2"), ("Content-Length", "3")]) + b"abc",
        head(200, [("Content-Length", "-2")]) + b"abc",
        head(200, [("Content-Length", "2, 2")]) + b"ab",
        head(200, [("Transfer-Encoding", "gzip")]) + b"abc",
        head(200, [("Transfer-Encoding", "gzip, chunked")]) + b"2\r\nab\r\n0\r\n\r\n",
        head(200, CHUNKED) + b"2\r\nab\r\nzz\r\n",
        head(200, CHUNKED) + b"-2\r\nab\r\n",
        head(200, CHUNKED) + b"2\r\nabcdef\r\n0\r\n\r\n",
        head(200, CHUNKED) + b"ffffffffffffffffff\r\nab",
        head(101, [("Upgrade", "x"), ("Connection", "upgrade")]),
        head(200, [("X", "y" * (MAX_HEAD + 1))]),
        head(200, [(f"X-{n}", "y" * 4000) for n in range(40)]) + b"body",
    ],
    ids=lambda garbage: repr(garbage[:60]),
)
async def test_garbage(transport, garbage):
    async with ScriptedUpstream([send(garbage), stall()]) as upstream:
        with fails(F.GARBAGE):
            await exchange(transport, ask(upstream))
        await soon(upstream.peers[0].closed.wait())


async def test_endless_head(transport):
    async def flood(peer):
        await peer.send(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await peer.send(b"y" * 10_000)

    async with ScriptedUpstream([flood]) as upstream:
        with fails(F.GARBAGE):
            await soon(transport.open(ask(upstream)))
        await soon(upstream.peers[0].closed.wait())


async def test_endless_interim_answers(transport):
    async def flood(peer):
        while True:
            await peer.send(head(103, [("Link", "</style.css>")]) * 100)

    async with ScriptedUpstream([flood]) as upstream:
        with fails(F.GARBAGE):
            await soon(transport.open(ask(upstream)))


async def test_endless_trailers(transport):
    async def flood(peer):
        await peer.send(head(200, CHUNKED) + chunk(b"ab") + b"0\r\nX: ")
        while True:
            await peer.send(b"y" * 10_000)

    async with ScriptedUpstream([flood]) as upstream:
        with fails(F.GARBAGE):
            await exchange(transport, ask(upstream))


async def test_long_head_within_the_limit(transport):
    lines = [(f"X-{n}", "y" * 4000) for n in range(15)]
    whole = head(200, [*lines, ("Content-Length", "300000")]) + b"z" * 300_000
    async with ScriptedUpstream([send(whole)]) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"z" * 300_000)


async def test_interim_answers_are_skipped(transport):
    interim = head(100) + head(103, [("Link", "</style.css>")])
    script = [send(interim), *respond(200, b"real", headers=[("X-Final", "yes")])]
    async with ScriptedUpstream(script) as upstream:
        answer = await soon(transport.open(ask(upstream)))
        assert (answer.status, answer.header("x-final"), answer.header("link")) == (200, "yes", None)
        assert await soon(read_all(answer, A_LOT)) == b"real"
        assert await exchange(transport, ask(upstream)) == (200, b"real")
        assert upstream.connection_count == 1
