"""How one caller is read and answered: its dialect, for one exchange.

Callers who speak OpenAI's dialect are passed through. For all others the request is translated before
anything else looks at it, and the answer as the last thing, so that routing, limits, the cache and the
ledger know one form only. Two callers of different dialects who ask the same get the same stored answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.dialects.responses import IN_CHAT, looks_like_responses
from fleetgate.domain import Capability
from fleetgate.errors import AttemptFailed, FailureClass, Refused
from fleetgate.gateway import body as bodies
from fleetgate.gateway.downstream import STREAM_HEADERS
from fleetgate.gateway.native import Original

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetgate.dialects.openai import ErrorForm
    from fleetgate.dialects.port import Answering, Dialect, Native, Reader
    from fleetgate.gateway.body import Body
    from fleetgate.gateway.downstream import Headers
    from fleetgate.gateway.spool import BodyBudget

JSON: Final = b"application/json"
LONGEST: Final = 64 * 1024 * 1024
"""Bytes of a stream that is translated: its dialect may have to keep what it said until the end."""
KEEP_ALIVE: Final = sse.comment("keep-alive")
_SAID: Final = (None, Capability.CHAT, Capability.COMPLETE)
"""work whose requests may pass"""
_decode: Final = msgspec.json.Decoder().decode


class Speech(Protocol):
    """The caller's side of an exchange."""

    capability: Capability | None
    """another kind of work than that of the route"""
    preparing: bytes | None
    """the answer to a request that only wants the model in memory"""
    left_out: tuple[str, ...]
    """what had no place in the form between, by name"""

    def read(self, raw: bytes, budget: BodyBudget, *, compare: bool) -> Body:
        """the request in the form between; raises Refused"""
        ...

    def usage_wanted(self, body: Body) -> bool:
        """whether frames of usage go out"""
        ...

    def stream_headers(self) -> Headers: ...

    def json_headers(self) -> Headers: ...

    def sign(self, text: str | None) -> bytes:
        """a sign of life in a stream; `text`: what is waited for"""
        ...

    def mark(self, text: str) -> bytes:
        """a remark inside a stream; empty where the dialect has no place for it"""
        ...

    def whole(self, answer: bytes) -> bytes: ...

    def frames(self, frames: Sequence[bytes]) -> bytes: ...

    def end(self) -> bytes:
        """what ends a good stream"""
        ...

    def error_form(self, refused: Refused) -> ErrorForm: ...

    def error_frame(self, refused: Refused) -> bytes: ...


def spoken_in_chat(raw: bytes, request_id: str) -> Speech | None:
    """Some clients send bodies of the Responses API to chat completions, and read chat completions back."""
    if b'"messages"' in raw or b'"input"' not in raw:
        return None
    try:
        value = _decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if not isinstance(value, dict) or not looks_like_responses(value):
        return None
    return Translating(IN_CHAT, request_id)


class Plain:
    """OpenAI's dialect: bytes pass."""

    __slots__ = ("_request_id",)

    capability: Capability | None = None
    preparing: bytes | None = None
    left_out: tuple[str, ...] = ()

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def read(self, raw: bytes, budget: BodyBudget, *, compare: bool) -> Body:
        return bodies.parse(raw, budget, compare=compare)

    def usage_wanted(self, body: Body) -> bool:
        return body.wanted.usage

    def stream_headers(self) -> Headers:
        return [*STREAM_HEADERS]

    def json_headers(self) -> Headers:
        return [(b"content-type", JSON)]

    def sign(self, text: str | None) -> bytes:
        return KEEP_ALIVE if text is None else sse.comment(text)

    def mark(self, text: str) -> bytes:
        return sse.comment(text)

    def whole(self, answer: bytes) -> bytes:
        return answer

    def frames(self, frames: Sequence[bytes]) -> bytes:
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def end(self) -> bytes:
        return openai.END

    def error_form(self, refused: Refused) -> ErrorForm:
        return openai.error_form(refused, self._request_id)

    def error_frame(self, refused: Refused) -> bytes:
        return openai.error_frame(refused, self._request_id)


class Translating:
    """Any other dialect."""

    __slots__ = (
        "_answering",
        "_begun",
        "_dialect",
        "_memory",
        "_request_id",
        "_size",
        "capability",
        "left_out",
        "opened",
        "preparing",
    )

    def __init__(self, dialect: Dialect, request_id: str) -> None:
        self._dialect = dialect
        self._request_id = request_id
        self._memory: Any = None
        self.left_out: tuple[str, ...] = ()
        self._answering: Answering | None = None
        self._begun = False
        self._size = 0
        self.opened = False
        """signs of life have opened the answer"""
        self.capability: Capability | None = None
        self.preparing: bytes | None = None

    def read(self, raw: bytes, budget: BodyBudget, *, compare: bool) -> Body:
        value = bodies.json_object(raw)
        native = self._dialect.native
        try:
            translated = self._dialect.request(value)
        except Refused as refused:
            if native is None or not native.passes(refused):
                raise
            known = native.outline(value)
            self._memory = known.memory
            body = bodies.parse(msgspec.json.encode(known.members), budget, compare=False, held=len(raw))
            body.original = Original(native, raw, refused)
            return body
        self._memory, self.left_out = translated.memory, translated.left_out
        self.capability = translated.capability
        if translated.preparing is not None:
            self.preparing = msgspec.json.encode(translated.preparing)
        body = bodies.parse(msgspec.json.encode(translated.members), budget, compare=compare, held=len(raw))
        body.translated = True
        if native is not None and self.capability in _SAID and translated.preparing is None:
            body.original = Original(native, raw, plain=native.is_plain(value))
        return body

    def usage_wanted(self, body: Body) -> bool:  # noqa: ARG002  (every other dialect ends with its usage)
        return True

    def stream_headers(self) -> Headers:
        headers = [(name, text) for name, text in STREAM_HEADERS if name != b"content-type"]
        return [(b"content-type", self._dialect.stream_type), *headers]

    def json_headers(self) -> Headers:
        return [(b"content-type", JSON)]

    def sign(self, text: str | None) -> bytes:
        sign = self._answer().alive()
        if not sign.startswith(b":"):
            self.opened = True
            return sign
        return sign if text is None else sse.comment(text)

    def mark(self, text: str) -> bytes:
        return sse.comment(text) if self._dialect.stream_type.startswith(b"text/event-stream") else b""

    def whole(self, answer: bytes) -> bytes:
        """Raises AttemptFailed (garbage) where it cannot be said in this dialect."""
        try:
            value = _decode(answer)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise AttemptFailed(FailureClass.GARBAGE, f"the answer is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise AttemptFailed(FailureClass.GARBAGE, "the answer is not an object")
        return msgspec.json.encode(self._dialect.answer(value, self._memory, self._request_id))

    def frames(self, frames: Sequence[bytes]) -> bytes:
        answering = self._answer()
        self._size += sum(map(len, frames))
        if self._size > LONGEST:
            raise AttemptFailed(FailureClass.GARBAGE, f"the answer is larger than {LONGEST} bytes")
        opening = b"" if self._begun else answering.begin()
        self._begun = True
        feed = answering.feed
        return opening + b"".join([feed(frame) for frame in frames])

    def end(self) -> bytes:
        return self._answer().end()

    def _answer(self) -> Answering:
        if self._answering is None:
            self._answering = self._dialect.answering(self._memory, self._request_id)
        return self._answering

    def error_form(self, refused: Refused) -> ErrorForm:
        return self._dialect.error_form(refused, self._request_id)

    def error_frame(self, refused: Refused) -> bytes:
        return self._answer().fail(refused)


class Untouched:
    """An answer in the caller's own dialect, as the upstream gave it."""

    __slots__ = ("_inner", "_native", "_opened", "_reader", "_request_id")

    capability: Capability | None = None
    preparing: bytes | None = None
    left_out: tuple[str, ...] = ()

    def __init__(self, inner: Speech, native: Native, reader: Reader | None, request_id: str) -> None:
        """`reader`: of a streamed answer."""
        self._inner = inner
        self._native = native
        self._reader = reader
        self._request_id = request_id
        self._opened = isinstance(inner, Translating) and inner.opened

    def read(self, raw: bytes, budget: BodyBudget, *, compare: bool) -> Body:
        return self._inner.read(raw, budget, compare=compare)

    def usage_wanted(self, body: Body) -> bool:  # noqa: ARG002  (usage never stands alone)
        return True

    def stream_headers(self) -> Headers:
        return self._inner.stream_headers()

    def json_headers(self) -> Headers:
        return self._inner.json_headers()

    def sign(self, text: str | None) -> bytes:
        return self._inner.sign(text)

    def mark(self, text: str) -> bytes:
        return self._inner.mark(text)

    def whole(self, answer: bytes) -> bytes:
        return answer

    def frames(self, frames: Sequence[bytes]) -> bytes:
        if self._opened:
            return b"".join([self._native.reopened(one, self._request_id) for one in frames])
        return b"".join(frames)

    def end(self) -> bytes:
        return self.frames([self._reader.end_mark]) if self._reader is not None else b""

    def error_form(self, refused: Refused) -> ErrorForm:
        return self._inner.error_form(refused)

    def error_frame(self, refused: Refused) -> bytes:
        begun = self._reader.answer_id if self._reader is not None and not self._opened else ""
        return self._native.fail(refused, self._request_id, begun)
