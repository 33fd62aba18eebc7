"""Requests: every row of the table holds, and nothing that comes in is anything but read or refused."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.dialects import left_out
from fleetgate.dialects.anthropic import table
from fleetgate.dialects.anthropic.count import count_tokens
from fleetgate.dialects.anthropic.dialect import DIALECT
from fleetgate.dialects.fates import Fate
from fleetgate.errors import Refused
from fleetgate.gateway import body as bodies

HELLO = {"role": "user", "content": "Say hello."}
PLAIN = {"model": "lab", "max_tokens": 5, "messages": [HELLO]}
SOMETHING = {
    "cache_control": {"type": "ephemeral"},
    "betas": ["a"],
    "container": "c",
    "context_management": {"edits": []},
    "diagnostics": {"previous_message_id": "m"},
    "service_tier": "auto",
    "speed": "fast",
    "anything else": 1,
    "metadata": {"user_id": "u"},
    "inference_geo": "eu",
    "mcp_servers": [{}],
    "thread": {"id": "t"},
}
"""of members that have no place, something that says a thing"""


def translate(**more):
    return DIALECT.request(PLAIN | more)


def refusal(**more):
    with pytest.raises(Refused) as caught:
        translate(**more)
    assert caught.value.status == 400
    return caught.value


def rows(fate):
    return [row.member for row in table.MEMBERS if row.fate is fate]


@pytest.mark.parametrize("member", rows(Fate.NAMED))
def test_a_member_without_a_place_is_named_and_changes_nothing(member):
    found = translate(**{member: SOMETHING[member]})
    assert found.left_out == (member.replace(" ", "_"),)
    assert found.members == translate().members


@pytest.mark.parametrize("member", rows(Fate.SILENT))
def test_a_member_of_no_meaning_is_left_out(member):
    found = translate(**{member: SOMETHING[member]})
    assert found == translate()


@pytest.mark.parametrize("member", rows(Fate.REFUSED))
def test_a_member_that_nobody_here_can_follow_is_refused(member):
    assert refusal(**{member: SOMETHING[member]}).param == member


def test_null_is_the_same_as_nothing():
    optional = [row.member for row in table.MEMBERS if row.member not in ("model", "max_tokens", "messages")]
    assert translate(**{name: None for name in optional if "." not in name}) == translate()


@pytest.mark.parametrize("kind", [*table.RUN_AT_ANTHROPIC, *table.KNOWN_TO_CLAUDE, "shiny_"])
def test_tools_that_are_not_the_callers_own_are_refused(kind):
    found = refusal(tools=[{"type": f"{kind}20260101", "name": "t"}])
    assert kind in found.message
    assert found.advice


@pytest.mark.parametrize(
    "block",
    [
        *("server_tool_use", "web_search_tool_result", "container_upload", "browser_state", "shiny"),
        *("tool_result", "tool_use", "thinking", "redacted_thinking"),
    ],
)
def test_blocks_that_are_no_words_of_a_system_are_refused(block):
    assert refusal(system=[{"type": block}]).param == "system.0"


@pytest.mark.parametrize(
    ("where", "more"),
    [
        ("max_tokens", {"max_tokens": 0}),
        ("max_tokens", {"max_tokens": True}),
        ("max_tokens", {"max_tokens": "5"}),
        ("stream", {"stream": "yes"}),
        ("temperature", {"temperature": "hot"}),
        ("top_k", {"top_k": True}),
        ("stop_sequences", {"stop_sequences": "x"}),
        ("stop_sequences", {"stop_sequences": [1]}),
        ("system", {"system": 7}),
        ("messages", {"messages": HELLO}),
        ("messages.0", {"messages": ["x"]}),
        ("messages.0.content", {"messages": [{"role": "user"}]}),
        ("messages.0.content.0.type", {"messages": [{"role": "user", "content": [{}]}]}),
        ("messages.0.content.0.text", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
        ("tools.0.name", {"tools": [{"input_schema": {}}]}),
        ("tools.0.input_schema", {"tools": [{"name": "t"}]}),
        ("tools", {"tools": {"name": "t"}}),
        ("tool_choice", {"tool_choice": "auto"}),
        ("tool_choice.type", {"tool_choice": {"type": "some"}}),
        ("tool_choice.name", {"tool_choice": {"type": "tool"}}),
        ("thinking", {"thinking": True}),
        ("thinking.type", {"thinking": {"type": "maybe"}}),
        ("output_config", {"output_config": "x"}),
        ("output_config.effort", {"output_config": {"effort": "huge"}}),
        ("output_config.format.type", {"output_config": {"format": {"type": "xml"}}}),
        ("output_format.schema", {"output_format": {"type": "json_schema"}}),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(where, more):
    assert refusal(**more).param == where


def test_a_choice_without_tools_is_none():
    assert translate(tool_choice={"type": "auto"}).members == translate().members


@pytest.mark.parametrize(("asked", "chosen"), table.CHOICES.items())
def test_choices_by_the_table(asked, chosen):
    tools = [{"name": "t", "input_schema": {}}]
    assert translate(tools=tools, tool_choice={"type": asked}).members["tool_choice"] == chosen


@pytest.mark.parametrize(("asked", "given"), table.EFFORTS.items())
def test_efforts_by_the_table(asked, given):
    found = translate(output_config={"effort": asked})
    assert found.members["reasoning_effort"] == given
    assert found.left_out == (() if asked == given else (f"output_config.effort.{asked}",))


def test_no_member_is_invented():
    assert translate().members == {"model": "lab", "messages": [HELLO], "max_tokens": 5}


def test_members_beyond_the_plain_form_are_declared():
    plain = {"model", "stream", "messages", "stop", "temperature", "top_p", "tools", "tool_choice"}
    plain |= {"parallel_tool_calls", "response_format", "max_tokens"}
    every = (
        translate(
            top_k=1,
            thinking={"type": "enabled", "budget_tokens": 2000},
            output_config={"effort": "low"},
        ).members
        | translate(messages=[HELLO, {"role": "assistant", "content": "It"}]).members
    )
    assert set(every) - plain == set(table.HINTS)


def test_thinking_between_tools_is_named():
    found = translate(thinking={"type": "between_tools"})
    assert found.left_out == ("thinking.between_tools",)
    assert found.members == translate().members


def test_names_of_what_was_left_out_cannot_break_a_header():
    found = translate(**{"a\r\nb: c,": 1, "é" * 500: 2}, **{f"m{at}": 1 for at in range(100)}).left_out
    assert len(found) == left_out.MOST + 1
    assert all(len(one) <= left_out.LONGEST and not set(one) & set("\r\n, ") for one in found)


def test_a_count_needs_no_bound_and_grows_with_the_words():
    little = count_tokens({"model": "lab", "messages": [HELLO]})["input_tokens"]
    much = count_tokens({"model": "lab", "messages": [HELLO], "system": "words " * 500})["input_tokens"]
    tools = count_tokens(PLAIN | {"tools": [{"name": "t", "input_schema": {"type": "object"}}]})[
        "input_tokens"
    ]
    assert 0 < little < tools < much


def test_a_count_of_what_cannot_be_asked_is_refused():
    with pytest.raises(Refused):
        count_tokens({"model": "lab", "messages": []})


WORDS = """text image document tool_use tool_result thinking redacted_thinking user assistant base64 url
    content auto any tool enabled disabled json_schema x"""
NAMES = """type text role content source data media_type url id name input tool_use_id is_error thinking
    cache_control title input_schema strict effort format schema budget_tokens display citations
    allowed_callers"""
words = st.sampled_from(WORDS.split())
names = st.sampled_from(NAMES.split())
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=25,
)
requests = st.dictionaries(
    st.sampled_from([row.member for row in table.MEMBERS if "." not in row.member]), anything, max_size=8
)


@given(requests)
def test_any_body_is_read_or_refused(body):
    with suppress(Refused):
        found = DIALECT.request(body | {"model": "lab"})
        bodies.parse(msgspec.json.encode(found.members), bodies.BodyBudget())


blocks = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=9)),
    st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, st.text(max_size=9)),
)
uses = st.lists(
    st.tuples(st.uuids().map(str), st.dictionaries(st.text(max_size=5), st.integers())), max_size=5
)


@given(st.lists(blocks, max_size=3), uses, st.randoms())
def test_calls_and_results_keep_their_order_and_ids(said, called, random):
    calls = [
        {"type": "tool_use", "id": one, "name": "t", "input": given_input} for one, given_input in called
    ]
    order = [one for one, _ in called]
    random.shuffle(order)
    results = [{"type": "tool_result", "tool_use_id": one, "content": one[:4]} for one in order]
    turns = [HELLO, {"role": "assistant", "content": said + calls}, {"role": "user", "content": results}]
    chat = translate(messages=turns).members["messages"]
    made = [
        (one["id"], msgspec.json.decode(one["function"]["arguments"]))
        for one in chat[1].get("tool_calls", [])
    ]
    assert made == called
    assert [(one["tool_call_id"], one["content"]) for one in chat if one["role"] == "tool"] == [
        (one, one[:4]) for one in order
    ]


def test_an_error_without_words_says_that_it_is_one():
    turns = [
        HELLO,
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "is_error": True}]},
    ]
    assert translate(messages=turns).members["messages"][1:] == [
        {"role": "tool", "tool_call_id": "a", "content": "Error"}
    ]


def test_pictures_in_an_assistants_turn_are_refused():
    picture = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    found = refusal(messages=[HELLO, {"role": "assistant", "content": [picture]}, HELLO])
    assert found.param == "messages.1.content.0"


def test_a_huge_conversation_is_carried():
    turns = [
        {"role": "user" if at % 2 == 0 else "assistant", "content": "word " * 2_000} for at in range(401)
    ]
    found = translate(messages=turns)
    assert found.members["messages"] == turns
