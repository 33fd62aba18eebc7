"""The part of the admin API about providers: their accounts, prices and quotas, as they are now.

No key is shown, nor a part of one. Times are the time of day, though the gateway counts by a clock that
nobody puts right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetgate.http import answers
from fleetgate.http.table import Access, Row
from fleetgate.keys.changes import moment
from fleetgate.limits import QUOTA, Measure
from fleetgate.routing.accounts import Standing, standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fleetgate.budgets.owner import Budgets
    from fleetgate.http.call import Call
    from fleetgate.http.limits import Status
    from fleetgate.limits import Limit
    from fleetgate.live import Account, Deployment, Engine


def rows(budgets: Budgets, status: Status) -> Iterator[Row]:
    """`status` tells how far limits are used."""

    async def listed(call: Call) -> None:
        gateway = call.gateway
        clock, wall = gateway.clock(), gateway.wall()
        engines = [one for one in gateway.fleet.engines.values() if not one.node.local]
        levels = await status()
        found = [provider_row(one, quotas_of(budgets, one.id, levels), clock, wall) for one in engines]
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
        "accounts": [_account(one, quotas, now, wall) for one in engine.accounts],
        "models": [_model(one, wall) for one in engine.deployments.values()],
        "rules": [
            {"member": member, "deed": deed, "count": count}
            for (member, deed), count in sorted(engine.applied.items())
        ],
        "quotas": quotas,
    }


def _account(account: Account, quotas: list[dict[str, Any]], now: float, wall: float) -> dict[str, Any]:
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
    used_up = _used_up(account, quotas) if state is Standing.FREE else None
    if used_up is not None:
        frees_in = used_up["frees_in_s"]
        end = _end(now + frees_in if frees_in is not None else None, now, wall)
        state, why = Standing.EXHAUSTED, used_up["words"]
        return _standing(account, state, why, end, out)
    why = account.why if benched else ""
    return _standing(account, state, why, _end(account.benched_until if benched else None, now, wall), out)


def _used_up(account: Account, quotas: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A quota of this account, or of its provider as a whole, with nothing left."""
    for quota in quotas:
        if quota["of"] in (account.id, None) and quota["used"] + quota["held"] >= quota["ceiling"]:
            return quota
    return None


def _standing(
    account: Account, state: Standing, why: str, end: dict[str, Any], out: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "account": account.id,
        "state": state.value,
        "why": why,
        **end,
        "models_out": out,
        "in_flight": account.in_flight,
        "remembered": account.remembered and state is not Standing.EXHAUSTED and bool(why or out),
    }


def _end(end: float | None, now: float, wall: float) -> dict[str, Any]:
    if end is None:
        return {"until": None, "seconds": None}
    return {"until": moment(round((wall + end - now) * 1e3)), "seconds": round(end - now, 3)}


def _model(one: Deployment, wall: float) -> dict[str, Any]:
    price, retires = one.price, one.retires
    return {
        "deployment": one.id,
        "model": one.model.name,
        "price": None if price is None else price.text or "free",
        "price_known": price is not None and not price.only_ceiling,
        "removed": one.removed,
        "retires": None if retires is None else retires.day,
        "retired": retires is not None and retires.at <= wall,
        "successor": None if retires is None else retires.successor or None,
    }


def quotas_of(budgets: Budgets, provider: str, levels: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How far the quotas of a provider are used."""
    own = {
        limit.id: limit
        for limit in budgets.limits
        if limit.origin == QUOTA and ("provider", provider) in limit.scope.parts
    }
    return [_quota(own[level["id"]], level) for level in levels if level["id"] in own]


def _quota(limit: Limit, level: Mapping[str, Any]) -> dict[str, Any]:
    shown = ("id", "counter", "used", "held", "ceiling", "frees_in_s")
    return {
        "words": limit.words,
        "unit": "nano_usd" if limit.measure is Measure.MONEY else limit.measure.value,
        "of": level["counter"].partition("@")[2] or None,
    } | {name: level[name] for name in shown}
