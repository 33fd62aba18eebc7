"""The switch `paid off`: while it is set, no gateway on this database asks anything that costs money.

It is a value in the database, changed with its line in the audit trail, and read every second.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import delete, select

from fleetgate.budgets.owner import Paused
from fleetgate.keys.changes import Actor, Note, change
from fleetgate.store.adding import adding
from fleetgate.store.failures import StoreError
from fleetgate.store.schema import meta

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from fleetgate.budgets.owner import Budgets
    from fleetgate.store.database import Store

NAME: Final = "paid_off"
POLL_EVERY: Final = 1.0


class Switch:
    """Owner of the switch; tells the budgets."""

    def __init__(self, store: Store, budgets: Budgets, wall: Callable[[], float]) -> None:
        self._store = store
        self._budgets = budgets
        self._wall = wall

    def read_now(self) -> None:
        """At start, before anything is served."""
        self._budgets.paused = self._store.ask(_read)

    async def follow(self) -> None:
        """For ever: what another gateway switches is in effect here within two seconds."""
        while True:
            await asyncio.sleep(POLL_EVERY)
            try:
                self._budgets.paused = await asyncio.to_thread(self._store.ask, _read)
            except StoreError:
                continue  # without the database nothing paid goes out anyway

    async def pause(self, actor: Actor, why: str) -> Paused:
        """Switch paid models off, for everybody, until `resume`."""
        paused = Paused(self._wall(), actor.who, why)
        document = {"since": paused.since, "who": paused.who, "why": why}
        value = msgspec.json.encode(document).decode()

        def act(connection: Connection) -> None:
            row = adding(connection, meta).values(name=NAME, value=value)
            connection.execute(
                row.on_conflict_do_update(index_elements=[meta.c.name], set_={"value": row.excluded.value})
            )
            self._note(connection, actor, "budget.pause", None, {"why": why})

        await change(self._store, act)
        self._budgets.paused = paused
        return paused

    async def resume(self, actor: Actor) -> None:
        def act(connection: Connection) -> None:
            if connection.execute(delete(meta).where(meta.c.name == NAME)).rowcount:
                self._note(connection, actor, "budget.resume", {"paused": True}, None)

        await change(self._store, act)
        self._budgets.paused = None

    def _note(
        self,
        connection: Connection,
        actor: Actor,
        action: str,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> None:
        Note(actor, round(self._wall() * 1e3), action, "paid models").write(connection, before, after)


def _read(connection: Connection) -> Paused | None:
    value = connection.execute(select(meta.c.value).where(meta.c.name == NAME)).scalar()
    return msgspec.json.decode(value, type=Paused) if value is not None else None
