"""Explaining: who would answer a request and why, without sending it.

What is asked about is a name alone, or a whole body or prompt, which changes what is predicted: its
length, what it needs, and who still holds its beginning. Nothing of a body is kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.budgets.holds import Caller
from fleetgate.domain import PICTURES, Capability
from fleetgate.errors import Refused
from fleetgate.forecast.task import bits, plain
from fleetgate.gateway import body as bodies
from fleetgate.gateway import media, verdicts
from fleetgate.gateway.attempt import changes
from fleetgate.gateway.purse import either
from fleetgate.gateway.replaced import takes_data_only
from fleetgate.gateway.spool import BodyBudget
from fleetgate.gateway.tasks import task_of
from fleetgate.http import forms, plan_answers
from fleetgate.http.inference import capability_named
from fleetgate.http.parameters import Parameter
from fleetgate.http.table import Access, Row
from fleetgate.keys.owner import ANYBODY
from fleetgate.routing.availability import can
from fleetgate.routing.plan import explain as explain_route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from fleetgate.domain import Principal
    from fleetgate.forecast.task import Task
    from fleetgate.gateway.replaced import Replaced
    from fleetgate.http.call import Call
    from fleetgate.live import Deployment
    from fleetgate.routing.plan import Route

AT: Final = "/admin/api/explain"
DOES: Final = "does"
PARAMETERS: Final = (
    Parameter("model", "the name that would be asked for", required=True),
    Parameter(
        "capability", "what would be asked of it; if not said, what its models can do, chat first", Capability
    ),
    Parameter("key", "id or alias of the key that would ask"),
    Parameter("max_tokens", "bound of the answer", forms.Number),
    Parameter(DOES, "what else it has to be able to do, with commas between, such as `vision,tools`"),
)


class Explain(forms.Form):
    """A request to be explained: by its body, by a prompt alone, or by neither."""

    model: forms.Text
    capability: Capability | None = None
    """default: what the body looks like, else what the models can do, chat first"""
    body: dict[str, Any] | None = None
    """as it would be sent; its `model` does not count"""
    prompt: str | None = None
    key: forms.Text | None = None
    """id or alias of the key that would ask"""
    max_tokens: forms.Number | None = None
    does: tuple[Capability, ...] = ()
    """what else it has to be able to do"""


def rows(principal_of: Callable[[str], Awaitable[Principal]]) -> Iterator[Row]:
    """`principal_of` tells whom a key stands for, by its id or alias."""

    async def of_name(call: Call) -> None:
        query = call.query()
        if not query.get("model"):
            raise Refused(400, "malformed", "which model?", advice="Add `?model=NAME`.", param="model")
        await _answer(call, _asked(query))

    async def of_body(call: Call) -> None:
        form = await forms.filled(call, Explain, call.gateway.settings.gateway.body_limit)
        if not form.model:
            raise Refused(400, "malformed", "which model?", advice="Set `model`.", param="model")
        await _answer(call, form)

    async def _answer(call: Call, asked: Explain) -> None:
        principal = await principal_of(asked.key) if asked.key else None
        await call.json(_plan(call, asked, principal))

    yield Row(
        "GET",
        AT,
        Access.VIEWER,
        of_name,
        "The plan for `?model=` and `?capability=`; `?key=` as a key may use it.",
        query=PARAMETERS,
        gives=plan_answers.Plan,
        refuses=(404,),
    )
    yield Row(
        "POST",
        AT,
        Access.VIEWER,
        of_body,
        "The same for a whole `body` or a `prompt`. Nothing is sent, and nothing of it is kept.",
        query=(),
        request=Explain,
        gives=plan_answers.Plan,
        refuses=(404,),
    )


def _asked(query: Mapping[str, str]) -> Explain:
    """The question of a query."""
    longest = query.get("max_tokens")
    if longest is not None and not (longest.isascii() and longest.isdecimal() and len(longest) < 18):
        raise Refused(400, "malformed", f"`max_tokens` is no number: {longest[:50]!r}", param="max_tokens")
    if longest is not None and not int(longest):
        raise Refused(400, "malformed", "`max_tokens` must be at least 1", param="max_tokens")
    does = [name.strip() for name in query.get(DOES, "").split(",") if name.strip()]
    return Explain(
        model=query["model"],
        capability=capability_named(query.get("capability", "")),
        key=query.get("key") or None,
        max_tokens=int(longest) if longest is not None else None,
        does=tuple(capability_named(name) for name in does),
    )


def _plan(call: Call, asked: Explain, principal: Principal | None) -> dict[str, Any]:
    gateway, name = call.gateway, asked.model
    route = gateway.names.resolve(name)
    if route is None:
        raise verdicts.unknown_model(name, gateway.names.near(name))
    objection = gateway.budgets.objection
    if principal is not None:
        if not gateway.permissions.may_ask(principal, route):
            raise verdicts.not_allowed(name)
        objection = either(gateway.permissions.objection(principal, route), objection)
    task = task_for(asked, route, principal.id if principal is not None else "")
    body = body_of(asked)
    replaced = media.foreseen(gateway, body) if body is not None else None
    if replaced is not None:
        objection = either(objection, replaced.objection)
    seats, now = gateway.fleet.seats, gateway.clock()
    plan = explain_route(
        route, task, now, gateway.instance, objection, lambda step: seats.question(step, task, now)
    )
    caller = Caller(principal or ANYBODY, route.role)
    add_changes(plan, body, replaced, task.capability, gateway.fleet.deployments)
    if body is not None:
        body.close()
    return {**plan, "asks": asks(task), "limits": list(gateway.budgets.standing(caller))}


def body_of(asked: Explain) -> bodies.Body | None:
    """The body that is asked about, to be closed; None: there is none."""
    if asked.body is None:
        return None
    return bodies.parse(msgspec.json.encode({**asked.body, "model": asked.model}), BodyBudget())


def add_changes(
    plan: Mapping[str, Any],
    body: bodies.Body | None,
    replaced: Replaced | None,
    capability: Capability,
    known: Mapping[str, Deployment],
) -> None:
    """What each candidate would not take of the body as it is written."""
    for row in (row for step in plan["steps"] for row in step["candidates"]):
        candidate = known.get(row["deployment"])
        row["changes"] = changes(capability, candidate, body) if body is not None and candidate else []
        if replaced is not None and candidate is not None and takes_data_only(candidate):
            refused = replaced.refused
            row["changes"].append(f"refused: {refused.message}" if refused is not None else replaced.note)


def task_for(asked: Explain, route: Route, principal: str = "") -> Task:
    """What it asks. Raises Refused: a body that a request could not have either."""
    if asked.body is not None and asked.prompt is not None:
        raise Refused(400, "malformed", "there is a `body` and a `prompt`: one is enough", param="prompt")
    capability = asked.capability or (_usual(route) if asked.body is None else _likely(asked.body))
    task = plain(capability, principal)
    members = asked.body if asked.body is not None else _members(asked.prompt, capability)
    if members is not None:
        raw = msgspec.json.encode({**members, "model": asked.model})
        body = bodies.parse(raw, BodyBudget())
        try:
            task = task_of(body, capability, principal, "", beginning=True)
        finally:
            body.close()
    longest = asked.max_tokens if asked.max_tokens is not None else task.longest
    return replace(task, needs=task.needs | bits(asked.does), longest=longest)


def asks(task: Task) -> dict[str, Any]:
    """What was understood."""
    return {
        "needs": [one.value for one in Capability if bits((one,)) & task.needs],
        "prompt_tokens": task.prompt,
        "max_tokens": task.longest,
        "answers": task.choices,
        "units": task.units,
    }


def _usual(route: Route) -> Capability:
    """What is asked of its models: what they can where none of them can chat."""
    candidates = [one for step in route.steps for one in step.candidates]
    for capability in Capability:  # chats come first
        if any(can(one, plain(capability)) for one in candidates):
            return capability
    return Capability.CHAT


def _likely(body: Mapping[str, Any]) -> Capability:
    """The kind of work that a body looks like."""
    if "messages" in body:
        return Capability.CHAT
    if "documents" in body:
        return Capability.RERANK
    if "input" in body:
        return Capability.SPEAK if "voice" in body else Capability.EMBED
    return Capability.COMPLETE if "prompt" in body else Capability.CHAT


def _members(prompt: str | None, capability: Capability) -> dict[str, Any] | None:
    """A body that asks this prompt."""
    if prompt is None:
        return None
    if capability is Capability.COMPLETE:
        return {"prompt": prompt}
    if capability in (Capability.EMBED, Capability.SPEAK, Capability.MODERATE):
        return {"input": prompt}
    if capability in PICTURES:
        return {"prompt": prompt}
    return {"messages": [{"role": "user", "content": prompt}]}
