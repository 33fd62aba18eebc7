"""What a `Store` asks of the database behind it: `sqlite.File` and `postgres.Postgres` answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine

    from fleetgate.store.failures import StoreError


class Database(Protocol):
    """A database that can be opened. Nothing here is called on the path of a request."""

    @property
    def title(self) -> str:
        """What messages call it: where it is, without secrets."""

    @property
    def reading(self) -> Engine:
        """Pooled connections that only read; all reads of one transaction are of one instant."""

    @property
    def writing(self) -> Engine:
        """Connections that write and are not pooled: the writer keeps one, until it fails."""

    @property
    def trial(self) -> Engine:
        """The same, without patience for somebody else's lock."""

    def check(self) -> None:
        """Whether it can be used at all. Raises `StoreError`, or SQLAlchemy's `DBAPIError`."""

    def keep_copy(self, version: str) -> None:
        """Before tables change to `version`: a copy of everything, where that is a matter of a file."""

    def migrating(self) -> AbstractContextManager[Connection]:
        """One transaction that may change tables, while no other gateway does."""

    def translated(self, error: BaseException) -> StoreError:
        """A driver's error as ours."""

    def close(self) -> None:
        """Lets go of the reading connections. The writer closes its own."""
