"""How far limits are used, for people: what the database says, and what this gateway knows beyond it.

A gateway learns of a lasting counter when it first needs it, and only what it spent itself where others
share the database. People are told the truth after a start too, and of all gateways: it is in the
database. What is not yet written there is what this gateway has counted more. While the database does not
answer, that is all there is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fleetgate.store.failures import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.budgets.owner import Budgets
    from fleetgate.limits import Limit
    from fleetgate.store.database import Store
    from fleetgate.store.leases import Count


async def levels(budgets: Budgets, store: Store) -> list[dict[str, Any]]:
    """All limits and how far each is used, in their order; of one that counts apart, a row for each."""
    wall = budgets.now().wall
    spans = {one.id: one.calendar.span(wall) for one in budgets.limits if one.calendar is not None}
    limits = {one.id: one for one in budgets.limits}
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in limits}
    for level in budgets.levels():
        found[level["id"]][level["counter"]] = level
    starts = {start for start, _ in spans.values()}
    try:
        counts = await asyncio.to_thread(_counts, store, starts) if starts else []
    except StoreError:
        counts = []
    for count in counts:
        name = count.counter.partition("@")[0]
        start, end = spans.get(name, (None, 0))
        if start == count.window:
            told = found[name].get(count.counter) or _nothing(limits[name], count.counter, end - wall)
            found[name][count.counter] = _merged(told, count)
    return [level for of_limit in found.values() for level in of_limit.values()]


def _counts(store: Store, starts: set[int]) -> list[Count]:
    return [count for start in sorted(starts) for count in store.counters(window=start)]


def _nothing(limit: Limit, counter: str, frees_in: float) -> dict[str, Any]:
    """Of a counter that this gateway has not needed yet."""
    return {
        "id": limit.id,
        "counter": counter,
        "used": 0,
        "held": 0,
        "ceiling": limit.ceiling,
        "frees_in_s": max(0.0, frees_in),
        "refusals": 0,
    }


def _merged(level: Mapping[str, Any], count: Count) -> dict[str, Any]:
    """What others hold counts as used in this gateway's eyes: it must not be there twice."""
    used = max(count.spent, level["used"] - count.held)
    return {**level, "used": used, "held": max(count.held, level["held"])}
