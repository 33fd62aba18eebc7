"""Pieces of llama.cpp's completion call as frames of a chat completion."""

import json

import pytest

from fleetgate import sse
from fleetgate.dialects.llamacpp.stream import DIVERGED, Chunks, Stamp
from fleetgate.dialects.llamacpp.trail import Trail

CHAT = Stamp("chatcmpl-1", 7, "m", chat=True)
TEXT = Stamp("cmpl-1", 7, "m", chat=False)


def event(content="", tokens=(), made=0, **members):
    piece = {"content": content, "tokens": list(tokens), "stop": False}
    return sse.frame(json.dumps(piece | {"tokens_predicted": made, "tokens_evaluated": 3} | members).encode())


def last(made, stop_type="limit", **members):
    return event(made=made, stop=True, stop_type=stop_type, **members)


def told(chunks, *events):
    """The data of all frames."""
    found = []
    for one in events:
        for frame in chunks.feed(one):
            data = sse.data_of(frame)
            found.append("[DONE]" if data == b"[DONE]" else json.loads(data))
    return found


def first(stamp=CHAT):
    trail = Trail([1, 2, 3])
    return Chunks(stamp, trail), trail


def deltas(found):
    return [one["choices"][0]["delta"] for one in found if one != "[DONE]" and one.get("choices")]


def test_a_whole_chat():
    chunks, trail = first()
    timings = {"cache_n": 2, "prompt_n": 1, "predicted_n": 2}
    found = told(chunks, event("a", [10], 1), event("b", [11], 2), last(2, timings=timings))
    assert deltas(found) == [{"role": "assistant", "content": None}, {"content": "a"}, {"content": "b"}, {}]
    assert {(one["id"], one["created"], one["model"]) for one in found[:-1]} == {("chatcmpl-1", 7, "m")}
    assert [one["choices"][0]["finish_reason"] for one in found[:-2]] == [None, None, None, "length"]
    assert found[-2]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert found[-2]["timings"] == timings
    assert found[-1] == "[DONE]"
    assert (trail.characters, trail.tokens) == (2, 2)
    assert (chunks.usage.input_tokens, chunks.usage.output_tokens) == (3, 2)


def test_a_whole_completion():
    chunks, _ = first(TEXT)
    found = told(chunks, event("a", [10], 1), last(1, "word"))
    assert [one["choices"][0]["text"] for one in found[:-2]] == ["a", ""]
    assert found[1]["choices"][0]["finish_reason"] == "stop"
    assert {one["object"] for one in found[:-1]} == {"text_completion"}


@pytest.mark.parametrize(("kind", "reason"), [("eos", "stop"), ("word", "stop"), ("limit", "length")])
def test_why_it_ended(kind, reason):
    found = told(first()[0], event("a", [10], 1), last(1, kind))
    assert found[-3]["choices"][0]["finish_reason"] == reason


def test_text_that_is_kept_back_makes_no_frame():
    chunks, trail = first()
    assert len(told(chunks, event("", [10], 1))) == 1  # the role
    assert told(chunks, event("", [11], 2)) == []
    assert deltas(told(chunks, event("abc", [12], 3))) == [{"content": "abc"}]
    assert trail.tokens == 3


def test_the_second_part():
    onward = Trail([1, 2, 3])
    chunks = Chunks(CHAT, onward, before=5)
    found = told(chunks, event("c", [20], 1, tokens_evaluated=8), last(2, "eos", tokens_evaluated=8))
    assert deltas(found) == [{"content": "c"}, {}]
    assert found[-2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
    assert (chunks.usage.input_tokens, chunks.usage.output_tokens) == (8, 2)


def test_what_went_out_is_not_sent_twice():
    chunks = Chunks(CHAT, Trail([1]), before=5, again="abcd")
    found = told(chunks, event("ab", [20], 1), event("cdef", [21], 2), event("g", [22], 3))
    assert deltas(found) == [{"content": "ef"}, {"content": "g"}]


@pytest.mark.parametrize("pieces", [[event("abX", [20], 1)], [event("ab", [20], 1), last(1)]])
def test_another_text_ends_it(pieces):
    chunks = Chunks(CHAT, Trail([1]), before=5, again="abcd")
    found = told(chunks, *pieces)
    assert found[0]["error"]["message"] == DIVERGED
    assert chunks.diverged


def test_all_tokens_had_come():
    chunks, trail = first()
    told(chunks, event("a", [10], 1))
    found = [sse.data_of(one) for one in chunks.ending()]
    assert json.loads(found[0])["choices"][0]["finish_reason"] == "length"
    assert json.loads(found[1])["usage"]["completion_tokens"] == 1
    assert found[2] == b"[DONE]"
    assert trail.tokens == 1
    assert told(chunks, event("b", [11], 2)) == []


@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"error":{"code":500,"message":"out of memory"}}\n\n',
        b'error: {"code":500,"message":"out of memory"}\n\n',
        b"data: nonsense\n\n",
        b'data: {"content":5}\n\n',
        b"data: []\n\n",
    ],
)
def test_an_error_is_an_error(raw):
    (frame,) = first()[0].feed(raw)
    assert json.loads(sse.data_of(frame))["error"]["message"]


@pytest.mark.parametrize("timings", [None, {"cache_n": 1.5}, [1]])
def test_odd_timings_are_passed_on(timings):
    chunks, _ = first()
    *_, usage, end = told(chunks, event("x", [1], 1), last(1, timings=timings))
    assert (usage["usage"]["completion_tokens"], end) == (1, "[DONE]")


def test_an_id_that_is_none():
    chunks, _ = first()
    (found,) = told(chunks, event("x", [2**64 - 1], 1))
    assert "error" in found


def test_comments_go_through():
    assert first()[0].feed(b": ping\n\n") == [b": ping\n\n"]
