"""The state database as the rest of the gateway sees it.

It remembers what was learned (catalogues, presence, speeds) and keeps one row per exchange. `post`
and `remember` never wait and never fail because of the database: a gateway whose disk is full goes
on answering. Reads are synchronous; they are for start, the admin API and tests, not for the path of
a request. Only `Store.open` refuses, with a `StoreError` that says what to do.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError

from fleetgate.store import sqlite
from fleetgate.store.failures import StoreError, Trouble, translated
from fleetgate.store.rows import COLUMNS, entry_of
from fleetgate.store.schema import LINEAGE, MIN_READER, Lineage, exchange, learned, meta
from fleetgate.store.upgrade import bring_up
from fleetgate.store.writer import GATHER, LIMIT, Job, Mark, Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine

    from fleetgate.domain import Entry

Found = TypeVar("Found")

PATIENCE: Final = 10.0
"""Seconds that `close`, `change` and `get_or_create` wait for the database."""


def _as_it_is(text: str) -> str:
    return text


class Store:
    """Owns the state directory's database from `open` to `close`."""

    def __init__(
        self, path: Path, hold: sqlite.Hold, reading: Engine, writer: Writer, clock: Callable[[], float]
    ) -> None:
        self.path = path
        self._hold = hold
        self._reading = reading
        self._writer = writer
        self._clock = clock
        self._log = logging.getLogger("fleetgate.store")
        self._open = True
        self.post: Callable[[Entry], None] = writer.post
        """Records a finished exchange: `post(entry)`. One queue operation; never blocks, never raises."""

    @classmethod
    def open(
        cls,
        directory: Path,
        clock: Callable[[], float],
        *,
        scrub: Callable[[str], str] = _as_it_is,
        busy: float = sqlite.BUSY,
        limit: int = LIMIT,
        gather: float = GATHER,
        lineage: Lineage = LINEAGE,
    ) -> Store:
        """Takes the directory, brings its database up to date and starts the writer.

        `clock` gives unix seconds; `scrub` takes secrets out of free text before it is stored.
        """
        sqlite.prepare(directory)
        path = directory / sqlite.DATABASE
        hold = sqlite.Hold(directory)
        try:
            sqlite.create(path)
            reading, writing = sqlite.reading_engine(path), sqlite.writing_engine(path, busy=busy)
            try:
                bring_up(path, reading, writing, lineage)
                _try_to_write(path)
            except BaseException:
                reading.dispose()
                raise
        except BaseException:
            hold.release()
            raise
        writer = Writer(writing, scrub, limit=limit, gather=gather)
        writer.start()
        return cls(path, hold, reading, writer, clock)

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

    # Reads and changes by others (`store.access`)

    def ask(self, read: Callable[[Connection], Found]) -> Found:
        """What `read` finds, in one snapshot. Blocks: call it in a thread. Raises `StoreError`."""
        try:
            with self._reading.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                return read(connection)
        except DBAPIError as error:
            raise translated(error, self.path) from error

    async def change(self, act: Callable[[Connection], Found], patience: float = PATIENCE) -> Found:
        """Runs `act` in its own transaction; returns what it returns once that is durable.

        Raises what `act` raises, after its transaction was taken back, or `StoreError`. After a
        `StoreError` nothing has changed, unless it says that the outcome is unknown.
        """
        job = Job(act, Future())
        self._writer.put(job)
        try:
            async with asyncio.timeout(patience):
                return cast("Found", await asyncio.shield(asyncio.wrap_future(job.done)))
        except TimeoutError:
            known = job.done.cancel()
            what = "nothing was changed" if known else "whether it was changed is unknown"
            raise StoreError(
                Trouble.DATABASE, f"the database did not answer within {patience:g} s: {what}"
            ) from None
        except DBAPIError as error:
            raise translated(error, self.path) from error

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
            connection.execute(insert(meta).values(name=name, value=value).on_conflict_do_nothing())
            return str(connection.execute(query).scalar_one())

        job = Job(keep, Future())
        self._writer.put(job)
        try:
            return str(job.done.result(PATIENCE))
        except DBAPIError as error:
            raise translated(error, self.path) from error
        except Overdue as error:
            raise StoreError(
                Trouble.DATABASE, f"{self.path}: `{name}` was not written within {PATIENCE:g} s"
            ) from error

    def close(self, patience: float = PATIENCE) -> None:
        """Writes what is queued and lets go of the directory. What a failing database does not take is
        counted as dropped. May be called twice."""
        if not self._open:
            return
        self._open = False
        self._reading.dispose()
        if not self._writer.stop(patience):
            self._log.error("the database is stuck: closed without it", extra={"waiting": self.waiting})
        if self.dropped:
            self._log.error("exchanges were not recorded", extra={"dropped": self.dropped})
        self._hold.release()

    def _read(self, query: Any) -> list[dict[str, Any]]:
        if not self._open:  # a connection opened now would never be closed
            raise StoreError(Trouble.CLOSED, f"{self.path} is closed")
        try:
            with self._reading.connect() as connection:
                return [dict(row) for row in connection.execute(query).mappings()]
        except DBAPIError as error:
            raise translated(error, self.path) from error


def _latest(limit: int) -> Any:
    columns = [exchange.c[name] for name in COLUMNS]
    return select(*columns).order_by(exchange.c.at.desc(), exchange.c.request_id.desc()).limit(limit)


def _try_to_write(path: Path) -> None:
    """Finds a full disk or a read-only file at start rather than at the first exchange.

    Somebody else's lock is no reason to refuse: the writer waits for its end.
    """
    engine = sqlite.writing_engine(path, busy=0.25)
    try:
        with engine.connect() as connection, connection.begin():
            same = {"value": select(meta.c.value).where(meta.c.name == MIN_READER).scalar_subquery()}
            connection.execute(update(meta).where(meta.c.name == MIN_READER).values(same))
    except DBAPIError as error:
        refusal = translated(error, path)
        if refusal.trouble is not Trouble.LOCKED:
            raise refusal from error
