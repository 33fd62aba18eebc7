"""Rolling and parallel gates, alone and with shared state."""

import asyncio
import math

import pytest

from fleetgate.budgets.gate import Now
from fleetgate.budgets.parallel import Parallel
from fleetgate.budgets.rolling import DOWN_FOR, STALE_AFTER, Rolling
from fleetgate.limits import Limit, Measure, Scope, Then
from fleetgate.shared.memory import Memory
from fleetgate.shared.port import Drawn, SharedDown


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def at(clock: float) -> Now:
    return Now(clock, 1.79e9 + clock)


def rolling(ceiling: int = 10, period: float = 60.0, burst: int | None = None) -> Limit:
    return Limit("r", "", Scope(), Measure.REQUESTS, ceiling, None, period, burst, Then.REFUSE, "file")


def parallel(ceiling: int) -> Limit:
    return Limit("p", "", Scope(), Measure.PARALLEL, ceiling, None, None, None, Then.REFUSE, "file")


class Gone:
    """Shared state that never answers."""

    async def draw(self, *_: object, **__: object) -> Drawn:
        raise SharedDown("gone")

    async def places(self, *_: object, **__: object) -> int:
        raise SharedDown("gone")


# -- rolling -----------------------------------------------------------------------------------------------


def test_alone_a_rolling_gate_admits_its_burst_and_tells_when_more_fits() -> None:
    gate = Rolling(rolling(), "r")
    for _ in range(10):
        assert gate.short(1, at(0)) is None
        gate.take(1, at(0), "x")
    short = gate.short(1, at(0))
    assert short is not None
    assert short.wait == pytest.approx(6.0)
    assert gate.short(1, at(6.01)) is None


def test_what_can_never_fit_is_said_to_be_so() -> None:
    short = Rolling(rolling(), "r").short(11, at(0))
    assert short is not None
    assert math.isinf(short.wait)


def test_a_settlement_corrects_once() -> None:
    gate = Rolling(rolling(100), "r")
    taken = gate.take(90, at(0), "x")
    assert gate.room(at(0)) == 10
    assert taken.settle(30, at(0)) is None
    assert gate.room(at(0)) == 70
    taken.settle(0, at(0))
    assert gate.room(at(0)) == 70


def test_a_gate_after_a_reload_goes_on_where_it_stood() -> None:
    gate = Rolling(rolling(10), "r")
    gate.take(10, at(0), "x")
    gate.revise(rolling(12), at(0))
    assert gate.room(at(0)) == 2
    gate.revise(rolling(4), at(0))
    assert gate.room(at(0)) == 0


@pytest.mark.asyncio
async def test_two_gates_share_one_rate() -> None:
    clock = Clock()
    shared = Memory(clock)
    gates = [Rolling(rolling(40), "r", shared) for _ in range(2)]
    admitted = 0
    for turn in range(100):
        gate = gates[turn % 2]
        short = gate.short(1, at(clock.now))
        if short is not None and short.ask:
            await gate.fetch(1, at(clock.now))
            short = gate.short(1, at(clock.now))
        if short is None:
            gate.take(1, at(clock.now), "x")
            admitted += 1
    assert admitted == 40


@pytest.mark.asyncio
async def test_drawn_units_that_are_old_no_longer_count() -> None:
    clock = Clock()
    gate = Rolling(rolling(100), "r", Memory(clock))
    await gate.fetch(1, at(clock.now))
    assert gate.short(5, at(clock.now)) is None
    clock.now += STALE_AFTER + 1
    short = gate.short(1, at(clock.now))
    assert short is not None
    assert short.ask


@pytest.mark.asyncio
async def test_while_the_shared_state_is_down_memory_decides() -> None:
    gate = Rolling(rolling(3), "r", Gone())  # type: ignore[arg-type]
    await gate.fetch(1, at(0))
    for _ in range(3):
        assert gate.short(1, at(0)) is None
        gate.take(1, at(0), "x")
    short = gate.short(1, at(0))
    assert short is not None
    assert not short.ask
    again = gate.short(1, at(DOWN_FOR + 1))
    assert again is not None
    assert again.ask


# -- parallel ----------------------------------------------------------------------------------------------


def test_what_runs_counts_until_it_ends_and_ends_once() -> None:
    gate = Parallel(parallel(2), "p")
    first, second = gate.take(1, at(0), "a"), gate.take(1, at(0), "b")
    assert gate.short(1, at(0)) is not None
    first.settle(1, at(1))
    first.settle(1, at(1))
    assert gate.short(1, at(1)) is None
    gate.take(1, at(1), "c")
    assert gate.short(1, at(1)) is not None
    second.settle(1, at(2))
    assert gate.room(at(2)) == 1


def test_a_ceiling_of_nothing_lets_nobody_through() -> None:
    short = Parallel(parallel(0), "p").short(1, at(0))
    assert short is not None
    assert math.isinf(short.wait)


@pytest.mark.asyncio
async def test_two_gates_never_run_more_than_the_room_has() -> None:
    clock = Clock()
    shared = Memory(clock)
    gates = [Parallel(parallel(7), "p", shared, holder) for holder in ("one", "two")]
    running = []
    for turn in range(20):
        gate = gates[turn % 2]
        short = gate.short(1, at(clock.now))
        if short is not None and short.ask:
            await gate.fetch(1, at(clock.now))
            short = gate.short(1, at(clock.now))
        if short is None:
            running.append(gate.take(1, at(clock.now), f"{turn}"))
    assert len(running) == 7


@pytest.mark.asyncio
async def test_places_that_one_gives_back_are_there_for_the_other() -> None:
    clock = Clock()
    shared = Memory(clock)
    one, two = (Parallel(parallel(2), "p", shared, holder) for holder in ("one", "two"))
    await one.fetch(1, at(clock.now))
    taken = [one.take(1, at(clock.now), "a"), one.take(1, at(clock.now), "b")]
    await two.fetch(1, at(clock.now))
    refused = two.short(1, at(clock.now))
    assert refused is not None
    for place in taken:
        place.settle(1, at(clock.now))
    await one.renew(at(clock.now))
    clock.now += 1
    await two.fetch(1, at(clock.now))
    assert two.short(1, at(clock.now)) is None


@pytest.mark.asyncio
async def test_while_the_shared_state_is_down_the_whole_limit_counts_here() -> None:
    gate = Parallel(parallel(2), "p", Gone(), "one")  # type: ignore[arg-type]
    await gate.fetch(1, at(0))
    assert gate.short(1, at(0)) is None
    gate.take(1, at(0), "a")
    gate.take(1, at(0), "b")
    assert gate.short(1, at(0)) is not None


class Slow(Memory):
    """Shared state whose answers come when they may."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.may = asyncio.Event()
        self.asked: list[int] = []

    async def places(self, room: str, holder: str, *, capacity: int, wanted: int, ttl: float) -> int:
        self.asked.append(wanted)
        got = await super().places(room, holder, capacity=capacity, wanted=wanted, ttl=ttl)
        await self.may.wait()
        return got


@pytest.mark.asyncio
async def test_two_questions_never_cross_each_other() -> None:
    clock = Clock()
    shared = Slow(clock)
    gate = Parallel(parallel(7), "p", shared, "one")
    asking = asyncio.gather(*(gate.fetch(1, at(clock.now)) for _ in range(3)))
    await asyncio.sleep(0)
    assert shared.asked == [2]
    shared.may.set()
    await asking
    await gate.fetch(1, at(clock.now))
    assert shared.asked == [2, 2]  # never less than what is there already


@pytest.mark.asyncio
async def test_places_on_their_way_back_are_not_taken() -> None:
    clock = Clock()
    shared = Slow(clock)
    shared.may.set()
    gate = Parallel(parallel(7), "p", shared, "one")
    for name in ("a", "b"):
        await gate.fetch(1, at(clock.now))
        taken = gate.take(1, at(clock.now), name)
    taken.settle(1, at(clock.now))
    shared.may.clear()
    giving = asyncio.gather(gate.renew(at(clock.now)))
    await asyncio.sleep(0)
    short = gate.short(1, at(clock.now))
    assert short is not None
    assert short.ask
    shared.may.set()
    await giving
