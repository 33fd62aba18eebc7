"""What the headers of an answer tell: who answered, by which plan, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetgate.dialects.left_out import header as as_header
from fleetgate.engines.rules import Deed
from fleetgate.gateway import verdicts
from fleetgate.gateway.speech import Untouched
from fleetgate.routing.plan import plan_in_short

if TYPE_CHECKING:
    from fleetgate.gateway.body import Body
    from fleetgate.gateway.downstream import Headers
    from fleetgate.gateway.gateway import Gateway
    from fleetgate.gateway.purse import Purse
    from fleetgate.gateway.recall import Recall
    from fleetgate.gateway.speech import Speech
    from fleetgate.gateway.walk import Walk

PLAN: Final = b"x-fleetgate-plan"
"""header with what was predicted of the deployment that answers, and by which policy it was chosen"""
LEFT_OUT: Final = b"x-fleetgate-left-out"
"""header that names what had no place in the translated request, or was not taken by who answers"""


@dataclass(slots=True)
class About:
    """What an exchange knows when its answer begins. Made for every answer, so it is not frozen: that takes
    three times as long."""

    request_id: str
    speech: Speech
    body: Body | None
    walk: Walk | None
    recall: Recall | None
    purse: Purse


def headers_of(gateway: Gateway, about: About) -> Headers:
    """True for answers that begin before the first keep-alive; `pending` after it."""
    deployment = attempts = b"pending"
    plan: Headers = []
    left_out = [*about.speech.left_out]
    walk = about.walk
    if walk is not None and walk.first_content is not None and walk.deployment is not None:
        attempts = b"%d" % walk.dispatched
        deployment = walk.deployment.id.encode("ascii", "replace")
        if walk.lease is not None and walk.step is not None:
            plan = [(PLAN, plan_in_short(walk.step, walk.lease.forecast) + _lane(about))]
        plan += verdicts.warning(walk.deployment, gateway.wall())
        left_out += [one.member for one in walk.changes if one.deed is not Deed.RENAME]
    if left_out:
        plan.append((LEFT_OUT, as_header(left_out)))
    recalled = about.recall
    if recalled is not None and recalled.found is not None:
        attempts, deployment = b"0", recalled.found.deployment.encode("ascii", "replace")
    headers = [
        *gateway.answer_headers(about.request_id),
        (b"x-fleetgate-deployment", deployment),
        (b"x-fleetgate-attempts", attempts),
        *about.purse.headers(),
        *plan,
    ]
    return headers if recalled is None else [*headers, *recalled.headers()]


def _lane(about: About) -> bytes:
    """Which way the words took, where that is no matter of course."""
    if about.body is None or about.body.original is None:
        return b""
    return b", lane=passed" if isinstance(about.speech, Untouched) else b", lane=translated"
