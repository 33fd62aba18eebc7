"""The port to state that several gateways share: chunks of rates, places, values that expire.

Rules: nothing here is called once per request. A gateway draws a chunk of a rate, or leases places,
and uses them up in memory. Whatever fails raises `SharedDown` within `PATIENCE`, and after a few
failures at once for a while, so that a request never waits long for a machine that is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

PATIENCE: Final = 0.05
"""Seconds that one call may take."""


class SharedDown(Exception):
    """The shared state does not answer; the message says why, without secrets."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A rolling limit: `ceiling` units in `period` seconds, at most `burst` of them at once (GCRA)."""

    ceiling: int
    period: float
    burst: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a bucket gave. `retry_after`: seconds until it could give `least`; 0 where it gave some.

    It is infinite where the bucket never holds that many.
    """

    units: int
    retry_after: float = 0.0


class SharedState(Protocol):
    """Six verbs. Keys are plain text without secrets; implementations put a prefix before them."""

    @property
    def healthy(self) -> bool:
        """Whether the last call was answered."""
        ...

    async def draw(self, bucket: str, rate: Rate, *, least: int, most: int) -> Drawn:
        """Take between `least` and `most` units out of a bucket, or none if not even `least` is there."""
        ...

    async def give_back(self, bucket: str, rate: Rate, units: int) -> None:
        """Units that were drawn and not used."""
        ...

    async def places(self, room: str, holder: str, *, capacity: int, wanted: int, ttl: float) -> int:
        """Lease `wanted` places of a room that has `capacity`, instead of what `holder` leased before.

        Returns how many it has now, at most `wanted`; other holders keep theirs. A lease that is not
        renewed within `ttl` seconds is void. After `SharedDown` it is unknown whether the new lease or
        the one before is in force: count on the smaller one.
        """
        ...

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, ttl: float) -> None: ...

    async def flush(self, prefix: str) -> int:
        """Delete the values whose keys begin with `prefix`, without blocking others; how many."""
        ...

    async def close(self) -> None: ...
