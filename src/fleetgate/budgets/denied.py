"""What stands against a request, and what its caller may be told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetgate.budgets.gate import NEVER
from fleetgate.limits import Measure, Then

if TYPE_CHECKING:
    from fleetgate.budgets.gate import Gate, Short
    from fleetgate.limits import Limit

Room = tuple[int, int, float]
"""ceiling, left, seconds until it is whole again"""


class Denied(Exception):
    """A limit stands against it. `wait`: seconds, `NEVER` where no waiting helps."""

    def __init__(
        self,
        code: str,
        text: str,
        *,
        limit: Limit | None = None,
        wait: float = NEVER,
        of_account: bool = False,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.limit = limit
        self.wait = wait
        self.of_account = of_account
        """another account of the same deployment may do"""
        self.room: list[Room | None] = []
        """what the caller has left, as `Budgets.room_of` says it, where its own limits stand against it"""

    @property
    def stops(self) -> bool:
        """A budget of the caller's, or of all, that refuses: no later step takes its place.

        One of a candidate stands against that candidate alone.
        """
        limit = self.limit
        return (
            limit is not None
            and limit.measure is Measure.MONEY
            and limit.then is Then.REFUSE
            and limit.scope.caller_only
        )


def denial(gate: Gate, short: Short) -> Denied:
    """Why a limit stands against it, in words."""
    limit = gate.limit
    if short.unavailable:
        return Denied(
            "ledger_unavailable", "the database does not answer, so nothing may cost money", wait=short.wait
        )
    quota = limit.origin == "quota"
    larger = short.wait == NEVER and limit.ceiling and limit.measure is not Measure.PARALLEL
    why = "this request may take more than the whole limit" if larger else "the limit is reached"
    return Denied(
        "quota_exhausted" if quota else "limit_reached",
        f"{why}: {limit.title}",
        limit=limit,
        wait=short.wait,
        of_account=any(kind == "account" for kind, _ in limit.scope.parts),
    )
