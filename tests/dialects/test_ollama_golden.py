"""Golden files of the Ollama dialect: requests in, requests of the form between out, and answers back.

A case is a folder `<operation>-<what>` with `request.json` → `chat.json` (and `left-out.json` where something
has no place) or `refused.json`, `chat-answer.json` → `answer.json`, and `chat-stream.jsonl` (the data of each
frame) → `stream.txt`, byte for byte. The clock stands still, except that an answer takes two seconds.
"""

import json
from pathlib import Path

import ollama
import pytest

from fleetgate import sse
from fleetgate.dialects.ollama.dialect import PATHS, Ollama
from fleetgate.errors import Refused

CASES = sorted((Path(__file__).parent / "golden" / "ollama").iterdir())
OPERATIONS = {operation.value: operation for operation in PATHS.values()}
ASKED, ANSWERED = 1_767_225_600.25, 1_767_225_602.25
REQUEST_ID = "req0"
WHOLE = {
    "chat": ollama.ChatResponse,
    "generate": ollama.GenerateResponse,
    "embed": ollama.EmbedResponse,
    "embeddings": ollama.EmbeddingsResponse,
}


class Case:
    """One folder."""

    def __init__(self, at):
        self.at = at
        self.operation = at.name.split("-")[0]
        self.now = ASKED
        self.dialect = Ollama(OPERATIONS[self.operation], lambda: self.now)
        self.refused = self.translated = None
        try:
            self.translated = self.dialect.request(self.json("request.json"))
        except Refused as refused:
            self.refused = refused
        self.now = ANSWERED

    def json(self, name):
        return json.loads((self.at / name).read_text())

    def frames(self):
        lines = (self.at / "chat-stream.jsonl").read_bytes().splitlines()
        return [sse.frame(one) for one in lines]

    def stream(self):
        answering = self.dialect.answering(self.translated.memory, REQUEST_ID)
        fed = b"".join(answering.feed(frame) for frame in self.frames())
        return answering.begin() + fed + answering.end()


def having(name):
    return pytest.mark.parametrize(
        "case", [Case(at) for at in CASES if (at / name).exists()], ids=lambda case: case.at.name
    )


@having("refused.json")
def test_a_request_that_is_refused(case):
    form = case.dialect.error_form(case.refused, REQUEST_ID)
    assert form.status == case.refused.status
    assert json.loads(form.body) == case.json("refused.json")


@having("chat.json")
def test_the_request_in_the_form_between(case):
    assert case.translated.members == case.json("chat.json")
    left_out = case.json("left-out.json") if (case.at / "left-out.json").exists() else []
    assert list(case.translated.left_out) == left_out


@having("chat-answer.json")
def test_the_whole_answer(case):
    found = case.dialect.answer(case.json("chat-answer.json"), case.translated.memory, REQUEST_ID)
    assert found == case.json("answer.json")
    WHOLE[case.operation](**found)


@having("loaded.json")
def test_the_answer_to_a_request_that_only_loads(case):
    found = case.translated.preparing
    stated = case.json("loaded.json")
    if "created_at" in stated:  # it is answered when it is read
        stated["created_at"] = found["created_at"]
    assert found == stated
    WHOLE[case.operation](**found)


@having("chat-stream.jsonl")
def test_the_streamed_answer_byte_for_byte(case):
    assert case.stream() == (case.at / "stream.txt").read_bytes()


@having("chat-stream.jsonl")
def test_the_official_client_reads_every_line(case):
    lines = case.stream().splitlines()
    for line in lines:
        WHOLE[case.operation](**json.loads(line))
    done = [json.loads(line)["done"] for line in lines]
    assert done == [False] * (len(lines) - 1) + [True]
