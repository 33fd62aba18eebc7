"""Checks of written prices: what they leave open. Whether their currency is known is in `check_money`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetgate.config.findings import Finding, Path, Positions, finding
from fleetgate.domain import Capability

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.config.money import Price
    from fleetgate.config.schema import Settings

_ANSWERS: Final = frozenset({Capability.CHAT, Capability.COMPLETE})


def check(settings: Settings, positions: Positions) -> Iterator[Finding]:
    """All findings about the prices of providers and of model entries."""
    for name, provider in settings.providers.items():
        yield from _price(provider.price, None, ("providers", name, "price"), positions)
        for index, entry in enumerate(provider.models or ()):
            path: Path = ("providers", name, "models", index, "price")
            yield from _price(entry.price, entry.does, path, positions)
    for name, node in settings.nodes.items():
        for at, engine in enumerate(node.engines):
            for index, entry in enumerate(engine.models or ()):
                path = ("nodes", name, "engines", at, "models", index, "price")
                yield from _price(entry.price, entry.does, path, positions)


def _price(
    price: Price | None, does: frozenset[Capability] | None, path: Path, positions: Positions
) -> Iterator[Finding]:
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
    answers = does is None or does & _ANSWERS
    for given, other in ((price.input, "output"), (price.output, "input")):
        if given is not None and getattr(price, other) is None and (other == "input" or answers):
            hint = f"add {other}, or a ceiling; until then what needs it is refused"
            yield finding("warning", positions.at(path), path, f"{other} has no price", hint)
