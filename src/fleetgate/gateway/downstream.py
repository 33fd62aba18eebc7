"""The caller's side of one exchange: head, pieces, signs of life, and whether it is still there.

Owns what has gone out. One watcher listens to `receive()` from the end of the request's body to the
end of the answer, because neither the server nor a stream notices a caller who leaves during
prefill. Keep-alives go out only where the caller asked for a stream (or for white space), and the
first one fixes status 200.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine, MutableMapping

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    Headers = list[tuple[bytes, bytes]]

STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Downstream:
    """One answer to one caller."""

    __slots__ = (
        "_alive",
        "_cut",
        "_every",
        "_gone",
        "_headers",
        "_receive",
        "_send",
        "_spawn",
        "_timer",
        "bytes_out",
        "ended",
        "mute",
        "started",
        "status",
        "writing_since",
    )

    def __init__(
        self,
        receive: Receive,
        send: Send,
        spawn: Spawn,
        gone: Callable[[], None],
        cut: Callable[[], None] | None = None,
    ) -> None:
        """`cut` ends the connection at once."""
        self._receive = receive
        self._send = send
        self._spawn = spawn
        self._cut = cut
        self._gone: Callable[[], None] | None = gone
        self._timer: asyncio.TimerHandle | None = None
        self._alive: Callable[[], bytes] | None = None
        self._every = 0.0
        self._headers: Callable[[], Headers] | None = None
        self.started = False
        self.ended = False
        self.mute = False
        """the answer has no place for an error: where it breaks off, the connection does"""
        self.status = 0
        self.bytes_out = 0
        self.writing_since: float | None = None

    def watch(self) -> None:
        """Tell `gone` when the caller leaves before its answer is complete."""
        self._spawn(self._watch())

    def keep_alive(
        self,
        loop: asyncio.AbstractEventLoop,
        first: float,
        every: float,
        sign: Callable[[], bytes],
        headers: Callable[[], Headers],
    ) -> None:
        """Send what `sign` gives after `first` seconds of silence, then every `every`, until something goes
        out."""
        self._alive = sign
        self._every = every
        self._headers = headers
        self._timer = loop.call_later(first, self._due, loop)

    def quiet(self) -> None:
        """No more signs of life: the answer begins, or there is none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the head. Nothing happens where a keep-alive has sent it."""
        self.quiet()
        if self.started:
            return
        self.started = True
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, data: bytes) -> None:
        self.bytes_out += len(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        if self.ended:
            return
        self.quiet()
        self.ended = True
        self.bytes_out += len(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    def cut(self) -> None:
        """End the connection so that the answer does not look complete."""
        self.quiet()
        self.ended = True
        if self._cut is not None:
            self._cut()

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """A complete answer with its length; behind a keep-alive only its body."""
        if not self.started:
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        await self.begin(status, headers)
        await self.end(body)

    def let_go(self) -> None:
        """The exchange is over: nothing of it is held any more."""
        self._gone = self._headers = self._alive = self._cut = None

    async def _watch(self) -> None:
        message = await self._receive()
        while message["type"] != "http.disconnect":
            message = await self._receive()
        if not self.ended and self._gone is not None:
            self.ended = True
            self._gone()

    def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._every, self._due, loop)
        self._spawn(self._sign())

    async def _sign(self) -> None:
        if self._timer is None or self.ended:
            return  # the answer began in the meantime
        if not self.started:
            self.started = True
            self.status = 200
            headers = self._headers() if self._headers is not None else []
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        if self._alive is not None:
            await self.piece(self._alive())
