"""Stored answers in memory: bounded in bytes and in time, against a model."""

import math

from hypothesis import given
from hypothesis import strategies as st

from fleetgate.cache.memory import Memory
from fleetgate.cache.stored import OVERHEAD, Stored


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def stored(size=0, ttl=10.0):
    return Stored(at=0.0, ttl=ttl, deployment="", weights="", streamed=False, body=b"x" * size)


def test_the_one_used_longest_ago_goes_first():
    memory = Memory(Clock(), 3 * (OVERHEAD + 11))
    for key in "abc":
        assert memory.put(key, stored(10))
    assert memory.get("a") is not None
    assert memory.put("d", stored(10))
    assert [memory.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert (memory.entries, memory.evicted) == (3, 1)


def test_what_never_fits_is_not_taken_and_drives_nothing_out():
    memory = Memory(Clock(), OVERHEAD + 100)
    assert memory.put("a", stored(10))
    assert not memory.put("b", stored(200))
    assert memory.get("a") is not None


def test_an_answer_expires():
    clock = Clock()
    memory = Memory(clock, 10_000)
    memory.put("a", stored(ttl=5.0))
    clock.now = 4.999
    assert memory.get("a") is not None
    clock.now = 5.0
    assert memory.get("a") is None
    assert (memory.entries, memory.bytes, memory.evicted) == (0, 0, 0)


def test_an_answer_in_place_of_another():
    clock = Clock()
    memory = Memory(clock, 10_000)
    memory.put("a", stored(10, ttl=5.0))
    clock.now = 4.0
    memory.put("a", stored(20, ttl=5.0))
    clock.now = 8.0
    assert len(memory.get("a").body) == 20
    assert memory.bytes == OVERHEAD + 21


def test_a_smaller_room_keeps_what_fits():
    clock = Clock()
    memory = Memory(clock, 100_000)
    for number in range(10):
        clock.now = float(number)
        memory.put(f"k{number}", stored(100))
    memory.resize(3 * (OVERHEAD + 102))
    assert [key for key in range(10) if memory.get(f"k{key}")] == [7, 8, 9]
    assert memory.evicted == 7
    memory.resize(100_000)
    assert memory.entries == 3
    clock.now = 17.5
    assert [key for key in range(10) if memory.get(f"k{key}")] == [8, 9]


def test_a_flush_of_everything_or_of_a_prefix():
    memory = Memory(Clock(), 100_000)
    for key in ("a:1", "a:2", "ab:1", "b:1"):
        memory.put(key, stored())
    assert memory.flush("a:") == 2
    assert memory.entries == 2
    assert memory.flush() == 2
    assert (memory.entries, memory.bytes, memory.flush()) == (0, 0, 0)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abcdef"), st.integers(0, 3_000), st.floats(0.1, 20)),
        st.tuples(st.just("get"), st.sampled_from("abcdef")),
        st.tuples(st.just("wait"), st.floats(0, 10)),
        st.tuples(st.just("resize"), st.integers(1, 8_000)),
        st.tuples(st.just("flush"), st.sampled_from(["", "a"])),
    ),
    max_size=60,
)


@given(steps)
def test_it_never_holds_more_than_its_room_nor_what_is_over(steps):
    clock = Clock()
    memory = Memory(clock, 4_000)
    model = {}
    for name, *given_ in steps:
        if name == "put":
            key, size, ttl = given_
            one = stored(size, ttl)
            if memory.put(key, one):
                model[key] = (one, clock.now + ttl)
        elif name == "get":
            found = memory.get(given_[0])
            one, until = model.get(given_[0], (None, math.inf))
            assert found is None or (found is one and clock.now < until)
        elif name == "wait":
            clock.now += given_[0]
        elif name == "resize":
            memory.resize(given_[0])
        else:
            memory.flush(given_[0])
            model = {key: one for key, one in model.items() if given_[0] and not key.startswith(given_[0])}
        held = [key for key in model if memory.get(key) is not None]
        assert memory.bytes == sum(model[key][0].size(key) for key in held) <= memory.room
        assert memory.entries == len(held)
