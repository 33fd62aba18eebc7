"""Text between two others, as editors ask for it: `suffix` of a completion, at llama.cpp's own call. Pure.

Its completion call ignores `suffix`, so the answer would be one to another question. Answers and pieces of
streams have the shape of its own completion call; the stream has no end mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from fleetgate import sse
from fleetgate.dialects.timings import read_timings
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

_LENGTHS: Final = ("n_predict", "max_tokens", "max_completion_tokens")
"""as the engine's completion call reads them: the first one counts"""
_REFUSED: Final = {
    "echo": (b"false",),
    "logprobs": (b"0", b"false"),
    "n": (b"1",),
}
"""members without which the answer would lack something, and values that ask for nothing"""
_DROPPED: Final = ("stream_options", "best_of", "suffix", "prompt", *_LENGTHS, *_REFUSED)
_NOTHING: Final = (b"null", b'""')
_END: Final = b"data: [DONE]\n\n"
_OLD_ERROR: Final = b"error:"
_split: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.encode


class _Gap(msgspec.Struct):
    suffix: msgspec.Raw = msgspec.Raw(b"null")


_gap: Final = msgspec.json.Decoder(_Gap)


def asks(body: bytes) -> bool:
    """Whether a completion has a gap to fill."""
    try:
        return bytes(_gap.decode(body).suffix) not in _NOTHING
    except msgspec.DecodeError:
        return False


def request(body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """What is sent, and the names of what was left out. Raises AttemptFailed for what cannot be had there."""
    members = _split(body)
    for name, nothing in _REFUSED.items():
        if bytes(members.get(name, msgspec.Raw(b"null"))) not in (b"null", *nothing):
            _absent(f"`{name}` cannot be had there: with `suffix` there is one answer, and its text only")
    sent = {name: value for name, value in members.items() if name not in _DROPPED}
    sent["input_prefix"] = msgspec.Raw(_encode(_text(members.get("prompt"), "prompt")))
    sent["input_suffix"] = msgspec.Raw(_encode(_text(members["suffix"], "suffix")))
    longest = next((members[name] for name in _LENGTHS if _is_said(members.get(name))), None)
    if longest is not None:
        sent["n_predict"] = longest
    stop = members.get("stop")
    if stop is not None and bytes(stop).startswith(b'"'):
        sent["stop"] = msgspec.Raw(b"[" + bytes(stop) + b"]")
    left_out = ("best_of",) if bytes(members.get("best_of", msgspec.Raw(b"1"))) not in (b"null", b"1") else ()
    return _encode(sent), left_out


@dataclass(frozen=True, slots=True)
class Stamp:
    """What stands in every part of an answer, and is not in the engine's."""

    id: str
    created: int
    model: str


def whole(body: bytes, stamp: Stamp) -> bytes:
    """A whole answer as a completion. Raises AttemptFailed (garbage)."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        _garbage(f"the answer is not JSON: {error}")
    if not isinstance(found, dict):
        _garbage("the answer is no object")
    if found.get("error"):
        return _encode({"error": found["error"]})
    if not isinstance(found.get("content"), str):
        _garbage("the answer has no content")
    form = _head(stamp) | {"choices": [_choice(found["content"], _reason(found))]}
    return _encode(form | _told(found))


class Chunks:
    """One stream: events of the call in, frames of a completion out."""

    __slots__ = ("_over", "_stamp")

    def __init__(self, stamp: Stamp) -> None:
        self._stamp = stamp
        self._over = False

    def feed(self, event: bytes) -> list[bytes]:
        """The frames for one whole event. Comments go through, and so do errors."""
        data = sse.data_of(event)
        if data is None:
            if not event.startswith(_OLD_ERROR):
                return [event]
            data = b'{"error":' + event[len(_OLD_ERROR) :].strip() + b"}"
        if self._over:
            return []
        try:
            found = _decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            _garbage("a piece of the stream is not JSON")
        if not isinstance(found, dict):
            _garbage("a piece of the stream is no object")
        if found.get("error"):
            return [sse.frame(_encode({"error": found["error"]}))]
        return self._frames(found)

    def _frames(self, found: Mapping[str, Any]) -> list[bytes]:
        text = found.get("content")
        if not isinstance(text, str):
            _garbage("a piece of the stream has no content")
        head = _head(self._stamp)
        frames = [head | {"choices": [_choice(text, None)]}] if text else []
        if found.get("stop") is True:
            self._over = True
            frames.append(head | {"choices": [_choice("", _reason(found))]})
            frames.append(head | {"choices": []} | _told(found))
        framed = [sse.frame(_encode(one)) for one in frames]
        return [*framed, _END] if self._over else framed


def _head(stamp: Stamp) -> dict[str, Any]:
    return {"id": stamp.id, "object": "text_completion", "created": stamp.created, "model": stamp.model}


def _choice(text: str, reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": reason}


def _reason(found: Mapping[str, Any]) -> str:
    """Older builds say it by a member of its own."""
    cut = found.get("stop_type") == "limit" or found.get("stopped_limit") is True
    return "length" if cut else "stop"


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    """Usage, and what the engine measured. What it did not count is not there."""
    given, made = _count(found.get("tokens_evaluated")), _count(found.get("tokens_predicted"))
    usage: dict[str, Any] = {}
    if given is not None and made is not None:
        usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
        timings = read_timings(found.get("timings"))
        if timings is not None and timings.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": timings.cached_tokens}
    told = {"usage": usage, "timings": found.get("timings")}
    return {name: value for name, value in told.items() if value}


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _is_said(value: msgspec.Raw | None) -> bool:
    return value is not None and bytes(value) != b"null"


def _text(value: msgspec.Raw | None, name: str) -> str:
    """One text, or a list of one."""
    found = _decode(value) if value is not None else ""
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, str):
        _absent(f"`{name}` must be one text where a gap is to be filled")
    return found


def _absent(why: str) -> NoReturn:
    raise AttemptFailed(FailureClass.ABSENT_FEATURE, why, status=400)


def _garbage(why: str) -> NoReturn:
    raise AttemptFailed(FailureClass.GARBAGE, why)
