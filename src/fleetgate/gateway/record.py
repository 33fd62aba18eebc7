"""What the record says of an exchange, beside what the exchange itself counts. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fleetgate.domain import Attempt

if TYPE_CHECKING:
    from fleetgate.budgets.holds import Hold
    from fleetgate.domain import Entry
    from fleetgate.gateway.body import Body
    from fleetgate.gateway.walk import Walk

INTERRUPTED: Final = "interrupted"
"""the outcome of an exchange whose gateway died"""


def interrupted(entry: Entry, hold: Hold, now: float) -> Entry:
    """What the ledger says should this process die during the attempt. `now`: seconds of the exchange."""
    attempt = Attempt(
        hold.deployment.id,
        INTERRUPTED,
        now,
        now,
        number=hold.number,
        account=hold.account.id if hold.account is not None else None,
        cost=hold.expected,
        estimated=True,
        price=hold.price.text,
    )
    attempts = (*entry.attempts, attempt)
    return replace(entry, outcome=INTERRUPTED, deployment=hold.deployment.id, attempts=attempts)


def noted(note: str, body: Body | None, walk: Walk | None) -> str:
    """With what was fetched, and what the deployment did not take as it was written."""
    if body is not None and body.replaced is not None and body.replaced.note:
        note = f"{note}; {body.replaced.note}" if note else body.replaced.note
    if walk is None or not walk.changes:
        return note
    told = f"for {walk.deployment.id if walk.deployment else '?'}: " + ", ".join(
        one.text for one in walk.changes
    )
    return f"{note}; {told}" if note else told
