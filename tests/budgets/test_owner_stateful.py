"""The owner of limits against a plain model of them, over a real database, with clocks that jump.

One gateway is alone, so what it admits is exact: a request passes when, and only when, every limit of
the model has room for it. Limits: money per day in a zone with summer time, requests per month for each
key, and what runs at once.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.live import deployment, engine

from fleetgate.budgets.denied import Denied
from fleetgate.budgets.holds import Admission, Caller, Counts, Hold
from fleetgate.budgets.owner import Budgets, Means
from fleetgate.budgets.parallel import LONGEST
from fleetgate.domain import Entry, Principal, Reservation
from fleetgate.limits import Limit, Measure, Scope, Then
from fleetgate.pricing import Demand, Price
from fleetgate.store import ledger
from fleetgate.store.database import Store
from fleetgate.windows import Calendar, Unit

START = 1_793_400_000.0
"""shortly before the end of summer time in Berlin, and of a month"""
DAILY = Calendar(Unit.DAY, "Europe/Berlin")
MONTHLY = Calendar(Unit.MONTH, "UTC")
KEYS = ("one", "two")
TOGETHER = 4


def money(ceiling: int) -> Limit:
    return Limit("money", "", Scope(), Measure.MONEY, ceiling, DAILY, None, None, Then.REFUSE, "file")


def requests(ceiling: int) -> Limit:
    scope = Scope((("key", "*"),))
    return Limit("requests", "", scope, Measure.REQUESTS, ceiling, MONTHLY, None, None, Then.REFUSE, "file")


def parallel() -> Limit:
    return Limit("parallel", "", Scope(), Measure.PARALLEL, TOGETHER, None, None, None, Then.REFUSE, "file")


@dataclass
class Sum:
    """A counter of the model in one window."""

    spent: int = 0
    held: int = 0


@dataclass
class Running:
    key: str
    admission: Admission
    hold: Hold
    day: int
    month: int
    amount: int
    began: float


@dataclass
class Model:
    """What the limits say, in the plainest form: windows never go back."""

    day: int = 0
    months: dict[str, int] = field(default_factory=dict)
    money: dict[int, Sum] = field(default_factory=dict)
    requests: dict[tuple[str, int], Sum] = field(default_factory=dict)

    def turn(self, wall: float, key: str = "") -> None:
        """Time as a counter sees it: each only when it is asked."""
        self.day = max(self.day, DAILY.start(wall))
        if key:
            self.months[key] = max(self.months.get(key, 0), MONTHLY.start(wall))

    def spent_today(self) -> Sum:
        return self.money.setdefault(self.day, Sum())

    def asked_this_month(self, key: str) -> Sum:
        return self.requests.setdefault((key, self.months[key]), Sum())


class Limits(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.place = tempfile.TemporaryDirectory()
        self.clock, self.wall = 1_000.0, START
        self.store = Store.open(Path(self.place.name), lambda: self.wall)
        self.ceilings = {"money": 10_000, "requests": 12}
        means = Means(self.store, lambda: self.clock, lambda: self.wall, lambda *_, **__: None)
        self.budgets = Budgets(means)
        self.configure()
        self.paid = deployment("m", engine("cloud", local=False))
        self.paid.price = Price(request=0, input=0, output=1_000_000)  # one nano-dollar for a token out
        self.model = Model()
        self.running: list[Running] = []
        self.number = 0

    def configure(self) -> None:
        limits = (money(self.ceilings["money"]), requests(self.ceilings["requests"]), parallel())
        self.budgets.configure(limits)

    def teardown(self) -> None:
        while self.running:
            self.end(0, 0)
        self.loop.run_until_complete(self.store.flush())
        assert self.store.ask(ledger.check) == []
        self.store.close()
        self.place.cleanup()
        self.loop.close()

    # -- what happens --------------------------------------------------------------------------------------

    @rule(key=st.sampled_from(KEYS), amount=st.integers(1, 6_000))
    def begin(self, key: str, amount: int) -> None:
        self.model.turn(self.wall, key)
        expected = self.fits(key, amount)
        self.number += 1
        found = self.loop.run_until_complete(self.ask(key, amount))
        assert (found is not None) == expected, (key, amount, self.model)
        if found is not None:
            self.running.append(found)
            self.model.spent_today().held += amount
            self.model.asked_this_month(key).held += 1

    def fits(self, key: str, amount: int) -> bool:
        today, month = self.model.spent_today(), self.model.asked_this_month(key)
        return (
            today.spent + today.held + amount <= self.ceilings["money"]
            and month.spent + month.held < self.ceilings["requests"]
            and sum(one.began > self.clock - LONGEST for one in self.running) < TOGETHER
        )

    async def ask(self, key: str, amount: int) -> Running | None:
        name, caller = f"r{self.number}", Caller(Principal(key), "m")
        admission = None
        try:
            admission = await self.budgets.admit(caller, Counts(1, amount), name)
            demand = Demand(1, amount, 1)
            hold = await self.budgets.authorise(admission, self.paid, None, demand, (name, 0))
        except Denied:
            if admission is not None:  # its caller's limits let it through, and nothing came of it
                admission.finish(Counts(requests=0), self.budgets.now())
            return None
        hold.durable = True
        await self.store.dispatch(Reservation(name, 0, amount, amount, hold.holds(), self.entry(name, key)))
        return Running(key, admission, hold, self.model.day, self.model.months[key], amount, self.clock)

    def entry(self, name: str, key: str, **changes: Any) -> Entry:
        return Entry(name, self.wall, key, "/v1/chat/completions", "m", 200, "ok", 0.1, **changes)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, TOGETHER - 1), part=st.integers(0, 100))
    def end(self, which: int, part: int) -> None:
        one = self.running.pop(which % len(self.running))
        cost = one.amount * part // 100
        settlement, bookings = one.hold.settle(Counts(1, cost, cost), self.budgets.now())
        assert settlement is not None
        booked = (*bookings, *one.admission.finish(Counts(1, cost), self.budgets.now()))
        entry = self.entry(one.hold.request_id, one.key, settlements=(settlement,), bookings=booked)
        self.store.settle(settlement)
        self.store.post(entry)
        today, month = self.model.money[one.day], self.model.requests[one.key, one.month]
        today.held -= one.amount
        today.spent += cost
        month.held -= 1
        month.spent += 1

    @rule(seconds=st.sampled_from([1.0, 600.0, 3_600.0, 12 * 3_600.0, 26 * 3_600.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock += seconds
        self.wall += seconds

    @rule(seconds=st.sampled_from([-3_600.0, -86_400.0, 3_600.0]))
    def the_clock_is_put_right(self, seconds: float) -> None:
        self.wall += seconds

    @rule(ceiling=st.sampled_from([3_000, 10_000, 20_000]))
    def a_reload_changes_the_budget(self, ceiling: int) -> None:
        self.ceilings["money"] = ceiling
        self.configure()
        self.clock += 2  # a refusal is remembered for a second

    @rule()
    def the_budget_goes_out_of_the_file_and_comes_back(self) -> None:
        self.budgets.configure((requests(self.ceilings["requests"]), parallel()))
        self.configure()
        self.clock += 2

    # -- what is always so ---------------------------------------------------------------------------------

    @invariant()
    def the_gate_counts_as_the_model_does(self) -> None:
        gate = self.budgets._gates.get("money")
        if gate is None:
            return  # it has not seen any time yet
        self.model.turn(self.wall)
        level, today = gate.level(self.budgets.now()), self.model.spent_today()
        assert (level.used, level.held) == (today.spent, today.held)


TestLimits = Limits.TestCase
TestLimits.settings = settings(
    phases=(Phase.explicit, Phase.generate),
    print_blob=False,
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
