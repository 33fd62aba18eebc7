"""Reads members of a body and says what is wrong with them, in Ollama's manner of few rules.

A member that is null is as good as absent.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fleetgate.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping


def malformed(message: str, param: str) -> Refused:
    """It is not what it should be."""
    return Refused(400, "malformed", message, param=param)


def unsupported(message: str, param: str, advice: str) -> Refused:
    """It is right, but there is no way to do it here."""
    return Refused(400, "unsupported", message, advice=advice, param=param)


def text(members: Mapping[str, Any], name: str, where: str = "") -> str:
    """Empty where it is absent."""
    value = members.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise malformed(f"`{where}{name}` must be a text", f"{where}{name}")


def flag(members: Mapping[str, Any], name: str) -> bool | None:
    value = members.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise malformed(f"`{name}` must be true or false", name)


def table(members: Mapping[str, Any], name: str, where: str = "") -> dict[str, Any]:
    value = members.get(name)
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise malformed(f"`{where}{name}` must be an object", f"{where}{name}")


def rows(members: Mapping[str, Any], name: str, where: str = "") -> list[Any]:
    value = members.get(name)
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise malformed(f"`{where}{name}` must be a list", f"{where}{name}")


def number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise malformed(f"`{name}` must be a number", name)
    return value


def whole(value: Any, name: str) -> int:
    """Callers without integers send 40.0."""
    found = number(value, name)
    if found != int(found):
        raise malformed(f"`{name}` must be a whole number", name)
    return int(found)


def model(members: Mapping[str, Any]) -> str:
    found = text(members, "model")
    if not found:
        raise Refused(
            400,
            "model_missing_in_request",
            "the request names no model",
            advice="Set `model`; GET /api/tags lists the names.",
            param="model",
        )
    return found
