"""Limits out of what was written: in the file, over the API, as a provider's quota. Pure.

Each measure of an entry is a limit of its own. Amounts become nano-dollars, rounded down: a ceiling in
another currency is never raised by the conversion.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fleetgate import units
from fleetgate.limits import EACH, QUOTA, Limit, Measure, Scope, Then, limit_id
from fleetgate.windows import Calendar, Unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fleetgate.config import money
    from fleetgate.config.schema import Settings
    from fleetgate.units import Amount

FILE: Final = "file"
DATABASE: Final = "database"
QUOTA_BURST: Final = 10
"""This part of a provider's rolling quota may come at once."""
LONG: Final = (Unit.DAY, Unit.MONTH)


def compile(settings: Settings) -> tuple[Limit, ...]:  # noqa: A001  (what it does, as in routing)
    """The limits of a configuration, in its order: ours, then those of providers."""
    ours = (limit for entry in settings.limits for limit in of_entry(entry, settings.currency))
    quotas = (
        limit
        for name, provider in settings.providers.items()
        for quota in provider.limits
        for limit in of_quota(name, quota, settings.currency)
    )
    return (*_numbered(ours), *_numbered(quotas))


def of_entry(entry: money.Limit, currency: money.Currency | None, *, origin: str = FILE) -> tuple[Limit, ...]:
    """One limit for each measure of an entry. Raises ValueError for money without a known rate."""
    scope = Scope(tuple(sorted((str(kind), pattern) for kind, pattern in entry.scope.items())))
    wanted = Limit("", entry.name, scope, Measure.REQUESTS, 0, None, None, None, Then(entry.then), origin)
    return tuple(_measured(entry, wanted, currency))


def of_quota(provider: str, quota: money.Quota, currency: money.Currency | None) -> tuple[Limit, ...]:
    """A provider's quota: one limit for each measure, and for each pattern of models."""
    whom = [("provider", provider), *([("account", EACH)] if quota.per_key else [])]
    limits: list[Limit] = []
    for pattern in quota.models or (None,):
        parts = whom if pattern is None else [*whom, ("model", pattern)]
        apart = ("model",) if pattern is not None and "*" in pattern and pattern != EACH else ()
        scope = Scope(tuple(sorted(parts)), apart)
        wanted = Limit("", "", scope, Measure.REQUESTS, 0, None, None, None, Then.REFUSE, QUOTA)
        limits += _measured(quota, replace(wanted, spread=quota.spread), currency)
    return tuple(limits)


def dollars(amount: Amount, currency: money.Currency | None) -> int:
    """Nano-dollars, rounded down. Raises ValueError where nobody said what the currency is worth."""
    if amount.currency == "USD":
        return amount.nano
    if currency is None or amount.currency != currency.code:
        raise ValueError(f"nobody said what one {amount.currency} is worth; write USD, or a `currency` block")
    return amount.nano * currency.rate.nano // units.NANO_PER_USD


def _measured(entry: money.Measures, wanted: Limit, currency: money.Currency | None) -> Iterator[Limit]:
    for measure in Measure:
        written = getattr(entry, measure.value)
        if written is None:
            continue
        ceiling = dollars(written, currency) if measure is Measure.MONEY else written
        calendar, period = _window(entry, measure)
        quota = wanted.origin == QUOTA
        yield replace(
            wanted,
            id=limit_id(wanted.scope, measure, calendar or period, wanted.name, quota=quota),
            measure=measure,
            ceiling=ceiling,
            calendar=calendar,
            period=period,
            burst=_burst(entry.burst, ceiling, quota=quota) if period is not None else None,
            spread=wanted.spread and calendar is not None,
            shown_in=(currency.code, currency.rate.nano) if currency is not None else wanted.shown_in,
        )


def _burst(written: int | None, ceiling: int, *, quota: bool) -> int:
    if written is not None:
        return written
    return min(ceiling, max(1, ceiling // QUOTA_BURST)) if quota else ceiling


def _window(entry: money.Measures, measure: Measure) -> tuple[Calendar | None, float | None]:
    """The calendar, or the seconds of a rolling window; neither for what runs at the same time."""
    if measure is Measure.PARALLEL:
        return None, None
    money = measure is Measure.MONEY
    per = entry.per or (Unit.MONTH if money else Unit.MINUTE)
    if per not in set(Unit):
        return None, units.duration(per)
    unit = Unit(per)
    usual = money or unit in LONG or entry.reset is not None
    if entry.window == "calendar" or (entry.window is None and usual):
        return _calendar(entry, unit), None
    return None, _ROLLING[unit]


_ROLLING: Final = {
    Unit.SECOND: 1.0,
    Unit.MINUTE: 60.0,
    Unit.HOUR: 3_600.0,
    Unit.DAY: 86_400.0,
}


def _calendar(entry: money.Measures, unit: Unit) -> Calendar:
    clock, _, zone = (entry.reset or "00:00").partition(" ")
    hour, minute = map(int, clock.split(":"))
    if unit in LONG:
        return Calendar(unit, zone.strip() or entry.zone or "UTC", hour, minute)
    return Calendar(unit, minute=minute if unit is Unit.HOUR else 0)


def _numbered(limits: Iterable[Limit]) -> Iterator[Limit]:
    """Two limits on the same thing, such as one that warns and a higher one that refuses."""
    seen: dict[str, int] = {}
    for limit in limits:
        count = seen[limit.id] = seen.get(limit.id, 0) + 1
        yield limit if count == 1 else replace(limit, id=f"{limit.id}-{count}")
