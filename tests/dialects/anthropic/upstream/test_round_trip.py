"""There and back: what goes out to Anthropic and comes in from its clients means the same."""

import json
from contextlib import suppress

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.dialects.anthropic.reading import fold

from fleetgate import sse
from fleetgate.dialects.anthropic.dialect import DIALECT
from fleetgate.dialects.anthropic.request import Memory
from fleetgate.dialects.anthropic.upstream.answer import completion
from fleetgate.dialects.anthropic.upstream.request import outbound
from fleetgate.dialects.anthropic.upstream.stream import Chunks
from fleetgate.errors import Refused
from fleetgate.sse import Cutter

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
text = st.text(min_size=1, max_size=20)
ids = st.text("abcXYZ09_-", min_size=1, max_size=9)
inputs = st.dictionaries(text, text | st.integers(-9, 9) | st.lists(text, max_size=2), max_size=3)
uses = st.fixed_dictionaries({"type": st.just("tool_use"), "id": ids, "name": ids, "input": inputs})
pictures = st.sampled_from(
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
    ]
)
texts = text.map(lambda one: {"type": "text", "text": one})
parts = st.tuples(texts, pictures).map(list)


@st.composite
def turns(draw):
    """User and assistant in turns; calls are answered, in some order."""
    found = [{"role": "user", "content": draw(text | parts)}]
    for _ in range(draw(st.integers(0, 3))):
        calls = draw(st.lists(uses, max_size=3, unique_by=lambda one: one["id"]))
        said = draw(text)
        content = [{"type": "text", "text": said}, *calls] if calls else said
        found.append({"role": "assistant", "content": content})
        answered = draw(st.permutations([one["id"] for one in calls]))
        results = [{"type": "tool_result", "tool_use_id": one, "content": draw(text)} for one in answered]
        found.append({"role": "user", "content": results or draw(text)})
    return found


@st.composite
def requests(draw):
    optional = {
        "system": text,
        "stream": st.booleans(),
        "stop_sequences": st.lists(text.filter(str.strip), min_size=1, max_size=3),
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "top_k": st.integers(1, 99),
        "thinking": st.sampled_from([{"type": "disabled"}, {"type": "enabled", "budget_tokens": 1024}]),
    }
    body = {"model": "claude-x", "max_tokens": draw(st.integers(1, 9999)), "messages": draw(turns())}
    body |= draw(st.fixed_dictionaries({}, optional=optional))
    tool = {"name": "t", "description": "d", "input_schema": {"type": "object"}, "strict": True}
    if draw(st.booleans()):
        body["tools"] = [tool]
        choices = [{"type": "auto"}, {"type": "any"}, {"type": "none"}, {"type": "tool", "name": "t"}]
        choices += [one | {"disable_parallel_tool_use": True} for one in choices if one["type"] != "none"]
        body["tool_choice"] = draw(st.sampled_from(choices))
    if draw(st.booleans()):
        body["output_config"] = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    return body


@QUIET
@given(requests())
def test_a_request_there_and_back_is_the_same(body):
    translated = DIALECT.request(body)
    assert translated.left_out == ()
    found = outbound(translated.members, most=1)
    assert found.left_out == ()
    assert found.members == body


blocks = st.one_of(texts, uses)


@st.composite
def messages(draw):
    thought = draw(st.none() | text)
    said = draw(st.none() | text)
    calls = draw(st.lists(uses, max_size=3))
    content = [{"type": "thinking", "thinking": thought, "signature": ""}] if thought else []
    content += [{"type": "text", "text": said}] if said else []
    reason = (
        "tool_use" if calls else draw(st.sampled_from(["end_turn", "stop_sequence", "max_tokens", "refusal"]))
    )
    usage = {"input_tokens": draw(st.integers(0, 99)), "output_tokens": draw(st.integers(0, 99))}
    if draw(st.booleans()):
        usage["cache_read_input_tokens"] = draw(st.integers(0, 99))
    return {
        "id": "msg_req0",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": content + calls,
        "stop_reason": reason,
        "stop_sequence": "END" if reason == "stop_sequence" else None,
        "usage": usage,
    }


MEMORY = Memory("claude-x", ("END",))


@QUIET
@given(messages())
def test_an_answer_there_and_back_is_the_same(message):
    assert DIALECT.answer(completion(message, 7), MEMORY, "req0") == message


def event(kind, **members):
    return sse.frame(msgspec.json.encode({"type": kind, **members}), kind)


@st.composite
def events(draw, message):
    """A message as Anthropic streams it, cut as it likes."""
    start = message | {"content": [], "stop_reason": None, "stop_sequence": None}
    found = [event("message_start", message=start | {"usage": message["usage"] | {"output_tokens": 1}})]
    for index, block in enumerate(message["content"]):
        kind = block["type"]
        member, name = {
            "text": ("text", "text_delta"),
            "thinking": ("thinking", "thinking_delta"),
            "tool_use": ("partial_json", "input_json_delta"),
        }[kind]
        said = json.dumps(block["input"]) if kind == "tool_use" and block["input"] else block.get(kind, "")
        empty = {"input": {}} if kind == "tool_use" else {member: ""}
        found.append(event("content_block_start", index=index, content_block=block | empty))
        middle = draw(st.integers(0, len(said)))
        found += [
            event("content_block_delta", index=index, delta={"type": name, member: one})
            for one in (said[:middle], said[middle:])
        ]
        found.append(event("content_block_stop", index=index))
    ending = {name: message[name] for name in ("stop_reason", "stop_sequence")}
    usage = {"output_tokens": message["usage"]["output_tokens"]}
    return b"".join([*found, event("message_delta", delta=ending, usage=usage), event("message_stop")])


@QUIET
@given(st.data())
def test_a_stream_there_and_back_builds_the_same_message(data):
    message = data.draw(messages())
    raw = data.draw(events(message))
    chunks, answering = Chunks(7), DIALECT.answering(MEMORY, "req0")
    out = answering.begin()
    for one in Cutter().feed(raw):
        for frame in chunks.feed(one):
            out += answering.end() if b"[DONE]" in frame else answering.feed(frame)
    assert fold(out) == message


@QUIET
@given(st.data(), st.integers(1, 40))
def test_a_stream_may_be_cut_anywhere(data, size):
    raw = data.draw(events(data.draw(messages())))
    whole, pieces = Chunks(7), Chunks(7)
    expected = [frame for one in Cutter().feed(raw) for frame in whole.feed(one)]
    cutter = Cutter()
    events_found = [one for at in range(0, len(raw), size) for one in cutter.feed(raw[at : at + size])]
    assert [frame for one in events_found for frame in pieces.feed(one)] == expected


FIELDS = "type index message delta usage content_block text thinking partial_json stop_reason error input"
TYPES = "text tool_use thinking text_delta input_json_delta end_turn"
KINDS = """message_start content_block_start content_block_delta content_block_stop message_delta error
    ping x"""
fields, types = st.sampled_from(FIELDS.split()), st.sampled_from(TYPES.split())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner | types, max_size=5),
    max_leaves=12,
)
kinds = st.sampled_from(KINDS.split())
bodies = st.dictionaries(st.text(max_size=5), json_values) | json_values


@QUIET
@given(st.lists(st.tuples(kinds, bodies)))
def test_any_event_is_read(found):
    chunks = Chunks(7)
    for kind, value in found:
        body = value | {"type": kind} if isinstance(value, dict) else value
        for frame in chunks.feed(sse.frame(msgspec.json.encode(body), kind)):
            json.loads(sse.data_of(frame))
    assert chunks.feed(sse.comment("x")) == []


MEMBERS = """messages tools tool_choice response_format reasoning_effort chat_template_kwargs stop n
    modalities user stream max_tokens temperature audio seed thinking_budget_tokens"""
NAMES = """role content type text image_url url file file_data tool_calls function name arguments id
    tool_call_id parameters strict json_schema schema enable_thinking refusal"""
WORDS = "system user assistant tool text image_url file function json_schema required none high"
members, names = st.sampled_from(MEMBERS.split()), st.sampled_from(NAMES.split())
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(WORDS.split()) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=25,
)


@QUIET
@given(st.dictionaries(members, anything, max_size=7))
def test_any_chat_is_carried_or_refused(chat):
    with suppress(Refused):
        msgspec.json.encode(outbound(chat | {"model": "claude-x"}, most=9).members)
