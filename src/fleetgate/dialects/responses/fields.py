"""Reading a decoded body, and saying what is wrong with it."""

from __future__ import annotations

from typing import Any

from fleetgate.errors import Refused


def malformed(where: str, form: str) -> Refused:
    return Refused(400, "malformed", f"`{where}` must be {form}", param=where)


def unsupported(where: str, why: str, advice: str) -> Refused:
    return Refused(400, "unsupported", f"`{where}`: {why}", advice=advice, param=where)


def text_at(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise malformed(where, "a text")
    return value


def object_at(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise malformed(where, "an object")
    return value


def list_at(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise malformed(where, "a list")
    return value
