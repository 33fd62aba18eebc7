"""`INSERT` with an `ON CONFLICT`, for whichever database the connection leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table


def adding(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`: the same for both."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
