"""What an attempt took from the socket of a machine of ours, and what that is worth.

An attempt is charged what it adds: the draw above idle, shared with the other requests that the engine
answers meanwhile. A machine that idles draws for nobody. Where `idle` is left out, attempts carry the
whole draw. All of it is integers: micro-watt-hours and nano-dollars, rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from fleetgate import units
from fleetgate.config.money import minutes
from fleetgate.pricing import dollars

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from fleetgate.config.money import Currency, EnergyPrice

PER_KWH: Final = 1_000_000_000
"""micro-watt-hours"""
_MILLI: Final = 1_000
_MICRO: Final = 1_000_000
_PER_WATT_HOUR: Final = 3_600 * _MILLI * _MICRO // 1_000_000
"""milliwatts times microseconds in one micro-watt-hour"""


def energy(busy: float, idle: float, seconds: float, in_flight: int) -> int:
    """Micro-watt-hours of one attempt of so many seconds; `in_flight`: requests of the engine meanwhile.

    Watts and seconds are measured to their thousandth and millionth part.
    """
    draw = max(0, round((busy - idle) * _MILLI))
    time = max(0, round(seconds * _MICRO))
    return -(-draw * time // (_PER_WATT_HOUR * max(1, in_flight)))


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a kilowatt-hour costs by time of day, in nano-dollars."""

    price: int
    hours: tuple[tuple[int, int, int], ...]
    """(begin, end, price): minutes of the day; one that ends before it begins passes midnight"""
    zone: ZoneInfo

    def at(self, when: float) -> int:
        """The price of a kilowatt-hour at a unix time."""
        if not self.hours:
            return self.price
        local = datetime.fromtimestamp(when, self.zone)
        minute = local.hour * 60 + local.minute
        for begin, end, price in self.hours:
            inside = begin <= minute < end if begin < end else minute >= begin or minute < end
            if inside:
                return price
        return self.price


def tariff_of(written: EnergyPrice, currency: Currency | None) -> Tariff:
    """The file's price of electricity. Raises ValueError for a currency without a rate."""
    return Tariff(
        dollars(written.price.nano, written.price.currency, currency),
        tuple(
            (*minutes(text), dollars(amount.nano, amount.currency, currency))
            for text, amount in written.hours.items()
        ),
        units.zone(written.zone),
    )


def energy_cost(micro_watt_hours: int, tariff: Tariff, when: float) -> int:
    """Nano-dollars of an attempt's energy, at the price of the moment when the attempt began."""
    return -(-micro_watt_hours * tariff.at(when) // PER_KWH)
