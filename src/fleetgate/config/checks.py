"""What a valid file may still have wrong: the checks over the whole tree and over secrets.

`check` is the entry; the checks of machines are in `check_fleet`, those of names in `check_names`, those
of limits and amounts in `check_money`, those of prices in `check_prices`. Each check is a function from a
`Subject` to findings. They read no files and ask no network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fleetgate.config import check_access, check_fleet, check_money, check_names, check_prices, check_stores
from fleetgate.config.declaration import written
from fleetgate.config.findings import Document, Finding, Path, Place, Positions, Severity, finding, show_path
from fleetgate.config.placeholders import (
    NO_KEY,
    is_known_password,
    is_placeholder,
    known_password_in_url,
    placeholder_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.config.schema import Provider, Settings
    from fleetgate.config.secrets import Secret

_SECRET_KEYS: Final = re.compile(r"(?:^|_)(?:keys?|token|password|secret|webhook)$", re.IGNORECASE)
_MIN_MASTER_KEY: Final = 12
_FREE_TEXT: Final = frozenset({"note", "maintenance"})


@dataclass(frozen=True)
class Subject:
    """What is checked. `names_lost`: parts with errors are missing, so unknown names prove nothing."""

    settings: Settings
    document: Document
    master_key: Secret | None = None
    names_lost: bool = False

    @property
    def positions(self) -> Positions:
        return self.document.positions


def check(subject: Subject) -> Iterator[Finding]:
    """All findings beyond the schema."""
    settings, positions = subject.settings, subject.positions
    yield from check_tree(subject.document)
    yield from _master_key(subject.master_key)
    yield from _keys(settings, positions)
    yield from check_fleet.gateway(settings, positions)
    yield from check_stores.check(settings.gateway, positions)
    yield from check_access.check(settings.gateway, positions)
    yield from check_fleet.nodes(settings, positions)
    yield from check_fleet.providers(settings, positions)
    yield from check_money.check(settings, positions, names_lost=subject.names_lost)
    if not subject.names_lost:
        yield from check_prices.check(settings, positions)
        yield from check_names.check(settings, positions)


def check_tree(document: Document) -> Iterator[Finding]:
    """Checks that need no valid settings: they also run where the schema found errors."""
    planned = _planned(document.tree)
    for path, text in _texts(document.tree):
        if path[:2] in planned or _is_key(path) or path[-1] in _FREE_TEXT:
            continue
        place = document.positions.at(path)
        if is_placeholder(text):
            severity: Severity = "warning" if path[0] in {"notify", "alerts"} else "error"
            hint = "write the real value, or mark a node that is not there yet with planned: true"
            yield finding(severity, place, path, f"a placeholder is left in ({placeholder_in(text)})", hint)
        elif known_password_in_url(text):
            severity = "error" if path[0] == "gateway" else "warning"
            yield finding(severity, place, path, "a well-known password", "choose one that nobody can guess")
        elif path[0] == "notify" and _SECRET_KEYS.search(str(path[-1])) and "${" not in text:
            yield _literal(positions=document.positions, path=path)
    yield from _later(document)


def _planned(tree: Any) -> set[Path]:
    nodes = tree.get("nodes") if isinstance(tree, dict) else None
    if not isinstance(nodes, dict):
        return set()
    return {
        ("nodes", name)
        for name, node in nodes.items()
        if isinstance(node, dict) and node.get("planned") is True
    }


def _is_key(path: Path) -> bool:
    """Keys of engines and providers are judged once resolved, by `_keys`."""
    return path[0] in {"nodes", "providers"} and any(part in {"key", "keys"} for part in path[2:])


def _texts(tree: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _texts(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _texts(value, (*path, index))
    elif isinstance(tree, str) and path:
        yield path, tree


def _later(document: Document) -> Iterator[Finding]:
    """One note for each key that is accepted and does nothing yet."""
    seen: set[str] = set()
    for path, field in written(document.tree):
        if not field.later or path[-2:] in {("routing", "best"), ("policy", "best")}:
            continue  # the policy has a note of its own
        key = _pattern(path)
        if key in seen or _value(document.tree, path) in (field.info.default, None):
            continue
        seen.add(key)
        hint = "it is accepted and ignored"
        yield finding("note", document.positions.key(path), path, "not yet in effect", hint)


def _value(tree: Any, path: Path) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _pattern(path: Path) -> str:
    """The path with the names of nodes, providers and roles left out."""
    named = {"nodes", "providers", "roles"}
    parts = tuple("*" if index == 1 and path[0] in named else part for index, part in enumerate(path))
    return re.sub(r"\[\d+\]", "[]", show_path(parts))


def _master_key(key: Secret | None) -> Iterator[Finding]:
    if key is None or not key.resolved:
        return
    place = Place("environment")
    text, name = key.reveal(), "FLEETGATE_MASTER_KEY"
    if is_placeholder(text) or is_known_password(text):
        hint = "leave it unset and one is generated, or choose a random one"
        yield finding("error", place, name, "the master key is a well-known one", hint)
    elif len(text) < _MIN_MASTER_KEY:
        hint = f"use at least {_MIN_MASTER_KEY} random characters"
        yield finding("warning", place, name, "the master key is short", hint)


def _keys(settings: Settings, positions: Positions) -> Iterator[Finding]:
    """Keys of providers and engines: unset, placeholder, well known, or written out."""
    for name, provider in settings.providers.items():
        yield from _provider_keys(("providers", name), provider, positions)
    for node_name, node in settings.nodes.items():
        for index, engine in enumerate(node.engines):
            if not node.planned and engine.key is not None:
                path: Path = ("nodes", node_name, "engines", index, "key")
                yield from _key(engine.key, path, positions, "its models are unconfigured and in no plan")


def _provider_keys(path: Path, provider: Provider, positions: Positions) -> Iterator[Finding]:
    effect = "its models are unconfigured and in no plan"
    if provider.key is not None:
        yield from _key(provider.key, (*path, "key"), positions, effect)
    alone = not any(map(is_usable, provider.keys))
    for index, key in enumerate(provider.keys):
        harm = effect if alone else "only the others are used"
        yield from _key(key, (*path, "keys", index), positions, harm)
    if provider.key is not None and provider.keys:
        hint = "put all of them under keys:"
        yield finding("error", positions.key((*path, "keys")), (*path, "keys"), "both key and keys", hint)
    if provider.key is None and not provider.keys and not provider.url:
        hint = 'write key: "${NAME}"; until then ' + effect
        yield finding("warning", positions.key(path), path, "this provider has no key", hint)


def _key(key: Secret, path: Path, positions: Positions, effect: str) -> Iterator[Finding]:
    place = positions.at(path)
    if not key.resolved:
        yield finding("warning", place, path, key.problem, f"until it is there, {effect}")
        return
    text = key.reveal()
    if is_placeholder(text):
        what = "a placeholder is left in" if key.kind == "literal" else f"{key.written} holds a placeholder"
        yield finding("warning", place, path, what, f"write the real key; until then {effect}")
    elif is_known_password(text):
        yield finding("warning", place, path, "a well-known key", "choose one that nobody can guess")
    elif key.kind == "literal" and text.lower() not in NO_KEY:
        yield _literal(positions, path)


def _literal(positions: Positions, path: Path) -> Finding:
    hint = 'write "${NAME}" or "${file:/path}" and keep the secret out of this file'
    return finding("warning", positions.at(path), path, "a secret is written out here", hint)


def is_usable(key: Secret) -> bool:
    """Whether it is there and is no placeholder: false means `unconfigured`."""
    return key.resolved and not is_placeholder(key.reveal())
