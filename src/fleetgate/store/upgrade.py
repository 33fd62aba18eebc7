"""Brings the tables of a database to this code's state, or says why it will not be used.

Nothing is migrated on the strength of a guess: the version is read again where no other gateway can
migrate, a copy of an existing file is made first, and all pending migrations are one transaction, so
an interruption leaves the old state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import DBAPIError

from fleetgate.store.failures import StoreError, Trouble, said
from fleetgate.store.schema import LINEAGE, MIN_READER, Lineage, meta

if TYPE_CHECKING:
    from fleetgate.store.dialect import Database

_NOT_ITS_FAULT: Final = (Trouble.DOWN, Trouble.FULL, Trouble.LOCKED, Trouble.SETUP)
"""What a migration can fail of without being wrong."""


def bring_up(database: Database, lineage: Lineage = LINEAGE) -> None:
    """Checks a database and applies what is pending.

    Raises `StoreError`: it cannot be used, needs a newer Fleetgate, or a migration failed.
    """
    try:
        database.check()
        # A plain read first: where nothing is pending, start needs no write lock and no Alembic.
        with database.reading.connect() as connection:
            version = _usable(connection, database, lineage)
        if _done(version, lineage):
            return
        if version is not None:
            database.keep_copy(lineage.head)
        with database.migrating() as connection:
            # Another gateway may have been quicker.
            if not _done(_usable(connection, database, lineage), lineage):
                _migrate(connection, database, lineage)
    except DBAPIError as error:
        raise database.translated(error) from error


def _usable(connection: Connection, database: Database, lineage: Lineage) -> str | None:
    version = _version(connection)
    _refuse_newer(connection, database.title, version, lineage)
    return version


def _version(connection: Connection) -> str | None:
    """Which migration the database is at; None: it has no tables yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _done(version: str | None, lineage: Lineage) -> bool:
    return version == lineage.head or _later(version, lineage)


def _later(version: str | None, lineage: Lineage) -> bool:
    return version is not None and version not in lineage.revisions


def _refuse_newer(connection: Connection, title: str, version: str | None, lineage: Lineage) -> None:
    if version is None:
        tables = inspect(connection).get_table_names()
        if tables:
            raise StoreError(
                Trouble.CORRUPT,
                f"{title}: not a Fleetgate database: it has other tables ({', '.join(tables[:3])})",
                "Give Fleetgate a database, or a state directory, of its own.",
            )
        return
    needed = connection.execute(select(meta.c.value).where(meta.c.name == MIN_READER)).scalar()
    if needed is None or not needed.isdecimal():
        raise StoreError(
            Trouble.CORRUPT,
            f"{title}: `{MIN_READER}` in the table `meta` is {needed!r}, expected a number",
            "Restore the database from a backup.",
        )
    if int(needed) > lineage.reader:
        raise StoreError(
            Trouble.NEWER,
            f"{title}: a newer Fleetgate has changed this database (version {version}): it needs reader "
            f"{needed}, and this one is reader {lineage.reader}",
            "Start the newer Fleetgate again, or restore the copy that it made before the change.",
        )


def _migrate(connection: Connection, database: Database, lineage: Lineage) -> None:
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
        found = database.translated(error)
        if found.trouble in _NOT_ITS_FAULT:
            raise found from error
        raise StoreError(
            Trouble.MIGRATION,
            f"{database.title}: the change of its tables to version {lineage.head} failed and was taken "
            f"back: {said(error)}",
            "Start the previous Fleetgate again; the database is as it was.",
        ) from error
