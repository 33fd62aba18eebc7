"""Brings to an end what runs left behind that are over: open requests, leases.

Rules: all of it is one transaction, so it happens once. An attempt that was dispatched and has no end
is charged what its reservation expected, and marked as estimated. The rest of what it held stays held:
nobody knows, and an unknown is never refunded. A counter of requests or tokens is charged all that was
held. The exchange itself is recorded as it was known when its last attempt left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
from sqlalchemy import Connection, delete, func, select

from fleetgate.domain import Attempt, Booking, Entry
from fleetgate.store import events, hourly, leases, runs
from fleetgate.store.adding import add_new
from fleetgate.store.events import Event
from fleetgate.store.rows import bent, entry_in, values_of
from fleetgate.store.schema import budget_lease, exchange, money_event, open_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import RowMapping

LOST: Final = "interrupted"
"""outcome of an exchange of which nothing is known but its cost"""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found of runs that are over."""

    requests: int = 0
    attempts: int = 0
    """had no end"""
    estimated_cost: int = 0
    """nano-dollars charged for them"""


def recover(connection: Connection, run: str, at: int) -> Recovered:
    """Ends all other runs that are over. `at`: unix milliseconds."""
    dead = runs.dead(connection, run, at)
    if not dead:
        return Recovered()
    rows = list(connection.execute(select(open_request).where(open_request.c.run.in_(dead))).mappings())
    histories: dict[str, list[Event]] = {row["request_id"]: [] for row in rows}
    for event in events.read(connection, histories):
        histories[event.request_id].append(event)
    ends = [end for history in histories.values() for end in _ends(history, run, at)]
    changes = leases.no_changes()
    for end in ends:
        histories[end.request_id].append(end)
        leases.gather(changes, end.bookings)
    leases.fold(connection, dead)
    leases.add_to_counters(connection, changes)
    add_new(connection, money_event, [end.row() for end in ends])
    _record(connection, [_entry(row, histories[row["request_id"]]) for row in rows])
    connection.execute(delete(open_request).where(open_request.c.run.in_(dead)))
    runs.remove(connection, dead)
    return Recovered(len(rows), len(ends), sum(end.amount for end in ends))


def leave(connection: Connection, run: str) -> None:
    """The ordered end of a run. What it has open, if anything, keeps its row and what is held for it."""
    count = select(func.count()).select_from(open_request).where(open_request.c.run == run)
    if connection.execute(count).scalar_one():
        mine = select(budget_lease.c.counter, budget_lease.c.window).where(budget_lease.c.run == run)
        leases.give_back(connection, run, [(row[0], row[1]) for row in connection.execute(mine)])
    else:
        leases.fold(connection, [run])
        runs.remove(connection, [run])


def _ends(history: Sequence[Event], run: str, at: int) -> list[Event]:
    """The end of each attempt that has none."""
    ended = {event.key for event in history if event.ends}
    left = {event.key for event in history if event.kind == events.DISPATCH}
    found = []
    for event in history:
        if event.kind != events.RESERVE or event.key in ended:
            continue
        if event.key in left:
            charged = min(event.expected, event.amount)
            kind, bookings = events.SETTLE, tuple(_charged(one, event) for one in event.bookings)
        else:
            charged, kind, bookings = 0, events.RELEASE, events.freed(event.bookings)
        found.append(
            Event(
                event.request_id,
                event.attempt,
                kind,
                0,
                at,
                run,
                charged,
                event.expected,
                kind == events.SETTLE,
                bookings,
            )
        )
    return found


def _charged(held: Booking, reserve: Event) -> Booking:
    """Money is what holds the whole bound; of anything else all that is held counts as used."""
    amount = min(reserve.expected, held.held) if held.held == reserve.amount else held.held
    return Booking(held.counter, held.window, -amount, amount)


def _record(connection: Connection, entries: list[Entry]) -> None:
    added = [entry for entry in entries if add_new(connection, exchange, [values_of(entry, _as_it_is)])]
    if added:
        hourly.add(connection, added)


def _as_it_is(text: str) -> str:
    return text  # secrets were taken out when the document was written


def _entry(row: RowMapping, history: Sequence[Event]) -> Entry:
    """The exchange as it was known, with what its attempts were charged."""
    charged: dict[int, int] = {}
    estimated = set()
    for event in history:
        if event.ends or event.kind == events.ADJUST:
            charged[event.attempt] = charged.get(event.attempt, 0) + event.amount
            if event.estimated:
                estimated.add(event.attempt)
    try:
        entry = entry_in(row["document"])
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        entry = _bare(row, charged)
    attempts = tuple(
        replace(
            attempt,
            cost=charged[attempt.number] if attempt.cost is not None else None,
            estimated=attempt.estimated or attempt.number in estimated,
        )
        if attempt.number in charged
        else attempt
        for attempt in entry.attempts
    )
    return bent(replace(entry, request_id=row["request_id"], attempts=attempts))


def _bare(row: RowMapping, charged: dict[int, int]) -> Entry:
    """All that is known of an exchange whose document cannot be read."""
    attempts = tuple(Attempt("", LOST, 0.0, 0.0, number=number) for number in charged)
    return Entry(row["request_id"], row["at"] / 1e3, "", "", "", 0, LOST, 0.0, attempts=attempts)
