"""The usage block of an answer in OpenAI's form, with what other providers add to it.

A count of a wrong type is unknown; what it says beside that still counts. `input_tokens` and
`output_tokens` of `Usage` are what is billed: some providers leave the tokens of reasoning out of the
answer's count and only their total tells, and Anthropic's own form leaves cached ones out of the input.
"""

from __future__ import annotations

from typing import Any, Final

from fleetgate.domain import Usage

_MOST: Final = 1 << 53
"""No answer has so many; such a number is not a count."""
_PLAIN: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
"""the usual block: nothing else to look for"""


def read_usage(found: Any) -> Usage:
    """What a usage block says; anything else says nothing."""
    if not isinstance(found, dict):
        return Usage()
    whole, output = _count(found, "prompt_tokens"), _count(found, "completion_tokens")
    if whole is None and output is None:
        whole, output = _others_names(found)
    total = _count(found, "total_tokens")
    if total is not None and whole is not None:
        output = max(0, total - whole) if output is None else max(output, total - whole)
    if len(found) <= len(_PLAIN) and found.keys() <= _PLAIN:
        return Usage(whole, output)
    inputs = _part(found, "prompt_tokens_details") or _part(found, "input_tokens_details")
    outputs = _part(found, "completion_tokens_details") or _part(found, "output_tokens_details")
    return Usage(
        whole,
        output,
        _first(inputs, found, "cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"),
        cache_write_tokens=_first(
            inputs, found, "cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens"
        ),
        audio_input_tokens=_count(inputs, "audio_tokens"),
        audio_output_tokens=_count(outputs, "audio_tokens"),
        reasoning_tokens=_first(outputs, found, "reasoning_tokens"),
        milliseconds=_milliseconds(found),
    )


_HOLDERS: Final = ("x_groq",)
"""members of a piece of a stream in which some providers put the block"""


def usage_in(piece: dict[str, Any]) -> Any:
    """The usage block of a piece of a stream, wherever it stands."""
    found = piece.get("usage")
    if isinstance(found, dict):
        return found
    held = (piece.get(name) for name in _HOLDERS)
    return next((one["usage"] for one in held if isinstance(one, dict) and "usage" in one), found)


def _others_names(found: dict[str, Any]) -> tuple[int | None, int | None]:
    """Answers with pictures or sound, and Anthropic's form, in which cached tokens are counted beside."""
    whole, output = _count(found, "input_tokens"), _count(found, "output_tokens")
    if whole is not None and not _part(found, "input_tokens_details"):
        whole += max(0, _count(found, "cache_read_input_tokens") or 0)
        whole += max(0, _count(found, "cache_creation_input_tokens") or 0)
    return whole, output


def _milliseconds(found: dict[str, Any]) -> int | None:
    """Of audio that is billed by its length. Providers count whole seconds."""
    seconds = found.get("seconds") if found.get("type") == "duration" else found.get("prompt_audio_seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < _MOST:
        return None
    return -int(-seconds * 1_000 // 1)


def _part(found: dict[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _first(inner: dict[str, Any], outer: dict[str, Any], *names: str) -> int | None:
    """The first of these counts that is there, in the details before the block itself."""
    for where in (inner, outer):
        for name in names:
            count = _count(where, name)
            if count is not None:
                return count
    return None


def _count(found: dict[str, Any], name: str) -> int | None:
    value = found.get(name)
    return value if type(value) is int and -_MOST < value < _MOST else None
