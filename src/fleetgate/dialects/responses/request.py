"""A Responses request in the form that stands between: a decoded body in, a whole body out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.left_out import LeftOut
from fleetgate.dialects.port import Translated
from fleetgate.dialects.responses.fields import (
    list_at,
    malformed,
    object_at,
    text_at,
    unsupported,
)
from fleetgate.dialects.responses.items import read_items
from fleetgate.dialects.responses.table import AS_THEY_ARE, LENGTHS, NOT_STORED
from fleetgate.dialects.responses.tools import Tools

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.responses.tools import Called

_LOGPROBS: Final = "message.output_text.logprobs"
"""the one `include` that has a place"""
_READ: Final = frozenset(
    {
        *("model", "stream", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls"),
        *("text", "reasoning", "top_logprobs", "include", "truncation", "store", "metadata"),
        *("background", "moderation", "generate", "stream_options"),
        *AS_THEY_ARE,
        *LENGTHS,
        *NOT_STORED,
    }
)
_ECHOED: Final = (
    *("instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "prompt_cache_key"),
    *("reasoning", "safety_identifier", "temperature", "text", "tool_choice", "tools"),
    *("top_logprobs", "top_p", "truncation", "user"),
)
"""members that come back in the answer as they were asked"""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the answer needs of its request."""

    model: str = ""
    """as asked for; an answer says who gave it, once that is known"""
    echo: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, Called] = field(default_factory=dict)
    """tools by their name in the form between"""
    summary: bool = False
    """a summary of the thoughts was asked for, so they are shown in its place"""
    usage: bool = False
    """a frame of usage was asked for, in the way of chat completions"""


def read_request(body: Mapping[str, Any]) -> Translated:
    """Raises Refused (400) with what is wrong and where."""
    _refuse(body)
    left_out = LeftOut()
    left_out.rest(body, _READ)
    members: dict[str, Any] = {name: body[name] for name in AS_THEY_ARE if body.get(name) is not None}
    tools = Tools(left_out)
    if body.get("tools") is not None:
        tools.add(body["tools"], "tools")
    if body.get("input") is None:
        raise malformed("input", "a text or a list of items")
    members["messages"] = read_items(body["input"], body.get("instructions"), tools, left_out)
    if not members["messages"]:
        raise malformed("input", "more than nothing")
    members |= tools.members(body.get("tool_choice"), parallel=body.get("parallel_tool_calls"))
    for name in LENGTHS:
        if body.get(name) is not None:
            members.setdefault("max_tokens", body[name])  # every engine knows this one
    members |= _format(body.get("text"), left_out)
    members |= _effort(body.get("reasoning"), left_out)
    members |= _logprobs(body, left_out)
    _name_the_rest(body, left_out)
    return Translated(members, left_out.names(), _memory(body, tools))


def _refuse(body: Mapping[str, Any]) -> None:
    for name, why in NOT_STORED.items():
        if body.get(name) is not None:
            raise unsupported(name, why, "Send the whole conversation in `input`, with `store: false`.")
    if body.get("background"):
        why = "the gateway answers the caller who waits for it"
        raise unsupported("background", why, "Leave it out, and stream long answers.")
    if body.get("moderation") is not None:
        raise unsupported("moderation", "nothing would be checked", "Ask for moderation apart.")
    if body.get("generate") is False:
        raise unsupported("generate", "every request is answered", "Leave it out.")


def _format(found: Any, left_out: LeftOut) -> dict[str, Any]:
    """`response_format`."""
    if found is None:
        return {}
    text = object_at(found, "text")
    left_out.rest(text, ("format",), "text.")
    if text.get("format") is None:
        return {}
    form = object_at(text["format"], "text.format")
    kind = form.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": kind}}
    if kind != "json_schema":
        raise malformed("text.format.type", "one of text, json_object, json_schema")
    schema: dict[str, Any] = {
        "name": text_at(form.get("name"), "text.format.name"),
        "schema": object_at(form.get("schema"), "text.format.schema"),
    }
    for name in ("description", "strict"):
        if form.get(name) is not None:
            schema[name] = form[name]
    left_out.rest(form, ("type", *schema), "text.format.")
    return {"response_format": {"type": kind, "json_schema": schema}}


def _effort(found: Any, left_out: LeftOut) -> dict[str, Any]:
    if found is None:
        return {}
    reasoning = object_at(found, "reasoning")
    left_out.rest(reasoning, ("effort",), "reasoning.")
    if reasoning.get("effort") is None:
        return {}
    return {"reasoning_effort": text_at(reasoning["effort"], "reasoning.effort")}


def _logprobs(body: Mapping[str, Any], left_out: LeftOut) -> dict[str, Any]:
    included = [] if body.get("include") is None else list_at(body["include"], "include")
    if any(one != _LOGPROBS for one in included):
        left_out.add("include")
    most = body.get("top_logprobs")
    found: dict[str, Any] = {"logprobs": True} if most or _LOGPROBS in included else {}
    if most:
        found["top_logprobs"] = most
    return found


def _name_the_rest(body: Mapping[str, Any], left_out: LeftOut) -> None:
    """Members that are known, and have no place in the form between."""
    if body.get("truncation") not in (None, "disabled"):
        left_out.add("truncation")
    for name in ("store", "metadata"):
        if body.get(name):
            left_out.add(name)
    options = body.get("stream_options")
    if options is not None:
        for name, value in object_at(options, "stream_options").items():
            if value and name != "include_usage":
                left_out.add(f"stream_options.{name}")


def _memory(body: Mapping[str, Any], tools: Tools) -> Memory:
    reasoning = body.get("reasoning") or {}
    wanted = [reasoning.get(name) for name in ("summary", "generate_summary")]
    options = body.get("stream_options") or {}
    return Memory(
        model=body["model"] if isinstance(body.get("model"), str) else "",
        echo={name: body[name] for name in _ECHOED if body.get(name) is not None},
        names=tools.names,
        summary=any(one not in (None, "none") for one in wanted),
        usage=bool(options.get("include_usage")),
    )
