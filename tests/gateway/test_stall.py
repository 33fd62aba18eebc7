import pytest

from fleetgate.gateway.stall import Stall


class Loop:
    """The little of a loop that a Stall uses, with time that passes when the test says so."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def time(self):
        return self.now

    def call_later(self, delay, call):
        timer = Timer(self.now + delay, call)
        self.timers.append(timer)
        return timer

    def pass_to(self, moment):
        while due := [timer for timer in self.timers if not timer.over and timer.at <= moment]:
            timer = min(due, key=lambda one: one.at)
            self.now = max(self.now, timer.at)
            timer.over = True
            timer.call()
        self.now = moment

    @property
    def pending(self):
        return [timer for timer in self.timers if not timer.over]


class Timer:
    def __init__(self, at, call):
        self.at, self.call, self.over = at, call, False

    def cancel(self):
        self.over = True


@pytest.fixture
def loop():
    return Loop()


def begin(loop, read=30.0, write=60.0):
    late = []
    return Stall(loop, read, write, late.append), late


def test_silence_of_the_upstream_is_told_once(loop):
    _, late = begin(loop)
    loop.pass_to(29.9)
    assert late == []
    loop.pass_to(200.0)
    assert late == [False]
    assert loop.pending == []


def test_progress_pushes_it_back(loop):
    stall, late = begin(loop)
    for now in range(20, 200, 20):
        loop.pass_to(now)
        stall.reading()
    assert late == []
    loop.pass_to(180 + 29.9)
    assert late == []
    loop.pass_to(180 + 30.0)
    assert late == [False]


def test_comments_of_the_engine_are_no_progress(loop):
    stall, late = begin(loop)
    for now in range(10, 40, 10):
        loop.pass_to(now)
        stall.reading(progress=False)
    assert late == [False]


def test_a_caller_who_takes_nothing_has_its_own_limit(loop):
    stall, late = begin(loop)
    loop.pass_to(10.0)
    stall.writing()
    loop.pass_to(69.9)
    assert late == []
    loop.pass_to(70.0)
    assert late == [True]


def test_the_shorter_limit_holds_when_the_direction_changes_meanwhile(loop):
    stall, late = begin(loop, read=5.0, write=60.0)
    stall.writing()
    loop.pass_to(4.0)
    stall.reading()
    loop.pass_to(8.9)
    assert late == []
    loop.pass_to(9.1)
    assert late == [False]


def test_stopped_it_is_silent(loop):
    stall, late = begin(loop)
    stall.stop()
    stall.stop()
    loop.pass_to(100.0)
    assert late == []
    assert loop.pending == []


def test_there_is_one_timer_however_much_moves(loop):
    stall, _ = begin(loop)
    for now in range(1, 25):
        loop.pass_to(now)
        stall.writing()
        stall.reading()
    assert len(loop.timers) == 1
