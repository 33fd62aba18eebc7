"""A registry over a real database, with clocks that a test moves."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleetgate.domain import KeyKind, Principal
from fleetgate.keys.changes import Actor
from fleetgate.keys.master import pepper
from fleetgate.keys.owner import Issued, Keys
from fleetgate.keys.people import People
from fleetgate.keys.registry import Registry
from fleetgate.keys.ring import Ring, Unfamiliar
from fleetgate.store import access
from fleetgate.store.database import SQLITE, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

MASTER_KEY = "test-master-key-0123456789"
ADA = Actor("ada", "192.0.2.7", "req_1")


@dataclass
class Clock:
    """Monotonic seconds and unix seconds, moved apart from each other by tests."""

    now: float = 1_000.0
    unix: float = 1_790_000_000.0

    def move(self, seconds: float) -> None:
        self.now += seconds
        self.unix += seconds


@dataclass
class House:
    """What one gateway has for keys."""

    store: Store
    clock: Clock
    keys: Keys
    ring: Ring
    registry: Registry
    people: People
    database: str = SQLITE

    async def who(self, key: str) -> Principal | None:
        """As the door does it. Raises Refused."""
        try:
            return self.keys.identify(key.encode())
        except Unfamiliar as unfamiliar:
            await self.keys.learn(unfamiliar)
            return self.keys.identify_now(key.encode())

    async def make(self, kind: KeyKind = KeyKind.CALLER, **wanted: Any) -> tuple[str, str]:
        """Id and text of a new key."""
        row, key = await self.registry.create(ADA, kind, wanted)
        return row.id, key

    def beside(self) -> House:
        """A second gateway on the same database."""
        return built(self.store, self.clock, self.database)

    def break_reading(self) -> None:
        """Whoever has a connection keeps it; nobody gets a new one."""
        self.store._reading.dispose()
        if self.database == SQLITE:
            self.store.path.rename(self.store.path.with_name("away.db"))
        else:
            self._allow("false")

    @contextmanager
    def no_reader_free(self) -> Iterator[None]:
        """As when the database hangs: whoever wants to read waits for a connection."""
        pool = self.store._reading.pool
        with ExitStack() as held:
            for _ in range(pool.size() + pool._max_overflow):
                held.enter_context(self.store._reading.connect())
            yield

    def mend(self) -> None:
        if self.database == SQLITE:
            self.store.path.with_name("away.db").rename(self.store.path)
        else:
            self._allow("true")

    def _allow(self, connections: str) -> None:
        import psycopg

        before, _, name = self.database.partition("?")[0].rpartition("/")
        options = self.database.partition("?")[2]
        with psycopg.connect(f"{before}/postgres?{options}", autocommit=True) as line:
            line.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}".encode())


def built(store: Store, clock: Clock, database: str = SQLITE) -> House:
    ring = Ring()
    issued = Issued(store, pepper(store.directory), ring, lambda: clock.now, lambda: clock.unix)
    ring.confirm(store.ask(access.epoch), clock.now)
    registry, people = Registry(issued, secrets.token_bytes), People(issued)
    return House(store, clock, Keys(MASTER_KEY, issued), ring, registry, people, database)


@asynccontextmanager
async def house(directory: Path, database: str = SQLITE) -> AsyncIterator[House]:
    clock = Clock()
    store = Store.open(directory, lambda: clock.unix, database=database)
    try:
        yield built(store, clock, database)
    finally:
        store.close()
