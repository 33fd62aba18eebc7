"""The rows of the configuration's reference page: one per key, from the declaration alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from fleetgate import units
from fleetgate.config.declaration import Field, Shape, fields
from fleetgate.config.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

Effect = Literal["live", "restart", "later"]


@dataclass(frozen=True, slots=True)
class Row:
    """One key. In `path`, `<name>` stands for a name of your own and `[]` for each entry of a list."""

    path: str
    type: str
    default: str
    effect: Effect
    help: str


def rows() -> tuple[Row, ...]:
    """Every key in the declared order; a block comes before its keys."""
    return tuple(_rows(Settings, ""))


def _rows(block: type[BaseModel], prefix: str) -> Iterator[Row]:
    for field in fields(block):
        path = f"{prefix}{field.key}"
        effect: Effect = "later" if field.later else "restart" if field.restart else "live"
        yield Row(path, _type(field), _default(field), effect, field.info.description or "")
        inner, mark = field.shape, ""
        while inner.item is not None:
            mark += "[]" if inner.kind == "list" else ".<name>"
            inner = inner.item
        if inner.block is not None:
            yield from _rows(inner.block, f"{path}{mark}.")


def _type(field: Field) -> str:
    if field.unit:
        return f"list of {field.unit}s" if field.shape.kind == "list" else field.unit
    return _name(field.shape)


def _name(shape: Shape) -> str:
    if shape.kind == "block":
        return "block"
    if shape.item is not None:
        return f"list of {_plural(shape.item)}" if shape.kind == "list" else f"map of {_plural(shape.item)}"
    return _leaf(shape.annotation)


def _leaf(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(str(word) for word in get_args(annotation))
    if get_origin(annotation) is frozenset:
        return f"list of {_leaf(get_args(annotation)[0])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(member.value) for member in annotation)
    names = {str: "text", int: "whole number", float: "number", bool: "true | false"}
    return names.get(annotation, "any")


def _plural(shape: Shape) -> str:
    name = _name(shape)
    return {"any": "anything"}.get(name, name if "|" in name or " of " in name else f"{name}s")


def _default(field: Field) -> str:
    value = field.info.default
    if value is PydanticUndefined:
        return "required"
    if value is None or value == "" or isinstance(value, BaseModel):
        return ""
    if field.unit in {"duration", "size"}:
        return units.print_duration(value) if field.unit == "duration" else units.print_size(value)
    return _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    return str(value)
