"""A limit for one subject: the port of its three kinds, and what they answer.

`short` and `take` never wait, so that a request is checked against all its limits and counted at all
of them in one go. Where the answer lies outside of this process `short` says so, and `fetch` gets it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from fleetgate.domain import Booking
    from fleetgate.limits import Limit

NEVER: Final = math.inf


class Now(NamedTuple):
    """Both clocks, read once."""

    clock: float
    """monotonic seconds"""
    wall: float
    """unix seconds"""


@dataclass(frozen=True, slots=True)
class Short:
    """An amount does not fit. `wait`: seconds until it may, `NEVER` where no waiting helps.

    `ask`: nobody here knows; `fetch` finds out.
    """

    wait: float
    ask: bool = False
    unavailable: bool = False
    """the database does not answer: nothing is known to be used up"""


ASK: Final = Short(0.0, ask=True)


@dataclass(frozen=True, slots=True)
class Level:
    """How far a limit is used, for people."""

    used: int
    held: int
    frees_in: float | None
    """seconds until some or all of it is free again; None: not known"""


class Taken(Protocol):
    """An amount that counts at a gate."""

    @property
    def gate(self) -> Gate: ...

    def hold(self) -> Booking | None:
        """What is held at a lasting counter; None where nothing lasts."""
        ...

    def settle(self, actual: int, now: Now) -> Booking | None:
        """Put the actual amount in its place, once. The booking for the database, where there is one."""
        ...


class Gate(Protocol):
    """One limit, for one subject."""

    @property
    def limit(self) -> Limit: ...

    @property
    def key(self) -> str:
        """The limit's id, and whom it counts for where everybody counts apart."""
        ...

    def short(self, amount: int, now: Now) -> Short | None:
        """None: it fits."""
        ...

    def take(self, amount: int, now: Now, name: str) -> Taken:
        """Count it, fitting or not. `name` is that of the request and attempt."""
        ...

    async def fetch(self, amount: int, now: Now) -> None:
        """Find out, or bring in, what `short` did not know. Never raises because of others."""
        ...

    def revise(self, limit: Limit, now: Now) -> None:
        """The same limit with another ceiling: what counts goes on counting."""
        ...

    def room(self, now: Now) -> int:
        """How much fits now, as far as this process knows."""
        ...

    def level(self, now: Now) -> Level: ...

    def frees_in(self, now: Now) -> float:
        """Seconds until it is whole again; 0 where nobody knows."""
        ...
