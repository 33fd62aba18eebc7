"""Requests of this API that are sent to chat completions, and want an answer of chat completions.

Cursor does so for some models. The answer passes as it is, but for the calls of tools that have another name
here, or are custom: of those the caller expects the plain input where a function has its arguments.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.dialects.responses import said
from fleetgate.dialects.responses.custom import Unwrapping, unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.responses.request import Memory
    from fleetgate.errors import Refused


def whole(body: Mapping[str, Any], memory: Memory) -> Mapping[str, Any]:
    if not _renamed(memory):
        return body
    return {**body, "choices": [_choice(one, memory) for one in said.choices(body)]}


def _choice(choice: Mapping[str, Any], memory: Memory) -> dict[str, Any]:
    message = choice.get("message")
    if not isinstance(message, dict) or not message.get("tool_calls"):
        return dict(choice)
    calls = [_call(call, memory) for call in said.calls(message)]
    return {**choice, "message": {**message, "tool_calls": calls}}


def _call(call: Mapping[str, Any], memory: Memory) -> Mapping[str, Any]:
    name, arguments = said.function_of(call)
    called = memory.names.get(name)
    if called is None:
        return call
    given = unwrapped(arguments) if called.custom else arguments
    return {**call, "function": {"name": called.name, "arguments": given}}


def _renamed(memory: Memory) -> bool:
    return any(called.custom or called.name != name for name, called in memory.names.items())


_KEYS: Final = re.compile(rb'"(?:tool_calls|finish_reason)"')


_KEEP_ALIVE: Final = sse.comment("keep-alive")


class Answering:
    """One streamed answer."""

    def __init__(self, memory: Memory, request_id: str) -> None:
        self._memory = memory
        self._request_id = request_id
        self._plain = not _renamed(memory)
        self._custom: dict[Any, Unwrapping] = {}
        """calls of custom tools by their index"""

    def begin(self) -> bytes:
        return b""

    def alive(self) -> bytes:
        return _KEEP_ALIVE

    def fail(self, refused: Refused) -> bytes:
        return openai.error_frame(refused, self._request_id)

    def feed(self, frame: bytes) -> bytes:
        if b'"usage"' not in frame and (self._plain or not _KEYS.search(frame)):
            return frame
        data = sse.data_of(frame)
        try:
            chunk = msgspec.json.decode(data or b"null")
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return frame
        if not isinstance(chunk, dict):
            return frame
        if chunk.get("usage") and not chunk.get("choices") and not self._memory.usage:
            return b""
        return self._feed_calls(frame, chunk)

    def end(self) -> bytes:
        return openai.END

    def _feed_calls(self, frame: bytes, chunk: dict[str, Any]) -> bytes:
        before, changed = b"", False
        for choice in said.choices(chunk):
            delta = choice.get("delta")
            calls = said.calls(delta) if isinstance(delta, dict) else []
            for call in calls:
                changed = self._turn_back(call) or changed
            if choice.get("finish_reason"):
                before = self._rest(chunk, choice)
        return before + (sse.frame(msgspec.json.encode(chunk)) if changed else frame)

    def _turn_back(self, call: Any) -> bool:
        """Change one piece of a call, where it is one of ours."""
        name, arguments = said.function_of(call)
        called = self._memory.names.get(name)
        key = call["index"] if isinstance(call.get("index"), int) else 0
        if called is not None and called.custom:
            self._custom.setdefault(key, Unwrapping())
        unwrapping = self._custom.get(key)
        if called is None and unwrapping is None:
            return False
        function = dict(call.get("function") or {})
        if called is not None:
            function["name"] = called.name
        if unwrapping is not None:
            function["arguments"] = unwrapping.feed(arguments)
        call["function"] = function
        return True

    def _rest(self, chunk: Mapping[str, Any], choice: Mapping[str, Any]) -> bytes:
        """What custom calls still hold when the answer ends, as a frame of its own."""
        calls = [
            {"index": index, "function": {"arguments": rest}}
            for index, unwrapping in self._custom.items()
            if (rest := unwrapping.end())
        ]
        if not calls:
            return b""
        last = {**choice, "delta": {"tool_calls": calls}, "finish_reason": None}
        return sse.frame(msgspec.json.encode({**chunk, "choices": [last], "usage": None}))
