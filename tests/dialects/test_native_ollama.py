"""Ollama's chats and prompts as they pass: lines, ends, use, whole answers out of lines, and what goes.

The golden answers of the inbound translation serve as what an engine says.
"""

import json
from itertools import pairwise
from pathlib import Path

import msgspec
import ollama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetgate import sse
from fleetgate.dialects.ollama import lines
from fleetgate.dialects.ollama.asked import Operation
from fleetgate.dialects.ollama.dialect import dialects
from fleetgate.dialects.ollama.table import LOADING
from fleetgate.dialects.openai import Look
from fleetgate.dialects.port import Altered, Facts
from fleetgate.domain import Timings, Usage
from fleetgate.errors import AttemptFailed, FailureClass, Refused

GOLDEN = Path(__file__).parent / "golden" / "ollama"
PLACES = [place for place in sorted(GOLDEN.iterdir()) if (place / "stream.txt").exists()]
CASES = [pytest.param(place, id=place.name) for place in PLACES]
SPOKEN = dialects(lambda: 5.0)
CHAT, GENERATE = SPOKEN["/api/chat"].native, SPOKEN["/api/generate"].native
COUNTS = {"prompt_eval_count": 40, "prompt_eval_duration": 400_000_000}
COUNTS |= {"eval_count": 20, "eval_duration": 2_000_000_000}


def native_of(place):
    return CHAT if place.name.startswith("chat") else GENERATE


def frames_of(place):
    return native_of(place).cutter().feed((place / "stream.txt").read_bytes())


def line(**members):
    return json.dumps({"model": "m", "created_at": "2026-01-01T00:00:00Z", **members}).encode() + b"\n"


def chat_line(done=None, **message):
    beside = {"done": True, "done_reason": done, **COUNTS} if done else {"done": False}
    return line(message={"role": "assistant", "content": "", **message}, **beside)


def prompt_line(response="", done=None, **members):
    beside = {"done": True, "done_reason": done, **COUNTS} if done else {"done": False}
    return line(response=response, **members, **beside)


def raw(**members):
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in members.items()}


def plain(members):
    return {name: json.loads(bytes(value)) for name, value in members.items()}


# --- lines ----------------------------------------------------------------------------------------------

objects = st.dictionaries(st.sampled_from("abc"), st.text(max_size=8), max_size=3)


@given(st.lists(st.tuples(objects, st.sampled_from(["\n", "\r\n", "\n\n"]))), st.data())
@settings(deadline=None)
def test_lines_do_not_depend_on_how_the_bytes_were_cut(made, data):
    stream = "".join(json.dumps(one) + end for one, end in made).encode()
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *places, len(stream)]
    cutter = lines.Cutter()
    found = [one for a, b in pairwise(edges) for one in cutter.feed(stream[a:b])]
    assert [json.loads(one) for one in found] == [one for one, _ in made]
    assert all(one.endswith(b"\n") and one.count(b"\n") == 1 for one in found)
    assert cutter.end() == b""


def test_whole_lines_come_out_as_they_came():
    piece = b'{"a": 1}\r\n{"b":\t2}\n'
    assert lines.Cutter().feed(piece) == [b'{"a": 1}\r\n', b'{"b":\t2}\n']


def test_the_last_object_needs_no_line_end_and_half_of_one_is_none():
    cutter = lines.Cutter()
    assert cutter.feed(b'{"a":{"b":1}') == []
    assert cutter.feed(b"}") == [b'{"a":{"b":1}}\n']
    assert cutter.feed(b'\n{"c":') == []
    assert cutter.end() == b""


def test_a_line_without_an_end_is_given_up():
    cutter = lines.Cutter()
    for _ in range(4):
        assert cutter.feed(b"x" * (1 << 20)) == []
    with pytest.raises(sse.FrameTooLong):
        cutter.feed(b"x")


# --- streams --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", CASES)
def test_a_stream_is_read_as_its_whole_answer_is(place):
    native, frames = native_of(place), frames_of(place)
    reader, gathering = native.reader(), native.gathering()
    looks = []
    for frame in frames:
        looks.append(reader.look(frame))
        gathering.add(frame)
    assert looks[-1] is Look.END
    assert (reader.finished, reader.whole, reader.end_mark) == (True, True, frames[-1])
    assert b"".join(frames) == (place / "stream.txt").read_bytes()
    whole = gathering.body()
    assert native.read_whole(whole) == (reader.usage, reader.timings, reader.unsaid)
    kind = ollama.ChatResponse if native is CHAT else ollama.GenerateResponse
    kind.model_validate_json(whole)
    told = [json.loads(one) for one in frames]
    said = json.loads(whole)
    key = "message" if native is CHAT else None
    assert texts(said[key] if key else said) == texts(*(one[key] if key else one for one in told))
    assert said["done_reason"] == told[-1]["done_reason"]


def texts(*pieces):
    """What they say together."""
    found = {
        name: "".join(one.get(name, "") for one in pieces) for name in ("content", "response", "thinking")
    }
    return found, [call for one in pieces for call in one.get("tool_calls", ())]


@pytest.mark.parametrize("place", [one for one in PLACES if (one / "answer.json").exists()])
def test_whole_answers(place):
    answer = json.loads((place / "answer.json").read_text())
    usage, timings, unsaid = native_of(place).read_whole((place / "answer.json").read_bytes())
    assert (usage.input_tokens, usage.output_tokens) == (
        answer.get("prompt_eval_count"),
        answer.get("eval_count"),
    )
    assert (timings is not None) == ("eval_duration" in answer)
    assert not unsaid


def test_counters_are_usage_and_speed():
    reader = CHAT.reader()
    reader.look(chat_line(content="so"))
    reader.look(chat_line(done="stop"))
    assert reader.usage == Usage(40, 20)
    assert reader.timings == Timings(prompt_seconds=0.4, output_tokens=20, decode_seconds=2.0)
    assert reader.reasons == {"stop"}
    reader = CHAT.reader()
    reader.look(line(message={"content": ""}, done=True, prompt_eval_count="x", eval_duration=0))
    assert (reader.usage, reader.timings) == (Usage(), None)


@pytest.mark.parametrize(
    ("native", "frame", "look"),
    [
        (CHAT, chat_line(), Look.HOLD),
        (CHAT, chat_line(content="x"), Look.CONTENT),
        (CHAT, chat_line(thinking="x"), Look.CONTENT),
        (CHAT, chat_line(tool_calls=[{"function": {"name": "f", "arguments": {}}}]), Look.CONTENT),
        (GENERATE, prompt_line(), Look.HOLD),
        (GENERATE, prompt_line("x"), Look.CONTENT),
        (GENERATE, prompt_line(thinking="x"), Look.CONTENT),
        (GENERATE, line(image="aGk=", done=False), Look.CONTENT),
        (GENERATE, prompt_line(done="stop"), Look.END),
    ],
)
def test_when_content_begins(native, frame, look):
    assert native.reader().look(frame) is look


def test_a_line_that_says_nothing_is_a_sign_of_life_wherever_it_stands():
    reader = CHAT.reader()
    looks = [
        reader.look(one) for one in (chat_line(), chat_line(content="x"), chat_line(), chat_line(content="y"))
    ]
    assert looks == [Look.HOLD, Look.CONTENT, Look.HOLD, Look.PASS]
    assert reader.frames == 2


@pytest.mark.parametrize(
    ("native", "thought"), [(CHAT, chat_line(thinking="x")), (GENERATE, prompt_line(thinking="x"))]
)
def test_thoughts_alone_are_nothing_said(native, thought):
    end = chat_line(done="length") if native is CHAT else prompt_line(done="length")
    reader, gathering = native.reader(), native.gathering()
    for one in (thought, end):
        reader.look(one)
        gathering.add(one)
    assert reader.unsaid
    assert native.read_whole(gathering.body())[2]
    said = chat_line(content="x") if native is CHAT else prompt_line("x")
    reader = native.reader()
    for one in (thought, said, end):
        reader.look(one)
    assert not reader.unsaid


def test_the_last_line_may_have_content_too():
    reader, gathering = CHAT.reader(), CHAT.gathering()
    for one in (chat_line(content="a"), chat_line(content="b", done="length")):
        reader.look(one)
        gathering.add(one)
    assert not reader.unsaid
    assert json.loads(gathering.body())["message"]["content"] == "ab"


@pytest.mark.parametrize("frame", [b'{"error":"CUDA error"}\n', b'{"error":{"message":"CUDA error"}}\n'])
def test_errors_inside_a_stream(frame):
    reader = CHAT.reader()
    with pytest.raises(AttemptFailed, match="CUDA error") as caught:
        reader.look(frame)
    assert caught.value.failure is FailureClass.SERVER_ERROR
    reader.look(chat_line(content="x"))
    with pytest.raises(AttemptFailed, match="CUDA error") as caught:
        reader.look(frame)
    assert caught.value.failure is FailureClass.STREAM_BROKEN
    assert not reader.finished


@pytest.mark.parametrize(
    ("native", "body", "failure"),
    [
        (CHAT, b"{", "garbage"),
        (CHAT, b"[]", "garbage"),
        (CHAT, b"{}", "garbage"),
        (CHAT, chat_line(content="x"), "garbage"),
        (CHAT, line(done=True, done_reason="stop"), "garbage"),
        (CHAT, b'{"error":"out of memory"}', "server_error"),
        (GENERATE, prompt_line("x"), "garbage"),
    ],
)
def test_whole_answers_that_are_none(native, body, failure):
    with pytest.raises(AttemptFailed) as caught:
        native.read_whole(body)
    assert caught.value.failure.value == failure


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b'{"error":', b'{"message":1}\n', b"}\n"])))
)
@settings(deadline=None)
def test_nothing_but_a_failed_attempt_comes_out_of_garbage(pieces):
    cutter, reader, gathering = CHAT.cutter(), CHAT.reader(), CHAT.gathering()
    try:
        for piece in pieces:
            for frame in cutter.feed(piece):
                reader.look(frame)
                gathering.add(frame)
        gathering.body()
    except (AttemptFailed, sse.FrameTooLong):
        pass
    assert not reader.finished


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_stream_that_was_cut_has_no_end(data):
    place = data.draw(st.sampled_from(PLACES))
    stream = (place / "stream.txt").read_bytes()
    native = native_of(place)
    cutter, reader = native.cutter(), native.reader()
    last = data.draw(st.integers(0, len(stream) - 2))
    try:
        for frame in [*cutter.feed(stream[:last]), cutter.end()]:
            if frame:
                reader.look(frame)
    except AttemptFailed:
        pass
    assert not reader.ended


# --- requests -------------------------------------------------------------------------------------------

TURNS = [{"role": "user", "content": "hi", "images": ["aGk="]}]


def test_what_nobody_but_the_operator_says_goes():
    asked = {"num_ctx": 99, "num_gpu": 1, "temperature": 0.10, "mirostat": 2, "num_keep": 4, "numa": None}
    members = raw(
        messages=TURNS, think="max", truncate=False, template="{{ evil }}", keep_alive=0, shift=False,
        _debug_render_only=True, options=asked, format={"type": "object"},
    )  # fmt: skip
    altered = CHAT.prepare(members, Facts())
    assert {one.name for one in altered} == {
        *("keep_alive", "shift", "template", "_debug_render_only", "options.num_ctx", "options.num_gpu")
    }
    assert all(one.why and not one.to for one in altered)
    assert plain(members) == {
        "stream": False,
        "messages": TURNS,
        "think": "max",
        "truncate": False,
        "format": {"type": "object"},
        "options": {"temperature": 0.1, "mirostat": 2, "num_keep": 4},
    }
    assert b'"temperature":0.1,' in bytes(members["options"])


@given(st.dictionaries(st.sampled_from(LOADING), st.integers(0, 9), max_size=5), st.integers(1, 9))
def test_no_option_that_loads_anew_passes(options, loaded):
    members = raw(model="m", options=options)
    altered = CHAT.prepare(members, Facts(loaded=loaded))
    kept = {"num_ctx": loaded} if options.get("num_ctx") == loaded else {}
    assert plain(members)["options"] == kept
    assert {one.name for one in altered} == {f"options.{name}" for name in options if name not in kept}


@pytest.mark.parametrize("beside", [{}, {"options": None}, {"keep_alive": None, "template": ""}])
def test_who_says_nothing_of_it_is_told_nothing(beside):
    members = raw(model="m", stream=True, **beside)
    assert CHAT.prepare(members, Facts(fits=100, loaded=50)) == []
    assert plain(members) == {
        "model": "m",
        "stream": True,
        **{k: v for k, v in beside.items() if k == "options"},
    }


def test_options_that_change_nothing_stay_byte_for_byte():
    written = msgspec.Raw(b'{ "temperature":1.50,\n"num_predict" : 7 }')
    members = {"options": written}
    assert CHAT.prepare(members, Facts(fits=100)) == []
    assert members["options"] is written


@pytest.mark.parametrize(("keep", "said"), [(-1.0, -1), (600.0, 600), (0.0, 0)])
def test_what_is_configured_is_said(keep, said):
    members = raw(model="m", keep_alive="24h")
    assert [one.name for one in CHAT.prepare(members, Facts(keep=keep))] == ["keep_alive"]
    assert plain(members)["keep_alive"] == said


def test_bounds():
    members = raw(model="m", options={"num_predict": 10**9})
    assert CHAT.longest(members) == 10**9
    assert CHAT.prepare(members, Facts(fits=4096)) == [
        Altered("options.num_predict", "no more fits into the model", "4096")
    ]
    assert plain(members)["options"] == {"num_predict": 4096}
    for free in (-1, -2, 4096):
        members = raw(options={"num_predict": free})
        assert CHAT.prepare(members, Facts(fits=4096)) == []
    members = raw(model="m")
    assert CHAT.longest(members) is None
    CHAT.bound(members, 12)
    assert plain(members)["options"] == {"num_predict": 12}
    members = raw(options={"temperature": 1, "num_predict": -1})
    CHAT.bound(members, 12)
    assert plain(members)["options"] == {"temperature": 1, "num_predict": 12}
    with pytest.raises(AttemptFailed, match="must be an object"):
        CHAT.prepare(raw(options=[1]), Facts())


def test_where_it_is_asked():
    assert (CHAT.at, GENERATE.at) == ("/chat", "/generate")
    assert SPOKEN["/api/embed"].native is SPOKEN["/api/embeddings"].native is None
    assert CHAT.is_plain({})


@pytest.mark.parametrize(
    ("path", "body", "passes"),
    [
        ("/api/generate", {"prompt": "x", "context": [1, 2]}, True),
        ("/api/generate", {"prompt": "x", "raw": True, "images": ["aGk="]}, True),
        ("/api/generate", {"prompt": "x", "suffix": "y", "format": "json"}, True),
        ("/api/generate", {"prompt": "x", "template": "{{ .Prompt }}"}, False),
        ("/api/generate", {"prompt": 1}, False),
        ("/api/generate", {"keep_alive": 0}, False),
        ("/api/chat", {"messages": [{"role": "tool", "content": "x", "images": ["aGk="]}]}, True),
        ("/api/chat", {"messages": [{"role": "judge", "content": "x"}]}, False),
    ],
)
def test_what_may_pass_although_it_cannot_be_translated(path, body, passes):
    dialect = SPOKEN[path]
    with pytest.raises(Refused) as caught:
        dialect.request({"model": "m", **body})
    assert dialect.native.passes(caught.value) is passes


def test_what_only_passes_is_known_in_outline():
    told = GENERATE.outline(
        {
            "model": "m:latest",
            "prompt": "hi",
            "images": ["aGk="],
            "options": {"num_predict": 9},
            "context": [1],
        }
    )
    assert told.members == {
        "model": "m",
        "stream": True,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "hi"}]}],
    }
    assert (told.memory.operation, told.memory.model) == (Operation.GENERATE, "m:latest")
    told = CHAT.outline({"model": "m", "stream": False, "messages": [{"role": "system", "content": "x"}, 3]})
    assert told.members["messages"] == [{"role": "system", "content": "x"}, {"role": "user", "content": ""}]
    assert told.members["stream"] is False
    assert SPOKEN["/api/chat"].answering(told.memory, "r").alive().endswith(b'"done":false}\n')
