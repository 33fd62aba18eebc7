"""One run's part in the ledger: what a batch of the writer changes in it.

Rules: everything a batch brings is one transaction. A counter changes only in the transaction that
really added the event, or the exchange, that changes it; so a batch that is written twice changes
nothing the second time. As a rule all of it is new: it is added on that assumption, with what this
run remembers of its own attempts, and should the number of added rows be another, the transaction is
taken back and made again *exactly*, on the strength of what the database has (`Doubled`).

Only the writer's thread calls any of this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, delete

from fleetgate.store import events, hourly, leases, recovery, runs
from fleetgate.store.adding import add_new, adding
from fleetgate.store.events import Event, Key, Scribe
from fleetgate.store.schema import exchange, money_event, open_request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fleetgate.domain import Entry, Reservation, Settlement
    from fleetgate.store.failures import StoreError
    from fleetgate.store.leases import Changes, Lease, Place, Wanted
    from fleetgate.store.recovery import Recovered
    from fleetgate.store.rows import Values


class Doubled(Exception):
    """Something of a batch is in the database already: it has to be written exactly."""


@dataclass(eq=False, slots=True)
class Dispatch:
    """An attempt that waits to be durable before it leaves."""

    reservation: Reservation
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    document: str = ""
    error: StoreError | None = None
    abandoned: bool = False
    """nobody waits any more, and nothing is sent"""


@dataclass(slots=True)
class Work:
    """What one batch brings."""

    entries: list[Entry] = field(default_factory=list)
    rows: list[Values] = field(default_factory=list)
    """of the entries, in the same order"""
    dispatches: list[Dispatch] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    beat: bool = False

    @property
    def empty(self) -> bool:
        return not (self.rows or self.dispatches or self.settlements or self.beat)

    def parts(self) -> Iterator[Work]:
        """Each thing alone, in an order in which all of it can be written."""
        yield from (Work(dispatches=[one]) for one in self.dispatches)
        yield from (Work(settlements=[one]) for one in self.settlements)
        yield from (Work([one], [row]) for one, row in zip(self.entries, self.rows, strict=True))
        if self.beat:
            yield Work(beat=True)


@dataclass(slots=True)
class Written:
    """What a transaction did, to be remembered once it is committed."""

    exchanges: int = 0
    doubles: int = 0
    adjusted: int = 0
    refused: list[Dispatch] = field(default_factory=list)
    """the run was taken for dead: they may not leave"""
    standing: dict[Key, bool] = field(default_factory=dict)
    """attempts that are open now, or ended"""
    closed: list[str] = field(default_factory=list)


_UNKNOWN: Final = "unknown"
_OPEN: Final = "open"
_ENDED: Final = "ended"


class RunLedger:
    """The run's leases, and what it remembers of its own attempts."""

    def __init__(self, run: str, host: str, clock: Callable[[], float]) -> None:
        self.run = run
        self._host = host
        self._clock = clock
        self._attempts: dict[str, dict[int, bool]] = {}
        """by request: its attempts, and whether they are open; until the request is closed"""
        self.lost = 0
        """how often this run was taken for dead and lost its leases"""
        self.adjusted = 0
        self.recovered: Recovered | None = None
        """what the start found"""

    # -- life of the run -------------------------------------------------------------------------------

    def begin(self, connection: Connection) -> None:
        at = runs.moment(connection, self._clock)
        runs.register(connection, self.run, self._host, at)
        self.recovered = recovery.recover(connection, self.run, at)

    def recover(self, connection: Connection) -> Recovered:
        self._present(connection)
        return recovery.recover(connection, self.run, runs.moment(connection, self._clock))

    def leave(self, connection: Connection) -> None:
        """The end of the run: leases go back. What is open stays for whoever comes next."""
        if runs.pin(connection, self.run):
            recovery.leave(connection, self.run)

    def _present(self, connection: Connection) -> bool:
        """False: others have thought this run dead. It begins anew, without leases."""
        if runs.pin(connection, self.run):
            return True
        self.lost += 1
        self._attempts.clear()
        runs.register(connection, self.run, self._host, runs.moment(connection, self._clock))
        return False

    # -- leases ----------------------------------------------------------------------------------------

    def grants(self, connection: Connection, wanted: Sequence[Wanted]) -> list[Lease]:
        self._present(connection)
        return leases.grant(connection, self.run, wanted)

    def give_back(self, connection: Connection, places: Iterable[Place]) -> list[Lease]:
        self._present(connection)
        return leases.give_back(connection, self.run, places)

    # -- batches ---------------------------------------------------------------------------------------

    def write(self, connection: Connection, work: Work, *, exact: bool) -> Written:
        """Everything but the commit. Raises `Doubled` unless `exact`."""
        written = Written()
        if work.beat:
            self._beat(connection)
        money = bool(work.dispatches or work.settlements)
        books = money
        for entry in work.entries:
            if entry.settlements:
                money = books = True
            elif entry.bookings:
                books = True
        if books and not self._present(connection):
            exact = True
        dispatches = self._allowed(connection, work, written) if work.dispatches else []
        added = self._add_exchanges(connection, work, written, exact=exact)
        if books:
            changes, theirs = leases.no_changes(), leases.no_changes()
            if money:
                view = _View(self._attempts, _read(connection, work) if exact else None)
                plan = _Plan(Scribe(self.run, round(self._clock() * 1e3)), view, changes, theirs)
                plan.make(dispatches, work)
                self._add_events(connection, plan.events)
                written.standing = view.news
                written.adjusted = sum(event.kind == events.ADJUST for event in plan.events)
            for entry in added:
                leases.gather(changes, entry.bookings, counted=True)
            leases.add_to_counters(connection, theirs)
            leases.book(connection, self.run, changes)
        if dispatches:
            _keep_open(connection, self.run, dispatches, round(self._clock() * 1e3))
        self._close(connection, work, written)
        if added:
            hourly.add(connection, added)
        return written

    def committed(self, written: Written) -> None:
        """The transaction is durable."""
        for (request, attempt), is_open in written.standing.items():
            if not is_open and request not in self._attempts:
                continue  # it came after its request was closed
            self._attempts.setdefault(request, {})[attempt] = is_open
        for request in written.closed:
            self._attempts.pop(request, None)
        self.adjusted += written.adjusted

    def _beat(self, connection: Connection) -> None:
        if self._present(connection):
            runs.beat(connection, self.run, runs.moment(connection, self._clock))

    def _allowed(self, connection: Connection, work: Work, written: Written) -> list[Dispatch]:
        """Dispatches that somebody waits for.

        Once this run has lost its leases, what it has in memory may be worth nothing: then only those
        that the leases of now have room for.
        """
        waiting = [one for one in work.dispatches if not one.abandoned]
        if not self.lost:
            return waiting
        held = [booking for one in waiting for booking in one.reservation.bookings]
        room = leases.room(connection, self.run, {(one.counter, one.window) for one in held})
        allowed: list[Dispatch] = []
        for one in waiting:
            bookings = one.reservation.bookings
            if all(room[booking.counter, booking.window] >= booking.held for booking in bookings):
                allowed.append(one)
                for booking in bookings:
                    room[booking.counter, booking.window] -= booking.held
            else:
                written.refused.append(one)
        return allowed

    def _add_exchanges(
        self, connection: Connection, work: Work, written: Written, *, exact: bool
    ) -> list[Entry]:
        """The entries whose row was not there."""
        rows = work.rows
        if not exact:
            if rows and add_new(connection, exchange, rows) != len(rows):
                raise Doubled
            written.exchanges = len(rows)
            return work.entries
        added = [
            entry
            for entry, row in zip(work.entries, rows, strict=True)
            if add_new(connection, exchange, [row])
        ]
        written.exchanges, written.doubles = len(added), len(rows) - len(added)
        return added

    def _add_events(self, connection: Connection, made: list[Event]) -> None:
        if made and add_new(connection, money_event, [event.row() for event in made]) != len(made):
            raise Doubled

    def _close(self, connection: Connection, work: Work, written: Written) -> None:
        """An entry is the end of its request."""
        known, news = self._attempts, {request for request, _ in written.standing}
        written.closed = [
            entry.request_id
            for entry in work.entries
            if entry.settlements or entry.request_id in known or entry.request_id in news
        ]
        for at in range(0, len(written.closed), events.AT_A_TIME):
            part = written.closed[at : at + events.AT_A_TIME]
            connection.execute(delete(open_request).where(open_request.c.request_id.in_(part)))


class _View:
    """How attempts stand: as this run remembers, or as the database says; and what changes."""

    def __init__(self, known: dict[str, dict[int, bool]], stored: dict[Key, list[Event]] | None) -> None:
        self._known = known
        self._stored = stored
        self.news: dict[Key, bool] = {}

    def of(self, key: Key) -> str:
        is_open = self.news.get(key)
        if is_open is None and self._stored is None:
            is_open = self._known.get(key[0], {}).get(key[1])
            if is_open is None:
                return _UNKNOWN
        if is_open is not None:
            return _OPEN if is_open else _ENDED
        stored = self.stored(key)
        if not any(event.kind == events.RESERVE for event in stored):
            return _UNKNOWN
        return _ENDED if any(event.ends for event in stored) else _OPEN

    def stored(self, key: Key) -> list[Event]:
        return [] if self._stored is None else self._stored.get(key, [])

    @property
    def exact(self) -> bool:
        return self._stored is not None


class _Plan:
    """The events of one batch, and what they change: at this run's leases, or at the counters."""

    def __init__(self, scribe: Scribe, view: _View, mine: Changes, theirs: Changes) -> None:
        self._scribe = scribe
        self._view = view
        self._mine = mine
        self._theirs = theirs
        self.events: list[Event] = []

    def make(self, dispatches: list[Dispatch], work: Work) -> None:
        for one in dispatches:
            self._begin(one.reservation)
        for settlement in work.settlements:
            self._end(settlement)
        for entry in work.entries:
            for settlement in entry.settlements:
                self._end(settlement)

    def _begin(self, reservation: Reservation) -> None:
        key = (reservation.request_id, reservation.attempt)
        standing = self._view.of(key)
        if standing == _UNKNOWN:
            self._add(self._scribe.begin(reservation), self._mine)
        elif not self._view.exact:
            raise Doubled
        self._view.news[key] = standing in (_UNKNOWN, _OPEN)

    def _end(self, settlement: Settlement) -> None:
        key = (settlement.request_id, settlement.attempt)
        standing = self._view.of(key)
        if standing == _OPEN:
            self._add(self._scribe.end(settlement), self._mine)
        elif not self._view.exact:
            if standing == _UNKNOWN:
                raise Doubled
            return  # it came at once, and now again with its exchange
        elif standing == _UNKNOWN:
            return  # it never was: its dispatch did not become durable
        elif key not in self._view.news:
            self._end_late(settlement, self._view.stored(key))
        self._view.news[key] = False

    def _end_late(self, settlement: Settlement, stored: list[Event]) -> None:
        """The attempt has its end. Where others gave it that, for a run thought dead, the truth is added."""
        by = {event.run for event in stored if event.kind == events.RESERVE}
        ends = [event for event in stored if event.ends or event.kind == events.ADJUST]
        if any((event.run in by and event.ends) or event.seq == events.LATE for event in ends):
            return
        late = self._scribe.late(settlement, ends)
        if late is not None:
            self._add([late], self._theirs)

    def _add(self, made: Iterable[Event], changes: Changes) -> None:
        for event in made:
            self.events.append(event)
            leases.gather(changes, event.bookings)


def _read(connection: Connection, work: Work) -> dict[Key, list[Event]]:
    """All events of the requests that this batch is about."""
    requests = {one.reservation.request_id for one in work.dispatches}
    requests.update(one.request_id for one in work.settlements)
    requests.update(entry.request_id for entry in work.entries if entry.settlements)
    found: dict[Key, list[Event]] = {}
    for event in events.read(connection, requests):
        found.setdefault(event.key, []).append(event)
    return found


def _keep_open(connection: Connection, run: str, dispatches: list[Dispatch], at: int) -> None:
    """What the ledger says of these requests should this run die."""
    documents = {one.reservation.request_id: one.document for one in dispatches}
    if not documents:
        return
    row = adding(connection, open_request)
    statement = row.on_conflict_do_update(
        index_elements=[open_request.c.request_id], set_={"document": row.excluded.document}
    )
    connection.execute(
        statement,
        [
            {"request_id": request, "run": run, "at": at, "document": document}
            for request, document in documents.items()
        ],
    )
