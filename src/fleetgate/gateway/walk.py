"""Stages 5 to 8: walk the steps of a route until a candidate answers.

A candidate is chosen late, when its seat is free. What follows a failure is decided by `retry`; this
module keeps the count. Attempts that were proven unsent, and those an engine turned away because it
was loading or full, do not count; the time they wait does.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from fleetgate import retry
from fleetgate.budgets.denied import Denied
from fleetgate.domain import IN_TOKENS, Capability
from fleetgate.errors import COUNTED, TABLE, AttemptFailed, FailureClass, Verdict
from fleetgate.fleet.rooms import Wish
from fleetgate.fleet.seats import Drained, Elsewhere, NoCandidate, RoomFull, WaitOver
from fleetgate.forecast.first_content import WARM_FLOOR
from fleetgate.gateway import verdicts
from fleetgate.gateway.aftermath import LEFT_AT_WORK, Tried, settled, tell
from fleetgate.gateway.ask import Ask
from fleetgate.gateway.attempt import Flow, Whole, assemble, attempt
from fleetgate.gateway.purse import refusal
from fleetgate.routing import accounts
from fleetgate.routing.plan import Route, Step, leads_to, steps_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetgate.budgets.holds import Hold
    from fleetgate.domain import Attempt
    from fleetgate.engines.terms import Change
    from fleetgate.fleet.lease import Lease
    from fleetgate.fleet.wants import Ticket
    from fleetgate.gateway.errand import Errand
    from fleetgate.gateway.gateway import Gateway, Stoppable
    from fleetgate.gateway.resume import Resume
    from fleetgate.gateway.through import Through
    from fleetgate.live import Account, Deployment
    from fleetgate.routing.accounts import Pair


@dataclass(slots=True)
class StepState:
    """Where one step stands."""

    step: Step
    index: int
    last: bool
    """no later step can be reached"""
    allowed: int
    """attempts that may still count here"""
    since: float
    tried: set[Deployment]
    again: Deployment | None = None
    """the candidate to ask once more: on a fresh connection, or with another account"""
    fresh: bool = False
    """`again` is for a stale connection"""
    passed_over: set[Deployment] = field(default_factory=set)
    """candidates somebody objected to: they are not asked, not even when no one else is left"""
    without: set[Pair] = field(default_factory=set)
    """accounts that were refused or objected to"""
    denied: Denied | None = None
    """the last limit that stood against a candidate"""
    booting: bool = False
    """left because its machine is being switched on, and others may answer meanwhile"""


class Walk:
    """One walk. `deliver` hands an answer to the caller; it raises AttemptFailed when a stream breaks."""

    def __init__(
        self,
        gateway: Gateway,
        exchange: Stoppable,
        errand: Errand,
        deliver: Callable[[Whole | Flow | Through], Awaitable[None]],
    ) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._errand = errand
        self._deliver = deliver
        self._moved_off_dying = False
        self._stalled: AttemptFailed | None = None
        self.attempts: list[Attempt] = []
        self.dispatched = 0
        self.first_content: float | None = None
        """seconds since the exchange began"""
        self.deployment: Deployment | None = None
        self.last_failure: AttemptFailed | None = None
        self.nobody: list[NoCandidate] = []
        """steps in which there was no candidate"""
        self.denied: Denied | None = None
        """the limit that stood against the last candidate; None: something else failed after it"""
        self.lease: Lease | None = None
        """of the last attempt"""
        self.step: Step | None = None
        self._wish: Wish | None = None
        self._booting: list[int] = []
        """steps that were passed by because their machines are being switched on"""
        self.last = False
        """whatever comes of the attempt under way, there is no other"""
        self._tries = 0
        self._asked: Ask | None = None
        self._resume = errand.resume
        self._steps: tuple[Step, ...] = ()
        self._most = 0

    def broken(self, failure: AttemptFailed) -> None:
        """The running attempt is about to be cancelled for a fault of its upstream."""
        self._stalled = failure

    @property
    def ticket(self) -> Ticket | None:
        """While it waits for a load or a machine: what can be told about that."""
        return self._wish.ticket if self._wish is not None else None

    @property
    def changes(self) -> tuple[Change, ...]:
        """What the deployment that was asked last did not take as it was written."""
        told = self._asked.changes if self._asked is not None else ()
        return tuple(one for one in told if not one.silent)

    async def run(self, route: Route) -> Whole | Flow | Through | None:
        """Walk until something is delivered. None: nothing answered; `last_failure` says why.

        A step whose machine is being switched on is passed by while later ones may answer; where none
        does, it is waited for after all. A failure that ends an exchange ends it then too.
        """
        self._steps, self._most = route.steps, route.most_attempts
        index = leads_to(route.steps, -1, None)
        while index is not None:
            state = self._begin(route, index)
            got, failure = await self._take(state)
            if got is not None:
                return got
            if self.last or self.dispatched >= route.most_attempts:
                break
            follows = leads_to(route.steps, index, failure)
            if state.booting:
                self._booting.append(index)
            elif follows is None and _ends_it(failure):
                return None
            index = follows
        return await self._wait_for_machines(route)

    async def _wait_for_machines(self, route: Route) -> Whole | Flow | Through | None:
        """Nobody answered meanwhile: wait for those that are being switched on, the first of them first."""
        while self._booting and not self.last:
            state = self._begin(route, self._booting.pop(0))
            self.nobody = [one for one in self.nobody if not isinstance(one, Elsewhere)]
            self.denied = None  # it stood against those who would have answered meanwhile
            state.last = True
            got, failure = await self._take(state)
            if got is not None or _ends_it(failure):
                return got
        return None

    def _begin(self, route: Route, index: int) -> StepState:
        later = leads_to(route.steps, index, None) is not None
        reserved = steps_after(route.steps, index) + len(self._booting)
        left = route.most_attempts - self.dispatched - reserved
        self.step = step = route.steps[index]
        return StepState(step, index, not later, max(1, min(step.tries, left)), self._gateway.clock(), set())

    async def _take(self, state: StepState) -> tuple[Whole | Flow | Through | None, FailureClass | None]:
        """One step: the answer, or the class that leads on. The retry budget is for tries inside a step:
        steps are written, and each is reached."""
        while True:
            try:
                lease = self.lease = await self._seat(state)
            except Elsewhere as nothing:
                state.booting = True
                self.nobody.append(nothing)
                return None, self.last_failure.failure if self.last_failure else None
            except NoCandidate as nothing:
                return None, self._nobody_left(nothing, state)
            except (RoomFull, WaitOver) as waited:
                return None, self._waited(waited)
            except Drained:
                raise verdicts.draining() from None
            # Stage 7 stands here: who objects to the candidate or its account calls `_passed_over`, gives
            # the lease back and goes round again. No attempt was made then.
            hold = await self._hold(lease, state)
            if hold is None:
                continue
            got = await self._try(lease, state, hold)
            if got is None and self._resume is not None and self._resume.hopping:
                got = await self._go_on(self._resume, lease)
            if got is not None:
                return got, None
            failure = self.last_failure
            assert failure is not None
            if not self._goes_on(failure, lease, state):
                return None, failure.failure
            # Whoever only says no, or is out from now on, multiplies no load.
            if failure.failure in COUNTED and not await self._afford(lease.deployment):
                return None, failure.failure

    def _nobody_left(self, nothing: NoCandidate, state: StepState) -> FailureClass | None:
        """What leads on. A budget that refuses ends the walk: it is not for later steps to answer instead."""
        denied = state.denied
        if denied is None:
            self.nobody.append(nothing)
            return self.last_failure.failure if self.last_failure else None
        if denied.stops and not self._booting:
            raise refusal(denied)
        return FailureClass.QUOTA_EXHAUSTED

    async def _go_on(self, resume: Resume, broken: Lease) -> Flow:
        """Have somebody else go on with an answer that broke off. Raises Refused where nobody can."""
        why = self.last_failure
        assert why is not None
        passed_over = {one for step in self._steps for one in step.candidates if not resume.may_follow(one)}
        passed_over.add(broken.deployment)
        for index, step in enumerate(self._steps):
            since = self._gateway.clock()
            state = StepState(step, index, last=False, allowed=1, since=since, tried=passed_over)
            while self.dispatched < self._most:
                try:
                    lease = self.lease = await self._seat_to_go_on(state)
                except (Elsewhere, NoCandidate, RoomFull, WaitOver, Drained):
                    break
                hold = await self._hold(lease, state)
                if hold is None:
                    passed_over |= state.passed_over | {lease.deployment}
                    continue
                got = await self._try(lease, state, hold)
                if got is not None:
                    assert isinstance(got, Flow)
                    return got
                failure = self.last_failure
                assert failure is not None
                if verdicts.counts(failure):
                    self.dispatched += 1
                    raise verdicts.broken(why) from None
                passed_over.add(lease.deployment)
        raise verdicts.broken(why) from None

    async def _seat_to_go_on(self, state: StepState) -> Lease:
        """The caller hears nothing meanwhile, so it is no longer waited for than inside an answer."""
        limits = self._gateway.settings.gateway
        wish = Wish(
            state.step,
            self._errand.task,
            frozenset(state.tried),
            last=False,
            objection=self._errand.objection,
        )
        return await self._wait_for(wish, min(limits.wait, limits.between_tokens))

    async def _hold(self, lease: Lease, state: StepState) -> Hold | None:
        """Stage 7: hold what the attempt may cost. None: a limit stands against this candidate."""
        deployment, account = lease.deployment, lease.account
        number, self._tries = self._tries, self._tries + 1
        try:
            return await self._errand.purse.hold(deployment, account, number, self._errand.body)
        except Denied as denied:
            lease.give_back()
            state.denied = self.denied = denied
            self._passed_over(state, deployment, account if denied.of_account else None)
            return None
        except BaseException:
            lease.give_back()
            raise

    def _goes_on(self, failure: AttemptFailed, lease: Lease, state: StepState) -> bool:
        """Whether this step tries once more, and whom it leaves out."""
        deployment = lease.deployment
        counted = verdicts.counts(failure)
        state.allowed -= counted
        self.dispatched += counted
        stale_before = state.fresh and state.again is deployment
        follow = retry.decide(failure.failure, stale_before=stale_before, attempts_left=state.allowed)
        state.fresh = follow is Verdict.AGAIN
        state.again = deployment if state.fresh else None
        if follow is Verdict.NEXT:
            self._move_on(failure, lease, state)
        return follow is not Verdict.STOP and state.allowed > 0 and not self.last

    def _move_on(self, failure: AttemptFailed, lease: Lease, state: StepState) -> None:
        """Another account of the same deployment first, where an account was to blame; else the next."""
        deployment = lease.deployment
        if verdicts.of_account(failure):
            state.without.add((deployment, lease.account))
            if accounts.usable(deployment, self._gateway.clock(), state.without):
                state.again = deployment
                return
        state.tried.add(deployment)

    def _passed_over(self, state: StepState, deployment: Deployment, account: Account | None) -> None:
        """Leave a candidate out of this step, or one account of it: somebody objects. No attempt was made."""
        if account is not None:
            state.without.add((deployment, account))
            if accounts.usable(deployment, self._gateway.clock(), state.without):
                return
        state.passed_over.add(deployment)
        if state.again is deployment:
            state.again, state.fresh = None, False

    async def _afford(self, deployment: Deployment) -> bool:
        """Ask the retry budget, and pause. The one move off a machine that just died needs neither."""
        now = self._gateway.clock()
        dying = not (deployment.breaker.allows(now) and deployment.engine.breaker.allows(now))
        if dying and not self._moved_off_dying:
            self._moved_off_dying = True
            return True
        if not self._gateway.may_retry(self._exchange):
            return False
        await asyncio.sleep(retry.back_off(len(self.attempts) - 1, self._gateway.random))
        return True

    def _waited(self, why: RoomFull | WaitOver) -> FailureClass:
        text = "too many requests wait for it" if isinstance(why, RoomFull) else "no seat came free in time"
        if self.last_failure is None:
            self.last_failure = AttemptFailed(FailureClass.FULL, text, retry_after=round(why.seconds))
        return FailureClass.FULL

    async def _seat(self, state: StepState) -> Lease:
        """A lease on somebody not tried yet; on somebody tried when no one else is left.

        Whoever is to be asked again comes first, if it still can be had.
        """
        gateway, step = self._gateway, state.step
        limit = gateway.settings.gateway.wait
        if not state.last and step.first_token is not None:
            limit = min(limit, step.first_token)
        exclude = frozenset(state.tried | state.passed_over)
        wish = Wish(
            step,
            self._errand.task,
            exclude,
            state.last,
            verdicts.more_context(self.last_failure, self.deployment),
            gateway.clock() - state.since,
            self._errand.objection,
            frozenset(state.without),
        )
        if state.again is not None:
            others = frozenset(one for one in step.candidates if one is not state.again)
            with suppress(NoCandidate):
                return await self._wait_for(replace(wish, exclude=others, last=False), limit)
        try:
            return await self._wait_for(wish, limit)
        except NoCandidate:
            if not state.tried or not verdicts.may_repeat(self.last_failure):
                raise
            return await self._wait_for(replace(wish, exclude=frozenset(state.passed_over)), limit)

    async def _wait_for(self, wish: Wish, limit: float) -> Lease:
        self._wish = wish
        try:
            return await self._gateway.fleet.seat(wish, limit)
        finally:
            self._wish = None

    async def _try(self, lease: Lease, state: StepState, hold: Hold) -> Whole | Flow | Through | None:
        """One attempt with all it owes: the lease back, the fleet told, the attempt settled and recorded."""
        gateway = self._gateway
        self.deployment = lease.deployment
        began = gateway.clock()
        failure: AttemptFailed | None = None
        first: float | None = None
        got: Whole | Flow | Through | None = None
        self._stalled = self.denied = None
        outcome = "cancelled"
        try:
            got = await self._attempt(lease, state, hold.cap)
            first = gateway.clock() - began
            self.dispatched += 1
            if self.first_content is None:
                self.first_content = gateway.clock() - self._errand.began
            if not isinstance(got, Whole):
                await self._deliver(got)
            outcome = "ok"
            return got
        except AttemptFailed as error:
            error.text = gateway.scrub(error.text)  # upstreams repeat the key that they were given
            failure = self.last_failure = error
            outcome = error.failure.value
            if error.failure is FailureClass.STREAM_BROKEN:  # the caller has seen content: no way back
                if self._resume is None or not self._resume.possible or self.last:
                    raise verdicts.broken(error) from None
                self._resume.begin_hop(lease.deployment)
            return None
        finally:
            failure = failure or self._stalled
            outcome = failure.failure.value if failure is not None else outcome
            tried = Tried(began, outcome, failure, first, got)
            tell(gateway, self._errand, lease, tried)
            if self._asked is not None and self._asked.changes:
                gateway.fleet.applied(lease.deployment, self._asked.changes)
            self.attempts.append(settled(gateway, self._errand, lease, hold, tried, step=state.index))
            lease.release(orphaned=outcome in LEFT_AT_WORK)

    async def _attempt(self, lease: Lease, state: StepState, cap: int | None) -> Whole | Flow | Through:
        gateway = self._gateway
        ask = self._asked = self._ask(lease, state)
        gateway.fleet.asked(lease.deployment)
        ask.cap = cap
        ask.resume = self._resume
        got = await attempt(ask, gateway.transport_for(lease.deployment), gateway.wall)
        if isinstance(got, Flow) and not self._errand.body.wanted.stream:
            between = gateway.settings.gateway.between_tokens
            return await assemble(got, chat=self._errand.task.capability is Capability.CHAT, between=between)
        return got

    def _ask(self, lease: Lease, state: StepState) -> Ask:
        """How this candidate is asked: streamed or not, and how long it may take."""
        errand, step = self._errand, state.step
        gateway, deployment, account = self._gateway, lease.deployment, lease.account
        wanted = errand.body.wanted
        limit, streamed = step.first_token, wanted.stream
        if limit is not None and lease.waited_for_load:  # the load is part of what the step allows for
            limit = max(min(limit, WARM_FLOOR), limit - lease.waited_for_load)
        if errand.task.capability not in IN_TOKENS:
            limit, streamed = step.answer, False
        elif not wanted.stream:
            streamed = step.first_token is not None and not wanted.whole_only
            limit = limit if streamed else step.answer
        elif limit is None:
            alternatives = not state.last or len(step.candidates) > 1
            limit = deployment.first_content.limit(
                errand.body.size,
                resident=deployment.resident,
                alternatives=alternatives,
                predicted=lease.forecast.prefill + lease.forecast.wait,
            )
        if limit is not None and self._resume is not None and self._resume.hopping:
            limit = max(limit, gateway.settings.gateway.between_tokens)  # as inside an answer
        return Ask(
            errand.task.capability,
            deployment,
            account,
            errand.body,
            errand.headers,
            streamed,
            limit,
            fresh=state.fresh and state.again is deployment,
            heard=partial(gateway.fleet.heard, deployment, account) if deployment.engine.meters else None,
        )


def _ends_it(failure: FailureClass | None) -> bool:
    """Whether nobody else is to be asked after it."""
    return failure is not None and TABLE[failure].verdict is Verdict.STOP
