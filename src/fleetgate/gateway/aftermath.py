"""What follows an attempt, however it went: the fleet is told, it is settled, and it has its line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetgate.domain import Attempt, Usage
from fleetgate.errors import TABLE, AttemptFailed, FailureClass
from fleetgate.estimate import estimate_answer
from fleetgate.forecast.task import Answered
from fleetgate.gateway.attempt import Flow, Whole

if TYPE_CHECKING:
    from fleetgate.budgets.holds import Hold
    from fleetgate.fleet.lease import Lease
    from fleetgate.gateway.errand import Errand
    from fleetgate.gateway.gateway import Gateway
    from fleetgate.gateway.through import Through

LEFT_AT_WORK: Final = frozenset({"cancelled", FailureClass.FIRST_TOKEN_TIMEOUT.value})
"""Outcomes after which an engine may go on computing for nobody."""


@dataclass(frozen=True, slots=True)
class Tried:
    """How an attempt went."""

    began: float
    outcome: str
    failure: AttemptFailed | None
    first: float | None
    """seconds to its first content"""
    got: Whole | Flow | Through | None


def tell(gateway: Gateway, errand: Errand, lease: Lease, tried: Tried) -> None:
    """Tell the fleet. A slow first content of a model not in memory is a load, nobody's fault."""
    fleet, deployment, failure = gateway.fleet, lease.deployment, tried.failure
    if failure is None and tried.outcome == "ok":
        _teach(gateway, errand, lease, tried)
        return
    if failure is None or (
        failure.failure is FailureClass.FIRST_TOKEN_TIMEOUT and deployment.resident is False
    ):
        fleet.untold(deployment)
    else:
        fleet.failed(deployment, failure, lease.account)
    if tried.first is None and tried.outcome in LEFT_AT_WORK:
        fleet.left(deployment)


def settled(
    gateway: Gateway, errand: Errand, lease: Lease, hold: Hold, tried: Tried, *, step: int
) -> Attempt:
    """Settle the attempt: its line. `step`: the place of its step in the plan."""
    deployment, account = lease.deployment, lease.account
    failure, got = tried.failure, tried.got
    if failure is None and tried.outcome != "ok":
        failure = AttemptFailed(FailureClass.CALLER_GONE)
    usage = _usage(errand, got)
    seen = got.reader.frames if isinstance(got, Flow) else 0
    if isinstance(got, Whole) and usage.output_tokens is None:
        seen = estimate_answer(got.body)
    charge = errand.purse.ended(hold, failure, usage, begun=got is not None, seen=seen)
    now = gateway.clock()
    took = now - tried.began
    energy, energy_cost = gateway.draw.of(deployment, took, gateway.wall() - took)
    told = tried.failure
    return Attempt(
        deployment.id,
        tried.outcome,
        tried.began - errand.began,
        now - errand.began,
        step,
        told is None or TABLE[told.failure].dispatched,
        told.status if told else None,
        tried.first,
        told.text if told else "",
        number=hold.number,
        account=account.id if account.headers or not deployment.engine.node.local else None,
        usage=charge.usage,
        cost=charge.cost,
        estimated=charge.estimated,
        price=charge.price,
        energy=energy,
        energy_cost=energy_cost,
        predicted=lease.forecast.total,
    )


def _teach(gateway: Gateway, errand: Errand, lease: Lease, tried: Tried) -> None:
    """What a good answer taught about its deployment."""
    got = tried.got
    assert got is not None
    gateway.fleet.succeeded(
        lease.deployment,
        errand.task,
        Answered(
            _usage(errand, got),
            tried.first if errand.body.wanted.stream else None,
            gateway.clock() - tried.began,
            lease.busy,
            lease.cold,
            got.timings,
            lease.forecast.hit,
        ),
        errand.body.size,
    )


def _usage(errand: Errand, got: Whole | Flow | Through | None) -> Usage:
    """What one attempt used. The frames of a second part tell the usage of both."""
    if isinstance(got, Flow):
        own = errand.resume.usage if errand.resume is not None else None
        return own or got.reader.usage
    return got.usage if got is not None else Usage()
