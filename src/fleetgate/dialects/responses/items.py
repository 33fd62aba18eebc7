"""`input`: items in, messages out, in the same order.

An answer of the model is several items there (text, calls) and one message here, so what belongs together
is put together: a call joins the assistant's message right before it, and a text that comes between a call
and its output joins the message of the call. A tool's answer holds only text here; pictures and files of it
follow in a user message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects.asides import placed
from fleetgate.dialects.responses.fields import list_at, malformed, object_at, text_at, unsupported
from fleetgate.dialects.responses.table import QUIET, SPENT_ITEMS
from fleetgate.dialects.responses.tools import INPUT, wrapped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.left_out import LeftOut
    from fleetgate.dialects.responses.tools import Tools

_ROLES: Final = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXTS: Final = frozenset({"input_text", "output_text", "text", "summary_text"})
_THOUGHTS: Final = frozenset({"reasoning_text", "summary_text"})
_CALLS: Final = {"function_call": "arguments", "custom_tool_call": INPUT}
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_OF_TOOLS: Final = frozenset({"additional_tools", "tool_search_output"})
_KNOWN: Final = frozenset(
    {*QUIET, "content", "call_id", "name", "namespace", "arguments", "input", "output", "tools", "execution"}
)
_WHOLE: Final = "Send the whole conversation in `input`."
_STORED: Final = {
    "item_reference": ("the gateway stores no items", _WHOLE),
    "compaction": ("only who compacted it can read it", _WHOLE),
    "compaction_trigger": ("the gateway compacts no conversations", "Ask for a summary in words."),
}
_ELSEWHERE: Final = ("it belongs to a tool that the gateway does not have", "Leave it out.")
_IN_DATA: Final = "Send it in the request, as a `data:` address."


def read_items(found: Any, instructions: Any, tools: Tools, left_out: LeftOut) -> list[dict[str, Any]]:
    """The messages of a request. The tools that stand among the items are taken in as well."""
    turns = _Turns()
    if instructions is not None:
        turns.say("system", text_at(instructions, "instructions"))
    if isinstance(found, str):
        turns.say("user", found)
        return turns.whole()
    items = [_Item(one, f"input[{number}]", left_out) for number, one in enumerate(list_at(found, "input"))]
    for item in items:
        item.read_tools(tools)
    for item in items:
        item.read(turns, tools)
    return turns.whole()


class _Turns:
    """Messages as they come together."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._calling: dict[str, Any] | None = None
        """the assistant's last message, while calls may still join it"""
        self._first: list[str] = []
        """texts of the system message at the beginning: many templates take one, and only there"""
        self._said: list[str] = []
        """texts of the assistant's last message"""
        self._late: list[dict[str, Any]] = []
        """what tools gave beside text"""
        self._thoughts: list[str] = []
        """before the answer that they belong to"""

    def think(self, thought: str) -> None:
        self._thoughts.append(thought)

    def say(self, role: str, content: Any) -> None:
        if role == "assistant":
            self._answer(content)
            return
        self._close()
        self._thoughts = []
        if role == "system" and not self._messages:
            self._first.append(content)
        else:
            self._messages.append({"role": role, "content": content})

    def call(self, call_id: str, name: str, arguments: str) -> None:
        if self._calling is None:
            self._answer(None)
            assert self._calling is not None
        self._add_thoughts()
        call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        self._calling.setdefault("tool_calls", []).append(call)

    def output(self, call_id: str, text: Any, late: list[dict[str, Any]]) -> None:
        self._close_answer()
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": text})
        if late:
            self._late += [{"type": "text", "text": f"Output of {call_id}:"}, *late]

    def whole(self) -> list[dict[str, Any]]:
        self._close()
        if self._first:
            self._messages.insert(0, {"role": "system", "content": "\n\n".join(self._first)})
        return placed(self._messages)

    def _answer(self, content: Any) -> None:
        if self._calling is None or "tool_calls" not in self._calling:
            self._close()
            self._calling = {"role": "assistant", "content": None}
            self._messages.append(self._calling)
        if content is not None:
            self._said.append(content)
        self._add_thoughts()

    def _add_thoughts(self) -> None:
        if self._thoughts and self._calling is not None:
            before = self._calling.get("reasoning_content")
            thoughts = [*([before] if before else []), *self._thoughts]
            self._calling["reasoning_content"] = "\n".join(thoughts)
        self._thoughts = []

    def _close_answer(self) -> None:
        if self._calling is not None and self._said:
            self._calling["content"] = "\n".join(self._said)
        self._calling, self._said = None, []

    def _close(self) -> None:
        self._close_answer()
        if self._late:
            self._messages.append({"role": "user", "content": self._late})
            self._late = []


class _Item:
    """One item, and where it stood."""

    def __init__(self, item: Any, place: str, left_out: LeftOut) -> None:
        self._item: Mapping[str, Any] = object_at(item, place)
        self._kind = text_at(item.get("type", "message"), f"{place}.type")
        self._place = place
        self._left_out = left_out

    def read_tools(self, tools: Tools) -> None:
        """They may be used by items before this one."""
        if self._kind in _OF_TOOLS and self._item.get("tools") is not None:
            tools.add(self._item["tools"], f"{self._place}.tools")

    def read(self, turns: _Turns, tools: Tools) -> None:
        item, place, kind = self._item, self._place, self._kind
        if kind == "reasoning" and (thought := self._thought()):
            turns.think(thought)
            return
        if kind in SPENT_ITEMS:
            self._left_out.add(f"input[].{kind}")
            return
        self._left_out.rest(item, _KNOWN, "input[].")
        if kind == "message":
            self._say(turns)
        elif kind in _CALLS:
            self._call(turns, tools, custom=kind == "custom_tool_call")
        elif kind in _OUTPUTS:
            self._output(turns)
        elif kind not in _OF_TOOLS:
            why, advice = _STORED.get(kind, _ELSEWHERE)
            raise unsupported(place, f"`{kind}` cannot be read: {why}", advice)

    def _thought(self) -> str:
        """What an engine thought in plain words, as it was told to the caller; empty where others can only be
        quoted: who encrypts its thoughts gives no more than a summary of them."""
        item = self._item
        if item.get("encrypted_content"):
            return ""
        parts = item.get("content") or item.get("summary") or ()
        return "\n".join(
            part["text"]
            for part in (parts if isinstance(parts, list) else ())
            if isinstance(part, dict) and part.get("type") in _THOUGHTS and isinstance(part.get("text"), str)
        )

    def _say(self, turns: _Turns) -> None:
        role = _ROLES.get(text_at(self._item.get("role"), f"{self._place}.role"))
        if role is None:
            raise malformed(f"{self._place}.role", "one of user, assistant, system, developer")
        content = self._item.get("content")
        if isinstance(content, str):
            turns.say(role, content)
            return
        parts = self._parts(content, f"{self._place}.content")
        if role == "user":
            turns.say(role, _plain(parts))
            return
        if any(part["type"] != "text" for part in parts):
            raise malformed(f"{self._place}.content", f"text in a message of the role {self._item['role']}")
        turns.say(role, "\n".join(part["text"] for part in parts))

    def _call(self, turns: _Turns, tools: Tools, *, custom: bool) -> None:
        item, place = self._item, self._place
        call_id = text_at(item.get("call_id"), f"{place}.call_id")
        namespace = item.get("namespace")
        if namespace is not None:
            namespace = text_at(namespace, f"{place}.namespace")
        name = tools.named(namespace, text_at(item.get("name"), f"{place}.name"))
        member = "input" if custom else "arguments"
        arguments = text_at(item.get(member), f"{place}.{member}")
        if custom or (tools.is_custom(name) and not _is_wrapped(arguments)):
            arguments = wrapped(arguments)
        turns.call(call_id, name, arguments)

    def _output(self, turns: _Turns) -> None:
        call_id = text_at(self._item.get("call_id"), f"{self._place}.call_id")
        output = self._item.get("output")
        if isinstance(output, str):
            turns.output(call_id, output, [])
            return
        parts = self._parts(output, f"{self._place}.output")
        texts = [part for part in parts if part["type"] == "text"]
        late = [part for part in parts if part["type"] != "text"]
        text = _plain(texts) if texts or not late else "See the next message."
        turns.output(call_id, text, late)

    def _parts(self, found: Any, where: str) -> list[dict[str, Any]]:
        parts = enumerate(list_at(found, where))
        return [self._part(object_at(part, f"{where}[{at}]"), f"{where}[{at}]") for at, part in parts]

    def _part(self, part: dict[str, Any], where: str) -> dict[str, Any]:
        kind = text_at(part.get("type"), f"{where}.type")
        read: dict[str, Any]
        if kind in _TEXTS:
            known: tuple[str, ...] = ("text",)
            read = {"type": "text", "text": text_at(part.get("text"), f"{where}.text")}
        elif kind == "refusal":
            known = ("refusal",)
            read = {"type": "text", "text": text_at(part.get("refusal"), f"{where}.refusal")}
        elif kind == "input_image":
            known = ("image_url", "detail", "file_id")
            read = _picture(part, where)
        elif kind == "input_file":
            known = ("file_data", "filename", "file_id", "file_url")
            read = _file(part, where)
        elif kind == "input_audio":
            known = ("input_audio",)
            read = {"type": "input_audio", "input_audio": object_at(part.get("input_audio"), where)}
        else:
            raise unsupported(where, f"a part of the type {kind!r} cannot be read", "Leave it out.")
        self._left_out.rest(part, {*QUIET, *known}, "input[].content[].")
        return read


def _picture(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    if part.get("file_id") is not None:
        raise unsupported(f"{where}.file_id", "the gateway stores no files", _IN_DATA)
    picture: dict[str, Any] = {"url": text_at(part.get("image_url"), f"{where}.image_url")}
    if part.get("detail") is not None:
        picture["detail"] = text_at(part["detail"], f"{where}.detail")
    return {"type": "image_url", "image_url": picture}


def _file(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name, why in (
        ("file_id", "the gateway stores no files"),
        ("file_url", "the gateway fetches no files"),
    ):
        if part.get(name) is not None:
            raise unsupported(f"{where}.{name}", why, "Send it in the request, as `file_data`.")
    file: dict[str, Any] = {"file_data": text_at(part.get("file_data"), f"{where}.file_data")}
    if part.get("filename") is not None:
        file["filename"] = text_at(part["filename"], f"{where}.filename")
    return {"type": "file", "file": file}


def _plain(parts: list[dict[str, Any]]) -> Any:
    """Texts alone need no list around them: some engines take none, others make several messages of one."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _is_wrapped(arguments: str) -> bool:
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
    return isinstance(found, dict) and isinstance(found.get(INPUT), str)
