import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.dialects import openai
from fleetgate.dialects.usage import read_usage
from fleetgate.domain import Usage

BASE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {}),
        ({"prompt_tokens_details": {"cached_tokens": 40}}, {"cached_tokens": 40}),
        (
            {"prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 7, "cache_write_tokens": 9}},
            {"cached_tokens": 0, "audio_input_tokens": 7, "cache_write_tokens": 9},
        ),
        (
            {"completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 3}},
            {"reasoning_tokens": 8, "audio_output_tokens": 3},
        ),
        ({"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}, {"cached_tokens": 64}),
        ({"cached_tokens": 64}, {"cached_tokens": 64}),
        (
            {"cache_creation_input_tokens": 5, "cache_read_input_tokens": 6},
            {"cache_write_tokens": 5, "cached_tokens": 6},
        ),
        ({"prompt_tokens_details": {"cache_creation_tokens": 5}}, {"cache_write_tokens": 5}),
        (
            {"prompt_tokens_details": {"cached_tokens": 3}, "prompt_cache_hit_tokens": 64},
            {"cached_tokens": 3},
        ),
        ({"reasoning_tokens": 4}, {"reasoning_tokens": 4}),
        ({"prompt_audio_seconds": 12}, {"milliseconds": 12_000}),
        ({"prompt_tokens_details": None, "completion_tokens_details": None}, {}),
    ],
)
def test_details_as_providers_write_them(more, expected):
    found = Usage(100, 20, **expected)
    assert read_usage({**BASE, **more}) == found
    assert openai.read_answer(json.dumps({"usage": {**BASE, **more}}).encode()) == found


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # the answer's tokens of reasoning are only in the total
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}, Usage(10, 105)),
        # but a total that is too small takes nothing away
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, Usage(10, 5)),
        ({"prompt_tokens": 10, "total_tokens": 3}, Usage(10, 0)),
        ({"total_tokens": 30}, Usage()),
        ({"completion_tokens": 5}, Usage(None, 5)),
        # pictures and sound
        (
            {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"audio_tokens": 4}},
            Usage(10, 5, audio_input_tokens=4),
        ),
        ({"type": "duration", "seconds": 3}, Usage(milliseconds=3_000)),
        ({"type": "duration", "seconds": 2.0004}, Usage(milliseconds=2_001)),
        # Anthropic's own form counts cached tokens beside the input
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 7,
            },
            Usage(117, 5, 100, cache_write_tokens=7),
        ),
    ],
)
def test_what_is_billed(usage, expected):
    assert read_usage(usage) == expected


@pytest.mark.parametrize("odd", ["5", 5.0, True, None, [], {}, 1 << 60, -(1 << 60)])
def test_a_count_of_a_wrong_type_is_unknown_and_spoils_nothing_else(odd):
    assert read_usage({**BASE, "completion_tokens": odd, "total_tokens": None}) == Usage(100, None)
    details = {"cached_tokens": odd, "audio_tokens": 7}
    assert read_usage({**BASE, "prompt_tokens_details": details}) == Usage(100, 20, audio_input_tokens=7)
    assert read_usage({**BASE, "prompt_tokens_details": odd, "cached_tokens": 4}) == Usage(100, 20, 4)


def test_negative_counts_are_kept_for_those_who_judge_them():
    assert read_usage({"prompt_tokens": -1, "completion_tokens": 2}) == Usage(-1, 2)


@pytest.mark.parametrize("seconds", ["3", True, -1, None, float("nan"), float("inf"), 1 << 60])
def test_odd_lengths_are_unknown(seconds):
    assert read_usage({"type": "duration", "seconds": seconds}) == Usage()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda held: st.lists(held) | st.dictionaries(st.sampled_from([*BASE, "audio_tokens", "seconds"]), held),
    max_leaves=6,
)
KEYS = [*BASE, "prompt_tokens_details", "input_tokens", "cache_read_input_tokens", "type", "seconds"]


@given(st.dictionaries(st.sampled_from(KEYS), anything) | anything)
def test_nothing_breaks_it(found):
    assert isinstance(read_usage(found), Usage)
