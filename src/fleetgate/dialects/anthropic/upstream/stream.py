"""Events of a message of Anthropic's as frames of a chat stream.

The stop reason becomes a finish reason, so a stream without one stays one without an end. An error inside
the stream keeps its type as the status it would have had, by which the failure table judges it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fleetgate import sse
from fleetgate.dialects.anthropic.upstream.answer import finish, usage_block
from fleetgate.dialects.anthropic.upstream.table import CUT, STATUSES

_END: Final = b"data: [DONE]\n\n"
_SAYS: Final = {"text_delta": ("text", "content"), "thinking_delta": ("thinking", "reasoning_content")}
"""type of a delta → its member, and that of a chat's delta"""


class Chunks:
    """One stream, event by event."""

    __slots__ = ("_calls", "_closed", "_created", "_head", "_silent", "_usage")

    def __init__(self, created: int) -> None:
        """`created`: Unix time, which the events do not say."""
        self._created = created
        self._head: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}
        """index of the block → index of the call"""
        self._silent: set[int] = set()
        """blocks of calls whose arguments were not said yet"""
        self._closed: int | None = None
        """the one of them that ended last: it has no arguments, unless the answer was cut there"""

    def feed(self, frame: bytes) -> list[bytes]:
        """The frames that one event becomes: none for what a chat has no word for, such as a ping."""
        data = sse.data_of(frame)
        if data is None:
            return []
        try:
            event = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return [frame]  # garbage is for the relay to judge
        return self._frames(event) if isinstance(event, dict) else []

    def _frames(self, event: dict[str, Any]) -> list[bytes]:
        index = event.get("index")
        index = index if type(index) is int else -1
        found: list[bytes] = []
        match event.get("type"):
            case "message_start":
                found = self._start(_object(event.get("message")))
            case "content_block_start":
                found = [*self._without(), *self._begin(index, _object(event.get("content_block")))]
            case "content_block_delta":
                found = self._delta(index, _object(event.get("delta")))
            case "content_block_stop" if index in self._silent:
                self._silent.discard(index)
                self._closed = index
            case "message_delta":
                found = self._finish(event)
            case "message_stop":
                found = [_END]
            case "error":
                found = [_error(_object(event.get("error")))]
        return found

    def _start(self, message: dict[str, Any]) -> list[bytes]:
        self._head = {"id": message.get("id"), "model": message.get("model")}
        self._usage = _object(message.get("usage"))
        return [self._chunk({"role": "assistant", "content": ""})]

    def _begin(self, index: int, block: dict[str, Any]) -> list[bytes]:
        kind = block.get("type")
        if kind == "tool_use":
            self._calls[index] = len(self._calls)
            given = block.get("input")
            arguments = msgspec.json.encode(given).decode() if given else ""
            if not arguments:
                self._silent.add(index)
            function = {"name": block.get("name"), "arguments": arguments}
            return [self._call(index, {"id": block.get("id"), "type": "function", "function": function})]
        name = {"text": "content", "thinking": "reasoning_content"}.get(str(kind))
        text = block.get(str(kind))
        return [self._chunk({name: text})] if name and text else []

    def _delta(self, index: int, delta: dict[str, Any]) -> list[bytes]:
        kind = delta.get("type")
        if kind == "input_json_delta" and index in self._calls:
            said = delta.get("partial_json")
            if not said:
                return []
            self._silent.discard(index)
            return [self._call(index, {"function": {"arguments": said}})]
        if isinstance(kind, str) and kind in _SAYS:
            member, name = _SAYS[kind]
            return [self._chunk({name: delta[member]})] if delta.get(member) else []
        return []

    def _without(self) -> list[bytes]:
        """A call without arguments says so, for callers who parse what they got."""
        index, self._closed = self._closed, None
        return [] if index is None else [self._call(index, {"function": {"arguments": "{}"}})]

    def _finish(self, event: dict[str, Any]) -> list[bytes]:
        counted = _object(event.get("usage"))
        self._usage |= {name: value for name, value in counted.items() if value is not None}
        delta = _object(event.get("delta"))
        if delta.get("stop_reason") is None:
            return []
        met = {} if delta.get("stop_sequence") is None else {"stop_reason": delta["stop_sequence"]}
        frames = [] if delta["stop_reason"] in CUT else self._without()
        frames.append(self._chunk({}, finish(delta["stop_reason"]), **met))
        usage = usage_block(self._usage)
        if usage is not None:
            frames.append(self._frame([], usage=usage))
        return frames

    def _call(self, index: int, piece: dict[str, Any]) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._calls[index]} | piece]})

    def _chunk(self, delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
        return self._frame([{"index": 0, "delta": delta, "finish_reason": reason} | more])

    def _frame(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        chunk = {"object": "chat.completion.chunk", "created": self._created, **self._head}
        return sse.frame(msgspec.json.encode(chunk | {"choices": choices} | more))


def _error(error: dict[str, Any]) -> bytes:
    kind = error.get("type")
    found = {"message": error.get("message"), "type": kind}
    if isinstance(kind, str) and kind in STATUSES:
        found["code"] = STATUSES[kind]
    return sse.frame(msgspec.json.encode({"error": found}))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
