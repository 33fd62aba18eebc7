import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.live import deployment

from fleetgate.health import Rules
from fleetgate.routing import policies


def several(count, **known):
    return [deployment(f"m{number}", name=f"box{number}/openai", **known) for number in range(count)]


def pick(policy, candidates, *, weights=None, now=100.0, turn=0, chance=0.0):
    return policies.pick(policy, candidates, weights or {}, now=now, turn=turn, random=lambda: chance)


def seen(one, seconds, now=100.0):
    one.first_content.learn(seconds, 100, now)
    return one


def busy(one, requests):
    one.in_flight = one.engine.in_flight = requests
    return one


def recovering(one, now=100.0):
    one.breaker.open(now - 5, Rules(), lambda: 1.0)
    one.breaker.begin(now)
    one.breaker.success(now)
    return one


@pytest.mark.parametrize("policy", policies.NAMES)
def test_a_single_candidate_is_taken(policy):
    (only,) = several(1)
    assert pick(policy, [only]) is only


@pytest.mark.parametrize("policy", ["least_busy", "spread"])
@given(count=st.integers(2, 6), rounds=st.integers(1, 5), start=st.integers(0, 100))
def test_ties_rotate_so_that_nobody_hogs(policy, count, rounds, start):
    candidates = several(count)
    taken = Counter(pick(policy, candidates, turn=start + turn).id for turn in range(count * rounds))
    assert set(taken.values()) == {rounds}


# Pairs of which the first is to be preferred by `least_busy`.
@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (lambda one: seen(one, 0.1), lambda one: seen(one, 0.2)),
        (lambda one: busy(seen(one, 0.1), 1), lambda one: busy(seen(one, 0.1), 2)),
        (lambda one: busy(seen(one, 0.1), 2), lambda one: busy(seen(one, 1.0), 0)),
        (lambda one: seen(one, 0.1), lambda one: seen(recovering(one), 0.1)),
        (lambda one: one, lambda one: seen(one, 0.2)),
        (lambda one: busy(seen(one, 5.0), 3), lambda one: busy(one, 1)),
        (lambda one: one, lambda one: busy(one, 1)),
    ],
    ids=[
        "faster",
        "less-busy",
        "fast-though-busy",
        "slow-start",
        "unknown-first",
        "unknown-not-twice",
        "idle",
    ],
)
def test_who_is_less_busy(better, worse):
    good, bad = several(2)
    better(good)
    worse(bad)
    for turn in (0, 1):
        assert pick("least_busy", [good, bad], turn=turn) is good
        assert pick("least_busy", [bad, good], turn=turn) is good
    assert policies.order("least_busy", [bad, good], {}, 100.0) == [good, bad]


def test_a_model_in_memory_is_preferred_to_a_cold_one():
    warm, cold = several(2)
    warm.resident, cold.resident = True, False
    busy(seen(warm, 0.2), 2)
    seen(cold, 0.2)
    assert pick("least_busy", [cold, warm]) is warm


def test_slots_make_the_same_work_weigh_less():
    wide, narrow = several(2)
    wide.engine.slots_written, narrow.engine.slots_written = 8, 1
    busy(seen(wide, 0.1), 2)
    busy(seen(narrow, 0.1), 2)
    assert policies.cost(wide, 100.0) < policies.cost(narrow, 100.0)


def test_a_bad_moment_is_forgotten_while_nobody_asks():
    """One cold start of a minute must not shun a machine for as long as the other is quick."""
    once_slow, quick = several(2)
    seen(once_slow, 60.0, now=0.0)
    assert pick("least_busy", [once_slow, seen(quick, 0.3, now=10.0)], now=10.0) is quick
    assert pick("least_busy", [once_slow, seen(quick, 0.3, now=3600.0)], now=3600.0) is once_slow


@given(st.integers(0, 30), st.one_of(st.none(), st.floats(0, 1000)), st.sampled_from([None, True, False]))
def test_cost_is_a_positive_number(requests, mean, resident):
    (one,) = several(1)
    one.resident = resident
    busy(one, requests)
    if mean is not None:
        seen(one, mean)
    assert 0 < policies.cost(one, 100.0) < float("inf")


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=4).filter(any), st.integers(0, 2**32))
def test_a_split_follows_its_weights(shares, seed):
    candidates = several(len(shares))
    weights = {one.id: float(share) for one, share in zip(candidates, shares, strict=True)}
    chance = random.Random(seed).random
    count = 2000
    taken = Counter(
        policies.pick("split", candidates, weights, now=100.0, turn=turn, random=chance).id
        for turn in range(count)
    )
    for one, share in zip(candidates, shares, strict=True):
        wanted = share / sum(shares)
        assert abs(taken[one.id] / count - wanted) < 0.08
        assert share or not taken[one.id]


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999999])
def test_without_any_weight_a_split_still_answers(chance):
    candidates = several(3)
    assert pick("split", candidates, chance=chance) in candidates


def test_a_split_gives_a_recovering_one_a_smaller_share():
    new, old = several(2)
    recovering(new)
    weights = {new.id: 1.0, old.id: 1.0}
    assert pick("split", [new, old], weights=weights, chance=0.08) is new  # 0.1 of 1.1
    assert pick("split", [new, old], weights=weights, chance=0.10) is old


def test_spread_passes_by_a_recovering_one_most_of_the_time():
    new, old = several(2)
    recovering(new)
    assert pick("spread", [new, old], turn=0, chance=0.5) is old
    assert pick("spread", [new, old], turn=0, chance=0.05) is new
    recovering(old)
    assert pick("spread", [new, old], turn=0, chance=0.99) is new  # all are: somebody has to


def test_orders_for_the_explanation():
    a, b = several(2)
    assert policies.order("split", [a, b], {a.id: 1, b.id: 2}, 100.0) == [b, a]
    assert policies.order("spread", [a, b], {}, 100.0) == [a, b]
