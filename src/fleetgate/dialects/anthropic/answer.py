"""A whole chat answer as a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects.anthropic.table import FAILED, STOPS
from fleetgate.dialects.usage import read_usage
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.anthropic.request import Memory
    from fleetgate.domain import Usage

THOUGHTS: Final = ("reasoning_content", "reasoning")
"""where engines put thinking"""


def message(body: Mapping[str, Any], memory: Memory, request_id: str) -> dict[str, Any]:
    """The message. Raises AttemptFailed where the answer cannot be one."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    said = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(said, dict):
        raise AttemptFailed(FailureClass.GARBAGE, "the answer holds no message")
    finish = first.get("finish_reason")
    content = _spoken(said, memory, echoes="timings" in body)
    calls = _calls(said.get("tool_calls"), request_id, cut=finish == "length")
    refusal = said.get("refusal")
    if isinstance(refusal, str) and refusal:
        content.append({"type": "text", "text": refusal})
        finish = "content_filter"
    reason, sequence = stop(finish, first.get("stop_reason"), memory, called=bool(calls))
    opening = head(memory, request_id)
    usage = usage_form(read_usage(body.get("usage")))
    return opening | {
        "content": [*content, *calls],
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage,
    }


def head(memory: Memory, request_id: str) -> dict[str, Any]:
    """A message of which nothing was said yet."""
    return {
        "id": f"msg_{_bare(request_id)}",
        "type": "message",
        "role": "assistant",
        "model": memory.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _bare(request_id: str) -> str:
    return request_id.removeprefix("req_")


def call_id(given: Any, request_id: str, at: int) -> str:
    """The engine's id of a call, or one of ours where it gives none."""
    return given if isinstance(given, str) and given else f"toolu_{_bare(request_id)}_{at}"


def stop(finish: Any, met: Any, memory: Memory, *, called: bool) -> tuple[str, str | None]:
    """`stop_reason` and `stop_sequence`. `met`: what the engine says it stopped at."""
    known = finish if isinstance(finish, str) else ""
    if known in FAILED:
        raise AttemptFailed(FailureClass.SERVER_ERROR, f"the engine ended the answer with {finish!r}")
    reason = STOPS.get(known, "end_turn")
    if reason in ("end_turn", "tool_use"):
        reason = "tool_use" if called else "end_turn"  # a call that was demanded ends with `stop`
    if reason != "end_turn":
        return reason, None
    if isinstance(met, str) and met in memory.stop_sequences:
        return "stop_sequence", met
    return reason, None


def usage_form(usage: Usage) -> dict[str, Any]:
    """Usage in this dialect, where the input counts without its cached tokens. It has no word for unknown
    where a number is required: that is 0."""
    beside = (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)
    form: dict[str, Any] = {
        "input_tokens": max(0, (usage.input_tokens or 0) - beside),
        "output_tokens": usage.output_tokens or 0,
    }
    if usage.cached_tokens is not None:
        form["cache_read_input_tokens"] = usage.cached_tokens
    if usage.cache_write_tokens is not None:
        form["cache_creation_input_tokens"] = usage.cache_write_tokens
    if usage.reasoning_tokens is not None:
        form["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return form


def thought_in(said: Mapping[str, Any]) -> str:
    """Thinking in a message or a piece of one."""
    for name in THOUGHTS:
        value = said.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def text_in(value: Any) -> str:
    """Text of a message or a piece of one; some providers send parts."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        texts = [one.get("text") for one in value if isinstance(one, dict) and one.get("type") == "text"]
        return "".join(one for one in texts if isinstance(one, str))
    raise garbage("its content is neither text nor parts")


def garbage(what: str) -> AttemptFailed:
    return AttemptFailed(FailureClass.GARBAGE, f"the answer cannot be a message: {what}")


def arguments_of(value: Any) -> str:
    """Arguments of a call as text. Some engines send the object itself."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    raise garbage("arguments of a call are neither text nor an object")


def _spoken(said: Mapping[str, Any], memory: Memory, *, echoes: bool) -> list[dict[str, Any]]:
    """Thinking and text. `echoes`: llama.cpp repeats what the caller wrote of the answer in a whole one."""
    content: list[dict[str, Any]] = []
    thought = thought_in(said)
    if thought and memory.thinking:
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    text = text_in(said.get("content"))
    if echoes and memory.prefill:
        text = text.removeprefix(memory.prefill)
    if text:
        content.append({"type": "text", "text": text})
    return content


def _calls(value: Any, request_id: str, *, cut: bool) -> list[dict[str, Any]]:
    """Calls of tools. `cut`: the answer met its bound, so the last one may be half; it is left out, since a
    call with other arguments than the model's must never be made."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise garbage("its calls are no list")
    calls: list[dict[str, Any]] = []
    for at, call in enumerate(value):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise garbage("a call names no function")
        arguments = arguments_of(function.get("arguments"))
        given = parsed(arguments)
        if cut and at == len(value) - 1 and (given is None or not arguments.strip()):
            break
        if given is None:
            raise garbage(f"the arguments of {function['name'][:60]!r} are not a JSON object")
        block = {"type": "tool_use", "id": call_id(call.get("id"), request_id, at)}
        calls.append(block | {"name": function["name"], "input": given})
    return calls


def parsed(arguments: str) -> dict[str, Any] | None:
    """The arguments of a call; none at all are an empty object."""
    if not arguments.strip():
        return {}
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None
