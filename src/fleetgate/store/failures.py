"""What can be wrong with the state database at start, as one typed error with advice.

The rules: every message says what was found and where, every advice says what to do next, and no
SQLite wording reaches the operator without our own sentence before it.
"""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from pathlib import Path


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


class StoreError(Exception):
    """The state database cannot be used. `advice` says what to do."""

    def __init__(self, trouble: Trouble, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.trouble = trouble
        self.message = message
        self.advice = advice


_SAID: Final[dict[int, tuple[Trouble, str, str]]] = {
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


def cause_of(error: BaseException) -> BaseException:
    """The driver's own error where SQLAlchemy has wrapped it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    return error


def said(error: BaseException) -> str:
    """An error in one line, with SQLite's own name for it where it has one."""
    cause = cause_of(error)
    name = getattr(cause, "sqlite_errorname", None)
    return f"{cause} ({name})" if name else f"{type(cause).__name__}: {cause}"


def translated(error: BaseException, path: Path) -> StoreError:
    """A driver's error as ours."""
    cause = cause_of(error)
    code = getattr(cause, "sqlite_errorcode", None)
    row = _SAID.get(code & 0xFF) if isinstance(code, int) else None
    trouble, found, advice = row or (Trouble.DATABASE, "the database cannot be used", "")
    return StoreError(trouble, f"{path}: {found}: {said(error)}", advice)
