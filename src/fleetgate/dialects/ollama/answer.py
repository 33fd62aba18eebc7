"""Whole answers, and what they have in common with the lines of a stream.

The counters of the last object come from `usage`, and where the engine measures itself from `timings`. What
nobody counted is left out. Its form has no place for a refusal of the model: that is something it said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from fleetgate.dialects.ollama.asked import Operation
from fleetgate.dialects.timings import read_timings
from fleetgate.dialects.usage import read_usage
from fleetgate.domain import Capability
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetgate.dialects.ollama.asked import Asked

_NANO: Final = 1_000_000_000
_CUT: Final = "length"
_LOADED: Final = "load"
REASONS: Final = {"stop": "stop", _CUT: _CUT, "tool_calls": "stop", "function_call": "stop"}
"""finish reasons by what Ollama calls them; others keep their own word, `content_filter` for one"""


@dataclass(frozen=True, slots=True)
class Said:
    """What one piece of an answer, or a whole one, has to say."""

    content: str = ""
    thinking: str = ""
    calls: Sequence[Mapping[str, Any]] = ()
    probabilities: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.content or self.thinking or self.calls or self.probabilities)


def date(at: float) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def piece(asked: Asked, at: float, said: Said) -> dict[str, Any]:
    """An object with a part of the answer, to be followed by others."""
    form: dict[str, Any] = {"model": asked.model, "created_at": date(at)}
    beside: dict[str, Any] = {"thinking": said.thinking} if said.thinking else {}
    if said.calls:
        beside["tool_calls"] = list(said.calls)
    if asked.operation is Operation.CHAT:
        form["message"] = {"role": "assistant", "content": said.content, **beside}
    else:
        form |= {"response": said.content, **beside}
    form["done"] = False
    if said.probabilities:
        form["logprobs"] = list(said.probabilities)
    return form


def ended(form: dict[str, Any], reason: str | None, counters: Mapping[str, int]) -> dict[str, Any]:
    """The same as the last object of an answer."""
    form["done"] = True
    if reason:
        form["done_reason"] = REASONS.get(reason, reason)
    return {**form, **counters}


def whole(asked: Asked, body: Mapping[str, Any], request_id: str, now: float) -> dict[str, Any]:
    """A chat completion or a completion as one object. Raises AttemptFailed (garbage)."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        garbage("the answer has no choices")
    choice = choices[0]
    reason = reason_of(choice)
    message = choice if asked.capability is Capability.COMPLETE else choice.get("message")
    if not isinstance(message, dict):
        garbage("the answer has no message")
    content, thinking = words(message)
    made = calls(call_pieces(message), request_id, cut=is_cut(reason))
    said = Said(content, thinking, made, probabilities(choice))
    counted = counters(body.get("usage"), body.get("timings"), now - asked.began)
    return ended(piece(asked, now, said), reason, counted)


def in_memory(asked: Asked, now: float) -> dict[str, Any]:
    """The answer to a request that only loads a model."""
    if asked.operation is Operation.EMBED:
        return {"model": asked.model, "embeddings": []}
    if asked.operation is Operation.EMBEDDINGS:
        return {"embedding": []}
    return ended(piece(asked, now, Said()), _LOADED, {})


def words(message: Mapping[str, Any]) -> tuple[str, str]:
    """What it says and what it thinks, of a message, a delta, or a choice of a completion."""
    content, thinking = _words(message.get("content", message.get("text")))
    thought = message.get("reasoning_content") or message.get("reasoning")
    refusal = message.get("refusal")
    return (
        content + (refusal if isinstance(refusal, str) else ""),
        (thought if isinstance(thought, str) else "") + thinking,
    )


def _words(content: Any) -> tuple[str, str]:
    """Some providers send parts where others have a text, and think in one of them."""
    if not content:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        garbage("the answer's content is no text")
    said, thought = "", ""
    for part in content:
        if not isinstance(part, dict):
            garbage("a part of the answer is no object")
        if part.get("type") == "thinking":
            inner = part.get("thinking")
            thought += inner if isinstance(inner, str) else _words(inner)[0]
        elif isinstance(part.get("text"), str):
            said += part["text"]
    return said, thought


def reason_of(choice: Mapping[str, Any]) -> str | None:
    """Why it ended, in the engine's word."""
    found = choice.get("finish_reason")
    return str(found) if found else None


def is_cut(reason: str | None) -> bool:
    """Whether its bound ended it."""
    return reason == _CUT


def call_pieces(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Calls of tools in a message, or pieces of them in a delta. Raises AttemptFailed (garbage)."""
    found = message.get("tool_calls") or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        garbage("calls of tools are no list of objects")
    return found


def calls(found: Sequence[Mapping[str, Any]], request_id: str, *, cut: bool) -> list[dict[str, Any]]:
    """Calls with their arguments read. `cut`: the answer's bound ended it, so that the last one may be torn;
    it is left out, since nobody could make it. Raises AttemptFailed (garbage)."""
    made: list[dict[str, Any]] = []
    for index, call in enumerate(found):
        function = call.get("function")
        if not isinstance(function, dict):
            garbage("a call of a tool has no function")
        name, arguments = function.get("name"), _arguments(function.get("arguments"))
        torn = cut and index == len(found) - 1
        if torn and (arguments is None or not function.get("arguments")):
            break
        if arguments is None or not name or not isinstance(name, str):
            garbage("a call of a tool has no name, or arguments that are no JSON object")
        call_id = call.get("id") or f"call_{request_id}_{index}"
        made.append({"id": call_id, "function": {"index": index, "name": name, "arguments": arguments}})
    return made


def _arguments(found: Any) -> dict[str, Any] | None:
    """None: they are no object. No arguments at all is what some engines send for none."""
    if isinstance(found, dict):
        return found
    if found is None or (isinstance(found, str) and not found.strip()):
        return {}
    try:
        value = msgspec.json.decode(found) if isinstance(found, str) else found
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def probabilities(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of a chat; a completion has them in another form, and is not asked for them."""
    found = choice.get("logprobs")
    tokens = found.get("content") if isinstance(found, dict) else None
    return [_token(one) for one in tokens if isinstance(one, dict)] if isinstance(tokens, list) else []


def _token(found: Mapping[str, Any]) -> dict[str, Any]:
    token = {name: found[name] for name in ("token", "logprob", "bytes") if found.get(name) is not None}
    others = found.get("top_logprobs")
    if isinstance(others, list) and others:
        token["top_logprobs"] = [_token(one) for one in others if isinstance(one, dict)]
    return token


def counters(usage: Any, timings: Any, seconds: float) -> dict[str, int]:
    """Tokens and nanoseconds. `seconds`: from the request to the end of its answer."""
    read, measured = read_usage(usage), read_timings(timings)
    inputs, outputs = read.input_tokens, read.output_tokens
    prompt_seconds = decode_seconds = None
    if measured is not None:
        prompt_seconds, decode_seconds = measured.prompt_seconds, measured.decode_seconds
        if inputs is None and measured.prompt_tokens is not None:
            inputs = measured.prompt_tokens + (measured.cached_tokens or 0)
        outputs = measured.output_tokens if outputs is None else outputs
    found = {
        "total_duration": _nanoseconds(seconds),
        "prompt_eval_count": inputs,
        "prompt_eval_duration": _nanoseconds(prompt_seconds),
        "eval_count": outputs,
        "eval_duration": _nanoseconds(decode_seconds),
    }
    return {name: value for name, value in found.items() if value is not None}


def _nanoseconds(seconds: float | None) -> int | None:
    """A clock that was set back tells nothing."""
    return None if seconds is None or seconds <= 0 else round(seconds * _NANO)


def garbage(why: str) -> NoReturn:
    """It cannot be an answer."""
    raise AttemptFailed(FailureClass.GARBAGE, why)
