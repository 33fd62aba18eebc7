"""Stages of keys, limits and money: what they add to an exchange that costs nothing."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.inside import BODY, KEY_ID, LIMITS, NOW, Trial, done, entry, make_budgets, make_fleet, make_keys
from bench.inside import KEY as PRESENTED
from bench.parts import MODEL
from fleetgate.budgets.holds import Caller, Counts
from fleetgate.domain import Booking, Principal
from fleetgate.estimate import estimate_tokens
from fleetgate.pricing import Demand
from fleetgate.store.database import Store
from fleetgate.store.leases import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.budgets.holds import Admission
    from fleetgate.budgets.owner import Budgets
    from fleetgate.live import Deployment

ESTIMATE: Final = Counts(150, 64)
USED: Final = Counts(26, 54)
DAY: Final = 86_400
ROLLING: Final = (LIMITS[0], LIMITS[1], LIMITS[4])
"""those that need no database"""
ENTRIES: Final = 2_000
MANY: Final = 10**12


def trials() -> list[Trial]:
    """Those without threads and loop."""
    return [
        Trial("0 key: an issued one", _key),
        Trial("1 body: estimate of its tokens", lambda: lambda: estimate_tokens(BODY)),
        Trial("3 admit and finish: no limits", partial(_admit, ())),
        Trial("3 admit and finish: 3 limits", partial(_admit, ROLLING)),
        Trial("7 authorise and settle: free, no limits", partial(_authorise, ())),
        Trial("7 authorise and settle: free, a budget", partial(_authorise, LIMITS[5:])),
    ]


def _key() -> Callable[[], object]:
    keys, presented = make_keys(), PRESENTED.encode()
    return lambda: keys.identify(presented)


def caller() -> Caller:
    return Caller(Principal(KEY_ID, alias="bench"), MODEL)


def _admit(limits: tuple[dict[str, Any], ...]) -> Callable[[], object]:
    budgets, who = make_budgets(limits), caller()

    def admit() -> None:
        admission: Admission = done(budgets.admit(who, ESTIMATE, "req_0"))
        admission.finish(USED, budgets.now())

    return admit


def _authorise(limits: tuple[dict[str, Any], ...]) -> Callable[[], object]:
    budgets, deployment = make_budgets(limits), free_deployment()
    admission: Admission = done(budgets.admit(caller(), ESTIMATE, "req_0"))

    def authorise() -> None:
        hold = done(budgets.authorise(admission, deployment, None, Demand(150, 64), ("req_0", 0)))
        hold.settle(USED, budgets.now())

    return authorise


def free_deployment() -> Deployment:
    names = make_fleet().names
    assert names is not None
    route = names.resolve(MODEL)
    assert route is not None
    return route.steps[0].candidates[0]


# -- with a database ---------------------------------------------------------------------------------------


def measure(rounds: int) -> list[tuple[str, float]]:
    """Stages that need a database: all limits at once, and the writer's own work."""
    found = []
    with tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as place:
        store = Store.open(Path(place), lambda: NOW)
        try:
            budgets = make_budgets(LIMITS, store)
            found.append(("3 admit and finish: 5 limits", asyncio.run(_lasting(budgets, rounds))))
            plain = [min(_written(store, part, rounds, 0)) for part in ("a", "b")]
            found.append(("10 settle: writer thread, an entry", min(plain)))
            for counters in (2, 1_000):
                day = int(NOW) // DAY * DAY
                wanted = [Wanted(f"lday@key-{at}", day, MANY, 1, MANY) for at in range(counters)]
                asyncio.run(store.grants(wanted))
                name = f"10 settle: the same with a booking, {counters} counters"
                found.append((name, min(_written(store, str(counters), rounds, counters))))
        finally:
            store.close()
    return found


async def _lasting(budgets: Budgets, rounds: int) -> float:
    """Microseconds; the day's counter is granted at the first call."""
    who, count, took = caller(), 2_000, []
    for _ in range(rounds + 1):
        began = time.thread_time()
        for number in range(count):
            admission = await budgets.admit(who, ESTIMATE, f"req_{number}")
            admission.finish(USED, budgets.now())
        took.append(time.thread_time() - began)
    return min(took) / count * 1e6


def _written(store: Store, part: str, rounds: int, counters: int) -> list[float]:
    """Microseconds of the writer's CPU for an entry, per round."""
    writer = next(one for one in threading.enumerate() if one.name == "fleetgate-store")
    assert writer.ident is not None
    clock = time.pthread_getcpuclockid(writer.ident)
    took = []
    for number in range(rounds):
        places = itertools.cycle(range(max(1, counters)))
        entries = [
            replace(
                entry(one),
                request_id=f"req_{part}_{number}_{one}",
                principal=f"key-{at}",
                bookings=(Booking(f"lday@key-{at}", int(NOW) // DAY * DAY, spent=1),) if counters else (),
            )
            for one, at in zip(range(ENTRIES), places, strict=False)
        ]
        began = time.clock_gettime(clock)
        for one in entries:
            store.post(one)
        asyncio.run(store.flush())
        took.append((time.clock_gettime(clock) - began) / ENTRIES * 1e6)
    return took
