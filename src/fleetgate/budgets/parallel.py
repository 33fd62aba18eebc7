"""Limits on what runs at the same time. Streams count to their end.

With shared state a gateway leases places of a room, some more than it needs at the moment, and renews
the lease; while the shared state is down it keeps the places it has and admits up to the whole limit.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fleetgate.budgets.gate import ASK, NEVER, Level, Now, Short
from fleetgate.limits import Flight
from fleetgate.shared.port import SharedDown

if TYPE_CHECKING:
    from fleetgate.domain import Booking
    from fleetgate.limits import Limit
    from fleetgate.shared.port import SharedState

LEASE: Final = 60.0
AGAIN_AFTER: Final = 0.25
"""Seconds between two questions for places that were not there."""
DOWN_FOR: Final = 5.0
LONGEST: Final = 86_400.0
"""Seconds after which whoever runs is forgotten: longer than any answer."""
SOON: Final = 1.0
"""Seconds after which a refused caller may ask again: nobody knows when a stream ends."""


class Parallel:
    """One limit on what runs at once."""

    __slots__ = (
        "_asking",
        "_flight",
        "_full_until",
        "_leased_until",
        "_local_until",
        "_places",
        "_shared",
        "_waiting",
        "holder",
        "key",
        "limit",
    )

    def __init__(self, limit: Limit, key: str, shared: SharedState | None = None, holder: str = "") -> None:
        self.limit = limit
        self.key = key
        self.holder = holder
        self._shared = shared
        self._flight = Flight()
        self._places = self._waiting = 0
        self._asking: asyncio.Future[None] | None = None
        self._leased_until = self._full_until = self._local_until = 0.0

    def revise(self, limit: Limit, now: Now) -> None:
        """The same limit with another ceiling: what counts goes on counting."""
        del now
        self.limit = limit

    def short(self, amount: int, now: Now) -> Short | None:
        if not self.limit.ceiling:
            return Short(NEVER)
        wanted = self._flight.count(now.clock) + amount
        if wanted > self.limit.ceiling:
            return Short(SOON)
        if self._shared is None or now.clock < self._local_until:
            return None
        if wanted <= self._places and now.clock < self._leased_until:
            return None
        return Short(SOON) if now.clock < self._full_until else ASK

    def take(self, amount: int, now: Now, name: str) -> ParallelTaken:
        del amount
        self._flight.join(name, now.clock + LONGEST)
        return ParallelTaken(self, name)

    async def fetch(self, amount: int, now: Now) -> None:
        """One question at a time: of two on different lines the earlier one may arrive last. Who comes
        meanwhile waits for its answer; the next is for all of them."""
        self._waiting += amount
        try:
            if self._asking is not None:
                await asyncio.shield(self._asking)  # whoever leaves must not take the answer from the others
                return
            needed = self._flight.count(now.clock) + self._waiting
            spare = max(1, self.limit.ceiling // 10)
            await self._lease(needed, max(needed + spare, self._places), now)
        finally:
            self._waiting -= amount

    async def renew(self, now: Now) -> None:
        """Keep what is in use, give the rest back. Call it every few seconds, well within a lease."""
        running = self._flight.count(now.clock)
        if self._shared is not None and self._asking is None and (running or self._places):
            self._places = min(self._places, running)  # nobody takes meanwhile what goes back
            await self._lease(running, running, now)

    async def _lease(self, needed: int, wanted: int, now: Now) -> None:
        shared, capacity = self._shared, self.limit.ceiling
        if shared is None:
            return
        self._asking = asking = asyncio.get_running_loop().create_future()
        try:
            got = await shared.places(
                self.key, self.holder, capacity=capacity, wanted=min(capacity, wanted), ttl=LEASE
            )
        except SharedDown:
            self._local_until = now.clock + DOWN_FOR
            return
        finally:
            self._asking = None
            asking.set_result(None)
        self._places, self._leased_until = got, now.clock + LEASE
        if got < needed:
            self._full_until = now.clock + AGAIN_AFTER

    def room(self, now: Now) -> int:
        return max(0, self.limit.ceiling - self._flight.count(now.clock))

    def level(self, now: Now) -> Level:
        return Level(self._flight.count(now.clock), 0, None)

    def frees_in(self, now: Now) -> float:
        del now
        return 0.0  # nobody knows when an answer ends

    def leave(self, name: str) -> None:
        self._flight.leave(name)


class ParallelTaken:
    """A place in use."""

    __slots__ = ("_name", "gate")

    def __init__(self, gate: Parallel, name: str) -> None:
        self.gate = gate
        self._name = name

    def hold(self) -> Booking | None:
        return None

    def settle(self, actual: int, now: Now) -> Booking | None:
        del actual, now
        self.gate.leave(self._name)
        return None
