"""The part of the admin API about money as a whole: budgets, the switch `paid off`, the full check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetgate.http import answers, forms
from fleetgate.http.keys import actor
from fleetgate.http.table import Access, Row
from fleetgate.keys.changes import moment, unavailable
from fleetgate.limits import Measure
from fleetgate.store.failures import StoreError
from fleetgate.store.retention import full_check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.budgets.owner import Budgets
    from fleetgate.budgets.switch import Switch
    from fleetgate.http.call import Call
    from fleetgate.store.database import Store


def rows(budgets: Budgets, switch: Switch, store: Store) -> Iterator[Row]:
    async def show(call: Call) -> None:
        await call.json({"paid_off": _paused(budgets), "rows": list(_budgets(budgets))})

    async def pause(call: Call) -> None:
        form = await forms.filled(call, forms.PauseBudget)
        await switch.pause(actor(call), form.why)
        await call.json({"paid_off": _paused(budgets)})

    async def resume(call: Call) -> None:
        await switch.resume(actor(call))
        await call.json({"paid_off": None})

    async def check(call: Call) -> None:
        try:
            findings = await full_check(store)
        except StoreError as error:
            raise unavailable(error) from error
        await call.json({"ok": not findings, "findings": findings})

    at = "/admin/api/budget"
    yield Row(
        "GET",
        at,
        Access.VIEWER,
        show,
        "Budgets, and whether paid models are switched off.",
        query=(),
        gives=answers.Budgets,
    )
    yield Row(
        "POST",
        f"{at}/pause",
        Access.ADMIN,
        pause,
        "Switch everything off that costs money.",
        store="503",
        audited=True,
        query=(),
        request=forms.PauseBudget,
        gives=answers.Switched,
    )
    yield Row(
        "POST",
        f"{at}/resume",
        Access.ADMIN,
        resume,
        "Switch paid models on again.",
        store="503",
        audited=True,
        query=(),
        gives=answers.Switched,
    )
    yield Row(
        "GET",
        f"{at}/check",
        Access.VIEWER,
        check,
        "Compare every counter and every sum with what they were made of.",
        store="503",
        query=(),
        gives=answers.Check,
    )


def _paused(budgets: Budgets) -> dict[str, Any] | None:
    paused = budgets.paused
    if paused is None:
        return None
    return {"since": moment(round(paused.since * 1e3)), "who": paused.who, "why": paused.why}


def _budgets(budgets: Budgets) -> Iterator[dict[str, Any]]:
    money = {limit.id: limit for limit in budgets.limits if limit.measure is Measure.MONEY}
    for level in budgets.levels():
        limit = money.get(level["id"])
        if limit is not None:
            yield {
                "id": limit.id,
                "name": limit.name,
                "scope": limit.scope.text,
                "counter": level["counter"],
                "spent_nano_usd": level["used"],
                "held_nano_usd": level["held"],
                "ceiling_nano_usd": limit.ceiling,
                "frees_in_s": level["frees_in_s"],
                "then": limit.then.value,
                "origin": limit.origin,
            }
