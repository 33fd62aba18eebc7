"""`INSERT` with an `ON CONFLICT`, for whichever database the connection leads to."""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, Table
    from sqlalchemy.dialects import postgresql

Row = TypeVar("Row")

_CHUNKS: Final = (64, 8, 1)
"""rows of one statement: few texts, each prepared once"""


def adding(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`: the same for both."""
    if connection.dialect.name != "postgresql":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415  (3 MB, and loaded already where it is used)

    return postgresql.insert(table)


def add_new(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> int:
    """Adds rows, in the order of the table's columns, and returns how many were not there already.

    The driver gives up the interpreter's lock once per statement and waits for it again after that,
    up to 5 ms where the event loop is busy. So many rows go into one statement.
    """
    driver = connection.connection.driver_connection
    names = tuple(table.columns.keys())
    new = 0
    for part in parts(rows):
        values = [value for row in part for value in row]
        if isinstance(driver, sqlite3.Connection):
            # Past SQLAlchemy: this is the one statement whose cost counts.
            new += driver.execute(_statement(table.name, names, len(part), "?"), values).rowcount
        else:
            assert driver is not None
            new += driver.add_rows(_statement(table.name, names, len(part), "$"), values)
    return new


def parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows, in parts of few sizes: as many as one statement takes, then fewer."""
    at = 0
    for size in _CHUNKS:
        while len(rows) - at >= size:
            yield rows[at : at + size]
            at += size


def mark(connection: Connection) -> str:
    """How a value is marked in a statement that is given to the driver as it is."""
    return "%s" if connection.dialect.paramstyle == "pyformat" else "?"


@cache
def _statement(table: str, names: tuple[str, ...], rows: int, mark: str) -> str:
    width = len(names)
    marks = [f"${at + 1}" if mark == "$" else mark for at in range(rows * width)]
    values = ", ".join("(" + ", ".join(marks[at : at + width]) + ")" for at in range(0, len(marks), width))
    quoted = ", ".join(f'"{name}"' for name in names)
    return f'INSERT INTO "{table}" ({quoted}) VALUES {values} ON CONFLICT DO NOTHING'  # noqa: S608
