"""Calendar windows against a slow reference, and counters in them while clocks jump."""

import math
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fleetgate.windows import Calendar, Unit, monotone

ZONES = (
    *("UTC", "Europe/Berlin", "America/Los_Angeles", "America/Havana", "America/Santiago"),
    *("Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "Africa/Casablanca", "America/St_Johns"),
)
FROM, TO = 1_262_304_000, 1_893_456_000
"""2010 to 2030"""


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def local(seconds, zone):
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).replace(tzinfo=None)


def shown(span):
    return [datetime.fromtimestamp(one, UTC).strftime("%Y-%m-%d %H:%M") for one in span]


@pytest.mark.parametrize(
    ("unit", "begin", "end"),
    [
        (Unit.SECOND, "2026-03-04 05:06:07", "2026-03-04 05:06:08"),
        (Unit.MINUTE, "2026-03-04 05:06:00", "2026-03-04 05:07:00"),
        (Unit.HOUR, "2026-03-04 05:00:00", "2026-03-04 06:00:00"),
        (Unit.DAY, "2026-03-04 00:00:00", "2026-03-05 00:00:00"),
        (Unit.MONTH, "2026-03-01 00:00:00", "2026-04-01 00:00:00"),
    ],
)
def test_windows_in_utc(unit, begin, end):
    assert Calendar(unit).span(at("2026-03-04 05:06:07.89")) == (at(begin), at(end))


def test_an_hour_may_begin_within_the_hour_of_utc():
    assert shown(Calendar(Unit.HOUR, "Asia/Kolkata", minute=30).span(at("2026-03-04 05:06"))) == [
        "2026-03-04 04:30",
        "2026-03-04 05:30",
    ]


@pytest.mark.parametrize(
    ("zone", "hour", "minute", "inside", "hours"),
    [
        ("America/Los_Angeles", 0, 0, "2026-03-08 12:00", 23),
        ("America/Los_Angeles", 0, 0, "2026-11-01 12:00", 25),
        ("Europe/Berlin", 0, 0, "2026-03-29 12:00", 23),
        ("Europe/Berlin", 0, 0, "2026-10-25 12:00", 25),
        ("Australia/Lord_Howe", 0, 0, "2026-10-04 12:00", 23.5),
        ("Europe/Berlin", 2, 30, "2026-03-28 12:00", 24),  # ends at 03:30, as 02:30 is skipped
        ("Europe/Berlin", 2, 30, "2026-03-29 12:00", 23),
        ("Europe/Berlin", 2, 30, "2026-10-24 12:00", 24),  # ends at the first 02:30
        ("Europe/Berlin", 2, 30, "2026-10-25 12:00", 25),
        ("America/Havana", 0, 30, "2026-10-31 12:00", 24),  # 00:30 comes twice
        ("Pacific/Apia", 0, 0, "2011-12-29 12:00", 24),  # the 30th was skipped
        ("Pacific/Apia", 12, 0, "2011-12-29 13:00", 24),
    ],
)
def test_days_that_are_shorter_or_longer(zone, hour, minute, inside, hours):
    begin, end = Calendar(Unit.DAY, zone, hour, minute).span(at(inside, zone))
    assert end - begin == hours * 3_600


def test_both_times_of_a_repeated_hour_are_in_the_window_of_the_first():
    calendar = Calendar(Unit.DAY, "America/Havana", 0, 30)
    first = datetime(2026, 11, 1, 0, 45, tzinfo=ZoneInfo("America/Havana")).timestamp()
    assert calendar.start(first) == calendar.start(first + 3_600) == calendar.start(first - 900)
    assert calendar.start(first - 901) < calendar.start(first)


@pytest.mark.parametrize(
    ("day", "inside", "begin", "end"),
    [
        (1, "2026-02-10", "2026-02-01 00:00", "2026-03-01 00:00"),
        (31, "2026-02-10", "2026-01-31 00:00", "2026-02-28 00:00"),
        (31, "2026-02-28", "2026-02-28 00:00", "2026-03-31 00:00"),
        (30, "2028-02-29", "2028-02-29 00:00", "2028-03-30 00:00"),
        (31, "2026-12-31", "2026-12-31 00:00", "2027-01-31 00:00"),
        (15, "2026-01-14", "2025-12-15 00:00", "2026-01-15 00:00"),
    ],
)
def test_months_begin_on_their_last_day_where_they_are_too_short(day, inside, begin, end):
    assert shown(Calendar(Unit.MONTH, day=day).span(at(inside))) == [begin, end]


def test_a_month_begins_at_local_midnight():
    calendar = Calendar(Unit.MONTH, "Europe/Berlin")
    assert shown(calendar.span(at("2026-03-31 23:00"))) == ["2026-03-31 22:00", "2026-04-30 22:00"]


def slow_begin(day, hour, minute, zone):
    """When a day's window begins, by trying every quarter of an hour around it."""
    wanted = datetime.combine(day, time(hour, minute))
    here = int(at(wanted.isoformat())) - 40 * 3_600
    moments = range(here, here + 80 * 3_600, 900)
    found = next((one for one in moments if local(one, zone) == wanted), None)
    if found is not None:
        return found
    last = max(one for one in moments if local(one, zone) < wanted)
    return last + int((wanted - local(last, zone)).total_seconds())  # as if clocks had not moved


calendars = st.builds(
    Calendar,
    unit=st.sampled_from(Unit),
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    minute=st.sampled_from((0, 15, 30, 45)),
    day=st.sampled_from((1, 15, 29, 31)),
)
moments = st.integers(FROM * 8, TO * 8).map(lambda eighths: eighths / 8)
AROUND_CHANGES = st.sampled_from(
    [at(text) for text in ("2026-03-29 01:00", "2026-10-25 01:00", "2026-11-01 05:00", "2011-12-30 10:00")]
).flatmap(lambda moment: st.integers(-30, 30).map(lambda quarters: moment + quarters * 900.0))


@settings(deadline=None)
@given(calendars, moments | AROUND_CHANGES)
@example(Calendar(Unit.DAY, "Pacific/Apia", 12), at("2011-12-30 12:00"))
@example(Calendar(Unit.DAY, "America/St_Johns"), at("2010-11-07 02:45"))  # 23:15 of the day before, again
def test_windows_cover_time_without_gap_or_overlap(calendar, wall):
    begin, end = calendar.span(wall)
    assert begin <= wall < end
    assert calendar.span(begin) == calendar.span(end - 1) == (begin, end)
    assert calendar.start(end) == end
    assert calendar.end(begin - 1) == begin
    assert (calendar.start(wall), calendar.end(wall)) == (begin, end)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(ZONES), st.integers(0, 23), st.sampled_from((0, 30)), moments | AROUND_CHANGES)
def test_days_begin_where_the_reference_says(zone, hour, minute, wall):
    begin, end = Calendar(Unit.DAY, zone, hour, minute).span(wall)
    here = local(wall, zone).date()
    begins = [slow_begin(here + timedelta(days=step), hour, minute, zone) for step in range(-2, 3)]
    assert begin == max(one for one in begins if one <= wall)
    assert end == min(one for one in begins if one > wall)


def test_a_start_never_moves_back():
    calendar = Calendar(Unit.DAY)
    today = calendar.start(at("2026-03-04 00:10"))
    assert monotone(None, calendar, at("2026-03-04 00:10")) == today
    assert monotone(today, calendar, at("2026-03-03 23:50")) == today
    assert monotone(today, calendar, at("2026-03-05 00:00")) == today + 86_400


class CountingMachine(RuleBasedStateMachine):
    """A counter with a ceiling in each window. The clock jumps; a window that was left never comes back."""

    CEILING = 5

    @initialize(calendar=calendars, wall=moments | AROUND_CHANGES)
    def begin(self, calendar, wall):
        self.calendar, self.wall = calendar, wall
        self.start = None
        self.used = {}
        self.left = set()
        self.latest = -math.inf

    @rule(seconds=st.sampled_from((0.125, 1.0, 59.0, 900.0, 3_600.0, 86_400.0, 20 * 86_400.0)))
    def pass_time(self, seconds):
        self.wall += seconds

    @rule(seconds=st.sampled_from((-3_600.0, 3_600.0, -90_000.0)))
    def jump(self, seconds):
        self.wall += seconds

    @rule()
    def to_the_edge(self):
        self.wall = float(self.calendar.end(self.wall))

    @rule(amount=st.integers(1, 3))
    def count(self, amount):
        self.latest = max(self.latest, self.wall)
        start = monotone(self.start, self.calendar, self.wall)
        assert start == self.calendar.start(self.latest)  # the furthest that it ever was asked at
        assert start not in self.left
        if self.start is not None and start != self.start:
            assert start > self.start
            self.left.add(self.start)
        self.start = start
        assert self.calendar.end(max(self.wall, start)) > max(self.wall, start)
        if self.used.get(start, 0) + amount <= self.CEILING:
            self.used[start] = self.used.get(start, 0) + amount

    @invariant()
    def no_window_is_over_its_ceiling(self):
        assert all(count <= self.CEILING for count in getattr(self, "used", {}).values())


CountingMachine.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=30)
TestCounting = CountingMachine.TestCase
