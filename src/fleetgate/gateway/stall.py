"""A timer that is cheap to push back: for limits on silence inside a running answer.

Marking progress only stores a time; the loop's timer fires once per limit, looks at the mark, and
sleeps for the rest. Two limits share it, each with a mark of its own: the upstream's silence while we
read, the caller's while we write. Passing on a comment of the engine is no progress of its answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Stall:
    """Calls `late(writing)` once when nothing moved for the limit of the current direction."""

    __slots__ = (
        "_handle",
        "_late",
        "_loop",
        "_read_limit",
        "_read_mark",
        "_write_limit",
        "_write_mark",
        "_writing",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        read_limit: float,
        write_limit: float,
        late: Callable[[bool], None],
    ) -> None:
        self._loop = loop
        self._read_limit = read_limit
        self._write_limit = write_limit
        self._late = late
        self._read_mark = self._write_mark = loop.time()
        self._writing = False
        self._handle: asyncio.TimerHandle | None = loop.call_later(min(read_limit, write_limit), self._look)

    def reading(self, *, progress: bool = True) -> None:
        """We wait for the upstream. `progress`: what came last was more than a comment of the engine."""
        if progress:
            self._read_mark = self._loop.time()
        elif self._writing:  # the time that the caller took is not the upstream's
            self._read_mark += self._loop.time() - self._write_mark
        self._writing = False

    def writing(self) -> None:
        self._writing = True
        self._write_mark = self._loop.time()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        until = self._write_mark + self._write_limit if self._writing else self._read_mark + self._read_limit
        rest = until - self._loop.time()
        if rest > 0:
            pause = min(rest, self._read_limit, self._write_limit)  # the direction may change meanwhile
            self._handle = self._loop.call_later(pause, self._look)
        else:
            self._handle = None
            self._late(self._writing)
