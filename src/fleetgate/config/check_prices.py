"""Checks of written prices: what they leave open. Whether their currency is known is in `check_money`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetgate.config.findings import Finding, Path, Positions, finding
from fleetgate.domain import Capability

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.config.schema import ModelEntry, Settings

_ANSWERS: Final = frozenset({Capability.CHAT, Capability.COMPLETE})


def check(settings: Settings, positions: Positions) -> Iterator[Finding]:
    """All findings about the prices of model entries."""
    for name, provider in settings.providers.items():
        for index, entry in enumerate(provider.models or ()):
            yield from _price(entry, ("providers", name, "models", index, "price"), positions)
    for name, node in settings.nodes.items():
        for at, engine in enumerate(node.engines):
            for index, entry in enumerate(engine.models or ()):
                path: Path = ("nodes", name, "engines", at, "models", index, "price")
                yield from _price(entry, path, positions)


def _price(entry: ModelEntry, path: Path, positions: Positions) -> Iterator[Finding]:
    price = entry.price
    if price is None:
        return
    levels = [tier.above for tier in price.tiers]
    for index, above in enumerate(levels):
        if above in levels[:index]:
            at = (*path, "tiers", index)
            hint = "write one for each number of tokens"
            yield finding("error", positions.at(at), at, f"a second tier above {above} tokens", hint)
    if price.ceiling is not None:
        return
    answers = entry.does is None or entry.does & _ANSWERS
    for given, other in ((price.input, "output"), (price.output, "input")):
        if given is not None and getattr(price, other) is None and (other == "input" or answers):
            hint = f"add {other}, or a ceiling; until then what needs it is refused"
            yield finding("warning", positions.at(path), path, f"{other} has no price", hint)
