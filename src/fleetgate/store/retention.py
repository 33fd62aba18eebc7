"""What is deleted when it is old enough, and the daily look at whether all sums are right.

Rules: every deletion is a short transaction of its own, so that an exchange never waits for it; sums by
hour are never deleted, and money is carried forward before its events go. The age is the operator's:
`ledger.keep`, `ledger.keep_audit`. Of several gateways on one database one does the work of a day.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, and_, delete, func, select, tuple_, update

from fleetgate.store import ledger
from fleetgate.store.adding import adding
from fleetgate.store.failures import StoreError
from fleetgate.store.hourly import HOUR, KEPT_FROM, hours, kept_from, rebuild, verify_hour
from fleetgate.store.schema import audit, budget_lease, counter, exchange, meta, money_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fleetgate.store.database import Store

    Check = Callable[[Connection], list[str]]

FIRST: Final = 60.0
"""Seconds after the start at which it first looks whether there is something to do."""
AGAIN: Final = 3_600.0
EVERY: Final = 86_400
CHUNK: Final = 500
"""rows of one deletion"""
BETWEEN: Final = 0.05
"""Seconds between two deletions."""
BREATH: Final = 0.01
"""Seconds that a check rests after some hundred entries: it shares the interpreter with the answers."""
LONGEST_WINDOW: Final = 62 * 86_400
"""A counter whose window began so long ago belongs to a window that is over."""
STEP: Final = 600_000
"""milliseconds of events that are carried forward together"""
_SHOWN: Final = 20

TIDIED: Final = "tidied_at"
"""Name of the value in `meta` that says when this was last done (unix seconds)."""
CHECKED: Final = "sums_checked_until"
"""The same for the moment up to which all sums were found right."""
FILLED: Final = "hourly_filled"
"""The same for the sums of entries from before there were sums."""


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds."""

    entries: float
    audit: float


@dataclass(frozen=True, slots=True)
class Duties:
    """What belongs to others: how money is carried forward, and what else is checked."""

    carry: Callable[[Connection, int], int] = ledger.carry
    """deletes events older than a time (unix milliseconds), and says how many"""
    checks: Sequence[Check] = (ledger.check,)


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long it waits between things. Seconds."""

    first: float = FIRST
    again: float = AGAIN
    between: float = BETWEEN
    breath: float = BREATH
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


async def keep_tidy(
    store: Store,
    ages: Callable[[], Ages],
    clock: Callable[[], float],
    report: Callable[..., None],
    duties: Duties | None = None,
    pauses: Pauses | None = None,
) -> None:
    """Shortly after the start, and once a day: delete what is old, check what is left. Never ends.

    `clock` gives unix seconds, `ages` what is configured at the moment.
    """
    duties, pauses = duties or Duties(), pauses or Pauses()
    await pauses.sleep(pauses.first)
    failed = False
    while True:
        now = int(clock())
        try:
            if await store.change(lambda connection: _claim(connection, now)) or failed:  # noqa: B023
                await fill(store, pauses)
                gone = await tidy(store, ages(), duties, now, pauses)
                if any(gone.values()):
                    report("tidied", **gone)
                since = await asyncio.to_thread(store.ask, _checked_until)
                findings = await full_check(store, duties.checks, pauses, since=since)
                if not findings:
                    await store.change(partial(_keep, name=CHECKED, value=str((now - EVERY) // HOUR * HOUR)))
                level = "error" if findings else "info"
                report("sums_checked", level, wrong=len(findings), findings=findings[:_SHOWN])
            failed = False
        except StoreError as error:
            failed = True
            report("tidying_failed", "warning", text=error.message)
        await pauses.sleep(pauses.again)


async def tidy(store: Store, ages: Ages, duties: Duties, now: int, pauses: Pauses) -> dict[str, int]:
    """Deletes what is old. Says how many of what."""
    # A whole hour: its entries are all there or all gone, so that its sums can be compared or not at all.
    before = int(now - ages.entries) // HOUR * HOUR
    return {
        "events": await _carry(store, duties, before * 1_000, pauses),
        "entries": await _in_chunks(store, lambda connection: _entries(connection, before), pauses),
        "audit_lines": await _in_chunks(
            store, lambda connection: _audit_lines(connection, int(now - ages.audit) * 1_000), pauses
        ),
        "counters": await _in_chunks(store, lambda connection: _counters(connection, before), pauses),
    }


async def full_check(
    store: Store,
    checks: Sequence[Check] = (ledger.check,),
    pauses: Pauses | None = None,
    *,
    since: int = 0,
) -> list[str]:
    """Whether all sums are what they were made of, by hour and of money; one line for each that is not.

    `since` (unix seconds): sums of earlier hours were found right, and nothing is added to them.
    """
    breath = (pauses or Pauses()).breath
    findings: list[str] = []
    for hour in await asyncio.to_thread(store.ask, lambda connection: list(hours(connection, since))):
        findings += await asyncio.to_thread(store.ask, _verifying(hour, breath))
    for check in checks:
        findings += await asyncio.to_thread(store.ask, check)
    return findings


async def fill(store: Store, pauses: Pauses | None = None) -> None:
    """Makes sums of the entries that were there before there were sums. Once per database."""
    if await store.change(_is_filled):
        return
    await refill(store, pauses)
    await store.change(_mark_filled)


async def refill(store: Store, pauses: Pauses | None = None) -> None:
    """Makes all sums again whose entries are kept, hour by hour."""
    pauses = pauses or Pauses()
    for hour in await asyncio.to_thread(store.ask, lambda connection: list(hours(connection))):
        await store.change(_rebuilding(hour))
        await pauses.sleep(pauses.between)


def _verifying(hour: int, breath: float) -> Check:
    return lambda connection: verify_hour(connection, hour, lambda: time.sleep(breath))


def _rebuilding(hour: int) -> Callable[[Connection], None]:
    return lambda connection: rebuild(connection, hour)


# Deletions


async def _in_chunks(store: Store, act: Callable[[Connection], int], pauses: Pauses) -> int:
    """Until there is less than a chunk to delete."""
    total = 0
    while True:
        count = await store.change(act)
        total += count
        if count < CHUNK:
            return total
        await pauses.sleep(pauses.between)


async def _carry(store: Store, duties: Duties, before: int, pauses: Pauses) -> int:
    """Carries money forward, some minutes of events at a time. `before`: unix milliseconds."""
    total, done = 0, 0
    while True:
        at = await asyncio.to_thread(store.ask, _next_event(done, before))
        if at is None:
            return total
        done = min(before, at // STEP * STEP + STEP)
        total += await store.change(_carrying(duties, done))
        await pauses.sleep(pauses.between)


def _next_event(since: int, before: int) -> Callable[[Connection], int | None]:
    within = and_(money_event.c.at >= since, money_event.c.at < before, money_event.c.kind != "carry")
    query = select(func.min(money_event.c.at)).where(within)
    return lambda connection: connection.execute(query).scalar()


def _carrying(duties: Duties, before: int) -> Callable[[Connection], int]:
    return lambda connection: duties.carry(connection, before)


def _entries(connection: Connection, before: int) -> int:
    """`before`: unix seconds, a whole hour."""
    old = select(exchange.c.request_id).where(exchange.c.at < before * 1_000)
    found = connection.execute(old.order_by(exchange.c.at).limit(CHUNK)).scalars().all()
    if found:
        if kept_from(connection) < before:
            _keep(connection, KEPT_FROM, str(before))
        connection.execute(delete(exchange).where(exchange.c.request_id.in_(found)))
    return len(found)


def _audit_lines(connection: Connection, before: int) -> int:
    old = select(audit.c.number).where(audit.c.at < before).order_by(audit.c.number).limit(CHUNK)
    found = connection.execute(old).scalars().all()
    if found:
        connection.execute(delete(audit).where(audit.c.number.in_(found)))
    return len(found)


def _counters(connection: Connection, before: int) -> int:
    """Counters of windows that were over before the oldest entry, and of which nobody holds a part."""
    held = select(budget_lease.c.run).where(
        budget_lease.c.counter == counter.c.id, budget_lease.c.window == counter.c.window
    )
    old = (
        select(counter.c.id, counter.c.window)
        .where(and_(counter.c.window < before - LONGEST_WINDOW, ~held.exists()))
        .limit(CHUNK)
    )
    found: list[Any] = [tuple(row) for row in connection.execute(old)]
    if found:
        connection.execute(delete(counter).where(tuple_(counter.c.id, counter.c.window).in_(found)))
    return len(found)


# Single values


def _claim(connection: Connection, now: int) -> bool:
    """Whether the work of this day is ours to do."""
    connection.execute(adding(connection, meta).values(name=TIDIED, value="0").on_conflict_do_nothing())
    last = connection.execute(select(meta.c.value).where(meta.c.name == TIDIED)).scalar_one()
    if abs(now - int(last)) < EVERY:
        return False
    same = and_(meta.c.name == TIDIED, meta.c.value == last)
    return connection.execute(update(meta).where(same).values(value=str(now))).rowcount == 1


def _keep(connection: Connection, name: str, value: str) -> None:
    row = adding(connection, meta).values(name=name, value=value)
    connection.execute(row.on_conflict_do_update(index_elements=[meta.c.name], set_={"value": value}))


def _checked_until(connection: Connection) -> int:
    value = connection.execute(select(meta.c.value).where(meta.c.name == CHECKED)).scalar()
    return int(value) if value is not None else 0


def _is_filled(connection: Connection) -> bool:
    return connection.execute(select(meta.c.value).where(meta.c.name == FILLED)).scalar() is not None


def _mark_filled(connection: Connection) -> None:
    _keep(connection, FILLED, "yes")
