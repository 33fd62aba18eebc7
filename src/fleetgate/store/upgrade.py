"""Brings the tables of a database to this code's state, or says why it will not be used.

The caller holds the lock file. Nothing is migrated on the strength of a guess: the version is read
again under the write lock, a copy of an existing database is made first, and all pending migrations
are one transaction, so an interruption leaves the old state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import DBAPIError

from fleetgate.store import sqlite
from fleetgate.store.failures import StoreError, Trouble, said, translated
from fleetgate.store.schema import LINEAGE, MIN_READER, Lineage, meta

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine


def bring_up(path: Path, reading: Engine, writing: Engine, lineage: Lineage = LINEAGE) -> None:
    """Checks the database at `path` and applies what is pending.

    Raises `StoreError`: it cannot be used, needs a newer Fleetgate, or a migration failed.
    """
    try:
        # A plain read first: where nothing is pending, start needs no write lock and no Alembic.
        with reading.connect() as connection:
            version = _version(connection)
            _refuse_newer(connection, path, version, lineage)
        if version == lineage.head or _later(version, lineage):
            return
        if version is not None:
            sqlite.copy(path, path.with_name(f"{path.name}.before-{lineage.head}"))
        with writing.connect() as connection:
            # Rebuilding a table must not delete the rows that point at it; only effective outside of
            # a transaction, hence before it begins.
            _outside(connection, "PRAGMA foreign_keys=OFF")
            with connection.begin():
                if _version(connection) != lineage.head:
                    _migrate(connection, path, lineage)
    except DBAPIError as error:
        raise translated(error, path) from error


def _outside(connection: Connection, statement: str) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute(statement).close()


def _version(connection: Connection) -> str | None:
    """Which migration the database is at; None: it has no tables yet."""
    found = connection.execute(
        text("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'")
    ).scalar_one()
    if not found:
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _later(version: str | None, lineage: Lineage) -> bool:
    return version is not None and version not in lineage.revisions


def _refuse_newer(connection: Connection, path: Path, version: str | None, lineage: Lineage) -> None:
    if version is None:
        tables = inspect(connection).get_table_names()
        if tables:
            raise StoreError(
                Trouble.CORRUPT,
                f"{path}: not a Fleetgate database: it has other tables ({', '.join(tables[:3])})",
                "Move that file away, or give Fleetgate another state directory.",
            )
        return
    needed = connection.execute(select(meta.c.value).where(meta.c.name == MIN_READER)).scalar()
    if needed is None or not needed.isdecimal():
        raise StoreError(
            Trouble.CORRUPT,
            f"{path}: `{MIN_READER}` in the table `meta` is {needed!r}, expected a number",
            "Restore the database from a backup.",
        )
    if int(needed) > lineage.reader:
        raise StoreError(
            Trouble.NEWER,
            f"{path}: a newer Fleetgate has changed this database (version {version}): it needs reader "
            f"{needed}, and this one is reader {lineage.reader}",
            "Start the newer Fleetgate again, or restore the copy that it made before the change.",
        )


def _migrate(connection: Connection, path: Path, lineage: Lineage) -> None:
    # Alembic and what it brings cost 10 MB and a tenth of a second: only when there is work for it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(lineage.scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        command.upgrade(config, "head")
    except (CommandError, DBAPIError) as error:
        raise StoreError(
            Trouble.MIGRATION,
            f"{path}: the change of its tables to version {lineage.head} failed and was taken back: "
            f"{said(error)}",
            "Start the previous Fleetgate again; the database is as it was.",
        ) from error
    broken = connection.execute(text("PRAGMA foreign_key_check")).first()
    if broken is not None:
        raise StoreError(
            Trouble.MIGRATION,
            f"{path}: the change of its tables to version {lineage.head} left a row without its "
            f"counterpart in {broken[0]}, and was taken back",
            "Start the previous Fleetgate again; the database is as it was.",
        )
