"""A tree -> `Settings`, with every problem of the tree at once and each at its place.

pydantic finds the problems; this module says them in our words. A value that was written never appears
in a message unless its key can only hold a number, a unit or one of a few words: it may be a secret
that went to the wrong line.
"""

from __future__ import annotations

import copy
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from fleetgate.config.declaration import block_at, fields
from fleetgate.config.findings import Document, Finding, Path, finding, show_path
from fleetgate.config.placeholders import is_placeholder
from fleetgate.config.schema import Settings
from fleetgate.config.secrets import CONTEXT_KEY, SecretReader

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROUNDS: Final = 4
_FOUND: Final = (
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (str, "a text"),
    (list, "a list"),
)
_WANTED: Final[Mapping[str, str]] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "list_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a map of names",
}
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_ELSEWHERE: Final[Mapping[str, str]] = {
    "master_key": "the master key comes from FLEETGATE_MASTER_KEY or FLEETGATE_MASTER_KEY_FILE",
    "enabled": "a block is in effect when it is there: leave the block out instead",
    "host": "write listen: 127.0.0.1:4000",
    "api_key": "write key:",
    "api_base": "write url:",
    "base_url": "write url:",
}


@dataclass(frozen=True)
class Validated:
    """`settings` only where nothing is wrong; `partial` is what remains of a tree with errors."""

    settings: Settings | None
    partial: Settings | None
    findings: tuple[Finding, ...] = ()
    names_lost: bool = False
    """`partial` lacks names that the file may well have meant"""


def validate(document: Document, reader: SecretReader) -> Validated:
    """Validates a whole tree. Empty values, and placeholders of planned nodes, count as not written."""
    tree = without_placeholders(without_empty(document.tree))
    settings, problems = _try(tree, reader)
    if settings is not None:
        return Validated(settings, settings)
    findings = tuple(_said(problem, document) for problem in problems if not _told_elsewhere(problem))
    partial, lost = _salvage(tree, problems, reader)
    return Validated(None, partial, findings, names_lost=lost)


def without_empty(tree: Any) -> Any:
    """Maps without their empty entries: `providers:` with nothing after it is the same as no line."""
    if isinstance(tree, dict):
        return {key: without_empty(value) for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [without_empty(value) for value in tree]
    return tree


def without_placeholders(tree: Any) -> Any:
    """Planned nodes without their placeholders, which may stand where a number or one of a few words does.

    The address stays, as a text it is harmless; an engine without a kind goes.
    """
    nodes = tree.get("nodes") if isinstance(tree, dict) else None
    if not isinstance(nodes, dict):
        return tree
    planned = {name for name, node in nodes.items() if isinstance(node, dict) and node.get("planned") is True}
    cleared = {name: _cleared(node) if name in planned else node for name, node in nodes.items()}
    return {**tree, "nodes": cleared}


def _cleared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cleared(held) for key, held in value.items() if key == "address" or not _open(held)}
    if isinstance(value, list):
        kept = [_cleared(held) for held in value if not _open(held)]
        return [held for held in kept if not (isinstance(held, dict) and _lost_kind(held, value))]
    return value


def _lost_kind(held: dict[str, Any], written: list[Any]) -> bool:
    """Whether an engine's kind was a placeholder."""
    return "kind" not in held and any(isinstance(one, dict) and _open(one.get("kind")) for one in written)


def _open(value: Any) -> bool:
    """A placeholder, or what YAML makes of one in brackets."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return isinstance(value, str) and is_placeholder(value)


def _try(tree: Any, reader: SecretReader) -> tuple[Settings | None, list[Any]]:
    try:
        return Settings.model_validate(tree, context={CONTEXT_KEY: reader}), []
    except ValidationError as error:
        return None, list(error.errors(include_url=False))


def _salvage(tree: Any, problems: list[Any], reader: SecretReader) -> tuple[Settings | None, bool]:
    """What validates once everything wrong is left out, so that the rest can be checked as well."""
    rest = copy.deepcopy(tree)
    lost = False
    for _ in range(_ROUNDS):
        for problem in problems:
            path = _existing(rest, problem["loc"])
            while path and isinstance(path[-1], int):
                path = path[:-1]
            if not path:
                return None, True
            unknown = problem["type"] == "extra_forbidden"
            lost = lost or (not unknown and path[0] in {"nodes", "providers", "roles", "aliases"})
            holder = rest
            for part in path[:-1]:
                holder = holder[part]
            holder.pop(path[-1], None)
        settings, problems = _try(rest, reader)
        if settings is not None:
            return settings, lost
    return None, True


def _existing(tree: Any, loc: tuple[str | int, ...]) -> Path:
    """The longest part of pydantic's location that is in the tree."""
    path: list[str | int] = []
    for part in loc:
        inside = isinstance(tree, dict) and part in tree
        if not inside and not (isinstance(tree, list) and isinstance(part, int) and part < len(tree)):
            break
        tree = tree[part]
        path.append(part)
    return tuple(path)


def _told_elsewhere(problem: Any) -> bool:
    """A placeholder is told by `checks`; that it is no number either adds nothing."""
    return problem["type"] not in {"extra_forbidden", "missing"} and _open(problem["input"])


def _said(problem: Any, document: Document) -> Finding:
    """One of pydantic's problems as a finding."""
    loc: Path = tuple(problem["loc"])
    kind: str = problem["type"]
    if kind == "extra_forbidden":
        return _unknown_key(loc, document)
    path = _existing(document.tree, loc) or loc[:1]
    if kind == "missing":
        place = document.positions.key(path)
        return finding("error", place, path, f"{loc[-1]} is missing", f"add {loc[-1]}:")
    return finding("error", document.positions.at(path), path, *_words(problem, path))


def _words(problem: Any, path: Path) -> tuple[str, str]:
    """Message and hint for a value that is wrong."""
    kind: str = problem["type"]
    context: dict[str, Any] = problem.get("ctx") or {}
    if kind in {"value_error", "secret"}:
        message, _, hint = str(context.get("error") or problem["msg"]).partition("; ")
        return message, hint
    if kind in {"literal_error", "enum"}:
        return _choice(problem, context)
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"is not {words} {context[name]}", f"write {words} {context[name]}"
    if kind == "too_short":
        return "is empty", f"at least {context['min_length']} is needed"
    if kind in {"model_type", "model_attributes_type"}:
        return f"is {_kind_of(problem['input'])}", _keys_hint(path)
    wanted = _WANTED.get(kind)
    return (f"is {_kind_of(problem['input'])}", f"write {wanted}") if wanted else (problem["msg"], "")


def _unknown_key(path: Path, document: Document) -> Finding:
    name = str(path[-1])
    block = block_at(path[:-1])
    known = [field.key for field in fields(block)] if block else []
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"known here: {', '.join(known)}"
    if near:
        hint = f"did you mean {near[0]}?"
    elif name in _ELSEWHERE:
        hint = _ELSEWHERE[name]
    return finding("error", document.positions.key(path), path, f"unknown key {name}", hint)


def _choice(problem: Any, context: dict[str, Any]) -> tuple[str, str]:
    """Message and hint for a value that is not one of a few words."""
    expected = str(context.get("expected", ""))
    words = expected.replace(" or ", ", ").replace("'", "").split(", ")
    given = problem["input"]
    if not isinstance(given, str):
        return f"is {_kind_of(given)}", f"write one of {', '.join(words)}"
    near = difflib.get_close_matches(given, words, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"write one of {', '.join(words)}"
    return f"{given!r} is not known here", hint


def _kind_of(value: Any) -> str:
    return next(
        (words for kind, words in _FOUND if isinstance(value, kind)),
        "a map" if value is not None else "empty",
    )


def _keys_hint(path: Path) -> str:
    block = block_at(path)
    keys = ", ".join(field.key for field in fields(block)) if block else ""
    return f"write a map below {show_path(path)}" + (f" with {keys}" if keys else "")
