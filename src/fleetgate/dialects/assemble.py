"""Builds the whole answer out of a stream's frames, for callers who did not ask for a stream.

Used where a step has an explicit `first_token`: the upstream is asked to stream so that the limit
means the same for everybody. What the deltas do not carry is not invented. A piece whose form cannot be
part of an answer makes the whole one garbage: half an answer must not look like one.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

import msgspec

from fleetgate import sse
from fleetgate.dialects.usage import usage_in
from fleetgate.errors import AttemptFailed, FailureClass

_MERGED: Final = ("content", "reasoning_content", "reasoning", "refusal")


class Assembly:
    """Collects the frames of one chat completion or completion."""

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._calls: dict[int, Calls] = {}
        self._usage: Any = None

    def add(self, frame: bytes) -> None:
        """Take one frame in; those without a JSON object are ignored. Raises AttemptFailed (garbage)."""
        data = sse.data_of(frame)
        if data is None or data.strip() == b"[DONE]":
            return
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
        if not isinstance(chunk, dict):
            return
        for choice in _list(chunk.pop("choices", None)):
            self._add_choice(_object(choice))
        usage = usage_in(chunk)
        chunk.pop("usage", None)
        self._usage = usage or self._usage
        self._top.update(chunk)

    def body(self) -> bytes:
        """The answer as one JSON object."""
        top = dict(self._top)
        top["object"] = "chat.completion" if self._chat else "text_completion"
        for index, calls in self._calls.items():
            self._choices[index]["message"]["tool_calls"] = calls.whole()
        top["choices"] = [self._choices[index] for index in sorted(self._choices)]
        if self._usage is not None:
            top["usage"] = self._usage
        return msgspec.json.encode(top)

    def _add_choice(self, piece: dict[str, Any]) -> None:
        index = _index(piece.get("index")) or 0
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = {"index": index}
            if self._chat:
                choice["message"] = {"role": "assistant", "content": None}
            else:
                choice["text"] = ""
            choice["finish_reason"] = None
        if self._chat:
            self._merge_delta(index, choice["message"], _object(piece.get("delta") or {}))
        else:
            choice["text"] += _text(piece.get("text"))
        if piece.get("finish_reason"):
            choice["finish_reason"] = piece["finish_reason"]
        if "logprobs" in piece:
            _merge_logprobs(choice, piece["logprobs"])

    def _merge_delta(self, index: int, message: dict[str, Any], delta: dict[str, Any]) -> None:
        for key, value in delta.items():
            if value is None:
                if key not in ("tool_calls", "function_call"):
                    message.setdefault(key, None)
            elif key in _MERGED:
                message[key] = _joined(message.get(key), value)
            elif key == "tool_calls":
                calls = self._calls.setdefault(index, Calls())
                for piece in _list(value):
                    calls.add(_object(piece))
            elif key == "function_call":
                _merge_function(message.setdefault("function_call", {}), _object(value))
            else:
                message[key] = value


class Calls:
    """The tool calls of one choice. Streamed pieces carry an index; whole answers do not.

    A piece that cannot be part of one raises AttemptFailed (garbage).
    """

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, Any]] = {}
        self._last = -1

    def add(self, piece: dict[str, Any]) -> None:
        """Some engines leave the index out: then an id begins the next call, and the rest belongs to it."""
        index = _index(piece.get("index"))
        if index is None:
            index = self._last + 1 if piece.get("id") or self._last < 0 else self._last
        self._last = index
        call = self._calls.setdefault(index, {})
        for key, value in piece.items():
            if key == "function":
                _merge_function(call.setdefault("function", {}), _object(value or {}))
            elif key != "index":
                _set(call, key, value)

    def whole(self) -> list[dict[str, Any]]:
        return [self._calls[index] for index in sorted(self._calls)]


def _merge_function(function: dict[str, Any], piece: dict[str, Any]) -> None:
    for key, value in piece.items():
        if key == "arguments" and value is not None:
            function[key] = function.get(key, "") + _text(value)
        else:
            _set(function, key, value)


def _set(into: dict[str, Any], key: str, value: Any) -> None:
    """Set what a piece says; nothing and an empty text take nothing away."""
    if value not in (None, "") or (value == "" and key not in into):
        into[key] = value


def _merge_logprobs(choice: dict[str, Any], piece: Any) -> None:
    into = choice.get("logprobs")
    if not isinstance(piece, dict):
        choice.setdefault("logprobs", piece)
    elif not isinstance(into, dict):
        choice["logprobs"] = dict(piece)
    else:
        for key, value in piece.items():
            if isinstance(value, list) and isinstance(into.get(key), list):
                into[key] = into[key] + value
            elif value is not None:
                into[key] = value


def _joined(before: Any, piece: Any) -> Any:
    """Texts, or lists of parts as some providers stream them."""
    if isinstance(piece, list) and (not before or isinstance(before, list)):
        return [*(before or ()), *piece]
    return _text(before) + _text(piece)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else _garbage()


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else _garbage()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _garbage()


def _index(value: Any) -> int | None:
    return value if value is None or isinstance(value, int) else _garbage()


def _garbage() -> NoReturn:
    raise AttemptFailed(FailureClass.GARBAGE, "a piece of the stream cannot be part of an answer")
