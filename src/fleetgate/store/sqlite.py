"""Everything that is particular to SQLite: the file, its lock, its pragmas, the hot insert.

Rules: one process per file (the lock file), one writing connection in it (SQLite before 3.51.3 can
damage a WAL database when two connections write or checkpoint at the same instant). Readers only
read and never checkpoint. The database file is never created by accident: connections open it
read-write only, and `create` is the one place that makes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from fleetgate.store.failures import StoreError, Trouble, translated
from fleetgate.store.rows import COLUMNS, Values

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

DATABASE: Final = "fleetgate.db"
LOCK: Final = "fleetgate.lock"
BUSY: Final = 5.0
"""Seconds to wait for somebody else's lock on the database."""

_WRITABLE = "Make it writable for the user that Fleetgate runs as, or give another state directory."


def prepare(directory: Path) -> None:
    """The state directory, made if need be, readable by nobody else."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(
            Trouble.DIRECTORY,
            f"{directory}: the state directory cannot be made: a file is in its place",
            "Move that file away, or give another state directory.",
        ) from error
    except OSError as error:
        raise _unwritable(directory, error) from error


def _unwritable(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "Free some space on that disk, or give Fleetgate another state directory."
        return StoreError(Trouble.FULL, f"{path}: the disk is full", advice)
    return StoreError(Trouble.DIRECTORY, f"{path}: cannot be written: {error.strerror}", _WRITABLE)


class Hold:
    """The lock file: while this is held, no other process opens the database.

    The kernel lets go of it when the process ends in whatever way, so a stale file means nothing.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unwritable(self._path, error) from error
        try:
            self._take()
        except BaseException:
            os.close(self._file)
            raise

    def _take(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            raise StoreError(
                Trouble.HELD,
                f"{self._path.parent}: in use by another Fleetgate, process {holder or 'unknown'}",
                "Stop that one first, or give this one its own state directory.",
            ) from error
        except OSError as error:
            raise StoreError(
                Trouble.DIRECTORY,
                f"{self._path}: cannot be locked: {error.strerror}",
                "Use a local disk: this file system has no locks.",
            ) from error
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def release(self) -> None:
        os.close(self._file)


def create(path: Path) -> None:
    """An empty database file that only its owner may read; SQLite gives its side files the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise _unwritable(path, error) from error


def writing_engine(path: Path, *, busy: float = BUSY) -> Engine:
    """Connections that write: each transaction takes the write lock at its begin.

    They are not pooled. The writer keeps one, and opens another after a failure.
    """
    engine = _engine(path, ("journal_mode=WAL", "synchronous=FULL", "journal_size_limit=67108864"), busy)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reading_engine(path: Path) -> Engine:
    """Connections that can only read; each statement sees what is committed by then."""
    return _engine(path, ("query_only=ON", "wal_autocheckpoint=0"), 1.0, pooled=True)


def _engine(path: Path, pragmas: tuple[str, ...], busy: float, *, pooled: bool = False) -> Engine:
    uri = path.absolute().as_uri() + "?mode=rw"
    pool: dict[str, Any] = (
        {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 3} if pooled else {"poolclass": NullPool}
    )

    def connect() -> sqlite3.Connection:
        # No isolation level: the driver begins nothing by itself, neither before DDL nor before DML.
        return sqlite3.connect(uri, timeout=busy, isolation_level=None, check_same_thread=False, uri=True)

    engine = create_engine(URL.create("sqlite", database=str(path)), creator=connect, **pool)

    @event.listens_for(engine, "connect")
    def prepare_connection(driver: sqlite3.Connection, _record: object) -> None:
        for pragma in ("foreign_keys=ON", *pragmas):
            driver.execute(f"PRAGMA {pragma}").close()

    return engine


def copy(path: Path, to: Path) -> None:
    """A consistent copy of the whole database, complete or not there at all."""
    half = to.with_name(to.name + ".part")
    half.unlink(missing_ok=True)
    create(half)
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(half)) as target:
            source.backup(target)
        with half.open("rb+") as file:
            os.fsync(file.fileno())
        half.replace(to)
    except sqlite3.Error as error:
        half.unlink(missing_ok=True)
        raise translated(error, to) from error
    except OSError as error:
        half.unlink(missing_ok=True)
        raise _unwritable(to, error) from error


_CHUNKS: Final = (64, 8, 1)


def _insert(rows: int) -> str:
    row = "(" + ", ".join("?" * len(COLUMNS)) + ")"
    names = ", ".join(COLUMNS)
    return (
        f"INSERT INTO exchange ({names}) VALUES {', '.join([row] * rows)}"  # noqa: S608  (names are our own)
        " ON CONFLICT (request_id) DO NOTHING"
    )


_INSERTS: Final = tuple((rows, _insert(rows)) for rows in _CHUNKS)


def insert_exchanges(connection: Connection, rows: list[Values]) -> int:
    """Adds the rows, those already there excepted, and returns how many were new.

    The driver gives up the interpreter's lock once per statement and waits for it again after that,
    up to 5 ms where the event loop is busy. So many rows go into one statement.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    at, new = 0, 0
    for size, statement in _INSERTS:
        while len(rows) - at >= size:
            chunk = rows[at : at + size]
            new += driver.execute(statement, [value for row in chunk for value in row]).rowcount
            at += size
    return new
