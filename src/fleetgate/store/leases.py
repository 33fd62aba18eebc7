"""Lasting counters and the leases out of them: rows of `counter` and `budget_lease`.

Rules: `counter.granted` is always `counter.spent + counter.held` and what is granted to all leases;
a lease never holds and has spent more than it is granted. A grant leaves `granted` at or below the
ceiling. Only what has really been spent may lift it above: then lease and counter grow together.
Counters are locked in the order of their ids, so that two gateways never wait for each other in a
circle. Nothing here goes below zero.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, and_, delete, func, literal, select, union_all, update

from fleetgate.store.adding import adding, mark, parts
from fleetgate.store.schema import budget_lease, counter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, RowMapping

    from fleetgate.domain import Booking

Place = tuple[str, int]
"""A counter and the begin of its window."""

AT_A_TIME: Final = 500
"""values of one `IN (…)`"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question for a grant: `most` units if they are left below the ceiling, `least` or none."""

    counter: str
    window: int
    ceiling: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What one run has of a counter, and what all have. Totals hold what ended runs left behind too."""

    counter: str
    window: int
    granted: int
    spent: int
    held: int
    total_granted: int
    total_spent: int
    total_held: int


@dataclass(frozen=True, slots=True)
class Count:
    """A counter in one window, over all runs."""

    counter: str
    window: int
    granted: int
    spent: int
    held: int


@dataclass(slots=True)
class Change:
    """What is to be added to a counter or a lease."""

    held: int = 0
    spent: int = 0
    counted: int = 0
    leased: int = 0
    """granted to leases, for a counter only"""


Changes = defaultdict[Place, Change]


def no_changes() -> Changes:
    return defaultdict(Change)


def gather(changes: Changes, bookings: Iterable[Booking], *, counted: bool = False) -> None:
    """Puts signed bookings together. `counted`: no event tells of them."""
    for one in bookings:
        change = changes[one.counter, one.window]
        change.held += one.held
        change.spent += one.spent
        if counted:
            change.counted += one.spent


# Grants


def grant(connection: Connection, run: str, wanted: Sequence[Wanted]) -> list[Lease]:
    """Grants what is left, all in one transaction. The answers are in the order of the questions.

    With the first grant of a new window, the lease of the one before goes back.
    """
    asked = [(one.counter, one.window) for one in wanted]
    for place, one in sorted(zip(asked, wanted, strict=True), key=lambda pair: pair[0]):
        _fold_older(connection, run, place)
        row = _locked(connection, place)
        units = min(one.most, one.ceiling - row["granted"])
        if units >= max(one.least, 1):
            _add(connection, row, Change(leased=units))
            _grow(connection, run, place, units)
    leases = _totals(connection, run, asked)
    return [leases[place] for place in asked]


def give_back(connection: Connection, run: str, places: Iterable[Place]) -> list[Lease]:
    """Returns what is neither spent nor held of these leases; how they stand now."""
    places = sorted(set(places))
    for place in places:
        lease = _lease(connection, run, place)
        unused = 0 if lease is None else lease["granted"] - lease["spent"] - lease["held"]
        if unused > 0:
            _grow(connection, run, place, -unused)
            _add(connection, _locked(connection, place), Change(leased=-unused))
    return list(_totals(connection, run, places).values())


def room(connection: Connection, run: str, places: Iterable[Place]) -> dict[Place, int]:
    """What leases have left."""
    places = list(places)
    found = _leases(connection, run, places)
    rows = {place: found.get(place, (0, 0, 0, 0)) for place in places}
    return {place: granted - spent - held for place, (granted, spent, held, _) in rows.items()}


def fold(connection: Connection, runs: Sequence[str]) -> None:
    """Ends leases: what they have spent and hold goes to the counters, the rest is free again."""
    _fold(connection, budget_lease.c.run.in_(runs))


def _fold_older(connection: Connection, run: str, place: Place) -> None:
    """Leases of windows that are over; what they still hold keeps them."""
    columns = budget_lease.c
    same = and_(columns.run == run, columns.counter == place[0])
    _fold(connection, and_(same, columns.window < place[1], columns.held == 0))


def _fold(connection: Connection, which: ColumnElement[bool]) -> None:
    changes = no_changes()
    for row in connection.execute(select(budget_lease).where(which)).mappings():
        change = changes[row["counter"], row["window"]]
        change.held += row["held"]
        change.spent += row["spent"]
        change.counted += row["counted"]
        change.leased -= row["granted"]
    if changes:
        add_to_counters(connection, changes)
        connection.execute(delete(budget_lease).where(which))


# Bookings


def book(connection: Connection, run: str, changes: Mapping[Place, Change]) -> None:
    """Books at the leases of a run. A lease that is not there is made, one that is too small grows.

    What a lease does not hold is taken out of the counter: it was
    held by a run that is over.
    """
    leases = _leases(connection, run, changes)
    counters, rows = no_changes(), []
    for place in sorted(changes):
        change, before = changes[place], leases.get(place)
        granted, spent, held, counted = before or (0, 0, 0, 0)
        spent, held, counted = spent + change.spent, held + change.held, counted + change.counted
        if min(spent, held, counted) < 0:
            rest = counters[place]
            rest.spent, rest.held, rest.counted = min(spent, 0), min(held, 0), min(counted, 0)
            spent, held, counted = max(spent, 0), max(held, 0), max(counted, 0)
        if spent + held > granted:
            counters[place].leased += spent + held - granted
            granted = spent + held
        rows.append((place, granted, spent, held, counted))
    add_to_counters(connection, counters)
    _put(connection, run, rows)


def add_to_counters(connection: Connection, changes: Mapping[Place, Change]) -> None:
    """Books at the counters themselves: for runs that are over."""
    for place in sorted(changes):
        _add(connection, _locked(connection, place), changes[place])


def _add(connection: Connection, row: RowMapping, change: Change) -> None:
    spent = max(0, row["spent"] + change.spent)
    held = max(0, row["held"] + change.held)
    granted = row["granted"] + change.leased + spent + held - row["spent"] - row["held"]
    connection.execute(
        update(counter)
        .where(counter.c.id == row["id"], counter.c.window == row["window"])
        .values(
            spent=spent,
            held=held,
            counted=max(0, row["counted"] + change.counted),
            granted=max(0, granted),
        )
    )


def _locked(connection: Connection, place: Place) -> RowMapping:
    """A counter's row, made if need be, and nobody else's until the end of the transaction."""
    name, window = place
    query = select(counter).where(counter.c.id == name, counter.c.window == window).with_for_update()
    row = connection.execute(query).mappings().first()
    if row is None:
        empty = {"id": name, "window": window, "granted": 0, "spent": 0, "held": 0, "counted": 0}
        connection.execute(adding(connection, counter).values(empty).on_conflict_do_nothing())
        row = connection.execute(query).mappings().one()
    return row


def _lease(connection: Connection, run: str, place: Place) -> RowMapping | None:
    return connection.execute(select(budget_lease).where(_of(run, place))).mappings().first()


def _of(run: str, place: Place) -> ColumnElement[bool]:
    columns = budget_lease.c
    return and_(columns.run == run, columns.counter == place[0], columns.window == place[1])


def _leases(
    connection: Connection, run: str, places: Iterable[Place]
) -> dict[Place, tuple[int, int, int, int]]:
    names = sorted({name for name, _ in places})
    sign = mark(connection)
    return {
        (row[0], row[1]): (row[2], row[3], row[4], row[5])
        for part in parts(names)
        for row in connection.exec_driver_sql(_reading(len(part), sign), (run, *part)).all()
    }


@cache
def _reading(names: int, sign: str) -> str:
    some = ", ".join([sign] * names)
    return (
        'SELECT counter, "window", granted, spent, held, counted FROM budget_lease '  # noqa: S608
        f"WHERE run = {sign} AND counter IN ({some})"
    )


def _put(connection: Connection, run: str, rows: list[tuple[Place, int, int, int, int]]) -> None:
    """Leases as they are from now on, many in one statement (`adding`): each key may have some."""
    sign = mark(connection)
    for part in parts(rows):
        values = [value for place, *amounts in part for value in (run, *place, *amounts)]
        connection.exec_driver_sql(_putting(len(part), sign), tuple(values))


@cache
def _putting(rows: int, sign: str) -> str:
    row = "(" + ", ".join([sign] * len(_COLUMNS)) + ")"
    changed = ", ".join(f"{name} = excluded.{name}" for name in _AMOUNTS)
    return (
        f"INSERT INTO budget_lease ({', '.join(_COLUMNS)}) VALUES {', '.join([row] * rows)} "  # noqa: S608
        f'ON CONFLICT (run, counter, "window") DO UPDATE SET {changed}'
    )


_AMOUNTS: Final = ("granted", "spent", "held", "counted")
_COLUMNS: Final = ("run", "counter", '"window"', *_AMOUNTS)


def _grow(connection: Connection, run: str, place: Place, units: int) -> None:
    lease = _lease(connection, run, place)
    if lease is None:
        _put(connection, run, [(place, units, 0, 0, 0)])
    else:
        connection.execute(
            update(budget_lease).where(_of(run, place)).values(granted=lease["granted"] + units)
        )


# Totals


def _totals(connection: Connection, run: str, places: Iterable[Place]) -> dict[Place, Lease]:
    places = list(places)
    mine = _leases(connection, run, places)
    totals = {
        (count.counter, count.window): count
        for count in counts(connection, ids=sorted({name for name, _ in places}))
    }
    found = {}
    for place in places:
        granted, spent, held, _ = mine.get(place, (0, 0, 0, 0))
        total = totals.get(place) or Count(*place, 0, 0, 0)
        found[place] = Lease(*place, granted, spent, held, total.granted, total.spent, total.held)
    return found


def counts(
    connection: Connection,
    *,
    prefix: str | None = None,
    ids: Sequence[str] | None = None,
    window: int | None = None,
) -> list[Count]:
    """Counters over all runs, in one statement, hence of one instant; sorted."""
    own = select(
        *(counter.c.id.label("counter"), counter.c.window, counter.c.granted),
        *(counter.c.spent, counter.c.held),
    )
    leased = select(
        *(budget_lease.c.counter, budget_lease.c.window, literal(0).label("granted")),
        *(budget_lease.c.spent, budget_lease.c.held),
    )
    both = union_all(own, leased).subquery()
    name = both.c.counter
    sums = [func.sum(both.c[column]) for column in ("granted", "spent", "held")]
    query = select(name, both.c.window, *sums).group_by(name, both.c.window).order_by(name, both.c.window)
    if prefix is not None:
        query = query.where(func.substr(name, 1, len(prefix)) == prefix)
    if window is not None:
        query = query.where(both.c.window == window)
    parts = [None] if ids is None else [ids[at : at + AT_A_TIME] for at in range(0, len(ids), AT_A_TIME)]
    return [
        Count(row[0], row[1], int(row[2]), int(row[3]), int(row[4]))
        for part in parts
        for row in connection.execute(query if part is None else query.where(name.in_(part)))
    ]
