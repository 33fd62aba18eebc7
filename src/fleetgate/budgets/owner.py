"""Owner of everything that bounds requests: limits, quotas, budgets, and the switch `paid off`.

A caller's own limits are asked once, before there is a plan (`admit`). Those of a candidate, and all
money, are asked for each attempt (`authorise`). All limits of a request are checked and then counted
at all of them, with no `await` in between; where one of them has to ask outside first, everything is
checked again after that.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fleetgate import pricing, units
from fleetgate.budgets.denied import Denied, denial
from fleetgate.budgets.gate import NEVER, Gate, Now, Short
from fleetgate.budgets.holds import Admission, Caller, Counts, Hold, subject_of
from fleetgate.budgets.index import Index
from fleetgate.budgets.lasting import Lasting
from fleetgate.budgets.parallel import Parallel
from fleetgate.budgets.rolling import Rolling, RollingTaken
from fleetgate.limits import QUOTA, Limit, Measure, Then
from fleetgate.routing.availability import Reason
from fleetgate.store.failures import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fleetgate.budgets.denied import Room
    from fleetgate.config.schema import Settings
    from fleetgate.live import Account, Deployment
    from fleetgate.pricing import Demand
    from fleetgate.shared.port import SharedState
    from fleetgate.store.database import Store

ROUNDS: Final = 4
"""Times that a request asks outside before it is refused for now."""
MOST_SUBJECTS: Final = 100_000
"""Callers and candidates whose limits are remembered; more of them are only looked up again."""
ROOM: Final = (Measure.REQUESTS, Measure.TOKENS)
"""what callers are told about: how much is left of it"""
LEAST_CAP: Final = 64
"""Output tokens below which a capped answer is of no use to anybody."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the owner needs of others."""

    store: Store
    clock: Callable[[], float]
    wall: Callable[[], float]
    report: Callable[..., None]
    shared: SharedState | None = None
    alone: bool = True
    """no other gateway uses the database"""


@dataclass(frozen=True, slots=True)
class Paused:
    """Paid candidates are off."""

    since: float
    who: str
    why: str = ""


class Budgets:
    """Admits, authorises, settles."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._limits: tuple[Limit, ...] = ()
        self._of_callers = Index(())
        self._of_candidates = Index(())
        self._quotas = Index(())
        self._gates: dict[str, Gate] = {}
        self._caller_gates: dict[tuple[str | None, ...], tuple[Gate, ...]] = {}
        self._candidate_gates: dict[tuple[str | None, ...], tuple[Gate, ...]] = {}
        self.thresholds: tuple[float, ...] = ()
        self.paused: Paused | None = None
        self._warned: dict[str, int] = {}
        self._lost = 0
        """how often the database had given up this process: its leases were gone each time"""
        self.refusals: dict[str, int] = {}
        """limit id -> how often it refused"""

    # -- configuration ---------------------------------------------------------------------------------

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self._limits

    def configure(self, limits: Sequence[Limit], thresholds: Iterable[float] = ()) -> None:
        """Put limits into effect. What counts at a limit that stays goes on counting."""
        self._limits = tuple(limits)
        of_callers = [one for one in limits if one.scope.caller_only and one.measure is not Measure.MONEY]
        callers = set(of_callers)
        self._of_callers = Index(of_callers)
        self._of_candidates = Index(one for one in limits if one not in callers)
        self._quotas = Index(one for one in limits if one.origin == QUOTA and one.lasting)
        self.thresholds = tuple(sorted({*thresholds, 1.0}))
        before, self._gates = self._gates, {}
        self._caller_gates.clear()
        self._candidate_gates.clear()
        known, now = {limit.id: limit for limit in limits}, self.now()
        for key, gate in before.items():
            limit = known.get(gate.limit.id)
            if limit is not None:
                self._gates[key] = gate
                gate.revise(limit, now)
            elif isinstance(gate, Lasting) and now.wall < gate.end:
                self._gates[key] = (
                    gate  # it may come back in its window, and this run has spent from its lease
                )

    def _make(self, limit: Limit, key: str) -> Gate:
        means = self._means
        if limit.measure is Measure.PARALLEL:
            return Parallel(limit, key, means.shared, means.store.run)
        if limit.lasting:
            return Lasting(limit, key, means.store, alone=means.alone, on_spent=self._spent)
        return Rolling(limit, key, means.shared)

    def _gates_for(self, limits: Index, subject: Mapping[str, str | None]) -> Iterator[Gate]:
        alias = subject.get("alias")
        by_alias = {**subject, "key": alias} if alias else None
        for limit in limits.near(subject):
            if limit.scope.matches(subject) or (by_alias and limit.scope.matches(by_alias)):
                key = limit.counter(subject)
                gate = self._gates.get(key)
                if gate is None:
                    gate = self._gates[key] = self._make(limit, key)
                yield gate

    # -- stage 3 ---------------------------------------------------------------------------------------

    async def admit(self, caller: Caller, estimate: Counts, name: str) -> Admission:
        """Let a request pass its caller's own limits, or raise Denied. `name`: the request's id."""
        admission = Admission(caller, estimate)
        if not self._of_callers:
            return admission
        who = caller.principal
        at = (who.id, who.user, who.team, caller.role)
        gates = self._caller_gates.get(at)
        if gates is None:
            if len(self._caller_gates) >= MOST_SUBJECTS:
                self._caller_gates.clear()
            gates = self._caller_gates[at] = tuple(self._gates_for(self._of_callers, caller.subject()))
        if gates:
            try:
                await self._pass(gates, estimate, name, admission)
            except Denied as denied:
                now = self.now()
                denied.room = [_least(gates, measure, now) for measure in ROOM]
                raise
        return admission

    async def _pass(self, gates: Sequence[Gate], counts: Counts, name: str, into: Admission | Hold) -> None:
        """Check all gates, then count at all of them."""
        asked = 0
        while True:
            now = self.now()
            asking: list[tuple[Gate, int]] = []
            against: list[tuple[Gate, Short]] = []
            amounts: list[int] = []
            for gate in gates:
                amount = _amount(gate.limit, counts)
                amounts.append(amount)
                short = gate.short(amount, now)
                if short is not None:
                    against.append((gate, short))
                    if short.ask:
                        asking.append((gate, amount))
            if not asking or asked >= ROUNDS:
                break
            asked += 1
            for gate, amount in asking:
                await gate.fetch(amount, now)
        for gate, short in against:
            self._object(gate, short, into)
        # Who passes a rolling limit that is reached leaves it as it is: with a debt that grows as long as
        # such requests come, nothing would ever be within it again.
        over = {gate for gate, _ in against if isinstance(gate, Rolling)} if against else ()
        into.taken = tuple(
            [
                RollingTaken(gate, None)
                if over and isinstance(gate, Rolling) and gate in over
                else gate.take(amount, now, name)
                for gate, amount in zip(gates, amounts, strict=True)
            ]
        )

    def _object(self, gate: Gate, short: Short, into: Admission | Hold) -> None:
        limit = gate.limit
        if limit.then is Then.WARN:
            into.warned = (*into.warned, limit)
            self._warn(gate)
        elif limit.then is Then.LOCAL_ONLY and isinstance(into, Admission):
            into.only_local = limit
        elif limit.then is Then.LOCAL_ONLY and _goes_on(limit, into):
            return
        else:
            self.refusals[limit.id] = self.refusals.get(limit.id, 0) + 1
            raise denial(gate, short)

    def _warn(self, gate: Gate) -> None:
        """Once in a minute, or in the window of a lasting limit."""
        turn = gate.start if isinstance(gate, Lasting) else int(self._means.clock() // 60)
        if self._warned.get(gate.key) != turn:
            self._warned[gate.key] = turn
            self._means.report("limit_warning", "warning", limit=gate.limit.title, counter=gate.key)

    # -- stage 7 ---------------------------------------------------------------------------------------

    async def authorise(
        self,
        admission: Admission,
        deployment: Deployment,
        account: Account | None,
        demand: Demand,
        name: tuple[str, int],
    ) -> Hold:
        """Let an attempt pass its candidate's limits, and hold its money. `name`: request and attempt.

        Raises Denied. The hold is in memory; whoever sends the attempt makes it durable first.
        """
        price = deployment.price
        paid = not price_is_free(deployment)
        bound = 0
        if paid:
            if self.paused is not None:
                raise Denied("paid_off", "paid models are switched off", wait=NEVER)
            found = pricing.bound(price, demand) if price is not None else None
            if price is None or found is None:
                raise Denied("price_unknown", f"nobody knows what {deployment.id} costs")
            bound = found
        assert price is not None
        hold = self._hold(admission, deployment, account, demand, name, bound)
        gates = self._gates_of_candidate(admission.caller, deployment, account, paid=paid)
        if gates:
            if paid and demand.open_ended:
                self._cap(hold, gates, demand)
            await self._pass(gates, hold.estimate, f"{name[0]}:{name[1]}", hold)
        return hold

    def _hold(
        self,
        admission: Admission,
        deployment: Deployment,
        account: Account | None,
        demand: Demand,
        name: tuple[str, int],
        bound: int,
    ) -> Hold:
        estimate = admission.estimate
        price = deployment.price
        assert price is not None
        return Hold(
            deployment,
            account,
            price,
            *name,
            Counts(estimate.input_tokens, estimate.output_tokens, bound) if bound else estimate,
            min(bound, pricing.expected(price, demand)) if bound else 0,
            (),
        )

    def _gates_of_candidate(
        self, caller: Caller, deployment: Deployment, account: Account | None, *, paid: bool
    ) -> tuple[Gate, ...]:
        if not self._of_candidates:
            return ()
        who = caller.principal
        at = (
            *(who.id, who.user, who.team, caller.role, deployment.id),
            *(account.id if account is not None else None, "paid" if paid else None),
        )
        gates = self._candidate_gates.get(at)
        if gates is None:
            if len(self._candidate_gates) >= MOST_SUBJECTS:
                self._candidate_gates.clear()
            subject = subject_of(caller.subject(), deployment, account)
            gates = tuple(
                gate
                for gate in self._gates_for(self._of_candidates, subject)
                if paid or gate.limit.measure is not Measure.MONEY
            )
            self._candidate_gates[at] = gates
        return gates

    def _cap(self, hold: Hold, gates: Iterable[Gate], demand: Demand) -> None:
        """Where the rest of a budget is smaller than the longest answer, ask for a shorter one.

        Where that would be of no use, the shortest is asked for: it is refused until the budget is free.
        """
        now = self.now()
        budgets = (
            gate for gate in gates if gate.limit.measure is Measure.MONEY and gate.limit.then is not Then.WARN
        )
        rooms = [gate.room(now) for gate in budgets]
        if not rooms or min(rooms) >= hold.estimate.money:
            return
        tokens = max(LEAST_CAP, pricing.fitting(hold.price, demand, min(rooms)) or 0)
        bound = pricing.bound(hold.price, demand.capped(tokens))
        assert bound is not None
        hold.cap = tokens
        hold.estimate = Counts(hold.estimate.input_tokens, hold.estimate.output_tokens, bound)
        hold.expected = min(hold.expected, bound)

    @property
    def objection(self) -> Callable[[Deployment], Reason | None] | None:
        """What stands against candidates for everybody: the switch, quotas with nothing left."""
        return self._object_to if self.paused is not None or self._quotas else None

    def _object_to(self, candidate: Deployment) -> Reason | None:
        if self.paused is not None and not price_is_free(candidate):
            return Reason.PAID_OFF
        if candidate.local or not self._quotas:
            return None
        now = self.now()
        out = all(self._used_up(candidate, account, now) for account in candidate.engine.accounts)
        return Reason.QUOTA if out else None

    def _used_up(self, candidate: Deployment, account: Account, now: Now) -> bool:
        subject = subject_of({}, candidate, account)
        return any(gate.room(now) <= 0 for gate in self._gates_for(self._quotas, subject))

    def quota_frees_in(self, candidate: Deployment) -> float:
        """Seconds until some account of a candidate whose quotas are used up may be asked again."""
        now = self.now()
        waits = []
        for account in candidate.engine.accounts:
            gates = self._gates_for(self._quotas, subject_of({}, candidate, account))
            shorts = (gate.short(1, now) for gate in gates)
            waits.append(max((short.wait for short in shorts if short is not None), default=0.0))
        return min(waits, default=0.0)

    # -- what people see -------------------------------------------------------------------------------

    def now(self) -> Now:
        return Now(self._means.clock(), self._means.wall())

    def room_of(self, admission: Admission) -> list[Room | None]:
        """For the rate-limit headers, in the order of `ROOM`; None: no limit of the caller's counts it."""
        now = self.now()
        gates = [one.gate for one in admission.taken]
        return [_least(gates, measure, now) for measure in ROOM]

    def standing(self, caller: Caller) -> Iterator[dict[str, Any]]:
        """The limits of a caller as they stand, without a request."""
        now = self.now()
        for gate in self._gates_for(self._of_callers, caller.subject()):
            short = gate.short(1, now)
            passes = short is None or short.ask or gate.limit.then is Then.WARN
            yield {
                "limit": gate.limit.title,
                "used": gate.level(now).used,
                "ceiling": gate.limit.ceiling,
                "passes": passes,
                "frees_in_s": None if passes or short is None or short.wait == NEVER else short.wait,
                "then": gate.limit.then.value,
            }

    def levels(self) -> Iterator[dict[str, Any]]:
        """All limits and how far each is used, as this gateway knows it."""
        now = self.now()
        by_limit: dict[str, list[Gate]] = {}
        for gate in self._gates.values():
            by_limit.setdefault(gate.limit.id, []).append(gate)
        for limit in self._limits:
            fresh = [] if limit.scope.counts_apart else [self._make(limit, limit.id)]
            gates = by_limit.get(limit.id, fresh)
            for gate in gates:
                level = gate.level(now)
                yield {
                    "id": limit.id,
                    "counter": gate.key,
                    "used": level.used,
                    "held": level.held,
                    "ceiling": limit.ceiling,
                    "frees_in_s": level.frees_in,
                    "refusals": self.refusals.get(limit.id, 0),
                }

    async def renew(self) -> None:
        """Renew leases of places, give idle leases of budget back. Call it every few seconds."""
        now = self.now()
        for gate in list(self._gates.values()):
            if isinstance(gate, Parallel):
                await gate.renew(now)
            elif isinstance(gate, Lasting) and self._means.store.lost != self._lost:
                gate.forget()
        self._lost = self._means.store.lost
        gates = [gate for gate in self._gates.values() if isinstance(gate, Lasting)]
        idle = [place for gate in gates if (place := gate.surrender(now)) is not None]
        if idle:
            with suppress(StoreError):  # what was not taken back is found again with the next grant
                await self._means.store.give_back(idle)

    def _spent(self, gate: Lasting, before: int, after: int) -> None:
        """Something was spent: tell which thresholds it passed."""
        limit = gate.limit
        if limit.measure is not Measure.MONEY or not limit.ceiling:
            return
        for share in self.thresholds:
            mark = round(limit.ceiling * share)
            if before < mark <= after:
                event = "budget_spent" if share >= 1 else "budget_threshold"
                self._means.report(
                    event,
                    "warning",
                    limit=limit.title,
                    counter=gate.key,
                    at=f"{share:.0%}",
                    spent_nano_usd=after,
                    ceiling_nano_usd=limit.ceiling,
                    until=gate.end,
                )


def _goes_on(limit: Limit, hold: Admission | Hold) -> bool:
    """Whether a machine of ours answers though a limit leaves only those. A bill of its own is still one."""
    return limit.measure is not Measure.MONEY and isinstance(hold, Hold) and hold.deployment.local


def _least(gates: Iterable[Gate], measure: Measure, now: Now) -> Room | None:
    """Of several limits on the same the one with the least left."""
    least: Gate | None = None
    most = 0
    for gate in gates:
        if gate.limit.measure is measure:
            left = gate.room(now)
            if least is None or left < most:
                least, most = gate, left
    return None if least is None else (least.limit.ceiling, most, least.frees_in(now))


def _amount(limit: Limit, counts: Counts) -> int:
    """Tokens are an estimate: one that is larger than the whole limit must not be refused for ever."""
    amount = limit.amount_of(counts)
    measure = limit.measure
    if amount <= 1 or measure is Measure.REQUESTS or measure is Measure.MONEY:
        return amount
    return min(amount, max(1, limit.ceiling if limit.lasting else limit.largest))


def thresholds(settings: Settings) -> tuple[float, ...]:
    """Shares of a budget at which it is told of, as the file's alerts say."""
    found = [one.get("at") for one in settings.alerts if one.get("when") == "budget"]
    return tuple(units.share(at) for at in found if at is not None)


def price_is_free(deployment: Deployment) -> bool:
    """Whether it never costs money: machines of ours, and providers whose every price is 0."""
    price = deployment.price
    return price is not None and price.free
