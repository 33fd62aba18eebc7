"""Many requests at the same instant, with several gateways: nobody is refused while there is room."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from fleetgate.budgets.denied import Denied
from fleetgate.budgets.holds import Caller, Counts
from fleetgate.budgets.owner import Budgets, Means
from fleetgate.domain import Principal
from fleetgate.limits import Limit, Measure, Scope, Then
from fleetgate.shared.memory import Memory
from fleetgate.store.database import Store
from fleetgate.windows import Calendar, Unit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio

CLOCK, WALL = 1_000.0, 1_790_000_000.0
ROOM = 60


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path, lambda: WALL)) as opened:
        yield opened


def budgets(store: Store, limit: Limit) -> Budgets:
    """One of several gateways."""
    shared = Memory(lambda: CLOCK)
    means = Means(store, lambda: CLOCK, lambda: WALL, lambda *_, **__: None, shared, alone=False)
    owner = Budgets(means)
    owner.configure([limit])
    return owner


async def admitted(owner: Budgets, requests: int) -> int:
    """How many of so many at once."""

    async def one(number: int) -> bool:
        try:
            await owner.admit(Caller(Principal("k"), "r"), Counts(1, 1), f"request-{number}")
        except Denied:
            return False
        return True

    return sum(await asyncio.gather(*map(one, range(requests))))


def limit(measure: Measure, **members: Any) -> Limit:
    given = {"calendar": None, "period": None, "burst": None, **members}
    return Limit("l", "", Scope(), measure, ROOM, then=Then.REFUSE, origin="file", **given)


DAILY = limit(Measure.REQUESTS, calendar=Calendar(Unit.DAY, "UTC", 0))
PARALLEL = limit(Measure.PARALLEL)


@pytest.mark.parametrize("bound", [DAILY, PARALLEL], ids=["a day", "at the same time"])
@pytest.mark.parametrize("requests", [ROOM, 5 * ROOM], ids=["as many", "more"])
async def test_as_many_are_let_in_as_there_is_room_for(store, bound, requests):
    assert await admitted(budgets(store, bound), requests) == ROOM
