"""Scopes and words of limits; buckets and flights against reference models."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fleetgate.limits import (
    QUOTA,
    Bucket,
    Flight,
    Limit,
    Measure,
    Scope,
    Then,
    limit_id,
    spread_ceiling,
    spread_when,
)
from fleetgate.windows import Calendar, Unit

LIMIT = Limit(
    "l1",
    "",
    Scope((("key", "ci"),)),
    Measure.REQUESTS,
    60,
    None,
    60.0,
    None,
    Then.REFUSE,
    "file",
)
SUBJECT = {"key": "ci", "team": None, "model": "llama-3:8b", "account": "groq/2", "provider": "groq"}

# -- scopes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((), True),
        ((("key", "ci"),), True),
        ((("key", "c"),), False),
        ((("key", "*"),), True),
        ((("team", "*"),), False),  # nobody's team
        ((("node", "*"),), False),  # not said
        ((("account", "groq/*"),), True),
        ((("account", "openai/*"),), False),
        ((("key", "ci"), ("model", "llama*:8b")), True),
        ((("key", "ci"), ("model", "qwen*")), False),
        ((("model", "*3*b*"),), True),
        ((("model", "llama-3:8b*llama-3:8b"),), False),  # head and tail may not share text
        ((("model", "*8b*3*"),), False),
        ((("model", "llama-[0-9]:8b"),), False),  # only `*` is special
        ((("model", "llama-?:8b"),), False),
    ],
)
def test_whom_a_scope_matches(parts, expected):
    assert Scope(parts).matches(SUBJECT) is expected


@given(st.text("ab*", max_size=6), st.text("ab", max_size=6))
def test_wildcards_against_a_reference(pattern, text):
    def like(pattern, text):
        if not pattern:
            return not text
        if pattern[0] == "*":
            return like(pattern[1:], text) or (bool(text) and like(pattern, text[1:]))
        return text[:1] == pattern[0] and like(pattern[1:], text[1:])

    assert Scope((("model", pattern),)).matches({"model": text}) is like(pattern, text)


def test_who_is_counted_apart():
    assert Scope((("key", "ci"),)).each(SUBJECT) == ""
    assert Scope((("key", "*"),)).each(SUBJECT) == "@ci"
    assert Scope((("key", "*"), ("model", "*"))).each(SUBJECT) == "@ci,llama-3:8b"
    assert Scope((("account", "groq/*"),), ("account",)).each(SUBJECT) == "@groq/2"
    assert Scope((("key", "*"), ("model", "*"))).each({"key": "a,b", "model": "c%2C"}) == "@a%2Cb,c%252C"
    assert replace(LIMIT, scope=Scope((("key", "*"),))).counter(SUBJECT) == "l1@ci"
    assert LIMIT.counter(SUBJECT) == "l1"
    assert [Scope(parts).counts_apart for parts in ((), (("key", "a*"),), (("key", "*"),))] == [
        False,
        False,
        True,
    ]


def test_which_limits_can_be_decided_before_there_is_a_candidate():
    assert Scope().caller_only
    assert Scope((("key", "ci"), ("role", "*"))).caller_only
    assert not Scope((("key", "ci"), ("model", "x"))).caller_only


# -- words and ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "60 requests per minute for key ci"),
        ({"ceiling": 1, "scope": Scope()}, "1 request per minute in all"),
        ({"period": 18_000.0}, "60 requests in any 5h for key ci"),
        ({"measure": Measure.PARALLEL, "period": None}, "60 requests at a time for key ci"),
        (
            {
                "measure": Measure.INPUT_TOKENS,
                "ceiling": 10**6,
                "scope": Scope((("key", "*"), ("model", "a*"))),
            },
            "1,000,000 input tokens per minute for each key and model a*",
        ),
        ({"period": None, "calendar": Calendar(Unit.DAY)}, "60 requests per day for key ci"),
        ({"period": None, "calendar": Calendar(Unit.HOUR)}, "60 requests per calendar hour for key ci"),
        (
            {"period": None, "calendar": Calendar(Unit.DAY, "Europe/Berlin", 4, 30)},
            "60 requests per day (from 04:30 Europe/Berlin) for key ci",
        ),
        (
            {
                "period": None,
                "calendar": Calendar(Unit.MONTH, "Europe/Berlin"),
                "measure": Measure.MONEY,
                "ceiling": 10_500_000_000,
            },
            "10.5 USD per month (Europe/Berlin) for key ci",
        ),
        (
            {"scope": Scope((("account", "groq/*"), ("provider", "groq")), ("account",))},
            "60 requests per minute for each account groq/* and provider groq",
        ),
    ],
)
def test_what_a_limit_says(changes, words):
    limit = replace(LIMIT, **changes)
    assert limit.words == words
    assert limit.title == words
    assert replace(limit, name="ours").title == f"ours ({words})"
    assert limit.lasting is (limit.calendar is not None)


def test_scopes_as_text():
    assert Scope().text == "global"
    assert Scope((("key", "ci"), ("model", "a*"))).text == "key=ci, model=a*"


def test_an_id_depends_on_what_is_counted_and_nothing_else():
    scope, day = Scope((("key", "ci"),)), Calendar(Unit.DAY)
    ids = [
        limit_id(scope, Measure.REQUESTS, 60.0, ""),
        limit_id(Scope(), Measure.REQUESTS, 60.0, ""),
        limit_id(scope, Measure.TOKENS, 60.0, ""),
        limit_id(scope, Measure.REQUESTS, 61.0, ""),
        limit_id(scope, Measure.REQUESTS, None, ""),
        limit_id(scope, Measure.REQUESTS, 60.0, "name"),
        limit_id(scope, Measure.REQUESTS, 60.0, "", quota=True),
        limit_id(scope, Measure.REQUESTS, day, ""),
        limit_id(scope, Measure.REQUESTS, replace(day, zone="Europe/Berlin"), ""),
        limit_id(scope, Measure.REQUESTS, replace(day, minute=1), ""),
    ]
    assert len(set(ids)) == len(ids)
    # Counters in databases bear these names: they must not change with a new version.
    assert ids[0] == limit_id(scope, Measure.REQUESTS, 60, "") == "lac78b536909f"
    assert ids[7] == "lfbdeff622c84"


# -- buckets -----------------------------------------------------------------------------------------------


def test_a_caller_may_use_its_minute_at_once_and_then_at_that_pace():
    bucket = Bucket()
    shape = (LIMIT.rate, 60.0, LIMIT.at_once)
    for _ in range(60):
        assert bucket.wait(*shape, 1, 100.0) == 0
        bucket.take(*shape, 1, 100.0)
    assert bucket.wait(*shape, 1, 100.0) == 1.0
    assert bucket.wait(*shape, 1, 100.5) == 0.5
    assert bucket.wait(*shape, 61, 100.0) == math.inf
    assert bucket.room(*shape, 110.0) == 10
    assert bucket.full_in(60, 110.0) == 50.0
    assert not bucket.rested(60, 60.0, 219.0)
    assert bucket.rested(60, 60.0, 220.0)


def test_an_estimate_that_was_too_high_or_too_low_is_corrected():
    bucket, shape = Bucket(), (60, 60.0, 60)
    bucket.take(*shape, 50, 0.0)
    bucket.correct(60, 60.0, -30, 0.0)
    assert bucket.room(*shape, 0.0) == 40
    bucket.correct(60, 60.0, 60, 0.0)  # more than there was room for: a debt
    assert bucket.room(*shape, 0.0) == 0
    assert bucket.wait(*shape, 1, 0.0) == 21.0
    bucket.correct(60, 60.0, -1_000, 10.0)  # never more than full
    assert bucket.room(*shape, 10.0) == 60


def test_what_has_flowed_back_is_not_given_back_again():
    bucket, shape = Bucket(), (60, 60.0, 60)
    long = bucket.take(*shape, 30, 0.0)
    bucket.take(*shape, 60, 40.0)  # by somebody else, when all had flowed back
    bucket.correct(60, 60.0, -30, 40.0, long)
    assert bucket.room(*shape, 40.0) == 0

    first, second = bucket.take(*shape, 10, 200.0), bucket.take(*shape, 10, 200.0)
    bucket.correct(60, 60.0, -10, 200.0, first)  # so the second one counts until 210
    bucket.take(*shape, 10, 215.0)
    bucket.correct(60, 60.0, -10, 215.0, second)
    assert bucket.room(*shape, 215.0) == 50

    part = bucket.take(*shape, 30, 300.0)
    bucket.take(*shape, 30, 310.0)
    bucket.correct(60, 60.0, -30, 320.0, part)  # 20 have flowed back, 10 had not
    assert bucket.room(*shape, 320.0) == 30


def test_nothing_is_ever_let_through_where_nothing_may_be():
    bucket = Bucket()
    assert bucket.wait(0, 60.0, 0, 1, 0.0) == math.inf
    assert bucket.wait(0, 60.0, 0, 0, 0.0) == 0.0
    assert bucket.wait(0, 60.0, 5, 1, 0.0) == math.inf
    bucket.take(0, 60.0, 0, 1, 0.0)
    bucket.correct(0, 60.0, 1, 0.0)
    assert (bucket.room(0, 60.0, 0, 0.0), bucket.full_in(0, 0.0)) == (0, 0.0)


def test_a_changed_rate_keeps_the_moment_at_which_all_has_flowed_back():
    bucket = Bucket()
    bucket.take(60, 60.0, 60, 30, 0.0)
    assert bucket.full_in(60, 0.0) == bucket.full_in(120, 0.0) == bucket.full_in(7, 0.0) == 30.0
    assert bucket.room(120, 60.0, 120, 0.0) == 60


class Reference:
    """GCRA as it is written down, in fractions: T = period / rate, tau = burst times T."""

    def __init__(self, rate, period, burst):
        self.step, self.tau, self.burst = Fraction(period) / rate, Fraction(period) / rate * burst, burst
        self.tat = Fraction(0)

    def wait(self, cost, now):
        if cost > self.burst:
            return math.inf
        return max(Fraction(0), max(self.tat, now) + cost * self.step - now - self.tau)

    def take(self, cost, now):
        self.tat = max(self.tat, now) + cost * self.step

    def correct(self, delta, now):
        self.tat = max(self.tat, now) if delta > 0 else self.tat
        self.tat = (
            max(self.tat + delta * self.step, min(now, self.tat))
            if delta < 0
            else (self.tat + delta * self.step)
        )


class BucketMachine(RuleBasedStateMachine):
    """Callers, with corrections right after what they correct, as `Reference` has it to the microsecond."""

    @initialize(
        rate=st.integers(1, 100_000),
        period=st.sampled_from((1.0, 60.0, 3_600.0, 18_000.0)),
        burst=st.integers(1, 100_000) | st.none(),
        start=st.integers(0, 10**12),
    )
    def begin(self, rate, period, burst, start):
        self.shape = (rate, period, rate if burst is None else burst)
        self.bucket, self.reference = Bucket(), Reference(*self.shape)
        self.micro = start
        self.reference.tat = Fraction(0)

    @property
    def now(self):
        return self.micro / 1e6

    @rule(micro=st.integers(0, 10_000) | st.integers(0, 7_200_000_000))
    def pass_time(self, micro):
        self.micro += micro

    @rule(share=st.floats(0, 1.1), just=st.integers(0, 3))
    def ask(self, share, just):
        burst = self.shape[2]
        cost = just + int(burst * share)
        exact = Fraction(self.micro, 10**6)
        wait, expected = self.bucket.wait(*self.shape, cost, self.now), self.reference.wait(cost, exact)
        if expected == math.inf:
            assert wait == math.inf
            return
        assert wait == math.ceil(expected * 10**6) / 1e6
        if wait:
            assert self.bucket.wait(*self.shape, cost, self.now + wait) == 0.0
            assert self.bucket.wait(*self.shape, cost, self.now + wait - 1e-6) > 0.0
        else:
            self.bucket.take(*self.shape, cost, self.now)
            self.reference.take(cost, exact)

    @rule(cost=st.integers(0, 1_000))
    def take_unasked(self, cost):
        self.bucket.take(*self.shape, cost, self.now)
        self.reference.take(cost, Fraction(self.micro, 10**6))

    @rule(delta=st.integers(-100_000, 1_000))
    def correct(self, delta):
        rate, period, _ = self.shape
        self.bucket.take(*self.shape, 0, self.now)  # so that what is corrected is not over yet
        self.bucket.correct(rate, period, delta, self.now)
        self.reference.take(0, Fraction(self.micro, 10**6))
        self.reference.correct(delta, Fraction(self.micro, 10**6))

    @invariant()
    def room_is_what_fits(self):
        if not hasattr(self, "bucket"):
            return
        room = self.bucket.room(*self.shape, self.now)
        assert 0 <= room <= self.shape[2]
        if room:
            assert self.bucket.wait(*self.shape, room, self.now) == 0.0
        assert self.bucket.wait(*self.shape, room + 1, self.now) > 0.0


class QuotaMachine(RuleBasedStateMachine):
    """What a provider counts: in no period more than the quota, however large single requests are."""

    @initialize(ceiling=st.integers(1, 2_000), period=st.sampled_from((1.0, 60.0)))
    def begin(self, ceiling, period):
        self.limit = replace(LIMIT, ceiling=ceiling, burst=max(1, ceiling // 10), origin=QUOTA)
        self.shape = (self.limit.rate, period, self.limit.at_once)
        self.bucket, self.micro, self.log = Bucket(), 10**9, []

    @rule(micro=st.integers(0, 1_000) | st.integers(0, 70_000_000))
    def pass_time(self, micro):
        self.micro += micro

    @rule(share=st.floats(0, 1), just=st.integers(0, 2), patient=st.booleans())
    def ask(self, share, just, patient):
        limit = self.limit
        cost = just + int(share * limit.ceiling)
        wait = self.bucket.wait(*self.shape, cost, self.micro / 1e6, largest=limit.largest)
        assert (wait == math.inf) is (cost > limit.ceiling)
        if patient and wait < math.inf:
            self.micro += round(wait * 1e6)
            assert self.bucket.wait(*self.shape, cost, self.micro / 1e6, largest=limit.largest) == 0
            wait = 0.0
        if wait == 0:
            room = self.bucket.room(*self.shape, self.micro / 1e6, largest=limit.largest)
            assert cost <= room
            mark = self.bucket.take(*self.shape, cost, self.micro / 1e6)
            self.log.append((self.micro, cost, mark))

    @precondition(lambda self: getattr(self, "log", []))
    @rule(data=st.data(), share=st.floats(0, 1))
    def less_was_used(self, data, share):
        index = data.draw(st.integers(0, len(self.log) - 1))
        at, cost, mark = self.log[index]
        actual = int(cost * share)
        self.log[index] = (at, actual, (0, 1))  # corrected once
        self.bucket.correct(self.shape[0], self.shape[1], actual - cost, self.micro / 1e6, mark)

    @precondition(lambda self: hasattr(self, "bucket"))
    @rule()
    def forget_where_that_changes_nothing(self):
        if self.bucket.rested(self.shape[0], self.shape[1], self.micro / 1e6):
            self.bucket = Bucket()
            self.log = [(at, cost, (0, 1)) for at, cost, _ in self.log]  # nothing left to give back

    @invariant()
    def no_period_exceeds_it(self):
        period = round(self.shape[1] * 1e6) if hasattr(self, "shape") else 0
        for at, *_ in getattr(self, "log", []):
            within = sum(cost for when, cost, _ in self.log if at <= when < at + period)
            assert within <= self.limit.ceiling


class FlightMachine(RuleBasedStateMachine):
    """Against a plain list of who is in, and until when."""

    names = st.sampled_from([f"req_{number}:0" for number in range(8)])

    def __init__(self):
        super().__init__()
        self.flight, self.model, self.now = Flight(), {}, 0.0

    def living(self):
        return {name: until for name, until in self.model.items() if until > self.now}

    @rule(seconds=st.integers(0, 20))
    def pass_time(self, seconds):
        self.now += seconds

    @rule(name=names, seconds=st.integers(1, 30))
    def join(self, name, seconds):
        self.flight.join(name, self.now + seconds)
        self.model[name] = self.now + seconds

    @rule(name=names)
    def leave(self, name):
        for _ in range(2):  # twice is once
            self.flight.leave(name)
        self.model.pop(name, None)

    @rule(ceiling=st.integers(0, 9))
    def wait(self, ceiling):
        expected = next(
            (
                seconds
                for seconds in range(40)
                if sum(until > self.now + seconds for until in self.model.values()) < ceiling
            ),
            math.inf,
        )
        assert self.flight.wait(ceiling, self.now) == expected

    @invariant()
    def the_same_are_in(self):
        assert self.flight.count(self.now) == len(self.living())


for machine in (BucketMachine, QuotaMachine, FlightMachine):
    machine.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
TestBucket = BucketMachine.TestCase
TestQuota = QuotaMachine.TestCase
TestFlight = FlightMachine.TestCase

# -- spread quotas -----------------------------------------------------------------------------------------


def test_a_spread_quota_begins_with_a_twentieth_and_is_whole_before_its_end():
    shown = [spread_ceiling(1_000, 0, 86_400, 3_600.0 * hours) for hours in (-5, 0, 6, 12, 23, 24, 30)]
    assert shown == [50, 50, 300, 550, 1_000, 1_000, 1_000]
    assert spread_ceiling(0, 0, 86_400, 100.0) == 0
    assert spread_ceiling(5, 0, 86_400, 0.0) == 1


@given(st.integers(1, 10**15), st.integers(1, 32 * 86_400), st.floats(0, 1), st.floats(0, 1))
def test_when_an_amount_may_be_used_is_when_the_ceiling_reaches_it(ceiling, length, share, at):
    start = 1_790_000_000
    amount = max(1, int(ceiling * share))
    when = spread_when(amount, ceiling, start, start + length)
    assert start <= when <= start + length
    assert spread_ceiling(ceiling, start, start + length, when) >= amount
    if when > start:
        assert spread_ceiling(ceiling, start, start + length, when - 0.002) < amount
    now = start + at * length
    assert 1 <= spread_ceiling(ceiling, start, start + length, now) <= ceiling


def test_more_than_the_whole_quota_never_fits():
    assert spread_when(11, 10, 0, 100) == math.inf
