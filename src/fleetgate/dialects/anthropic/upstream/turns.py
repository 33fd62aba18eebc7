"""Messages of a chat as turns of Anthropic's: system text hoisted, results of tools in the caller's turn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects.anthropic.members import malformed, object_in, objects, rest, text_in, untranslatable

if TYPE_CHECKING:
    from fleetgate.dialects.left_out import LeftOut

_BETWEEN: Final = "\n\n"
"""between texts of system messages that become one"""
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")
"""signs that the dialect does not take in an id"""
_DATA: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.ASCII)
_KNOWN: Final = {
    "user": ("role", "content"),
    "assistant": ("role", "content", "refusal", "tool_calls", "audio", "function_call"),
    "tool": ("role", "content", "tool_call_id"),
}
_PDF: Final = "application/pdf"


def turns(messages: Any, left_out: LeftOut) -> tuple[str, list[dict[str, Any]]]:
    """The system text and the turns."""
    found = _Turns(left_out)
    for at, message in enumerate(objects(messages, "messages")):
        found.add(message, f"messages.{at}")
    if not found.turns:
        raise malformed("messages", "must hold at least one message that is not the system's")
    return _BETWEEN.join(found.system), found.turns


class _Turns:
    """The conversation as far as it was read."""

    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out
        self._results = False
        """the last turn is one of results, which takes more of them"""
        self.system: list[str] = []
        self.turns: list[dict[str, Any]] = []

    def add(self, message: dict[str, Any], where: str) -> None:
        role = message.get("role")
        if role in ("system", "developer"):
            self._hoist(message, where)
            return
        if not isinstance(role, str) or role not in _KNOWN:
            raise malformed(f"{where}.role", "must be system, developer, user, assistant or tool")
        rest(self._left_out, message, _KNOWN[role], "messages")
        if role == "tool":
            self._result(message, where)
            return
        content = self._user(message, where) if role == "user" else self._assistant(message, where)
        if content:
            self.turns.append({"role": role, "content": content})
            self._results = False

    def _hoist(self, message: dict[str, Any], where: str) -> None:
        if self.turns:
            self._left_out.add("messages.system.position")
        text = _BETWEEN.join(_texts(message.get("content"), f"{where}.content"))
        if text:
            self.system.append(text)

    def _user(self, message: dict[str, Any], where: str) -> Any:
        content = message.get("content")
        if isinstance(content, str):
            return content
        where = f"{where}.content"
        parts = objects(content, where)
        return [block for at, part in enumerate(parts) if (block := self._block(part, f"{where}.{at}"))]

    def _block(self, part: dict[str, Any], where: str) -> dict[str, Any] | None:
        """A part as a block; an empty text is none."""
        kind = part.get("type")
        marked = {} if part.get("cache_control") is None else {"cache_control": part["cache_control"]}
        if kind == "text":
            text = text_in(part, "text", where)
            return {"type": "text", "text": text} | marked if text else None
        if kind == "image_url":
            image = object_in(part, "image_url", where)
            rest(self._left_out, image, ("url",), "image_url")
            return {
                "type": "image",
                "source": _source(text_in(image, "url", where), "image/", where),
            } | marked
        if kind == "file":
            file = object_in(part, "file", where)
            source = _source(str(file.get("file_data") or ""), _PDF, where)
            named = {"title": file["filename"]} if isinstance(file.get("filename"), str) else {}
            return {"type": "document", "source": source} | named | marked
        what = f"parts of type {str(kind)[:60]!r} are not understood by Anthropic's models"
        raise untranslatable(where, what, "Leave the part out, or say the same as text.")

    def _assistant(self, message: dict[str, Any], where: str) -> Any:
        if message.get("audio") or message.get("function_call"):
            raise untranslatable(
                where, "an answer in an old or spoken form", "Send its text or `tool_calls`."
            )
        texts = _texts(message.get("content"), f"{where}.content")
        if isinstance(message.get("refusal"), str):
            texts.append(message["refusal"])
        blocks: list[dict[str, Any]] = [{"type": "text", "text": one} for one in texts if one]
        for at, call in enumerate(objects(message.get("tool_calls") or [], f"{where}.tool_calls")):
            blocks.append(_use(call, f"{where}.tool_calls.{at}"))
        if len(blocks) == 1 and blocks[0]["type"] == "text":
            return blocks[0]["text"]
        return blocks

    def _result(self, message: dict[str, Any], where: str) -> None:
        block: dict[str, Any] = {
            "type": "tool_result",
            "tool_use_id": taken_id(text_in(message, "tool_call_id", where)),
        }
        content = self._user(message, where)
        if content:
            block["content"] = content
        if not self._results:
            self.turns.append({"role": "user", "content": []})
            self._results = True
        self.turns[-1]["content"].append(block)


def taken_id(given: str) -> str:
    """An id of a call as Anthropic takes it. Engines make others, which are only ever compared."""
    return _ODD.sub("_", given)


def _use(call: dict[str, Any], where: str) -> dict[str, Any]:
    if call.get("type", "function") != "function":
        raise untranslatable(where, "only calls of functions can be carried over", "Leave the call out.")
    function = object_in(call, "function", where)
    arguments = function.get("arguments")
    try:
        given = msgspec.json.decode(arguments) if arguments else {}
    except (msgspec.DecodeError, RecursionError, TypeError):
        given = None
    if not isinstance(given, dict):
        raise malformed(f"{where}.function.arguments", "must be the text of a JSON object")
    name = text_in(function, "name", f"{where}.function")
    return {"type": "tool_use", "id": taken_id(text_in(call, "id", where)), "name": name, "input": given}


def _source(address: str, kind: str, where: str) -> dict[str, Any]:
    found = _DATA.match(address)
    if found is not None and found[1].startswith(kind):
        return {"type": "base64", "media_type": found[1], "data": address[found.end() :]}
    if address.startswith("https://") and kind != _PDF:
        return {"type": "url", "url": address}
    raise untranslatable(where, "it is neither data of a known type nor an address", "Send it as base64.")


def _texts(content: Any, where: str) -> list[str]:
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    texts = []
    for at, part in enumerate(objects(content, where)):
        name = "refusal" if part.get("type") == "refusal" else "text"
        texts.append(text_in(part, name, f"{where}.{at}"))
    return texts
