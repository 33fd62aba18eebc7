"""Makes guessing keys slow: a source that tries many wrong keys is refused for a while.

Only different keys count: a program that repeats one old key guesses nothing. The table is bounded;
the source that has been in it longest goes first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES: Final = 10
WITHIN: Final = 60.0
SHUT_FOR: Final = 300.0
MOST: Final = 4096
"""Sources that are remembered."""


@dataclass(slots=True)
class _Tries:
    keys: dict[int, float] = field(default_factory=dict)
    """when each wrong key was tried first"""
    until: float = 0.0


class Throttle:
    """Counts wrong keys by where they come from. Times are seconds of the given clock."""

    def __init__(self, clock: Callable[[], float], report: Callable[..., None]) -> None:
        self._clock = clock
        self._report = report
        self._sources: OrderedDict[str, _Tries] = OrderedDict()

    def __len__(self) -> int:
        """Sources that failed lately: while there are none, nobody need be looked up."""
        return len(self._sources)

    def shut_for(self, address: str) -> float:
        """Seconds for which this source is still refused; 0: it is not."""
        if not self._sources:
            return 0.0
        tries = self._sources.get(_source(address))
        return max(0.0, tries.until - self._clock()) if tries is not None else 0.0

    def failed(self, address: str, presented: bytes) -> None:
        """A wrong key came from here."""
        now, source = self._clock(), _source(address)
        tries = self._sources.get(source)
        if tries is None:
            while len(self._sources) >= MOST:
                self._sources.popitem(last=False)
            tries = self._sources[source] = _Tries()
        if now < tries.until:
            return
        tries.keys = {key: at for key, at in tries.keys.items() if now - at < WITHIN}
        tries.keys.setdefault(hash(presented), now)
        if len(tries.keys) >= TRIES:
            tries.keys.clear()
            tries.until = now + SHUT_FOR
            self._report("source_shut", "warning", address=source, seconds=SHUT_FOR, why="many wrong keys")


def _source(address: str) -> str:
    """Who has one address of IPv6 has all of its network."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(found) >> 64 << 64)}/64"
