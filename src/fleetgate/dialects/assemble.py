"""Builds the whole answer out of a stream's frames, for callers who did not ask for a stream.

Used where a step has an explicit `first_token`: the upstream is asked to stream so that the limit
means the same for everybody. What the deltas do not carry is not invented.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fleetgate import sse

_MERGED: Final = ("content", "reasoning_content", "reasoning", "refusal")


class Assembly:
    """Collects the frames of one chat completion or completion."""

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usage: Any = None

    def add(self, frame: bytes) -> None:
        """Take one frame in. Frames without JSON objects are ignored."""
        data = sse.data_of(frame)
        if data is None or data.strip() == b"[DONE]":
            return
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError):
            return
        if not isinstance(chunk, dict):
            return
        for choice in chunk.pop("choices", None) or ():
            self._add_choice(choice)
        usage = chunk.pop("usage", None)
        self._usage = usage or self._usage
        self._top.update(chunk)

    def body(self) -> bytes:
        """The answer as one JSON object."""
        top = dict(self._top)
        top["object"] = "chat.completion" if self._chat else "text_completion"
        top["choices"] = [self._choices[index] for index in sorted(self._choices)]
        if self._usage is not None:
            top["usage"] = self._usage
        return msgspec.json.encode(top)

    def _add_choice(self, piece: dict[str, Any]) -> None:
        index = int(piece.get("index") or 0)
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = {"index": index}
            if self._chat:
                choice["message"] = {"role": "assistant", "content": None}
            else:
                choice["text"] = ""
            choice["finish_reason"] = None
        if self._chat:
            _merge_delta(choice["message"], piece.get("delta") or {})
        else:
            choice["text"] += piece.get("text") or ""
        if piece.get("finish_reason"):
            choice["finish_reason"] = piece["finish_reason"]
        _merge_logprobs(choice, piece.get("logprobs"))


def _merge_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
        if value is None:
            message.setdefault(key, None)
        elif key in _MERGED and isinstance(value, str):
            message[key] = (message.get(key) or "") + value
        elif key == "tool_calls":
            _merge_tool_calls(message.setdefault("tool_calls", []), value)
        elif key == "function_call":
            _merge_function(message.setdefault("function_call", {}), value)
        else:
            message[key] = value


def _merge_tool_calls(calls: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    """Streamed calls carry an index; whole answers do not."""
    for piece in pieces:
        index = int(piece.get("index", len(calls)) or 0)
        while len(calls) <= index:
            calls.append({})
        call = calls[index]
        for key, value in piece.items():
            if key == "function":
                _merge_function(call.setdefault("function", {}), value)
            elif key != "index" and value is not None:
                call[key] = value


def _merge_function(function: dict[str, Any], piece: dict[str, Any]) -> None:
    for key, value in piece.items():
        if key == "arguments" and isinstance(value, str):
            function["arguments"] = function.get("arguments", "") + value
        elif value is not None:
            function[key] = value


def _merge_logprobs(choice: dict[str, Any], piece: Any) -> None:
    if not isinstance(piece, dict):
        choice.setdefault("logprobs", piece)
        return
    into = choice.get("logprobs")
    if not isinstance(into, dict):
        choice["logprobs"] = dict(piece)
        return
    for key, value in piece.items():
        if isinstance(value, list) and isinstance(into.get(key), list):
            into[key] = into[key] + value
        elif value is not None:
            into[key] = value
