"""The stream of llama.cpp's completion call as frames of the form between. Pure.

The frames are those that the engine's chat call would send: a role, pieces of text, a finish reason, the
usage, the end mark. The second part of an answer that broke off carries the id and the time of the first,
begins without a role, and its last frames tell the usage of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from fleetgate import sse
from fleetgate.domain import Usage

if TYPE_CHECKING:
    from fleetgate.dialects.llamacpp.trail import Trail

_encode: Final = msgspec.json.encode
_END: Final = b"data: [DONE]\n\n"
_OLD_ERROR: Final = b"error:"
DIVERGED: Final = "the second deployment does not say the same as the first"


class _Timed(msgspec.Struct):
    cache_n: int | None = None


_Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class _Piece(msgspec.Struct):
    content: str = ""
    tokens: list[_Id] = []
    stop: bool = False
    stop_type: str = ""
    tokens_predicted: int | None = None
    tokens_evaluated: int | None = None
    error: Any = None
    timings: msgspec.Raw = msgspec.Raw()


_piece: Final = msgspec.json.Decoder(_Piece)
_timed: Final = msgspec.json.Decoder(_Timed)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What stands in every frame of an answer."""

    id: str
    created: int
    model: str
    chat: bool


class Chunks:
    """One stream. `before`: tokens of the answer that others said; `again`: text that comes a second time."""

    __slots__ = (
        "_again",
        "_before",
        "_begun",
        "_over",
        "_stamp",
        "_trail",
        "diverged",
        "input_tokens",
        "output_tokens",
    )

    def __init__(self, stamp: Stamp, trail: Trail, before: int | None = None, again: str = "") -> None:
        self._stamp = stamp
        self._trail = trail
        self._before = before
        """None: it is the first"""
        self._again = again
        self._begun = before is not None
        self._over = False
        self.diverged = False
        """it does not say what went out"""
        self.input_tokens: int | None = None
        """read by this engine"""
        self.output_tokens = 0
        """made by this engine, as far as they went out"""

    @property
    def resumes(self) -> bool:
        """It is the second part."""
        return self._before is not None

    @property
    def usage(self) -> Usage:
        """What this part alone came to."""
        return Usage(self.input_tokens, self.output_tokens)

    def feed(self, event: bytes) -> list[bytes]:
        """The frames for one whole event. Comments go through."""
        data = sse.data_of(event)
        if data is None:
            if event.startswith(_OLD_ERROR):
                data = event[len(_OLD_ERROR) :].strip()
                return [_error(_words(data))]
            return [event]
        try:
            piece = _piece.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return [_error("what came is no piece of a completion")]
        if piece.error is not None:
            return [sse.frame(_encode({"error": piece.error}))]
        if self._over:
            return []
        return self._frames(piece)

    def ending(self, reason: str = "length") -> list[bytes]:
        """The last frames, without the engine's word: all tokens that were asked for were said."""
        self._over = True
        return [self._frame(self._choice("", reason)), self._told(None), _END]

    def _frames(self, piece: _Piece) -> list[bytes]:
        found: list[bytes] = []
        if not self._begun:
            self._begun = True
            if self._stamp.chat:
                role = {"role": "assistant", "content": None}
                found.append(self._frame({"index": 0, "delta": role, "finish_reason": None}))
        if piece.tokens_evaluated is not None:
            self.input_tokens = piece.tokens_evaluated
        text = piece.content
        if self._again and text:
            new = self._not_twice(text)
            if new is None:
                return [*found, self._differs()]
            text = new
        if piece.content or piece.stop:
            self.output_tokens = piece.tokens_predicted or self.output_tokens + len(piece.tokens)
        if self._before is None:
            self._trail.add(text, piece.tokens, piece.tokens_predicted)
        elif text:
            self._trail.characters += len(text)
        if text:
            found.append(self._frame(self._choice(text)))
        if piece.stop:
            if self._again:
                return [*found, self._differs()]
            self._over = True
            reason = "length" if piece.stop_type == "limit" else "stop"
            found += [self._frame(self._choice("", reason)), self._told(piece), _END]
        return found

    def _differs(self) -> bytes:
        """It is nobody's fault: engines need not agree to the last digit."""
        self.diverged = self._over = True
        return _error({"message": DIVERGED, "code": 400})

    def _not_twice(self, text: str) -> str | None:
        """What is new of a text; None: it is another text than the one that went out."""
        common = min(len(text), len(self._again))
        if text[:common] != self._again[:common]:
            return None
        self._again = self._again[common:]
        return text[common:]

    def _choice(self, text: str, reason: str | None = None) -> dict[str, Any]:
        if self._stamp.chat:
            return {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}

    def _told(self, piece: _Piece | None) -> bytes:
        """The frame of the usage."""
        given = len(self._trail.prompt)
        if self._before is None and self.input_tokens is not None:
            given = self.input_tokens
        made = self.output_tokens + (self._before or 0)
        usage: dict[str, Any] = {
            "prompt_tokens": given,
            "completion_tokens": made,
            "total_tokens": given + made,
        }
        further: dict[str, Any] = {"usage": usage}
        if self._before is None and piece is not None and bytes(piece.timings):
            further["timings"] = piece.timings
            cached = _cached(piece.timings)
            if cached is not None:
                usage["prompt_tokens_details"] = {"cached_tokens": cached}
        return self._frame(None, further)

    def _frame(self, choice: dict[str, Any] | None, further: dict[str, Any] | None = None) -> bytes:
        stamp = self._stamp
        chunk: dict[str, Any] = {
            "choices": [] if choice is None else [choice],
            "created": stamp.created,
            "id": stamp.id,
            "model": stamp.model,
            "object": "chat.completion.chunk" if stamp.chat else "text_completion",
        }
        return sse.frame(_encode(chunk if further is None else chunk | further))


def _cached(timings: msgspec.Raw) -> int | None:
    try:
        return _timed.decode(timings).cache_n
    except msgspec.DecodeError:
        return None


def _words(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return "the engine reported an error"


def _error(what: Any) -> bytes:
    return sse.frame(_encode({"error": what if isinstance(what, dict) else {"message": str(what)}}))
