"""A message of Anthropic's as a whole chat answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fleetgate.dialects.anthropic.upstream.table import CUT, FINISHES
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping


def completion(message: Mapping[str, Any], created: int) -> dict[str, Any]:
    """The answer. `created`: Unix time, which a message does not say. Raises AttemptFailed."""
    blocks = message.get("content")
    if message.get("type") != "message" or not isinstance(blocks, list):
        raise AttemptFailed(FailureClass.GARBAGE, "the answer is no message")
    texts, thoughts, calls = [], [], []
    cut = message.get("stop_reason") in CUT
    for at, block in enumerate(blocks):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            texts.append(str(block.get("text") or ""))
        elif kind == "thinking":
            thoughts.append(str(block.get("thinking") or ""))
        elif kind == "tool_use":
            given = block.get("input") or {}
            torn = not given and cut and at == len(blocks) - 1  # its arguments had not begun
            arguments = "" if torn else msgspec.json.encode(given).decode()
            function = {"name": block.get("name"), "arguments": arguments}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if any(thoughts):
        said["reasoning_content"] = "".join(thoughts)
    if calls:
        said["tool_calls"] = calls
    choice = {"index": 0, "message": said, "finish_reason": finish(message.get("stop_reason"))}
    met = message.get("stop_sequence")
    answer = {
        "id": message.get("id"),
        "object": "chat.completion",
        "created": created,
        "model": message.get("model"),
        "choices": [choice if met is None else choice | {"stop_reason": met}],
    }
    usage = usage_block(message.get("usage"))
    return answer if usage is None else answer | {"usage": usage}


def finish(reason: Any) -> str:
    return FINISHES.get(reason, "stop") if isinstance(reason, str) else "stop"


def usage_block(found: Any) -> dict[str, Any] | None:
    """OpenAI's block, where cached tokens are among those of the input. None: nothing was counted."""
    if not isinstance(found, dict):
        return None
    counts = {name: value for name, value in found.items() if type(value) is int}
    if "input_tokens" not in counts and "output_tokens" not in counts:
        return None
    cached, written = counts.get("cache_read_input_tokens"), counts.get("cache_creation_input_tokens")
    whole = counts.get("input_tokens", 0) + (cached or 0) + (written or 0)
    output = counts.get("output_tokens", 0)
    block: dict[str, Any] = {
        "prompt_tokens": whole,
        "completion_tokens": output,
        "total_tokens": whole + output,
    }
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    if cached is not None or written is not None:
        block["prompt_tokens_details"] = {name: one for name, one in details.items() if one is not None}
    spent = found.get("output_tokens_details")
    if isinstance(spent, dict) and type(spent.get("thinking_tokens")) is int:
        block["completion_tokens_details"] = {"reasoning_tokens": spent["thinking_tokens"]}
    return block
