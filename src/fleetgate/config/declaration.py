"""Reads the declaration of settings: which fields a block has, and what lies at a path of the tree.

Everything that goes over the schema (near names, notes on later settings, origins, reload, reference
rows) asks here, so that pydantic's own forms are taken apart in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from fleetgate.config.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from fleetgate.config.findings import Path

Kind = Literal["block", "list", "map", "leaf"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What an annotation holds: a block, a list or map of something, or a plain value."""

    kind: Kind
    block: type[BaseModel] | None = None
    item: Shape | None = None
    annotation: Any = None


@dataclass(frozen=True, slots=True)
class Field:
    """One declared key of a block."""

    key: str
    """as it is written"""
    attribute: str
    """as Python calls it"""
    info: FieldInfo
    shape: Shape

    def mark(self, name: str) -> Any:
        extra = self.info.json_schema_extra
        return extra.get(name) if isinstance(extra, dict) else None

    @property
    def restart(self) -> bool:
        return bool(self.mark("restart"))

    @property
    def later(self) -> bool:
        return bool(self.mark("later"))

    @property
    def unit(self) -> str:
        return str(self.mark("unit") or _inner_unit(self.info.annotation))


def _inner_unit(annotation: Any) -> str:
    """The unit of `Duration | None` and of lists of such: it is a mark inside the annotation."""
    if get_origin(annotation) is Annotated:
        for part in get_args(annotation)[1:]:
            extra = getattr(part, "json_schema_extra", None)
            if isinstance(extra, dict) and "unit" in extra:
                return str(extra["unit"])
    return next((unit for part in get_args(annotation) if (unit := _inner_unit(part))), "")


def shape(annotation: Any) -> Shape:
    """The shape of a field's annotation, without `Annotated` and `| None`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return shape(get_args(annotation)[0])
    if origin in (Union, UnionType):
        held = [part for part in get_args(annotation) if part is not NoneType]
        return shape(held[0]) if len(held) == 1 else Shape("leaf", annotation=annotation)
    if origin is tuple:
        return Shape("list", item=shape(get_args(annotation)[0]), annotation=annotation)
    if origin is dict:
        return Shape("map", item=shape(get_args(annotation)[1]), annotation=annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Shape("block", block=annotation, annotation=annotation)
    return Shape("leaf", annotation=annotation)


def fields(block: type[BaseModel]) -> Iterator[Field]:
    """The keys of a block in their declared order."""
    for attribute, info in block.model_fields.items():
        yield Field(info.alias or attribute, attribute, info, shape(info.annotation))


def block_at(path: Path) -> type[BaseModel] | None:
    """The block whose keys stand directly below a path; None where keys are free or there are none."""
    current: Shape | None = Shape("block", block=Settings)
    for part in path:
        if current is None:
            return None
        if current.kind == "block" and current.block is not None:
            found = next((field for field in fields(current.block) if field.key == part), None)
            current = found.shape if found else None
        else:
            current = current.item
    return current.block if current is not None and current.kind == "block" else None


def written(tree: Any, block: type[BaseModel] = Settings, path: Path = ()) -> Iterator[tuple[Path, Field]]:
    """Every declared key that a tree writes, with its field; short forms end where they are written."""
    if not isinstance(tree, dict):
        return
    known = {field.key: field for field in fields(block)}
    for key, value in tree.items():
        field = known.get(key)
        if field is not None:
            yield (*path, key), field
            yield from _below(value, field.shape, (*path, key))


def _below(value: Any, held: Shape, path: Path) -> Iterator[tuple[Path, Field]]:
    if held.kind == "block" and held.block is not None:
        yield from written(value, held.block, path)
    elif held.item is not None and held.kind == "list" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _below(item, held.item, (*path, index))
    elif held.item is not None and held.kind == "map" and isinstance(value, dict):
        for key, item in value.items():
            yield from _below(item, held.item, (*path, key))
