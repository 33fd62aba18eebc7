"""What can be wrong with the state database at start, as one typed error with advice.

The rules: every message says what was found and where, every advice says what to do next, no wording
of SQLite's or PostgreSQL's reaches the operator without our own sentence before it, and nothing of it
holds a password or the contents of a row.
"""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from pathlib import Path

LONGEST: Final = 300
"""Characters of a driver's own words."""


class Trouble(StrEnum):
    """What kind of trouble it is: a stable word for scripts and tests."""

    DIRECTORY = "directory"
    """the state directory cannot be made or written"""
    HELD = "held"
    """another process uses this state directory"""
    LOCKED = "locked"
    """another program keeps the database locked"""
    FULL = "full"
    CORRUPT = "corrupt"
    NEWER = "newer"
    """the database needs a newer Fleetgate"""
    MIGRATION = "migration"
    DATABASE = "database"
    """anything else the database refuses"""
    CLOSED = "closed"
    DOWN = "down"
    """PostgreSQL cannot be reached, or takes no more connections"""
    LOGIN = "login"
    """PostgreSQL does not let this user in"""
    SETUP = "setup"
    """something has to be installed or set up first"""


class StoreError(Exception):
    """The state database cannot be used. `advice` says what to do.

    `unknown`: whether what was asked for has happened is not known.
    """

    def __init__(self, trouble: Trouble, message: str, advice: str = "", *, unknown: bool = False) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.message = message
        self.advice = advice
        self.unknown = unknown


_Row = tuple[Trouble, str, str]
"""What it is, in our words, and what to do."""

_SAID: Final[dict[int, _Row]] = {
    sqlite3.SQLITE_FULL: (
        Trouble.FULL,
        "the disk is full",
        "Free some space on that disk, or give Fleetgate another state directory.",
    ),
    sqlite3.SQLITE_NOTADB: (
        Trouble.CORRUPT,
        "this file is not a Fleetgate database",
        "Restore it from a backup, or move it away: Fleetgate then begins with an empty one.",
    ),
    sqlite3.SQLITE_CORRUPT: (
        Trouble.CORRUPT,
        "the database is damaged",
        "Restore it from a backup, or move it away: Fleetgate then begins with an empty one.",
    ),
    sqlite3.SQLITE_READONLY: (
        Trouble.DIRECTORY,
        "the database is read-only",
        "Make the file and its directory writable for the user that Fleetgate runs as.",
    ),
    sqlite3.SQLITE_PERM: (
        Trouble.DIRECTORY,
        "the database may not be opened",
        "Make the file and its directory writable for the user that Fleetgate runs as.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        Trouble.DIRECTORY,
        "the database cannot be opened",
        "Make the file and its directory writable for the user that Fleetgate runs as.",
    ),
    sqlite3.SQLITE_IOERR: (
        Trouble.DATABASE,
        "the disk does not take what is written",
        "Check the disk and the limits on file sizes, or give Fleetgate another state directory.",
    ),
    sqlite3.SQLITE_BUSY: (
        Trouble.LOCKED,
        "another program keeps the database locked",
        "Close the program that has the file open (a database browser, a backup).",
    ),
}
"""By SQLite's primary result code."""


_START: Final = "See whether PostgreSQL runs, and whether this machine may connect to it."
_USER: Final = "Check the user and the password in `gateway.database`, and pg_hba.conf."
_PRIMARY: Final = "Name the primary in `gateway.database`: a standby takes nothing."
_AGAIN: Final = "See in PostgreSQL who holds the lock (pg_stat_activity)."

_STATES: Final[dict[str, _Row]] = {
    "08": (Trouble.DOWN, "the connection was lost", _START),
    "57P": (Trouble.DOWN, "it is starting or stopping", _START),
    "53300": (Trouble.DOWN, "it takes no more connections", "Raise max_connections, or use a pooler."),
    "53100": (Trouble.FULL, "its disk is full", "Free some space on the disk of PostgreSQL."),
    "53": (Trouble.DATABASE, "it has run out of something", "See the log of PostgreSQL."),
    "25006": (Trouble.DATABASE, "it is read-only", _PRIMARY),
    "28": (Trouble.LOGIN, "it does not let this user in", _USER),
    "3D000": (Trouble.SETUP, "there is no such database", "Create it, with this user as its owner."),
    "42501": (
        Trouble.SETUP,
        "this user may not do that",
        "Make the user the owner of the database, or grant it the right to create tables.",
    ),
    "55P03": (Trouble.LOCKED, "somebody keeps a lock", _AGAIN),
    "40": (Trouble.LOCKED, "two gateways were in each other's way", _AGAIN),
    "57014": (Trouble.DATABASE, "it took too long", "See the log of PostgreSQL."),
    "XX00": (Trouble.CORRUPT, "the database is damaged", "Restore it from a backup."),
}
"""By the first characters of SQLSTATE, the longest first."""

_CONNECTING: Final[tuple[tuple[str, _Row], ...]] = (
    ("starting up", _STATES["57P"]),
    ("shutting down", _STATES["57P"]),
    ("too many clients", _STATES["53300"]),
    ("remaining connection slots", _STATES["53300"]),
    ("no answer", (Trouble.DOWN, "it does not answer", _START)),
    ("password", _STATES["28"]),
    ("authentication", _STATES["28"]),
    ("pg_hba.conf", _STATES["28"]),
    ('role "', _STATES["28"]),
    ("does not exist", _STATES["3D000"]),
    ("connection failed", (Trouble.DOWN, "it cannot be reached", _START)),
    ("connection timeout", (Trouble.DOWN, "it does not answer", _START)),
    ("connection is bad", (Trouble.DOWN, "it cannot be reached", _START)),
    ("connection attempts failed", (Trouble.DOWN, "it cannot be reached", _START)),
    ("resolve", (Trouble.DOWN, "its name is not known", "Check the host in `gateway.database`.")),
    ("connection", _STATES["08"]),
)
"""By libpq's words, since a connection that fails has no SQLSTATE. The server's own may be in any
language: then the last rows say what is certain."""

_REPEATABLE: Final = ("40", "55P03", "23505")
"""Another transaction was in the way, or came first: now it is seen."""


def cause_of(error: BaseException) -> BaseException:
    """The driver's own error where SQLAlchemy has wrapped it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    return error


def said(error: BaseException) -> str:
    """An error in one line, with the database's own name for it where it has one."""
    cause = cause_of(error)
    name = getattr(cause, "sqlite_errorname", None)
    if name:
        return f"{cause} ({name})"
    # What PostgreSQL adds to its first line may hold the contents of a row.
    main = getattr(getattr(cause, "diag", None), "message_primary", None)
    state = getattr(cause, "sqlstate", None)
    text = " ".join(str(main or cause).partition("\n")[0].split())
    text = f"{text[:LONGEST]}…" if len(text) > LONGEST else text
    return f"{type(cause).__name__}: {text}" + (f" ({state})" if state else "")


def outcome_unknown(error: BaseException) -> bool:
    """Whether a transaction may have been committed although it failed."""
    return bool(getattr(cause_of(error), "outcome_unknown", False))


def repeatable(error: BaseException) -> bool:
    """Whether a transaction was taken back for a reason that may be gone when it is run again."""
    if outcome_unknown(error):
        return False
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True  # PostgreSQL was restarted: there is a new connection next time
    return str(getattr(cause_of(error), "sqlstate", None) or "").startswith(_REPEATABLE)


def translated(error: BaseException, name: Path | str) -> StoreError:
    """A driver's error as ours. `name`: what the database is called, without secrets."""
    trouble, found, advice = _row(cause_of(error)) or (
        Trouble.DATABASE,
        "the database cannot be used",
        "",
    )
    unknown = outcome_unknown(error)
    tail = ": whether it was changed is unknown" if unknown else ""
    return StoreError(trouble, f"{name}: {found}: {said(error)}{tail}", advice, unknown=unknown)


def _row(cause: BaseException) -> _Row | None:
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(code, int):
        return _SAID.get(code & 0xFF)
    state = getattr(cause, "sqlstate", None)
    if state:
        return next((_STATES[state[:end]] for end in (5, 4, 3, 2) if state[:end] in _STATES), None)
    if not hasattr(cause, "diag"):
        return None
    text = str(cause)
    return next((row for words, row in _CONNECTING if words in text), None)
