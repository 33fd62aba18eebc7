import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.dialects.left_out import MOST
from fleetgate.dialects.responses import DIALECT, TABLE, Fate, looks_like_responses
from fleetgate.dialects.responses.table import (
    AS_THEY_ARE,
    LENGTHS,
    NOT_STORED,
    OFFERED_TOOLS,
    SPENT_ITEMS,
)
from fleetgate.errors import Refused

FUNCTION = {"type": "function", "name": "f"}


def translated(**members):
    return DIALECT.request({"model": "m", "input": "Hi", **members})


def messages(*items, **members):
    return translated(input=list(items), **members).members["messages"]


def refused(**members) -> Refused:
    with pytest.raises(Refused) as found:
        translated(**members)
    assert found.value.status == 400
    return found.value


def said(text="Hi"):
    return {"role": "user", "content": text}


# --- refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "param", "code"),
    [
        *(({name: "x"}, name, "unsupported") for name in NOT_STORED),
        ({"background": True}, "background", "unsupported"),
        ({"moderation": {"model": "x"}}, "moderation", "unsupported"),
        ({"generate": False}, "generate", "unsupported"),
        ({"input": None}, "input", "malformed"),
        ({"input": []}, "input", "malformed"),
        ({"input": 3}, "input", "malformed"),
        ({"input": ["x"]}, "input[0]", "malformed"),
        ({"instructions": ["x"]}, "instructions", "malformed"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]", "unsupported"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0]", "unsupported"),
        ({"input": [{"type": "file_search_call", "id": "x"}]}, "input[0]", "unsupported"),
        ({"input": [said(), {"role": "tool", "content": "x"}]}, "input[1].role", "malformed"),
        (
            {"input": [said([{"type": "input_image", "file_id": "x"}])]},
            "input[0].content[0].file_id",
            "unsupported",
        ),
        (
            {"input": [said([{"type": "input_file", "file_id": "x"}])]},
            "input[0].content[0].file_id",
            "unsupported",
        ),
        (
            {"input": [said([{"type": "input_file", "file_url": "x"}])]},
            "input[0].content[0].file_url",
            "unsupported",
        ),
        ({"input": [said([{"type": "input_video"}])]}, "input[0].content[0]", "unsupported"),
        ({"input": [said([{"type": "input_text"}])]}, "input[0].content[0].text", "malformed"),
        (
            {"input": [{"role": "system", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content",
            "malformed",
        ),
        (
            {"input": [{"type": "function_call", "name": "f", "arguments": ""}]},
            "input[0].call_id",
            "malformed",
        ),
        ({"input": [{"type": "function_call_output", "output": ""}]}, "input[0].call_id", "malformed"),
        ({"tools": {}}, "tools", "malformed"),
        ({"tools": [{"name": "f"}]}, "tools[0].type", "malformed"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "malformed"),
        ({"tools": [FUNCTION, {"type": "mcp", "server_label": "x"}]}, "tools[1]", "unsupported"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported"),
        ({"tools": [FUNCTION, {"type": "web_search"}], "tool_choice": "required"}, "tools[1]", "unsupported"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "web_search"}}, "tool_choice", "unsupported"),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}},
            "tool_choice",
            "unknown_tool",
        ),
        ({"tools": [FUNCTION], "tool_choice": "any"}, "tool_choice", "malformed"),
        ({"tool_choice": "required"}, "tool_choice", "malformed"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type", "malformed"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "malformed"),
        ({"reasoning": "high"}, "reasoning", "malformed"),
        ({"include": "x"}, "include", "malformed"),
        ({"stream_options": []}, "stream_options", "malformed"),
    ],
)
def test_what_would_change_the_meaning_is_refused(members, param, code):
    error = refused(**members)
    assert (error.param, error.code) == (param, code)
    assert code != "unsupported" or error.advice


# --- left out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "names"),
    [
        ({"text": {"verbosity": "low"}}, ("text.verbosity",)),
        ({"reasoning": {"summary": "auto", "effort": None}}, ("reasoning.summary",)),
        ({"truncation": "auto"}, ("truncation",)),
        ({"truncation": "disabled"}, ()),
        ({"store": True}, ("store",)),
        ({"store": False}, ()),
        ({"metadata": {"a": "b"}}, ("metadata",)),
        ({"metadata": {}}, ()),
        ({"include": ["reasoning.encrypted_content"]}, ("include",)),
        ({"include": ["message.output_text.logprobs"]}, ()),
        ({"max_tool_calls": 3}, ("max_tool_calls",)),
        ({"stream_options": {"include_obfuscation": False}}, ()),
        ({"stream_options": {"include_obfuscation": True}}, ("stream_options.include_obfuscation",)),
        ({"prompt_cache_retention": "24h"}, ("prompt_cache_retention",)),
        ({"unheard_of": None}, ()),
        ({"unheard\nof": 1, "ünheard": 2}, ("unheard_of", "_nheard")),
        ({"tools": [{**FUNCTION, "defer_loading": True}]}, ("tools[].defer_loading",)),
        *(({"tools": [FUNCTION, {"type": name}]}, (f"tools[].{name}",)) for name in sorted(OFFERED_TOOLS)),
        *(({"input": [said(), {"type": name}]}, (f"input[].{name}",)) for name in sorted(SPENT_ITEMS)),
        ({"input": [{**said(), "prompt_cache_breakpoint": {}}]}, ("input[].prompt_cache_breakpoint",)),
    ],
)
def test_what_has_no_place_is_left_out_and_named(members, names):
    found = translated(**members)
    assert found.left_out == names
    assert not found.members.keys() & {name for name in members if name not in ("input", "tools")}


def test_names_are_bounded():
    assert len(translated(**{f"a{number}": 1 for number in range(100)}).left_out) == MOST + 1


def test_every_name_of_the_table_says_what_happens():
    assert len({row.member for row in TABLE}) == len(TABLE)
    assert all(row.how for row in TABLE)
    fates = {row.member: row.fate for row in TABLE}
    assert all(fates[name] is Fate.CARRIED for name in AS_THEY_ARE)
    assert all(fates[name] is Fate.REFUSED for name in NOT_STORED)
    assert all(fates[f"tools[].{name}"] is Fate.NAMED for name in OFFERED_TOOLS)


# --- carried ----------------------------------------------------------------------------------------


def test_nothing_is_invented():
    assert translated().members == {"model": "m", "messages": [said()]}


@pytest.mark.parametrize("name", sorted(set(AS_THEY_ARE) - {"model"}))
def test_members_of_the_same_meaning_pass(name):
    assert translated(**{name: "x"}).members[name] == "x"


@pytest.mark.parametrize("name", LENGTHS)
def test_a_bound_is_one_that_every_engine_knows(name):
    assert translated(**{name: 7}).members["max_tokens"] == 7


def test_the_first_bound_counts():
    assert translated(max_tokens=9, max_output_tokens=7).members["max_tokens"] == 7


def test_no_tools_means_no_choice_of_tools():
    found = translated(tools=[], tool_choice="auto", parallel_tool_calls=True)
    assert found.members.keys() == {"model", "messages"}


def test_tools_of_the_same_name_in_two_namespaces_stay_apart():
    def space(name, *tools):
        return {"type": "namespace", "name": name, "description": "", "tools": list(tools)}

    long = "n" * 60
    tools = [
        space("a", FUNCTION),
        space("b_", FUNCTION),
        FUNCTION,
        space(long, FUNCTION),
        space("functions", FUNCTION),
    ]
    found = translated(tools=[*tools, {"type": "function", "name": "a__f"}])
    names = [tool["function"]["name"] for tool in found.members["tools"]]
    assert names[:3] == ["a__f", "b_f", "f"]
    assert names[3].startswith("nnn")
    assert names[4:] == ["a__f_2"]
    assert all(len(name) <= 64 for name in names)
    called = {name: (one.namespace, one.name) for name, one in found.memory.names.items()}
    assert called == {
        "a__f": ("a", "f"),
        "b_f": ("b_", "f"),
        "f": (None, "f"),
        names[3]: (long, "f"),
        "a__f_2": (None, "a__f"),
    }


def test_a_tool_that_comes_again_replaces_the_first():
    late = {"type": "additional_tools", "role": "developer", "tools": [{**FUNCTION, "description": "new"}]}
    found = translated(tools=[FUNCTION], input=[said(), late])
    assert [tool["function"].get("description") for tool in found.members["tools"]] == ["new"]


def test_tools_may_be_written_as_in_chat_completions():
    found = translated(
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
    )
    assert found.members["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert found.members["tool_choice"] == {"type": "function", "function": {"name": "f"}}


def test_an_offered_tool_among_the_allowed_ones_is_only_left_out():
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION, {"type": "web_search"}]}
    found = translated(tools=[FUNCTION, {"type": "web_search"}], tool_choice=choice)
    assert found.members["tool_choice"] == "auto"
    assert found.left_out == ("tools[].web_search",)


def test_a_call_of_a_custom_tool_may_be_told_as_one_of_a_function():
    tools = [{"type": "custom", "name": "p"}]
    for arguments in ("raw", '{"input":"raw"}'):
        call = {"type": "function_call", "call_id": "a", "name": "p", "arguments": arguments}
        found = messages(said(), call, tools=tools)
        assert found[-1]["tool_calls"][0]["function"]["arguments"] == '{"input":"raw"}'


def test_looks_like_responses():
    assert looks_like_responses({"model": "m", "input": "x"})
    assert not looks_like_responses({"model": "m", "messages": [], "input": "x"})
    assert not looks_like_responses({"model": "m", "messages": []})


# --- properties -------------------------------------------------------------------------------------

IDS = st.text("abc", min_size=1, max_size=3)
ITEMS = st.one_of(
    st.builds(
        lambda role, text: {"role": role, "content": text}, st.sampled_from(["user", "assistant"]), IDS
    ),
    st.builds(lambda text: {"type": "message", "role": "developer", "content": text}, IDS),
    st.builds(lambda i: {"type": "function_call", "call_id": i, "name": "f", "arguments": "{}"}, IDS),
    st.builds(lambda i: {"type": "custom_tool_call", "call_id": i, "name": "p", "input": i}, IDS),
    st.builds(lambda i: {"type": "function_call_output", "call_id": i, "output": i}, IDS),
    st.builds(lambda i: {"type": "custom_tool_call_output", "call_id": i, "output": i}, IDS),
    st.just({"type": "reasoning", "summary": []}),
)


@given(
    items=st.lists(ITEMS, min_size=1).filter(
        lambda items: any(one.get("type") != "reasoning" for one in items)
    )
)
def test_calls_and_outputs_keep_their_order_and_ids(items):
    found = messages(*items)
    calls = [call["id"] for message in found for call in message.get("tool_calls", ())]
    outputs = [message["tool_call_id"] for message in found if message["role"] == "tool"]
    assert calls == [one["call_id"] for one in items if one.get("type", "").endswith("call")]
    assert outputs == [one["call_id"] for one in items if one.get("type", "").endswith("call_output")]
    texts = "\n".join(message["content"] or "" for message in found if message["role"] == "assistant").split()
    assert texts == [one["content"] for one in items if one.get("role") == "assistant"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)
NAMED = st.sampled_from(
    [
        *sorted({*AS_THEY_ARE, *LENGTHS, *NOT_STORED}),
        *(
            "tools",
            "tool_choice",
            "text",
            "reasoning",
            "include",
            "stream_options",
            "metadata",
            "instructions",
        ),
    ]
)
WILD = st.dictionaries(
    st.sampled_from(
        ["type", "role", "content", "name", "tools", "output", "call_id", "arguments", "format", "x"]
    ),
    st.sampled_from(["function", "custom", "namespace", "message", "user", "input_image", "function_call"])
    | JSON,
)


@given(
    members=st.dictionaries(NAMED, JSON | WILD | st.lists(WILD, max_size=3)),
    items=JSON | st.lists(WILD, max_size=3),
)
def test_whatever_comes_is_translated_or_refused(members, items):
    try:
        found = DIALECT.request({"model": "m", "input": items, **members})
    except Refused:
        return
    json.loads(msgspec.json.encode(found.members))
    assert all(name.isascii() and name.isprintable() for name in found.left_out)


THOUGHT = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
TOLD = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "content": None}
CALLED = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
GIVEN = {"type": "function_call_output", "call_id": "c1", "output": "1"}
SAID = {"type": "message", "role": "assistant", "content": "so"}
ASKS = {"role": "user", "content": "hi"}


@pytest.mark.parametrize("thought", [THOUGHT, TOLD])
@pytest.mark.parametrize("after", [[CALLED, GIVEN], [SAID], [SAID, CALLED, GIVEN]])
def test_thoughts_go_back_with_the_answer_they_belong_to(thought, after):
    found = DIALECT.request({"model": "m", "input": [ASKS, thought, *after, ASKS]})
    told = [one.get("reasoning_content") for one in found.members["messages"] if one["role"] == "assistant"]
    assert told == ["hm"]
    assert found.left_out == ()


def test_thoughts_between_calls_of_one_answer_are_put_together():
    again = {**CALLED, "call_id": "c2"}
    items = [ASKS, THOUGHT, CALLED, THOUGHT, again, GIVEN, {**GIVEN, "call_id": "c2"}, THOUGHT, SAID]
    first, last = (
        one
        for one in DIALECT.request({"model": "m", "input": items}).members["messages"]
        if one["role"] == "assistant"
    )
    assert (first["reasoning_content"], len(first["tool_calls"])) == ("hm\nhm", 2)
    assert last["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    "thought",
    [
        {**TOLD, "encrypted_content": "eA=="},
        {"type": "reasoning", "summary": []},
        {"type": "reasoning", "summary": [7, {"type": "summary_text"}, {"type": "other", "text": "hm"}]},
        {"type": "reasoning", "content": 7},
    ],
)
def test_thoughts_that_cannot_be_read_are_left_out(thought):
    found = DIALECT.request({"model": "m", "input": [ASKS, thought, SAID]})
    assert all("reasoning_content" not in one for one in found.members["messages"])
    assert found.left_out == ("input[].reasoning",)


def test_thoughts_without_an_answer_are_nobodys():
    found = DIALECT.request({"model": "m", "input": [ASKS, THOUGHT, ASKS, SAID]})
    assert all("reasoning_content" not in one for one in found.members["messages"])


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_that_speaks_later_is_put_into_the_users_words(role):
    items = [ASKS, SAID, {"role": role, "content": "faster"}, ASKS]
    found = DIALECT.request({"model": "m", "instructions": "be kind", "input": items}).members["messages"]
    assert [one["role"] for one in found] == ["system", "user", "assistant", "user"]
    assert found[-1]["content"] == "<system-reminder>\nfaster\n</system-reminder>\nhi"
