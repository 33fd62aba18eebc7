"""Which answers can be continued by somebody else."""

import pytest

from fleetgate.dialects.plain_text import why_not

USER = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    "further",
    [
        {},
        {"n": 1, "tools": [], "logprobs": False, "response_format": {"type": "text"}, "modalities": ["text"]},
        {"n": None, "tools": None, "response_format": None, "grammar": "", "audio": None},
        {
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "assistant", "content": "yes"},
                USER,
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
    ],
)
def test_plain_text(further):
    assert why_not({"messages": [USER], **further}, chat=True) == ""


@pytest.mark.parametrize(
    "further",
    [
        {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"functions": [{"name": "f"}]},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        {"json_schema": {"type": "object"}},
        {"grammar": 'root ::= "a"'},
        {"guided_json": {}, "guided_regex": "a"},
        {"logprobs": True},
        {"top_logprobs": 3},
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "x"}},
        {"continue_final_message": True},
        {"messages": []},
        {"messages": [USER, {"role": "assistant", "content": "it is"}]},
        {"messages": [USER, {"role": "tool", "content": "4", "tool_call_id": "1"}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, USER]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"messages": ["hello"]},
    ],
)
def test_anything_else(further):
    assert why_not({"messages": [USER], **further}, chat=True)


@pytest.mark.parametrize(
    ("members", "plain"),
    [
        ({"prompt": "once"}, True),
        ({"prompt": [1, 2, 3]}, True),
        ({"prompt": "once", "echo": False, "best_of": 1, "logprobs": None, "suffix": None}, True),
        ({"prompt": ["once", "twice"]}, False),
        ({"prompt": [[1], [2]]}, False),
        ({"prompt": []}, False),
        ({}, False),
        ({"prompt": "once", "echo": True}, False),
        ({"prompt": "once", "suffix": "end"}, False),
        ({"prompt": "once", "best_of": 3}, False),
        ({"prompt": "once", "logprobs": 2}, False),
    ],
)
def test_completions(members, plain):
    assert (why_not(members, chat=False) == "") is plain
