"""Chats and prompts as they pass to upstreams that speak Ollama's dialect. Pure.

What is not the caller's to say goes: how a model is loaded (another value has Ollama load it anew, for all
who use it), how long it stays in memory, and the template, which is a program. What is configured for the
engine is said instead, because a request without `keep_alive` leaves the model the time that it had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects import openai
from fleetgate.dialects.events import object_of
from fleetgate.dialects.ollama import errors
from fleetgate.dialects.ollama.asked import Asked, Operation
from fleetgate.dialects.ollama.lines import Cutter
from fleetgate.dialects.ollama.table import LOADING
from fleetgate.dialects.openai import Look
from fleetgate.dialects.port import Altered, Translated
from fleetgate.domain import Capability, Timings, Usage
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetgate.dialects.port import Facts
    from fleetgate.errors import Refused

_HOW_LOADED: Final = "how a model is loaded is set per engine"
_GONE: Final[Mapping[str, str]] = {
    "keep_alive": "how long a model stays in memory is set per engine",
    "shift": "another value has the model loaded anew",
    "template": "a template is a program: engines run their own only",
    "_debug_render_only": "it is answered by no model",
}
_NULL: Final = msgspec.Raw(b"null")
_SAYS_NOTHING: Final = frozenset({b"null", b'""'})
_LENGTH: Final = "num_predict"
_CUT: Final = "length"
_MOST: Final = 1 << 53
_NANO: Final = 1e9
_options: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.encode


class AsWritten:
    """`/api/chat` or `/api/generate` at an upstream that knows it. `name_of` turns a name as Ollama prints it
    into ours."""

    name: Final = "ollama"
    stream_type: Final = "application/x-ndjson"
    hosted: Final = False

    def __init__(
        self, operation: Operation, wall: Callable[[], float], name_of: Callable[[str], str]
    ) -> None:
        self.at = f"/{operation}"
        self._operation = operation
        self._wall = wall
        self._name_of = name_of

    def reopened(self, frame: bytes, request_id: str) -> bytes:  # noqa: ARG002  (nothing opens lines)
        return frame

    def fail(self, refused: Refused, request_id: str, answer_id: str) -> bytes:  # noqa: ARG002  (not in errors)
        return errors.error_frame(refused, request_id)

    def passes(self, refused: Refused) -> bool:
        """An engine knows its own tokens, and what its models see. Nobody runs a caller's template."""
        return refused.code == "unsupported" and refused.param != "template"

    def is_plain(self, body: Mapping[str, Any]) -> bool:  # noqa: ARG002  (it is their own dialect)
        return True

    def outline(self, body: Mapping[str, Any]) -> Translated:
        model = str(body.get("model"))
        known: dict[str, Any] = {"model": self._name_of(model), "stream": body.get("stream") is not False}
        most = object_of(body.get("options")).get(_LENGTH)
        if type(most) is int and most > 0:
            known["max_tokens"] = most
        turns = body.get("messages")
        known["messages"] = [_seen(one) for one in (turns if isinstance(turns, list) else [body])]
        known |= {"tools": tools} if (tools := body.get("tools")) else {}
        return Translated(known, memory=Asked(self._operation, Capability.CHAT, model, self._wall()))

    def longest(self, members: Mapping[str, msgspec.Raw]) -> int | None:
        return _count(_value(_options_of(members).get(_LENGTH)))

    def bound(self, members: dict[str, msgspec.Raw], most: int) -> None:
        members["options"] = msgspec.Raw(_encode(_options_of(members) | {_LENGTH: most}))

    def prepare(self, members: dict[str, msgspec.Raw], facts: Facts) -> list[Altered]:
        """Raises AttemptFailed where options are none."""
        members.setdefault("stream", msgspec.Raw(b"false"))  # it streams where nothing is said
        found = [
            Altered(name, why)
            for name, why in _GONE.items()
            if bytes(members.pop(name, _NULL)) not in _SAYS_NOTHING
        ]
        options = _options_of(members)
        altered = _reduce(options, facts)
        if altered:
            members["options"] = msgspec.Raw(_encode(options))
        if facts.keep is not None:
            members["keep_alive"] = msgspec.Raw(b"-1" if facts.keep < 0 else b"%d" % round(facts.keep))
        return [*found, *altered]

    def cutter(self) -> Cutter:
        return Cutter()

    def reader(self) -> Reader:
        return Reader()

    def gathering(self) -> Gathering:
        return Gathering(self._operation)

    def read_whole(self, body: bytes) -> tuple[Usage, Timings | None, bool]:
        found = _line(body)
        if found.error:
            raise _failure(found.error)
        if not found.done or (found.message is None and found.response is None):
            raise AttemptFailed(FailureClass.GARBAGE, "the answer is no whole one")
        unsaid = found.done_reason == _CUT and not _said(found)
        return _usage(found), _timings(found), unsaid


class _Line(msgspec.Struct):
    """An object of an answer, as far as it is read. Nothing in it is trusted to be of its type."""

    message: Any = None
    response: Any = None
    thinking: Any = None
    image: Any = None
    done: Any = False
    done_reason: Any = None
    error: Any = None
    prompt_eval_count: Any = None
    prompt_eval_duration: Any = None
    eval_count: Any = None
    eval_duration: Any = None


_lines: Final = msgspec.json.Decoder(_Line)


class Reader:
    """The lines of one answer. Each has about one token, and the last one the counters."""

    strip_usage = False
    """usage never stands in a line of its own"""
    answer_id = ""

    def __init__(self) -> None:
        self.committed = False
        self.ended = False
        self.frames = 0
        self.reasons: set[str] = set()
        self.timings: Timings | None = None
        self.end_mark = b""
        self.usage = Usage()
        self._mute = True

    @property
    def finished(self) -> bool:
        return self.ended

    @property
    def whole(self) -> bool:
        return self.ended

    @property
    def unsaid(self) -> bool:
        return self._mute and self.reasons == {_CUT}

    def look(self, frame: bytes) -> Look:
        """Raises AttemptFailed for what is no object, and for an error. A line that says nothing is a sign of
        life, wherever it stands."""
        line = _line(frame)
        if line.error:
            raise self._fail(line.error)
        said = _said(line)
        self._mute = self._mute and not said
        if line.done:
            return self._end(line, frame)
        if not said and not _thought(line):
            return Look.HOLD
        self.frames += 1
        if self.committed:
            return Look.PASS
        self.committed = True
        return Look.CONTENT

    def _end(self, line: _Line, frame: bytes) -> Look:
        self.ended = True
        self.end_mark = frame
        self.reasons.add(str(line.done_reason or "stop"))
        self.usage, self.timings = _usage(line), _timings(line)
        return Look.END

    def _fail(self, error: Any) -> AttemptFailed:
        found = _failure(error)
        if self.committed:
            return AttemptFailed(FailureClass.STREAM_BROKEN, found.text, status=found.status)
        return found


class Gathering:
    """A whole answer out of its lines: the last one, with what all of them said."""

    def __init__(self, operation: Operation) -> None:
        self._chat = operation is Operation.CHAT
        self._last: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {"content": [], "response": [], "thinking": []}
        self._calls: list[Any] = []
        self._probabilities: list[Any] = []

    def add(self, frame: bytes) -> None:
        try:
            line = object_of(msgspec.json.decode(frame))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise _garbage() from None
        said = object_of(line.get("message")) if self._chat else line
        for name, pieces in self._texts.items():
            if isinstance(piece := said.get(name), str):
                pieces.append(piece)
        self._calls += _list(said.get("tool_calls"))
        self._probabilities += _list(line.get("logprobs"))
        self._last = line

    def body(self) -> bytes:
        texts = {name: "".join(pieces) for name, pieces in self._texts.items()}
        beside: dict[str, Any] = {"thinking": texts["thinking"]} if texts["thinking"] else {}
        if self._calls:
            beside["tool_calls"] = self._calls
        whole = self._last
        if self._chat:
            message = {"role": "assistant", **object_of(whole.get("message")), "content": texts["content"]}
            whole["message"] = message | beside
        else:
            whole |= {"response": texts["response"], **beside}
        if self._probabilities:
            whole["logprobs"] = self._probabilities
        return _encode(whole)


def _reduce(options: dict[str, msgspec.Raw], facts: Facts) -> list[Altered]:
    """Take out of the options what says how a model is loaded, and keep the answer to what fits."""
    altered = []
    for name in LOADING:
        raw = options.get(name)
        if raw is None or (name == "num_ctx" and facts.loaded and _count(_value(raw)) == facts.loaded):
            continue
        del options[name]
        if bytes(raw) not in _SAYS_NOTHING:
            altered.append(Altered(f"options.{name}", _HOW_LOADED))
    most = _count(_value(options.get(_LENGTH)))
    if facts.fits is not None and most is not None and most > facts.fits:
        options[_LENGTH] = msgspec.Raw(b"%d" % facts.fits)
        altered.append(Altered(f"options.{_LENGTH}", "no more fits into the model", str(facts.fits)))
    return altered


def _options_of(members: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    raw = members.get("options")
    if raw is None or bytes(raw) == b"null":
        return {}
    try:
        return _options.decode(raw)
    except msgspec.DecodeError:
        raise AttemptFailed(FailureClass.BAD_REQUEST, "`options` must be an object", status=400) from None


def _value(raw: msgspec.Raw | None) -> Any:
    return None if raw is None else msgspec.json.decode(raw)


def _seen(turn: Any) -> dict[str, Any]:
    """A message, or a prompt, with marks where its pictures are."""
    found = object_of(turn)
    text = found.get("content") or found.get("prompt") or ""
    pictures = [{"type": "image_url"} for _ in _list(found.get("images"))]
    content = [*pictures, {"type": "text", "text": text}] if pictures else text
    return {"role": found.get("role") or "user", "content": content}


def _line(frame: bytes) -> _Line:
    try:
        return _lines.decode(frame)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _garbage() from None


def _garbage() -> AttemptFailed:
    return AttemptFailed(FailureClass.GARBAGE, "what came is no object of JSON")


def _failure(error: Any) -> AttemptFailed:
    return openai.failure_in_band(_encode(error))


def _said(line: _Line) -> bool:
    message = line.message
    if isinstance(message, dict):
        return bool(message.get("content") or message.get("tool_calls"))
    return bool(line.response or line.image)


def _thought(line: _Line) -> bool:
    message = line.message
    return bool(message.get("thinking") if isinstance(message, dict) else line.thinking)


def _usage(line: _Line) -> Usage:
    return Usage(_count(line.prompt_eval_count), _count(line.eval_count))


def _timings(line: _Line) -> Timings | None:
    """The count of the prompt has what was still held of it, so nobody knows how much of it was read."""
    prompt, decode = _seconds(line.prompt_eval_duration), _seconds(line.eval_duration)
    if prompt is None and decode is None:
        return None
    return Timings(prompt_seconds=prompt, output_tokens=_count(line.eval_count), decode_seconds=decode)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST else None


def _seconds(nanoseconds: Any) -> float | None:
    """Zero stands where nothing was measured."""
    return nanoseconds / _NANO if type(nanoseconds) is int and 0 < nanoseconds < _MOST else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
