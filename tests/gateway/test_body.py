import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetgate.errors import Refused
from fleetgate.gateway.body import IN_MEMORY, BodyBudget, CallerGone, parse, read

LIMIT = 1000


def receiver(*messages):
    """`receive` of ASGI that gives these pieces; the last one ends the body."""
    left = list(messages)

    async def receive():
        message = left.pop(0)
        if message is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": message, "more_body": bool(left)}

    return receive


def parsed(obj, budget=None):
    raw = obj if isinstance(obj, bytes) else json.dumps(obj).encode()
    return parse(raw, budget or BodyBudget())


# --- reading ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "pieces", [[b"x" * LIMIT], [b"x" * 500, b"x" * 500], [b"x"] * 3, [b"", b"x", b""], [b""]]
)
async def test_a_body_within_its_limit_is_read_and_held(pieces):
    budget = BodyBudget()
    raw, held = await read(receiver(*pieces), LIMIT, None, budget)
    assert raw == b"".join(pieces)
    assert held == budget.held == len(raw)


@pytest.mark.asyncio
@pytest.mark.parametrize("pieces", [[b"x" * (LIMIT + 1)], [b"x" * LIMIT, b"x"], [b"x" * (LIMIT + 1), b""]])
async def test_a_body_beyond_its_limit_is_refused_and_nothing_stays_held(pieces):
    budget = BodyBudget()
    with pytest.raises(Refused) as caught:
        await read(receiver(*pieces), LIMIT, None, budget)
    assert caught.value.status == 413
    assert budget.held == 0


@pytest.mark.asyncio
async def test_a_declared_length_beyond_the_limit_is_refused_unread():
    async def receive():
        raise AssertionError("read")

    with pytest.raises(Refused) as caught:
        await read(receive, LIMIT, LIMIT + 1, BodyBudget())
    assert caught.value.status == 413


@pytest.mark.asyncio
@pytest.mark.parametrize("pieces", [[None], [b"half", None]])
async def test_a_caller_who_leaves_meanwhile_leaves_nothing_held(pieces):
    budget = BodyBudget()
    with pytest.raises(CallerGone):
        await read(receiver(*pieces, b"never"), LIMIT, None, budget)
    assert budget.held == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("pieces", [[b"x" * 101], [b"x" * 60, b"x" * 60]])
async def test_all_bodies_together_have_a_limit(pieces):
    budget = BodyBudget(limit=100)
    with pytest.raises(Refused) as caught:
        await read(receiver(*pieces), LIMIT, None, budget)
    assert (caught.value.status, caught.value.retry_after) == (503, 2.0)
    assert budget.held == 0


# --- parsing ----------------------------------------------------------------------------------------


def test_what_the_body_asks_of_the_gateway():
    wanted = parsed({"model": "m", "stream": True, "stream_options": {"include_usage": True}}).wanted
    assert (wanted.model, wanted.stream, wanted.usage, wanted.whole_only) == ("m", True, True, False)
    wanted = parsed(
        {"model": "m", "stream": None, "stream_options": None, "modalities": ["text", "audio"]}
    ).wanted
    assert (wanted.stream, wanted.usage, wanted.whole_only) == (False, False, True)


@pytest.mark.parametrize(
    ("raw", "code", "param"),
    [
        (b"", "malformed", None),
        (b"nonsense", "malformed", None),
        (b"[]", "malformed", None),
        (b"null", "malformed", None),
        (b'{"model":"m"', "malformed", None),
        (b'{"model":"m"} x', "malformed", None),
        (b'{"model":"\xff"}', "malformed", None),
        (b'{"model":"m","x":"\xc3\x28"}', "malformed", None),
        (b'{"model":"m","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "malformed", None),
        (b"{}", "model_missing_in_request", "model"),
        (b'{"model":null}', "model_missing_in_request", "model"),
        (b'{"model":""}', "model_missing_in_request", "model"),
        (b'{"model":5}', "malformed", "model"),
        (b'{"model":"m","stream":1}', "malformed", "stream"),
        (b'{"model":"m","stream":"true"}', "malformed", "stream"),
        (b'{"model":"m","stream_options":[]}', "malformed", "stream_options"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_that_cannot_be_one_is_refused_with_what_is_wrong(raw, code, param):
    with pytest.raises(Refused) as caught:
        parsed(raw)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)


def test_everything_else_passes_byte_for_byte():
    odd = rb'{"model":"m","a":  1.10 ,"b":{"x" :[1,  2]},"c":"\u00e9\/","d":12345678901234567890123,"e":1e5}'
    made = parsed(odd).encode("n", stream=None)
    assert (
        made
        == rb'{"model":"n","a":1.10,"b":{"x" :[1,  2]},"c":"\u00e9\/","d":12345678901234567890123,"e":1e5}'
    )


def test_a_member_written_twice_leaves_once():
    made = parsed(b'{"model":"a","x":1,"model":"b","x":2}').encode("n", stream=None)
    assert made == b'{"model":"n","x":2}'
    assert parsed(b'{"model":"a","model":"b"}').wanted.model == "b"


@pytest.mark.parametrize(
    ("given_", "stream", "sent"),
    [
        ({}, True, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": True}, False, {"stream": False}),
        ({"stream": False}, False, {"stream": False}),
        ({}, False, {}),
        ({"stream": True}, None, {}),
        ({"stream_options": {"include_usage": False, "x": 1}}, False, {}),
        (
            {"stream": True, "stream_options": {"include_usage": False, "x": 1}},
            True,
            {"stream": True, "stream_options": {"include_usage": True, "x": 1}},
        ),
    ],
)
def test_the_three_members_that_are_ours(given_, stream, sent):
    made = parsed({"model": "m", "n": 1, **given_}).encode("id", stream=stream)
    assert json.loads(made) == {"model": "id", "n": 1, **sent}


def test_it_can_be_sent_as_often_as_attempts_need_it():
    body = parsed({"model": "m", "messages": ["hello"]})
    assert json.loads(body.encode("a", stream=None)) == {"model": "a", "messages": ["hello"]}
    assert json.loads(body.encode('b"\n', stream=None)) == {"model": 'b"\n', "messages": ["hello"]}


def test_a_large_one_waits_on_disk_and_comes_back_whole():
    prompt = "x" * (IN_MEMORY + 10)
    budget = BodyBudget()
    body = parsed({"model": "m", "prompt": prompt}, budget)
    assert body._rest == b""
    for _ in range(2):
        assert json.loads(body.encode("n", stream=None)) == {"model": "n", "prompt": prompt}
    budget.held = body.size
    body.close()
    assert budget.held == 0
    assert body._file.closed


def test_its_memory_is_given_back_once():
    budget = BodyBudget()
    body = parsed({"model": "m"}, budget)
    budget.take(body.size)
    body.close()
    body.close()
    assert budget.held == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
OURS = {"model", "stream", "stream_options"}


@settings(deadline=None)
@given(st.dictionaries(st.text().filter(lambda key: key not in OURS), json_values, max_size=5))
def test_nothing_of_any_request_is_lost(members):
    made = json.loads(parsed({**members, "model": "m"}).encode("n", stream=None))
    assert made == {**members, "model": "n"}
