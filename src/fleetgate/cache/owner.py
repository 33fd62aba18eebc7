"""The answer cache: keeps answers, in this process or in the shared state, and counts what it spares.

Keys are `ISSUER:DIGEST`, the whole digest. In the shared state values are bounded one by one; whatever
fails there counts as a miss. What changes the cache from outside (flush, reload) begins a new
generation: answers that were asked for before it are not kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fleetgate.cache.flights import Flights
from fleetgate.cache.memory import Memory
from fleetgate.cache.stored import Stored, decode, encode
from fleetgate.shared.port import SharedDown

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable

    from fleetgate.config.money import Cache as Settings
    from fleetgate.shared.port import SharedState

PREFIX: Final = "cache:1:"
"""of keys in the shared state; the number is that of the form of values"""
EVERYBODY: Final = "-"
"""the issuer of answers that are shared"""
ON_THEIR_WAY: Final = 4
"""Streams that are being recorded take at most this part of `size`, on top of it."""
MOST_NAMES: Final = 10_000
"""Decisions about names that are remembered."""


@dataclass(slots=True)
class Counts:
    """Since the start of the process."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    kept: int = 0
    too_large: int = 0
    """complete answers above `largest`, and streams for which there was no room while they came"""
    failed: int = 0
    """times the shared state did not answer"""


@dataclass(slots=True)
class _Names:
    """The names whose answers are kept, as patterns: `*` stands for any text, `!` in front forbids."""

    allowed: re.Pattern[str] | None
    forbidden: re.Pattern[str] | None
    known: dict[str, bool] = field(default_factory=dict)

    def cover(self, name: str) -> bool:
        found = self.known.get(name)
        if found is None:
            if len(self.known) >= MOST_NAMES:
                self.known.clear()
            found = self.known[name] = (
                self.allowed is None or self.allowed.fullmatch(name) is not None
            ) and not (self.forbidden is not None and self.forbidden.fullmatch(name))
        return found


class Cache:
    """Built once by `app`; `configure` at start and at each reload."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        shared: SharedState | None = None,
    ) -> None:
        """`clock`: monotonic seconds; `wall`: unix seconds; `shared` None: kept in this process."""
        self.wall = wall
        self._clock = clock
        self._spawn = spawn
        self._shared = shared
        self._memory: Memory | None = None
        self._names = _compiled(())
        self.settings: Settings | None = None
        self.flights = Flights()
        self.counts = Counts()
        self.generation = 0
        self._recording = 0

    # -- settings --------------------------------------------------------------------------------------

    def configure(self, settings: Settings | None) -> Cache | None:
        """Put settings into effect. None: nothing is kept, and what was kept is gone."""
        if settings is None:
            if self.settings is not None:
                self.generation += 1
            self._memory = self.settings = None
            return None
        if self._shared is None:
            if self._memory is None:
                self._memory = Memory(self._clock, settings.size)
            elif self._memory.room != settings.size:
                self._memory.resize(settings.size)
        if self.settings is None or self.settings.names != settings.names:
            self._names = _compiled(settings.names)
        self.settings = settings
        return self

    def covers(self, name: str) -> bool:
        """Whether answers to this name are kept."""
        return self._names.cover(name)

    # -- answers ---------------------------------------------------------------------------------------

    @property
    def remote(self) -> bool:
        """Whether answers are kept where they have to be fetched from."""
        return self._shared is not None

    def get(self, key: str) -> Stored | None:
        """An answer that is kept in this process."""
        return self._memory.get(key) if self._memory is not None else None

    async def fetch(self, key: str) -> Stored | None:
        """An answer out of the shared state; None where that does not answer."""
        if self._shared is None:
            return None
        try:
            value = await self._shared.get(PREFIX + key)
        except SharedDown:
            self.counts.failed += 1
            return None
        return decode(value) if value is not None else None

    def keep(self, key: str, stored: Stored, generation: int) -> None:
        """Keep an answer that was asked for in this generation, unless it is too large."""
        settings = self.settings
        if settings is None or generation != self.generation or stored.ttl <= 0:
            return
        if len(stored.body) > settings.largest:
            self.counts.too_large += 1
        elif self._shared is not None:
            self._spawn(self._put(key, stored))
        elif self._memory is not None and self._memory.put(key, stored):
            self.counts.kept += 1
        else:
            self.counts.too_large += 1

    async def flush(self, issuer: str | None = None) -> int | None:
        """Forget everything, or the answers to one key; how many. None: the shared state does not answer."""
        self.generation += 1
        prefix = f"{issuer}:" if issuer is not None else ""
        if self._shared is None:
            return self._memory.flush(prefix) if self._memory is not None else 0
        try:
            return await self._shared.flush(PREFIX + prefix)
        except SharedDown:
            self.counts.failed += 1
            return None

    async def _put(self, key: str, stored: Stored) -> None:
        assert self._shared is not None
        try:
            await self._shared.put(PREFIX + key, encode(stored), stored.ttl)
        except SharedDown:
            self.counts.failed += 1
        else:
            self.counts.kept += 1

    # -- streams on their way ----------------------------------------------------------------------------

    def take_room(self, size: int) -> bool:
        """Room for bytes of a stream that is being recorded."""
        if self.settings is None or self._recording + size > self.settings.size // ON_THEIR_WAY:
            return False
        self._recording += size
        return True

    def give_room(self, size: int) -> None:
        self._recording -= size

    # -- what it looks like --------------------------------------------------------------------------------

    def figures(self) -> dict[str, Any]:
        """Counts and sizes; what only the shared state knows is null."""
        settings, memory, counts = self.settings, self._memory, self.counts
        return {
            "enabled": settings is not None,
            "where": "shared" if self._shared is not None else "memory",
            "shared_healthy": self._shared.healthy if self._shared is not None else None,
            "entries": memory.entries if memory is not None else None,
            "bytes": memory.bytes if memory is not None else None,
            "size": settings.size if settings is not None and memory is not None else None,
            "largest": settings.largest if settings is not None else None,
            "ttl_s": settings.ttl if settings is not None else None,
            "share": settings.share if settings is not None else None,
            "names": list(settings.names) if settings is not None else [],
            "hits": counts.hits,
            "misses": counts.misses,
            "joined": counts.joined,
            "kept": counts.kept,
            "too_large": counts.too_large,
            "evicted": memory.evicted if memory is not None else 0,
            "failed": counts.failed,
            "in_flight": len(self.flights),
            "recording_bytes": self._recording,
        }


def _compiled(names: Iterable[str]) -> _Names:
    names = tuple(names)
    return _Names(
        _expression(one for one in names if not one.startswith("!")),
        _expression(one[1:] for one in names if one.startswith("!")),
    )


def _expression(patterns: Iterable[str]) -> re.Pattern[str] | None:
    forms = [".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns]
    return re.compile("|".join(f"(?:{form})" for form in forms), re.DOTALL) if forms else None
