"""Content blocks that are the same in every turn: text, images, documents, search results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.anthropic.members import malformed, object_in, objects, rest, text_in, untranslatable

if TYPE_CHECKING:
    from fleetgate.dialects.left_out import LeftOut

JOINT: Final = "\n"
"""between texts that become one, as engines join the parts of a message themselves"""
_SEND_TEXT: Final = "Send its text as a text block."
_SEND_PICTURE: Final = "Send the picture itself as base64."


def parts(content: Any, where: str, left_out: LeftOut) -> list[dict[str, Any]]:
    """The content of a turn or of a tool's result, in the parts of a chat message."""
    if isinstance(content, str):
        return [text_part(content)]
    return [part(block, f"{where}.{at}", left_out) for at, block in enumerate(objects(content, where))]


def part(block: dict[str, Any], where: str, left_out: LeftOut) -> dict[str, Any]:
    """One block as a part. Raises Refused for blocks that cannot be one."""
    kind = text_in(block, "type", where)
    if kind == "text":
        rest(left_out, block, ("type", "text"), kind)
        return text_part(text_in(block, "text", where))
    if kind == "image":
        rest(left_out, block, ("type", "source"), kind)
        return {"type": "image_url", "image_url": {"url": _picture(object_in(block, "source", where), where)}}
    if kind == "document":
        return text_part(_document(block, where, left_out))
    if kind == "search_result":
        rest(left_out, block, ("type", "title", "source", "content"), kind)
        found = only_text(block.get("content"), f"{where}.content", left_out)
        return text_part(_under((block.get("title"), block.get("source")), found))
    if kind == "tool_reference":
        rest(left_out, block, ("type", "tool_name"), kind)
        return text_part(text_in(block, "tool_name", where))
    raise untranslatable(
        where,
        f"blocks of type {kind[:60]!r} cannot be carried over to other models here",
        "Leave the block out, or say the same as text.",
    )


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def only_text(content: Any, where: str, left_out: LeftOut) -> str:
    """Content that may hold text alone."""
    found = parts(content, where, left_out)
    for at, one in enumerate(found):
        if one["type"] != "text":
            raise malformed(f"{where}.{at}", "only text can stand here")
    return JOINT.join(one["text"] for one in found if one["text"])


def as_content(found: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Parts as they are sent: one text where nothing else is among them, which every engine reads alike."""
    if all(one["type"] == "text" for one in found):
        return JOINT.join(one["text"] for one in found if one["text"])
    return [one for one in found if one["type"] != "text" or one["text"]]


def _picture(source: dict[str, Any], where: str) -> str:
    kind = source.get("type")
    where = f"{where}.source"
    if kind == "base64":
        return f"data:{text_in(source, 'media_type', where)};base64,{text_in(source, 'data', where)}"
    if kind == "url":
        return text_in(source, "url", where)
    raise untranslatable(where, f"a picture of type {str(kind)[:60]!r} cannot be read here", _SEND_PICTURE)


def _document(block: dict[str, Any], where: str, left_out: LeftOut) -> str:
    rest(left_out, block, ("type", "source", "title", "context"), "document")
    source = object_in(block, "source", where)
    kind = source.get("type")
    where = f"{where}.source"
    if kind == "text":
        text = text_in(source, "data", where)
    elif kind == "content":
        text = only_text(source.get("content"), f"{where}.content", left_out)
    else:
        what = f"a document of type {str(kind)[:60]!r} cannot be read by the models here"
        raise untranslatable(where, what, _SEND_TEXT)
    return _under((block.get("title"), block.get("context")), text)


def _under(heads: tuple[Any, ...], text: str) -> str:
    return JOINT.join([*(head for head in heads if isinstance(head, str) and head), text])
