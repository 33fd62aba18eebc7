"""Wrong keys by where they come from: counted, refused, forgotten."""

import pytest
from tests.support.live import Clock, Told

from fleetgate.http.throttle import MOST, SHUT_FOR, TRIES, WITHIN, Throttle

HOME = "203.0.113.9"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def throttle(clock, told):
    return Throttle(clock, told)


def fail(throttle, address=HOME, times=TRIES, begin=0):
    for number in range(begin, begin + times):
        throttle.failed(address, b"key %d" % number)


def test_ten_different_wrong_keys_shut_a_source_for_a_while(throttle, clock, told):
    fail(throttle, times=TRIES - 1)
    assert throttle.shut_for(HOME) == 0
    assert told.lines == []
    fail(throttle, begin=TRIES, times=1)
    assert throttle.shut_for(HOME) == SHUT_FOR
    assert throttle.shut_for("203.0.113.10") == 0
    ((event, values),) = told.lines
    assert (event, values["level"], values["address"]) == ("source_shut", "warning", HOME)
    clock.pass_(SHUT_FOR - 1)
    assert throttle.shut_for(HOME) == 1
    clock.pass_(1)
    assert throttle.shut_for(HOME) == 0


def test_one_old_key_sent_again_and_again_is_no_guessing(throttle):
    for _ in range(1000):
        throttle.failed(HOME, b"the same")
    assert throttle.shut_for(HOME) == 0


def test_slow_mistakes_are_forgiven(throttle, clock):
    for number in range(50):
        throttle.failed(HOME, b"key %d" % number)
        clock.pass_(WITHIN / (TRIES - 1))
    assert throttle.shut_for(HOME) == 0


def test_what_fails_while_it_is_shut_does_not_make_it_longer(throttle, clock):
    fail(throttle)
    clock.pass_(SHUT_FOR - 10)
    fail(throttle, times=100, begin=1000)
    assert throttle.shut_for(HOME) == 10
    clock.pass_(10)
    fail(throttle, times=TRIES - 1, begin=5000)
    assert throttle.shut_for(HOME) == 0


def test_a_network_of_ipv6_is_one_source(throttle):
    for number in range(TRIES):
        throttle.failed(f"2001:db8:1:2::{number:x}", b"key %d" % number)
    assert throttle.shut_for("2001:db8:1:2:ffff::1") == SHUT_FOR
    assert throttle.shut_for("2001:db8:1:3::1") == 0
    fail(throttle, f"::ffff:{HOME}")
    assert throttle.shut_for(HOME) == SHUT_FOR


def test_it_remembers_only_so_many(throttle):
    fail(throttle)
    for number in range(MOST + 100):
        throttle.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", b"key")
    assert len(throttle) == MOST
    throttle.failed("not an address: 1", b"key")
