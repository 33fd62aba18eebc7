"""A rolling limit in whole numbers, so that all who share it count alike and nothing is rounded away.

The bucket has a level. A unit raises it by `cost`, each tick of time lowers it by `drain`; it never
goes above `burst` units. That is GCRA (the level is the distance between its theoretical arrival time
and now), without a division in it. All numbers stay below 2^53, which is as far as a double counts
exactly: Lua in Redis has no other numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fleetgate.shared.port import Rate

MICRO: Final = 1_000_000
_EXACT: Final = 2**52


@dataclass(frozen=True, slots=True)
class Steps:
    """A rate as the level needs it."""

    tick: int
    """microseconds"""
    cost: int
    """what one unit adds to the level"""
    drain: int
    """what one tick takes from it"""
    burst: int
    """units that fit"""

    @property
    def full(self) -> int:
        return self.burst * self.cost

    def seconds(self, ticks: int) -> float:
        return ticks * self.tick / MICRO


def steps(rate: Rate) -> Steps:
    """The finest steps that stay exact: microseconds, but for billions of units in long periods.

    A period that is no whole number of ticks is rounded up.
    """
    period = math.ceil(rate.period * MICRO)
    tick = 1
    while True:
        cost = -(-period // tick)
        common = math.gcd(cost, rate.ceiling)
        if rate.burst * (cost // common) <= _EXACT or cost == 1:
            return Steps(tick, cost // common, rate.ceiling // common, rate.burst)
        tick *= 10


def possible(rate: Rate, least: int) -> bool:
    """Whether a bucket of this rate can ever give `least` units."""
    return rate.ceiling > 0 and least <= rate.burst


@dataclass(slots=True)
class Level:
    """A bucket in this process. `last`: the tick at which `level` was true."""

    level: int = 0
    last: int = 0

    def drain(self, step: Steps, now: int) -> None:
        """Bring the level up to the tick `now`. A clock that went back drains nothing."""
        passed = max(0, now - self.last)
        self.level = max(0, min(step.full, self.level) - passed * step.drain)
        self.last = now

    def draw(self, step: Steps, least: int, most: int) -> tuple[int, int]:
        """Units, and where there are none the ticks until there are `least`."""
        free = (step.full - self.level) // step.cost
        if free < least:
            return 0, -(-(self.level + least * step.cost - step.full) // step.drain)
        units = min(free, most)
        self.level += units * step.cost
        return units, 0

    def give_back(self, step: Steps, units: int) -> None:
        self.level = max(0, self.level - units * step.cost)
