"""The events of money: reserve, dispatch, settle, release, adjust, carry; rows of `money_event`.

Rules: they are added, never changed, and unique by request, attempt, kind and number. Their bookings
are signed: what the event added to each counter. `reserve` and `dispatch` are written together, before
a byte leaves. One `settle` or `release` ends an attempt. `adjust` 1 is what it cost above its bound;
`adjust` 2 is the difference, where another gateway had ended an attempt whose own end came after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Connection, select

from fleetgate.domain import Booking, Settlement
from fleetgate.store.schema import money_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fleetgate.domain import Reservation

RESERVE: Final = "reserve"
DISPATCH: Final = "dispatch"
SETTLE: Final = "settle"
RELEASE: Final = "release"
ADJUST: Final = "adjust"
CARRY: Final = "carry"

EXCESS: Final = 1
"""number of an `adjust`: above the bound"""
LATE: Final = 2
"""number of an `adjust`: an end that came after the attempt had been ended for it"""

AT_A_TIME: Final = 500

Key = tuple[str, int]
"""A request and the number of an attempt."""

_decode: Final = msgspec.json.Decoder(list[tuple[str, int, int, int]]).decode


@dataclass(frozen=True, slots=True)
class Event:
    request_id: str
    attempt: int
    kind: str
    seq: int
    at: int
    """unix milliseconds"""
    run: str
    amount: int
    expected: int
    estimated: bool
    bookings: tuple[Booking, ...]

    @property
    def key(self) -> Key:
        return (self.request_id, self.attempt)

    @property
    def ends(self) -> bool:
        return self.kind in (SETTLE, RELEASE)

    def row(self) -> tuple[Any, ...]:
        bookings = [(one.counter, one.window, one.held, one.spent) for one in self.bookings]
        return (
            self.request_id,
            self.attempt,
            self.kind,
            self.seq,
            self.at,
            self.run,
            self.amount,
            self.expected,
            self.estimated,
            msgspec.json.encode(bookings).decode() if bookings else "[]",
        )


def event_of(row: Sequence[Any]) -> Event:
    request_id, attempt, kind, seq, at, run, amount, expected, estimated, bookings = row
    return Event(
        *(request_id, attempt, kind, seq, at, run, amount, expected),
        estimated=bool(estimated),
        bookings=bookings_of(bookings),
    )


def bookings_of(text: str) -> tuple[Booking, ...]:
    return tuple(Booking(*one) for one in _decode(text)) if text != "[]" else ()


def read(connection: Connection, requests: Iterable[str]) -> Iterator[Event]:
    """All events of these requests."""
    names = sorted(requests)
    for at in range(0, len(names), AT_A_TIME):
        query = select(money_event).where(money_event.c.request_id.in_(names[at : at + AT_A_TIME]))
        yield from map(event_of, connection.execute(query))


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes down what one run does at one moment."""

    run: str
    at: int

    def begin(self, reservation: Reservation) -> tuple[Event, Event]:
        """The attempt may leave."""
        return (
            self._event(
                RESERVE,
                0,
                reservation,
                amount=reservation.bound,
                expected=reservation.expected,
                bookings=reservation.bookings,
            ),
            self._event(DISPATCH, 0, reservation, amount=0, expected=reservation.expected),
        )

    def end(self, settlement: Settlement) -> Iterator[Event]:
        """What an attempt came to: what was held, at most, and apart from it what was more."""
        kind = RELEASE if settlement.released else SETTLE
        within: tuple[Booking, ...] = settlement.bookings
        above: tuple[Booking, ...] = ()
        if settlement.excess:
            above = tuple(
                Booking(one.counter, one.window, 0, one.spent - one.held)
                for one in settlement.bookings
                if one.spent > one.held
            )
            within = tuple(
                Booking(one.counter, one.window, one.held, min(one.spent, one.held))
                for one in settlement.bookings
            )
        yield self._event(
            kind, 0, settlement, amount=settlement.cost - settlement.excess, bookings=freed(within)
        )
        if settlement.excess:
            yield self._event(ADJUST, EXCESS, settlement, amount=settlement.excess, bookings=above)

    def late(self, settlement: Settlement, before: Sequence[Event]) -> Event | None:
        """The difference to how the attempt was ended meanwhile; None: there is none."""
        amount = settlement.cost - sum(one.amount for one in before)
        differences = {(one.counter, one.window): one for one in freed(settlement.bookings)}
        for one in (booking for event in before for booking in event.bookings):
            mine = differences.get((one.counter, one.window)) or Booking(one.counter, one.window)
            differences[one.counter, one.window] = Booking(
                one.counter, one.window, mine.held - one.held, mine.spent - one.spent
            )
        bookings = tuple(one for one in differences.values() if one.held or one.spent)
        if not amount and not bookings:
            return None
        return self._event(ADJUST, LATE, settlement, amount=amount, bookings=bookings)

    def _event(
        self,
        kind: str,
        seq: int,
        cause: Reservation | Settlement,
        *,
        amount: int,
        expected: int = 0,
        bookings: tuple[Booking, ...] = (),
    ) -> Event:
        return Event(
            cause.request_id,
            cause.attempt,
            kind,
            seq,
            self.at,
            self.run,
            amount,
            expected,
            isinstance(cause, Settlement) and cause.estimated,
            bookings,
        )


def freed(bookings: Iterable[Booking]) -> tuple[Booking, ...]:
    """Bookings of a settlement as they change the counters: what was held is taken back."""
    return tuple(Booking(one.counter, one.window, -one.held, one.spent) for one in bookings)
