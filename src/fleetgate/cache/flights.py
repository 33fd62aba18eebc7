"""Single flight: equal requests at the same time are one; the first leads, the others wait for it.

A leader that fails hands over to one of those who wait, so that a fault of the upstream does not set
them all on it at once; after a few failures in a row the rest go on by themselves. Who waits may leave
at any time. A leader whose own caller has left goes on for the others, until none of them is left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.cache.stored import Stored

MOST_LEADERS: Final = 3
"""Leaders of one flight that may fail before the rest go on by themselves."""


class Turn(Enum):
    """What waiting ended with, where it was no answer."""

    LEAD = auto()
    ALONE = auto()


class Flight:
    """One answer on its way, and who waits for it."""

    __slots__ = ("deserted", "failed", "key", "waiting")

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: deque[asyncio.Future[Stored | Turn]] = deque()
        self.failed = 0
        self.deserted: Callable[[], None] | None = None
        """told when nobody waits any more, where the leader only goes on for those who wait"""


class Flights:
    """All answers on their way."""

    def __init__(self) -> None:
        self._flying: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flying)

    def find(self, key: str) -> Flight | None:
        return self._flying.get(key)

    def lead(self, key: str) -> Flight:
        """Begin one. Whoever leads ends it with `landed` or `failed`, whatever happens."""
        flight = self._flying[key] = Flight(key)
        return flight

    async def join(self, flight: Flight) -> Stored | Turn:
        """Wait for the answer. `LEAD`: the flight is now led by whoever asked."""
        future: asyncio.Future[Stored | Turn] = asyncio.get_running_loop().create_future()
        flight.waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                with suppress(ValueError):  # it may just have been passed over
                    flight.waiting.remove(future)
                if not flight.waiting and flight.deserted is not None:
                    flight.deserted()
            elif future.result() is Turn.LEAD:
                self.failed(flight)  # chosen to lead in the moment of leaving
            raise

    def landed(self, flight: Flight, stored: Stored) -> None:
        """The answer is there: everybody gets it."""
        self._end(flight, stored)

    def failed(self, flight: Flight) -> None:
        """The leader has none: somebody else leads, or after too many failures nobody."""
        flight.failed += 1
        flight.deserted = None
        if flight.failed >= MOST_LEADERS:
            self._end(flight, Turn.ALONE)
            return
        while flight.waiting:
            future = flight.waiting.popleft()
            if not future.done():
                future.set_result(Turn.LEAD)
                return
        self._end(flight, Turn.ALONE)

    def _end(self, flight: Flight, result: Stored | Turn) -> None:
        if self._flying.get(flight.key) is flight:
            del self._flying[flight.key]
        waiting, flight.waiting = flight.waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_result(result)
