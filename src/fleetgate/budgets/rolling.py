"""Rolling limits: so many units in any stretch of a period.

In one gateway a bucket in memory decides. With shared state a gateway draws a chunk and uses it up in
memory; while the shared state is down it goes on with the bucket in memory, so that a rate may be
exceeded by what other gateways let through, and nobody is refused because of the outage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetgate.budgets.gate import ASK, NEVER, Level, Now, Short
from fleetgate.limits import Bucket
from fleetgate.shared.port import Rate, SharedDown

if TYPE_CHECKING:
    from fleetgate.domain import Booking
    from fleetgate.limits import Limit, Mark
    from fleetgate.shared.port import SharedState

CHUNK: Final = 20
"""A chunk is this part of the burst."""
STALE_AFTER: Final = 5.0
"""Seconds after which drawn units no longer count: they belong to a stretch that is over."""
DOWN_FOR: Final = 5.0


class Rolling:
    """One rolling limit."""

    __slots__ = (
        "_bucket",
        "_burst",
        "_drawn_at",
        "_empty_until",
        "_local_until",
        "_period",
        "_shared",
        "_stock",
        "key",
        "limit",
    )

    def __init__(self, limit: Limit, key: str, shared: SharedState | None = None) -> None:
        assert limit.period is not None
        self.limit = limit
        self.key = key
        self._period = limit.period
        self._burst = limit.at_once
        self._bucket = Bucket()
        self._shared = shared
        self._stock = 0
        self._drawn_at = 0.0
        self._empty_until = 0.0
        self._local_until = 0.0

    def revise(self, limit: Limit, now: Now) -> None:
        """The same limit with another ceiling: what counts goes on counting."""
        used = self._burst - self.room(now) if self._shared is None else 0
        if (limit.rate, limit.at_once) != (self.limit.rate, self._burst) and used:
            self._bucket = Bucket()
            self._bucket.take(limit.rate, self._period, limit.at_once, used, now.clock)
        self.limit = limit
        self._burst = limit.at_once

    def short(self, amount: int, now: Now) -> Short | None:
        limit = self.limit
        if amount > limit.largest:
            return Short(NEVER)
        if self._shared is None or now.clock < self._local_until:
            wait = self._bucket.wait(
                limit.rate, self._period, self._burst, amount, now.clock, largest=limit.largest
            )
            return Short(wait) if wait > 0 else None
        if self._left(now) >= amount:
            return None
        if now.clock < self._empty_until:
            return Short(self._empty_until - now.clock)
        return ASK

    def take(self, amount: int, now: Now, name: str) -> RollingTaken:
        del name
        mark = None
        if self._shared is None or now.clock < self._local_until:
            mark = self._bucket.take(self.limit.rate, self._period, self._burst, amount, now.clock)
        else:
            self._stock = self._left(now) - amount
        return RollingTaken(self, amount, mark)

    async def fetch(self, amount: int, now: Now) -> None:
        shared = self._shared
        if shared is None:
            return
        rate = Rate(self.limit.rate, self._period, self._burst)
        least = min(amount - self._left(now), self._burst)
        if least <= 0:
            return
        try:
            drawn = await shared.draw(self.key, rate, least=least, most=max(least, self._burst // CHUNK))
        except SharedDown:
            self._local_until = now.clock + DOWN_FOR
            return
        if drawn.units:
            self._stock = self._left(now) + drawn.units
            self._drawn_at = now.clock
        else:
            self._empty_until = now.clock + drawn.retry_after

    def room(self, now: Now) -> int:
        if self._shared is not None and now.clock >= self._local_until:
            return max(0, self._left(now))
        return self._bucket.room(
            self.limit.rate, self._period, self._burst, now.clock, largest=self.limit.largest
        )

    def level(self, now: Now) -> Level:
        used = max(0, self.limit.largest - self.room(now))
        return Level(used, 0, self.frees_in(now))

    def frees_in(self, now: Now) -> float:
        return self._bucket.full_in(self.limit.rate, now.clock)

    def correct(self, delta: int, mark: Mark | None, now: Now) -> None:
        if mark is not None:
            self._bucket.correct(self.limit.rate, self._period, delta, now.clock, mark)
        else:
            self._stock = min(self._burst, self._stock - delta)

    def _left(self, now: Now) -> int:
        """Drawn units that still count; a debt stays."""
        if self._stock > 0 and now.clock - self._drawn_at > STALE_AFTER:
            self._stock = 0
        return self._stock


class RollingTaken:
    """Units taken from a bucket; of None nothing was taken."""

    __slots__ = ("_amount", "_mark", "gate")

    def __init__(self, gate: Rolling, amount: int | None, mark: Mark | None = None) -> None:
        self.gate = gate
        self._mark = mark
        self._amount = amount

    def hold(self) -> Booking | None:
        return None

    def settle(self, actual: int, now: Now) -> Booking | None:
        amount, self._amount = self._amount, None
        if amount is not None and actual != amount:
            self.gate.correct(actual - amount, self._mark, now)
        return None
