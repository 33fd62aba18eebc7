"""What a request holds: at the limits of its caller, and at those of a candidate that costs money."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final

from fleetgate.domain import Settlement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleetgate.budgets.gate import Now, Taken
    from fleetgate.domain import Booking, Principal, Usage
    from fleetgate.limits import Limit
    from fleetgate.live import Account, Deployment
    from fleetgate.pricing import Price


@dataclass(frozen=True, slots=True)
class Counts:
    """What an exchange or an attempt amounts to, estimated or counted: each measure by its name."""

    input_tokens: int = 0
    output_tokens: int = 0
    money: int = 0
    requests: int = 1
    parallel: ClassVar[int] = 1

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


NOTHING: Final = Counts(requests=0)


def counted(usage: Usage, estimate: Counts, money: int = 0) -> Counts:
    """What was really used; where nobody said, the estimate."""
    tokens_in, tokens_out = usage.input_tokens, usage.output_tokens
    return Counts(
        max(0, tokens_in) if tokens_in is not None else estimate.input_tokens,
        max(0, tokens_out) if tokens_out is not None else estimate.output_tokens,
        money,
    )


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose limits apply: the principal, and the name it asks for."""

    principal: Principal
    role: str

    def subject(self) -> dict[str, str | None]:
        who = self.principal
        return {"key": who.id, "alias": who.alias, "user": who.user, "team": who.team, "role": self.role}


@dataclass(slots=True)
class Admission:
    """A request that its caller's own limits let through, until `finish`."""

    caller: Caller
    estimate: Counts
    taken: tuple[Taken, ...] = ()
    only_local: Limit | None = None
    """a limit that leaves own machines only"""
    warned: tuple[Limit, ...] = ()

    def finish(self, counts: Counts, now: Now) -> tuple[Booking, ...]:
        """Put what was used in the place of what was estimated. What has to be booked, once."""
        taken, self.taken = self.taken, ()
        return tuple(_settled(taken, counts, now))


@dataclass(slots=True)
class Hold:
    """An attempt that its candidate's limits let through. Ends in exactly one `Settlement`, or `release`."""

    deployment: Deployment
    account: Account | None
    price: Price
    request_id: str
    number: int
    estimate: Counts
    """`money`: the bound"""
    expected: int
    taken: tuple[Taken, ...]
    cap: int | None = None
    """output tokens to which the request has to be limited, so that it fits"""
    durable: bool = False
    """the database knows of it: it costs money"""
    warned: tuple[Limit, ...] = field(default=())

    def holds(self) -> tuple[Booking, ...]:
        """What is to be held at lasting counters."""
        return tuple(one for taken in self.taken if (one := taken.hold()) is not None)

    def settle(
        self, counts: Counts, now: Now, *, estimated: bool = False, released: bool = False
    ) -> tuple[Settlement | None, tuple[Booking, ...]]:
        """The end: a settlement where money is held, else bookings for the exchange's own line."""
        taken, self.taken = self.taken, ()
        bookings = tuple(_settled(taken, counts, now))
        if not self.durable:
            return None, tuple(one for one in bookings if one.spent)
        self.durable = False
        return (
            Settlement(
                self.request_id,
                self.number,
                counts.money,
                released,
                estimated,
                max(0, counts.money - self.estimate.money),
                bookings,
            ),
            (),
        )


def _settled(taken: Iterable[Taken], counts: Counts, now: Now) -> Iterable[Booking]:
    for one in taken:
        booking = one.settle(one.gate.limit.amount_of(counts), now)
        if booking is not None and (booking.held or booking.spent):
            yield booking


def merged(bookings: Iterable[Booking]) -> tuple[Booking, ...]:
    """One booking for each counter and window."""
    bookings = tuple(bookings)
    if len(bookings) < 2:
        return bookings
    sums: dict[tuple[str, int], Booking] = {}
    for one in bookings:
        before = sums.get((one.counter, one.window))
        sums[one.counter, one.window] = (
            one
            if before is None
            else replace(one, held=one.held + before.held, spent=one.spent + before.spent)
        )
    return tuple(sums.values())


def subject_of(
    caller: Mapping[str, str | None], deployment: Deployment, account: Account | None
) -> dict[str, str | None]:
    """Whose limits apply to an attempt."""
    node = deployment.engine.node
    return {
        **caller,
        "model": deployment.model.name,
        "deployment": deployment.id,
        "node": node.name if node.local else None,
        "provider": None if node.local else node.name,
        "account": account.id if account is not None else None,
    }
