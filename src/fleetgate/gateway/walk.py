"""Stages 5 to 8: walk the steps of a route until a candidate answers.

A candidate is chosen late, when its seat is free. What follows a failure is decided by `retry`; this
module keeps the count. Attempts that were proven unsent, and those an engine turned away because it
was loading or full, do not count; the time they wait does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from fleetgate import retry
from fleetgate.domain import Attempt, Capability
from fleetgate.errors import COUNTED, TABLE, AttemptFailed, FailureClass, Verdict
from fleetgate.fleet.seats import Drained, Lease, NoCandidate, RoomFull, WaitOver, Wish
from fleetgate.gateway import verdicts
from fleetgate.gateway.attempt import Ask, Flow, Whole, assemble, attempt
from fleetgate.routing.plan import Route, Step, leads_to, steps_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetgate.gateway.body import Body
    from fleetgate.gateway.gateway import Gateway, Stoppable
    from fleetgate.live import Deployment
    from fleetgate.routing.availability import Reason


@dataclass(slots=True)
class Errand:
    """What is to be brought, and for whom."""

    capability: Capability
    principal: str
    body: Body
    headers: tuple[tuple[str, str], ...]
    began: float
    """clock at the begin of the exchange"""
    objection: Callable[[Deployment], Reason | None] | None = None
    """what the caller's key has against a candidate"""


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
    """the candidate to ask once more on a fresh connection"""


_LEFT_AT_WORK: Final = frozenset({"cancelled", FailureClass.FIRST_TOKEN_TIMEOUT.value})
"""Outcomes after which an engine may go on computing for nobody."""


class Walk:
    """One walk. `deliver` hands an answer to the caller; it raises AttemptFailed when a stream breaks."""

    def __init__(
        self,
        gateway: Gateway,
        exchange: Stoppable,
        errand: Errand,
        deliver: Callable[[Whole | Flow], Awaitable[None]],
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

    def broken(self, failure: AttemptFailed) -> None:
        """The running attempt is about to be cancelled for a fault of its upstream."""
        self._stalled = failure

    async def run(self, route: Route) -> Whole | Flow | None:
        """Walk until something is delivered. None: nothing answered; `last_failure` says why."""
        index = leads_to(route.steps, -1, None)
        while index is not None:
            later = leads_to(route.steps, index, None) is not None
            left = route.most_attempts - self.dispatched - steps_after(route.steps, index)
            step = route.steps[index]
            state = StepState(
                step, index, not later, max(1, min(step.tries, left)), self._gateway.clock(), set()
            )
            got, failure = await self._take(state)
            if got is not None:
                return got
            if self.dispatched >= route.most_attempts:
                return None
            index = leads_to(route.steps, index, failure)
        return None

    async def _take(self, state: StepState) -> tuple[Whole | Flow | None, FailureClass | None]:
        """One step: the answer, or the class that leads on. The retry budget is for tries inside a step:
        steps are written, and each is reached."""
        while True:
            try:
                lease = await self._seat(state)
            except NoCandidate as nothing:
                self.nobody.append(nothing)
                return None, self.last_failure.failure if self.last_failure else None
            except (RoomFull, WaitOver) as waited:
                return None, self._waited(waited)
            except Drained:
                raise verdicts.draining() from None
            got = await self._try(lease, state)
            if got is not None:
                return got, None
            failure = self.last_failure
            assert failure is not None
            if not self._goes_on(failure, lease.deployment, state):
                return None, failure.failure
            # Whoever only says no, or is out from now on, multiplies no load.
            if failure.failure in COUNTED and not await self._afford(lease.deployment):
                return None, failure.failure

    def _goes_on(self, failure: AttemptFailed, deployment: Deployment, state: StepState) -> bool:
        """Whether this step tries once more, and whom it leaves out."""
        counted = verdicts.counts(failure)
        state.allowed -= counted
        self.dispatched += counted
        follow = retry.decide(
            failure.failure, stale_before=state.again is deployment, attempts_left=state.allowed
        )
        state.again = deployment if follow is Verdict.AGAIN else None
        if follow is Verdict.NEXT:
            state.tried.add(deployment)
        return follow is not Verdict.STOP and state.allowed > 0

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
            self.last_failure = AttemptFailed(FailureClass.FULL, text, retry_after=2.0)
        return FailureClass.FULL

    async def _seat(self, state: StepState) -> Lease:
        """A lease on somebody not tried yet; on somebody tried when no one else is left."""
        gateway, step = self._gateway, state.step
        limit = gateway.settings.gateway.wait
        if not state.last and step.first_token is not None:
            limit = min(limit, step.first_token)
        exclude = frozenset(state.tried)
        if state.again is not None:
            exclude = frozenset(one for one in step.candidates if one is not state.again)
        wish = Wish(
            step,
            self._errand.capability,
            self._errand.principal,
            exclude,
            state.last,
            verdicts.more_context(self.last_failure, self.deployment),
            gateway.clock() - state.since,
            self._errand.objection,
        )
        try:
            return await gateway.fleet.seat(wish, limit)
        except NoCandidate:
            if not exclude or not verdicts.may_repeat(self.last_failure):
                raise
            return await gateway.fleet.seat(
                replace(wish, exclude=frozenset()),
                limit,
            )

    async def _try(self, lease: Lease, state: StepState) -> Whole | Flow | None:
        """One attempt with all it owes: the lease back, the fleet told, the attempt recorded."""
        gateway, deployment = self._gateway, lease.deployment
        self.deployment = deployment
        began = gateway.clock()
        failure: AttemptFailed | None = None
        first: float | None = None
        self._stalled = None
        outcome = "cancelled"
        try:
            got = await self._attempt(deployment, state)
            first = gateway.clock() - began
            self.dispatched += 1
            self.first_content = gateway.clock() - self._errand.began
            if isinstance(got, Flow):
                await self._deliver(got)
            outcome = "ok"
            return got
        except AttemptFailed as error:
            error.text = gateway.scrub(error.text)  # upstreams repeat the key that they were given
            failure = self.last_failure = error
            outcome = error.failure.value
            if error.failure is FailureClass.STREAM_BROKEN:  # the caller has seen content: no way back
                raise verdicts.broken(error) from None
            return None
        finally:
            failure = failure or self._stalled
            outcome = failure.failure.value if failure is not None else outcome
            self._account(deployment, failure, first, told=outcome)
            lease.release(orphaned=outcome in _LEFT_AT_WORK)
            self.attempts.append(
                Attempt(
                    deployment.id,
                    outcome,
                    began - self._errand.began,
                    gateway.clock() - self._errand.began,
                    state.index,
                    failure is None or TABLE[failure.failure].dispatched,
                    failure.status if failure else None,
                    first,
                    failure.text if failure else "",
                )
            )

    async def _attempt(self, deployment: Deployment, state: StepState) -> Whole | Flow:
        gateway = self._gateway
        ask = self._ask(deployment, state)
        got = await attempt(ask, gateway.transport_for(deployment), gateway.wall)
        if isinstance(got, Flow) and not self._errand.body.wanted.stream:
            between = gateway.settings.gateway.between_tokens
            return await assemble(got, chat=self._errand.capability is Capability.CHAT, between=between)
        return got

    def _account(
        self, deployment: Deployment, failure: AttemptFailed | None, first: float | None, *, told: str
    ) -> None:
        """Tell the fleet. A slow first content of a model not in memory is a load, nobody's fault."""
        fleet = self._gateway.fleet
        if failure is None and told == "ok":
            stream = self._errand.body.wanted.stream
            fleet.succeeded(deployment, first if stream else None, self._errand.body.size)
        elif failure is None or (
            failure.failure is FailureClass.FIRST_TOKEN_TIMEOUT and deployment.resident is False
        ):
            fleet.untold(deployment)
        else:
            fleet.failed(deployment, failure)

    def _ask(self, deployment: Deployment, state: StepState) -> Ask:
        """How this candidate is asked: streamed or not, and how long it may take."""
        errand, step = self._errand, state.step
        wanted = errand.body.wanted
        limit, streamed = step.first_token, wanted.stream
        if errand.capability is Capability.EMBED:
            limit, streamed = step.answer, False
        elif not wanted.stream:
            streamed = step.first_token is not None and not wanted.whole_only
            limit = step.first_token if streamed else step.answer
        elif limit is None:
            alternatives = not state.last or len(step.candidates) > 1
            limit = deployment.first_content.limit(
                errand.body.size, resident=deployment.resident, alternatives=alternatives
            )
        return Ask(
            errand.capability,
            deployment,
            errand.body,
            errand.headers,
            streamed,
            limit,
            fresh=state.again is deployment,
            outlive=self._gateway.keeper_of_load(deployment),
        )
