"""What is too much for an engine of one's own: refused by its name, and nothing that anybody means."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.engines import bounds
from fleetgate.engines.terms import Asked, terms_of_engine, terms_of_provider
from fleetgate.errors import AttemptFailed

split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
USER = {"role": "user", "content": "x"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:,"}}


def raw_of(members):
    return members if isinstance(members, bytes) else json.dumps(members).encode()


def refused(members):
    raw = raw_of(members)
    with pytest.raises(AttemptFailed) as caught:
        bounds.check(split(raw))
    assert caught.value.status == 400
    return caught.value.text


def folded(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def chat(**members):
    return {"messages": [USER], **members}


FINE = [
    chat(),
    chat(n=1),
    chat(n=8),
    chat(n=None),
    b'{"n":2.0,"max_tokens":1e3}',
    chat(max_tokens=-1),
    chat(max_tokens=-2, n_predict=-1),
    chat(max_tokens=None, min_tokens=0),
    chat(max_tokens=10**9),
    chat(top_logprobs=0, n_probs=100, prompt_logprobs=None),
    chat(stop=None),
    chat(stop="x" * 1_000),
    chat(stop=["\n"] * 64),
    chat(stop="\u00fc" * 1_000),
    chat(stop=[]),
    {"messages": [USER] * 10_000},
    {"messages": [{"role": "user", "content": [PICTURE] * 100 + [{"type": "text", "text": "x"}] * 500}]},
    {"messages": "x"},
    {"messages": [1, 2]},
    {"messages": None},
    {"input": [1] * 20_000},
    {"input": ["x"] * 10_000},
    {"prompt": "x" * 20_000},
    chat(tools=[{"type": "function", "function": {"name": "f", "parameters": folded(15)}}] * 1_000),
    chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": folded(20)}}),
    chat(response_format={"schema": {"maxItems": 1_000_000, "minLength": 999_999, "maxLength": 1e5}}),
    chat(tools=None, functions=[]),
    chat(response_format="x"),
    chat(text={"format": {"type": "json_schema", "schema": folded(15)}}, format="json"),
    chat(options={"num_predict": -1, "num_ctx": 8192, "stop": ["\n"]}),
    chat(options=[1]),
    {"messages": [{"content": [{"type": "tool_result", "content": ["x", 1]}], "images": None}]},
]


@pytest.mark.parametrize("members", FINE)
def test_what_people_mean_passes(members):
    bounds.check(split(raw_of(members)))


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (chat(n=9), "`n` is 9: at most 8 answers at once"),
        (chat(n=10**9), "`n` is 1000000000: at most 8 answers at once"),
        (b'{"n":1e9}', "`n` is 1000000000: at most 8 answers at once"),
        (chat(n=2**63), f"`n` is {2**63}: at most 8 answers at once"),
        (chat(n=0), "`n` is 0: it cannot be less than 1"),
        (chat(n=-1), "`n` is -1: it cannot be less than 1"),
        (chat(n="2"), "`n` must be a whole number"),
        (chat(n=1.5), "`n` must be a whole number"),
        (b'{"n":1e999}', "`n` must be a whole number"),
        (chat(n=[1]), "`n` must be a whole number"),
        (chat(best_of=100), "`best_of` is 100: at most 8 answers at once"),
        (chat(top_logprobs=101), "`top_logprobs` is 101: at most 100"),
        (chat(n_probs=50_000), "`n_probs` is 50000: at most 100"),
        (chat(prompt_logprobs=-1), "`prompt_logprobs` is -1: it cannot be less than 0"),
        (chat(max_tokens=-3), "`max_tokens` is -3: it cannot be less than nothing"),
        (chat(max_tokens="many"), "`max_tokens` must be a whole number"),
        (chat(max_tokens=0.5), "`max_tokens` must be a whole number"),
        (chat(max_tokens=True), "`max_tokens` must be a whole number"),
        (b'{"max_completion_tokens":1e999}', "`max_completion_tokens` must be a whole number"),
        (chat(min_tokens=-9), "`min_tokens` is -9: it cannot be less than nothing"),
        (chat(stop=["x"] * 65), "`stop` has 65 entries: at most 64"),
        (chat(stop="x" * 1_001), "`stop` has a text of more than 1000 characters"),
        (
            chat(stop_sequences=["a", "\u00fc" * 1_001]),
            "`stop_sequences` has a text of more than 1000 characters",
        ),
        ({"messages": [USER] * 10_001}, "`messages` has 10001 entries: at most 10000"),
        ({"messages": [{}] * 10_001}, "`messages` has 10001 entries: at most 10000"),
        (
            {"messages": [{"role": "user", "content": [PICTURE] * 51}] * 2},
            "`messages` has 102 pictures or other files: at most 100",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}] * 101}]},
            "`input` has 101 pictures or other files: at most 100",
        ),
        (
            {"messages": [{"content": [{"type": "tool_result", "content": [{"type": "image"}] * 101}]}]},
            "`messages` has 101 pictures or other files: at most 100",
        ),
        (
            {"messages": [{"content": "x", "images": ["eA=="] * 101}]},
            "`messages` has 101 pictures or other files: at most 100",
        ),
        (chat(text={"format": {"schema": folded(33)}}), "`text` is nested more than 64 levels deep"),
        (chat(format=folded(40)), "`format` is nested more than 64 levels deep"),
        (
            chat(output_config={"format": {"schema": {"maxLength": 10**9}}}),
            '`output_config` asks for "maxLength": 1000000000: at most 1000000',
        ),
        (chat(max_output_tokens=-3), "`max_output_tokens` is -3: it cannot be less than nothing"),
        (chat(options={"stop": ["x"] * 65}), "`stop` has 65 entries: at most 64"),
        (chat(options={"num_predict": -9}), "`num_predict` is -9: it cannot be less than nothing"),
        ({"input": ["x"] * 10_001}, "`input` has 10001 entries: at most 10000"),
        ({"prompt": [[1]] * 10_001}, "`prompt` has 10001 entries: at most 10000"),
        (chat(tools=[{}] * 1_001), "`tools` has 1001 entries: at most 1000"),
        (
            chat(response_format={"schema": folded(33)}),
            "`response_format` is nested more than 64 levels deep",
        ),
        (chat(guided_json=folded(200)), "`guided_json` is nested more than 64 levels deep"),
        (
            chat(tools=[{"function": {"parameters": folded(100)}}]),
            "`tools` is nested more than 64 levels deep",
        ),
        (b'{"tools":' + b"[" * 100 + b"]" * 100 + b"}", "`tools` is nested more than 64 levels deep"),
        (
            chat(response_format={"schema": {"maxItems": 1_000_001}}),
            '`response_format` asks for "maxItems": 1000001: at most 1000000',
        ),
        (b'{"tools":[{"minLength":1e9}]}', '`tools` asks for "minLength":1e9: at most 1000000'),
    ],
)
def test_what_is_too_much_is_refused_by_its_name(members, text):
    assert refused(members) == text


@pytest.mark.parametrize("members", [one for one in FINE if isinstance(one, dict)])
def test_what_fits_an_engine_is_sent_as_it_is(members):
    raw = raw_of(members)
    terms = terms_of_engine("llamacpp", "m")
    longest = members.get("max_tokens")
    asked = Asked(frozenset(members), longest=longest if longest and longest > 0 else None, pictures=True)
    assert terms.apply(raw, asked, None)[0] == raw or "max_tokens" in members


@pytest.mark.parametrize(
    ("members", "pictures", "looked"),
    [
        (chat(), False, False),
        (chat(), True, True),
        (chat(temperature=1, max_tokens=7, seed=1), False, False),
        (chat(max_tokens="x"), False, True),
        (chat(stop="x"), False, True),
        (chat(n=1), False, True),
        ({"messages": [USER] * 3_000}, False, True),
    ],
)
def test_usual_requests_are_not_taken_apart(members, pictures, looked):
    longest = members.get("max_tokens")
    longest = longest if isinstance(longest, int) else None
    asked = Asked(frozenset(members), longest=longest, pictures=pictures)
    assert terms_of_engine("llamacpp", "m").fits(raw_of(members), asked, None) is not looked


def test_providers_have_bounds_of_their_own():
    terms = terms_of_provider("openai", "gpt-4o")
    raw = raw_of(chat(n=100, stop=["x"] * 100))
    assert terms.apply(raw, Asked(frozenset({"n", "stop", "messages"})), None)[0] == raw


def test_a_length_with_a_point_is_lowered_too():
    raw = b'{"max_tokens":1e12,"messages":[]}'
    sent, changes = terms_of_engine("llamacpp", "m").apply(
        raw, Asked(frozenset({"max_tokens", "messages"})), 4_096
    )
    assert json.loads(sent)["max_tokens"] == 4_096
    assert [one.text for one in changes] == ["max_tokens lowered to 4096"]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=6,
)
names = st.sampled_from(sorted(bounds.WATCHED | {"messages", "input", "prompt", "max_tokens"}))


@given(st.dictionaries(names, values, max_size=4))
def test_whatever_is_written_passes_or_is_refused_with_its_name(members):
    raw = raw_of(members)
    try:
        bounds.check(split(raw))
    except AttemptFailed as failed:
        assert failed.text.split("`")[1] in members  # noqa: PT017  (it may as well pass)
