"""Requests that only want a model in memory: nobody is asked anything, the load is waited for.

The model is there where whoever asked now would be answered without a load. What began to load is ended by
nobody's departure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.fleet.rooms import Wish
from fleetgate.fleet.seats import Drained, NoCandidate, RoomFull, WaitOver
from fleetgate.gateway import verdicts

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.fleet.wants import Ticket
    from fleetgate.forecast.task import Task
    from fleetgate.gateway.gateway import Gateway
    from fleetgate.live import Deployment
    from fleetgate.routing.availability import Reason
    from fleetgate.routing.plan import Route, Step


class Preparation:
    """One of them."""

    __slots__ = ("_gateway", "_objection", "_task", "_wish")

    def __init__(
        self, gateway: Gateway, task: Task, objection: Callable[[Deployment], Reason | None] | None
    ) -> None:
        self._gateway = gateway
        self._task = task
        self._objection = objection
        self._wish: Wish | None = None

    @property
    def ticket(self) -> Ticket | None:
        """While it waits: what can be told about that."""
        return self._wish.ticket if self._wish is not None else None

    async def run(self, route: Route) -> None:
        """Return when the model is in memory, of the first step that can have it. Raises Refused."""
        nobody: list[NoCandidate] = []
        for at, step in enumerate(route.steps):
            if any(self._is_there(one) for one in step.candidates):
                return
            try:
                await self._wait(step, last=at == len(route.steps) - 1, route=route)
            except NoCandidate as nothing:
                nobody.append(nothing)
            else:
                return
        raise verdicts.refusal(None, nobody, route, self._gateway.clock())

    def _is_there(self, one: Deployment) -> bool:
        objection = self._objection
        return one.resident is True and (objection is None or objection(one) is None)

    async def _wait(self, step: Step, *, last: bool, route: Route) -> None:
        """A seat comes when the load is over; it is given back unused."""
        gateway = self._gateway
        wish = self._wish = Wish(step, self._task, last=last, objection=self._objection)
        try:
            lease = await gateway.fleet.seat(wish, gateway.settings.gateway.wait)
        except (RoomFull, WaitOver) as over:
            failed = AttemptFailed(FailureClass.LOADING, "it is not in memory yet", retry_after=over.seconds)
            raise verdicts.refusal(failed, (), route, gateway.clock()) from None
        except Drained:
            raise verdicts.draining() from None
        finally:
            self._wish = None
        one = lease.deployment
        lease.give_back()
        if one.resident is False and one.loadable:  # the last hope of others: it could not be loaded
            failed = AttemptFailed(FailureClass.SERVER_ERROR, one.why or "it could not be loaded")
            raise verdicts.refusal(failed, (), route, gateway.clock())
