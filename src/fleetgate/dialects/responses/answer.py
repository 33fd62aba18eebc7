"""The response object: its frame, its items, and a whole answer put into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.openai import error_object
from fleetgate.dialects.responses import said
from fleetgate.dialects.responses.custom import unwrapped
from fleetgate.dialects.responses.said import ENDS, Kind
from fleetgate.dialects.responses.tools import Called
from fleetgate.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.responses.request import Memory
    from fleetgate.errors import Refused

_DIGITS: Final = 12
"""hexadecimal digits of a request id that tell its time in milliseconds"""
_ASKED: Final[dict[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": None,
    "top_p": None,
    "user": None,
}
"""what a response says of a request that left it open; a default of the model's own is not known here"""
_CODES: Final[dict[FailureClass, str]] = {
    FailureClass.CONTEXT_TOO_LONG: "context_length_exceeded",
    FailureClass.RATE_LIMITED: "rate_limit_exceeded",
    FailureClass.QUOTA_EXHAUSTED: "rate_limit_exceeded",
    FailureClass.LIMIT_REACHED: "rate_limit_exceeded",
    FailureClass.BAD_REQUEST: "invalid_prompt",
    FailureClass.REFUSED_CONTENT: "invalid_prompt",
}
"""codes that clients of this API act upon; all else is `server_error`"""


class Ids:
    """Ids of a response and its items, which follow from the request's."""

    __slots__ = ("_stem",)

    def __init__(self, request_id: str) -> None:
        self._stem = request_id.removeprefix("req_")

    @property
    def response(self) -> str:
        return f"resp_{self._stem}"

    @property
    def began(self) -> int:
        """When the request came, in seconds since 1970, as its id tells it."""
        try:
            return int(self._stem[:_DIGITS], 16) // 1_000
        except ValueError:
            return 0

    def item(self, prefix: str, number: int) -> str:
        return f"{prefix}_{self._stem}_{number}"


def frame_of(memory: Memory, ids: Ids, model: str, status: str) -> dict[str, Any]:
    """A response without its items."""
    asked = {**_ASKED, **memory.echo}
    asked["text"] = {**_ASKED["text"], **asked["text"]}
    return {
        "id": ids.response,
        "object": "response",
        "created_at": ids.began,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": model or memory.model,
        "output": [],
        "previous_response_id": None,
        "store": False,
        "usage": None,
        **asked,
        "truncation": "disabled",
    }


def finished(frame: dict[str, Any], reason: Any, output: list[dict[str, Any]], spent: Any) -> dict[str, Any]:
    """The response with its items, complete or not. The last item is what an early end has cut."""
    why = ENDS.get(reason) if isinstance(reason, str) else None
    if why is not None:
        frame["status"] = "incomplete"
        frame["incomplete_details"] = {"reason": why}
    frame["output"] = output
    frame["usage"] = said.usage(spent)
    return frame


def failed(frame: dict[str, Any], refused: Refused, request_id: str) -> dict[str, Any]:
    """The response that an error ended."""
    error = error_object(refused, request_id)
    code = _CODES.get(refused.failure, "server_error") if refused.failure is not None else "server_error"
    message = error["message"]
    if refused.status == 429:
        code = "rate_limit_exceeded"
    if refused.retry_after is not None:
        message = f"{message.rstrip('.')}. Try again in {max(1, round(refused.retry_after))}s."
    frame["status"] = "failed"
    frame["error"] = {**error, "code": code, "message": message, "reason": refused.code}
    return frame


# -- items ---------------------------------------------------------------------------------------------


def thought_item(item_id: str, text: str | None, status: str, *, summary: bool) -> dict[str, Any]:
    """None: the text is still to come."""
    parts = [] if text is None else [thought_part(text, summary=summary)]
    return {
        "id": item_id,
        "type": "reasoning",
        "status": status,
        "summary": parts if summary else [],
        **({} if summary else {"content": parts}),
        "encrypted_content": None,
    }


def thought_part(text: str, *, summary: bool) -> dict[str, Any]:
    return {"type": "summary_text" if summary else "reasoning_text", "text": text}


def message_item(item_id: str, parts: list[dict[str, Any]], status: str) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": parts}


def text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": logprobs, "text": text}


def refusal_part(text: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": text}


NO_ARGUMENTS: Final = "{}"
"""of a call that is whole: some engines write nothing for none, and clients parse what they get"""


def call_item(item_id: str, call_id: str, called: Called, given: str, status: str) -> dict[str, Any]:
    """A call of a function (`given`: its arguments) or a custom tool (its input)."""
    kind, member = ("custom_tool_call", "input") if called.custom else ("function_call", "arguments")
    item = {
        "id": item_id,
        "type": kind,
        "status": status,
        "call_id": call_id,
        "name": called.name,
        member: given,
    }
    if called.namespace is not None:
        item["namespace"] = called.namespace
    return item


def prefix_of(called: Called) -> str:
    return "ctc" if called.custom else "fc"


# -- a whole answer ------------------------------------------------------------------------------------


def whole(body: Mapping[str, Any], memory: Memory, request_id: str) -> dict[str, Any]:
    """A whole answer of the form between as a response."""
    ids = Ids(request_id)
    choice = next(iter(said.choices(body)), {})
    message = choice.get("message")
    output = _output(message if isinstance(message, dict) else {}, choice, memory, ids)
    reason = choice.get("finish_reason")
    if output and isinstance(reason, str) and ENDS.get(reason) is not None:
        output[-1]["status"] = "incomplete"
    for item in output:
        if item["status"] == "completed" and "arguments" in item and not item["arguments"].strip():
            item["arguments"] = NO_ARGUMENTS
    model = body.get("model")
    frame = frame_of(memory, ids, model if isinstance(model, str) else "", "completed")
    if isinstance(body.get("service_tier"), str):
        frame["service_tier"] = body["service_tier"]
    return finished(frame, reason, output, body.get("usage"))


def _output(
    message: Mapping[str, Any], choice: Mapping[str, Any], memory: Memory, ids: Ids
) -> list[dict[str, Any]]:
    texts: dict[Kind, str] = {}
    for kind, text in said.pieces(message):
        texts[kind] = texts.get(kind, "") + text
    output: list[dict[str, Any]] = []
    if Kind.THOUGHT in texts:
        item_id = ids.item("rs", 0)
        output.append(thought_item(item_id, texts[Kind.THOUGHT], "completed", summary=memory.summary))
    parts: list[dict[str, Any]] = []
    if Kind.TEXT in texts:
        parts.append(text_part(texts[Kind.TEXT], said.logprobs(choice)))
    if Kind.REFUSAL in texts:
        parts.append(refusal_part(texts[Kind.REFUSAL]))
    if parts:
        output.append(message_item(ids.item("msg", len(output)), parts, "completed"))
    for call in said.calls(message):
        name, arguments = said.function_of(call)
        called = memory.names.get(name) or Called(name)
        given = unwrapped(arguments) if called.custom else arguments
        number = len(output)
        call_id = call["id"] if isinstance(call.get("id"), str) and call["id"] else ids.item("call", number)
        output.append(call_item(ids.item(prefix_of(called), number), call_id, called, given, "completed"))
    return output
