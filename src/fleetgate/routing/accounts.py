"""Which account of an engine or provider may take a request, and what stands against the others. Pure.

Accounts share what their provider is asked: the one with the fewest requests in flight comes first,
then the one whose last turn is longest ago. Whoever met a limit a moment ago waits behind the rest.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from fleetgate.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Collection

    from fleetgate.live import Account, Deployment, Engine

LIMITED_LATELY: Final = 60.0
"""Seconds for which others are preferred to an account that met a limit."""

Pair = tuple["Deployment", "Account"]


class Standing(StrEnum):
    """What stands against an account."""

    FREE = "free"
    LIMITED = "limited"
    """the provider's rate, for this model"""
    EXHAUSTED = "exhausted"
    """the provider's quota, for this model"""
    FORBIDDEN = "forbidden"
    """it may not use this model"""
    BENCHED = "benched"
    """its key is refused"""
    UNCONFIGURED = "unconfigured"


_BY_FAILURE: Final = {
    FailureClass.QUOTA_EXHAUSTED.value: Standing.EXHAUSTED,
    FailureClass.KEY_FORBIDDEN.value: Standing.FORBIDDEN,
}


def standing(account: Account, model_id: str, now: float) -> Standing:
    """How an account stands for one model."""
    if not account.configured:
        return Standing.UNCONFIGURED
    if account.benched_until > now:
        return Standing.BENCHED
    out = account.models_out.get(model_id)
    if out is None or out[0] <= now:
        return Standing.FREE
    return _BY_FAILURE.get(out[1], Standing.LIMITED)


def until(account: Account, model_id: str, now: float) -> float | None:
    """When it is free again, by the monotonic clock; None: it is, or nobody knows."""
    if not account.configured:
        return None
    out = account.models_out.get(model_id)
    last = max(account.benched_until, out[0] if out is not None else 0.0)
    return last if last > now else None


def usable(candidate: Deployment, now: float, without: Collection[Pair] = ()) -> list[Account]:
    """The accounts that may take a request for `candidate`, the best first."""
    model_id = candidate.model.id
    free = [
        one
        for one in candidate.engine.accounts
        if standing(one, model_id, now) is Standing.FREE and (candidate, one) not in without
    ]
    if len(free) > 1:
        free.sort(key=lambda one: (now - one.limited_at < LIMITED_LATELY, one.in_flight, one.used))
    return free


def take(candidate: Deployment, now: float, without: Collection[Pair] = ()) -> Account:
    """The account for a candidate that is taken. A candidate that is forced gets the first that is left."""
    accounts = candidate.engine.accounts
    if len(accounts) == 1:
        return accounts[0]
    best = usable(candidate, now, without)
    return best[0] if best else next((one for one in accounts if one.configured), accounts[0])


def for_probe(engine: Engine, now: float) -> Account:
    """Whose key a probe shows: the first that is not refused, else the first there is."""
    accounts = engine.accounts
    if len(accounts) == 1:
        return accounts[0]
    keys = [one for one in accounts if one.configured]
    return next((one for one in keys if one.benched_until <= now), keys[0] if keys else accounts[0])


def worst(candidate: Deployment, now: float, without: Collection[Pair] = ()) -> Standing:
    """FREE where some account may be used, else what is nearest to its end among what stands against them."""
    model_id = candidate.model.id
    found = Standing.UNCONFIGURED
    for account in candidate.engine.accounts:
        now_is = standing(account, model_id, now)
        if now_is is Standing.FREE:
            if not without or (candidate, account) not in without:
                return Standing.FREE
            now_is = Standing.LIMITED  # somebody of ours objects to it: a limit or a price
        if _NEARNESS[now_is] < _NEARNESS[found]:
            found = now_is
    return found


_NEARNESS: Final = {one: place for place, one in enumerate(Standing)}


def frees_in(candidate: Deployment, now: float) -> float | None:
    """Seconds until the first account that is out is back; None: nobody knows."""
    model_id = candidate.model.id
    ends = [end for one in candidate.engine.accounts if (end := until(one, model_id, now)) is not None]
    return min(ends) - now if ends else None


def told(candidate: Deployment, now: float) -> str:
    """What stands against which account and for how long, in words; empty where nothing does."""
    model_id = candidate.model.id
    accounts = candidate.engine.accounts
    words = []
    for account in accounts:
        now_is = standing(account, model_id, now)
        if now_is is Standing.FREE:
            continue
        text = _why(account, model_id, now_is)
        end = until(account, model_id, now)
        if end is not None:
            text = f"{text}, for another {span(end - now)}"
        words.append(f"{account.id}: {text}" if len(accounts) > 1 or account.headers else text)
    return "; ".join(words)


def _why(account: Account, model_id: str, now_is: Standing) -> str:
    if now_is is Standing.UNCONFIGURED:
        return "no key"
    if now_is is Standing.BENCHED:
        return account.why or "refused"
    return account.models_out[model_id][1]


def span(seconds: float) -> str:
    """A time that is left, in the unit that fits."""
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    if seconds < 7200:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
