"""Checks of limits, prices and amounts: currencies that are worth something, and names that exist."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from fleetgate import units
from fleetgate.config.declaration import fields
from fleetgate.config.findings import Finding, Path, Positions, Severity, finding
from fleetgate.units import Amount, Rate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from fleetgate.config.schema import Settings


def check(settings: Settings, positions: Positions, *, names_lost: bool = False) -> Iterator[Finding]:
    yield from _currencies(settings, positions)
    yield from _alerts(settings, positions)
    if not names_lost:
        yield from _scopes(settings, positions)


def _currencies(settings: Settings, positions: Positions) -> Iterator[Finding]:
    """Every amount is in dollars, or in the one currency whose worth is written."""
    own = settings.currency
    known = {"USD"} if own is None else {"USD", own.code}
    for path, value in _amounts(settings, ()):
        if value.currency not in known and path[:1] != ("currency",):
            message = f"nobody says what one {value.currency} is worth"
            hint = f"write USD, or currency: {{code: {value.currency}, rate: 1.08 USD}}"
            yield finding("error", positions.at(path), path, message, hint)


def _alerts(settings: Settings, positions: Positions) -> Iterator[Finding]:
    """Shares of budgets are told of; nothing else is yet."""
    for index, alert in enumerate(settings.alerts):
        path: Path = ("alerts", index)
        if alert.get("when") != "budget":
            hint = "it is accepted and ignored"
            yield finding("note", positions.at(path), path, "not yet in effect", hint)
            continue
        try:
            right = 0 < units.share(alert.get("at")) <= 1
        except ValueError:
            right = False
        if not right:
            message = f"{alert.get('at')!r} is no share of a budget"
            yield finding("error", positions.at(path), path, message, "write one such as at: 80%")


def _amounts(value: Any, path: Path) -> Iterator[tuple[Path, Amount | Rate]]:
    if isinstance(value, Amount | Rate):
        yield path, value
    elif isinstance(value, BaseModel):
        for field in fields(type(value)):
            yield from _amounts(getattr(value, field.attribute), (*path, field.key))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _amounts(one, (*path, key))
    elif isinstance(value, tuple):
        for index, one in enumerate(value):
            yield from _amounts(one, (*path, index))


def _scopes(settings: Settings, positions: Positions) -> Iterator[Finding]:
    for index, limit in enumerate(settings.limits):
        for one in strangers(settings, limit.scope):
            path: Path = ("limits", index, "scope", one.kind)
            # A role may be asked for that only a model bears: that is unusual and no mistake for sure.
            severity: Severity = "warning" if one.kind == "role" else "error"
            yield finding(severity, positions.at(path), path, one.message, one.advice)


@dataclass(frozen=True, slots=True)
class Stranger:
    """A part of a scope that names what the file does not have."""

    kind: str
    message: str
    advice: str


def strangers(settings: Settings, scope: Mapping[Any, str]) -> Iterator[Stranger]:
    """A limit for what does not exist bounds nobody. Names with wildcards may fit what is yet to come."""
    known: dict[str, Collection[str]] = {
        "provider": settings.providers,
        "node": settings.nodes,
        "role": {*settings.roles, *settings.aliases},
    }
    for kind, pattern in scope.items():
        name, among = pattern, kind
        if kind == "account":
            name, among = pattern.partition("/")[0], "provider"
        if among in known and "*" not in name and name not in known[among]:
            near = difflib.get_close_matches(name, known[among], n=1)
            advice = f"did you mean {near[0]}?" if near else f"name a {among} of this file"
            yield Stranger(kind, f"no {among} is called {name}", advice)
