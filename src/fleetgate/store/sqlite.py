"""Everything that is particular to SQLite: the file, its pragmas; and the lock of the state directory.

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
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.pool import NullPool, QueuePool

from fleetgate.store.failures import StoreError, Trouble, translated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

DATABASE: Final = "fleetgate.db"
VERSION: Final = sqlite3.sqlite_version
LOCK: Final = "fleetgate.lock"
BUSY: Final = 5.0
"""Seconds to wait for somebody else's lock on the database."""

TRIAL: Final = 0.25
"""Seconds that a start waits for it."""

_FIXED: Final = (3, 51, 3)
"""Since then two connections that write or checkpoint at the same instant cannot damage a WAL database."""

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
    """The lock file: while this is held, no other process uses the state directory.

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


class File:
    """The database file of a state directory, opened."""

    def __init__(self, path: Path, busy: float = BUSY) -> None:
        create(path)
        self.path = path
        self.title = str(path)
        self.reading = reading_engine(path)
        self.writing = writing_engine(path, busy=busy)
        self.trial = writing_engine(path, busy=TRIAL)

    def check(self) -> None:
        """Whatever is wrong with a file shows when it is read."""

    def keep_copy(self, version: str) -> None:
        copy(self.path, self.path.with_name(f"{self.path.name}.before-{version}"))

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        with self.writing.connect() as connection:
            # Rebuilding a table must not delete the rows that point at it; only effective outside of
            # a transaction, hence before it begins.
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("PRAGMA foreign_keys=OFF").close()
            with connection.begin():
                yield connection
                broken = connection.execute(text("PRAGMA foreign_key_check")).first()
                if broken is not None:
                    raise StoreError(
                        Trouble.MIGRATION,
                        f"{self.title}: the change of its tables left a row without its counterpart in "
                        f"{broken[0]}, and was taken back",
                        "Start the previous Fleetgate again; the database is as it was.",
                    )

    def translated(self, error: BaseException) -> StoreError:
        return translated(error, self.title)

    def close(self) -> None:
        self.reading.dispose()


def wal_reset_bug() -> bool:
    """Whether this SQLite is one that several connections at once could damage a database with. One
    writing connection in one process cannot; a database browser beside it can."""
    return sqlite3.sqlite_version_info < _FIXED


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
    """Connections that can only read; all of a transaction is of one instant."""
    engine = _engine(path, ("query_only=ON", "wal_autocheckpoint=0"), 1.0, pooled=True)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


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
