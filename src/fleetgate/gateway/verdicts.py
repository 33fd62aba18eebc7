"""What callers are told when there is no answer, and small questions about failures. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetgate.errors import TABLE, AttemptFailed, Blame, FailureClass, Refused, Source
from fleetgate.routing import accounts
from fleetgate.routing.availability import Reason, detail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetgate.fleet.seats import NoCandidate
    from fleetgate.live import Deployment
    from fleetgate.routing.plan import Route

TERMINAL_AFTER: Final = 120.0
"""Seconds. A longer wait is not worth a retry: clients of the OpenAI kind give up there too."""
RETRY_AFTER: Final = 5.0
"""Seconds, where nothing better is known."""

_TURNED_AWAY: Final = frozenset({FailureClass.LOADING, FailureClass.FULL, FailureClass.STALE_CONNECTION})


WARNING: Final = b"x-fleetgate-warning"
"""header that tells of a model that its provider retires"""


def warning(deployment: Deployment, now: float) -> list[tuple[bytes, bytes]]:
    """What callers have to know about who answered; `now` is Unix time."""
    retires = deployment.retires
    if retires is None or not retires.near(now):
        return []
    return [(WARNING, f"{deployment.id}: {retires.text(now)}".encode("ascii", "replace"))]


def counts(failure: AttemptFailed) -> bool:
    """Whether it used up one of the dispatched attempts: it may have been worked on."""
    return failure.row.dispatched and failure.failure not in _TURNED_AWAY


def may_repeat(failure: AttemptFailed | None) -> bool:
    """Whether asking the same candidate again can help: not after a refusal to connect, nor a time-out, nor
    where it cannot be asked such a thing."""
    if failure is None or failure.failure in (FailureClass.FIRST_TOKEN_TIMEOUT, FailureClass.ABSENT_FEATURE):
        return False
    return counts(failure)


def of_account(failure: AttemptFailed) -> bool:
    """Whether another account of the same deployment may do better."""
    return failure.row.blame in (Blame.ACCOUNT, Blame.ACCOUNT_MODEL)


def more_context(
    failure: AttemptFailed | None, failed: Deployment | None
) -> Callable[[Deployment], bool] | None:
    """After `context_too_long` only candidates with more context, or another model of unknown context."""
    if failure is None or failed is None or failure.failure is not FailureClass.CONTEXT_TOO_LONG:
        return None
    known = failed.context

    def larger(candidate: Deployment) -> bool:
        if candidate.context is None or known is None:
            return candidate.model.name != failed.model.name
        return candidate.context > known

    return larger


def unknown_model(name: str, near: Sequence[str]) -> Refused:
    did_you_mean = f"Did you mean {', '.join(near)}? " if near else ""
    return Refused(
        404,
        "model_not_found",
        f"nothing here is called {name[:200]!r}",
        advice=f"{did_you_mean}GET /v1/models lists the names.",
        param="model",
    )


def not_allowed(name: str) -> Refused:
    return Refused(
        403,
        "model_not_allowed",
        f"the key may not use {name[:200]!r}",
        advice="GET /v1/models lists what it may use.",
        param="model",
    )


def draining() -> Refused:
    return Refused(
        503,
        "draining",
        "the gateway is stopping",
        source=Source.GATEWAY,
        retry_after=RETRY_AFTER,
        advice="Ask again in a moment.",
    )


def deadline() -> Refused:
    row = TABLE[FailureClass.DEADLINE]
    return Refused(
        504,
        FailureClass.DEADLINE.value,
        "the request's time is up",
        advice=row.to_caller,
        failure=FailureClass.DEADLINE,
        terminal=True,
    )


def broken(failure: AttemptFailed) -> Refused:
    return _bad_answer(failure, "broke off")


def unsayable(failure: AttemptFailed) -> Refused:
    """An answer that came and cannot be said in the caller's dialect."""
    return _bad_answer(failure, "cannot be told")


def _bad_answer(failure: AttemptFailed, what: str) -> Refused:
    return Refused(
        502,
        failure.failure.value,
        f"the answer {what}: {failure.text}",
        source=Source.UPSTREAM,
        advice=failure.row.to_caller,
        failure=failure.failure,
    )


def _not_known(_candidate: Deployment) -> float:
    return 0.0


def refusal(
    failure: AttemptFailed | None,
    nobody: Sequence[NoCandidate],
    route: Route,
    now: float,
    quota_frees_in: Callable[[Deployment], float] = _not_known,
) -> Refused:
    """The error of an exchange that ran out of candidates.

    `quota_frees_in`: seconds until a candidate whose quotas are used up may be asked again.
    """
    if failure is None:
        return _nothing_available(nobody, route, now, quota_frees_in)
    row = failure.row
    status = row.status
    if status is None or (failure.failure is FailureClass.MODEL_MISSING and failure.status == 400):
        status = _as_given(failure)
    retry_after = None
    if row.retry_after:
        retry_after = failure.retry_after if failure.retry_after is not None else RETRY_AFTER
    text = f": {failure.text}" if failure.text else ""
    return Refused(
        status,
        failure.failure.value,
        f"{route.name!r} could not be answered ({failure.failure.value}){text}",
        advice=row.to_caller,
        failure=failure.failure,
        retry_after=retry_after,
        terminal=row.terminal,
        source=Source.CALLER if row.blame is Blame.NONE and status < 500 else Source.UPSTREAM,
    )


def _as_given(failure: AttemptFailed) -> int:
    """The upstream's own status. A fault of the caller that it says with 500 (llama.cpp) becomes 400.

    Clients ask again after a 500, and this one would never heal.
    """
    status = failure.status
    if status is None or status < 400:
        return 502
    return 400 if status == 500 and failure.row.blame is Blame.NONE else status


def _nothing_available(
    nobody: Sequence[NoCandidate], route: Route, now: float, quota_frees_in: Callable[[Deployment], float]
) -> Refused:
    """No attempt was possible: say why, candidate by candidate."""
    refused = [
        (one, reason)
        for nothing in nobody
        for one, reason in nothing.found.refused
        if reason is not Reason.NOT_ALLOWED  # for this key they are not there
    ]
    if not refused and any(nothing.found.refused for nothing in nobody):
        return not_allowed(route.name)
    reasons = {reason for _, reason in refused}
    words = "; ".join(f"{one.id}: {detail(one, reason, now)}" for one, reason in refused[:5])
    if not refused:
        return Refused(
            503,
            "nothing_available",
            f"{route.name!r} stands for no model that is known here",
            failure=FailureClass.NOTHING_AVAILABLE,
            source=Source.GATEWAY,
            retry_after=30.0,
            terminal=True,
            advice="See `fleetgate models` and `fleetgate check`.",
        )
    if reasons == {Reason.NOT_CAPABLE}:
        return Refused(
            400,
            "not_capable",
            f"{route.name!r} cannot do this kind of work",
            param="model",
            advice="Ask another model, or let its entry say `does`; "
            "`fleetgate explain NAME --capability WORK` shows who can do what.",
        )
    if Reason.TOO_LONG in reasons and reasons <= {Reason.TOO_LONG, Reason.NOT_CAPABLE}:
        most = max(one.context or 0 for one, reason in refused if reason is Reason.TOO_LONG)
        row = TABLE[FailureClass.CONTEXT_TOO_LONG]
        return Refused(
            400,
            FailureClass.CONTEXT_TOO_LONG.value,
            f"the prompt is longer than what fits into {route.name!r}: {most} tokens at most",
            failure=FailureClass.CONTEXT_TOO_LONG,
            advice=row.to_caller,
        )
    asleep = reasons == {Reason.ASLEEP}
    failure = FailureClass.NOTHING_AVAILABLE
    if reasons <= {Reason.LIMITED, Reason.QUOTA}:
        failure = FailureClass.RATE_LIMITED if Reason.LIMITED in reasons else FailureClass.QUOTA_EXHAUSTED
    waits = [
        max(one.breaker.opens_again_in(now), one.engine.breaker.opens_again_in(now)) for one, _ in refused
    ]
    waits += [quota_frees_in(one) for one, reason in refused if reason is Reason.QUOTA]
    retry_after = _retry_after(refused, waits, now)
    nothing = failure is FailureClass.NOTHING_AVAILABLE
    return Refused(
        503 if nothing else 429,
        "node_asleep" if asleep else failure.value,
        f"{route.name!r} cannot be answered now: {words}",
        failure=failure,
        source=Source.GATEWAY,
        retry_after=retry_after,
        terminal=nothing or (failure is FailureClass.QUOTA_EXHAUSTED and retry_after > TERMINAL_AFTER),
        advice="Switch the machine on." if asleep else "See why with `fleetgate explain`.",
    )


def _retry_after(refused: Sequence[tuple[Deployment, Reason]], waits: Sequence[float], now: float) -> float:
    """The earliest moment at which trying again can help."""
    times = [wait for wait in waits if wait > 0]
    for one, reason in refused:
        if reason is Reason.LIMITED and (wait := accounts.frees_in(one, now)) is not None:
            times.append(wait)
    return max(1.0, min(times)) if times else 30.0
