"""The bucket's arithmetic against exact fractions, in Python and in Redis itself."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetgate.shared.bucket import Level, steps
from fleetgate.shared.port import Rate
from fleetgate.shared.scripts import DRAW, GIVE_BACK

RATES = st.builds(
    Rate,
    ceiling=st.one_of(st.integers(1, 1000), st.integers(1, 10**10)),
    period=st.sampled_from([1.0, 60.0, 3600.0, 86_400.0, 2_678_400.0, 0.1, 7.3]),
    burst=st.one_of(st.integers(1, 1000), st.integers(1, 10**10)),
)
TURNS = st.lists(
    st.tuples(st.integers(0, 10**8), st.booleans(), st.integers(1, 1000), st.integers(0, 10**9)), max_size=15
)
"""microseconds passed, giving back, least, how many more"""
TIMED = "redis.call('TIME')"


class Exact:
    """GCRA as it is written down: a theoretical arrival time, in exact fractions of a second."""

    def __init__(self, rate, period, now):
        self.each = period / rate.ceiling
        self.burst = rate.burst
        self.arrival = now

    def free(self, now):
        return math.floor(self.burst - (max(now, self.arrival) - now) / self.each)

    def draw(self, least, most, now):
        free = self.free(now)
        units = min(free, most) if free >= least else 0
        self.arrival = max(now, self.arrival) + units * self.each
        return units

    def give_back(self, units, now):
        self.arrival = max(now, max(now, self.arrival) - units * self.each)


def grid(rate):
    """The rate as it is counted: its period as written, or rounded up to whole ticks."""
    step = steps(rate)
    common = rate.ceiling // step.drain
    assert step.cost * common * step.tick - Fraction(str(rate.period)) * 10**6 < step.tick
    return step, Fraction(step.cost * common * step.tick, 10**6)


@settings(max_examples=150, deadline=None)
@given(rate=RATES, turns=TURNS)
def test_it_gives_what_gcra_gives(rate, turns):
    step, period = grid(rate)
    micro = 1_790_000_000_000_000
    level, exact = Level(0, micro // step.tick), Exact(rate, period, Fraction(micro, 10**6))
    for passed, giving, least, more in turns:
        micro += passed * step.tick
        now = Fraction(micro // step.tick * step.tick, 10**6)
        level.drain(step, micro // step.tick)
        if giving:
            level.give_back(step, least)
            exact.give_back(least, now)
            continue
        units, ticks = level.draw(step, least, least + more)
        assert units == exact.draw(least, least + more, now)
        if not units and least <= rate.burst:
            later = Level(level.level, level.last)
            later.drain(step, level.last + ticks)
            assert later.draw(step, least, least)[0] == least
            early = Level(level.level, level.last)
            early.drain(step, level.last + ticks - 1)
            assert early.draw(step, least, least)[0] == 0


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing():
    rate = Rate(10, 1.0, 10)
    step = steps(rate)
    level = Level(0, 1_000_000)
    assert level.draw(step, 1, 10) == (10, 0)
    level.drain(step, 500_000)
    assert level.draw(step, 1, 10)[0] == 0
    level.drain(step, 600_000)
    assert level.draw(step, 1, 10)[0] == 1


@pytest.mark.parametrize(
    ("rate", "tick"),
    [
        (Rate(60, 60.0, 60), 1),
        (Rate(1_000_000, 60.0, 1_000_000), 1),
        (Rate(10**8, 86_400.0, 10**8), 1),
        (Rate(10**9 + 7, 2_592_000.0, 10**9 + 7), 10**6),
    ],
)
def test_ticks_are_as_fine_as_they_can_be(rate, tick):
    step = steps(rate)
    assert step.tick == tick
    assert step.full <= 2**52


class Timed:
    """The scripts in a real Redis, at times that the test chooses."""

    def __init__(self, redis, bucket):
        self._redis, self._bucket = redis, bucket

    def run(self, script, micro, step, *arguments):
        text = script.text.replace(TIMED, "{ARGV[#ARGV - 1], ARGV[#ARGV]}")
        assert text != script.text
        numbers = (step.tick, step.cost, step.drain, step.burst, *arguments, *divmod(micro, 10**6))
        return self._redis.numbers("EVAL", text, "1", self._bucket, *map(str, numbers))


@settings(max_examples=60, deadline=None)
@given(first=RATES, second=RATES, turns=TURNS, back=st.integers(0, 10**7))
def test_redis_counts_like_we_do(redis_of_all, first, second, turns, back):
    redis_of_all.flush()
    micro = 1_790_000_000_000_000
    timed, level, kept = Timed(redis_of_all, "b"), Level(0, 0), None
    for turn, (passed, giving, least, more) in enumerate(turns):
        rate = first if turn < len(turns) // 2 else second
        micro += passed - (back if turn == 3 else 0)
        step, now = steps(rate), micro // steps(rate).tick
        tried = Level(level.level, level.last)
        if kept is not None and (kept.cost, kept.tick) != (step.cost, step.tick):
            tried = Level(math.ceil(level.level / kept.cost * step.cost), level.last * kept.tick // step.tick)
        went_back = now < tried.last
        tried.drain(step, now)
        if giving:
            tried.give_back(step, least)
            assert timed.run(GIVE_BACK, micro, step, least) == [0]
        elif least <= rate.burst:
            units, ticks = tried.draw(step, least, least + more)
            assert timed.run(DRAW, micro, step, least, least + more) == [units, ticks]
            if not units and not went_back:
                continue  # a refusal leaves everything as it was
        else:
            continue
        level, kept = tried, step
