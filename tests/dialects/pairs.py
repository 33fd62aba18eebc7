"""Pairs of dialects: how a caller of one asks an upstream of another, and what it reads of the answer.

    python -m tests.dialects.pairs      # writes what stands in the golden files anew, to be looked through

A case of `golden/pairs` has what callers send (`openai.json`, `responses.json`, …) and what upstreams answer
(`from-openai.json`, and `.txt` for the stream), and for each pair `CALLER-to-UPSTREAM.json` with everything
in between: the names of what was left out, the request as it is sent, the whole answer, and the stream. The
stages are those of the gateway: the caller's dialect, the form between, the upstream's dialect, and back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.dialects.anthropic.dialect import DIALECT as ANTHROPIC
from fleetgate.dialects.anthropic.upstream.answer import completion
from fleetgate.dialects.anthropic.upstream.request import outbound
from fleetgate.dialects.anthropic.upstream.stream import Chunks
from fleetgate.dialects.ollama.asked import Operation
from fleetgate.dialects.ollama.dialect import Ollama
from fleetgate.dialects.openai import Look
from fleetgate.dialects.port import Translated
from fleetgate.dialects.responses import DIALECT as RESPONSES
from fleetgate.engines import hints
from fleetgate.engines.anthropic import Anthropic
from fleetgate.engines.ollama import Ollama as OllamaEngine
from fleetgate.engines.openai import OpenAI
from fleetgate.engines.reading import error_text
from fleetgate.errors import AttemptFailed, FailureClass, Refused
from fleetgate.gateway import body as bodies
from fleetgate.gateway import verdicts
from fleetgate.gateway.relay import Unsayable
from fleetgate.routing.plan import Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GOLDEN = Path(__file__).parent / "golden" / "pairs"
ERRORS = GOLDEN / "errors"
CASES = sorted(at for at in GOLDEN.iterdir() if at != ERRORS)
CALLERS = ("openai", "responses", "anthropic", "ollama")
PAIRS = tuple(
    (caller, upstream)
    for caller in CALLERS
    for upstream in ("openai", "anthropic")
    if (caller, upstream) != ("anthropic", "anthropic")  # passes as it is: see test_native
)
KINDS = {"openai": OpenAI(), "anthropic": Anthropic(), "ollama": OllamaEngine()}
REQUEST_ID, CREATED, MOST = "req_019aa0f0c4d2a1b2c3d4e5f6", 7, 8192
ASKED, ANSWERED = 1_767_225_600.25, 1_767_225_602.25


class Plain:
    """OpenAI's dialect as a dialect among others: everything passes."""

    def request(self, body: dict[str, Any]) -> Translated:
        return Translated(body)

    def answer(self, body: dict[str, Any], _memory: Any, _request_id: str) -> dict[str, Any]:
        return body

    def answering(self, _memory: Any, request_id: str) -> Passing:
        return Passing(request_id)

    def error_form(self, refused: Refused, request_id: str) -> openai.ErrorForm:
        return openai.error_form(refused, request_id)


@dataclass
class Passing:
    request_id: str

    def begin(self) -> bytes:
        return b""

    def feed(self, frame: bytes) -> bytes:
        return frame

    def end(self) -> bytes:
        return openai.END

    def fail(self, refused: Refused) -> bytes:
        return openai.error_frame(refused, self.request_id)


class Clock:
    def __init__(self) -> None:
        self.now = ASKED

    def __call__(self) -> float:
        return self.now


class Caller:
    """One request of a case, in the dialect of its caller."""

    def __init__(self, name: str, request: dict[str, Any]) -> None:
        self._clock = Clock()
        self.dialect: Any = {
            "openai": Plain(),
            "responses": RESPONSES,
            "anthropic": ANTHROPIC,
            "ollama": Ollama(Operation.CHAT, self._clock),
        }[name]
        self.translated = self.dialect.request(request)
        raw = json.dumps(self.translated.members).encode()
        self.body = bodies.parse(raw, bodies.BodyBudget(), compare=False)
        self.usage_wanted = self.body.wanted.usage if name == "openai" else True
        self._clock.now = ANSWERED

    def answer(self, chat: dict[str, Any]) -> dict[str, Any]:
        return json.loads(json.dumps(self.dialect.answer(chat, self.translated.memory, REQUEST_ID)))

    def answering(self) -> Any:
        return self.dialect.answering(self.translated.memory, REQUEST_ID)


def sent(caller: Caller, upstream: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The request as the upstream gets it, and what it did not take. Raises Refused."""
    wanted = caller.body.wanted
    chat = json.loads(caller.body.encode("up", stream=wanted.stream))
    if upstream == "openai":
        return chat, ()
    found = outbound(chat, most=MOST)
    return dict(found.members), found.left_out


def chat_answer(at: Path, upstream: str) -> dict[str, Any]:
    body = read(at, f"from-{upstream}.json")
    return body if upstream == "openai" else completion(body, CREATED)


class Upstream:
    """The stream of an upstream, piece by piece, as frames of the form between."""

    def __init__(self, name: str) -> None:
        self._cutter = sse.Cutter()
        self._chunks = Chunks(CREATED) if name == "anthropic" else None

    def feed(self, piece: bytes) -> list[bytes]:
        return [frame for event in self._cutter.feed(piece) for frame in self._frames(event)]

    def end(self) -> list[bytes]:
        rest = self._cutter.end()
        return list(self._frames(rest)) if rest and sse.is_complete(rest) else []

    def _frames(self, event: bytes) -> Sequence[bytes]:
        return [event] if self._chunks is None else self._chunks.feed(event)


def streamed(caller: Caller, upstream: str, pieces: Iterable[bytes]) -> bytes:
    """What the caller reads. A stream that broke ends with what the dialect says then."""
    source, reader, answering = Upstream(upstream), openai.Stream(strip_usage=True), caller.answering()
    out = bytearray(answering.begin())
    try:
        for piece in pieces:
            _take(caller, reader, answering, source.feed(piece), out)
            if reader.ended:
                break
        else:
            _take(caller, reader, answering, source.end(), out)
        broke = None if reader.finished else AttemptFailed(FailureClass.STREAM_BROKEN, "no finish reason")
    except Unsayable as failed:
        broke = failed
    except AttemptFailed as failed:
        broke = None if reader.whole else failed
    try:
        if broke is None:
            return bytes(out + answering.end())
    except AttemptFailed as failed:
        broke = failed
    return bytes(out + answering.fail(verdicts.broken(broke)))


def _take(caller: Caller, reader: openai.Stream, answering: Any, frames: list[bytes], out: bytearray) -> None:
    for frame in frames:
        look = reader.look(frame)
        if look is Look.END:
            return
        if look is Look.DROP and not caller.usage_wanted:
            continue
        try:
            out += answering.feed(frame)
        except AttemptFailed as failed:
            raise Unsayable(failed.failure, failed.text) from None


def pair(at: Path, caller: str, upstream: str) -> dict[str, Any]:
    """Everything of one pair."""
    asking = Caller(caller, read(at, f"{caller}.json"))
    try:
        body, not_taken = sent(asking, upstream)
    except Refused as refused:
        return {"left_out": [*asking.translated.left_out], "refused": refused.message}
    raw = (at / f"from-{upstream}.txt").read_bytes()
    return {
        "left_out": [*asking.translated.left_out, *not_taken],
        "sent": body,
        "answer": said(asking, at, upstream),
        "stream": streamed(asking, upstream, [raw]).decode().splitlines(),
    }


def said(asking: Caller, at: Path, upstream: str) -> Any:
    try:
        return asking.answer(chat_answer(at, upstream))
    except AttemptFailed as failed:
        return {"failed": failed.failure.value, "text": failed.text}


def refusal(at: Path) -> Refused:
    """What an error answer of an upstream comes to when nobody else is left."""
    found = read(at, "answer.json")
    body = found["body"] if isinstance(found["body"], str) else json.dumps(found["body"])
    raw, headers = body.encode(), found["headers"]
    failure = KINDS[found["kind"]].classify(found["status"], headers, raw)
    keys = (FailureClass.KEY_INVALID, FailureClass.KEY_UNFUNDED, FailureClass.KEY_FORBIDDEN)
    failed = AttemptFailed(
        failure,
        "" if failure in keys else error_text(raw),
        status=found["status"],
        retry_after=hints.retry_after(headers, ASKED, body=raw),
    )
    return verdicts.refusal(failed, (), Route("lab", "role", ()), 0.0)


def errors(at: Path) -> dict[str, Any]:
    """How each caller reads it."""
    refused = refusal(at)
    told = {}
    for caller in CALLERS:
        dialect = Caller(caller, read(GOLDEN / "plain", f"{caller}.json")).dialect
        form = dialect.error_form(refused, REQUEST_ID)
        headers = {name.decode(): text.decode() for name, text in form.headers}
        told[caller] = {"status": form.status, "headers": headers, "body": json.loads(form.body)}
    return told


def read(at: Path, name: str) -> Any:
    return json.loads((at / name).read_text("utf-8"))


def write(at: Path, name: str, value: Any) -> None:
    (at / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    for folder in CASES:
        for one, other in PAIRS:
            write(folder, f"{one}-to-{other}.json", pair(folder, one, other))
    for folder in sorted(ERRORS.iterdir()):
        write(folder, "told.json", errors(folder))
