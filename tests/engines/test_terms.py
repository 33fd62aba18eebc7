"""What engines and providers do not take of a request: the table, and what is done by it."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.config.providers import PROVIDERS as KNOWN
from fleetgate.config.rules import Rule as Entry
from fleetgate.dialects.anthropic.table import HINTS
from fleetgate.dialects.ollama.table import OPTIONS
from fleetgate.engines import rules, terms
from fleetgate.engines.kinds import KINDS
from fleetgate.engines.rules import Deed
from fleetgate.engines.terms import Asked, Unfit, member_in, terms_of_engine, terms_of_provider
from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.fleet.written_rules import written_rules

MESSAGES = [{"role": "user", "content": "hi"}]


def sent(to, body, *, translated=False, chat=True, context=None):
    """What comes of a body, and the changes that are told."""
    raw = msgspec.json.encode({"model": "m", **body})
    longest = body.get("max_tokens") or body.get("max_completion_tokens")
    asked = Asked(frozenset(body), translated, longest if isinstance(longest, int) else None, chat)
    if to is None or to.fits(raw, asked, context):
        return body, []
    raw, changes = to.apply(raw, asked, context)
    found = json.loads(raw)
    assert found.pop("model") == "m"
    return found, [one.text for one in changes if not one.silent]


def refused(to, body, **how):
    with pytest.raises(AttemptFailed) as caught:
        sent(to, body, **how)
    assert caught.value.failure is FailureClass.ABSENT_FEATURE
    assert caught.value.status == 400
    return caught.value.text


# --- rules of the file -----------------------------------------------------------------------------------


def written(entries):
    return written_rules([Entry.model_validate(one) for one in entries])


def by(entries, name="somebody", model="m"):
    return terms_of_provider(name, model, written(entries))


def test_each_deed_of_the_file() -> None:
    to = by(
        [
            {"drop": "logit_bias"},
            {"rename": "max_tokens", "to": "max_completion_tokens"},
            {"clamp": "temperature", "to": 1},
            {"map": "reasoning_effort", "values": {"minimal": "low", "none": None}},
            {"reject": "n", "why": "one answer costs enough"},
        ]
    )
    body = {"messages": MESSAGES, "logit_bias": {"5": 1}, "max_tokens": 9, "temperature": 1.7, "odd": 1}
    found, told = sent(to, body | {"reasoning_effort": "minimal", "n": 1})
    assert found == {
        "messages": MESSAGES,
        "max_completion_tokens": 9,
        "temperature": 1,
        "odd": 1,
        "reasoning_effort": "low",
    }
    assert told == [
        "logit_bias left out",
        "max_tokens sent as max_completion_tokens",
        "temperature lowered to 1",
        'reasoning_effort changed to "low"',
    ]
    assert sent(to, {"reasoning_effort": "none"})[0] == {"reasoning_effort": None}
    assert refused(to, {"n": 2}) == "`n` cannot be had there: one answer costs enough"


@pytest.mark.parametrize("value", [0, 0.99, 1, 1.0, None, "2", True, [3]])
def test_what_is_within_bounds_or_no_number_stays(value) -> None:
    body = {"messages": MESSAGES, "temperature": value}
    assert sent(by([{"clamp": "temperature", "to": 1.0}]), body) == (body, [])


def test_a_number_beyond_all_bounds_is_for_the_provider_to_refuse() -> None:
    to, raw = by([{"clamp": "temperature", "to": 1.0}]), b'{"temperature":1e400}'
    assert to.apply(raw, Asked(frozenset({"temperature"})), None) == (raw, ())


def test_whole_numbers_stay_whole() -> None:
    found, _ = sent(by([{"clamp": "max_tokens", "to": 4096.0}]), {"max_tokens": 9_000})
    assert json.dumps(found) == '{"max_tokens": 4096}'
    found, _ = sent(by([{"clamp": "top_p", "to": 0.25}]), {"top_p": 1})
    assert found == {"top_p": 0.25}


def test_values_are_texts_or_what_they_look_like() -> None:
    to = by([{"map": "logprobs", "values": {"true": False, "3": 2}}])
    assert sent(to, {"logprobs": True})[0] == {"logprobs": False}
    assert sent(to, {"logprobs": "true"})[0] == {"logprobs": False}
    assert sent(to, {"logprobs": 3})[0] == {"logprobs": 2}
    assert sent(to, {"logprobs": {"a": 1}}) == ({"logprobs": {"a": 1}}, [])


def test_only_for_some_models() -> None:
    entries = [{"drop": "seed", "models": ["gpt-*", "o?"]}]
    assert [
        sent(by(entries, model=model), {"seed": 1})[0] for model in ("gpt-4o", "o3", "my-gpt-4", "o30")
    ] == [
        {},
        {},
        {"seed": 1},
        {"seed": 1},
    ]


def test_the_file_stands_for_the_table() -> None:
    body = {"messages": MESSAGES, "logit_bias": {"5": 1}, "logprobs": True, "max_tokens": 5, "top_k": 2}
    assert sent(by([{"keep": "logit_bias"}, {"drop": "logprobs"}], "groq"), body)[0] == {
        "messages": MESSAGES,
        "logit_bias": {"5": 1},
        "max_tokens": 5,
    }
    back = by([{"rename": "max_tokens", "to": "max_completion_tokens"}], "mistral")
    assert sent(back, {"max_tokens": 5})[0] == {"max_completion_tokens": 5}
    assert sent(by([{"keep": "seed"}], "gemini"), {"seed": 5, "odd": 1})[0] == {"seed": 5}
    kept = by([{"keep": "messages[].name"}], "groq")
    named = {"messages": [{"role": "user", "content": "hi", "name": "Ann"}]}
    assert sent(kept, named) == (named, [])


def test_members_of_messages_and_other_work() -> None:
    to = by([{"drop": "messages[].reasoning_content"}, {"drop": "dimensions"}, {"drop": "best_of"}])
    thoughts = {"messages": [{"role": "assistant", "content": "a", "reasoning_content": "hm"}]}
    assert sent(to, thoughts)[0] == {"messages": [{"role": "assistant", "content": "a"}]}
    assert sent(to, {"prompt": "x", "best_of": 2}, chat=False)[0] == {"prompt": "x"}
    assert sent(to, {"input": "x", "dimensions": 2}, chat=False)[0] == {"input": "x"}


def test_an_engine_of_ones_own_has_rules_too() -> None:
    to = terms_of_engine("ollama", "m", written([{"drop": "seed"}, {"keep": "max_completion_tokens"}]))
    found, _ = sent(to, {"seed": 1, "max_completion_tokens": 5})
    assert found == {"max_completion_tokens": 5}


@given(st.dictionaries(st.sampled_from(["a", "b", "temperature", "seed"]), st.integers(-5, 5), max_size=4))
def test_who_is_not_concerned_is_not_touched(body) -> None:
    to = by([{"drop": "zzz"}, {"clamp": "temperature", "to": 5}, {"map": "seed", "values": {"99": 1}}])
    assert sent(to, body) == (body, [])


def test_names_of_callers_are_never_counted() -> None:
    to = terms_of_provider("gemini", "gemini-flash")
    raw = msgspec.json.encode({"made_up_by_a_caller": 1, "reasoning_effort": "none", "model": "m"})
    _, changes = to.apply(raw, Asked(frozenset({"made_up_by_a_caller"})), None)
    assert [one.counted for one in changes] == ["other"]
    with pytest.raises(Unfit) as caught:
        to.apply(b'{"logprobs":true}', Asked(frozenset({"logprobs"})), None)
    assert [(one.counted, one.deed) for one in caught.value.changes] == [("logprobs", Deed.REFUSE)]


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("Unknown parameter: 'odd'.", "odd"),
        ('Invalid JSON payload received. Unknown name "odd": Cannot find field.', "odd"),
        ("property `odd` is unsupported", "odd"),
        ("Extra inputs are not permitted, field: 'body.odd'", "odd"),
        ("'odd' must be at least 1", ""),
        ("Unknown parameter: 'model'", ""),
        ("odd is unsupported", ""),
    ],
)
def test_a_rule_is_suggested_for_what_is_not_taken(text, member) -> None:
    assert member_in(text, {"odd", "model"}) == member


# --- providers ------------------------------------------------------------------------------------------


def test_the_table_knows_every_provider_and_engine() -> None:
    assert rules.PROVIDERS.keys() <= KNOWN.keys()
    assert rules.ENGINES.keys() <= KINDS.keys()
    for book in (*rules.PROVIDERS.values(), *rules.ENGINES.values()):
        for rule in book.rules:
            re.compile(rule.models)
            assert rule.why
            assert bool(rule.to) == (rule.deed is Deed.RENAME)
        if book.allowed is not None:
            assert {"model", "messages", "stream", "tools", "max_tokens"} <= book.allowed
            assert all(rule.to in book.allowed for rule in book.rules if rule.to)


def test_a_stranger_takes_everything() -> None:
    assert terms_of_provider("somebody", "m") is None
    assert terms_of_provider("", "m") is None
    assert terms_of_provider("somebody", "m", written([])) is None


STRICT = ("openai", "gemini", "mistral", "groq")
HINT_VALUES = {
    "top_k": 40,
    "min_p": 0.1,
    "repeat_penalty": 1.1,
    "repetition_penalty": 1.1,
    "reasoning_effort": "none",
    "chat_template_kwargs": {"enable_thinking": False},
    "thinking_budget_tokens": 1000,
    "add_generation_prompt": False,
}


@pytest.mark.parametrize("name", sorted(rules.PROVIDERS.keys() - {"anthropic"}))
def test_no_strict_provider_gets_what_our_translations_add(name) -> None:
    assert set(HINTS) <= {*HINT_VALUES, "continue_final_message"}
    assert {"top_k", "min_p", "repeat_penalty"} <= set(OPTIONS.values()) & set(HINT_VALUES)
    body = {"messages": MESSAGES, "temperature": 0.5, **HINT_VALUES}
    found, _ = sent(terms_of_provider(name, "o3"), body, translated=True)
    keeps = {
        "openrouter": {"top_k", "min_p", "repetition_penalty", "reasoning_effort"},
        "together": {"top_k", "min_p", "repetition_penalty", "chat_template_kwargs"},
        "fireworks": {"top_k", "min_p", "repetition_penalty", "reasoning_effort"},
        "gemini": {"reasoning_effort"},
        "mistral": set(),
    }
    left = found.keys() & HINT_VALUES.keys() - {"add_generation_prompt"}
    assert left == keeps.get(name, set())
    if name in STRICT:
        assert found.keys() - {"messages", "temperature", "reasoning_effort"} == set()


@pytest.mark.parametrize("name", STRICT)
def test_a_strict_one_gets_no_unknown_hint_of_a_caller_either(name) -> None:
    found, told = sent(terms_of_provider(name, "m"), {"messages": MESSAGES, "top_k": 3})
    assert found == {"messages": MESSAGES}
    assert told == ["top_k left out"]


@pytest.mark.parametrize("name", ["perplexity", "deepseek", "xai", "cohere"])
def test_what_a_caller_writes_passes_where_nobody_knows_better(name) -> None:
    body = {"messages": MESSAGES, "top_k": 3, "something_new": {"a": [1]}}
    assert sent(terms_of_provider(name, "m"), body) == (body, [])


def test_gemini_takes_what_it_knows_only() -> None:
    to = terms_of_provider("gemini", "gemini-flash")
    body = {"messages": MESSAGES, "seed": 1, "store": False, "temperature": 2}
    found, told = sent(to, body)
    assert found == {"messages": MESSAGES, "temperature": 2}
    assert told == ["seed left out"], "store: false asks for nothing"
    assert "logprobs" in refused(to, {"messages": MESSAGES, "logprobs": True})
    assert sent(to, {"messages": MESSAGES, "logprobs": False}) == ({"messages": MESSAGES}, [])


def test_groq() -> None:
    to = terms_of_provider("groq", "llama-3.3-70b")
    messages = [{"role": "user", "content": "hi", "name": "Ann"}]
    body = {"messages": messages, "n": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {"5": 1}}
    found, told = sent(to, body)
    assert found == {"messages": MESSAGES}
    assert told == ["logit_bias left out", "messages[].name left out"]
    for member, value in (("n", 2), ("logprobs", True), ("top_logprobs", 3)):
        assert member in refused(to, {"messages": MESSAGES, member: value})
    thoughts = [{"role": "assistant", "content": "a", "reasoning_content": "hm"}, *MESSAGES]
    found, told = sent(to, {"messages": thoughts})
    assert (found["messages"][0], told) == ({"role": "assistant", "content": "a"}, [])


def test_a_name_that_is_only_spoken_of_changes_nothing() -> None:
    body = {"messages": [{"role": "user", "content": 'say "name"'}], "tools": [{"function": {"name": "f"}}]}
    assert sent(terms_of_provider("groq", "m"), body) == (body, [])


def test_openai() -> None:
    thinks, talks = terms_of_provider("openai", "gpt-5-mini"), terms_of_provider("openai", "gpt-4o")
    body = {"messages": MESSAGES, "max_tokens": 9, "temperature": 0.2, "reasoning_effort": "low"}
    found, told = sent(thinks, body)
    assert found == {"messages": MESSAGES, "max_completion_tokens": 9, "reasoning_effort": "low"}
    assert told == ["max_tokens sent as max_completion_tokens", "temperature left out"]
    found, _ = sent(talks, body)
    assert found == {"messages": MESSAGES, "max_completion_tokens": 9, "temperature": 0.2}
    both = {"messages": MESSAGES, "max_tokens": 9, "max_completion_tokens": 7}
    assert sent(talks, both)[0]["max_completion_tokens"] == 7
    new = terms_of_provider("openai", "gpt-5.2")
    body = {"messages": MESSAGES, "reasoning_effort": "none", "temperature": 0.2}
    assert sent(new, body, translated=True) == (body, [])


def test_what_begins_an_answer_is_refused_where_it_is_not_continued() -> None:
    body = {"messages": MESSAGES, "continue_final_message": True, "add_generation_prompt": False}
    assert "begun" in refused(terms_of_provider("openai", "gpt-4o"), body)
    assert sent(terms_of_provider("groq", "m"), body) == ({"messages": MESSAGES}, [])
    plain = {"messages": MESSAGES, "continue_final_message": False}
    assert sent(terms_of_provider("openai", "gpt-4o"), plain) == ({"messages": MESSAGES}, [])


def test_what_the_gateway_writes_itself_is_known() -> None:
    assert terms_of_provider("mistral", "m").writes("stream_options")
    assert not terms_of_provider("openai", "m").writes("stream_options")
    assert terms_of_provider("openai", "m").writes("max_tokens")
    assert not terms_of_provider("groq", "m").writes("max_tokens")


def test_completions_keep_their_own_names() -> None:
    body = {"prompt": "a", "max_tokens": 9, "top_k": 3}
    assert sent(terms_of_provider("openai", "m"), body, chat=False)[0] == body


# --- own engines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_engines_are_kept_from_harm(kind) -> None:
    to = terms_of_engine(kind, "m")
    assert "`n` is 9" in refused(to, {"messages": MESSAGES, "n": 9})
    body = {"messages": MESSAGES, "n": 8, "top_k": 3, "max_tokens": 50, "something_new": [1]}
    assert sent(to, body, context=100) == (body, [])
    found, told = sent(to, {"messages": MESSAGES, "chat_template": "{{ x }}"})
    assert (found, told) == ({"messages": MESSAGES}, ["chat_template left out"])
    found, told = sent(to, {"messages": MESSAGES, "max_tokens": 500}, context=100)
    assert (found["max_tokens"], told) == (100, ["max_tokens lowered to 100"])
    assert sent(to, {"messages": MESSAGES, "max_tokens": 10**12})[0]["max_tokens"] == terms.MOST_TOKENS
    assert sent(to, {"messages": MESSAGES, "max_tokens": -1}, context=100)[1] == []
    large = {"messages": MESSAGES, "grammar": "x" * (terms.MOST_GRAMMAR + 1)}
    assert "`grammar` is larger" in refused(to, large)
    assert "`grammar` is larger" in refused(to, large, chat=False)
    text = {"messages": [{"role": "user", "content": "x" * terms.MOST_GRAMMAR}], "grammar": "x"}
    assert sent(to, text) == (text, [])


def test_switches_of_templates_are_plain() -> None:
    to = terms_of_engine("vllm", "m")
    body = {"messages": MESSAGES, "chat_template_kwargs": {"enable_thinking": False, "a": 1, "b": "x"}}
    assert sent(to, body) == (body, [])
    body["chat_template_kwargs"] |= {"c": [1], "d": "x" * 1001}
    found, told = sent(to, body)
    assert found["chat_template_kwargs"] == {"enable_thinking": False, "a": 1, "b": "x"}
    assert told == ["chat_template_kwargs.c left out", "chat_template_kwargs.d left out"]
    found, told = sent(to, {"messages": MESSAGES, "chat_template_kwargs": "x"})
    assert (found["chat_template_kwargs"], told) == ({}, ["chat_template_kwargs left out"])


def test_names_of_engines() -> None:
    body = {"messages": MESSAGES, "repeat_penalty": 1.1, "max_completion_tokens": 5}
    renamed = {"messages": MESSAGES, "repetition_penalty": 1.1, "max_completion_tokens": 5}
    assert sent(terms_of_engine("vllm", "m"), body)[0] == renamed
    renamed = {"messages": MESSAGES, "repeat_penalty": 1.1, "max_tokens": 5}
    assert sent(terms_of_engine("ollama", "m"), body)[0] == renamed
    assert sent(terms_of_engine("llamacpp", "m"), body)[0] == body
    off = {"messages": MESSAGES, "reasoning_effort": "none"}
    assert sent(terms_of_engine("vllm", "m"), off) == (off, [])
    assert sent(terms_of_engine("vllm", "m"), off, translated=True) == ({"messages": MESSAGES}, [])


# --- properties -----------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 20) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = sorted(
    {rule.member for book in (*rules.PROVIDERS.values(), *rules.ENGINES.values()) for rule in book.rules}
    - {"messages[].name", "messages[].reasoning_content"}
    | {"chat_template_kwargs", "messages", "tools", "grammar", "odd"}
)
BODIES = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=6)


@given(st.sampled_from([*rules.PROVIDERS, *rules.ENGINES, "tgi"]), BODIES, st.booleans(), st.integers(1, 30))
def test_all_that_is_lost_is_told(name, body, translated, context) -> None:
    to = terms_of_provider(name, "m") or terms_of_engine(name, "m")
    raw = msgspec.json.encode({"model": "m", **body})
    asked = Asked(frozenset(body), translated)
    try:
        found, changes = to.apply(raw, asked, context)
    except AttemptFailed:  # refused, which says enough
        return
    told = {one.member.partition(".")[0].removesuffix("[]") for one in changes}
    after = json.loads(found)
    for member, value in {"model": "m", **body}.items():
        assert member in told or after[member] == value
    if not changes:
        assert found == raw
    again, more = to.apply(found, asked, context)
    assert (again, more) == (found, ()), "what was made fit, fits"


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-sonnet-4-5-20250929", True),
        ("claude-opus-4-6", True),
        ("claude-opus-4-20250514", True),
        ("claude-opus-4-7", False),
        ("claude-sonnet-5", False),
        ("claude-haiku-5-5", False),
    ],
)
def test_anthropic_takes_settings_of_its_older_models(model, takes) -> None:
    body = {"messages": MESSAGES, "temperature": 0.5, "top_k": 3}
    found, told = sent(terms_of_provider("anthropic", model), body)
    assert (found == body, told == []) == (takes, takes)
