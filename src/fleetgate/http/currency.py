"""In which currency the admin API wants amounts to be shown; the amounts themselves are nano-dollars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetgate import units

if TYPE_CHECKING:
    from fleetgate.config.money import Currency


def currency_of(currency: Currency | None) -> dict[str, Any]:
    """Its code, and what one of it is worth in nano-dollars."""
    if currency is None:
        return {"code": "USD", "rate": units.NANO_PER_USD}
    return {"code": currency.code, "rate": currency.rate.nano}
