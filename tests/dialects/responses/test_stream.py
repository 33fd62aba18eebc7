import json

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.dialects.responses.test_golden import GOLDEN, streamed
from tests.support.upstreams import ScriptedUpstream, respond

from fleetgate import sse
from fleetgate.dialects.responses import DIALECT, IN_CHAT
from fleetgate.dialects.responses.dialect import BOTH
from fleetgate.errors import AttemptFailed, FailureClass, Refused, Source

REQUEST_ID = "req_019aa0f0c4d2a1b2c3d4e5f6"
PATCH = {"type": "custom", "name": "patch"}
FUNCTION = {"type": "function", "name": "f"}
_events = TypeAdapter(ResponseStreamEvent)


def memory(*tools, **members):
    return DIALECT.request({"model": "m", "input": "x", "tools": list(tools), **members}).memory


def answering(*tools, **members):
    return DIALECT.answering(memory(*tools, **members), REQUEST_ID)


def piece(delta=None, reason=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": reason}
    return sse.frame(json.dumps({"id": "x", "model": "up", "choices": [choice], **more}).encode())


def call(index, name=None, arguments=None, call_id=None):
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    found = {"index": index, "id": call_id, "function": function}
    return {k: v for k, v in found.items() if v is not None}


def events(data: bytes):
    found = [json.loads(sse.data_of(frame)) for frame in sse.Cutter().feed(data)]
    for one in found:
        _events.validate_python(one)
    return found


def run(stream, *frames):
    return events(stream.begin() + b"".join(map(stream.feed, frames)) + stream.end())


def output(*found):
    return found[-1]["response"]["output"]


def refusal(failure=FailureClass.STREAM_BROKEN, status=502, **more):
    return Refused(status, "upstream_failed", "It broke.", source=Source.UPSTREAM, failure=failure, **more)


# --- pieces -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    arguments=st.lists(st.text('{"a:1}', min_size=1, max_size=8), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
    custom=st.booleans(),
)
def test_arguments_come_together_however_they_are_cut_and_mixed(arguments, order, custom):
    """Pieces of several calls in any order; within a call the order stays."""
    name = "patch" if custom else "f"
    waiting = [
        [call(at, name, "", f"id{at}"), *(call(at, arguments=sign) for sign in text)]
        for at, text in enumerate(arguments)
    ]
    frames = []
    while any(waiting):
        frames.append(piece({"tool_calls": [order.choice([pieces for pieces in waiting if pieces]).pop(0)]}))
    frames.append(piece(reason="tool_calls"))
    found = run(answering(PATCH, FUNCTION), *frames)
    items = {item["call_id"]: item for item in output(*found)}
    deltas: dict[str, str] = {}
    for one in found:
        if one["type"].endswith(".delta"):
            deltas[one["item_id"]] = deltas.get(one["item_id"], "") + one["delta"]
    for at, text in enumerate(arguments):
        item = items[f"id{at}"]
        given_on = item["input" if custom else "arguments"]
        assert deltas.get(item["id"], "") == given_on
        assert custom or given_on == text


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["reasoning_content", "content", "refusal"]), st.text("ab")), max_size=8
    )
)
def test_text_comes_out_in_its_order(said):
    found = run(answering(), *(piece({kind: text}) for kind, text in said), piece(reason="stop"))
    read = [part.get("text") or part["refusal"] for item in output(*found) for part in item["content"]]
    assert "".join(read) == "".join(text for _, text in said)
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    opened = [one["output_index"] for one in found if one["type"] == "response.output_item.added"]
    closed = [one["output_index"] for one in found if one["type"] == "response.output_item.done"]
    assert opened == sorted(closed) == list(range(len(opened)))


@pytest.mark.parametrize(
    "pieces",
    [
        [call(None, "f", "1", "a"), call(None, arguments="2"), call(None, "f", "3", "b")],
        [call(0, "f", "12", "a"), call(0, "f", "3", "b")],
        [call(0, call_id="a"), call(0, arguments="1"), call(0, "f", "2"), call(1, "f", "3", "b")],
        [call(0, "f", "1", "a"), call(1, "f", "", "b"), call(0, arguments="2"), call(1, arguments="3")],
        [call(0, "f", "1", "a"), call(0, "f", "2", "a"), call(1, "f", "3", "b")],
    ],
)
def test_ways_in_which_engines_number_calls(pieces):
    found = run(
        answering(FUNCTION), *(piece({"tool_calls": [one]}) for one in pieces), piece(reason="tool_calls")
    )
    assert [(one["call_id"], one["arguments"]) for one in output(*found)] == [("a", "12"), ("b", "3")]


def test_a_call_without_an_id_gets_one_that_follows_from_the_request():
    found = run(answering(FUNCTION), piece({"tool_calls": [call(0, "f", "{}")]}), piece(reason="tool_calls"))
    assert output(*found)[0]["call_id"] == "call_019aa0f0c4d2a1b2c3d4e5f6_0"


def test_arguments_that_are_no_text_are_written_as_one():
    found = run(
        answering(FUNCTION), piece({"tool_calls": [call(0, "f", {"a": 1}, "a")]}), piece(reason="tool_calls")
    )
    assert output(*found)[0]["arguments"] == '{"a":1}'


def test_content_in_parts():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
        {"type": "text", "text": "Yes"},
    ]
    found = run(answering(), piece({"content": parts}), piece(reason="stop"))
    assert [item["content"][0]["text"] for item in output(*found)] == ["Hm", "Yes"]


@pytest.mark.parametrize(
    "delta", [{"content": 3}, {"tool_calls": {"a": 1}}, {"tool_calls": ["x"]}, {"content": ["x"]}, "x"]
)
def test_a_piece_that_cannot_be_one_is_garbage(delta):
    with pytest.raises(AttemptFailed) as found:
        answering().feed(piece(delta))
    assert found.value.failure is FailureClass.GARBAGE


def test_a_frame_that_cannot_be_read_is_garbage():
    with pytest.raises(AttemptFailed):
        answering().feed(sse.frame(b'{"choices":[{"delta":{"content":"\\ud800"}}]}'))


@pytest.mark.parametrize("frame", [sse.comment("x"), sse.frame(b"[]"), sse.frame(b"3")])
def test_frames_without_an_answer_are_nothing(frame):
    stream = answering()
    stream.begin()
    assert stream.feed(frame) == b""


# --- life and end -----------------------------------------------------------------------------------


def test_signs_of_life_are_comments_or_events_that_count_on():
    stream = answering()
    alive = [*events(stream.alive()), *events(stream.alive())]
    assert [(one["type"], one["sequence_number"]) for one in alive] == [
        ("response.created", 0),
        ("response.in_progress", 1),
        ("response.in_progress", 2),
    ]
    assert stream.begin() == b""


def test_an_error_before_any_content_opens_the_response_first():
    found = events(answering().begin())
    alone = [json.loads(sse.data_of(one)) for one in sse.Cutter().feed(answering().fail(refusal()))]
    assert alone[:2] == found
    assert alone[2]["type"] == "response.failed"


def test_an_answer_opens_itself_where_nobody_did():
    assert events(answering().feed(piece({"content": "x"})))[0]["type"] == "response.created"


def test_an_error_after_content_never_looks_like_a_good_end():
    stream = answering()
    stream.begin()
    stream.feed(piece({"reasoning_content": "a"}))
    before = events(stream.feed(piece({"content": "b"})))[-1]["sequence_number"]
    (event,) = events(stream.fail(refusal(retry_after=3)))
    assert (event["type"], event["sequence_number"]) == ("response.failed", before + 1)
    assert event["response"]["status"] == "failed"
    assert [item["type"] for item in event["response"]["output"]] == ["reasoning"]  # the message is not whole
    error = event["response"]["error"]
    assert (error["code"], error["class"], error["source"]) == ("server_error", "stream_broken", "upstream")
    assert (error["request_id"], error["reason"]) == (REQUEST_ID, "upstream_failed")
    assert error["message"] == "It broke. Try again in 3s."


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (FailureClass.CONTEXT_TOO_LONG, 400, "context_length_exceeded"),
        (FailureClass.RATE_LIMITED, 429, "rate_limit_exceeded"),
        (FailureClass.LIMIT_REACHED, 429, "rate_limit_exceeded"),
        (FailureClass.BAD_REQUEST, 400, "invalid_prompt"),
        (FailureClass.DEADLINE, 504, "server_error"),
        (None, 503, "server_error"),
        (None, 429, "rate_limit_exceeded"),
    ],
)
def test_codes_that_clients_act_upon(failure, status, code):
    data = DIALECT.answering(None, REQUEST_ID).fail(refusal(failure, status))
    frames = [json.loads(sse.data_of(frame)) for frame in sse.Cutter().feed(data)]
    assert [one["type"] for one in frames][-1] == "response.failed"
    assert frames[-1]["response"]["error"]["code"] == code


def test_an_error_as_a_whole_answer_is_openais():
    form = DIALECT.error_form(
        refusal(FailureClass.LIMIT_REACHED, 429, retry_after=7.0, terminal=True), REQUEST_ID
    )
    assert form.status == 429
    assert dict(form.headers)[b"retry-after"] == b"7"
    assert json.loads(form.body)["error"]["code"] == "upstream_failed"


@pytest.mark.parametrize("request_id", ["req_019aa0f0c4d2a1b2c3d4e5f6", "mine", "req_"])
def test_ids_follow_from_the_request(request_id):
    answer = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
    first = DIALECT.answer(answer, memory(), request_id)
    assert first == DIALECT.answer(answer, memory(), request_id)
    Response.model_validate(first)


def test_what_was_asked_comes_back():
    asked = {"instructions": "i", "temperature": 0.5, "top_p": 0.1, "metadata": {"a": "b"}, "user": "u"}
    answer = DIALECT.answer(
        {"choices": []}, memory(FUNCTION, **asked, text={"verbosity": "low"}, store=True), REQUEST_ID
    )
    assert {name: answer[name] for name in asked} == asked
    assert answer["tools"] == [FUNCTION]
    assert answer["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert answer["store"] is False


def test_the_tier_that_served_is_told():
    found = run(answering(), piece({"content": "x"}, service_tier="flex"), piece(reason="stop"))
    assert found[-1]["response"]["service_tier"] == "flex"


# --- the official client ----------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("case", ["tools", "reasoning", "codex", "custom", "refusal"])
async def test_the_official_client_puts_a_stream_together(case):
    async with (
        ScriptedUpstream(respond(body=streamed(case), content_type="text/event-stream")) as upstream,
        openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{upstream.port}/v1", api_key="x", max_retries=0
        ) as client,
        client.responses.stream(model="m", input="x") as stream,
    ):
        found = await stream.get_final_response()
    whole = json.loads((GOLDEN / case / "answer.json").read_text())
    assert [item.type for item in found.output] == [item["type"] for item in whole["output"]]


# --- asked here, answered in chat completions -------------------------------------------------------


def test_an_answer_without_tools_passes_byte_for_byte():
    stream = IN_CHAT.answering(memory(stream_options={"include_usage": True}), REQUEST_ID)
    frames = [
        piece({"content": "x"}),
        piece(reason="stop", usage={}),
        sse.frame(b'{"choices":[],"usage":{"a":1}}'),
    ]
    assert stream.begin() == b""
    assert [stream.feed(frame) for frame in frames] == frames
    assert stream.end() == b"data: [DONE]\n\n"


def test_usage_that_nobody_asked_for_is_taken_out():
    stream = IN_CHAT.answering(memory(), REQUEST_ID)
    assert stream.feed(sse.frame(b'{"choices":[],"usage":{"prompt_tokens":1}}')) == b""


@settings(deadline=None)
@given(text=st.text('ab"\\\n'), size=st.integers(1, 9), odd=st.booleans())
def test_a_custom_call_gives_its_plain_input(text, size, odd):
    arguments = f"*{text}" if odd else json.dumps({"input": text})
    cuts = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    frames = [
        piece({"tool_calls": [call(0, "patch", "", "a")]}),
        *(piece({"tool_calls": [call(0, arguments=cut)]}) for cut in cuts),
        piece(reason="tool_calls"),
    ]
    found = IN_CHAT.answering(memory(PATCH), REQUEST_ID)
    chunks = [json.loads(sse.data_of(one)) for one in sse.Cutter().feed(b"".join(map(found.feed, frames)))]
    calls = [one for chunk in chunks for one in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert "".join(one["function"].get("arguments", "") for one in calls) == (f"*{text}" if odd else text)
    assert calls[0]["function"]["name"] == "patch"
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    message = {
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "patch", "arguments": arguments}}]
    }
    whole = IN_CHAT.answer({"choices": [{"message": message}]}, memory(PATCH), REQUEST_ID)
    assert whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == (
        f"*{text}" if odd else text
    )


def test_a_namespaced_tool_has_its_own_name_again():
    space = {"type": "namespace", "name": "n", "tools": [FUNCTION]}
    found = IN_CHAT.answering(memory(space), REQUEST_ID).feed(
        piece({"tool_calls": [call(0, "n__f", "{}", "a")]})
    )
    assert json.loads(sse.data_of(found))["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] == "f"


def test_errors_in_a_chat_stream_are_those_of_chat():
    assert IN_CHAT.answering(None, REQUEST_ID).fail(refusal()).startswith(b'data: {"error":')


def test_both_forms_have_names_of_their_own():
    assert len({one.name for one in BOTH}) == len(BOTH)
    assert {one.stream_type for one in BOTH} == {b"text/event-stream; charset=utf-8"}
