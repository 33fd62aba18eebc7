"""Requests in the form between as what llama.cpp's own calls take. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects.plain_text import is_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

APPLY: Final = "/apply-template"
TOKENIZE: Final = "/tokenize"
PROPS: Final = "/props"
COMPLETION: Final = "/completion"

SAMPLING: Final = frozenset(
    {
        *("temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma", "min_keep", "seed"),
        *("dynatemp_range", "dynatemp_exponent", "xtc_probability", "xtc_threshold"),
        *("repeat_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty"),
        *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"),
        *("samplers", "logit_bias", "ignore_eos", "cache_prompt"),
    }
)
"""members that both calls read alike. What keeps a state that ids do not carry (mirostat) or bounds the time
is not among them."""
_LENGTHS: Final = ("n_predict", "max_tokens", "max_completion_tokens")
"""as the engine's chat call reads them: the first one counts"""
_WITHOUT_EFFECT: Final = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
        *("parallel_tool_calls", "tool_choice", "tools", "functions", "function_call", "n", "best_of"),
        *("response_format", "logprobs", "top_logprobs", "modalities", "audio", "echo", "suffix"),
    }
)
"""members that change nothing in what passed `plain_text.why_not`"""
_OURS: Final = frozenset({"model", "stream", "stream_options", "stop"})
_OF_THE_PROMPT: Final = frozenset({"messages", "chat_template_kwargs", "prompt"})
_THINKS: Final = re.compile(r"think|reason", re.IGNORECASE)
_CHANNELS: Final = re.compile(r"channel", re.IGNORECASE)
_CLOSED: Final = re.compile(r"</think(?:ing)?>\s*\Z")
_encode: Final = msgspec.json.encode


def why_not(members: Mapping[str, Any]) -> str:
    """Why a request for plain text cannot be asked by ids, in words; empty: it can."""
    known = SAMPLING | _WITHOUT_EFFECT | _OURS | _OF_THE_PROMPT
    for name, value in members.items():
        if value is not None and name not in known and name not in _LENGTHS:
            return f"`{name}`"
    if members.get("tools") or members.get("functions"):
        return "`tools`"
    stop = members.get("stop")
    if not (stop is None or isinstance(stop, str) or _all_text(stop)):
        return "`stop`"
    found = [members[name] for name in _LENGTHS if members.get(name) is not None]
    if any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in found):
        return "a length that is no number of tokens"
    return ""


def is_greedy(members: Mapping[str, Any]) -> bool:
    """Whether the most likely token is always taken, so that the same request has the same answer."""
    heat, most = members.get("temperature"), members.get("top_k")
    return (isinstance(heat, int | float) and heat <= 0) or most == 1


def longest(members: Mapping[str, Any]) -> int | None:
    """Tokens that the answer may have; None: it is not said."""
    return next((members[name] for name in _LENGTHS if members.get(name) is not None), None)


def template(members: Mapping[str, Any]) -> bytes:
    """What `/apply-template` is asked for a conversation."""
    asked = {name: members[name] for name in ("model", "messages", "chat_template_kwargs") if name in members}
    return _encode(asked)


def tokenize(model: str, text: str) -> bytes:
    """What `/tokenize` is asked for a whole prompt: the same that the engine does with it."""
    return _encode({"model": model, "content": text, "add_special": True, "parse_special": True})


def piece(model: str, text: str) -> bytes:
    """What `/tokenize` is asked for a piece of an answer."""
    return _encode({"model": model, "content": text, "add_special": False, "parse_special": False})


def ids_of(members: Mapping[str, Any]) -> list[int] | None:
    """A prompt that comes in ids already."""
    prompt: Any = members.get("prompt")
    return list(prompt) if is_ids(prompt) else None


def completion(members: Mapping[str, Any], model: str, ids: Sequence[int], most: int | None) -> bytes:
    """What `/completion` is asked. `most`: tokens that may still be said. Nothing is set that the caller did
    not write: the engine's own defaults are the same in both calls."""
    asked: dict[str, Any] = {"model": model, "prompt": list(ids), "stream": True, "return_tokens": True}
    asked |= {name: members[name] for name in SAMPLING if members.get(name) is not None}
    stop = members.get("stop")
    if stop is not None:
        asked["stop"] = [stop] if isinstance(stop, str) else stop
    if most is not None:
        asked["n_predict"] = most
    return _encode(asked)


def may_think(written: str, prompt: str, members: Mapping[str, Any]) -> bool:
    """Whether an answer may begin with thoughts, which only the engine's chat call keeps apart from what is
    said. `written`: the model's template. A template that speaks of thinking is trusted only where the
    caller switched that off and the prompt shows that it was heeded."""
    if _CHANNELS.search(written):
        return True
    if not _THINKS.search(written):
        return False
    wishes = members.get("chat_template_kwargs")
    off = isinstance(wishes, dict) and wishes.get("enable_thinking") is False
    return not (off and _CLOSED.search(prompt))


def _all_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
