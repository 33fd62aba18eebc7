"""Limits with calendar windows: counters in the database, used up in memory out of a lease.

A lease is a durable grant out of a counter. One gateway alone is granted everything that is left;
several take small chunks, so that what all of them have spent and hold is never above the ceiling.
Amounts are nano-dollars, requests or tokens.

While the database does not answer, money is refused. What costs nothing goes on: it is counted here
and booked later.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fleetgate.budgets.gate import ASK, NEVER, Level, Now, Short
from fleetgate.domain import Booking
from fleetgate.limits import Measure, spread_ceiling, spread_when
from fleetgate.store.failures import StoreError
from fleetgate.store.leases import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.limits import Limit
    from fleetgate.store.database import Store
    from fleetgate.store.leases import Place

EVERYTHING: Final = 2**62
CHUNK_SHARE: Final = 20
"""A chunk is at most this part of the ceiling…"""
CHUNK_MONEY: Final = 1_000_000_000
"""… and one dollar, …"""
CHUNK_OF_REST: Final = 4
"""… and this part of what nobody has been granted yet."""
IDLE_AFTER: Final = 30.0
"""Seconds after which a lease that nobody uses goes back."""
AGAIN_AFTER: Final = 1.0
"""Seconds between two questions for a grant that was not given, or not answered."""


class Lasting:
    """One limit with a calendar window."""

    __slots__ = (
        "_alone",
        "_asking",
        "_denied_until",
        "_down",
        "_granted",
        "_held",
        "_others",
        "_spent",
        "_start",
        "_store",
        "_taken_at",
        "_total_granted",
        "_waiting",
        "end",
        "key",
        "limit",
        "on_spent",
    )

    def __init__(
        self,
        limit: Limit,
        key: str,
        store: Store,
        *,
        alone: bool,
        on_spent: Callable[[Lasting, int, int], None] | None = None,
    ) -> None:
        """`alone`: no other gateway uses this database. `on_spent(gate, before, after)`: after a booking."""
        self.limit = limit
        self.key = key
        self.end = 0
        self.on_spent = on_spent
        self._alone = alone
        self._store = store
        self._start = 0
        self._granted = self._spent = self._held = self._others = self._total_granted = 0
        self._denied_until = 0.0
        self._down = False
        self._taken_at = 0.0
        self._asking: asyncio.Future[None] | None = None
        self._waiting = 0

    def revise(self, limit: Limit, now: Now) -> None:
        """The same limit with another ceiling: what counts goes on counting."""
        del now
        self.limit = limit
        self._denied_until = 0.0

    def forget(self) -> None:
        """The lease is gone: others took this process for dead. What is spent from it is on record."""
        self._granted = self._spent = self._held = self._others = 0

    def surrender(self, now: Now) -> Place | None:
        """Give up what is left of an idle lease, so that others can have it: which, for the database."""
        idle = now.clock - self._taken_at > IDLE_AFTER
        if self._alone or not idle or self._held or self._asking is not None or self._granted <= self._spent:
            return None
        self._granted = self._spent
        return self.key, self._start

    @property
    def start(self) -> int:
        return self._start

    def short(self, amount: int, now: Now) -> Short | None:
        self._turn(now)
        ceiling = self._ceiling(now)
        if amount > self.limit.ceiling:
            return Short(NEVER)
        if self._spent + self._held + self._others + amount > ceiling:
            return Short(self._frees_in(now))
        if amount <= self._granted - self._spent - self._held:
            return None
        if self._down and self.limit.measure is not Measure.MONEY:
            return None
        if now.clock < self._denied_until:
            return Short(AGAIN_AFTER, unavailable=True) if self._down else Short(self._frees_in(now))
        return ASK

    def take(self, amount: int, now: Now, name: str) -> LastingTaken:
        del name
        self._turn(now)
        self._taken_at = now.clock
        self._held += amount
        return LastingTaken(self, self._start, amount)

    async def fetch(self, amount: int, now: Now) -> None:
        """One question at a time. Who comes meanwhile waits for its answer; the next is for all of them."""
        self._waiting += amount
        try:
            if self._asking is not None:
                await asyncio.shield(self._asking)  # whoever leaves must not take the answer from the others
                return
            self._asking = asking = asyncio.get_running_loop().create_future()
            try:
                await self._ask(amount, now)
            finally:
                self._asking = None
                asking.set_result(None)
        finally:
            self._waiting -= amount

    async def _ask(self, amount: int, now: Now) -> None:
        window, ceiling = self._start, self.limit.ceiling
        least = max(1, self._spent + self._held + amount - self._granted)
        most = EVERYTHING if self._alone else self._chunk(least)
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            (lease,) = await self._store.grants([Wanted(self.key, window, ceiling, least, most)])
        except StoreError:
            self._down = True  # from the answer on: it may have been long in coming
            self._denied_until = now.clock + loop.time() - asked + AGAIN_AFTER
            return
        self._down = False
        if window != self._start:
            return  # a new window began meanwhile
        if lease.granted - self._granted < least:
            self._denied_until = now.clock + AGAIN_AFTER
        self._granted = lease.granted
        self._total_granted = lease.total_granted
        others_spent = lease.total_spent - lease.spent
        self._others = others_spent + lease.total_held - lease.held if self._alone else 0
        if not self._alone:
            self._others_seen(others_spent)

    def _others_seen(self, spent: int) -> None:
        """What others have spent is inside their grants; kept for alerts and for people."""
        self._total_granted = max(self._total_granted, spent)

    def _chunk(self, least: int) -> int:
        chunk = self.limit.ceiling // CHUNK_SHARE
        if self.limit.measure is Measure.MONEY:
            chunk = min(chunk, CHUNK_MONEY)
        rest = (self.limit.ceiling - self._total_granted) // CHUNK_OF_REST
        # A chunk is for those to come. Many who wait already must not be refused, as they would be who
        # have asked too often in vain.
        wanted = self._spent + self._held + self._waiting - self._granted
        return max(least, wanted, min(chunk, rest))

    def room(self, now: Now) -> int:
        self._turn(now)
        return max(0, self._ceiling(now) - self._spent - self._held - self._others)

    def level(self, now: Now) -> Level:
        self._turn(now)
        return Level(self._spent + self._others, self._held, self.frees_in(now))

    def frees_in(self, now: Now) -> float:
        return max(0.0, self.end - now.wall)

    def settled(self, window: int, held: int, actual: int) -> None:
        """An amount of this window found its end."""
        if window != self._start:
            return
        before = self._spent + self._others
        self._held = max(0, self._held - held)
        self._spent += actual
        self._granted = max(self._granted, self._spent + self._held)
        if self.on_spent is not None and actual:
            self.on_spent(self, before, before + actual)

    def _ceiling(self, now: Now) -> int:
        if self.limit.spread:
            return spread_ceiling(self.limit.ceiling, self._start, self.end, now.wall)
        return self.limit.ceiling

    def _frees_in(self, now: Now) -> float:
        used = self._spent + self._held + self._others
        if self.limit.spread and used < self.limit.ceiling:
            return max(1.0, spread_when(used + 1, self.limit.ceiling, self._start, self.end) - now.wall)
        return max(1.0, self.end - now.wall)

    def _turn(self, now: Now) -> None:
        """Into the next window when this one is over. Clocks that go back change nothing."""
        if now.wall < self.end:
            return
        assert self.limit.calendar is not None
        self._start, self.end = self.limit.calendar.span(now.wall)
        self._granted = self._spent = self._held = self._others = self._total_granted = 0
        self._denied_until = 0.0


class LastingTaken:
    """An amount held at a counter, in the window in which it was taken."""

    __slots__ = ("_amount", "_booked", "gate", "window")

    def __init__(self, gate: Lasting, window: int, amount: int) -> None:
        self.gate = gate
        self.window = window
        self._amount: int | None = amount
        self._booked = 0

    def hold(self) -> Booking | None:
        self._booked = self._amount or 0
        return Booking(self.gate.key, self.window, held=self._booked)

    def settle(self, actual: int, now: Now) -> Booking | None:
        del now
        amount, self._amount = self._amount, None
        if amount is None:
            return None
        self.gate.settled(self.window, amount, actual)
        return Booking(self.gate.key, self.window, held=self._booked, spent=actual)
