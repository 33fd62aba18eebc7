"""Stored answers in this process, bounded in bytes: the one used longest ago goes first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import TLRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.cache.stored import Stored


@dataclass(frozen=True, slots=True)
class _Held:
    stored: Stored
    size: int
    until: float


def _size(held: _Held) -> int:
    return held.size


def _until(_key: str, held: _Held, _now: float) -> float:
    return held.until


class Memory:
    """Never more than `room` bytes of keys and values, by our own count."""

    def __init__(self, clock: Callable[[], float], room: int) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._held = self._table(room)
        self.evicted = 0
        """answers that went to make room"""

    @property
    def entries(self) -> int:
        return len(self._held)

    @property
    def bytes(self) -> int:
        return int(self._held.currsize)

    @property
    def room(self) -> int:
        return int(self._held.maxsize)

    def get(self, key: str) -> Stored | None:
        held = self._held.get(key)
        return held.stored if held is not None else None

    def put(self, key: str, stored: Stored) -> bool:
        """Whether there is room for it at all."""
        held = _Held(stored, stored.size(key), self._clock() + stored.ttl)
        if held.size > self.room:
            return False
        self._put(key, held)
        return True

    def resize(self, room: int) -> None:
        """What does not fit any more goes, the oldest first."""
        before, self._held = self._held, self._table(room)
        for key in list(before):  # in the order in which they expire
            held = before.get(key)
            if held is not None and held.size <= room:
                self._put(key, held)

    def flush(self, prefix: str = "") -> int:
        """Remove what stands under keys that begin with `prefix`; how many."""
        keys = [key for key in list(self._held) if key.startswith(prefix)]
        if not prefix:
            self._held.clear()
            return len(keys)
        return sum(self._held.pop(key, None) is not None for key in keys)

    def _table(self, room: int) -> TLRUCache[str, _Held, float]:
        return TLRUCache(room, _until, self._clock, _size)

    def _put(self, key: str, held: _Held) -> None:
        self._held.expire()
        before = len(self._held) + (key not in self._held)
        self._held[key] = held
        self.evicted += before - len(self._held)
