"""Every pair of dialects in every case: requests, whole answers, streams however they are cut, and errors."""

from __future__ import annotations

import json
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import anthropic.types
import ollama
import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import TypeAdapter
from tests.dialects import pairs
from tests.dialects.pairs import CASES, ERRORS, PAIRS, Caller, read, streamed

from fleetgate import sse
from fleetgate.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALL = [(at, caller, upstream) for at in CASES for caller, upstream in PAIRS]


def each(test: Callable[[Path, str, str], None]) -> Callable[[str, str], None]:
    """For every pair, one test that goes through all cases."""

    @pytest.mark.parametrize(("caller", "upstream"), PAIRS, ids=[f"{one}-to-{other}" for one, other in PAIRS])
    def in_all_cases(caller: str, upstream: str) -> None:
        for at in CASES:
            with noted(at):
                test(at, caller, upstream)

    in_all_cases.__name__ = test.__name__
    in_all_cases.__doc__ = test.__doc__
    return in_all_cases


@contextmanager
def noted(at: Path) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        error.add_note(f"in the case {at.name}")
        raise


TYPES = {
    "openai": ChatCompletion,
    "responses": Response,
    "anthropic": anthropic.types.Message,
    "ollama": ollama.ChatResponse,
}
CALL_OF_ANTHROPIC = TypeAdapter(MessageCreateParamsStreaming)
ENDS = {
    "openai": b"data: [DONE]",
    "responses": b"event: response.completed",
    "anthropic": b"event: message_stop",
    "ollama": b'"done":true',
}
BOUNDARY = b"\n\n"
ENDINGS = ("LF", "CRLF", "CR")


def expected(at, caller, upstream):
    return read(at, f"{caller}-to-{upstream}.json")


def asking(at, caller):
    return Caller(caller, read(at, f"{caller}.json"))


def raw(at, upstream):
    return (at / f"from-{upstream}.txt").read_bytes()


def lines(found: bytes) -> list[str]:
    return found.decode().splitlines()


def events(found: bytes) -> list[bytes]:
    return [one + BOUNDARY for one in found.split(BOUNDARY) if one]


# --- golden ---------------------------------------------------------------------------------------------


@each
def test_it_is_as_it_was_looked_through(at, caller, upstream):
    assert pairs.pair(at, caller, upstream) == expected(at, caller, upstream)


@each
def test_official_clients_read_and_write_it(at, caller, upstream):
    stated = expected(at, caller, upstream)
    if upstream == "anthropic":
        CALL_OF_ANTHROPIC.validate_python(stated["sent"])
    TYPES[caller].model_validate(stated["answer"])


@pytest.mark.parametrize("at", CASES, ids=lambda at: at.name)
def test_equal_dialects_pass_everything_but_the_model(at):
    request = read(at, "openai.json")
    found = expected(at, "openai", "openai")
    assert found["sent"] | {"model": "lab"} == request
    assert found["left_out"] == []
    assert found["answer"] == read(at, "from-openai.json")
    passed = streamed(asking(at, "openai"), "openai", [raw(at, "openai")])
    assert passed == raw(at, "openai")


def test_every_case_is_there_for_everybody():
    for at in CASES:
        assert {one.name for one in at.iterdir()} == {
            *(f"{caller}.json" for caller in pairs.CALLERS),
            *(f"from-{upstream}.{kind}" for upstream in ("openai", "anthropic") for kind in ("json", "txt")),
            *(f"{caller}-to-{upstream}.json" for caller, upstream in PAIRS),
        }


# --- streams however they are cut -----------------------------------------------------------------------


def forms(text: bytes) -> dict[str, bytes]:
    """The same events in other bytes."""
    folded = b"".join(_folded(event) for event in events(text))
    return {
        "CRLF": text.replace(b"\n", b"\r\n"),
        "CR": text.replace(b"\n", b"\r"),
        "a byte order mark": b"\xef\xbb\xbf" + text,
        "data in lines": folded,
        "data in lines, CRLF": folded.replace(b"\n", b"\r\n"),
        "ids and times": text.replace(b"data:", b"id: 7\nretry: 10\ndata:"),
        "no space": text.replace(b"data: ", b"data:"),
    }


def _folded(event: bytes) -> bytes:
    """One line of data for each member."""
    head, _, data = event.rstrip(b"\n").rpartition(b"data: ")
    if data == b"[DONE]":
        return event
    pretty = json.dumps(json.loads(data), indent=1, ensure_ascii=False).encode()
    return head + b"".join(b"data: " + line + b"\n" for line in pretty.split(b"\n")) + b"\n"


def commented(text: bytes) -> bytes:
    return b": one\n\n" + b"".join(event + b": another\n\n" for event in events(text)[:-1]) + events(text)[-1]


def without_comments(found: bytes) -> list[str]:
    kept = [one for one in events(found) if not one.startswith(b":")]
    return lines(b"".join(kept))


@each
def test_byte_by_byte_and_event_by_event(at, caller, upstream):
    text = raw(at, upstream)
    stated = expected(at, caller, upstream)["stream"]
    assert lines(streamed(asking(at, caller), upstream, events(text))) == stated
    assert lines(streamed(asking(at, caller), upstream, [bytes([one]) for one in text])) == stated


@each
def test_other_bytes_of_the_same_events(at, caller, upstream):
    text = raw(at, upstream)
    stated = expected(at, caller, upstream)["stream"]
    for form, other in forms(text).items():
        found = streamed(asking(at, caller), upstream, [other])
        if (caller, upstream) == ("openai", "openai"):
            assert _meaning(found) == _meaning(text), form  # bytes pass as they came
        else:
            assert lines(found) == stated, form


def _meaning(found: bytes) -> list[object]:
    plain = found.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data = [sse.data_of(one) for one in sse.Cutter().feed(plain)]
    return [one if one == b"[DONE]" else json.loads(one) for one in data if one is not None]


@each
def test_comments_are_never_part_of_an_answer(at, caller, upstream):
    found = streamed(asking(at, caller), upstream, [commented(raw(at, upstream))])
    stated = expected(at, caller, upstream)["stream"]
    assert (without_comments(found) if caller == "openai" else lines(found)) == stated


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(ALL), st.lists(st.integers(0, 5_000), max_size=12), st.sampled_from(ENDINGS))
def test_cut_anywhere(which, cuts, ending):
    at, caller, upstream = which
    text = raw(at, upstream)
    text = text if ending == "LF" else forms(text)[ending]
    marks = sorted({0, len(text), *(one % len(text) for one in cuts)})
    pieces = [text[a:b] for a, b in pairwise(marks)]
    found = streamed(asking(at, caller), upstream, pieces)
    if (caller, upstream) == ("openai", "openai"):
        assert _meaning(found) == _meaning(raw(at, upstream))
    else:
        assert lines(found) == expected(at, caller, upstream)["stream"]


# --- streams that break ---------------------------------------------------------------------------------


def looks_whole(caller: str, found: bytes) -> bool:
    return ENDS[caller] in found or b"event: response.incomplete" in found


def finish_at(at, upstream) -> int:
    """Where the event with the finish reason begins."""
    text = raw(at, upstream)
    mark = b"event: message_delta" if upstream == "anthropic" else b'"delta":{},"finish_reason":"'
    return text.rfind(BOUNDARY, 0, text.find(mark)) + len(BOUNDARY)


@each
def test_a_stream_that_ends_early_never_looks_whole(at, caller, upstream):
    text = raw(at, upstream)[: finish_at(at, upstream)]
    for torn in (b"", text, text + raw(at, upstream)[len(text) : len(text) + 40]):
        found = streamed(asking(at, caller), upstream, [torn])
        assert not looks_whole(caller, found)
        assert FailureClass.STREAM_BROKEN.value.encode() in found


@each
def test_an_error_inside_never_looks_whole(at, caller, upstream):
    error = {"type": "overloaded_error", "message": "we are full"}
    event = b"event: error\ndata: " + json.dumps({"type": "error", "error": error}).encode() + BOUNDARY
    found = streamed(asking(at, caller), upstream, [raw(at, upstream)[: finish_at(at, upstream)] + event])
    assert not looks_whole(caller, found)
    assert b"we are full" in found


@each
def test_a_missing_last_event_takes_nothing_from_an_answer(at, caller, upstream):
    """The finish reason came: what is missing is the end mark, and the gateway adds its own."""
    text = b"".join(events(raw(at, upstream))[:-1])
    assert lines(streamed(asking(at, caller), upstream, [text])) == expected(at, caller, upstream)["stream"]


# --- a large one ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("caller", "upstream"), PAIRS)
def test_an_answer_of_200_kilobytes(caller, upstream):
    at = next(one for one in CASES if one.name == "plain")
    words = "größer 🌍 " * 15_000
    body = json.dumps(read(at, f"from-{upstream}.json"), ensure_ascii=False)
    whole = json.loads(body.replace("Hello, Zoë 🌍", words))
    chat = whole if upstream == "openai" else pairs.completion(whole, pairs.CREATED)
    assert words in json.dumps(asking(at, caller).answer(chat), ensure_ascii=False)
    text = raw(at, upstream).decode().replace("Hello,", words).encode()
    assert len(text) > 200_000
    pieces = [text[place : place + 1_021] for place in range(0, len(text), 1_021)]
    found = streamed(asking(at, caller), upstream, pieces)
    assert words.encode() in found
    assert looks_whole(caller, found)


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", sorted(ERRORS.iterdir()), ids=lambda at: at.name)
def test_errors_in_each_form(at):
    told = read(at, "told.json")
    assert pairs.errors(at) == told
    anthropic.types.shared.ErrorResponse.model_validate(told["anthropic"]["body"])
    assert isinstance(told["ollama"]["body"]["error"], str)
    assert len({one["status"] for one in told.values()}) == 1
    assert "sk-1234" not in json.dumps(told)
