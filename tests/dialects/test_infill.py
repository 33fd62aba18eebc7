"""Golden files of llamacpp's call for a gap in a text: completions in, and completions back.

A case has `completion.json` → `infill.json` (and `left-out.json`), `answer.json` → `completion-answer.json`,
and `stream.txt`, as the engine sends it, → `completion-stream.txt`, byte for byte.
"""

import json
from pathlib import Path

import pytest
from openai.types import Completion

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.dialects.assemble import Assembly
from fleetgate.dialects.llamacpp import infill
from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.sse import Cutter

CASES = sorted((Path(__file__).parent / "golden" / "infill").iterdir())
STAMP = infill.Stamp("cmpl-1", 7, "coder")
PLAIN = {"model": "coder", "prompt": "a", "suffix": "b"}


def having(name):
    return pytest.mark.parametrize("at", [at for at in CASES if (at / name).exists()], ids=lambda at: at.name)


def read(at, name):
    return json.loads((at / name).read_text())


def frames(raw):
    chunks = infill.Chunks(STAMP)
    return [frame for event in Cutter().feed(raw) for frame in chunks.feed(event)]


@having("infill.json")
def test_a_request_as_the_engine_takes_it(at):
    body = (at / "completion.json").read_bytes()
    assert infill.asks(body)
    found, left_out = infill.request(body)
    assert json.loads(found) == read(at, "infill.json")
    assert list(left_out) == (read(at, "left-out.json") if (at / "left-out.json").exists() else [])


@having("answer.json")
def test_a_whole_answer_comes_back(at):
    found = infill.whole((at / "answer.json").read_bytes(), STAMP)
    assert json.loads(found) == read(at, "completion-answer.json")
    Completion.model_validate_json(found)
    assert openai.read_whole(found)[0].output_tokens is not None


@having("stream.txt")
def test_a_stream_comes_back(at):
    found = frames((at / "stream.txt").read_bytes())
    assert b"".join(found) == (at / "completion-stream.txt").read_bytes()


def test_a_stream_that_comes_back_is_whole_and_has_its_usage():
    found = frames((CASES[0].parent / "stream" / "stream.txt").read_bytes())
    reader, assembly = openai.Stream(strip_usage=False), Assembly(chat=False)
    for frame in found:
        reader.look(frame)
        assembly.add(frame)
    assert (reader.ended, reader.whole, reader.usage.output_tokens) == (True, True, 2)
    assert reader.timings is not None
    assert Completion.model_validate_json(assembly.body()).choices[0].text == "a, ü"


def test_a_stream_that_breaks_is_never_whole():
    reader = openai.Stream(strip_usage=False)
    with pytest.raises(AttemptFailed):
        [reader.look(one) for one in frames((CASES[0].parent / "broken" / "stream.txt").read_bytes())]
    assert not reader.finished
    torn = frames((CASES[0].parent / "stream" / "stream.txt").read_bytes()[:-20])
    reader = openai.Stream(strip_usage=False)
    [reader.look(one) for one in torn]
    assert not reader.finished


def test_errors_of_older_builds():
    reader = openai.Stream(strip_usage=False)
    found = frames(b'error: {"code":500,"message":"out of memory","type":"server_error"}\n\n')
    with pytest.raises(AttemptFailed, match="out of memory"):
        [reader.look(one) for one in found]


@pytest.mark.parametrize("body", [b'{"prompt":"a"}', b'{"suffix":""}', b'{"suffix":null}', b"[", b"[]"])
def test_without_a_gap_it_is_a_completion_as_any_other(body):
    assert not infill.asks(body)


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"echo": True},
        {"logprobs": 3},
        {"prompt": ["a", "b"]},
        {"prompt": [1, 2]},
        {"suffix": 5},
    ],
)
def test_what_cannot_be_had_there(more):
    with pytest.raises(AttemptFailed) as caught:
        infill.request(json.dumps(PLAIN | more).encode())
    assert (caught.value.failure, caught.value.status) == (FailureClass.ABSENT_FEATURE, 400)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content":1}', b"\xff"])
def test_what_is_no_answer_is_garbage(body):
    with pytest.raises(AttemptFailed) as caught:
        infill.whole(body, STAMP)
    assert caught.value.failure is FailureClass.GARBAGE
    with pytest.raises(AttemptFailed) as caught:
        infill.Chunks(STAMP).feed(sse.frame(body))
    assert caught.value.failure is FailureClass.GARBAGE


def test_values_pass_as_they_were_written():
    found, _ = infill.request(
        b'{"model":"m","prompt":"a","suffix":"b","temperature":1.0e-1,"seed":12345678901234567890}'
    )
    assert b'"temperature":1.0e-1,"seed":12345678901234567890' in found
