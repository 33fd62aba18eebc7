"""What llama.cpp's own calls are asked."""

import json

import pytest

from fleetgate.dialects.llamacpp.request import completion, longest, may_think, template, tokenize, why_not

MESSAGES = [{"role": "user", "content": "hello"}]
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
THINKING = PLAIN + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"temperature": 0, "top_p": 0.9, "seed": 3, "stop": ["a"], "max_tokens": 20, "user": "me"},
        {"stop": "a", "max_completion_tokens": 5, "stream_options": {}, "metadata": {}, "n": 1},
        {"chat_template_kwargs": {"enable_thinking": False}, "ignore_eos": True},
        {"mirostat": None, "max_tokens": None},
    ],
)
def test_can_be_asked_by_ids(members):
    assert why_not({"model": "m", "stream": True, "messages": MESSAGES, **members}) == ""


@pytest.mark.parametrize(
    "members",
    [
        {"mirostat": 2},
        {"t_max_predict_ms": 100},
        {"n_probs": 3},
        {"reasoning_effort": "high"},
        {"something": "unknown"},
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": True},
        {"max_tokens": 1.5},
        {"stop": 5},
        {"stop": ["a", 5]},
        {"tools": [{}]},
    ],
)
def test_cannot_be_asked_by_ids(members):
    assert why_not({"messages": MESSAGES, **members})


def test_nothing_is_asked_that_the_caller_did_not_write():
    members = {"model": "r", "messages": MESSAGES, "stream": True, "user": "me", "top_p": None}
    asked = json.loads(completion(members, "m", [1, 2], None))
    assert asked == {"model": "m", "prompt": [1, 2], "stream": True, "return_tokens": True}


def test_what_the_caller_wrote_is_asked():
    members = {"temperature": 0.5, "stop": "end", "logit_bias": {"5": -1}, "max_tokens": 9}
    asked = json.loads(completion(members, "m", [1], longest(members)))
    assert (asked["temperature"], asked["stop"], asked["logit_bias"]) == (0.5, ["end"], {"5": -1})
    assert asked["n_predict"] == 9
    assert "max_tokens" not in asked


def test_the_first_length_counts():
    assert longest({"max_completion_tokens": 3, "max_tokens": 4}) == 4
    assert longest({"max_completion_tokens": 3, "max_tokens": None}) == 3
    assert longest({}) is None


def test_a_conversation_and_its_prompt():
    members = {"model": "m", "messages": MESSAGES, "temperature": 1, "chat_template_kwargs": {"a": 1}}
    assert json.loads(template(members)) == {k: v for k, v in members.items() if k != "temperature"}
    asked = json.loads(tokenize("m", "user: hello"))
    assert asked == {"model": "m", "content": "user: hello", "add_special": True, "parse_special": True}


@pytest.mark.parametrize(
    ("written", "prompt", "members", "thinks"),
    [
        (PLAIN, "user: hello", {}, False),
        (THINKING, "user: hello", {}, True),
        (THINKING, "user: hello\n<think>\n\n</think>\n\n", {}, True),
        (
            THINKING,
            "user: hello\n<think>\n\n</think>\n\n",
            {"chat_template_kwargs": {"enable_thinking": False}},
            False,
        ),
        (THINKING, "user: hello", {"chat_template_kwargs": {"enable_thinking": False}}, True),
        (THINKING, "hello <think>", {"chat_template_kwargs": {"enable_thinking": False}}, True),
        (PLAIN + "<|channel|>", "hello</think>", {"chat_template_kwargs": {"enable_thinking": False}}, True),
        (PLAIN + "[REASONING]", "hello", {}, True),
    ],
)
def test_where_an_answer_may_begin_with_thoughts(written, prompt, members, thinks):
    assert may_think(written, prompt, members) is thinks
