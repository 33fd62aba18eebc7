"""The ledger as a whole: whether its sums are right, and what is kept of it for good.

Rules: every counter is the sum of the bookings of its events and of what exchanges without events
have added (`counted`). What is deleted is carried forward first, so that this holds for ever. Events
are deleted by whole requests, once those are closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, and_, delete, exists, select

from fleetgate.domain import Booking
from fleetgate.store import events, leases
from fleetgate.store.adding import add_new
from fleetgate.store.events import Event
from fleetgate.store.schema import budget_lease, counter, money_event, open_request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetgate.store.leases import Changes, Place


def check(connection: Connection) -> list[str]:
    """What is wrong with the money, one line each. Reads every event: for nights, and for doctors."""
    sums = _sums(connection)
    findings = []
    for place, total in sorted(_stored_sums(connection).items()):
        name = f"counter {place[0]}, window {place[1]}"
        told = sums.pop(place, _Sum())
        spent = total.spent - total.counted
        if (told.spent, told.held) != (spent, total.held):
            findings.append(
                f"{name}: spent {spent} and held {total.held}, where its events say "
                f"{told.spent} and {told.held}"
            )
        if total.granted != total.own + total.leased:
            findings.append(
                f"{name}: granted {total.granted}, where its parts are {total.own + total.leased}"
            )
        if total.exceeded:
            findings.append(f"{name}: a lease has spent and holds more than it is granted")
    findings += [
        f"counter {place[0]}, window {place[1]}: not there, where events say {told.spent} and {told.held}"
        for place, told in sorted(sums.items())
        if (told.spent or told.held) and not told.carried
    ]
    return findings + _hanging(connection)


@dataclass(slots=True)
class _Sum:
    granted: int = 0
    spent: int = 0
    held: int = 0
    counted: int = 0
    own: int = 0
    """spent and held at the counter itself"""
    leased: int = 0
    exceeded: bool = False
    carried: bool = True
    """nothing but carries: the counter was deleted when its window was long over"""


def _sums(connection: Connection) -> dict[Place, _Sum]:
    found: dict[Place, _Sum] = {}
    query = select(money_event.c.kind, money_event.c.bookings).where(money_event.c.bookings != "[]")
    for kind, text in connection.execute(query.execution_options(yield_per=events.AT_A_TIME)):
        for one in events.bookings_of(text):
            told = found.setdefault((one.counter, one.window), _Sum())
            told.spent += one.spent
            told.held += one.held
            told.carried = told.carried and kind == events.CARRY
    return found


def _stored_sums(connection: Connection) -> dict[Place, _Sum]:
    found: dict[Place, _Sum] = {}
    for row in connection.execute(select(counter)).mappings():
        found[row["id"], row["window"]] = _Sum(
            row["granted"], row["spent"], row["held"], row["counted"], row["spent"] + row["held"]
        )
    for row in connection.execute(select(budget_lease)).mappings():
        total = found.setdefault((row["counter"], row["window"]), _Sum())
        total.spent += row["spent"]
        total.held += row["held"]
        total.counted += row["counted"]
        total.leased += row["granted"]
        total.exceeded |= row["spent"] + row["held"] > row["granted"]
    return found


def _hanging(connection: Connection) -> list[str]:
    """Attempts without an end whose request is not open, and ends of what never was."""
    end = money_event.alias("end")
    same = and_(end.c.request_id == money_event.c.request_id, end.c.attempt == money_event.c.attempt)
    ended = exists().where(same, end.c.kind.in_((events.SETTLE, events.RELEASE)))
    begun = exists().where(same, end.c.kind == events.RESERVE)
    is_open = exists().where(open_request.c.request_id == money_event.c.request_id)
    found = select(money_event.c.request_id, money_event.c.attempt)
    hanging = found.where(money_event.c.kind == events.RESERVE, ~ended, ~is_open)
    stray = found.where(money_event.c.kind.in_((events.SETTLE, events.RELEASE)), ~begun)
    return [
        *(f"request {row[0]}, attempt {row[1]}: has no end" for row in connection.execute(hanging)),
        *(f"request {row[0]}, attempt {row[1]}: has no begin" for row in connection.execute(stray)),
    ]


def carry(connection: Connection, before: int) -> int:
    """Puts what closed requests from before a time (unix milliseconds) come to into one event per counter.

    Deletes their events, and says how many; sums stay what they were. In a transaction that may write.
    """
    later = money_event.alias("later")
    recent = exists().where(later.c.request_id == money_event.c.request_id, later.c.at >= before)
    is_open = exists().where(open_request.c.request_id == money_event.c.request_id)
    old = and_(money_event.c.at < before, money_event.c.kind != events.CARRY, ~recent, ~is_open)
    sums, last = leases.no_changes(), 0
    requests = set()
    for row in connection.execute(select(money_event).where(old)):
        event = events.event_of(row)
        requests.add(event.request_id)
        leases.gather(sums, event.bookings)
        last = max(last, event.at)
    gone = _delete(connection, requests)
    _carry(connection, sums, last)
    _forget_carried(connection)
    return gone


def _delete(connection: Connection, requests: Iterable[str]) -> int:
    names, gone = sorted(requests), 0
    for at in range(0, len(names), events.AT_A_TIME):
        part = money_event.c.request_id.in_(names[at : at + events.AT_A_TIME])
        gone += connection.execute(delete(money_event).where(part)).rowcount
    return gone


def _carry(connection: Connection, sums: Changes, at: int) -> None:
    """One carry for each counter, in place of the one before it."""
    places = {f"carry:{window}:{name}": (name, window) for name, window in sums}
    before = {event.request_id: event for event in events.read(connection, places)}
    for event in before.values():
        leases.gather(sums, event.bookings)
    _delete(connection, before)
    carries = [
        Event(
            name,
            0,
            events.CARRY,
            before[name].seq + 1 if name in before else 0,
            at,
            "",
            0,
            0,
            False,
            (Booking(*place, sums[place].held, sums[place].spent),),
        )
        for name, place in sorted(places.items())
    ]
    add_new(connection, money_event, [event.row() for event in carries])


def _forget_carried(connection: Connection) -> None:
    """Carries of counters that are deleted themselves."""
    query = select(money_event).where(money_event.c.kind == events.CARRY)
    carried = {row.request_id: events.bookings_of(row.bookings) for row in connection.execute(query)}
    there = {(row[0], row[1]) for row in connection.execute(select(counter.c.id, counter.c.window))}
    there.update(
        (row[0], row[1]) for row in connection.execute(select(budget_lease.c.counter, budget_lease.c.window))
    )
    _delete(
        connection,
        [name for name, of in carried.items() if not any((one.counter, one.window) in there for one in of)],
    )
