"""The contract of the transport port for bodies that are read in pieces while they are sent."""

import asyncio
import hashlib

import pytest
from tests.support.upstreams import (
    ScriptedUpstream,
    close,
    head,
    hold,
    play,
    read_request,
    reset,
    respond,
    send,
    stall,
    tell,
    wait_for_head,
)
from tests.upstream.asking import F, ask, exchange, fails, soon, turns

pytestmark = pytest.mark.asyncio

PIECE = 64 * 1024


class Pieces:
    """A body that counts what is read of it."""

    def __init__(self, size, *, says=None, fails_at=None):
        self.size, self.says, self.fails_at = size, says, fails_at
        self.read = 0
        self.begun = 0

    def __len__(self):
        return self.size if self.says is None else self.says

    def __iter__(self):
        self.begun += 1
        for at in range(0, self.size, PIECE):
            if self.fails_at is not None and at >= self.fails_at:
                raise OSError("the disk is gone")
            self.read += 1
            yield content(at, min(PIECE, self.size - at))

    def digest(self):
        return hashlib.sha256(b"".join(self)).digest()


def content(at, size):
    return (b"%015d\n" % (at // PIECE)) * (size // 16) + b"x" * (size % 16)


@pytest.mark.parametrize("size", [0, 1, PIECE, 3 * PIECE + 7, 4_000_000])
async def test_a_body_in_pieces_arrives_whole(transport, size):
    body = Pieces(size)
    async with ScriptedUpstream(respond(200, b"ok")) as upstream:
        assert await exchange(transport, ask(upstream, body=body)) == (200, b"ok")
        (request,) = upstream.requests
        assert request.header("content-length") == str(size)
        assert request.header("transfer-encoding") is None
        assert hashlib.sha256(request.body).digest() == body.digest()


async def test_it_can_be_sent_again(transport):
    body = Pieces(300_000)
    async with ScriptedUpstream(respond(200, b"ok")) as upstream:
        for _ in range(3):
            assert await exchange(transport, ask(upstream, body=body)) == (200, b"ok")
        assert len({request.body for request in upstream.requests}) == 1
        assert upstream.connection_count == 1
        assert body.begun == 3


async def test_it_is_read_as_the_upstream_takes_it(transport):
    body = Pieces(64_000_000)
    go_on = asyncio.Event()
    script = [hold(), stall(go_on)]

    async def release(peer):
        peer.release()

    async with ScriptedUpstream(
        connections=[[*script, release, read_request(), *respond(200, b"ok")]]
    ) as upstream:
        asked = asyncio.get_running_loop().create_task(exchange(transport, ask(upstream, body=body)))
        before = -1
        while body.read != before or not body.read:  # until the kernel takes no more
            before = body.read
            await turns()
        assert body.read < 64_000_000 // PIECE / 2
        go_on.set()
        assert await soon(asked) == (200, b"ok")
        assert len(upstream.requests[0].body) == 64_000_000


@pytest.mark.parametrize("end", [close, reset], ids=["close", "reset"])
async def test_an_upstream_that_leaves_in_the_middle(transport, end):
    body = Pieces(20_000_000)
    async with ScriptedUpstream(
        connections=[[wait_for_head(), end()], [read_request(), *respond(200, b"ok")]]
    ) as up:
        with fails(F.CUT_SHORT):
            await soon(transport.open(ask(up, body=body)))
        again = Pieces(200_000)
        assert await exchange(transport, ask(up, body=again)) == (200, b"ok")
        assert hashlib.sha256(up.requests[0].body).digest() == again.digest()


async def test_an_answer_before_the_end_of_the_request(transport):
    body = Pieces(30_000_000)
    early = [wait_for_head(), hold(), *respond(413, b"too much"), stall()]
    async with ScriptedUpstream(connections=[early, [read_request(), *respond(200, b"ok")]]) as upstream:
        assert await exchange(transport, ask(upstream, body=body)) == (413, b"too much")
        assert await exchange(transport, ask(upstream, body=b"{}")) == (200, b"ok")
        assert upstream.connection_count == 2  # the first is not beyond doubt
    assert body.read < 30_000_000 // PIECE


async def test_a_stale_connection(transport):
    gone = [read_request(), *respond(200, b"1"), read_request(), close()]
    async with ScriptedUpstream(connections=[gone]) as upstream:
        assert await exchange(transport, ask(upstream)) == (200, b"1")
        with fails(F.STALE_CONNECTION):
            await soon(transport.open(ask(upstream, body=Pieces(100_000))))


@pytest.mark.parametrize(
    "body",
    [
        Pieces(300_000, says=400_000),
        Pieces(300_000, says=200_000),
        Pieces(300_000, fails_at=0),
        Pieces(3_000_000, fails_at=2_000_000),
    ],
    ids=["short", "long", "unreadable", "later"],
)
async def test_a_body_that_is_not_what_it_says(transport, body):
    async with ScriptedUpstream(respond(200, b"ok")) as upstream:
        with fails(F.CUT_SHORT):
            await soon(transport.open(ask(upstream, body=body)))
        assert upstream.requests == []
        assert await exchange(transport, ask(upstream)) == (200, b"ok")


async def test_taken_back_in_the_middle(transport):
    body = Pieces(30_000_000)
    held = asyncio.Event()
    async with ScriptedUpstream(connections=[[wait_for_head(), hold(), tell(held), stall()]]) as upstream:
        asked = asyncio.get_running_loop().create_task(transport.open(ask(upstream, body=body)))
        await soon(held.wait())
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(asked)
        (peer,) = upstream.peers
        peer.release()
        await soon(peer.closed.wait())
        read = body.read
        await turns()
        assert body.read == read


async def test_an_answer_may_come_while_it_is_sent(transport):
    body = Pieces(2_000_000)

    async def answer(peer):
        await peer.wait_for_head()
        await play([send(head(200, [("Content-Length", "4")]) + b"ea")], peer)
        await peer.read_request()
        await play([send(b"rl")], peer)

    async with ScriptedUpstream(connections=[[answer]]) as upstream:
        assert await exchange(transport, ask(upstream, body=body)) == (200, b"earl")
        assert len(upstream.requests[0].body) == 2_000_000
