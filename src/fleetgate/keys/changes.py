"""Who changes something, and the one way in which it is done.

A change, its line in the audit trail and, for keys, the next number of the counter are one
transaction. Secrets appear in the trail as fingerprints only.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fleetgate.errors import Refused, Source
from fleetgate.store import access
from fleetgate.store.failures import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from fleetgate.store.database import Store

Found = TypeVar("Found")

PATIENCE: Final = 5.0
"""Seconds that a change may take."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a change, as the trail tells it."""

    who: str
    address: str = ""
    request_id: str = ""


async def change(store: Store, act: Callable[[Connection], Found]) -> Found:
    """Do it. Raises Refused: what `act` says, or 503 while the database is down."""
    try:
        return await store.change(lambda connection: act(access.alone(connection)), PATIENCE)
    except StoreError as error:
        raise unavailable(error) from error


async def read(store: Store, look: Callable[[Connection], Found]) -> Found:
    """Look something up, outside of the event loop. Raises Refused (503)."""
    try:
        return await asyncio.to_thread(store.ask, look)
    except StoreError as error:
        raise unavailable(error) from error


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the trail, made before the change."""

    actor: Actor
    at: int
    action: str
    subject: str

    def write(
        self, connection: Connection, before: dict[str, Any] | None, after: dict[str, Any] | None
    ) -> None:
        actor = self.actor
        access.note(
            connection,
            access.AuditRow(
                self.at, actor.who, self.action, self.subject, before, after, actor.address, actor.request_id
            ),
        )


def moment(at: int | None) -> str | None:
    """Unix milliseconds as people write times."""
    if at is None:
        return None
    return datetime.fromtimestamp(at // 1000, UTC).isoformat().replace("+00:00", "Z")


def unavailable(error: StoreError) -> Refused:
    """What a caller is told when the database does not answer."""
    return Refused(
        503,
        "database_unavailable",
        error.message.rpartition(": ")[2]
        if error.message.count(": ") == 1
        else "the database does not answer",
        advice="See the log of the gateway.",
        source=Source.GATEWAY,
        retry_after=5.0,
    )
