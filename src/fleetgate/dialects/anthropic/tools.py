"""Tools and the choice among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.anthropic.members import (
    flag,
    malformed,
    object_in,
    objects,
    rest,
    text_in,
    untranslatable,
)
from fleetgate.dialects.anthropic.table import CHOICES, KNOWN_TO_CLAUDE, RUN_AT_ANTHROPIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.left_out import LeftOut

_TOOL: Final = ("type", "name", "description", "input_schema", "strict", "allowed_callers")
_ADVICE: Final = "Leave the tool out, or define one of your own with a name and an `input_schema`."


def functions(value: Any, left_out: LeftOut) -> list[dict[str, Any]]:
    """`tools` as functions."""
    return [_function(tool, f"tools.{at}", left_out) for at, tool in enumerate(objects(value, "tools"))]


def _function(tool: dict[str, Any], where: str, left_out: LeftOut) -> dict[str, Any]:
    kind = tool.get("type")
    if kind not in (None, "custom"):
        raise untranslatable(f"{where}.type", _why_not(str(kind)[:60]), _ADVICE)
    rest(left_out, tool, _TOOL, "tools")
    callers = tool.get("allowed_callers")
    if isinstance(callers, list) and callers and callers != ["direct"]:
        if "direct" not in callers:
            what = "may be called by code that runs at Anthropic alone, and none runs here"
            raise untranslatable(f"{where}.allowed_callers", what, "Allow `direct` as well.")
        left_out.add("tools.allowed_callers")
    function: dict[str, Any] = {"name": text_in(tool, "name", where)}
    if tool.get("description") is not None:
        function["description"] = text_in(tool, "description", where)
    function["parameters"] = object_in(tool, "input_schema", where)
    if tool.get("strict") is not None:
        function["strict"] = flag(tool["strict"], f"{where}.strict")
    return {"type": "function", "function": function}


def _why_not(kind: str) -> str:
    if kind.startswith(RUN_AT_ANTHROPIC):
        return f"the tool {kind!r} runs at Anthropic and cannot be used through other models"
    if kind.startswith(KNOWN_TO_CLAUDE):
        return f"what the tool {kind!r} takes is known to Claude alone"
    return f"a tool of type {kind!r} is not known here"


def choice(value: Any, *, tools: bool) -> Mapping[str, Any]:
    """The members that `tool_choice` becomes. Without tools there is nothing to choose."""
    if not isinstance(value, dict):
        raise malformed("tool_choice", "must be an object")
    kind = value.get("type")
    chosen: dict[str, Any] = {}
    if kind == "tool":
        name = text_in(value, "name", "tool_choice")
        chosen["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif isinstance(kind, str) and kind in CHOICES:
        chosen["tool_choice"] = CHOICES[kind]
    else:
        raise malformed("tool_choice.type", "must be auto, any, tool or none")
    if not tools:
        if kind in ("tool", "any"):
            raise malformed("tool_choice", "asks for a tool, and `tools` holds none")
        return {}
    alone = value.get("disable_parallel_tool_use")
    if alone is not None and flag(alone, "tool_choice.disable_parallel_tool_use"):
        chosen["parallel_tool_calls"] = False
    return chosen
