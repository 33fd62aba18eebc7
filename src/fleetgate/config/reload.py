"""What to do with a changed configuration: apply it, refuse it, or hold it until somebody confirms.

A truncated YAML file is usually valid YAML, and so is one that a template filled with nothing. That is
why a file that drops a limit, or more than a third of the deployments, is held. Pure functions: the
caller reads files, applies and reports.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from fleetgate.config.declaration import fields
from fleetgate.config.findings import Finding, Path, show_path
from fleetgate.config.money import MEASURES
from fleetgate.config.names import engine_names, model_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleetgate.config.load import Loaded
    from fleetgate.config.money import Measures
    from fleetgate.config.schema import ModelEntry, Settings

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply it whole. `changes` are the settings that differ; none of them: nothing to do."""

    settings: Settings
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reject:
    """Keep what is running."""

    reason: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep what is running until SIGHUP or `fleetgate reload` confirms the new one."""

    reason: str


Decision = Apply | Reject | Hold


def decide(old: Settings, new: Loaded, *, confirmed: bool) -> Decision:
    """What becomes of a configuration that was just read."""
    if new.settings is None:
        wrong = new.errors
        count = "1 error" if len(wrong) == 1 else f"{len(wrong)} errors"
        return Reject(f"the new configuration has {count}", wrong)
    changed = tuple(changes(old, new.settings))
    restart = [show_path(path) for path, needs_restart in changed if needs_restart]
    if restart:
        return Reject(f"{_listed(restart)} can only change with a restart")
    if not confirmed:
        reason = (
            dropped_limits(old, new.settings)
            or lost_deployments(old, new.settings)
            or lost_names(old, new.settings)
        )
        if reason:
            return Hold(reason)
    return Apply(new.settings, tuple(show_path(path) for path, _ in changed))


def changes(old: BaseModel, new: BaseModel, path: Path = ()) -> Iterator[tuple[Path, bool]]:
    """Every setting that differs, and whether it needs a restart. Entries that come or go count whole."""
    for field in fields(type(old)):
        before, after = getattr(old, field.attribute), getattr(new, field.attribute)
        if before != after:
            yield from _differences(before, after, (*path, field.key), restart=field.restart)


def _differences(before: Any, after: Any, path: Path, *, restart: bool) -> Iterator[tuple[Path, bool]]:
    if isinstance(before, BaseModel) and type(before) is type(after):
        yield from changes(before, after, path)
    elif isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            if before.get(key) != after.get(key):
                yield from _differences(before.get(key), after.get(key), (*path, key), restart=restart)
    else:
        yield path, restart


def dropped_limits(old: Settings, new: Settings) -> str:
    """Which limits are gone; empty where none is. A changed ceiling is not a dropped limit."""
    gone = Counter(map(_identity, old.limits)) - Counter(map(_identity, new.limits))
    for name, provider in old.providers.items():
        if name in new.providers:
            before = Counter(map(_identity, provider.limits))
            kept = Counter(map(_identity, new.providers[name].limits))
            gone += Counter(f"{name}: {limit}" for limit in (before - kept).elements())
    return f"it drops {_count(gone.total(), 'limit')}: {_listed(sorted(gone))}" if gone else ""


def _identity(limit: Measures) -> str:
    """What a limit is about, without how high it is and what follows."""
    about = limit.model_dump(mode="json", exclude={*MEASURES, "burst", "then"}, exclude_defaults=True)
    measures = [name for name in MEASURES if getattr(limit, name) is not None]
    return json.dumps({"measures": measures, **about}, sort_keys=True)


def lost_deployments(old: Settings, new: Settings) -> str:
    """Why too much is gone; empty where it is not. Models that are not listed count by their engine."""
    for what, before, after in (
        ("deployment", _deployments(old), _deployments(new)),
        ("engine", _engines(old), _engines(new)),
    ):
        gone = before - after
        if len(gone) * 3 > len(before):
            return f"it drops {len(gone)} of {_count(len(before), what)}: {_listed(sorted(gone))}"
    return ""


def lost_names(old: Settings, new: Settings) -> str:
    """Why too many roles and aliases are gone; empty where not. Taking one out is an ordinary change.

    A file that is cut behind its machines is valid YAML and keeps every deployment.
    """
    before = {*old.roles, *old.aliases}
    gone = before - {*new.roles, *new.aliases}
    if len(gone) > 1 and len(gone) * 3 > len(before):
        return f"it drops {len(gone)} of {_count(len(before), 'written name')}: {_listed(sorted(gone))}"
    return ""


def _deployments(settings: Settings) -> set[str]:
    found: set[str] = set()
    for name, node in settings.nodes.items():
        for engine, title in zip(node.engines, engine_names(node), strict=True):
            found |= _ids(f"{name}/{title}", engine.models)
    for name, provider in settings.providers.items():
        found |= _ids(name, provider.models)
    return found


def _ids(prefix: str, models: Sequence[ModelEntry] | None) -> set[str]:
    return {f"{prefix}/*"} if models is None else {f"{prefix}/{model_name(entry)}" for entry in models}


def _engines(settings: Settings) -> set[str]:
    engines = {f"{name}/{title}" for name, node in settings.nodes.items() for title in engine_names(node)}
    return engines | set(settings.providers)


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
