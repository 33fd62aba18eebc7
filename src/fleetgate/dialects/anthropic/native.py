"""Messages as they pass to upstreams that speak them: signatures, cache marks and server tools stay. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects.anthropic import errors
from fleetgate.dialects.anthropic.upstream.answer import finish, usage_block
from fleetgate.dialects.events import UNSIGNED, EventReader, OfEvents, data_of, failure_of, object_of
from fleetgate.dialects.port import Altered
from fleetgate.dialects.usage import read_usage
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.openai import Look
    from fleetgate.dialects.port import Facts
    from fleetgate.domain import Timings, Usage
    from fleetgate.errors import Refused

_SAID: Final = frozenset({"text_delta", "input_json_delta", "citations_delta"})
_SHOWN: Final = ("text", "thinking", "partial_json", "citation")
_THOUGHT: Final = frozenset({"thinking", "redacted_thinking"})
_ROLES: Final = frozenset({"user", "assistant"})
_UNSIGNED: Final = "messages[].thinking"
_objects: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_blocks: Final = msgspec.json.Decoder(list[Any])
_encode: Final = msgspec.json.encode


class Messages(OfEvents):
    """`/v1/messages` at an upstream that knows it."""

    name: Final = "anthropic"
    length = "max_tokens"

    def reopened(self, frame: bytes, request_id: str) -> bytes:  # noqa: ARG002  (signs are comments here)
        return frame

    def fail(self, refused: Refused, request_id: str, answer_id: str) -> bytes:  # noqa: ARG002  (not in errors)
        return errors.error_frame(refused, request_id)

    def passes(self, refused: Refused) -> bool:
        """Files, server tools and the like are known to Anthropic, only not to other models."""
        return refused.code == "not_translatable"

    def is_plain(self, body: Mapping[str, Any]) -> bool:
        """Claude Code writes turns of the role system into every conversation: most templates refuse them."""
        turns = body.get("messages")
        return isinstance(turns, list) and all(object_of(one).get("role") in _ROLES for one in turns)

    def prepare(self, members: dict[str, msgspec.Raw], facts: Facts) -> list[Altered]:
        raw = members.get("messages")
        if not facts.signed or raw is None or b'"thinking"' not in bytes(raw):
            return []
        try:
            messages = _objects.decode(raw)
        except msgspec.DecodeError:
            return []  # the upstream says what is wrong with them
        kept = [one for message in messages if (one := _signed(message)) is not None]
        if kept == messages:
            return []
        members["messages"] = msgspec.Raw(_encode(kept))
        return [Altered(_UNSIGNED, UNSIGNED)]

    def reader(self) -> Reader:
        return Reader()

    def gathering(self) -> Gathering:
        return Gathering()

    def read_whole(self, body: bytes) -> tuple[Usage, Timings | None, bool]:
        message = _decoded(body)
        blocks = message.get("content")
        if message.get("type") != "message" or not isinstance(blocks, list):
            raise AttemptFailed(FailureClass.GARBAGE, "the answer is no message")
        spent = finish(message.get("stop_reason")) == "length"
        said = any(object_of(one).get("type") not in _THOUGHT for one in blocks)
        return _usage(message.get("usage")), None, spent and not said


NATIVE: Final = Messages()


def _usage(found: Any) -> Usage:
    """With whether the provider ran tools of its own, such as its web search."""
    usage = read_usage(usage_block(found))
    ran = object_of(object_of(found).get("server_tool_use"))
    return replace(usage, fees=True) if any(ran.values()) else usage


def _signed(message: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw] | None:
    """A message without thoughts that nobody signed; None: nothing is left of it."""
    content = bytes(message.get("content", b""))
    if b'"thinking"' not in content or not content.startswith(b"["):
        return message
    blocks = _blocks.decode(content)
    kept = [one for one in blocks if not _is_unsigned(one)]
    if len(kept) == len(blocks):
        return message
    return {**message, "content": msgspec.Raw(_encode(kept))} if kept else None


def _is_unsigned(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "thinking" and not block.get("signature")


def _decoded(body: bytes) -> dict[str, Any]:
    """Raises AttemptFailed for what is no object, and for an error in disguise."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise AttemptFailed(FailureClass.GARBAGE, f"the answer is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise AttemptFailed(FailureClass.GARBAGE, "the answer is not an object")
    if value.get("error"):
        raise failure_of(value["error"])
    return value


class Reader(EventReader):
    """The events of one message."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, Any] = {}

    def _look(self, name: bytes, frame: bytes) -> Look:
        match name:
            case b"content_block_delta":
                return self._delta(frame)
            case b"content_block_start":
                return self._start(frame)
            case b"message_start":
                self._count(object_of(data_of(frame).get("message")).get("usage"))
                return self._quiet()
            case b"message_delta":
                return self._finish(frame)
            case b"message_stop":
                return self._end(frame)
            case b"error":
                raise self._fail(data_of(frame).get("error"))
        return self._quiet()

    def _delta(self, frame: bytes) -> Look:
        self.frames += 1
        if self.committed and not self._mute:
            return self._content(said=True)
        delta = object_of(data_of(frame).get("delta"))
        if not any(delta.get(one) for one in _SHOWN):
            return self._quiet()
        return self._content(said=str(delta.get("type")) in _SAID)

    def _start(self, frame: bytes) -> Look:
        """Blocks that begin empty say nothing yet; a call is one from its name on."""
        block = object_of(data_of(frame).get("content_block"))
        kind = block.get("type")
        if kind in ("text", "thinking") and not block.get(str(kind)):
            return self._quiet()
        return self._content(said=str(kind) not in _THOUGHT)

    def _finish(self, frame: bytes) -> Look:
        event = data_of(frame)
        self._count(event.get("usage"))
        reason = object_of(event.get("delta")).get("stop_reason")
        if reason is None:
            return self._quiet()
        self.reasons.add(finish(reason))
        return self._finished()

    def _count(self, usage: Any) -> None:
        self._counts |= {name: one for name, one in object_of(usage).items() if one is not None}
        self._usage = _usage(self._counts)


class Gathering:
    """A message out of its events."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {"type": "message", "role": "assistant", "content": []}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._arguments: dict[int, list[str]] = {}

    def add(self, frame: bytes) -> None:
        event = data_of(frame)
        index = event.get("index")
        place = index if type(index) is int else -1
        match event.get("type"):
            case "message_start":
                self._message |= object_of(event.get("message"))
            case "content_block_start":
                self._blocks[place] = object_of(event.get("content_block"))
            case "content_block_delta":
                self._add(place, object_of(event.get("delta")))
            case "message_delta":
                self._message |= object_of(event.get("delta"))
                counted = {k: one for k, one in object_of(event.get("usage")).items() if one is not None}
                self._message["usage"] = object_of(self._message.get("usage")) | counted

    def body(self) -> bytes:
        """Raises AttemptFailed (garbage) for a call whose arguments are none. One that the answer's bound cut
        is left out, as it is from whole answers."""
        cut = finish(self._message.get("stop_reason")) == "length"
        for place, pieces in self._arguments.items():
            try:
                self._blocks[place]["input"] = _input("".join(pieces))
            except AttemptFailed:
                if not cut:
                    raise
                del self._blocks[place]
        return _encode(self._message | {"content": [self._blocks[one] for one in sorted(self._blocks)]})

    def _add(self, place: int, delta: dict[str, Any]) -> None:
        block = self._blocks.get(place)
        if block is None:
            raise AttemptFailed(FailureClass.GARBAGE, "a piece of a block that was not begun")
        match delta.get("type"):
            case "text_delta":
                _join(block, "text", delta)
            case "thinking_delta":
                _join(block, "thinking", delta)
            case "signature_delta":
                _join(block, "signature", delta)
            case "input_json_delta":
                self._arguments.setdefault(place, []).append(str(delta.get("partial_json") or ""))
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta.get("citation")]


def _join(block: dict[str, Any], name: str, delta: dict[str, Any]) -> None:
    block[name] = str(block.get(name) or "") + str(delta.get(name) or "")


def _input(text: str) -> Any:
    try:
        return msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise AttemptFailed(FailureClass.GARBAGE, "the arguments of a call are not JSON") from None
