"""What makes requests equal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.errors import Refused
from fleetgate.gateway.body import BodyBudget, parse
from fleetgate.gateway.likeness import NO_WISHES, Wishes, fingerprint, wishes

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "top_p": 1}


def digest(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    body = parse(raw, BodyBudget(), compare=True)
    found = body.likeness
    body.close()
    return found.digest


@given(st.permutations(list(BODY)))
def test_the_order_of_members_does_not_count(order):
    assert digest({name: BODY[name] for name in order}) == digest(BODY)


@pytest.mark.parametrize(
    "more",
    [{"user": "anna"}, {"stream": False}, {"cache": {"ttl": 1}}, {"stream_options": None}],
    ids=json.dumps,
)
def test_what_does_not_count(more):
    assert digest({**BODY, **more}) == digest(BODY)


@pytest.mark.parametrize(
    "more",
    [
        {"top_p": 1.0},
        {"top_p": None},
        {"seed": 0},
        {"stream": True},
        {"messages": []},
        {"": 1},
        {"USER": "x"},
    ],
    ids=json.dumps,
)
def test_what_counts(more):
    assert digest({**BODY, **more}) != digest(BODY)


def test_the_model_counts_by_the_name_that_was_asked_for():
    """It is no part of the body's digest, as it is what the fingerprint adds."""
    assert digest({**BODY, "model": "other"}) == digest(BODY)
    assert fingerprint(["chat", "m"], b"x") != fingerprint(["chat", "other"], b"x")


def test_members_cannot_run_into_each_other():
    assert digest(b'{"model":"m","a":1,"b":2}') != digest(b'{"model":"m","a":"1,\\"b\\":2"}')
    assert digest(b'{"model":"m","a\\":1,\\"b":2}') != digest(b'{"model":"m","a":1,"b":2}')
    assert fingerprint(["ab", "c"], b"x") != fingerprint(["a", "bc"], b"x")
    assert fingerprint(["1:a"], b"x") != fingerprint(["", "a"], b"x")
    assert len(fingerprint([], b"x")) == 64


@given(
    st.dictionaries(st.text(max_size=3), st.integers(-2, 2), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(-2, 2), max_size=3),
)
def test_bodies_are_equal_exactly_if_their_members_are(one, two):
    ours = ("model", "stream", "stream_options", "user", "cache", "n")
    one, two = ({key: value for key, value in body.items() if key not in ours} for body in (one, two))
    assert (digest({**one, "model": "m"}) == digest({**two, "model": "m"})) == (one == two)


def test_the_member_cache_goes_nowhere():
    body = parse(b'{"model":"m","cache":{"ttl":5},"x":1}', BodyBudget(), compare=True)
    assert body.encode("m", stream=None) == b'{"model":"m","x":1}'
    assert body.likeness.control == b'{"ttl":5}'
    plain = parse(b'{"model":"m","cache":{"ttl":5},"x":1}', BodyBudget())
    assert plain.encode("m", stream=None) == b'{"model":"m","cache":{"ttl":5},"x":1}'
    assert plain.likeness is None


@pytest.mark.parametrize(
    ("header", "control", "wanted"),
    [
        (b"", b"", NO_WISHES),
        (b"no-cache", b"", Wishes(read=False)),
        (b"no-store , MAX-AGE=5", b"", Wishes(store=False, oldest=5.0)),
        (b'max-age="7"', b'{"s-maxage":6.5}', Wishes(oldest=6.5)),
        (b"max-age=-1, max-age=x", b"", NO_WISHES),
        (b"max-stale=5, only-if-cached, =, ,", b"null", NO_WISHES),
        (
            b"",
            b'{"no-cache":true,"no-store":false,"ttl":9,"namespace":"a"}',
            Wishes(read=False, ttl=9.0, namespace="a"),
        ),
        (b"no-store", b'{"no-cache":true}', Wishes(read=False, store=False)),
    ],
)
def test_wishes(header, control, wanted):
    assert wishes(header, control) == wanted


@pytest.mark.parametrize("control", [b"1", b"[]", b'{"ttl":"5"}', b'{"ttl":-1}', b'{"no-store":1}'])
def test_wishes_of_another_form(control):
    with pytest.raises(Refused) as caught:
        wishes(b"", control)
    assert (caught.value.status, caught.value.param) == (400, "cache")
