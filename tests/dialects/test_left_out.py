"""Names of what was left out: each once, bounded, and harmless in a header."""

from hypothesis import given
from hypothesis import strategies as st

from fleetgate.dialects.left_out import LONGEST, MORE, MOST, LeftOut, header


def test_each_once_in_order():
    left = LeftOut()
    left.rest({"b": 1, "a": False, "read": 1, "nothing": None}, ("read",), "options.")
    left.add("options.a")
    left.add("input[].x: y")
    assert left.names() == ("options.b", "options.a", "input[].x:_y")


def test_what_is_more_than_the_bound_is_one_sign():
    left = LeftOut()
    for at in range(MOST + 5):
        left.add(f"m{at}")
    assert left.names() == (*(f"m{at}" for at in range(MOST)), MORE)


def test_names_of_several_sources_are_one_line():
    assert header(["a", "b", "a", "messages[].name"]) == b"a, b, messages[].name"
    full = tuple(f"m{at}" for at in range(MOST))
    assert header([*full, MORE, "more"]).endswith(b", m23, ...")


@given(st.lists(st.text(max_size=100), min_size=1, max_size=60))
def test_any_names_make_a_header(names):
    told = header(names)
    assert len(told) <= (LONGEST + 2) * MOST + len(MORE)
    assert not set(told) & set(b"\r\n\0\"';=")
    assert told.isascii()
