"""What tests of the ledger share: reservations, settlements, and a database of their tables alone."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass, field

from sqlalchemy import StaticPool, create_engine, event, select, text, update

from fleetgate.domain import Attempt, Booking, Entry, Reservation, Settlement, Usage
from fleetgate.store.batch import Dispatch, Doubled, RunLedger, Work
from fleetgate.store.rows import document_of, values_of
from fleetgate.store.schema import budget_lease, metadata, run

MONEY = ("budget:team", 1_790_000_000)
OTHER = ("budget:all", 1_780_000_000)
REQUESTS = ("requests:key", 1_790_000_000)


def told(number: int, *attempts: Attempt, **changes) -> Entry:
    """An exchange."""
    values = {
        "request_id": f"req-{number:06}",
        "at": 1_790_000_000.0 + number,
        "principal": "app",
        "route": "/v1/chat/completions",
        "model": "fast",
        "status": 200,
        "outcome": "ok",
        "duration": 1.25,
        "deployment": "openai/gpt-x",
        "usage": Usage(12, 34, None),
        "attempts": attempts,
        **changes,
    }
    return Entry(**values)


def sent(number: int = 0, cost: int | None = 0, **changes) -> Attempt:
    """An attempt that costs money."""
    return Attempt("openai/gpt-x", "ok", 0.1, 0.2, number=number, account="openai", cost=cost, **changes)


def reservation(
    number: int, attempt: int = 0, bound: int = 100, expected: int = 40, places=(MONEY,), requests=()
) -> Reservation:
    entry = told(
        number, sent(attempt, expected, estimated=True), outcome="interrupted", status=0, usage=Usage()
    )
    bookings = tuple(
        Booking(*place, held=amount)
        for places, amount in ((places, bound), (requests, 1))
        for place in places
    )
    return Reservation(entry.request_id, attempt, bound, expected, bookings, entry)


def settlement(of: Reservation, cost: int, *, released: bool = False, estimated: bool = False) -> Settlement:
    bookings = tuple(
        Booking(one.counter, one.window, one.held, _spent(one, of, cost, released=released))
        for one in of.bookings
    )
    return Settlement(of.request_id, of.attempt, cost, released, estimated, max(0, cost - of.bound), bookings)


def _spent(one: Booking, of: Reservation, cost: int, *, released: bool) -> int:
    return cost if one.held == of.bound else 0 if released else one.held


class Ticks:
    """A clock that moves on by a second per reading."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def memory_engine():
    """The tables in memory: what is tested is what is written, not how it lasts."""
    engine = create_engine(
        "sqlite://",
        poolclass=StaticPool,
        creator=lambda: sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False),
    )

    @event.listens_for(engine, "begin")
    def begin(connection) -> None:
        connection.exec_driver_sql("BEGIN")

    metadata.create_all(engine)
    return engine


def emptied(url: str):
    """A database of PostgreSQL with our tables and nothing in them, over connections that are kept."""
    from fleetgate.store import postgres

    engine = postgres.Postgres(url)._engine(postgres._WRITE.format(10_000), 30.0, pooled=True)
    with engine.connect() as connection, connection.begin():
        connection.execute(
            text("; ".join(f"DELETE FROM {table}" for table in reversed(metadata.sorted_tables)))
        )
    return engine


@dataclass
class Pen:
    """A run's ledger with a connection: writes batches as the writer's thread does."""

    engine: object
    ledger: RunLedger
    dispatched: list[Reservation] = field(default_factory=list)

    def begin(self) -> None:
        self.transact(self.ledger.begin)

    def transact(self, act):
        with self.engine.connect() as connection, connection.begin():
            return act(connection)

    def work(self, dispatches=(), settlements=(), entries=()) -> Work:
        return Work(
            list(entries),
            [values_of(entry, str) for entry in entries],
            [_waiting(one) for one in dispatches],
            list(settlements),
        )

    def write(self, work: Work, *, remember: bool = True):
        try:
            written = self.transact(lambda connection: self.ledger.write(connection, work, exact=False))
        except Doubled:
            written = self.transact(lambda connection: self.ledger.write(connection, work, exact=True))
        if remember:
            self.ledger.committed(written)
        return written

    def leases(self) -> dict:
        query = select(budget_lease).where(budget_lease.c.run == self.ledger.run)
        rows = self.transact(lambda connection: connection.execute(query).mappings().all())
        return {(row["counter"], row["window"]): dict(row) for row in rows}


def _waiting(one: Reservation) -> Dispatch:
    loop = None
    return Dispatch(one, loop, None, document_of(values_of(one.entry, str)))


def pen(engine, name: str, clock=None) -> Pen:
    made = Pen(engine, RunLedger(name, "here", clock or Ticks()))
    made.begin()
    return made


def silent(connection) -> None:
    """No gateway is heard of any more. (On SQLite each start knows that without looking.)"""
    connection.execute(update(run).values(beat_at=0))


def successor(engine, name: str) -> Pen:
    """A run after all that were before."""
    with engine.connect() as connection, connection.begin():
        silent(connection)
    return pen(engine, name)


def in_loop(awaitable):
    return asyncio.run(awaitable)
