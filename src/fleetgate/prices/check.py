"""Findings about models of providers that nobody knows the price of: they would not be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetgate.config.findings import Finding, Positions, finding
from fleetgate.config.names import model_id, model_name
from fleetgate.prices.choose import price_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.config.findings import Path
    from fleetgate.config.schema import Settings

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
