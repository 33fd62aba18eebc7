"""Which price a deployment of a provider has: the file's, else the known one, else none."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetgate.config import providers
from fleetgate.prices import known
from fleetgate.pricing import Price, price_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.config.money import Currency
    from fleetgate.config.schema import ModelEntry, Provider

IDS: Final[Mapping[str, str]] = MappingProxyType(
    {name: name for name in providers.PROVIDERS}
    | {"gemini": "google", "xai": "x-ai", "bedrock": "aws", "moonshot": "moonshotai"}
)
"""our names of providers -> those of the data"""
ANYBODY: Final = "openai"
"""the kind that, with an address of its own, says nothing about whose prices apply"""


def price_for(
    name: str,
    provider: Provider,
    entry: ModelEntry | None,
    model_id: str,
    currency: Currency | None,
    when: float,
) -> Price | None:
    """The price of a provider's model at a unix time; None: nobody knows. `name`: as the file calls it."""
    if entry is not None and entry.price is not None:
        return price_of(entry.price, currency)
    where = data_id(name, provider)
    return known.lookup(where, model_id, when) if where is not None else None


def data_id(name: str, provider: Provider) -> str | None:
    """What the data call a provider. An address decides where the kind leaves it open."""
    kind = provider.kind or name
    if provider.url and (kind == ANYBODY or kind not in IDS):
        return known.provider_at(provider.url)
    return IDS.get(kind)
