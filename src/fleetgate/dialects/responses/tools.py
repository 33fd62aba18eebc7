"""Tools of a request: their names in both forms, and which of them may be called.

The form between knows functions with a flat name. A custom tool becomes a function with one text, `input`;
the tools of a namespace are named `namespace__tool`. What the model then calls is turned back by `names`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects.responses.fields import list_at, malformed, object_at, text_at, unsupported
from fleetgate.dialects.responses.table import OFFERED_TOOLS
from fleetgate.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.left_out import LeftOut

INPUT: Final = "input"
"""the one argument of the function that stands for a custom tool"""
PLAIN_NAMESPACE: Final = "functions"
"""the namespace of tools that have none"""
LONGEST_NAME: Final = 64
"""characters of a function's name that providers take"""
_KNOWN: Final = frozenset({"type", "name", "description", "parameters", "strict", "format", "function"})
_CHOICES: Final = frozenset({"auto", "none", "required"})
_NAMED: Final = frozenset({"function", "custom"})
_RUNS_ELSEWHERE: Final = "it runs at OpenAI, and the gateway runs no tools"
_OWN: Final = "Leave it out, or describe a function of your own."


@dataclass(frozen=True, slots=True)
class Called:
    """A tool as its caller knows it."""

    name: str
    namespace: str | None = None
    custom: bool = False


class Tools:
    """All tools of one request."""

    __slots__ = ("_by_tool", "_definitions", "_left_out", "_offered", "_taken", "names")

    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out
        self._definitions: dict[str, dict[str, Any]] = {}
        self._by_tool: dict[tuple[str | None, str], str] = {}
        self._taken: set[str] = set()
        self._offered: dict[str, str] = {}
        """built-in tools that can be left out: type → where it stood"""
        self.names: dict[str, Called] = {}
        """name in the form between → the tool as its caller knows it"""

    def add(self, tools: Any, where: str, namespace: str | None = None) -> None:
        """Take definitions in; one that comes again replaces the first."""
        for number, one in enumerate(list_at(tools, where)):
            place = f"{where}[{number}]"
            tool = object_at(one, place)
            kind = text_at(tool.get("type"), f"{place}.type")
            if kind in _NAMED:
                self._define(tool, place, namespace, custom=kind == "custom")
            elif kind == "namespace" and namespace is None:
                if tool.get("description"):
                    self._left_out.add("tools[].namespace.description")
                name = text_at(tool.get("name"), f"{place}.name")
                self.add(tool.get("tools"), f"{place}.tools", name)
            elif kind in OFFERED_TOOLS:
                self._offered.setdefault(kind, place)
            else:
                raise unsupported(place, f"`{kind}` is no tool of yours: {_RUNS_ELSEWHERE}", _OWN)

    def named(self, namespace: str | None, name: str) -> str:
        """The name in the form between, also of a tool that is only spoken of."""
        namespace = None if namespace == PLAIN_NAMESPACE else namespace
        known = self._by_tool.get((namespace, name))
        if known is None:
            known = self._by_tool[namespace, name] = self._free(_joined(namespace, name))
        return known

    def is_custom(self, named: str) -> bool:
        called = self.names.get(named)
        return called is not None and called.custom

    def members(self, choice: Any, *, parallel: Any) -> dict[str, Any]:
        """`tools`, `tool_choice` and `parallel_tool_calls` of the form between."""
        allowed, choice = self._allowed(choice)
        self._leave_out_offered(choice)
        found: dict[str, Any] = {}
        tools = [self._definitions[name] for name in self._definitions if allowed is None or name in allowed]
        if tools:
            found["tools"] = tools
            if choice is not None:
                found["tool_choice"] = choice
            if parallel is not None:
                found["parallel_tool_calls"] = parallel
        elif choice not in (None, "auto", "none"):
            raise malformed("tool_choice", "`auto` or `none` where there are no tools")
        return found

    def _define(self, tool: Mapping[str, Any], place: str, namespace: str | None, *, custom: bool) -> None:
        inner = tool.get("function")
        source = inner if isinstance(inner, dict) else tool  # as chat completions write it
        self._left_out.rest(source, _KNOWN, "tools[].")
        name = text_at(source.get("name"), f"{place}.name")
        named = self.named(namespace, name)
        namespace = None if namespace == PLAIN_NAMESPACE else namespace
        function: dict[str, Any] = {"name": named}
        if source.get("description") is not None:
            function["description"] = text_at(source["description"], f"{place}.description")
        if custom:
            function["parameters"] = self._parameters(source.get("format"), place)
        else:
            for member in ("parameters", "strict"):
                if source.get(member) is not None:
                    function[member] = source[member]
        self.names[named] = Called(name, namespace, custom)
        self._definitions[named] = {"type": "function", "function": function}

    def _parameters(self, form: Any, place: str) -> dict[str, Any]:
        """Of the function that stands for a custom tool. A grammar can only be told, not enforced."""
        text: dict[str, Any] = {"type": "string"}
        if form is not None:
            form = object_at(form, f"{place}.format")
            grammar = form.get("grammar") if isinstance(form.get("grammar"), dict) else form
            if form.get("type") == "grammar":
                self._left_out.add("tools[].format")
                syntax = text_at(grammar.get("syntax"), f"{place}.format.syntax")
                definition = text_at(grammar.get("definition"), f"{place}.format.definition")
                text["description"] = f"A text that follows this {syntax} grammar:\n{definition}"
        return {
            "type": "object",
            "properties": {INPUT: text},
            "required": [INPUT],
            "additionalProperties": False,
        }

    def _allowed(self, choice: Any) -> tuple[set[str] | None, Any]:
        """Which tools may be called (None: all), and the choice in the form between."""
        if choice is None or (isinstance(choice, str) and choice in _CHOICES):
            return None, choice
        if isinstance(choice, str):
            raise malformed("tool_choice", "one of auto, none, required, or an object")
        choice = object_at(choice, "tool_choice")
        kind = text_at(choice.get("type"), "tool_choice.type")
        if kind in _NAMED:
            return None, {"type": "function", "function": {"name": self._chosen(choice, "tool_choice")}}
        if kind == "allowed_tools":
            return self._list(choice)
        raise unsupported("tool_choice", f"`{kind}` cannot be called: {_RUNS_ELSEWHERE}", _OWN)

    def _list(self, choice: dict[str, Any]) -> tuple[set[str], Any]:
        inner = choice.get("allowed_tools")
        choice = inner if isinstance(inner, dict) else choice  # as chat completions write it
        mode = choice.get("mode", "auto")
        if mode not in ("auto", "required"):
            raise malformed("tool_choice.mode", "`auto` or `required`")
        allowed: set[str] = set()
        for number, one in enumerate(list_at(choice.get("tools"), "tool_choice.tools")):
            place = f"tool_choice.tools[{number}]"
            tool = object_at(one, place)
            kind = text_at(tool.get("type"), f"{place}.type")
            if kind in _NAMED:
                allowed.add(self._chosen(tool, place))
            elif kind not in OFFERED_TOOLS:
                raise unsupported(place, f"`{kind}` cannot be called: {_RUNS_ELSEWHERE}", _OWN)
        return allowed, mode

    def _chosen(self, choice: Mapping[str, Any], place: str) -> str:
        inner = choice.get("function", choice.get("custom"))
        source = inner if isinstance(inner, dict) else choice
        name = text_at(source.get("name"), f"{place}.name")
        namespace = source.get("namespace")
        if namespace is not None:
            namespace = text_at(namespace, f"{place}.namespace")
        known = self._by_tool.get((None if namespace == PLAIN_NAMESPACE else namespace, name), name)
        if known not in self._definitions:
            raise Refused(
                400, "unknown_tool", f"`{place}` names {name!r}, which is not among `tools`", param=place
            )
        return known

    def _leave_out_offered(self, choice: Any) -> None:
        for kind, place in self._offered.items():
            if not self._definitions or choice not in (None, "auto", "none"):
                raise unsupported(place, f"`{kind}` cannot be called: {_RUNS_ELSEWHERE}", _OWN)
            self._left_out.add(f"tools[].{kind}")

    def _free(self, name: str) -> str:
        """A name that no other tool has, and not too long a one where it is ours."""
        found, number = name, 1
        while found in self._taken:
            number += 1
            found = f"{name[: LONGEST_NAME - 4]}_{number}"
        self._taken.add(found)
        return found


def _joined(namespace: str | None, name: str) -> str:
    if namespace is None:
        return name
    parted = "" if namespace.endswith("_") or name.startswith("_") else "__"
    whole = f"{namespace}{parted}{name}"
    if len(whole) <= LONGEST_NAME:
        return whole
    mark = hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{whole[: LONGEST_NAME - 9]}_{mark}"


def wrapped(text: str) -> str:
    """A custom tool's input as the arguments of the function that stands for it."""
    return msgspec.json.encode({INPUT: text}).decode()
