"""The state database as the rest of the gateway sees it.

It remembers what was learned (catalogues, presence, speeds), keeps one row per exchange, and is the
ledger of money. `post`, `settle` and `remember` never wait and never fail because of the
database: a gateway whose disk is full goes on answering. Only what costs money waits, in `dispatch`.
Reads are synchronous; they are for start, the admin API and tests, not for the path of a request. Only
`Store.open` refuses, with a `StoreError` that says what to do.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import secrets
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoneFree

from fleetgate.domain import Settlement
from fleetgate.store import leases, sqlite
from fleetgate.store.adding import adding
from fleetgate.store.batch import Dispatch, RunLedger
from fleetgate.store.failures import StoreError, Trouble, repeatable
from fleetgate.store.recovery import Recovered
from fleetgate.store.rows import COLUMNS, entry_of
from fleetgate.store.schema import LINEAGE, MIN_READER, Lineage, exchange, learned, meta
from fleetgate.store.upgrade import bring_up
from fleetgate.store.writer import GATHER, LIMIT, Job, Mark, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from fleetgate.domain import Entry, Reservation
    from fleetgate.store.dialect import Database
    from fleetgate.store.leases import Count, Lease, Place, Wanted

Found = TypeVar("Found")

SQLITE: Final = "sqlite"
"""The setting that means a file in the state directory."""

PATIENCE: Final = 10.0
"""Seconds that `close`, `change` and `get_or_create` wait for the database."""

DISPATCHED_WITHIN: Final = 2.0
"""Seconds that an attempt which costs money waits for the ledger, …"""
FAILING_WITHIN: Final = 0.25
"""… and while the database fails."""


def _as_it_is(text: str) -> str:
    return text


class Store:
    """Owns the state directory, and the database or its part of it, from `open` to `close`."""

    def __init__(
        self,
        directory: Path,
        hold: sqlite.Hold,
        database: Database,
        writer: Writer,
        clock: Callable[[], float],
    ) -> None:
        self.directory = directory
        self.path = directory / sqlite.DATABASE
        """where SQLite's file lies, if that is the database"""
        self.title = database.title
        """what messages call the database: where it is, without secrets"""
        self._hold = hold
        self._database = database
        self._reading = database.reading
        self._writer = writer
        self._clock = clock
        self._log = logging.getLogger("fleetgate.store")
        self._open = True
        self.post: Callable[[Entry], None] = writer.post
        """Records a finished exchange: `post(entry)`. One queue operation; never blocks, never raises."""
        self.settle: Callable[[Settlement], None] = writer.settle
        """Ends a reservation: `settle(settlement)`. Never blocks, never raises, and is never dropped while
        the database fails. May come twice."""

    @classmethod
    def open(
        cls,
        directory: Path,
        clock: Callable[[], float],
        *,
        database: str = SQLITE,
        scrub: Callable[[str], str] = _as_it_is,
        busy: float | None = None,
        limit: int = LIMIT,
        gather: float = GATHER,
        lineage: Lineage = LINEAGE,
    ) -> Store:
        """Takes the directory, brings its database up to date, starts the writer, and ends what earlier
        runs left open.

        `database` is `sqlite`, a file in the directory, or an address of PostgreSQL, which other gateways
        with directories of their own may use too. `clock` gives unix seconds; `scrub` takes secrets out
        of free text before it is stored; `busy`: seconds to wait for somebody else's lock.
        """
        sqlite.prepare(directory)
        hold = sqlite.Hold(directory)
        try:
            used = _database(directory, database, busy)
            try:
                bring_up(used, lineage)
                locked = not _try_to_write(used)
            except BaseException:
                used.close()
                raise
        except BaseException:
            hold.release()
            raise
        ledger = RunLedger(secrets.token_hex(8), platform.node(), clock)
        writer = Writer(used.writing, ledger, scrub, limit=limit, gather=gather)
        writer.start()
        if not locked:
            writer.begun.wait(PATIENCE)
        return cls(directory, hold, used, writer, clock)

    # State of the store itself

    @property
    def healthy(self) -> bool:
        """False while the database does not take what is written."""
        return not self._writer.failing

    @property
    def last_error(self) -> str | None:
        """The latest failure in one line, kept after recovery."""
        return self._writer.last_error

    @property
    def dropped(self) -> int:
        """Exchanges that were not recorded: no room while the database failed, or no row fits them."""
        return self._writer.dropped + self._writer.spoiled

    @property
    def doubles(self) -> int:
        """Exchanges whose request id was recorded before."""
        return self._writer.doubles

    @property
    def waiting(self) -> int:
        """What is queued at the moment."""
        return self._writer.waiting

    # What was learned

    def remember(self, kind: str, key: str, document: bytes | dict[str, Any]) -> None:
        """Keeps what was learned, in place of what was known under this kind and key.

        `document` is a JSON object, or its bytes. Many changes of one key in a short time are one write.
        """
        text = document if isinstance(document, bytes) else msgspec.json.encode(document)
        self._writer.learn(kind, key, (text.decode(), round(self._clock() * 1e3)))

    def forget(self, kind: str, key: str) -> None:
        self._writer.learn(kind, key, None)

    def recall(self, kind: str) -> dict[str, dict[str, Any]]:
        """Everything of a kind that is durable, by key."""
        found: dict[str, dict[str, Any]] = {}
        query = select(learned.c.key, learned.c.document).where(learned.c.kind == kind)
        for row in self._read(query):
            try:
                found[row["key"]] = msgspec.json.decode(row["document"], type=dict[str, Any])
            except msgspec.DecodeError as error:
                # A memory is a convenience: one that cannot be read must not keep the gateway down.
                self._log.warning(
                    "a memory cannot be read", extra={"kind": kind, "key": row["key"], "why": str(error)}
                )
        return found

    # Exchanges

    def exchanges(self, limit: int) -> list[dict[str, Any]]:
        """The latest exchanges as rows, newest first, with `attempts` decoded."""
        rows = self._read(_latest(limit))
        return [{**row, "attempts": msgspec.json.decode(row["attempts"])} for row in rows]

    def entries(self, limit: int) -> list[Entry]:
        """The latest exchanges, newest first."""
        return [entry_of(row) for row in self._read(_latest(limit))]

    async def flush(self) -> None:
        """Returns once everything posted and remembered so far is durable, however long that takes.

        Raises `StoreError` if the store is closed before that.
        """
        loop = asyncio.get_running_loop()
        reached: asyncio.Future[None] = loop.create_future()

        def settle(error: StoreError | None) -> None:
            if reached.done():
                return
            if error is None:
                reached.set_result(None)
            else:
                reached.set_exception(error)

        def tell(error: StoreError | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error)

        self._writer.put(Mark(tell))
        await reached

    # Money

    @property
    def run(self) -> str:
        """The id of this process's run: another one at each start."""
        return self._writer.ledger.run

    @property
    def lost(self) -> int:
        """How often another gateway took this one for dead: each time all leases are gone."""
        return self._writer.ledger.lost

    @property
    def adjusted(self) -> int:
        """Corrections of the ledger: attempts that cost more than was held, ends that came too late."""
        return self._writer.ledger.adjusted

    @property
    def recovered(self) -> Recovered:
        """What the start found of runs that were over."""
        return self._writer.ledger.recovered or Recovered()

    async def dispatch(self, reservation: Reservation, patience: float = DISPATCHED_WITHIN) -> None:
        """Returns once the reservation is durable, so that its first byte may leave.

        Raises `StoreError` if that takes too long; then nothing may be sent, and should it become durable
        after all, it is released.
        """
        if self._writer.full:
            raise StoreError(Trouble.DATABASE, "too much waits for the database")
        loop = asyncio.get_running_loop()
        item = Dispatch(reservation, loop, loop.create_future())
        self._writer.put(item)
        if not self.healthy:
            patience = min(patience, FAILING_WITHIN)
        try:
            async with asyncio.timeout(patience):
                await item.done
        except BaseException as error:
            item.abandoned = True
            self.settle(
                Settlement(
                    reservation.request_id, reservation.attempt, 0, True, False, 0, reservation.bookings
                )
            )
            if isinstance(error, TimeoutError):
                raise StoreError(
                    Trouble.DATABASE, f"the database did not answer within {patience:g} s"
                ) from None
            raise

    async def grant(self, wanted: Wanted) -> Lease:
        """Takes a part of a counter for this run: all that is asked for, what is left, or nothing."""
        (lease,) = await self.grants([wanted])
        return lease

    async def grants(self, wanted: Sequence[Wanted]) -> list[Lease]:
        """The same for several, all at once. Raises `StoreError`. A request waits for it, so not for long."""
        patience = DISPATCHED_WITHIN if self.healthy else FAILING_WITHIN
        return await self.change(lambda connection: self._writer.ledger.grants(connection, wanted), patience)

    async def give_back(self, places: Iterable[Place]) -> list[Lease]:
        """Returns what is neither spent nor held of these leases: (counter, window). How they stand now."""
        return await self.change(lambda connection: self._writer.ledger.give_back(connection, places))

    def counters(
        self,
        ids: Sequence[str] | None = None,
        *,
        prefix: str | None = None,
        window: int | None = None,
    ) -> list[Count]:
        """Counters as they stand over all gateways, of one instant. Blocks: call it in a thread."""
        return self.ask(lambda connection: leases.counts(connection, ids=ids, prefix=prefix, window=window))

    def beat(self) -> None:
        """Says that this run lives, to gateways on the same database. Every few seconds; never blocks."""
        if self._writer.shared:
            self._writer.beat()

    async def recover(self) -> Recovered:
        """Ends what runs left open that are over. Raises `StoreError`."""
        return await self.change(self._writer.ledger.recover)

    # Reads and changes by others (`store.access`)

    def ask(self, read: Callable[[Connection], Found]) -> Found:
        """What `read` finds, in one snapshot. Blocks: call it in a thread. Raises `StoreError`.

        `read` may be called twice, when the first connection turns out to be lost.
        """
        if not self._open:  # a connection opened now would never be closed
            raise StoreError(Trouble.CLOSED, f"{self.title} is closed")
        try:
            try:
                return self._asked(read)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return self._asked(read)
        except DBAPIError as error:
            raise self._database.translated(error) from error
        except NoneFree as error:
            raise StoreError(Trouble.DATABASE, f"{self.title}: too many wait for answers") from error

    def _asked(self, read: Callable[[Connection], Found]) -> Found:
        with self._reading.connect() as connection:
            return read(connection)

    async def change(self, act: Callable[[Connection], Found], patience: float = PATIENCE) -> Found:
        """Runs `act` in its own transaction; returns what it returns once that is durable.

        Raises what `act` raises, after its transaction was taken back, or `StoreError`. After a
        `StoreError` nothing has changed, unless it is `unknown`. `act` may run twice, when the first
        transaction was taken back because of another gateway, or with its connection.
        """
        job = Job(act, Future())
        try:
            async with asyncio.timeout(patience):
                try:
                    return cast("Found", await self._done(job))
                except DBAPIError as error:
                    if not repeatable(error):
                        raise
                job = Job(act, Future())
                return cast("Found", await self._done(job))
        except TimeoutError:
            known = job.done.cancel()
            what = "nothing was changed" if known else "whether it was changed is unknown"
            raise StoreError(
                Trouble.DATABASE,
                f"the database did not answer within {patience:g} s: {what}",
                unknown=not known,
            ) from None
        except DBAPIError as error:
            raise self._database.translated(error) from error

    async def _done(self, job: Job) -> Any:
        self._writer.put(job)
        return await asyncio.shield(asyncio.wrap_future(job.done))

    # Single values

    def get_or_create(self, name: str, make: Callable[[], str]) -> str:
        """The value kept under a name; made, and durable before it is returned, if there is none.

        Waits for the database: for start only. Raises `StoreError`.
        """
        query = select(meta.c.value).where(meta.c.name == name)
        for row in self._read(query):
            return str(row["value"])
        value = make()

        def keep(connection: Connection) -> str:
            connection.execute(
                adding(connection, meta).values(name=name, value=value).on_conflict_do_nothing()
            )
            return str(connection.execute(query).scalar_one())

        job = Job(keep, Future())
        self._writer.put(job)
        try:
            return str(job.done.result(PATIENCE))
        except DBAPIError as error:
            raise self._database.translated(error) from error
        except Overdue as error:
            raise StoreError(
                Trouble.DATABASE, f"{self.title}: `{name}` was not written within {PATIENCE:g} s"
            ) from error

    def close(self, patience: float = PATIENCE) -> None:
        """Writes what is queued and lets go of the directory. What a failing database does not take is
        counted as dropped. May be called twice."""
        if not self._open:
            return
        self._open = False
        self._database.close()
        if not self._writer.stop(patience):
            self._log.error("the database is stuck: closed without it", extra={"waiting": self.waiting})
        if self.dropped:
            self._log.error("exchanges were not recorded", extra={"dropped": self.dropped})
        self._hold.release()

    def _read(self, query: Any) -> list[dict[str, Any]]:
        return self.ask(lambda connection: [dict(row) for row in connection.execute(query).mappings()])


def _latest(limit: int) -> Any:
    columns = [exchange.c[name] for name in COLUMNS]
    return select(*columns).order_by(exchange.c.at.desc(), exchange.c.request_id.desc()).limit(limit)


def _database(directory: Path, named: str, busy: float | None) -> Database:
    if named == SQLITE:
        if sqlite.wal_reset_bug():
            logging.getLogger("fleetgate.store").info(
                "this SQLite is safe with one writing program only: keep others away while the gateway runs",
                extra={"version": sqlite.VERSION},
            )
        return sqlite.File(directory / sqlite.DATABASE, sqlite.BUSY if busy is None else busy)
    try:
        from fleetgate.store import postgres  # noqa: PLC0415  (its driver is optional)
    except ImportError as error:
        if not str(error.name or "").startswith("psycopg") and "pq wrapper" not in str(error):
            raise
        raise StoreError(
            Trouble.SETUP,
            "gateway.database names PostgreSQL, and its driver is not installed",
            'Install it: pip install "fleetgate[postgres]"',
        ) from error
    return postgres.Postgres(named, postgres.LOCK if busy is None else busy)


def _try_to_write(database: Database) -> bool:
    """Finds a full disk or a read-only database at start rather than at the first exchange.

    Somebody else's lock is no reason to refuse: the writer waits for its end. False: there is one.
    """
    try:
        with database.trial.connect() as connection, connection.begin():
            same = {"value": select(meta.c.value).where(meta.c.name == MIN_READER).scalar_subquery()}
            connection.execute(update(meta).where(meta.c.name == MIN_READER).values(same))
    except DBAPIError as error:
        refusal = database.translated(error)
        if refusal.trouble is not Trouble.LOCKED:
            raise refusal from error
        return False
    return True
