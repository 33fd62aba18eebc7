"""Dialects as they pass: what a stream says of its end and use, whole answers out of streams, and what goes.

The golden answers of the inbound translation serve as what upstreams of these dialects say.
"""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetgate import sse
from fleetgate.dialects import events
from fleetgate.dialects.anthropic.native import NATIVE as MESSAGES
from fleetgate.dialects.openai import Look
from fleetgate.dialects.port import Altered, Facts
from fleetgate.dialects.responses.native import NATIVE as RESPONSES
from fleetgate.errors import AttemptFailed, FailureClass, Refused
from fleetgate.estimate import estimate_tokens

GOLDEN = Path(__file__).parent / "golden"
BOTH = {"anthropic": MESSAGES, "responses": RESPONSES}
PLACES = [
    (name, place)
    for name in BOTH
    for place in sorted((GOLDEN / name).iterdir())
    if (place / "stream.txt").exists()
]
CASES = [pytest.param(name, place, id=f"{name}-{place.name}") for name, place in PLACES]


def frames_of(place, cutter):
    raw = (place / "stream.txt").read_bytes()
    found = cutter.feed(raw)
    rest = cutter.end()
    return [*found, rest] if sse.is_complete(rest) else found


def is_error(frames):
    return any(events.name_of(one) in (b"error", b"response.failed") for one in frames)


def event(kind, **members):
    return sse.frame(json.dumps({"type": kind, **members}).encode(), kind)


@pytest.mark.parametrize(("name", "place"), CASES)
def test_a_stream_is_read_as_its_whole_answer_is(name, place):
    native = BOTH[name]
    frames = frames_of(place, native.cutter())
    reader, gathering = native.reader(), native.gathering()
    if is_error(frames):
        with pytest.raises(AttemptFailed):
            [reader.look(one) for one in frames]
        assert not reader.ended
        return
    looks = []
    for frame in frames:
        looks.append(reader.look(frame))
        gathering.add(frame)
    assert looks[-1] is Look.END
    assert reader.finished
    assert reader.whole
    assert reader.end_mark == frames[-1]
    whole = gathering.body()
    usage, timings, unsaid = native.read_whole(whole)
    assert timings is None
    assert usage == reader.usage
    assert unsaid == reader.unsaid or b'"content":[]' in whole  # a call that was cut is not in it
    answer = place / "answer.json"
    if answer.exists() and name == "responses":
        written = json.loads(answer.read_bytes())
        assert native.read_whole(json.dumps(written).encode()) == (usage, None, unsaid)


@pytest.mark.parametrize(("name", "place"), CASES)
def test_what_comes_before_the_first_content_is_held(name, place):
    native = BOTH[name]
    frames = frames_of(place, native.cutter())
    if is_error(frames):
        return
    reader = native.reader()
    for frame in frames:
        look = reader.look(frame)
        if look is not Look.HOLD:
            assert look in (Look.CONTENT, Look.FINISH, Look.END)
            assert reader.committed or look is Look.END
            return


def test_a_message_is_gathered_with_its_signatures_and_arguments():
    gathering = MESSAGES.gathering()
    usage = {"input_tokens": 3, "output_tokens": 1}
    for one in (
        event("message_start", message={"id": "msg_1", "type": "message", "model": "m", "usage": usage}),
        event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
        event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
        event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2ln"}),
        event("content_block_stop", index=0),
        event("content_block_start", index=1, content_block={"type": "text", "text": ""}),
        event("content_block_delta", index=1, delta={"type": "text_delta", "text": "so "}),
        event("content_block_delta", index=1, delta={"type": "text_delta", "text": "what"}),
        event("content_block_delta", index=1, delta={"type": "citations_delta", "citation": {"n": 1}}),
        event("content_block_start", index=2, content_block={"type": "tool_use", "id": "t", "input": {}}),
        event("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": '{"a"'}),
        event("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": ":1}"}),
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9}),
        event("message_stop"),
    ):
        gathering.add(one)
    assert json.loads(gathering.body()) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 9},
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "text", "text": "so what", "citations": [{"n": 1}]},
            {"type": "tool_use", "id": "t", "input": {"a": 1}},
        ],
    }


def test_half_a_call_is_no_answer():
    gathering = MESSAGES.gathering()
    gathering.add(event("content_block_start", index=0, content_block={"type": "tool_use", "id": "t"}))
    gathering.add(
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": "{"})
    )
    with pytest.raises(AttemptFailed, match="not JSON"):
        gathering.body()
    with pytest.raises(AttemptFailed, match="not begun"):
        gathering.add(event("content_block_delta", index=7, delta={"type": "text_delta", "text": "x"}))


@pytest.mark.parametrize(
    ("native", "frame", "failure"),
    [
        (MESSAGES, event("error", error={"type": "overloaded_error", "message": "busy"}), "server_error"),
        (MESSAGES, event("error", error={"type": "rate_limit_error", "message": "slow"}), "rate_limited"),
        (MESSAGES, event("error", error={"type": "authentication_error", "message": "key"}), "key_invalid"),
        (RESPONSES, event("error", code="server_error", message="oh"), "server_error"),
        (
            RESPONSES,
            event("response.failed", response={"error": {"code": "rate_limit_exceeded", "message": "slow"}}),
            "rate_limited",
        ),
        (
            RESPONSES,
            event("response.failed", response={"error": {"code": "context_length_exceeded", "message": "x"}}),
            "context_too_long",
        ),
        (
            RESPONSES,
            event("response.failed", response={"error": {"code": "insufficient_quota", "message": "x"}}),
            "quota_exhausted",
        ),
    ],
)
def test_errors_inside_a_stream(native, frame, failure):
    reader = native.reader()
    with pytest.raises(AttemptFailed) as caught:
        reader.look(frame)
    assert caught.value.failure.value == failure
    reader = native.reader()
    reader.committed = True
    with pytest.raises(AttemptFailed) as caught:
        reader.look(frame)
    assert caught.value.failure is FailureClass.STREAM_BROKEN


@pytest.mark.parametrize(
    ("native", "body", "failure"),
    [
        (MESSAGES, b"{", "garbage"),
        (MESSAGES, b"[]", "garbage"),
        (MESSAGES, b'{"type":"completion"}', "garbage"),
        (MESSAGES, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', "server_error"),
        (RESPONSES, b"{", "garbage"),
        (RESPONSES, b"{}", "garbage"),
        (RESPONSES, b'{"output":[],"status":"failed"}', "server_error"),
        (RESPONSES, b'{"output":[],"error":{"code":"server_error","message":"x"}}', "server_error"),
    ],
)
def test_whole_answers_that_are_none(native, body, failure):
    with pytest.raises(AttemptFailed) as caught:
        native.read_whole(body)
    assert caught.value.failure.value == failure


def test_thoughts_alone_are_nothing_said():
    spent = {
        "type": "message",
        "content": [{"type": "thinking", "thinking": "hm"}],
        "stop_reason": "max_tokens",
    }
    assert MESSAGES.read_whole(json.dumps(spent).encode())[2]
    spent["content"].append({"type": "text", "text": "x"})
    assert not MESSAGES.read_whole(json.dumps(spent).encode())[2]
    cut = {
        "output": [{"type": "reasoning"}],
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
    }
    assert RESPONSES.read_whole(json.dumps(cut).encode())[2]


def raw(**members):
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in members.items()}


def test_thoughts_that_nobody_signed_go_and_nothing_else():
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": ""}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "y", "signature": "c2ln"},
                {"type": "thinking", "thinking": "z"},
                {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
            ],
        },
    ]
    members = raw(messages=turns, model="m")
    assert MESSAGES.prepare(members, Facts(signed=True)) == [Altered("messages[].thinking", events.UNSIGNED)]
    kept = json.loads(bytes(members["messages"]))
    assert kept == [turns[0], {**turns[2], "content": [turns[2]["content"][0], turns[2]["content"][2]]}]
    members = raw(messages=turns)
    assert MESSAGES.prepare(members, Facts()) == []
    assert json.loads(bytes(members["messages"])) == turns
    for text in ('"thinking"', [1, 2], "x"):
        members = raw(messages=text)
        assert MESSAGES.prepare(members, Facts(signed=True)) == []


def test_a_provider_keeps_nothing_unless_it_is_told_to():
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    signed = {**thought, "encrypted_content": "eA=="}
    said = {"role": "user", "content": "hi"}
    members = raw(input=[thought, signed, said])
    assert RESPONSES.prepare(members, Facts(signed=True)) == [Altered("input[].reasoning", events.UNSIGNED)]
    assert json.loads(bytes(members["input"])) == [signed, said]
    assert bytes(members["store"]) == b"false"
    members = raw(input="hi", store=True)
    assert RESPONSES.prepare(members, Facts(signed=True)) == []
    assert bytes(members["store"]) == b"true"
    members = raw(input=[thought])
    assert RESPONSES.prepare(members, Facts()) == []
    assert "store" not in members


def test_what_may_pass_although_it_cannot_be_translated():
    assert MESSAGES.passes(Refused(400, "not_translatable", "x", param="tools[0].type"))
    assert not MESSAGES.passes(Refused(400, "malformed", "x", param="max_tokens"))
    assert RESPONSES.passes(Refused(400, "unsupported", "x", param="tools[0]"))
    for param in ("previous_response_id", "conversation", "prompt", "background", "generate"):
        assert not RESPONSES.passes(Refused(400, "unsupported", "x", param=param))
    assert not RESPONSES.passes(Refused(400, "malformed", "x", param="input"))


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b"event: message_delta\n", b"data: {}\n"])))
)
@settings(deadline=None)
def test_nothing_but_a_failed_attempt_comes_out_of_garbage(pieces):
    for native in BOTH.values():
        cutter, reader = native.cutter(), native.reader()
        try:
            for piece in pieces:
                for frame in cutter.feed(piece):
                    reader.look(frame)
        except (AttemptFailed, sse.FrameTooLong):
            pass
        assert not reader.finished


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_mutated_streams_never_end_well_by_chance(data):
    """A stream that was cut has no end, whatever else was done to it."""
    name, place = data.draw(st.sampled_from(PLACES))
    native = BOTH[name]
    frames = frames_of(place, native.cutter())
    ends = {b"message_delta", b"message_stop", b"response.completed", b"response.incomplete"}
    kept = [one for one in frames if events.name_of(one) not in ends]
    kept = data.draw(st.permutations(kept))
    reader, gathering = native.reader(), native.gathering()
    try:
        for frame in kept:
            reader.look(frame)
            gathering.add(frame)
    except AttemptFailed:
        pass
    assert not reader.finished
    assert not reader.ended


HELLO = {"role": "user", "content": "hello"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
FUNCTION = {"type": "function", "name": "f"}
DEVELOPER = {"role": "developer", "content": "be kind"}


@pytest.mark.parametrize(
    ("native", "body", "plain"),
    [
        (MESSAGES, {"messages": [HELLO]}, True),
        (MESSAGES, {"system": "be kind", "messages": [HELLO, {"role": "assistant", "content": "hi"}]}, True),
        (MESSAGES, {"messages": [HELLO, {"role": "system", "content": "be kinder"}]}, False),
        (MESSAGES, {"messages": "hello"}, False),
        (RESPONSES, {"input": "hello"}, True),
        (RESPONSES, {"input": [DEVELOPER, HELLO, CALL], "tools": [FUNCTION]}, True),
        (RESPONSES, {"input": [CALL, {"type": "function_call_output", "output": "1"}]}, True),
        (RESPONSES, {"input": [CALL, {"type": "function_call_output", "output": []}]}, False),
        (RESPONSES, {"input": [{**CALL, "namespace": "n"}]}, False),
        (RESPONSES, {"input": [{"type": "custom_tool_call"}]}, False),
        (RESPONSES, {"input": [DEVELOPER, DEVELOPER, HELLO]}, False),
        (RESPONSES, {"input": [HELLO, DEVELOPER]}, False),
        (RESPONSES, {"instructions": "be kind", "input": [DEVELOPER, HELLO]}, False),
        (RESPONSES, {"input": "hello", "tools": [FUNCTION, {"type": "web_search"}]}, False),
        (RESPONSES, {"input": "hello", "tools": [{"type": "namespace", "tools": [FUNCTION]}]}, False),
        (RESPONSES, {"input": "hello", "tools": {}}, True),
        (RESPONSES, {"input": "hello", "tools": "f"}, False),
        (RESPONSES, {"input": [7]}, True),
    ],
)
def test_what_engines_read_by_halves_is_better_translated(native, body, plain):
    assert native.is_plain(body) is plain


@pytest.mark.parametrize(
    "case", ["anthropic/claude-code-recorded", "responses/codex-recorded", "responses/codex-recorded-lite"]
)
def test_what_agents_send_is_better_translated(case):
    name = case.partition("/")[0]
    assert not BOTH[name].is_plain(json.loads((GOLDEN / case / "request.json").read_text()))


@pytest.mark.parametrize(
    ("dialect", "members"),
    [
        (MESSAGES, {"messages": [], "system": "x " * 4_000}),
        (MESSAGES, {"messages": [], "tools": [{"type": "web_search_20250305", "name": "x " * 4_000}]}),
        (RESPONSES, {"input": "hi", "instructions": "x " * 4_000}),
    ],
    ids=["system", "tools", "instructions"],
)
def test_what_only_passes_is_as_long_as_all_that_is_read_of_it(dialect, members):
    """Its cost is held before it is known."""
    known = dialect.outline({"model": "m", "max_tokens": 5, "max_output_tokens": 5, **members}).members
    assert known["max_tokens"] == 5
    assert estimate_tokens(json.dumps(dict(known)).encode()) > 4_000
