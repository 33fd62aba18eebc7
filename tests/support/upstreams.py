"""Scripted upstreams: real loopback sockets that do exactly what a test says, step by step.

    async with ScriptedUpstream(respond_json(200, {"ok": True})) as upstream:
        ...  # talk to 127.0.0.1:upstream.port
        assert upstream.requests[0].path == "/v1/models"

A *script* is a sequence of steps; a *step* is `async def step(peer: Peer) -> None`, so a test can
write its own beside the ones below. One script answers one request, read beforehand; `replies` are
used in order and the last one for ever after. `route` chooses by request instead. `connections`
are scripts for whole connections, first come first served: they read their requests themselves
(`read_request()`), and so may misbehave before, between and after them.

Everything a test may want to wait for is an event; nothing here sleeps.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self, cast

Step = Callable[["Peer"], Awaitable[None]]
Script = Sequence[Step]
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    """names in lower case"""
    body: bytes
    head: bytes
    connection: int
    """number of the connection, from 0"""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Ended(Exception):
    """The script cannot go on: the connection is gone."""


class Peer(asyncio.Protocol):
    """The upstream's side of one connection."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self.upstream = upstream
        self.number = -1
        self.closed = asyncio.Event()
        """the other side closed (or half-closed), or the connection is lost"""
        self.request: Received | None = None
        """the last request that was read"""
        self.sent = 0
        """bytes handed to the kernel or waiting for it"""
        self._buffer = bytearray()
        self._changed = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._lost = False

    # --- asyncio's side -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        # Over TLS asyncio counts from this number on, so that 0 would never be let go again.
        self.transport.set_write_buffer_limits(0 if transport.get_extra_info("sslcontext") is None else 1)
        self.number = len(self.upstream.peers)
        self.upstream.peers.append(self)
        if self.upstream.send_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.upstream.send_buffer)
        self.upstream.run(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._changed.set()

    def eof_received(self) -> bool:
        self.closed.set()
        self._changed.set()
        # A script may still write after the other side's end; over TLS that is not possible.
        return self.transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost = True
        self.closed.set()
        self._changed.set()
        self._may_write.set()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    # --- the script's side ----------------------------------------------------------------------

    @property
    def socket(self) -> socket.socket:
        return self.transport.get_extra_info("socket")

    @property
    def unread(self) -> int:
        """Bytes that came and that no request has taken."""
        return len(self._buffer)

    async def wait_for_head(self) -> int:
        """Until the head of a request is there; nothing is taken."""
        return await self._until(lambda: self._buffer.find(b"\r\n\r\n"))

    async def read_request(self) -> Received:
        """The next request. Raises Ended when the connection ends first."""
        head = await self.wait_for_head()
        raw = bytes(self._buffer[: head + 4])
        del self._buffer[: head + 4]
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = tuple(
            (name.strip().lower(), value.strip())
            for name, _, value in (line.partition(":") for line in lines)
        )
        length = int(next((value for name, value in headers if name == "content-length"), "0"))
        await self._until(lambda: 0 if len(self._buffer) >= length else -1)
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self.request = Received(method, path, headers, body, raw, self.number)
        self.upstream.note(self.request)
        return self.request

    async def send(self, data: bytes) -> None:
        """Write, and wait until the kernel has taken every byte."""
        if self._lost or self.transport.is_closing():
            raise Ended
        self.sent += len(data)
        self.transport.write(data)
        await self._may_write.wait()
        if self._lost:
            raise Ended

    def reset(self) -> None:
        """Close with a reset instead of an end."""
        if not self._lost:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def close(self) -> None:
        self.transport.close()

    def shut(self) -> None:
        """End both directions this instant, before anybody's event loop turns."""
        with socket.socket(fileno=os.dup(self.socket.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Take nothing more from the other side."""
        self.transport.pause_reading()

    def release(self) -> None:
        self.transport.resume_reading()

    async def _until(self, found: Callable[[], int]) -> int:
        while (place := found()) < 0:
            if self.closed.is_set():
                raise Ended
            self._changed.clear()
            await self._changed.wait()
        return place


class ScriptedUpstream:
    """A TCP server on a port of loopback that follows scripts, and records what it was asked."""

    def __init__(
        self,
        *replies: Script,
        route: Callable[[Received], Script] | None = None,
        connections: Iterable[Script] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: Any = None,
        send_buffer: int | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.peers: list[Peer] = []
        """every connection so far"""
        self.requests: list[Received] = []
        self.asked = asyncio.Event()
        """set at each request; clear it to wait for the next"""
        self.failures: list[BaseException] = []
        """errors of scripts; raised again when the upstream is left"""
        self.send_buffer = send_buffer
        self._replies = replies
        self._route = route
        self._connections = list(connections)
        self._ssl = ssl
        self._served = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Peer(self), self.host, self.port, ssl=self._ssl, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        loop = asyncio.get_running_loop()
        for one in self._listener.sockets:
            loop.remove_reader(one.fileno())
        for _ in range(5):  # what was accepted becomes a peer; once the listener is closed it would be lost
            await asyncio.sleep(0)
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.peers:
            peer.transport.abort()
        await self._listener.wait_closed()
        if self.failures and exc[0] is None:
            raise self.failures[0]

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._ssl else 'http'}://{host}:{self.port}"

    @property
    def connection_count(self) -> int:
        return len(self.peers)

    async def wait_for_requests(self, count: int) -> None:
        """Until at least `count` requests have been read."""
        while len(self.requests) < count:
            self.asked.clear()
            await self.asked.wait()

    def note(self, request: Received) -> None:
        self.requests.append(request)
        self.asked.set()

    def run(self, peer: Peer) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, peer: Peer) -> None:
        try:
            if self._connections:
                await play(self._connections.pop(0), peer)
                return
            while True:
                request = await peer.read_request()
                await play(self._choose(request), peer)
        except Ended:
            peer.close()
        except Exception as error:  # noqa: BLE001 - told to the test when it leaves the upstream
            self.failures.append(error)
            peer.transport.abort()

    def _choose(self, request: Received) -> Script:
        if self._route is not None:
            return self._route(request)
        script = self._replies[min(self._served, len(self._replies) - 1)]
        self._served += 1
        return script


async def play(script: Script, peer: Peer) -> None:
    for step in script:
        await step(peer)


# --- steps ------------------------------------------------------------------------------------------


def read_request() -> Step:
    async def step(peer: Peer) -> None:
        await peer.read_request()

    return step


def wait_for_head() -> Step:
    """Wait for the head of a request, and leave it and its body unread."""

    async def step(peer: Peer) -> None:
        await peer.wait_for_head()

    return step


def hold() -> Step:
    """Stop taking bytes from the other side."""

    async def step(peer: Peer) -> None:
        peer.hold()

    return step


def send(data: bytes) -> Step:
    async def step(peer: Peer) -> None:
        await peer.send(data)

    return step


def drip(data: bytes, size: int = 1) -> Step:
    """Send in small pieces, each in a segment of its own."""

    async def step(peer: Peer) -> None:
        for start in range(0, len(data), size):
            await peer.send(data[start : start + size])
            # Two turns of the loop: the reader in the same loop takes this piece before the next.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    return step


def stall(until: asyncio.Event | None = None) -> Step:
    """Wait for the event; without one, until the other side closes."""

    async def step(peer: Peer) -> None:
        if until is None:
            await peer.closed.wait()
            raise Ended
        await until.wait()

    return step


def tell(event: asyncio.Event) -> Step:
    """Set an event when the script comes here."""

    async def step(peer: Peer) -> None:
        event.set()

    return step


def reset() -> Step:
    async def step(peer: Peer) -> None:
        peer.reset()
        raise Ended

    return step


def close() -> Step:
    async def step(peer: Peer) -> None:
        peer.close()
        raise Ended

    return step


def half_close() -> Step:
    """End our side only, and go on reading."""

    async def step(peer: Peer) -> None:
        peer.transport.write_eof()

    return step


# --- conveniences -----------------------------------------------------------------------------------


def head(status: int = 200, headers: Headers = (), *, version: str = "1.1") -> bytes:
    """A status line and headers."""
    lines = [f"HTTP/{version} {status} Scripted", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def respond(
    status: int = 200, body: bytes = b"", content_type: str = "text/plain", headers: Headers = ()
) -> list[Step]:
    """A whole answer with its length, in one segment."""
    lines = [("Content-Type", content_type), ("Content-Length", str(len(body))), *headers]
    return [send(head(status, lines) + body)]


def respond_json(status: int, obj: Any, headers: Headers = ()) -> list[Step]:
    return respond(status, json.dumps(obj).encode(), "application/json", headers)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `chunk(b"")` is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_sse(
    frames: Iterable[bytes | str | dict[str, Any] | Step], *, headers: Headers = (), end: bool = True
) -> list[Step]:
    """An event stream, one chunk per frame.

    A frame is bytes as they are, text or an object to be wrapped in `data: …`, or a step (`stall(event)`,
    `reset()`) to be taken between frames. Without `end` the last chunk is missing.
    """
    lines = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), *headers]
    steps: list[Step] = [send(head(200, lines))]
    for frame in frames:
        if isinstance(frame, dict):
            steps.append(send(chunk(b"data: " + json.dumps(frame).encode() + b"\n\n")))
        elif isinstance(frame, str):
            steps.append(send(chunk(b"data: " + frame.encode() + b"\n\n")))
        elif isinstance(frame, bytes):
            steps.append(send(chunk(frame)))
        else:
            steps.append(frame)
    if end:
        steps.append(send(chunk(b"")))
    return steps


@contextmanager
def refusing_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that refuses connections: bound, so that nobody else gets it, but not listening."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.bind((host, 0))
        yield bound.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that answers nothing to new connections: its queue is full, so their first packets are lost."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers: list[socket.socket] = []
        try:
            for _ in range(16):
                filler = socket.socket()
                fillers.append(filler)
                filler.setblocking(False)
                with suppress(BlockingIOError):
                    filler.connect(address)
                # On loopback a connection that the queue takes is there at once.
                if not select.select([], [filler], [], 0.05)[1]:
                    break
            else:
                raise RuntimeError("the queue of a listening socket never fills here")
            yield address[1]
        finally:
            for filler in fillers:
                filler.close()
