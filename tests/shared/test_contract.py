"""The port's promises, over memory and over a real Redis: two holders of the same state."""

import asyncio
import math
import time
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from tests.support.redis import sharing

from fleetgate.shared.memory import Memory
from fleetgate.shared.port import Rate

pytestmark = pytest.mark.asyncio
HOURLY = Rate(100, 3600.0, 100)
SOON = Rate(1000, 1.0, 1)
"""gives a unit every millisecond"""


@pytest_asyncio.fixture(params=["memory", "redis"])
async def pair(request):
    """The same state as two gateways have it."""
    if request.param == "memory":
        state = Memory(time.monotonic)
        yield state, state
        return
    redis = request.getfixturevalue("redis")
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(sharing(redis.url)) for _ in range(2)]


async def until(true):
    async with asyncio.timeout(10):
        while not await true():  # noqa: ASYNC110  (time passes elsewhere)
            await asyncio.sleep(0.001)


# --- rates ----------------------------------------------------------------------------------------------


async def test_a_full_bucket_gives_its_burst_to_whoever_comes_first(pair):
    one, other = pair
    assert (await one.draw("b", HOURLY, least=1, most=60)).units == 60
    assert (await other.draw("b", HOURLY, least=1, most=60)).units == 40
    drawn = await one.draw("b", HOURLY, least=1, most=60)
    assert drawn.units == 0
    assert 0 < drawn.retry_after <= 36.0


async def test_less_than_the_least_is_nothing(pair):
    one, other = pair
    await one.draw("b", HOURLY, least=90, most=90)
    drawn = await other.draw("b", HOURLY, least=11, most=20)
    assert drawn.units == 0
    assert 0 < drawn.retry_after <= 36.0
    assert (await other.draw("b", HOURLY, least=10, most=20)).units == 10


async def test_what_was_not_used_goes_back(pair):
    one, other = pair
    await one.draw("b", HOURLY, least=100, most=100)
    await other.give_back("b", HOURLY, 30)
    assert (await one.draw("b", HOURLY, least=1, most=100)).units == 30


async def test_a_bucket_never_holds_more_than_its_burst(pair):
    one, other = pair
    await one.draw("b", HOURLY, least=1, most=1)
    await other.give_back("b", HOURLY, 1000)
    assert (await other.draw("b", HOURLY, least=1, most=1000)).units == 100


async def test_time_fills_a_bucket(pair):
    one, other = pair
    await one.draw("b", SOON, least=1, most=1)

    async def filled():
        return (await other.draw("b", SOON, least=1, most=5)).units == 1

    await until(filled)


async def test_buckets_do_not_touch_each_other(pair):
    one, other = pair
    await one.draw("b", HOURLY, least=100, most=100)
    assert (await other.draw("c", HOURLY, least=100, most=100)).units == 100


@pytest.mark.parametrize("rate", [Rate(100, 3600.0, 10), Rate(0, 3600.0, 100)], ids=["burst", "nothing"])
async def test_what_can_never_be_given_is_never_promised(pair, rate):
    drawn = await pair[0].draw("b", rate, least=11, most=20)
    assert (drawn.units, drawn.retry_after) == (0, math.inf)
    await pair[0].give_back("b", rate, 0)


async def test_a_changed_rate_keeps_what_was_used(pair):
    one, other = pair
    await one.draw("b", Rate(100, 3600.0, 100), least=50, most=50)
    assert (await other.draw("b", Rate(200, 3600.0, 200), least=1, most=200)).units == 150
    await one.draw("c", Rate(100, 3600.0, 100), least=90, most=90)
    assert (await other.draw("c", Rate(20, 3600.0, 20), least=1, most=20)).units == 0


async def test_a_huge_rate_is_counted_exactly(pair):
    one, other = pair
    month = Rate(1_000_000_007, 2_592_000.0, 1_000_000_007)
    assert (await one.draw("b", month, least=1, most=999_999_999)).units == 999_999_999
    # a month's worth of it is some 400 a second, and the test takes less than ten
    rest = (await other.draw("b", month, least=1, most=10**9)).units
    assert 8 <= rest < 8 + 4000


async def test_many_at_once_get_the_burst_and_no_more(pair):
    draws = [pair[i % 2].draw("b", HOURLY, least=1, most=3) for i in range(100)]
    assert sum(drawn.units for drawn in await asyncio.gather(*draws)) == 100


# --- places ---------------------------------------------------------------------------------------------


async def test_places_are_shared_out_to_the_last(pair):
    one, other = pair
    assert await one.places("r", "a", capacity=10, wanted=6, ttl=60) == 6
    assert await other.places("r", "b", capacity=10, wanted=6, ttl=60) == 4
    assert await one.places("r", "c", capacity=10, wanted=1, ttl=60) == 0


async def test_a_lease_replaces_the_one_before(pair):
    one, other = pair
    await one.places("r", "a", capacity=10, wanted=10, ttl=60)
    assert await one.places("r", "a", capacity=10, wanted=10, ttl=60) == 10
    assert await one.places("r", "a", capacity=10, wanted=3, ttl=60) == 3
    assert await other.places("r", "b", capacity=10, wanted=10, ttl=60) == 7
    assert await one.places("r", "a", capacity=10, wanted=0, ttl=60) == 0
    assert await other.places("r", "b", capacity=10, wanted=10, ttl=60) == 10


async def test_fewer_places_than_before_take_none_away(pair):
    one, other = pair
    await one.places("r", "a", capacity=10, wanted=6, ttl=60)
    assert await other.places("r", "b", capacity=5, wanted=3, ttl=60) == 0
    assert await one.places("r", "a", capacity=5, wanted=6, ttl=60) == 5


async def test_a_lease_that_is_not_renewed_is_void(pair):
    one, other = pair
    await one.places("r", "a", capacity=10, wanted=10, ttl=0.02)

    async def free():
        return await other.places("r", "b", capacity=10, wanted=10, ttl=60) == 10

    await until(free)


async def test_many_at_once_get_every_place_once(pair):
    leases = [pair[i % 2].places("r", f"h{i}", capacity=20, wanted=3, ttl=60) for i in range(30)]
    assert sum(await asyncio.gather(*leases)) == 20


async def test_rooms_do_not_touch_each_other(pair):
    one, other = pair
    await one.places("r", "a", capacity=10, wanted=10, ttl=60)
    assert await other.places("s", "a", capacity=10, wanted=10, ttl=60) == 10


# --- values ---------------------------------------------------------------------------------------------


async def test_a_value_is_there_until_it_expires(pair):
    one, other = pair
    assert await one.get("k") is None
    await one.put("k", b"\x00\xff" * 5000, 60)
    assert await other.get("k") == b"\x00\xff" * 5000
    await other.put("k", b"new", 0.02)

    async def gone():
        return await one.get("k") is None

    await until(gone)
    await one.put("k", b"never", 0)
    assert await one.get("k") is None


async def test_a_flush_takes_what_begins_so_and_nothing_else(pair):
    one, other = pair
    for number in range(1200):
        await one.put(f"chat:{number}", b"x", 60)
    for odd in ("chat", "cha*:1", "chat:[1]", "embed:1"):
        await one.put(odd, b"x", 60)
    await one.draw("chat:1", HOURLY, least=100, most=100)
    await one.places("chat:1", "a", capacity=1, wanted=1, ttl=60)
    assert await other.flush("cha*:") == 1
    assert await other.flush("chat:[") == 1
    assert await other.flush("chat:") == 1200
    assert await other.flush("chat:") == 0
    assert [await one.get(key) for key in ("chat", "embed:1", "chat:7")] == [b"x", b"x", None]
    assert (await one.draw("chat:1", HOURLY, least=1, most=1)).units == 0
    assert await other.places("chat:1", "b", capacity=1, wanted=1, ttl=60) == 0
    assert await other.flush("") == 2


async def test_it_is_healthy_and_can_be_closed(pair):
    for state in pair:
        await state.put("k", b"v", 1)
        assert state.healthy
