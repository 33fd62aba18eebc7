"""What an exchange wants brought: the order that a walk carries from candidate to candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.forecast.task import Task
    from fleetgate.gateway.body import Body
    from fleetgate.gateway.purse import Purse
    from fleetgate.gateway.resume import Resume
    from fleetgate.live import Deployment
    from fleetgate.routing.availability import Reason


@dataclass(slots=True)
class Errand:
    """What is to be brought, and for whom."""

    task: Task
    body: Body
    headers: tuple[tuple[str, str], ...]
    began: float
    """clock at the begin of the exchange"""
    purse: Purse
    """its money and limits"""
    objection: Callable[[Deployment], Reason | None] | None = None
    """what the caller's key has against a candidate"""
    resume: Resume | None = None
    """set where somebody else may go on with an answer that breaks off"""
