"""A chat request as a Messages request, for Anthropic's own models. What becomes of what: `table.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.anthropic import members as read
from fleetgate.dialects.anthropic.upstream.table import CHOICES, EFFORTS
from fleetgate.dialects.anthropic.upstream.turns import turns
from fleetgate.dialects.left_out import LeftOut

if TYPE_CHECKING:
    from collections.abc import Mapping

_READ: Final = frozenset(
    {"model", "messages", "max_completion_tokens", "max_tokens", "stop", "stream", "temperature", "top_p"}
    | {"top_k", "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "user"}
    | {"chat_template_kwargs", "thinking_budget_tokens", "stream_options", "n", "modalities"}
    | {"continue_final_message", "add_generation_prompt"}
)
_REFUSED: Final = {
    "audio": "Ask for text.",
    "functions": "Use `tools`.",
    "function_call": "Use `tool_choice`.",
    "web_search_options": "Leave it out, or ask a model that searches.",
}
_HOTTEST: Final = 1.0
"""of temperatures"""


@dataclass(frozen=True, slots=True)
class Outbound:
    """A request as Anthropic takes it."""

    members: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def outbound(chat: Mapping[str, Any], *, most: int) -> Outbound:
    """The request. `most`: tokens of the longest answer of the model, for callers who set no bound. Raises
    Refused (400) for what only another model can answer."""
    left_out = LeftOut()
    _refuse(chat)
    system, messages = turns(chat.get("messages"), left_out)
    body: dict[str, Any] = {"model": read.text_in(chat, "model", ""), "max_tokens": _bound(chat, most)}
    if system:
        body["system"] = system
    body["messages"] = messages
    if chat.get("stream") is not None:
        body["stream"] = read.flag(chat["stream"], "stream")
    _sampling(chat, body, left_out)
    _tools(chat, body, left_out)
    _format(chat.get("response_format"), body, left_out)
    _thinking(chat, body, left_out)
    if isinstance(chat.get("user"), str) and chat["user"]:
        body["metadata"] = {"user_id": chat["user"]}
    read.rest(left_out, chat, _READ, "")
    return Outbound(body, left_out.names())


def _refuse(chat: Mapping[str, Any]) -> None:
    if chat.get("n") not in (None, 1):
        raise read.untranslatable("n", "Anthropic's models give one answer", "Ask as often as you need.")
    modalities = chat.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        raise read.untranslatable("modalities", "Anthropic's models do not speak", "Ask for text.")
    for name, advice in _REFUSED.items():
        if chat.get(name) is not None:
            raise read.untranslatable(name, "Anthropic's models have no such thing", advice)


def _bound(chat: Mapping[str, Any], most: int) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = chat.get(name)
        if type(value) is int and value > 0:
            return value
    return most


def _sampling(chat: Mapping[str, Any], body: dict[str, Any], left_out: LeftOut) -> None:
    stop = chat.get("stop")
    stops = [stop] if isinstance(stop, str) else (stop or [])
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
        raise read.malformed("stop", "must be a text or a list of texts")
    visible = [one for one in stops if one.strip()]
    if len(visible) < len(stops):
        left_out.add("stop.white_space")
    if visible:
        body["stop_sequences"] = visible
    for name in ("temperature", "top_p", "top_k"):
        if chat.get(name) is not None:
            body[name] = read.number(chat[name], name)
    if body.get("temperature", 0) > _HOTTEST:
        body["temperature"] = _HOTTEST
        left_out.add("temperature.above_1")


def _tools(chat: Mapping[str, Any], body: dict[str, Any], left_out: LeftOut) -> None:
    tools = [
        _tool(tool, f"tools.{at}", left_out)
        for at, tool in enumerate(read.objects(chat.get("tools") or [], "tools"))
    ]
    if not tools:
        return
    body["tools"] = tools
    choice = _choice(chat.get("tool_choice"))
    if chat.get("parallel_tool_calls") is False and choice != {"type": "none"}:
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    if choice:
        body["tool_choice"] = choice


def _tool(tool: dict[str, Any], where: str, left_out: LeftOut) -> dict[str, Any]:
    if tool.get("type") != "function":
        what = "only functions can be carried over"
        raise read.untranslatable(f"{where}.type", what, "Define the tool as a function.")
    where = f"{where}.function"
    function = read.object_in(tool, "function", where.removesuffix(".function"))
    read.rest(left_out, function, ("name", "description", "parameters", "strict"), "tools.function")
    found: dict[str, Any] = {"name": read.text_in(function, "name", where)}
    if isinstance(function.get("description"), str):
        found["description"] = function["description"]
    # A function may say nothing of what it takes; Anthropic wants a schema.
    found["input_schema"] = function.get("parameters") or {"type": "object", "properties": {}}
    if function.get("strict") is not None:
        found["strict"] = read.flag(function["strict"], f"{where}.strict")
    return found


def _choice(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str) and value in CHOICES:
        return {"type": CHOICES[value]}
    if isinstance(value, dict) and value.get("type") == "function":
        function = read.object_in(value, "function", "tool_choice")
        return {"type": "tool", "name": read.text_in(function, "name", "tool_choice.function")}
    what = "only auto, none, required or one function can be carried over"
    raise read.untranslatable("tool_choice", what, "Choose one of these.")


def _format(value: Any, body: dict[str, Any], left_out: LeftOut) -> None:
    if value is None or value == {"type": "text"}:
        return
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "json_object":  # its prompt has to ask for JSON in words, and they are carried
        left_out.add("response_format.json_object")
        return
    if kind != "json_schema":
        raise read.malformed("response_format.type", "must be text, json_object or json_schema")
    schema = read.object_in(value, "json_schema", "response_format")
    form = {"type": kind, "schema": read.object_in(schema, "schema", "response_format.json_schema")}
    body["output_config"] = {"format": form}


def _thinking(chat: Mapping[str, Any], body: dict[str, Any], left_out: LeftOut) -> None:
    """By the clearest of the switches that callers of engines use. Said twice, a plain no counts most."""
    effort, switches = chat.get("reasoning_effort"), chat.get("chat_template_kwargs")
    switch = None
    if isinstance(switches, dict):
        switch = switches.get("enable_thinking")
        read.rest(left_out, switches, ("enable_thinking",), "chat_template_kwargs")
    budget = chat.get("thinking_budget_tokens")
    if effort is not None and effort != "none":
        if not isinstance(effort, str) or effort not in EFFORTS:
            raise read.malformed("reasoning_effort", f"must be none or one of {', '.join(EFFORTS)}")
        body["output_config"] = body.get("output_config", {}) | {"effort": EFFORTS[effort]}
    if effort == "none" or switch is False:
        body["thinking"] = {"type": "disabled"}
    elif budget is not None:
        body["thinking"] = {"type": "enabled", "budget_tokens": read.number(budget, "thinking_budget_tokens")}
    elif effort is not None or switch is True:
        body["thinking"] = {"type": "adaptive"}
