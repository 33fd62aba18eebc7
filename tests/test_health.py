from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fleetgate.health import MAX_OPEN, SLOW_START, Breaker, Phase, Rules

RULES = Rules()


def longest():
    """Jitter that makes every open time as long as it may be."""
    return 1.0


def fail(breaker, now, times=1):
    return [breaker.failure(now, RULES, longest) for _ in range(times)]


def opened(now=0.0):
    breaker = Breaker()
    fail(breaker, now, 3)
    return breaker


def test_a_new_breaker_is_closed_and_gets_all_traffic():
    breaker = Breaker()
    assert breaker.phase(0) is Phase.CLOSED
    assert breaker.allows(0)
    assert breaker.share(0) == 1.0
    assert breaker.opens_again_in(0) == 0.0


def test_three_in_a_row_open_it():
    breaker = Breaker()
    assert fail(breaker, 1.0, 3) == [False, False, True]
    assert not breaker.allows(1.0)
    assert breaker.opens_again_in(1.0) == 5.0


def test_a_success_ends_the_streak():
    breaker = Breaker()
    for now in range(0, 300, 30):  # so far apart that the ratio has nothing to look at
        fail(breaker, now, 2)
        assert breaker.success(now + 0.5) is False
        for _ in range(8):
            breaker.success(now + 0.5)
    assert breaker.allows(301)


def test_written_rules_decide():
    breaker = Breaker()
    assert breaker.failure(0, Rules(fails=1, cool=60.0), longest)
    assert breaker.opens_again_in(0) == 60.0


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ("bgbg", False),  # four are no sample
        ("bgbgb", True),  # 2 of 5 good
        ("gggbgb", True),  # 4 of 6
        ("ggggb", False),  # 4 of 5 is 80 %, and less than that opens
        ("gggggb" * 3, False),
        ("gggbgggb", True),  # 6 of 8
    ],
)
def test_the_ratio_needs_five_and_less_than_four_fifths_good(outcomes, opens):
    breaker = Breaker()
    for outcome in outcomes:
        if outcome == "g":
            breaker.success(7.0)
        else:
            breaker.failure(7.0, RULES, longest)
    assert breaker.allows(7.0) is not opens


def test_the_ratio_forgets_after_thirty_seconds():
    breaker = Breaker()
    for now in (0.0, 0.1):
        breaker.failure(now, RULES, longest)
        breaker.success(now)
    breaker.failure(36.0, RULES, longest)
    assert breaker.allows(36.0)


def test_one_trial_when_the_time_is_over():
    breaker = opened()
    assert breaker.phase(4.9) is Phase.OPEN
    assert breaker.phase(5.0) is Phase.TRIAL_DUE
    assert breaker.allows(5.0)
    breaker.begin(5.0)
    assert breaker.phase(5.1) is Phase.TRIAL
    assert not breaker.allows(5.1)


def test_a_failed_trial_doubles_the_time_up_to_five_minutes():
    breaker, now, waits = opened(), 0.0, []
    for _ in range(9):
        waits.append(breaker.opens_again_in(now))
        now += waits[-1]
        breaker.begin(now)
        assert breaker.failure(now, RULES, longest) is False  # it was open already: nobody is told again
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_jitter_takes_at_most_half_off():
    for chance, wait in ((0.0, 2.5), (0.5, 3.75), (1.0, 5.0)):
        breaker = Breaker()
        breaker.open(0.0, RULES, lambda chance=chance: chance)
        assert breaker.opens_again_in(0.0) == wait


def test_an_aborted_trial_makes_room_for_the_next():
    breaker = opened()
    breaker.begin(5.0)
    breaker.abandon()
    assert breaker.phase(5.0) is Phase.TRIAL_DUE


def test_a_passed_trial_closes_it_and_traffic_rises_slowly():
    breaker = opened()
    breaker.begin(5.0)
    assert breaker.success(6.0)
    assert breaker.phase(6.0) is Phase.CLOSED
    assert breaker.share(6.0) == pytest.approx(0.1)
    assert breaker.share(21.0) == pytest.approx(0.55)
    assert breaker.share(6.0 + SLOW_START) == 1.0
    assert breaker.success(7.0) is False


def test_after_a_recovery_the_open_time_begins_anew():
    breaker = opened()
    breaker.begin(5.0)
    breaker.failure(5.0, RULES, longest)
    breaker.begin(15.0)
    breaker.success(15.0)
    fail(breaker, 16.0, 3)
    assert breaker.opens_again_in(16.0) == 5.0


def test_late_failures_of_requests_sent_before_it_opened_change_nothing():
    breaker = opened()
    fail(breaker, 1.0, 5)
    assert breaker.opens_again_in(1.0) == 4.0


def test_a_passed_probe_leads_to_the_trial_and_no_further():
    breaker = opened()
    breaker.probe_passed(2.0)
    assert breaker.phase(2.0) is Phase.TRIAL_DUE
    breaker.begin(2.0)
    breaker.probe_passed(3.0)
    assert breaker.phase(3.0) is Phase.TRIAL


def test_opening_at_once_tells_once_and_leaves_a_running_time_alone():
    breaker = Breaker()
    assert breaker.open(0.0, RULES, longest)
    assert not breaker.open(3.0, RULES, longest)
    assert breaker.opens_again_in(3.0) == 2.0
    assert not breaker.open(5.0, RULES, longest)  # its trial was due and failed
    assert breaker.opens_again_in(5.0) == 10.0


def test_a_bench_is_literal_and_doubles_nothing():
    breaker = Breaker()
    breaker.bench(300.0)
    assert breaker.phase(299.0) is Phase.OPEN
    breaker.begin(300.0)
    breaker.failure(300.0, RULES, longest)
    assert breaker.opens_again_in(300.0) == 5.0


class BreakerMachine(RuleBasedStateMachine):
    """A breaker in any history: traffic goes only where it is allowed, and every request ends."""

    def __init__(self):
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.jitter = SimpleNamespace(value=1.0)
        self.ordinary = 0
        """requests in flight that were sent while it was closed"""
        self.trial = False
        self.opens = 0
        """times it opened since it was last closed"""
        self.recent = []
        """outcomes since it was last closed or opened: (when, well)"""

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 5.0, 29.0, 31.0, 400.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(value=st.floats(0, 1))
    def jitter_changes(self, value):
        self.jitter.value = value

    @precondition(lambda self: self.breaker.allows(self.now))
    @rule()
    def send(self):
        trial = self.breaker.phase(self.now) is not Phase.CLOSED
        assert not (trial and self.trial), "a second trial at the same time"
        self.breaker.begin(self.now)
        self.trial = self.trial or trial
        self.ordinary += not trial

    @precondition(lambda self: self.trial)
    @rule(outcome=st.sampled_from(["well", "failed", "untold"]))
    def trial_ends(self, outcome):
        self.trial = False
        if outcome == "well":
            assert self.breaker.success(self.now)
            assert self.breaker.phase(self.now) is Phase.CLOSED
            assert self.breaker.share(self.now) == pytest.approx(0.1)
            self._closed()
        elif outcome == "failed":
            self.breaker.failure(self.now, RULES, lambda: self.jitter.value)
            self._opened()
        else:
            self.breaker.abandon()
            assert self.breaker.phase(self.now) is Phase.TRIAL_DUE

    @precondition(lambda self: self.ordinary and not self.trial)
    @rule(well=st.booleans())
    def request_ends(self, well):
        self.ordinary -= 1
        closed = self.breaker.phase(self.now) is Phase.CLOSED
        if well:
            assert self.breaker.success(self.now) is not closed
            if not closed:
                self._closed()
            else:
                self.recent.append((self.now, True))
            return
        told = self.breaker.failure(self.now, RULES, lambda: self.jitter.value)
        if not closed:
            assert not told
            return
        self.recent.append((self.now, False))
        streak = 0
        for _, fine in reversed(self.recent):
            if fine:
                break
            streak += 1
        if streak >= 3:
            assert told, "three in a row"
        if told:
            if streak < 3:
                seen = [fine for at, fine in self.recent if self.now - at <= 30]
                assert len(seen) >= 5
                # The window is counted in buckets of 5 s: the oldest may be left out early.
                assert any(
                    (late := [fine for at, fine in self.recent if self.now - at <= width])
                    and len(late) >= 5
                    and sum(late) / len(late) < 0.8
                    for width in (25, 26, 27, 28, 29, 30)
                )
            self._opened()

    @rule()
    def probe_passes(self):
        before = self.breaker.phase(self.now)
        self.breaker.probe_passed(self.now)
        after = self.breaker.phase(self.now)
        if before is Phase.CLOSED:
            self.recent.append((-1e9, True))  # a streak ends, the ratio does not see it
        assert after is (Phase.TRIAL_DUE if before is Phase.OPEN else before)

    @precondition(lambda self: not self.trial)
    @rule()
    def engine_refuses(self):
        phase = self.breaker.phase(self.now)
        told = self.breaker.open(self.now, RULES, lambda: self.jitter.value)
        assert told is (phase is Phase.CLOSED)
        if phase is not Phase.OPEN:
            self._opened()

    @invariant()
    def share_is_a_share(self):
        assert 0.1 <= self.breaker.share(self.now) <= 1.0

    @invariant()
    def the_next_trial_is_never_far(self):
        assert 0.0 <= self.breaker.opens_again_in(self.now) <= MAX_OPEN + 1e-9  # (until - now) is rounded

    def _opened(self):
        self.opens += 1
        self.recent.clear()
        full = min(MAX_OPEN, RULES.cool * 2 ** (self.opens - 1))
        assert full / 2 - 1e-6 <= self.breaker.opens_again_in(self.now) <= full + 1e-6
        assert self.breaker.phase(self.now) is Phase.OPEN

    def _closed(self):
        self.opens = 0
        self.recent.clear()


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestBreaker = BreakerMachine.TestCase
