"""System text and messages as the messages of a chat.

Results of tools become messages of their own, in their order, directly after the turn that called; what
the user said beside them follows. Thinking of earlier turns goes back to the model that can read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects.anthropic import blocks
from fleetgate.dialects.anthropic.members import malformed, object_in, objects, rest, text_in
from fleetgate.dialects.asides import placed

if TYPE_CHECKING:
    from fleetgate.dialects.left_out import LeftOut

_BILLING: Final = "x-anthropic-billing-header"
"""Begins a block of system text that Claude Code adds for Anthropic's books. It has another value in every
request, so with it no engine would ever find a known prompt."""
_RESULT: Final = ("type", "tool_use_id", "content", "is_error")
_USE: Final = ("type", "id", "name", "input", "caller")
_THOUGHT: Final = ("type", "thinking", "signature")


def chat_messages(system: Any, messages: Any, left_out: LeftOut) -> list[dict[str, Any]]:
    """All of it, the system text first."""
    found = _Turns(left_out)
    if system is not None:
        found.system(system, "system")
    turns = objects(messages, "messages")
    if not turns:
        raise malformed("messages", "must hold at least one message")
    for at, turn in enumerate(turns):
        found.turn(turn, f"messages.{at}")
    return placed(found.chat)


class _Turns:
    """The chat as far as it was read."""

    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out
        self._names: dict[str, str] = {}
        """of the tools that were called, by id"""
        self.chat: list[dict[str, Any]] = []

    def turn(self, turn: dict[str, Any], where: str) -> None:
        role = turn.get("role")
        rest(self._left_out, turn, ("role", "content"), "messages")
        content, where = turn.get("content"), f"{where}.content"
        if role == "user":
            self._user(content, where)
        elif role == "assistant":
            self._assistant(content, where)
        elif role == "system":
            self.system(content, where)
        else:
            raise malformed(where.removesuffix("content") + "role", "must be user or assistant")

    def system(self, content: Any, where: str) -> None:
        if isinstance(content, list):
            kept = [one for one in objects(content, where) if not _is_billing(one)]
            if len(kept) < len(content):
                self._left_out.add(_BILLING)
            content = kept
        text = blocks.only_text(content, where, self._left_out)
        if text:
            self.chat.append({"role": "system", "content": text})

    def _user(self, content: Any, where: str) -> None:
        if isinstance(content, str):
            self.chat.append({"role": "user", "content": content})
            return
        said: list[dict[str, Any]] = []
        pictures: list[dict[str, Any]] = []
        results = False
        for at, block in enumerate(objects(content, where)):
            if block.get("type") == "tool_result":
                results = True
                pictures += self._result(block, f"{where}.{at}")
            else:
                said.append(blocks.part(block, f"{where}.{at}", self._left_out))
        said = pictures + said
        if said or not results:
            self.chat.append({"role": "user", "content": blocks.as_content(said)})

    def _result(self, block: dict[str, Any], where: str) -> list[dict[str, Any]]:
        """Adds the result; gives its pictures, which a message of a tool cannot hold."""
        rest(self._left_out, block, _RESULT, "tool_result")
        call = text_in(block, "tool_use_id", where)
        found: list[dict[str, Any]] = []
        if block.get("content") is not None:
            found = blocks.parts(block["content"], f"{where}.content", self._left_out)
        text = blocks.JOINT.join(one["text"] for one in found if one["type"] == "text" and one["text"])
        if block.get("is_error"):
            text = f"Error: {text}" if text else "Error"
        self.chat.append({"role": "tool", "tool_call_id": call, "content": text})
        pictures = [one for one in found if one["type"] != "text"]
        if not pictures:
            return []
        return [blocks.text_part(f"From the result of {self._names.get(call) or call}:"), *pictures]

    def _assistant(self, content: Any, where: str) -> None:
        if isinstance(content, str):
            self.chat.append({"role": "assistant", "content": content})
            return
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[dict[str, Any]] = []
        for at, block in enumerate(objects(content, where)):
            kind, place = block.get("type"), f"{where}.{at}"
            if kind == "tool_use":
                calls.append(self._call(block, place))
            elif kind == "thinking":
                rest(self._left_out, block, _THOUGHT, "thinking")
                thoughts.append(text_in(block, "thinking", place))
            elif kind == "redacted_thinking":
                self._left_out.add("redacted_thinking")
            else:
                said = blocks.part(block, place, self._left_out)
                if said["type"] != "text":
                    raise malformed(place, "an assistant's turn holds no pictures")
                texts.append(said["text"])
        text = blocks.JOINT.join(one for one in texts if one)
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
        thought = blocks.JOINT.join(one for one in thoughts if one)
        if thought:
            message["reasoning_content"] = thought
        if calls:
            message["tool_calls"] = calls
        self.chat.append(message)

    def _call(self, block: dict[str, Any], where: str) -> dict[str, Any]:
        rest(self._left_out, block, _USE, "tool_use")
        name, call = text_in(block, "name", where), text_in(block, "id", where)
        self._names[call] = name
        arguments = msgspec.json.encode(object_in(block, "input", where)).decode()
        return {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}


def _is_billing(block: dict[str, Any]) -> bool:
    text = block.get("text")
    return isinstance(text, str) and text.startswith(_BILLING)
