"""A Messages request as a chat request. What becomes of each member: `table.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.anthropic import members as read
from fleetgate.dialects.anthropic import tools
from fleetgate.dialects.anthropic.table import EFFORTS
from fleetgate.dialects.anthropic.turns import chat_messages
from fleetgate.dialects.left_out import LeftOut
from fleetgate.dialects.port import Translated
from fleetgate.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

_READ: Final = frozenset(
    {"model", "max_tokens", "messages", "system", "stop_sequences", "stream", "temperature", "top_p", "top_k"}
    | {"tools", "tool_choice", "thinking", "output_config", "output_format", "metadata"}
    | {"inference_geo", "mcp_servers", "thread"}
)
_THINKING: Final = ("type", "budget_tokens", "display")


@dataclass(frozen=True, slots=True)
class Memory:
    """What an answer needs of its request."""

    model: str = ""
    """the name asked for"""
    stop_sequences: tuple[str, ...] = ()
    thinking: bool = True
    """thinking is shown"""
    prefill: str = ""
    """the beginning of the answer, which the caller wrote"""


def translate(body: Mapping[str, Any]) -> Translated:
    """A request for a message. Raises Refused (400)."""
    limit = body.get("max_tokens")
    if limit is None:
        what = "max_tokens: this dialect requires it"
        raise Refused(400, "malformed", what, advice="Say how long the answer may be.", param="max_tokens")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise read.malformed("max_tokens", "must be a number of at least 1")
    left_out = LeftOut()
    chat, memory = _chat(body, left_out)
    chat["max_tokens"] = limit
    return Translated(chat, left_out.names(), memory)


def named(body: Mapping[str, Any]) -> None:
    """Raises Refused (400) where the request names no model."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        advice = "Set `model`; GET /v1/models lists the names."
        raise Refused(
            400, "model_missing_in_request", "the request names no model", advice=advice, param="model"
        )


def chat_form(body: Mapping[str, Any]) -> dict[str, Any]:
    """The chat that a request without a bound would be, as for a count. Raises Refused (400)."""
    return _chat(body, LeftOut())[0]


def _chat(body: Mapping[str, Any], left_out: LeftOut) -> tuple[dict[str, Any], Memory]:
    _refuse(body)
    named(body)
    chat: dict[str, Any] = {"model": body["model"]}
    if body.get("stream") is not None:
        chat["stream"] = read.flag(body["stream"], "stream")
    chat["messages"] = chat_messages(body.get("system"), body.get("messages"), left_out)
    stops = _stops(body.get("stop_sequences"))
    if stops:
        chat["stop"] = stops
    for name in ("temperature", "top_p", "top_k"):
        if body.get(name) is not None:
            chat[name] = read.number(body[name], name)
    if body.get("tools"):
        chat["tools"] = tools.functions(body["tools"], left_out)
    if body.get("tool_choice") is not None:
        chat |= tools.choice(body["tool_choice"], tools="tools" in chat)
    _output(body, chat, left_out)
    kind, shown = _thinking(body.get("thinking"), chat, left_out)
    prefill = _prefill(chat, kind)
    read.rest(left_out, body, _READ, "")
    return chat, Memory(body["model"], tuple(stops), shown, prefill)


def _refuse(body: Mapping[str, Any]) -> None:
    """What would have to be answered by somebody else."""
    if body.get("inference_geo") not in (None, "global"):
        what = "where the machines stand is not known to the gateway"
        raise read.untranslatable("inference_geo", what, "Ask a model whose place you know, without it.")
    if body.get("mcp_servers"):
        advice = "Call the tools yourself and name them in `tools`."
        raise read.untranslatable("mcp_servers", "the gateway calls no tools for anybody", advice)
    if body.get("thread"):
        advice = "Send all messages with every request."
        raise read.untranslatable("thread", "conversations are not kept here", advice)


def _stops(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise read.malformed("stop_sequences", "must be a list of texts")
    return value


def _output(body: Mapping[str, Any], chat: dict[str, Any], left_out: LeftOut) -> None:
    """The form of the answer, and how much thought goes into it."""
    form, where = body.get("output_format"), "output_format"
    config = body.get("output_config")
    if config is not None:
        config = read.object_in(body, "output_config", "")
        read.rest(left_out, config, ("effort", "format"), "output_config")
        if config.get("format") is not None:
            form, where = config["format"], "output_config.format"
        effort = config.get("effort")
        if effort is not None:
            if effort not in EFFORTS:
                raise read.malformed("output_config.effort", f"must be one of {', '.join(EFFORTS)}")
            chat["reasoning_effort"] = EFFORTS[effort]
            if EFFORTS[effort] != effort:
                left_out.add(f"output_config.effort.{effort}")
    if form is None:
        return
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise read.malformed(f"{where}.type", "must be json_schema")
    read.rest(left_out, form, ("type", "schema"), where)
    # The form between requires a name; that of the dialect has none. It promises answers that follow the
    # schema, which is what `strict` asks for.
    schema = {"name": "answer", "schema": read.object_in(form, "schema", where), "strict": True}
    chat["response_format"] = {"type": "json_schema", "json_schema": schema}


def _thinking(value: Any, chat: dict[str, Any], left_out: LeftOut) -> tuple[str, bool]:
    """Its kind, and whether thinking is shown."""
    if value is None:
        return "", True
    if not isinstance(value, dict):
        raise read.malformed("thinking", "must be an object")
    read.rest(left_out, value, _THINKING, "thinking")
    kind = value.get("type")
    if kind == "disabled":
        chat["reasoning_effort"] = "none"
        chat["chat_template_kwargs"] = {"enable_thinking": False}
    elif kind == "enabled":
        chat["chat_template_kwargs"] = {"enable_thinking": True}
        budget = value.get("budget_tokens")
        if budget is not None:
            chat["thinking_budget_tokens"] = read.number(budget, "thinking.budget_tokens")
    elif kind == "between_tools":
        left_out.add("thinking.between_tools")
    elif kind != "adaptive":
        raise read.malformed("thinking.type", "must be enabled, disabled or adaptive")
    return kind, kind != "disabled" and value.get("display") != "omitted"


def _prefill(chat: dict[str, Any], thinking: str) -> str:
    """The beginning of the answer, where the last turn is the assistant's: the model goes on from there.

    A model that thinks first cannot, so thinking is switched off, as it is in this dialect.
    """
    last = chat["messages"][-1]
    if last["role"] != "assistant" or not last["content"] or "tool_calls" in last:
        return ""
    if thinking == "enabled":
        raise read.malformed("messages", "the last one cannot be the assistant's while thinking is enabled")
    chat["continue_final_message"] = True
    chat["add_generation_prompt"] = False
    chat["chat_template_kwargs"] = {"enable_thinking": False}
    return str(last["content"])
