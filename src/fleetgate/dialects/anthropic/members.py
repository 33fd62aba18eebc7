"""Reading a decoded body: every value is checked where it is taken, and a refusal says where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetgate.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from fleetgate.dialects.left_out import LeftOut


def rest(left_out: LeftOut, owner: Mapping[str, Any], known: Collection[str], of: str) -> None:
    """Names the members of `owner` that nobody reads and that say something."""
    for name, value in owner.items():
        if name == "cache_control":
            if value is not None:
                left_out.add(name)
        elif name not in known and not _says_nothing(value):
            left_out.add(f"{of}.{name}" if of else name)


def _says_nothing(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {}) or value == {"enabled": False}


def malformed(where: str, what: str) -> Refused:
    return Refused(400, "malformed", f"{where}: {what}", param=where)


def untranslatable(where: str, what: str, advice: str) -> Refused:
    """Asked for in good form, and not to be had here."""
    return Refused(400, "not_translatable", f"{where}: {what}", advice=advice, param=where)


def text_in(owner: Mapping[str, Any], name: str, where: str) -> str:
    value = owner.get(name)
    if not isinstance(value, str):
        raise malformed(f"{where}.{name}" if where else name, "must be a text")
    return value


def object_in(owner: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    value = owner.get(name)
    if not isinstance(value, dict):
        raise malformed(f"{where}.{name}" if where else name, "must be an object")
    return value


def objects(value: Any, where: str) -> list[dict[str, Any]]:
    """A list of objects."""
    if not isinstance(value, list):
        raise malformed(where, "must be a list")
    for at, one in enumerate(value):
        if not isinstance(one, dict):
            raise malformed(f"{where}.{at}", "must be an object")
    return value


def number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise malformed(where, "must be a number")
    return value


def flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise malformed(where, "must be true or false")
    return value
