"""What a body asks of a model beside words, read from its top level without decoding the rest. Pure.

Every chat passes here, so the usual one (text, no tools) costs a few looks into a dict and two searches.
Forms that are not understood ask for nothing: refusing them is for the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fleetgate.domain import Capability
from fleetgate.forecast.task import bits

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK: Final = 256
"""Bytes of the prompt that are recognised together."""
MOST_BLOCKS: Final = 64
OPENING: Final = BLOCK * MOST_BLOCKS + 1
"""Bytes of the prompt that are kept to be recognised. The last one is never in a block: it closes the list
of messages, and the next request has a comma there."""
_OF_TOOLS: Final = 8 * BLOCK
"""Of them for tools, which stand before the messages in what the model reads."""
_VISION: Final = bits((Capability.VISION,))
_CALLS: Final = bits((Capability.TOOLS,))
_SCHEMA: Final = bits((Capability.SCHEMA,))


class _Part(msgspec.Struct):
    type: str = ""


class _Message(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw(b"null")


_messages: Final = msgspec.json.Decoder(list[_Message])
_parts: Final = msgspec.json.Decoder(list[_Part])
_part: Final = msgspec.json.Decoder(_Part)
_text: Final = msgspec.json.Decoder(str)
_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_PICTURES: Final = frozenset({"image_url", "input_image"})


def needs(members: Mapping[str, msgspec.Raw], rest: bytes) -> int:
    """Bits of the abilities that a chat needs. `rest`: the members as they are sent on."""
    found = 0
    if (b'"image_url"' in rest or b'"input_image"' in rest) and _pictures(members):
        found = _VISION
    if "tools" in members or "functions" in members:
        some = b"[{" in (_begin(members.get("tools")), _begin(members.get("functions")))
        found |= _CALLS if some else 0
    if "response_format" in members and _is_schema(members["response_format"]):
        found |= _SCHEMA
    return found


def inputs(members: Mapping[str, msgspec.Raw]) -> int:
    """How many texts are to be embedded. A list of numbers is one text, as tokens."""
    raw = members.get("input")
    if raw is None or _begin(raw) not in (b'["', b"[[", b"[{"):
        return 1
    try:
        return max(1, len(_list.decode(raw)))
    except (msgspec.DecodeError, RecursionError):
        return 1


def characters(members: Mapping[str, msgspec.Raw]) -> int | None:
    """How long the text is that is to be embedded, spoken or looked at; None: there is not one text."""
    raw = members.get("input")
    if raw is None or bytes(memoryview(raw)[:1]) != b'"':
        return None
    try:
        return len(_text.decode(raw))
    except msgspec.DecodeError:
        return None


def opening(members: Mapping[str, msgspec.Raw]) -> bytes:
    """The first bytes of the prompt: a copy, so that no large body is held by it."""
    raw = members.get("messages") or members.get("prompt") or members.get("input")
    if raw is None:
        return b""
    if "tools" in members or "functions" in members:
        tools = bytes(memoryview(members.get("tools") or members["functions"])[:_OF_TOOLS])
        return tools + bytes(memoryview(raw)[: OPENING - len(tools)])
    return bytes(raw) if len(raw) <= OPENING else bytes(memoryview(raw)[:OPENING])


def _begin(raw: msgspec.Raw | None) -> bytes:
    """The first two signs of a value without the white space between them."""
    if raw is None:
        return b""
    return bytes(memoryview(raw)[:64]).translate(None, b" \t\r\n")[:2]


def _is_schema(raw: msgspec.Raw) -> bool:
    try:
        return _part.decode(raw).type == "json_schema"
    except (msgspec.DecodeError, RecursionError):
        return False


def _pictures(members: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a message has a picture among its parts. Somebody may as well only speak of one."""
    raw = members.get("messages") or members.get("input")
    try:
        contents = [message.content for message in _messages.decode(raw or b"[]")]
        lists = [content for content in contents if bytes(memoryview(content)[:1]) == b"["]
        return any(part.type in _PICTURES for content in lists for part in _parts.decode(content))
    except (msgspec.DecodeError, RecursionError):
        return False
