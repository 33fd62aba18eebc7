"""What streams of named events have alike: those of Anthropic's Messages and of OpenAI's Responses. Pure."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate import sse
from fleetgate.dialects.openai import Look
from fleetgate.dialects.port import Translated
from fleetgate.domain import Timings, Usage
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

_EVENT: Final = re.compile(rb"^event:[ ]?([\w.]+)", re.MULTILINE)
_QUOTA: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_WORDS: Final[Mapping[str, FailureClass]] = {
    "context_length_exceeded": FailureClass.CONTEXT_TOO_LONG,
    "content_policy_violation": FailureClass.REFUSED_CONTENT,
    "content_filter": FailureClass.REFUSED_CONTENT,
    "rate_limit_exceeded": FailureClass.RATE_LIMITED,
    "rate_limit_error": FailureClass.RATE_LIMITED,
    "authentication_error": FailureClass.KEY_INVALID,
    "invalid_api_key": FailureClass.KEY_INVALID,
    "billing_error": FailureClass.KEY_UNFUNDED,
    "permission_error": FailureClass.KEY_FORBIDDEN,
    "not_found_error": FailureClass.MODEL_MISSING,
    "model_not_found": FailureClass.MODEL_MISSING,
    "invalid_request_error": FailureClass.BAD_REQUEST,
    "invalid_prompt": FailureClass.BAD_REQUEST,
    "request_too_large": FailureClass.BAD_REQUEST,
} | dict.fromkeys(_QUOTA, FailureClass.QUOTA_EXHAUSTED)
"""code or type of an error inside an answer; every other one is a fault of the upstream"""


_READ_TOO: Final = ("system", "instructions", "tools")
"""what a model reads beside the conversation, and what is paid with it"""
UNSIGNED: Final = "it takes back only thoughts that it signed itself"


def name_of(frame: bytes) -> bytes:
    """The name of an event, by its own line, else by the `type` of its data; empty: it has none."""
    if (found := _EVENT.search(frame)) is not None:
        return found[1]
    kind = data_of(frame).get("type")
    return kind.encode() if isinstance(kind, str) else b""


def data_of(frame: bytes) -> dict[str, Any]:
    """The object of an event; an empty one where there is none. Raises AttemptFailed (garbage)."""
    data = sse.data_of(frame)
    if data is None or data.strip() == b"[DONE]":
        return {}
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise AttemptFailed(FailureClass.GARBAGE, "a frame of the stream is not JSON") from None
    return value if isinstance(value, dict) else {}


def object_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def failure_of(error: Any) -> AttemptFailed:
    """What an error inside an answer stands for: by its code or type."""
    found = object_of(error)
    words = (found.get("code"), found.get("type"))
    classes = [_WORDS[one] for one in words if isinstance(one, str) and one in _WORDS]
    text = str(found.get("message") or "the upstream reported an error inside its answer")
    return AttemptFailed(classes[0] if classes else FailureClass.SERVER_ERROR, text)


class OfEvents:
    """What such dialects have alike: they are asked at one path, and all members stand at the top."""

    length: str
    """the member that bounds an answer"""
    at: Final = ""
    stream_type: Final = sse.EVENTS
    hosted: Final = True

    def outline(self, body: Mapping[str, Any]) -> Translated:
        known = {"model": body.get("model"), "stream": body.get("stream") or False}
        if isinstance(body.get(self.length), int):
            known["max_tokens"] = body[self.length]
        read = {name: body[name] for name in _READ_TOO if body.get(name)}
        return Translated(known | read | {"messages": body.get("messages") or body.get("input") or []})

    def longest(self, members: Mapping[str, msgspec.Raw]) -> int | None:
        found = members.get(self.length)
        value = msgspec.json.decode(found) if found is not None else None
        return value if type(value) is int and value > 0 else None

    def bound(self, members: dict[str, msgspec.Raw], most: int) -> None:
        members[self.length] = msgspec.Raw(b"%d" % most)

    def cutter(self) -> sse.Cutter:
        return sse.Cutter()


class EventReader(ABC):
    """Reads a stream of named events. A dialect says in `_look` what each event means.

    Before the first content every event is decoded; afterwards those alone that say how it ended.
    """

    strip_usage = False
    """usage never stands in a frame of its own"""
    timings: Timings | None = None
    answer_id = ""

    def __init__(self) -> None:
        self.committed = False
        self.ended = False
        self.frames = 0
        self.reasons: set[str] = set()
        self.end_mark = b""
        self._mute = True
        self._usage = Usage()

    @property
    def usage(self) -> Usage:
        return self._usage

    @property
    def finished(self) -> bool:
        return bool(self.reasons)

    @property
    def whole(self) -> bool:
        return bool(self.reasons)

    @property
    def unsaid(self) -> bool:
        return self._mute and self.reasons == {"length"}

    def look(self, frame: bytes) -> Look:
        """What `frame` is. Raises AttemptFailed for an error inside the stream."""
        name = name_of(frame)
        if not name:
            return self._quiet()
        return self._look(name, frame)

    @abstractmethod
    def _look(self, name: bytes, frame: bytes) -> Look:
        """What an event of this name is."""

    def _content(self, *, said: bool) -> Look:
        """A piece of the answer. `said`: it is more than a thought."""
        self._mute = self._mute and not said
        if self.committed:
            return Look.PASS
        self.committed = True
        return Look.CONTENT

    def _finished(self) -> Look:
        self.committed = True
        return Look.FINISH

    def _quiet(self) -> Look:
        return Look.PASS if self.committed else Look.HOLD

    def _end(self, frame: bytes) -> Look:
        self.ended = True
        self.end_mark = frame
        return Look.END

    def _fail(self, error: Any) -> AttemptFailed:
        found = failure_of(error)
        if self.committed:
            return AttemptFailed(FailureClass.STREAM_BROKEN, found.text, status=found.status)
        return found
