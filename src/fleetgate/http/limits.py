"""The part of the admin API about limits: those in effect, how far each is used, and making more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.http import answers, forms
from fleetgate.http.currency import currency_of
from fleetgate.http.keys import actor
from fleetgate.http.table import Access, Row
from fleetgate.keys.changes import moment
from fleetgate.limits import Measure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from fleetgate.budgets.rules import Rules
    from fleetgate.http.call import Call
    from fleetgate.limits import Limit

    Status = Callable[[], Awaitable[list[dict[str, Any]]]]

AT: Final = "/admin/api/limits"
MOST_COUNTERS: Final = 100
"""Of a limit that counts everybody apart, the fullest are shown."""


def rows(rules: Rules, status: Status) -> Iterator[Row]:
    """`status` gives how far limits are used: `id`, `counter`, `used`, `held`, `frees_in_s`, `refusals`."""

    async def listed(call: Call) -> None:
        await call.json(_document(call, _listed(rules, await status(), call.gateway.wall())))

    async def create(call: Call) -> None:
        form = await forms.filled(call, forms.CreateLimit)
        ids = await rules.create(actor(call), form.document())
        listed = _listed(rules, await status(), call.gateway.wall())
        created = [row for row in listed if row["id"] in ids]
        await call.json(_document(call, created), 201)

    async def remove(call: Call) -> None:
        await rules.remove(actor(call), call.argument)
        await call.json({"removed": call.argument})

    yield Row(
        "GET",
        AT,
        Access.VIEWER,
        listed,
        "Limits, quotas and budgets, and how far each is used.",
        query=(),
        gives=answers.Limits,
    )
    yield Row(
        "POST",
        AT,
        Access.ADMIN,
        create,
        "New limits: an entry as in the file; each of its measures becomes one.",
        store="503",
        audited=True,
        query=(),
        request=forms.CreateLimit,
        gives=answers.Limits,
        status=201,
        refuses=(409,),
    )
    yield Row(
        "DELETE",
        f"{AT}/{{id}}",
        Access.ADMIN,
        remove,
        "Remove a limit that was made over the API.",
        store="503",
        audited=True,
        query=(),
        gives=answers.Removed,
        refuses=(409,),
    )


def _document(call: Call, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"rows": rows, "currency": currency_of(call.gateway.settings.currency)}


def _listed(rules: Rules, levels: Iterable[Mapping[str, Any]], wall: float) -> list[dict[str, Any]]:
    settings = rules.settings()
    counters: dict[str, list[dict[str, Any]]] = {}
    for level in levels:
        counters.setdefault(level["id"], []).append(_counter(level, wall))
    created = rules.created_at()
    in_effect = [_view(limit, created, counters.get(limit.id, [])) for limit in rules.limits(settings)]
    return [*in_effect, *(_view(one, created, [], overridden=True) for one in rules.overridden(settings))]


def _view(
    limit: Limit,
    created: Mapping[str, str | None],
    counters: list[dict[str, Any]],
    *,
    overridden: bool = False,
) -> dict[str, Any]:
    """A limit as people see it. Money is in nano-dollars."""
    shown = sorted(counters, key=lambda one: (-one["used"] - one["held"], one["counter"]))
    return {
        "id": limit.id,
        "name": limit.name,
        "words": limit.words,
        "scope": dict(limit.scope.parts),
        "measure": limit.measure.value,
        "unit": "nano_usd" if limit.measure is Measure.MONEY else limit.measure.value,
        "ceiling": limit.ceiling,
        "then": limit.then.value,
        "origin": limit.origin,
        "overridden": overridden,
        "created_at": created.get(limit.id) if limit.origin == "database" else None,
        "counters": shown[:MOST_COUNTERS],
        "counters_left_out": max(0, len(shown) - MOST_COUNTERS),
    }


def _counter(level: Mapping[str, Any], wall: float) -> dict[str, Any]:
    """One of whom a limit counts for; `of` is nobody where it counts everybody together."""
    frees_in = level["frees_in_s"]
    return {
        "counter": level["counter"],
        "of": level["counter"].partition("@")[2] or None,
        "used": level["used"],
        "held": level["held"],
        "frees_in_s": frees_in,
        "frees_at": moment(round((wall + frees_in) * 1e3)) if frees_in is not None else None,
        "refusals": level["refusals"],
    }
