"""The lean transport: HTTP/1.1 on plain sockets, for engines on the LAN.

It exists for speed: no task and no timer per exchange, one write per request, one wake-up for an
answer that comes in one piece. The framing is judged by httptools (llhttp in its strict mode): both
a length and chunks, two lengths, a bare line feed or a bad chunk size make an answer garbage.

An exchange is a `LeanAnswer` on a `_Wire`. The wire belongs to the answer from the moment the request
is written until the last byte of the body has *arrived*; then it goes back to the pool, whether or
not the body has been read by then. A wire whose end is not beyond doubt is closed instead: bytes
after the answer, a request not yet fully written, `Connection: close`.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final, cast

import httptools

from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.upstream.dial import Dialler
from fleetgate.upstream.port import MAX_HEAD
from fleetgate.upstream.wire import check_line, check_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.upstream.port import Pieces, Target, UpstreamRequest

_PAUSE: Final = 64 * 1024
"""Bytes of unread body at which the wire stops reading. A loop hands over at most 256 KiB at a time,
so a stream holds at most 320 KiB here."""

_JOIN: Final = 64 * 1024
"""a request body up to this size is copied behind its head to make one write of it"""

_AT_ONCE: Final = 256 * 1024
"""bytes of a body in pieces that are written before others have their turn"""

_REMEMBERED: Final = 512
"""header names and request lines whose check is remembered"""

_ENCODING: Final = "\r\nAccept-Encoding: "


class LeanTransport:
    """Exchanges over plain TCP. One per event loop; refuses targets with TLS."""

    def __init__(self, dialler: Dialler | None = None) -> None:
        """`dialler`: one that others use too, and whoever made it closes it."""
        self._dialler = dialler or Dialler()
        self._lent = dialler is not None
        self._pools: dict[Target, _Pool] = {}
        self._names: dict[str, str] = {}

    async def open(self, request: UpstreamRequest) -> LeanAnswer:
        pool = self._pools.get(request.target)
        if pool is None:
            if request.target.tls:
                raise ValueError("the lean transport speaks no TLS")
            pool = self._pools[request.target] = _Pool(request.target, self._dialler)
        head = self._head(request, pool)
        wire = None if request.fresh else pool.take()
        reused = wire is not None
        if wire is None:
            wire = await pool.connect()
        answer = LeanAnswer(wire, reused=reused)
        await answer.exchange(request.method, head, request.body)
        return answer

    async def close(self) -> None:
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            pool.close()
        if not self._lent:
            self._dialler.close()

    def _head(self, request: UpstreamRequest, pool: _Pool) -> bytes:
        method = request.method
        parts = [pool.first_lines(method, request.path)]
        names = self._names
        encoding = False
        for name, value in request.headers:
            known = names.get(name) or self._learn(name)
            if known is _ENCODING:
                encoding = True
            parts.append(known)
            parts.append(value)
        lines = len(request.headers) + 1
        if not encoding:
            parts.append("\r\nAccept-Encoding: identity")
            lines += 1
        if request.body or method in {"POST", "PUT", "PATCH"}:
            parts.append(f"\r\nContent-Length: {len(request.body)}")
            lines += 1
        text = "".join(parts)
        # Counting is quicker than looking at each value, and finds the same.
        if text.count("\n") != lines or text.count("\r") != lines or "\0" in text:
            raise ValueError("a header value that cannot be sent")
        try:
            return text.encode("latin-1") + b"\r\n\r\n"
        except UnicodeEncodeError:
            # The error would show the value, which may be a key.
            raise ValueError("a header value that cannot be sent") from None

    def _learn(self, name: str) -> str:
        known = _ENCODING if check_name(name) == "accept-encoding" else f"\r\n{name}: "
        if len(self._names) < _REMEMBERED:
            self._names[name] = known
        return known


class LeanAnswer:
    """An answer on its wire."""

    __slots__ = (
        "_error",
        "_pieces",
        "_size",
        "_waiter",
        "_wire",
        "ended",
        "headers",
        "opened",
        "reused",
        "status",
    )

    def __init__(self, wire: _Wire, *, reused: bool) -> None:
        self.status = 0
        self.reused = reused
        self.headers: list[tuple[bytes, bytes]] = []
        self.ended = False
        """the whole body has arrived"""
        self.opened = False
        """whoever waits for the head has been told"""
        self._wire: _Wire | None = wire
        self._pieces: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: AttemptFailed | None = None

    def header(self, name: str) -> str | None:
        wanted = name.encode("latin-1")
        for key, value in self.headers:
            if len(key) == len(wanted) and key.lower() == wanted:
                return value.decode("latin-1").strip(" \t")
        return None

    async def read(self) -> bytes:
        if not self._pieces and not self.ended:
            await self._wait()
        pieces = self._pieces
        if not pieces:
            if self._error is not None:
                raise self._error
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._size = 0
        if self._wire is not None:
            self._wire.resume()
        return data

    def abort(self) -> None:
        wire = self._wire
        if wire is None:
            return
        self._pieces.clear()
        wire.fail(FailureClass.CUT_SHORT, "aborted")

    async def exchange(self, method: str, head: bytes, body: bytes | Pieces) -> None:
        """Send the request and wait for the head of the answer."""
        wire = self._wire
        assert wire is not None
        wire.begin(self, method)
        wire.send(head, body)
        await self._wait()
        if not self.status:
            assert self._error is not None
            raise self._error

    async def _wait(self) -> None:
        """Until there is news: a head, a piece of the body, its end, or a failure."""
        if self._error is not None:
            return
        assert self._waiter is None, "an answer has one reader"
        assert self._wire is not None
        self._waiter = self._wire.loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self._waiter = None
            self.abort()
            raise

    # --- called by the wire ---------------------------------------------------------------------

    def add(self, piece: bytes) -> int:
        self._pieces.append(piece)
        self._size += len(piece)
        return self._size

    def finish(self, error: AttemptFailed | None) -> None:
        """Nothing more will come."""
        self._wire = None
        self._error = error
        self.ended = error is None
        self.opened = True
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def wake(self) -> None:
        """Something came: tell whoever waits for it."""
        waiter = self._waiter
        if waiter is not None and (self._pieces or not self.opened):
            self.opened = True
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)


class _Pool:
    """The wires to one target. `_idle` is ordered by the time they became idle; the last is used first."""

    __slots__ = ("_closed", "_dialler", "_idle", "_lines", "_loop", "_sweep", "_target")

    def __init__(self, target: Target, dialler: Dialler) -> None:
        self._target = target
        self._dialler = dialler
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Wire] = []
        self._lines: dict[tuple[str, str], str] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    def first_lines(self, method: str, path: str) -> str:
        """Request line and Host, checked; without the last line end."""
        key = (method, path)
        lines = self._lines.get(key)
        if lines is None:
            check_line(method, path)
            lines = f"{method} {path} HTTP/1.1\r\nHost: {self._target.authority}"
            if len(self._lines) < _REMEMBERED:
                self._lines[key] = lines
        return lines

    def take(self) -> _Wire | None:
        oldest = self._loop.time() - self._target.idle_expiry
        while self._idle:
            wire = self._idle.pop()
            if wire.idle_since >= oldest and not wire.transport.is_closing():
                return wire
            wire.transport.abort()
        return None

    async def connect(self) -> _Wire:
        _, wire = await self._dialler.connect(self._target, lambda: _Wire(self, self._loop))
        return wire

    def put(self, wire: _Wire) -> None:
        if self._closed:
            wire.transport.abort()
            return
        wire.idle_since = self._loop.time()
        self._idle.append(wire)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._target.idle_expiry, self._close_expired)

    def discard(self, wire: _Wire) -> None:
        if wire in self._idle:
            self._idle.remove(wire)

    def close(self) -> None:
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for wire in self._idle:
            wire.transport.abort()
        self._idle.clear()

    def _close_expired(self) -> None:
        self._sweep = None
        now = self._loop.time()
        oldest = now - self._target.idle_expiry
        fresh = 0
        while fresh < len(self._idle) and self._idle[fresh].idle_since <= oldest:
            self._idle[fresh].transport.abort()
            fresh += 1
        del self._idle[:fresh]
        if self._idle:
            wait = self._idle[0].idle_since + self._target.idle_expiry - now
            self._sweep = self._loop.call_later(wait, self._close_expired)


class _Wire(asyncio.Protocol):
    """One connection: asyncio's protocol and the receiver of the parser's events."""

    __slots__ = (
        "_answer",
        "_answered",
        "_bodiless",
        "_complete",
        "_full",
        "_keep",
        "_left",
        "_parser",
        "_paused",
        "_pool",
        "_quiet",
        "_refused",
        "_rest",
        "idle_since",
        "loop",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, pool: _Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self.loop = loop
        self.idle_since = 0.0
        self._answer: LeanAnswer | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._paused = False
        self._full = False
        """the connection takes nothing at the moment"""
        self._rest: Iterator[bytes] | None = None
        """pieces of the request that are still to be written"""
        self._left = 0
        """bytes of them"""

    # --- for the answer -------------------------------------------------------------------------

    def begin(self, answer: LeanAnswer, method: str) -> None:
        self._answer = answer
        self._answered = False
        """a byte of the answer has come"""
        self._complete = False
        self._keep = False
        self._refused: str | None = None
        self._quiet = 0
        """bytes since the last byte of a body: a head, trailers or extensions of chunks"""
        self._bodiless = method == "HEAD"
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)

    def send(self, head: bytes, body: bytes | Pieces) -> None:
        if not isinstance(body, bytes):
            self._rest, self._left = iter(body), len(body)
            self.transport.write(head)
            self._pump()
        elif len(body) <= _JOIN:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))

    def _pump(self) -> None:
        """Write on, while the connection takes it, and not for too long at once."""
        written = 0
        while self._rest is not None and not self._full and not self.transport.is_closing():
            if written >= _AT_ONCE:
                self.loop.call_soon(self._pump)
                return
            try:
                piece = next(self._rest, None)
            except OSError as error:
                self.fail(FailureClass.CUT_SHORT, f"the body cannot be read: {error}")
                return
            self._left -= len(piece) if piece is not None else 0
            if self._left < 0 or (piece is None and self._left):
                self.fail(FailureClass.CUT_SHORT, "the body is not as long as was said")
            elif piece is None:
                self._rest = None
            else:
                written += len(piece)
                self.transport.write(piece)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def fail(self, failure: FailureClass, text: str) -> None:
        """End the exchange badly, and the wire with it."""
        answer = self._answer
        self._answer = self._rest = None
        self.transport.abort()
        if answer is not None:
            answer.finish(AttemptFailed(failure, text))

    # --- asyncio's side -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._pump()

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            # Nobody asked: whatever it is, it would be taken for the next answer.
            self._pool.discard(self)
            self.transport.abort()
            return
        self._answered = True
        self._quiet += len(data)
        parser = self._parser
        assert parser is not None
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                text = "switches protocols unasked" if isinstance(error, httptools.HttpParserUpgrade) else ""
                self.fail(FailureClass.GARBAGE, f"the answer {text}" if text else str(error))
                return
            self._keep = False  # something follows the answer
        if self._refused is not None:
            self.fail(FailureClass.GARBAGE, self._refused)
        elif self._complete:
            self._finish(answer)
        elif self._quiet > MAX_HEAD:
            self.fail(FailureClass.GARBAGE, f"more than {MAX_HEAD} bytes of head")
        elif answer.status:
            answer.wake()

    def eof_received(self) -> None:
        self._over(None)
        # Not left to the loop: it would first write what is left of the request.
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over(exc)

    # --- the parser's side ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("bytes after the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self._answer
        if answer is None or answer.status:
            return  # a trailer
        if len(name) == 17 and name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            self._refused = "the answer has a transfer encoding nobody asked for"
        answer.headers.append((name, value))

    def on_headers_complete(self) -> None:
        answer = self._answer
        parser = self._parser
        if answer is None or parser is None:
            return
        status = parser.get_status_code()
        if status < 200:
            if status == 101:
                self._refused = "the answer switches protocols unasked"
            answer.headers.clear()
            return
        # What was counted may hold a part of the body, so a doubt is settled by adding up.
        if self._quiet > MAX_HEAD and sum(len(n) + len(v) + 4 for n, v in answer.headers) > MAX_HEAD:
            self._refused = f"more than {MAX_HEAD} bytes of head"
        answer.status = status
        self._keep = parser.should_keep_alive()
        if self._bodiless:
            self._complete = True
            self._parser = None  # it expects the body that a GET would have had

    def on_body(self, body: bytes) -> None:
        if self._complete:
            self._keep = False  # a body where none may be
            return
        self._quiet = 0
        answer = self._answer
        if answer is not None and answer.add(body) > _PAUSE and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is not None and answer.status:
            self._complete = True

    # --- ends -----------------------------------------------------------------------------------

    def _finish(self, answer: LeanAnswer) -> None:
        """The answer is complete: give the wire back before its reader runs."""
        self._answer = None
        transport = self.transport
        sent = self._rest is None and not transport.get_write_buffer_size()
        self._rest = None
        if self._keep and sent and not transport.is_closing():
            self.resume()
            self._pool.put(self)
        else:
            transport.abort()
        answer.finish(None)

    def _over(self, exc: Exception | None) -> None:
        """The upstream will send no more."""
        answer = self._answer
        if answer is None:
            self._pool.discard(self)
            return
        if exc is None and answer.status and not self._keep and _ends_with_connection(answer):
            self._finish(answer)
        elif answer.reused and not self._answered:
            self.fail(FailureClass.STALE_CONNECTION, "the idle connection was closed")
        else:
            self.fail(FailureClass.CUT_SHORT, str(exc) if exc else "the connection was closed too early")


def _ends_with_connection(answer: LeanAnswer) -> bool:
    return answer.header("content-length") is None and answer.header("transfer-encoding") is None
