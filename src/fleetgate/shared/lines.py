"""Connections to Redis: a few, opened when they are needed, each used for one command at a time.

A connection is opened in the background. A command waits for it only as long as it may take itself;
what it did not wait for is there for the next one, so that a far Redis with TLS can be reached at all.
One whose answer was not awaited is closed: the answer would be taken for that of the next command.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

MOST: Final = 16
DIAL_LIMIT: Final = 5.0
"""Seconds in which a connection must be open, signed in and at its database."""


class LineDown(Exception):
    """There is no connection, or it broke."""


class Line(Protocol):
    """A connection as redis-py has it."""

    async def connect(self) -> None: ...

    async def disconnect(self, nowait: bool = ...) -> None: ...  # noqa: FBT001  (not ours)

    async def can_read(self) -> bool: ...

    async def send_command(self, *args: Any) -> None: ...

    async def read_response(self) -> Any: ...


class Lines:
    """A pool of connections. Errors of Redis pass through as `broken` and `refused` say."""

    def __init__(
        self,
        make: Callable[[], Line],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        *,
        broken: tuple[type[Exception], ...],
        refused: tuple[type[Exception], ...],
    ) -> None:
        """`broken`: what a connection raises that is no longer good; `refused`: an error as an answer."""
        self._make = make
        self._spawn = spawn
        self._broken = broken
        self._refused = refused
        self._idle: list[Line] = []
        self._used = 0
        self._dials: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[Line]] = deque()
        self._open = True

    async def ask(self, *command: Any) -> Any:
        """The answer to a command. Raises LineDown, or what Redis answers as an error."""
        line = await self._borrow()
        good = False
        try:
            await line.send_command(*command)
            reply = await line.read_response()
            good = True
            return reply
        except self._refused:
            good = True
            raise
        except self._broken as error:
            raise LineDown(str(error)) from error
        finally:
            await self._bring_back(line, good=good)

    async def close(self) -> None:
        self._open = False
        for dial in list(self._dials):
            dial.cancel()
        self._fail_waiting("closed")
        while self._idle:
            await self._hang_up(self._idle.pop())

    async def _borrow(self) -> Line:
        while self._idle:
            line = self._idle.pop()
            if not await self._stale(line):
                self._used += 1
                return line
        if not self._open:
            raise LineDown("closed")
        got: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        self._waiting.append(got)
        self._dial()
        try:
            return await got
        except asyncio.CancelledError:
            if got.done() and not got.cancelled() and got.exception() is None:
                self._used -= 1
                self._offer(got.result())
            raise
        finally:
            if got in self._waiting:
                self._waiting.remove(got)

    async def _stale(self, line: Line) -> bool:
        """Whether the other end closed it, or sent what nobody asked for."""
        try:
            stale = await line.can_read()
        except self._broken:
            stale = True
        if stale:
            await self._hang_up(line)
        return stale

    async def _bring_back(self, line: Line, *, good: bool) -> None:
        self._used -= 1
        if good and self._open:
            self._offer(line)
            return
        self._dial()
        await self._hang_up(line)

    def _offer(self, line: Line) -> None:
        while self._waiting:
            got = self._waiting.popleft()
            if not got.done():
                self._used += 1
                got.set_result(line)
                return
        self._idle.append(line)

    def _dial(self) -> None:
        """Open another connection where somebody waits for one and there may be more."""
        lines = self._used + len(self._idle) + len(self._dials)
        if self._open and len(self._waiting) > len(self._dials) and lines < MOST:
            dial = self._spawn(self._connect())
            self._dials.add(dial)
            dial.add_done_callback(self._dialled)

    def _dialled(self, dial: asyncio.Task[None]) -> None:
        """Somebody may have come while it was ending, and taken it for one that still goes on."""
        self._dials.discard(dial)
        self._dial()

    async def _connect(self) -> None:
        line = self._make()
        try:
            async with asyncio.timeout(DIAL_LIMIT):
                await line.connect()
        except TimeoutError:
            self._fail_waiting(f"no connection within {DIAL_LIMIT:g} s")
        except (*self._broken, *self._refused) as error:
            self._fail_waiting(str(error))
        except BaseException:
            await self._hang_up(line)
            raise
        else:
            if self._open:
                self._offer(line)
                return
        await self._hang_up(line)

    def _fail_waiting(self, why: str) -> None:
        while self._waiting:
            got = self._waiting.popleft()
            if not got.done():
                got.set_exception(LineDown(why))

    async def _hang_up(self, line: Line) -> None:
        try:
            await line.disconnect(nowait=True)
        except self._broken:
            return
