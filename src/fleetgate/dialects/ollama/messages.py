"""The messages of a chat in the form between: pictures as data, calls with ids, results that name them.

Ollama's callers usually send no ids: calls and results belong together by their order and the tool's name.
The ids made up for them are counted, not drawn, so that the same conversation is the same text at every
turn (prompts are recognised by their beginning), and have the nine letters and digits that the templates
of some models insist on.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects.ollama import fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetgate.dialects.left_out import LeftOut

_KNOWN: Final = frozenset(
    {"role", "content", "images", "tool_calls", "tool_name", "tool_call_id", "thinking"}
)
_ROLES: Final = ("system", "user", "assistant", "tool")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_SPACE: Final = re.compile(r"\s")
_MAGIC: Final = (
    (b"\x89PNG", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
)
_AS_DATA: Final = re.compile(r"data:image/[a-z.+-]+;base64,")


class Conversation:
    """Translates the messages of one request, in order."""

    def __init__(self, left: LeftOut) -> None:
        self._left = left
        self._count = 0
        self._open: list[tuple[str, str]] = []
        """calls without a result yet: id and name"""

    def messages(self, found: Sequence[Any]) -> list[dict[str, Any]]:
        return [self._message(one, f"messages[{index}]") for index, one in enumerate(found)]

    def _message(self, found: Any, where: str) -> dict[str, Any]:
        if not isinstance(found, dict):
            raise fields.malformed(f"`{where}` must be an object", where)
        self._left.rest(found, _KNOWN, "messages.")
        role = fields.text(found, "role", f"{where}.").lower()
        if role not in _ROLES:
            raise fields.malformed(f"`{where}.role` must be one of {', '.join(_ROLES)}", f"{where}.role")
        content = fields.text(found, "content", f"{where}.")
        images = fields.rows(found, "images", f"{where}.")
        if images and role != "user":
            raise fields.unsupported(
                f"`{where}.images`: only messages of the user can hold pictures",
                f"{where}.images",
                "Send the pictures with a message of the user.",
            )
        message: dict[str, Any] = {"role": role, "content": content}
        if images:
            message["content"] = with_images(content, images, f"{where}.images")
        for name, owner in (("thinking", "assistant"), ("tool_calls", "assistant"), ("tool_name", "tool")):
            if found.get(name) and role != owner:
                self._left.add(f"messages.{name}")
        if role == "assistant":
            self._add_calls(message, found, where)
        elif role == "tool":
            message["tool_call_id"] = self._answered(found, where)
        return message

    def _add_calls(self, message: dict[str, Any], found: Mapping[str, Any], where: str) -> None:
        thought = fields.text(found, "thinking", f"{where}.")
        if thought:
            message["reasoning_content"] = thought
        calls = fields.rows(found, "tool_calls", f"{where}.")
        if calls:
            message["tool_calls"] = [
                self._call(one, f"{where}.tool_calls[{index}]") for index, one in enumerate(calls)
            ]
            self._open = [(call["id"], call["function"]["name"]) for call in message["tool_calls"]]

    def _call(self, found: Any, where: str) -> dict[str, Any]:
        if not isinstance(found, dict):
            raise fields.malformed(f"`{where}` must be an object", where)
        function = fields.table(found, "function", f"{where}.")
        name = fields.text(function, "name", f"{where}.function.")
        if not name:
            raise fields.malformed(f"`{where}.function.name` is missing", f"{where}.function.name")
        arguments = msgspec.json.encode(fields.table(function, "arguments", f"{where}.function.")).decode()
        call_id = fields.text(found, "id", f"{where}.") or self._next_id()
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}

    def _answered(self, found: Mapping[str, Any], where: str) -> str:
        """The id of the call that a result belongs to. Callers cut old messages off, calls among them: a
        result whose call is gone keeps an id of its own."""
        named = fields.text(found, "tool_call_id", f"{where}.")
        if named:
            self._open = [one for one in self._open if one[0] != named]
            return named
        tool = fields.text(found, "tool_name", f"{where}.")
        of_tool = [one for one in self._open if one[1] == tool]
        for one in of_tool or self._open:
            self._open.remove(one)
            return one[0]
        return self._next_id()

    def _next_id(self) -> str:
        self._count += 1
        return f"call{self._count:05d}"


def with_images(content: str, images: Sequence[Any], where: str) -> list[dict[str, Any]]:
    """Pictures before the text, as Ollama puts them into a prompt."""
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": _picture(one, f"{where}[{index}]")}}
        for index, one in enumerate(images)
    ]
    return [*parts, {"type": "text", "text": content}] if content else parts


def _picture(found: Any, where: str) -> str:
    """As an address that holds the data; its kind is in its first bytes."""
    if not isinstance(found, str):
        raise fields.malformed(f"`{where}` must be a text in base64", where)
    head = _AS_DATA.match(found)
    data = found[head.end() :] if head is not None else found
    if _BASE64.fullmatch(data) is None:
        data = _SPACE.sub("", data)
    if len(data) % 4 or _BASE64.fullmatch(data) is None:
        raise fields.malformed(f"`{where}` is not base64", where)
    if head is not None:
        return head.group() + data
    begin = base64.b64decode(data[:16])
    kind = "webp" if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP" else None
    kind = kind or next((name for magic, name in _MAGIC if begin.startswith(magic)), None)
    if kind is None:
        raise fields.unsupported(
            f"`{where}` is no picture that is known here", where, "Send PNG, JPEG, WebP, GIF or BMP."
        )
    return f"data:image/{kind};base64,{data}"


def tools(body: Mapping[str, Any]) -> dict[str, Any]:
    """They have the same form on both sides. An empty list is none: providers refuse it."""
    found = fields.rows(body, "tools")
    for index, one in enumerate(found):
        where = f"tools[{index}]"
        if not isinstance(one, dict):
            raise fields.malformed(f"`{where}` must be an object", where)
        if not fields.text(fields.table(one, "function", f"{where}."), "name", f"{where}.function."):
            raise fields.malformed(f"`{where}.function.name` is missing", f"{where}.function.name")
    return {"tools": [{"type": "function", **one} for one in found]} if found else {}
