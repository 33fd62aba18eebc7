"""Memory's own promises: a bound in bytes, and nothing that grows for ever."""

import pytest
from tests.support.live import Clock

from fleetgate.shared.memory import OVERHEAD, SWEEP, Memory
from fleetgate.shared.port import Rate

pytestmark = pytest.mark.asyncio


async def test_values_are_bounded_in_bytes_and_the_one_used_longest_ago_goes_first():
    state = Memory(Clock(), room=3 * (1000 + OVERHEAD + 1))
    for key in "abc":
        await state.put(key, bytes(1000), 60)
    assert await state.get("a") is not None
    await state.put("d", bytes(1000), 60)
    assert [await state.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert state.size <= 3 * (1000 + OVERHEAD + 1)


async def test_what_does_not_fit_at_all_is_not_kept_and_pushes_nothing_out():
    state = Memory(Clock(), room=2000)
    await state.put("a", bytes(1000), 60)
    await state.put("b", bytes(2000), 60)
    assert [await state.get(key) is not None for key in "ab"] == [True, False]
    await state.put("a", bytes(3000), 60)  # nor does the value that it had before
    assert await state.get("a") is None
    assert (state.size, len(state)) == (0, 0)


async def test_a_value_has_a_time_of_its_own():
    clock = Clock()
    state = Memory(clock)
    await state.put("short", b"x", 10)
    await state.put("long", b"x", 100)
    clock.pass_(10)
    assert [await state.get(key) for key in ("short", "long")] == [None, b"x"]
    assert len(state) == 1
    clock.pass_(90)
    assert await state.get("long") is None


async def test_full_buckets_are_forgotten():
    clock = Clock()
    state = Memory(clock)
    rate = Rate(1, 60.0, 5)
    await state.draw("used", rate, least=5, most=5)
    for number in range(SWEEP):
        await state.draw(f"b{number}", rate, least=1, most=1)
        clock.pass_(0.01)
    assert len(state._buckets) < SWEEP
    assert (await state.draw("used", rate, least=4, most=5)).units == 0


async def test_time_fills_a_bucket_at_its_rate():
    clock = Clock()
    state = Memory(clock)
    rate = Rate(60, 60.0, 10)
    await state.draw("b", rate, least=10, most=10)
    assert (await state.draw("b", rate, least=2, most=2)).retry_after == pytest.approx(2.0)
    clock.pass_(2.0)
    assert (await state.draw("b", rate, least=1, most=10)).units == 2


async def test_closed_it_holds_nothing():
    state = Memory(Clock())
    await state.put("a", b"x", 60)
    await state.close()
    assert (await state.get("a"), state.size) == (None, 0)
