"""Continuing an assistant's turn from its text, on engines that can. Pure.

The text is cut into tokens again, so the last one may merge otherwise: what follows is a good continuation,
not for certain the same. Some templates trim the end of the text, and the first white space comes again then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate import sse
from fleetgate.dialects.usage import read_usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.domain import Usage

LARGEST: Final = 256 * 1024
"""Characters that are kept of an answer."""
FLAGS: Final = "flags"
"""two members say that the last message is to be continued (vLLM, SGLang, TabbyAPI)"""
ASSISTANT: Final = "assistant"
"""a last message of the assistant is continued (llama.cpp, TGI)"""
PREFIX: Final = "prefix"
"""a member of the last message says so (Mistral, DeepSeek)"""
_LENGTHS: Final = ("max_tokens", "max_completion_tokens", "n_predict")
_THOUGHTS: Final = ("reasoning_content", "reasoning")
_MORE: Final = ("tool_calls", "function_call", "audio", "refusal")
_encode: Final = msgspec.json.encode
_decode: Final = msgspec.json.Decoder(dict).decode


class Heard:
    """What one answer said so far, from its frames."""

    __slots__ = ("_chat", "_texts", "characters", "created", "fit", "id", "model", "tokens")

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat
        self._texts: list[str] = []
        self.id: Any = None
        self.created: Any = None
        self.model: Any = None
        self.characters = 0
        self.tokens = 0
        """pieces of text: each has about one"""
        self.fit = True
        """it is plain text so far"""

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, frame: bytes) -> None:
        chunk = read(frame)
        if chunk is None or not self.fit:
            return
        if self.id is None:
            self.id, self.created, self.model = chunk.get("id"), chunk.get("created"), chunk.get("model")
        for choice in _objects(chunk.get("choices")):
            delta = choice.get("delta") or {} if self._chat else choice
            if not isinstance(delta, dict):
                self.fit = False
                break
            text = delta.get("content" if self._chat else "text")
            thought = any(delta.get(name) for name in _THOUGHTS)
            if thought or any(delta.get(name) for name in _MORE) or not isinstance(text, str | None):
                self.fit = False
            elif text:
                self._texts.append(text)
                self.characters += len(text)
                self.tokens += 1
        if self.characters > LARGEST:
            self.fit = False
        if not self.fit:
            self._texts.clear()


class Following:
    """Frames of the second part as frames of the first one's answer."""

    __slots__ = ("_end", "_first", "usage")

    def __init__(self, first: Heard) -> None:
        self._first = first
        self.usage: Usage | None = None
        """of the second part alone, once it is told"""
        text = first.text
        self._end = text[len(text.rstrip()) :]
        """white space that may come a second time"""

    def turn(self, frame: bytes) -> bytes:
        """One frame; empty: nothing of it goes out."""
        chunk = read(frame)
        if chunk is None or "error" in chunk:
            return frame
        first = self._first
        for name, value in (("id", first.id), ("created", first.created), ("model", first.model)):
            if value is not None:
                chunk[name] = value
        if isinstance(chunk.get("usage"), dict):
            self.usage = read_usage(chunk["usage"])
            _both(chunk["usage"], first.tokens)
        empty = bool(chunk.get("choices"))
        for choice in _objects(chunk.get("choices")):
            choice["index"] = 0
            empty = self._turn(choice) and empty and not choice.get("finish_reason")
        return b"" if empty else sse.frame(_encode(chunk))

    def _turn(self, choice: dict[str, Any]) -> bool:
        """Whether nothing is left of it."""
        chat = "delta" in choice
        holder = choice["delta"] if isinstance(choice.get("delta"), dict) else choice
        name = "content" if chat else "text"
        holder.pop("role", None)
        text = holder.get(name)
        if isinstance(text, str) and text:
            if self._end:
                holder[name] = text = text[_twice(self._end, text) :]
            self._end = ""
        others = (
            one for one in holder if one not in ("content", "text", "index", "logprobs", "finish_reason")
        )
        return not text and not any(holder[one] for one in others)


def onward(members: Mapping[str, Any], way: str, first: Heard, *, chat: bool) -> bytes:
    """The request for the rest."""
    asked = dict(members)
    if chat:
        last: dict[str, Any] = {"role": "assistant", "content": first.text}
        if way == PREFIX:
            last["prefix"] = True
        asked["messages"] = [*members["messages"], last]
        if way == FLAGS:
            asked |= {"continue_final_message": True, "add_generation_prompt": False}
    else:
        asked["prompt"] = members["prompt"] + first.text
    for name in _LENGTHS:
        bound = asked.get(name)
        if isinstance(bound, int) and bound > 0:
            asked[name] = max(1, bound - first.tokens)
    return _encode(asked)


def read(frame: bytes) -> dict[str, Any] | None:
    """The object in a frame; None: there is none."""
    data = sse.data_of(frame)
    if data is None:
        return None
    try:
        return _decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _twice(end: str, text: str) -> int:
    """How many white characters at the begin of `text` are those at the end of what was said."""
    most = min(len(end), len(text))
    return next((size for size in range(most, 0, -1) if end[-size:] == text[:size]), 0)


def _both(usage: dict[str, Any], tokens: int) -> None:
    """The usage of the second part as that of both: what the first one said was read as input."""
    given, made = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(given, int):
        usage["prompt_tokens"] = max(0, given - tokens)
    if isinstance(made, int):
        usage["completion_tokens"] = made + tokens
