"""Completions at Mistral, with or without a gap: a call of its own, answered in the shape of chats. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fleetgate import sse
from fleetgate.errors import AttemptFailed, FailureClass

KNOWN: Final = frozenset(
    {"model", "prompt", "suffix", "stream", "temperature", "top_p", "max_tokens", "min_tokens", "stop"}
    | {"random_seed", "metadata"}
)
"""members of the call; any other one is refused there"""
_NOTHING: Final = (b"null", b"0", b"1", b"false", b'""', b"[]", b"{}")
_split: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.encode


def request(body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """What is sent, and the names of what was left out. Raises AttemptFailed for what cannot be had there."""
    members = _split(body)
    if not bytes(members.get("prompt", b"null")).startswith(b'"'):
        raise AttemptFailed(
            FailureClass.ABSENT_FEATURE, "`prompt` must be one text: nothing else can be completed there"
        )
    if "seed" in members:
        members.setdefault("random_seed", members["seed"])
    for name in ("n", "echo", "logprobs"):
        if bytes(members.get(name, b"null")) not in _NOTHING:
            raise AttemptFailed(FailureClass.ABSENT_FEATURE, f"`{name}` cannot be had there")
    gone = {name: value for name, value in members.items() if name not in KNOWN and name != "seed"}
    told = tuple(name for name, value in gone.items() if bytes(value) not in _NOTHING)
    sent = {name: value for name, value in members.items() if name in KNOWN}
    return _encode(sent), tuple(name for name in told if name not in ("stream_options", "user"))


def whole(body: bytes) -> bytes:
    """A whole answer as a completion. Raises AttemptFailed (garbage)."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise AttemptFailed(FailureClass.GARBAGE, f"the answer is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise AttemptFailed(FailureClass.GARBAGE, "the answer is no object")
    return _encode(_as_completion(found, "message"))


class Pieces:
    """One stream: frames of a chat in, frames of a completion out."""

    __slots__ = ()

    def feed(self, event: bytes) -> list[bytes]:
        """The frame for one whole event; comments, the end mark and what is no JSON go through."""
        data = sse.data_of(event)
        if data is None or data.strip() == b"[DONE]":
            return [event]
        try:
            found = _decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return [event]
        return [sse.frame(_encode(_as_completion(found, "delta")))] if isinstance(found, dict) else [event]


def _as_completion(found: dict[str, Any], said: str) -> dict[str, Any]:
    choices = found.get("choices")
    if not isinstance(choices, list):
        return found
    return {**found, "object": "text_completion", "choices": [_choice(one, said) for one in choices]}


def _choice(choice: Any, said: str) -> Any:
    if not isinstance(choice, dict):
        return choice
    message = choice.get(said)
    rest = {name: value for name, value in choice.items() if name != said}
    return {**rest, "text": _text(message.get("content")) if isinstance(message, dict) else ""}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(one.get("text") or "") for one in content if isinstance(one, dict))
    return content if isinstance(content, str) else ""
