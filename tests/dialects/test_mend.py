"""Oddities of providers' answers: what is mended, and that nothing else is, however a stream is cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate import sse
from fleetgate.dialects.mend import ODDITIES, Mender, Oddities

CALL = [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}]


def frame(delta=None, finish=None, index=0, **members):
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **members}).encode() + b"\n\n"


def mended(odd, *frames):
    mender = Mender(odd)
    return [one for piece in frames for one in mender.feed(piece)]


def reasons(frames):
    return [choice["finish_reason"] for one in frames for choice in json.loads(sse.data_of(one))["choices"]]


def whole(odd, message, finish):
    body = json.dumps(
        {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    ).encode()
    return json.loads(Mender(odd).whole(body))


GEMINI, MISTRAL = ODDITIES["gemini"], ODDITIES["mistral"]


def test_an_end_after_tool_calls_says_so():
    assert reasons(mended(GEMINI, frame({"tool_calls": CALL}), frame({}, "stop"))) == [None, "tool_calls"]
    assert reasons(mended(GEMINI, frame({"tool_calls": CALL}, "stop"))) == ["tool_calls"]
    assert whole(GEMINI, {"tool_calls": CALL}, "stop")["choices"][0]["finish_reason"] == "tool_calls"


def test_only_of_the_choice_that_called():
    frames = mended(GEMINI, frame({"tool_calls": CALL}, index=1), frame({}, "stop", 0), frame({}, "stop", 1))
    assert reasons(frames) == [None, "stop", "tool_calls"]


@pytest.mark.parametrize("finish", ["length", "content_filter", "tool_calls"])
def test_other_ends_stay(finish):
    assert reasons(mended(GEMINI, frame({"tool_calls": CALL}), frame({}, finish)))[-1] == finish


def test_content_in_parts_becomes_text_and_thoughts():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]},
        {"type": "text", "text": "a"},
        "b",
        {"type": "reference", "reference_ids": [1]},
    ]
    message = whole(MISTRAL, {"role": "assistant", "content": parts}, "stop")["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "ab", "reasoning_content": "hm"}
    (one,) = mended(MISTRAL, frame({"content": parts[:1]}))
    delta = json.loads(sse.data_of(one))["choices"][0]["delta"]
    assert delta == {"content": None, "reasoning_content": "hm"}


def test_reasons_of_its_own_become_the_usual_ones():
    assert reasons(mended(ODDITIES["together"], frame({}, "eos"))) == ["stop"]
    assert (
        whole(ODDITIES["cohere"], {"content": "x"}, "MAX_TOKENS")["choices"][0]["finish_reason"] == "length"
    )


def test_an_answer_that_is_none_becomes_an_error():
    (one,) = mended(ODDITIES["deepseek"], frame({}, "insufficient_system_resource"))
    assert json.loads(sse.data_of(one)) == {
        "error": {"message": "the provider ended its answer with insufficient_system_resource", "code": 503}
    }
    (one,) = mended(ODDITIES["openrouter"], frame({}, "error", error={"code": 502, "message": "gone"}))
    assert json.loads(sse.data_of(one))["error"] == {"code": 502, "message": "gone"}


@pytest.mark.parametrize(
    ("code", "status"), [(1002, 429), (1004, 401), (1008, 402), (1026, 400), (99, 500), ("x", 500)]
)
def test_a_failure_told_in_a_good_answer(code, status):
    body = json.dumps({"choices": None, "base_resp": {"status_code": code, "status_msg": "no"}}).encode()
    assert json.loads(Mender(ODDITIES["minimax"]).whole(body)) == {"error": {"message": "no", "code": status}}
    fine = b'{"choices":[],"base_resp":{"status_code":0,"status_msg":""}}'
    assert Mender(ODDITIES["minimax"]).whole(fine) is fine


@pytest.mark.parametrize("name", ODDITIES)
@pytest.mark.parametrize(
    "raw",
    [b"", b"[1]", b"{", b'{"choices": 3}', b'{"choices":[{"delta":7}],"finish_reason":"stop"}', b"\xff"],
)
def test_what_cannot_be_read_passes(name, raw):
    mender = Mender(ODDITIES[name])
    assert mender.whole(raw) == raw
    assert b"".join(mender.feed(b"data: " + raw + b"\n\n")) == b"data: " + raw + b"\n\n"


EVERYTHING = Oddities(
    calls_end_as_stop=True,
    content_in_parts=True,
    reasons={"eos": "stop"},
    broken=frozenset({"error"}),
    told_in="base_resp",
)
TEXTS = st.text(alphabet='abc"\\{}[]: \n', max_size=12)


@given(st.lists(TEXTS, max_size=5), st.lists(st.integers(1, 40), max_size=8))
def test_ordinary_streams_pass_byte_by_byte_however_they_are_cut(texts, cuts):
    raw = (
        b": a comment\n\n"
        + b"".join(frame({"content": text}) for text in texts)
        + frame({}, "stop")
        + b"data: [DONE]\n\n"
    )
    mender, out, at = Mender(EVERYTHING), [], 0
    for size in [*cuts, len(raw)]:
        out += mender.feed(raw[at : at + size])
        at += size
    assert b"".join(out) + mender.end() == raw


def test_what_is_odd_in_another_way_passes():
    frame = b'data: {"choices":[{"index":[1],"delta":{"tool_calls":[{}]},"finish_reason":["ERROR"]}]}\n\n'
    for odd in ODDITIES.values():
        assert Mender(odd).feed(frame) == [frame]
