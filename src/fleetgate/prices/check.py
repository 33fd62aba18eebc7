"""Findings about models of providers: those that nobody knows the price of, which would not be asked, and
those that are retired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetgate.config.findings import Finding, Positions, Severity, finding
from fleetgate.config.names import model_id, model_name
from fleetgate.config.providers import row_name
from fleetgate.prices import retired
from fleetgate.prices.choose import price_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleetgate.config.findings import Path
    from fleetgate.config.schema import Provider, Settings
    from fleetgate.domain import Retirement

WHENEVER: Final = 4e9
"""Whether there is a price at all does not depend on the day: the last one known counts."""


def unpriced(settings: Settings, positions: Positions) -> Iterator[Finding]:
    """One warning for each written model of a provider that has no price."""
    if settings.ledger.unpriced == "let_through":
        return
    for name, provider in settings.providers.items():
        for index, entry in enumerate(provider.models or () if provider.price is None else ()):
            known = price_for(name, provider, entry, model_id(entry), settings.currency, WHENEVER)
            if known is None:
                path: Path = ("providers", name, "models", index)
                text = f"nobody knows what {name}/{model_name(entry)} costs, so it is not asked"
                hint = "add a price, or a price with a ceiling for what cannot be known"
                yield finding("warning", positions.at(path), path, text, hint)


def of_models(wall: Callable[[], float]) -> Callable[[Settings, Positions], Iterator[Finding]]:
    """All findings of this module, at the time of day that `wall` tells."""

    def found(settings: Settings, positions: Positions) -> Iterator[Finding]:
        yield from unpriced(settings, positions)
        yield from retiring(settings, positions, wall())

    return found


def retiring(settings: Settings, positions: Positions, when: float) -> Iterator[Finding]:
    """Models that are retired, or will be: as they are written, and where the provider's list decides, as
    roles and aliases name them."""
    for name, provider in settings.providers.items():
        row = row_name(name, provider)
        for index, entry in enumerate(provider.models or ()):
            known = retired.lookup(row, model_id(entry))
            if known is not None:
                path: Path = ("providers", name, "models", index)
                yield _retires(f"{name}/{model_id(entry)}", known, path, positions, when)
    listed = {name: one for name, one in settings.providers.items() if one.models is None}
    for path, text in _named(settings):
        found = _of_a_list(text, listed)
        if found is not None:
            yield _retires(text, found, path, positions, when)


def _named(settings: Settings) -> Iterator[tuple[Path, str]]:
    """What roles and aliases name."""
    for role, entry in settings.roles.items():
        for index, step in enumerate(entry.use):
            yield from ((("roles", role, "use", index), text) for text in step.pool)
    yield from ((("aliases", alias), text) for alias, text in settings.aliases.items())


def _of_a_list(text: str, listed: dict[str, Provider]) -> Retirement | None:
    """A name with its provider, or the bare id of a model."""
    name, slash, model = text.partition("/")
    if slash and name in listed:
        return retired.lookup(row_name(name, listed[name]), model)
    known = (retired.lookup(row_name(title, one), text) for title, one in listed.items())
    return next((found for found in known if found is not None), None)


def _retires(text: str, known: Retirement, path: Path, positions: Positions, when: float) -> Finding:
    verb = "was" if known.at <= when else "will be"
    hint = f"use {known.successor}" if known.successor else "choose another from its provider's list"
    severity: Severity = "warning" if known.near(when) else "note"
    return finding(severity, positions.at(path), path, f"{text} {verb} retired on {known.day}", hint)
