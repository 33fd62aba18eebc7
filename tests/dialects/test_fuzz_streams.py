"""Streams that are none: nothing comes out of a parser but frames or AttemptFailed, whatever goes in.

What goes in: random bytes, random JSON in frames, and recorded streams with something changed in them.
"""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.dialects.pairs import CASES, PAIRS, Caller, read, streamed
from tests.dialects.test_pairs import BOUNDARY, events, finish_at, looks_whole, raw

from fleetgate import sse
from fleetgate.dialects import fim, openai
from fleetgate.dialects.anthropic.dialect import DIALECT as ANTHROPIC
from fleetgate.dialects.anthropic.upstream.stream import Chunks
from fleetgate.dialects.assemble import Assembly
from fleetgate.dialects.continuing import Following, Heard
from fleetgate.dialects.llamacpp import infill
from fleetgate.dialects.llamacpp import stream as by_ids
from fleetgate.dialects.llamacpp.trail import Trail
from fleetgate.dialects.mend import ODDITIES, Mender
from fleetgate.dialects.ollama.asked import Operation
from fleetgate.dialects.ollama.dialect import Ollama
from fleetgate.dialects.responses import DIALECT as RESPONSES
from fleetgate.dialects.responses import IN_CHAT
from fleetgate.domain import Usage
from fleetgate.errors import AttemptFailed
from fleetgate.gateway.through import Events

GOLDEN = Path(__file__).parent / "golden"
BUSY = [HealthCheck.too_slow]
"""other work on the machine makes a strategy slow"""
QUICK = settings(deadline=None, max_examples=40, suppress_health_check=BUSY)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
THINKS = {**CHAT, "max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 1024}}


class Gathers:
    """A whole answer out of frames, as a parser like the others."""

    def __init__(self, *, chat: bool) -> None:
        self._assembly = Assembly(chat=chat)

    def feed(self, frame: bytes) -> None:
        self._assembly.add(frame)

    def end(self) -> None:
        self._assembly.body()


class Looks:
    def __init__(self) -> None:
        self._reader = openai.Stream(strip_usage=True, choices=2)

    def feed(self, frame: bytes) -> None:
        self._reader.look(frame)


class Reads:
    """A native dialect: its reader and its gatherer see the same frames."""

    def __init__(self, dialect: Any) -> None:
        self._reader, self._gathering = dialect.native.reader(), dialect.native.gathering()

    def feed(self, frame: bytes) -> None:
        self._reader.look(frame)
        self._gathering.add(frame)

    def end(self) -> None:
        self._gathering.body()


class Continues:
    """The first part of an answer and the second: what they said and how they go on."""

    def __init__(self) -> None:
        self._heard = Heard(chat=True)
        self._following = Following(self._heard)

    def feed(self, frame: bytes) -> None:
        self._heard.add(frame)
        self._following.turn(frame)

    def end(self) -> None:
        Following(self._heard).turn(b'data: {"choices":[{"delta":{"content":"  x"}}]}')


class ByIds:
    """llama.cpp's completion call: the first part, and one that says it again."""

    def __init__(self) -> None:
        stamp = by_ids.Stamp("a", 7, "m", chat=True)
        self._trail = Trail([1])
        self._parts = (
            by_ids.Chunks(stamp, self._trail),
            by_ids.Chunks(stamp, Trail([1]), 0, "once more"),
        )

    def feed(self, frame: bytes) -> None:
        for one in self._parts:
            one.feed(frame)

    def end(self) -> None:
        self._trail.cut()


def answering(dialect: Any, request: dict[str, Any]) -> Any:
    found = dialect.answering(dialect.request(request).memory, "req_1")
    found.begin()
    return found


def ollama(operation: Operation) -> Any:
    return answering(Ollama(operation, lambda: 7.0), CHAT if operation is Operation.CHAT else ASKED)


ASKED = {"model": "m", "prompt": "hi", "raw": True}
CALLED = {"model": "m", "input": "hi", "tools": [{"type": "custom", "name": "run"}]}
PARSERS = {
    "openai": Looks,
    "assembly": lambda: Gathers(chat=True),
    "assembly of completions": lambda: Gathers(chat=False),
    "anthropic": lambda: answering(ANTHROPIC, THINKS),
    "anthropic, quiet": lambda: answering(ANTHROPIC, {**CHAT, "max_tokens": 9}),
    "responses": lambda: answering(RESPONSES, CALLED),
    "responses in chat": lambda: answering(IN_CHAT, CALLED),
    "ollama": lambda: ollama(Operation.CHAT),
    "ollama generate": lambda: ollama(Operation.GENERATE),
    "from anthropic": lambda: Chunks(7),
    "infill": lambda: infill.Chunks(infill.Stamp("a", 7, "m")),
    "by ids": ByIds,
    "gap at mistral": fim.Pieces,
    "continued": Continues,
    "through": lambda: Events(Usage()),
    **{f"mending {name}": (lambda odd=odd: Mender(odd)) for name, odd in ODDITIES.items()},
    "native anthropic": lambda: Reads(ANTHROPIC),
    "native responses": lambda: Reads(RESPONSES),
}


def recorded() -> list[list[Any]]:
    """What stands in the frames of recorded streams, one list for each."""
    found = [
        [json.loads(line) for line in file.read_bytes().splitlines() if line != b"[DONE]"]
        for file in sorted(GOLDEN.rglob("*.jsonl"))
    ]
    for file in sorted([*GOLDEN.rglob("from-*.txt"), *GOLDEN.rglob("stream.txt")]):
        if "ollama" in file.parts:
            continue
        data = [sse.data_of(one) for one in sse.Cutter().feed(file.read_bytes())]
        found.append([json.loads(one) for one in data if one is not None and one != b"[DONE]"])
    return [one for one in found if one]


RECORDED = recorded()
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["stop", "length", "tool_calls", "tool_use", "end_turn", "error", "[DONE]", '{"a":1}']),
)
NAMES = st.sampled_from(
    [
        *(
            "choices",
            "delta",
            "index",
            "content",
            "tool_calls",
            "function",
            "arguments",
            "name",
            "id",
            "type",
            "tokens",
            "stop",
            "tokens_predicted",
            "cache_n",
            "base_resp",
            "status_code",
        ),
        *("usage", "finish_reason", "logprobs", "reasoning_content", "text", "thinking", "content_block"),
        *("error", "message", "stop_reason", "refusal", "timings", "item", "response", "part", "output"),
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
DEEP = b'{"choices":' + b"[" * 3_000 + b"]" * 3_000 + b"}"
ODD = [
    *(b"", b"{", b"[]", b"null", b'"x"', b"7", b"\xff\xfe", DEEP),
    b'{"choices":[{"delta":{"content":"\xff"}}]}',
    b'{"choices":["x",null]}',
    b'{"choices":[{"index":[1],"delta":[1],"finish_reason":["ERROR"]}],"error":null}',
    b'{"choices":[{"index":[1],"delta":{"tool_calls":[{}]},"finish_reason":"ERROR"}]}',
    b'{"content":"x","tokens":[18446744073709551615]}',
    b'{"content":"","stop":true,"timings":null}',
    b'{"content":"","stop":true,"timings":{"cache_n":1.5}}',
]
FRAMES = st.one_of(VALUES.map(lambda one: json.dumps(one).encode()), st.sampled_from(ODD))


@st.composite
def changed(draw: st.DrawFn) -> list[bytes]:
    """A recorded stream with some of its values, frames or bytes changed."""
    frames = deepcopy(draw(st.sampled_from(RECORDED)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(frames) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                frames.insert(at, deepcopy(frames[draw(st.integers(0, len(frames) - 1))]))
            case 1 if len(frames) > 1:
                del frames[at]
            case 2:
                frames.insert(at, draw(VALUES))
            case _:
                frames[at] = draw(elsewhere(frames[at]))
    found = [sse.frame(json.dumps(one, ensure_ascii=False).encode()) for one in frames]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(found) - 1))
        place = draw(st.integers(0, max(0, len(found[at]) - 3)))
        found[at] = found[at][:place] + draw(st.binary(max_size=3)) + found[at][place + 1 :]
    if draw(st.booleans()):
        found.insert(draw(st.integers(0, len(found))), sse.frame(draw(st.sampled_from(ODD))))
    return found


@st.composite
def elsewhere(draw: st.DrawFn, value: Any) -> Any:
    """The value with another one somewhere inside."""
    inner = value if isinstance(value, dict | list) else None
    if not inner or draw(st.integers(0, 5)) == 0:
        return draw(VALUES)
    key = draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
    if isinstance(inner, dict) and draw(st.integers(0, 7)) == 0:
        del inner[key]
    else:
        inner[key] = draw(elsewhere(inner[key]))
    return inner


def feed(name: str, frames: list[bytes]) -> None:
    parser = PARSERS[name]()
    for frame in frames:
        with suppress(AttemptFailed):
            parser.feed(frame)
    end = getattr(parser, "end", None)
    if end is not None:
        with suppress(AttemptFailed):
            end()


each = pytest.mark.parametrize("name", PARSERS)


@each
@QUICK
@given(frames=st.lists(FRAMES, max_size=6))
def test_frames_of_anything(name, frames):
    feed(name, [sse.frame(one) for one in frames])


@each
@QUICK
@given(frames=st.lists(st.binary(max_size=40), max_size=6))
def test_frames_that_are_none(name, frames):
    feed(name, frames)


@each
@settings(deadline=None, max_examples=60, suppress_health_check=BUSY)
@given(frames=changed())
def test_recorded_streams_with_something_changed(name, frames):
    feed(name, frames)


@settings(deadline=None, max_examples=150, suppress_health_check=BUSY)
@given(frames=changed(), which=st.sampled_from(PAIRS), size=st.integers(1, 400))
def test_the_way_of_a_changed_stream_to_its_caller(frames, which, size):
    """As the gateway takes it. Whatever comes, the caller gets an end, a good one or a bad one."""
    caller, upstream = which
    text = b"".join(frames)
    pieces = [text[place : place + size] for place in range(0, len(text), size)]
    asking = Caller(caller, read(CASES[0], f"{caller}.json"))
    found = streamed(asking, upstream, pieces)
    assert found


@settings(deadline=None, max_examples=100, suppress_health_check=BUSY)
@given(at=st.sampled_from(CASES), which=st.sampled_from(PAIRS), cut=st.floats(0, 1), size=st.integers(1, 300))
def test_no_beginning_of_a_stream_looks_whole(at, which, cut, size):
    caller, upstream = which
    whole = raw(at, upstream)
    end = whole.find(BOUNDARY, finish_at(at, upstream)) + len(BOUNDARY)
    text = whole[: int(cut * (end - 1))]
    found = streamed(
        Caller(caller, read(at, f"{caller}.json")),
        upstream,
        [text[place : place + size] for place in range(0, len(text), size)],
    )
    assert not looks_whole(caller, found)


# --- the cutter -----------------------------------------------------------------------------------------

LINES = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"data: x", b": c", b"data:", b"\xef\xbb\xbf", b"a"])


@settings(deadline=None, max_examples=400, suppress_health_check=BUSY)
@given(
    parts=st.lists(st.one_of(LINES, st.binary(max_size=5)), max_size=30), cuts=st.lists(st.integers(0, 200))
)
def test_frames_do_not_depend_on_how_the_bytes_were_cut(parts, cuts):
    text = b"".join(parts)
    marks = sorted({0, len(text), *(one for one in cuts if one < len(text))})
    one, other = sse.Cutter(), sse.Cutter()
    cut = [frame for a, b in pairwise(marks) for frame in one.feed(text[a:b])]
    whole = other.feed(text)
    assert cut == whole
    assert one.end() == (rest := other.end())
    assert b"".join([*whole, rest]) == text.removeprefix(b"\xef\xbb\xbf")
    for frame in cut:
        sse.data_of(frame)
        sse.event_of(frame)


LONG = [b"x" * 65_536, b"data: x\r" * 8_192, b"\r\n:" * 20_000, b"data: y\n" * 8_192]


@pytest.mark.parametrize("piece", LONG, ids=["a line", "CR", "CRLF", "LF"])
def test_what_never_ends_is_not_kept(piece):
    cutter = sse.Cutter()
    for _ in range(sse.MAX_FRAME // len(piece)):
        assert cutter.feed(piece) == []
    with pytest.raises(sse.FrameTooLong):
        cutter.feed(piece)


def test_many_short_pieces_of_a_long_frame_take_no_long_time():
    """Each byte is looked at a few times, however many pieces a frame has."""
    cutter = sse.Cutter()
    for _ in range(200_000):
        assert cutter.feed(b"data: xxxx") == []
    assert [len(one) for one in cutter.feed(b"\n\n")] == [2_000_002]


def test_events_of_a_golden_stream_are_what_they_are():
    assert events(b"a\n\nb\n\n") == [b"a\n\n", b"b\n\n"]
