"""Shared state of one gateway alone: nothing leaves the process, nothing is ever down.

It is also where the answer cache keeps its values, bounded in bytes: the one used longest ago goes first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cachetools import TLRUCache

from fleetgate.shared.bucket import MICRO, Level, possible, steps
from fleetgate.shared.port import Drawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.shared.port import Rate

ROOM: Final = 64 * 1024 * 1024
"""Bytes of values."""
OVERHEAD: Final = 200
"""Bytes that a value takes beside its own and its key's."""
SWEEP: Final = 10_000
"""Buckets at which the empty ones are dropped."""


@dataclass(frozen=True, slots=True)
class _Value:
    data: bytes
    size: int
    until: float


@dataclass(slots=True)
class _Bucket:
    rate: Rate
    level: Level = field(default_factory=Level)


def _size(value: _Value) -> int:
    return value.size


def _until(_key: str, value: _Value, _now: float) -> float:
    return value.until


class Memory:
    """Buckets, rooms and values in this process."""

    healthy = True

    def __init__(self, clock: Callable[[], float], room: int = ROOM) -> None:
        """`clock`: monotonic seconds. `room`: bytes of values."""
        self._clock = clock
        self._values: TLRUCache[str, _Value, float] = TLRUCache(room, _until, clock, _size)
        self._buckets: dict[str, _Bucket] = {}
        self._rooms: dict[str, dict[str, tuple[int, float]]] = {}

    @property
    def size(self) -> int:
        """Bytes that the values take."""
        return int(self._values.currsize)

    def __len__(self) -> int:
        return len(self._values)

    async def draw(self, bucket: str, rate: Rate, *, least: int, most: int) -> Drawn:
        if not possible(rate, least):
            return Drawn(0, math.inf)
        step = steps(rate)
        units, ticks = self._level(bucket, rate).draw(step, least, most)
        return Drawn(units, step.seconds(ticks))

    async def give_back(self, bucket: str, rate: Rate, units: int) -> None:
        if rate.ceiling > 0:
            self._level(bucket, rate).give_back(steps(rate), units)

    async def places(self, room: str, holder: str, *, capacity: int, wanted: int, ttl: float) -> int:
        now = self._clock()
        leases = self._rooms.setdefault(room, {})
        for name in [name for name, (_, until) in leases.items() if until <= now or name == holder]:
            del leases[name]
        taken = sum(count for count, _ in leases.values())
        got = max(0, min(wanted, capacity - taken))
        if got:
            leases[holder] = (got, now + ttl)
        if not leases:
            del self._rooms[room]
        return got

    async def get(self, key: str) -> bytes | None:
        value = self._values.get(key)
        return value.data if value is not None else None

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        size = len(value) + len(key.encode()) + OVERHEAD
        self._values.pop(key, None)
        if size <= self._values.maxsize and ttl > 0:
            self._values[key] = _Value(value, size, self._clock() + ttl)

    async def flush(self, prefix: str) -> int:
        found = [key for key in self._values if key.startswith(prefix)]
        return sum(self._values.pop(key, None) is not None for key in found)

    async def close(self) -> None:
        self._values.clear()

    def _level(self, name: str, rate: Rate) -> Level:
        """The level of a bucket, now. One whose rate was changed keeps what it has in units."""
        step = steps(rate)
        now = math.floor(self._clock() * MICRO) // step.tick
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= SWEEP:
                self._sweep()
            bucket = self._buckets[name] = _Bucket(rate, Level(0, now))
        elif bucket.rate != rate:
            before = steps(bucket.rate)
            level = -(-bucket.level.level * step.cost // before.cost)
            last = bucket.level.last * before.tick // step.tick
            bucket.rate, bucket.level = rate, Level(level, last)
        bucket.level.drain(step, now)
        return bucket.level

    def _sweep(self) -> None:
        now = math.floor(self._clock() * MICRO)
        for name, bucket in list(self._buckets.items()):
            step = steps(bucket.rate)
            bucket.level.drain(step, now // step.tick)
            if not bucket.level.level:
                del self._buckets[name]
