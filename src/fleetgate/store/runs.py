"""Gateway processes as the ledger knows them: each start is a run, and its row says that it lives.

Rules: whoever writes for a run pins its row, whoever ends a dead run locks that row first; so a run
is either alive for a whole transaction or gone before it. On SQLite the lock file proves that every
other run is dead. On PostgreSQL one is dead whose heart-beat is older than `SILENCE`, by the clock
of the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Connection, cast, delete, extract, func, select, union, update

from fleetgate.store.adding import adding
from fleetgate.store.schema import budget_lease, open_request, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BEAT: Final = 5.0
"""Seconds between two heart-beats."""
SILENCE: Final = 60_000
"""Milliseconds without one after which a run counts as dead."""


def shared(connection: Connection) -> bool:
    """Whether other gateways may be alive on this database."""
    return connection.dialect.name == "postgresql"


def moment(connection: Connection, clock: Callable[[], float]) -> int:
    """Now, in unix milliseconds: by the clock of the database where several gateways use it."""
    if not shared(connection):
        return round(clock() * 1e3)
    seconds = extract("epoch", func.clock_timestamp())
    return int(connection.execute(select(cast(seconds * 1000, BigInteger))).scalar_one())


def register(connection: Connection, name: str, host: str, at: int) -> None:
    row = adding(connection, run).values(id=name, started_at=at, beat_at=at, host=host)
    connection.execute(row.on_conflict_do_update(index_elements=[run.c.id], set_={"beat_at": at}))


def pin(connection: Connection, name: str) -> bool:
    """Whether the run is still thought to be alive, which stays so to the end of the transaction."""
    query = select(run.c.id).where(run.c.id == name).with_for_update(read=True)
    return connection.execute(query).scalar() is not None


def beat(connection: Connection, name: str, at: int) -> None:
    connection.execute(update(run).where(run.c.id == name).values(beat_at=at))


def dead(connection: Connection, name: str, at: int) -> list[str]:
    """Other runs that are over, locked against whoever would end them too."""
    known = select(run.c.id).where(run.c.id != name)
    if shared(connection):
        known = known.where(run.c.beat_at < at - SILENCE)
    found = set(connection.execute(known.with_for_update(skip_locked=True)).scalars())
    # What belongs to a run without a row, which should not be, must not hang for ever.
    left = union(select(budget_lease.c.run), select(open_request.c.run)).subquery()
    orphans = select(left.c.run).where(left.c.run != name, left.c.run.not_in(select(run.c.id)))
    return sorted(found.union(connection.execute(orphans).scalars()))


def remove(connection: Connection, names: Sequence[str]) -> None:
    connection.execute(delete(run).where(run.c.id.in_(names)))
