"""What the adapters read alike: JSON, an upstream's own error words, model lists, Prometheus text.

Everything here takes bytes from a stranger: wrong types are ignored, nothing raises.
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.domain import Capability, Model
from fleetgate.engines.port import Ask, Reading, Reply
from fleetgate.errors import MAX_UPSTREAM_TEXT, FailureClass
from fleetgate.units import params_in_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SHOWN: Final = 300
"""characters of an error body that is not JSON"""
_SECRET: Final = re.compile(
    r"(?i:bearer\s+)\S+"
    r"|\b(?:sk|pk|rk|gsk|hf|xai|pplx|nvapi|r8|key|ghp|glpat|AIza|AKIA|csk|fw|tgp)[-_]?[A-Za-z0-9_\-]*[A-Za-z0-9*]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?i:(?<=api_key=)|(?<=apikey=)|(?<=token=)|(?<=[?&]key=))[^&\s\"']+"
    r"|\b(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9_]{32,}\b"
)
_LOADING: Final = re.compile(r"\b(?:loading|being loaded|not (?:yet )?loaded)\b", re.IGNORECASE)
_TAGS: Final = re.compile(r"(?is)<(script|style).*?</\1>|<[^>]*>")
_SPACE: Final = re.compile(r"[\s\x00-\x1f\x7f]+")
_COUNT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMBT])", re.IGNORECASE)
_BILLIONS: Final = MappingProxyType({"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3})
_METRIC: Final = re.compile(r'([A-Za-z_:][\w:]*)(?:\{(?:[^"}]|"(?:\\.|[^"\\])*")*\})?\s+(\S+)')
_KIND_BY_NAME: Final = (
    ("embed", frozenset({Capability.EMBED})),
    ("rerank", frozenset({Capability.RERANK})),
    ("whisper", frozenset({Capability.TRANSCRIBE, Capability.TRANSLATE})),
    ("transcribe", frozenset({Capability.TRANSCRIBE})),
    ("tts", frozenset({Capability.SPEAK})),
    ("moderation", frozenset({Capability.MODERATE})),
    ("dall-e", frozenset({Capability.IMAGE, Capability.EDIT})),
    ("gpt-image", frozenset({Capability.IMAGE, Capability.EDIT})),
    ("stable-diffusion", frozenset({Capability.IMAGE, Capability.EDIT})),
)


def decode(body: bytes) -> Any:
    """The JSON in `body`, or None."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def whole(value: Any) -> int | None:
    """A positive whole number, or None: engines say 0 or -1 where they do not know."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def count(value: Any) -> int | None:
    """A whole number from 0, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def fraction(value: Any) -> float | None:
    """A number from 0 to 1, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def rows(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; anything else is left out."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


# -- errors ----------------------------------------------------------------------------------------


def error_text(body: bytes) -> str:
    """An upstream's own words about an error, without secrets, on one line."""
    found = _said(decode(body))
    if found is None:
        shown = body[: 16 * _SHOWN].decode(errors="replace")
        found = _TAGS.sub(" ", shown).strip()[:_SHOWN]
    # Cut before the costly patterns, wide enough that no secret is halved where it would be shown.
    found = _SPACE.sub(" ", found[: 2 * MAX_UPSTREAM_TEXT]).strip()
    return without_secrets(found)[:MAX_UPSTREAM_TEXT]


def without_secrets(words: str) -> str:
    """Providers repeat the key they refuse: it must not travel on to a caller or a log."""
    return _SECRET.sub("[removed]", words)


def error_code(body: bytes) -> tuple[str, str]:
    """`type` and `code` of an error body, lower-case, empty where there is none."""
    found = _error(decode(body))
    kind, code = found.get("type") or found.get("error_type") or found.get("status"), found.get("code")
    return (
        kind.lower() if isinstance(kind, str) else "",
        code.lower() if isinstance(code, str) else "",
    )


def _error(value: Any) -> dict[str, Any]:
    """The object that describes the error, in any of the shapes in use."""
    if isinstance(value, list):  # Gemini wraps its errors in a list
        value = value[0] if value else None
    outer = table(value)
    return table(outer.get("error")) or outer


def _said(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    found = _error(value)
    for name in ("message", "error", "detail", "error_description", "msg"):
        inner = found.get(name)
        if text(inner):
            return str(inner)
        if isinstance(inner, list):  # pydantic's validation errors
            parts = [
                part for row in rows(inner) if (part := text(row.get("msg")) or text(row.get("message")))
            ]
            if parts:
                return "; ".join(parts)
        if isinstance(inner, dict) and (deeper := _said(inner)):
            return deeper
    return None


# -- probes ----------------------------------------------------------------------------------------


def fault(ask: Ask, reply: Reply) -> Reading | None:  # noqa: PLR0911  (a decision list)
    """What a reply says when it is not a 200; None when it is one and should be read."""
    status = reply.status
    if 200 <= status < 300:
        return None
    note = f"{ask.path} answered {status}"
    if status in (401, 403):  # its words may hold parts of the key
        return Reading(alive=True, failure=FailureClass.KEY_INVALID, note=note)
    said = error_text(reply.body)
    note += f": {said}" if said else ""
    if status == 503 and is_loading(reply.body):
        return Reading(alive=True, loading=True, note=note)
    if ask.optional:
        # A signal that fails says nothing about the engine, and one that is absent never will.
        absent = status in (400, 404, 405, 501)
        return Reading(failure=FailureClass.ABSENT_FEATURE if absent else None, note=note)
    if status == 429:
        return Reading(alive=True, note=note)
    if status >= 500:
        return Reading(alive=False, failure=FailureClass.SERVER_ERROR, note=note)
    return Reading(alive=True, failure=FailureClass.GARBAGE, note=note)


def not_understood(ask: Ask) -> Reading:
    """For a 200 whose body is something else than it should be."""
    note = f"{ask.path} answered something unexpected: is this the right kind of engine?"
    return Reading(failure=None if ask.optional else FailureClass.GARBAGE, note=note)


def is_loading(body: bytes) -> bool:
    """A 503 that means: the model is being loaded."""
    value = decode(body)
    if not isinstance(value, dict):  # a proxy's page may well say "loading"
        return False
    return isinstance(value.get("loading"), dict) or bool(_LOADING.search(error_text(body)))


def metrics(body: bytes, names: Iterable[str]) -> dict[str, float]:
    """Values of the named Prometheus metrics, summed over their labels. Absent ones are left out."""
    wanted, found = tuple(names), dict[str, float]()
    for line in body.decode(errors="replace").splitlines():
        if not line.startswith(wanted):  # most lines are histograms nobody asked for
            continue
        parts = _METRIC.match(line)
        if parts is None or parts[1] not in wanted:
            continue
        with contextlib.suppress(ValueError):
            number = float(parts[2])
            if math.isfinite(number):
                found[parts[1]] = found.get(parts[1], 0.0) + number
    return found


def first(found: Mapping[str, float], *names: str) -> float | None:
    """The first of several spellings that is there."""
    return next((found[name] for name in names if name in found), None)


# -- models ----------------------------------------------------------------------------------------


def listed(body: bytes) -> list[dict[str, Any]] | None:
    """The entries of an OpenAI model list; None if it is none."""
    value = decode(body)
    entries = value if isinstance(value, list) else table(value).get("data")
    if not isinstance(entries, list):
        return None
    return [row for row in rows(entries) if text(row.get("id"))]


def openai_model(row: Mapping[str, Any]) -> Model:
    """One entry of a model list, with whatever the many dialects of it add."""
    model = str(row["id"])
    served = next(
        (
            found
            for name in ("max_model_len", "loaded_context_length", "context_length", "context_window")
            if (found := whole(row.get(name)))
        ),
        None,
    )
    return Model(
        id=model,
        name=model,
        does=_does(row, model),
        context=served,
        params=params_in_name(model),
        family=text(row.get("arch")),
        quantisation=text(row.get("quantization")),
    )


def _does(row: Mapping[str, Any], model: str) -> frozenset[Capability] | None:
    kind = row.get("type")
    if kind in ("embedding", "embeddings"):
        return frozenset({Capability.EMBED})
    if kind in ("llm", "vlm"):  # LM Studio, which does not say here what else it was trained for
        base = {Capability.CHAT, Capability.COMPLETE, Capability.TOOLS, Capability.REASONING}
        return frozenset(base | ({Capability.VISION} if kind == "vlm" else set()))
    lower = model.lower()
    return next((found for part, found in _KIND_BY_NAME if part in lower), None)


def served_model(row: Mapping[str, Any]) -> Model:
    """An entry of an engine that serves one model and perhaps adapters over it."""
    model = openai_model(row)
    parent = text(row.get("parent"))
    if parent is None:
        return model
    return replace(model, params=model.params or params_in_name(parent), note=f"adapter over {parent}")


def billions(size: str | None) -> float | None:
    """`7.6B` → 7.6, `137M` → 0.137."""
    found = _COUNT.fullmatch(size.strip()) if size else None
    return None if found is None else float(found[1]) * _BILLIONS[found[2].upper()]


def option(words: Any, *names: str) -> int | None:
    """The whole number behind an option in a command line, as engines tell how they were started."""
    if not isinstance(words, list):
        return None
    for at, word in enumerate(words):
        if not isinstance(word, str):
            continue
        name, equals, value = word.partition("=")
        if name in names:
            value = value if equals else words[at + 1] if at + 1 < len(words) else ""
            return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else None
    return None
