"""The part of the admin API about providers: their accounts, prices and quotas, as they are now.

No key is shown, nor a part of one. Times are the time of day, though the gateway counts by a clock that
nobody puts right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetgate.http import answers
from fleetgate.http.table import Access, Row
from fleetgate.keys.changes import moment
from fleetgate.limits import QUOTA
from fleetgate.routing.accounts import Standing, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleetgate.budgets.owner import Budgets
    from fleetgate.http.call import Call
    from fleetgate.live import Account, Deployment, Engine

    Quotas = Callable[[str], list[dict[str, Any]]]


def rows(quotas: Quotas) -> Iterator[Row]:
    """`quotas` tells how far a provider's quotas are used, by its name."""

    async def listed(call: Call) -> None:
        gateway = call.gateway
        clock, wall = gateway.clock(), gateway.wall()
        engines = [one for one in gateway.fleet.engines.values() if not one.node.local]
        found = [provider_row(one, quotas(one.id), clock, wall) for one in engines]
        await call.json({"rows": found})

    yield Row(
        "GET",
        "/admin/api/providers",
        Access.VIEWER,
        listed,
        "Providers: which account is out until when and why, prices, and quotas.",
        query=(),
        gives=answers.Providers,
    )


def provider_row(engine: Engine, quotas: list[dict[str, Any]], now: float, wall: float) -> dict[str, Any]:
    """A provider as people see it. Unknown stays null."""
    return {
        "provider": engine.id,
        "address": engine.target.authority,
        "configured": engine.configured,
        "alive": engine.alive,
        "why": engine.why,
        "accounts": [_account(one, now, wall) for one in engine.accounts],
        "models": [_model(one) for one in engine.deployments.values()],
        "quotas": quotas,
    }


def _account(account: Account, now: float, wall: float) -> dict[str, Any]:
    out = [
        {
            "model": model,
            "state": standing(account, model, now).value,
            "why": failure,
            **_end(end, now, wall),
        }
        for model, (end, failure) in sorted(account.models_out.items())
        if end > now
    ]
    benched = account.benched_until > now
    state = Standing.BENCHED if benched else Standing.LIMITED if out else Standing.FREE
    if not account.configured:
        state = Standing.UNCONFIGURED
    return {
        "account": account.id,
        "state": state.value,
        "why": account.why if benched else "",
        **_end(account.benched_until if benched else None, now, wall),
        "models_out": out,
        "in_flight": account.in_flight,
        "remembered": account.remembered and bool(benched or out),
    }


def _end(end: float | None, now: float, wall: float) -> dict[str, Any]:
    if end is None:
        return {"until": None, "seconds": None}
    return {"until": moment(round((wall + end - now) * 1e3)), "seconds": round(end - now, 3)}


def _model(one: Deployment) -> dict[str, Any]:
    price = one.price
    return {
        "deployment": one.id,
        "model": one.model.name,
        "price": None if price is None else price.text or "free",
        "price_known": price is not None and not price.only_ceiling,
    }


def quotas_of(budgets: Budgets) -> Quotas:
    """How far the quotas in the file are used, as this gateway knows it."""

    def told(provider: str) -> list[dict[str, Any]]:
        own = {
            limit.id: limit
            for limit in budgets.limits
            if limit.origin == QUOTA and ("provider", provider) in limit.scope.parts
        }
        return [_quota(own[level["id"]].words, level) for level in budgets.levels() if level["id"] in own]

    return told


def _quota(words: str, level: dict[str, Any]) -> dict[str, Any]:
    shown = ("id", "counter", "used", "held", "ceiling", "frees_in_s")
    return {"words": words, "of": level["counter"].partition("@")[2] or None} | {
        name: level[name] for name in shown
    }
