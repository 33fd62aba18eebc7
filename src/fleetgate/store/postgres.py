"""Everything that is particular to PostgreSQL: its address, its connections, its limits of time.

Rules: several gateways may use one database. Nothing is set on a connection for longer than a
transaction, and nothing is prepared, so a transaction pooler may stand between. Time is limited
twice: PostgreSQL ends what takes too long, and a connection whose other end falls silent is given up
here. A password is seen by libpq alone: no message holds it. Only `Store.open` imports this module,
for psycopg is not always there.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import psycopg
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, create_engine, event, exc
from sqlalchemy.pool import NullPool, QueuePool

from fleetgate.store.failures import StoreError, Trouble, translated

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy import Engine

Given = TypeVar("Given")

OLDEST: Final = 15
READING: Final = 10.0
"""Seconds that one statement may take which reads, …"""
WRITING: Final = 10.0
"""… or writes, …"""
MIGRATING: Final = 3_600.0
"""… or changes tables."""
GRACE: Final = 2.0
"""Seconds after which a connection is given up whose other end should have ended the statement."""
LOCK: Final = 0.5
"""Seconds to wait for a row that another gateway is changing."""
TURN: Final = 60.0
"""Seconds to wait for another gateway that is changing tables."""
READERS: Final = 8
QUEUE: Final = 0.25
"""Seconds to wait for one of them."""

_MIGRATION: Final = 0x666C6565746761
"""Number of the lock on changing tables; locks with a number are of one database."""

_DEFAULTS: Final[tuple[tuple[str, str], ...]] = (
    ("application_name", "fleetgate"),
    ("client_encoding", "utf8"),
    ("connect_timeout", "2"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "5000"),
)
"""What the address does not say."""

# What a transaction begins with: one message, and nothing that outlasts it.
_READ: Final = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
    f"SET LOCAL statement_timeout = {READING * 1e3:.0f}; "
    "SET LOCAL idle_in_transaction_session_timeout = 30000"
)
_WRITE: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on; "
    f"SET LOCAL lock_timeout = {{}}; SET LOCAL statement_timeout = {WRITING * 1e3:.0f}; "
    "SET LOCAL idle_in_transaction_session_timeout = 10000"
)
_MIGRATE: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on; "
    f"SET LOCAL lock_timeout = {TURN * 1e3:.0f}; SET LOCAL statement_timeout = {MIGRATING * 1e3:.0f}; "
    f"SELECT pg_advisory_xact_lock({_MIGRATION})"
)


class NoAnswer(psycopg.OperationalError):
    """The other end has fallen silent."""


class CommitUnknown(psycopg.OperationalError):
    """The connection was lost during COMMIT."""

    outcome_unknown = True


class Line(psycopg.Connection[Any]):
    """A connection that gives up by itself, and knows when it cannot say whether it has committed."""

    patience = READING + GRACE

    def wait(
        self, gen: Generator[Any, Any, Given], interval: float = 0.1, timeout: float | None = None
    ) -> Given:
        """Every exchange with the other end comes through here."""
        return super().wait(self._within(gen), interval, *(() if timeout is None else (timeout,)))

    def commit(self) -> None:
        try:
            super().commit()
        except psycopg.OperationalError as error:
            if self.closed:
                raise CommitUnknown(str(error)) from error
            raise

    def add_rows(self, statement: str, values: list[Any]) -> int:
        """An insert with `$1` and so on; how many rows it has added.

        Other marks are looked for and replaced at each call, which costs more than all the rest.
        """
        try:
            with psycopg.RawCursor(self) as cursor:
                return cursor.execute(statement.encode(), values).rowcount
        except psycopg.Error as error:
            kind, lost = psycopg.Error, self.closed
            raise exc.DBAPIError.instance(None, None, error, kind, connection_invalidated=lost) from error

    def _within(self, gen: Generator[Any, Any, Given]) -> Generator[Any, Any, Given]:
        """The same steps, as long as there is time."""
        ends = time.monotonic() + self.patience
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send((yield wanted))
                if time.monotonic() > ends:
                    self.close()
                    raise NoAnswer(f"no answer within {self.patience:g} s")
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


class Text(Dumper):
    """Text as PostgreSQL takes it: without NUL, and without half characters."""

    def dump(self, obj: str) -> bytes:
        return obj.encode("utf-8", "replace").replace(b"\0", "\ufffd".encode())


class Postgres:
    """A database of PostgreSQL's."""

    def __init__(self, url: str, busy: float = LOCK) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # what it says may hold the password
            raise StoreError(
                Trouble.SETUP,
                "gateway.database cannot be read",
                "Write postgresql://user@host/name, and special characters of a password as %40.",
            ) from None
        self._options: dict[str, Any] = {**dict(_DEFAULTS), **given}
        self.title = _title(given)
        self.reading = self._engine(_READ, READING, pooled=True)
        self.writing = self._engine(_WRITE.format(round(busy * 1e3)), WRITING)
        self.trial = self.writing

    def check(self) -> None:
        """PostgreSQL 15 or later, and a database that takes any text."""
        with self.reading.connect() as connection:
            ask = "SELECT current_setting('server_version_num'), current_setting('server_encoding')"
            version, encoding = connection.exec_driver_sql(ask).one()
        if int(version) // 10_000 < OLDEST:
            raise StoreError(
                Trouble.SETUP,
                f"{self.title}: this is PostgreSQL {int(version) // 10_000}",
                f"Fleetgate needs PostgreSQL {OLDEST} or later.",
            )
        if encoding != "UTF8":
            raise StoreError(
                Trouble.SETUP,
                f"{self.title}: the database has the encoding {encoding}",
                "Create one with ENCODING 'UTF8'.",
            )

    def keep_copy(self, version: str) -> None:
        """Backups of PostgreSQL are made with its own means."""

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        engine = self._engine(_MIGRATE, MIGRATING)
        with engine.connect() as connection, connection.begin():
            yield connection

    def translated(self, error: BaseException) -> StoreError:
        return translated(error, self.title)

    def close(self) -> None:
        self.reading.dispose()

    def _engine(self, begin: str, limit: float, *, pooled: bool = False) -> Engine:
        adapters = AdaptersMap(psycopg.adapters)
        adapters.register_dumper(str, Text)

        def connect() -> Line:
            # The driver begins nothing by itself: `begin` and the limits of time are one message.
            line = Line.connect(
                **self._options, autocommit=True, prepare_threshold=None, context=_Adapters(adapters)
            )
            line.patience = limit + GRACE
            return line

        pool: dict[str, Any] = (
            {"poolclass": QueuePool, "pool_size": 2, "max_overflow": READERS - 2, "pool_timeout": QUEUE}
            if pooled
            else {"poolclass": NullPool}
        )
        engine = create_engine("postgresql+psycopg://", creator=connect, use_native_hstore=False, **pool)

        @event.listens_for(engine, "begin")
        def start(connection: Connection) -> None:
            # Several statements in one message are only possible without parameters.
            connection.exec_driver_sql(begin, execution_options={"no_parameters": True})

        return engine


class _Adapters:
    """The form in which psycopg is told how to write values."""

    connection = None

    def __init__(self, adapters: AdaptersMap) -> None:
        self.adapters = adapters


def _title(given: dict[str, Any]) -> str:
    hosts = str(given.get("host") or given.get("hostaddr") or "")
    ports = str(given.get("port") or "")
    user = f"{quote(str(given['user']))}@" if given.get("user") else ""
    where = quote(hosts, safe=",:/") + (f":{ports}" if ports else "")
    return f"postgresql://{user}{where}/{quote(str(given.get('dbname') or ''))}"
