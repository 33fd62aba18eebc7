"""A lasting gate that is not alone: small chunks, and idle leases that go back."""

from __future__ import annotations

import pytest
from tests.support.live import deployment, engine

from fleetgate.budgets.gate import Now
from fleetgate.budgets.lasting import CHUNK_MONEY, IDLE_AFTER, Lasting
from fleetgate.budgets.owner import Budgets, Means
from fleetgate.limits import Limit, Measure, Scope, Then
from fleetgate.store.database import Store
from fleetgate.store.leases import Wanted, grant
from fleetgate.windows import Calendar, Unit

pytestmark = pytest.mark.asyncio

DOLLAR = 1_000_000_000
WALL = 1_790_000_000.0


def budget(ceiling: int) -> Limit:
    monthly = Calendar(Unit.MONTH)
    return Limit("b", "", Scope(), Measure.MONEY, ceiling, monthly, None, None, Then.REFUSE, "file")


class House:
    """One gateway's gate over a database that others use too."""

    def __init__(self, path, ceiling):
        self.now = Now(1_000.0, WALL)
        self.store = Store.open(path, lambda: WALL)
        clock = lambda: self.now.clock  # noqa: E731
        means = Means(self.store, clock, lambda: WALL, lambda *_, **__: None, alone=False)
        self.budgets = Budgets(means)
        self.budgets.configure([budget(ceiling)])
        paid = deployment("m", engine("cloud", local=False))
        (gate,) = self.budgets._gates_for(self.budgets._of_candidates, {"deployment": paid.id})
        assert isinstance(gate, Lasting)
        self.gate = gate

    async def ask(self, amount):
        """Whether it fits, after a question to the database if there has to be one."""
        short = self.gate.short(amount, self.now)
        if short is not None and short.ask:
            await self.gate.fetch(amount, self.now)
            short = self.gate.short(amount, self.now)
        return short is None

    def later(self, seconds):
        self.now = Now(self.now.clock + seconds, self.now.wall + seconds)

    def granted(self):
        return sum(one.granted for one in self.store.counters())


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path, 100 * DOLLAR)
    yield made
    made.store.close()


async def test_a_gateway_among_others_takes_a_chunk_at_a_time(house):
    assert await house.ask(DOLLAR // 100)
    assert house.granted() == CHUNK_MONEY


async def test_near_the_ceiling_chunks_become_small(house):
    window = house.gate.limit.calendar.start(WALL)
    elsewhere = Wanted("b", window, 100 * DOLLAR, 1, 99 * DOLLAR)
    await house.store.change(lambda connection: grant(connection, "another", [elsewhere]))
    assert await house.ask(1_000)
    assert await house.ask(DOLLAR // 2)
    assert not await house.ask(DOLLAR * 2)
    assert house.granted() <= 100 * DOLLAR


async def test_what_an_idle_gateway_has_left_goes_back(house):
    assert await house.ask(1_000)
    taken = house.gate.take(1_000, house.now, "x")
    await house.budgets.renew()
    house.later(IDLE_AFTER + 1)
    await house.budgets.renew()
    assert house.granted() == CHUNK_MONEY  # something of it is held
    taken.settle(400, house.now)
    await house.budgets.renew()
    assert house.granted() < CHUNK_MONEY
    assert await house.ask(1_000)
