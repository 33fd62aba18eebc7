"""The Ollama façade: clients that know nothing else can use every model. What manages models is refused."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from fleetgate import __version__
from fleetgate.dialects.ollama.answer import date
from fleetgate.dialects.ollama.catalogue import Listed, Resident, ps, show, tags, version
from fleetgate.dialects.ollama.dialect import dialects
from fleetgate.dialects.ollama.names import untagged
from fleetgate.dialects.ollama.verbs import VERBS, refusal
from fleetgate.domain import Capability
from fleetgate.http.forms import json_object
from fleetgate.http.inference import STORE_DOWN, infer
from fleetgate.http.table import Access, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleetgate.gateway.gateway import Gateway
    from fleetgate.http.call import Call
    from fleetgate.live import Deployment
    from fleetgate.routing.plan import Route

SMALL = 64 * 1024
"""Bytes of a body that only names a model."""
_WORK = (
    ("/api/chat", Capability.CHAT, "Ollama's chat, whole or in lines."),
    ("/api/generate", Capability.CHAT, "Ollama's answer to a prompt."),
    ("/api/embed", Capability.EMBED, "Ollama's embeddings."),
    ("/api/embeddings", Capability.EMBED, "The older form of one embedding."),
)


def rows(wall: Callable[[], float]) -> Iterator[Row]:
    spoken = dialects(wall)
    for path, capability, doc in _WORK:
        yield Row("POST", path, Access.CALLER, infer, doc, capability, spoken[path], store=STORE_DOWN)
    dialect = spoken["/api/chat"]
    reading = (
        ("GET", "/api/tags", listed, "The names that can be asked for, as Ollama lists models."),
        ("GET", "/api/ps", resident, "The names whose models are in memory somewhere."),
        ("POST", "/api/show", shown, "One of the names, with what is known about it."),
        ("GET", "/api/version", told, "The version of Ollama whose dialect is spoken."),
    )
    for method, path, answer, doc in reading:
        yield Row(method, path, Access.CALLER, answer, doc, dialect=dialect)
    for method, path, verb in VERBS:
        if method == "HEAD":
            continue  # asks before it writes: 405 tells enough
        doc = f"Refused: models are not managed through this dialect (`{verb}`)."
        yield Row(method, path, Access.CALLER, partial(refuse, verb), doc, dialect=dialect, refuses=(403,))


async def listed(call: Call) -> None:
    gateway = call.gateway
    routes = gateway.routes_listed(call.principal)
    await call.json(tags([_listed(route) for route in routes], gateway.instance))


async def resident(call: Call) -> None:
    """The names that `listed` gives, as far as somebody who may answer under them has its model in memory."""
    gateway = call.gateway
    found = []
    for route in gateway.routes_listed(call.principal):
        objection = gateway.permissions.objection(call.principal, route)
        candidates = (one for step in route.steps for one in step.candidates)
        there = (one for one in candidates if one.resident and (objection is None or objection(one) is None))
        first = next(there, None)
        if first is not None:
            found.append(_resident(route.name, first, gateway))
    await call.json(ps(found, gateway.instance))


async def shown(call: Call) -> None:
    body = await json_object(call, SMALL)
    name = untagged(str(body.get("model") or body.get("name") or ""))
    await call.json(show(_listed(call.gateway.route_of(name, call.principal))))


async def told(call: Call) -> None:
    await call.json(version(__version__))


async def refuse(verb: str, _call: Call) -> None:
    raise refusal(verb)


def _listed(route: Route) -> Listed:
    """A name, with what is known of the first model that it stands for."""
    first = next((one for step in route.steps for one in step.candidates), None)
    return Listed(route.name) if first is None else _facts(route.name, first)


def _facts(name: str, one: Deployment) -> Listed:
    model = one.model
    return Listed(
        name,
        size=model.size,
        digest=model.digest,
        family=model.family,
        params=model.params,
        quantisation=model.quantisation,
        does=model.does,
        context_length=one.context,
        dimensions=model.dimensions,
    )


def _resident(name: str, one: Deployment, gateway: Gateway) -> Resident:
    vram = leaves = None
    if one.footprint is not None and one.vram_fraction is not None:
        vram = round(one.footprint * one.vram_fraction)
    if one.expires is not None and math.isfinite(one.expires):
        leaves = date(gateway.wall() + one.expires - gateway.clock())
    return Resident(
        _facts(name, one), size=one.footprint, size_vram=vram, expires_at=leaves, context_length=one.context
    )
