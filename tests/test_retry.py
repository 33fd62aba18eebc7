import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetgate.errors import TABLE, FailureClass, Verdict
from fleetgate.retry import BUDGET_WINDOW, Budget, back_off, decide

F = FailureClass


@pytest.mark.parametrize("failure", [one for one in F if one is not F.STALE_CONNECTION])
def test_the_table_decides_while_attempts_are_left(failure):
    assert decide(failure, stale_before=False, attempts_left=1) is TABLE[failure].verdict


@pytest.mark.parametrize("left", [0, 1])
def test_a_stale_connection_is_asked_again_once(left):
    assert decide(F.STALE_CONNECTION, stale_before=False, attempts_left=left) is Verdict.AGAIN
    assert decide(F.STALE_CONNECTION, stale_before=True, attempts_left=left) is Verdict.NEXT


def test_without_attempts_left_only_unsent_ones_move_on():
    def verdict(failure):
        return decide(failure, stale_before=False, attempts_left=0)

    assert verdict(F.SERVER_ERROR) is Verdict.STOP
    assert verdict(F.UNSENT_REFUSED) is Verdict.NEXT
    assert verdict(F.FULL) is Verdict.WAIT


@pytest.mark.parametrize(("number", "most"), [(0, 0.025), (1, 0.05), (3, 0.2), (4, 0.25), (50, 0.25)])
def test_back_off_doubles_from_25_to_250_ms_with_full_jitter(number, most):
    assert back_off(number, lambda: 1.0) == pytest.approx(most)
    assert back_off(number, lambda: 0.0) == 0.0


def test_three_retries_are_always_affordable():
    budget = Budget()
    budget.active = 1
    taken = 0
    while budget.allows(1.0):
        budget.spend(1.0)
        taken += 1
    assert taken == 3


def test_what_ended_at_once_still_counts_for_ten_seconds():
    """An engine that fails in 5 ms frees its place hundreds of times a second: places alone limit nothing."""
    budget = Budget()
    for _ in range(3):
        budget.spend(1.0)
        budget.retrying -= 1
    assert not budget.allows(1.0 + BUDGET_WINDOW - 0.1)
    assert budget.allows(1.0 + BUDGET_WINDOW + 0.1)


def test_twenty_percent_of_many():
    budget = Budget()
    budget.active = 100
    for _ in range(100):
        budget.first(1.0)
    taken = 0
    while budget.allows(1.0):
        budget.spend(1.0)
        taken += 1
    assert taken == 20


moves = st.lists(
    st.tuples(st.sampled_from(["arrive", "retry", "leave"]), st.sampled_from([0.0, 0.01, 0.5, 3.0, 11.0])),
    max_size=120,
)


@settings(deadline=None, max_examples=200)
@given(moves)
def test_retries_never_exceed_either_limit(history):
    budget, now = Budget(), 100.0
    running = []
    firsts, retries = [], []
    for move, pause in history:
        now += pause
        if move == "arrive":
            budget.active += 1
            budget.first(now)
            firsts.append(now)
            running.append(0)
        elif move == "leave" and running:
            budget.active -= 1
            budget.retrying -= running.pop(0)
        elif move == "retry" and running and budget.allows(now):
            budget.spend(now)
            retries.append(now)
            running[-1] += 1
            assert sum(running) <= max(3, 0.2 * len(running))
            recent = sum(at >= now - BUDGET_WINDOW for at in retries)
            # Firsts are counted per tenth of a second, so the edge of the window is that wide.
            seen = sum(at >= now - BUDGET_WINDOW - 0.1 for at in firsts)
            assert recent <= max(3, 0.2 * seen)
