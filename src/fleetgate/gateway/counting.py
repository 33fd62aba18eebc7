"""How many tokens a request of Anthropic's dialect has, by whoever would answer it and can count.

A counter is asked once, for a short time, and only where the model is in memory: counting loads nothing,
takes no seat and costs nothing. Who cannot, or does not answer, leaves it to the estimate.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects.anthropic.native import NATIVE
from fleetgate.domain import Capability
from fleetgate.errors import AttemptFailed
from fleetgate.forecast.task import plain
from fleetgate.gateway import media
from fleetgate.gateway.lane import headers_of
from fleetgate.gateway.native import Original
from fleetgate.routing import accounts
from fleetgate.routing.plan import sort
from fleetgate.upstream.port import UpstreamRequest, read_all

if TYPE_CHECKING:
    from fleetgate.domain import Principal
    from fleetgate.gateway.gateway import Gateway, Head
    from fleetgate.live import Deployment
    from fleetgate.routing.plan import Route

PATH: Final = "/count_tokens"
"""below that of messages"""
PATIENCE: Final = 3.0
"""Seconds that a counter may take."""
_LARGEST: Final = 4_096


async def counted(
    gateway: Gateway, route: Route, principal: Principal, raw: bytes, head: Head, request_id: str
) -> int | None:
    """Tokens of the request `raw`; None: nobody who counts was there."""
    candidate = _candidate(gateway, route, principal)
    if candidate is None or media.keeps_from(candidate, raw):
        return None
    try:
        async with asyncio.timeout(PATIENCE):
            return await _ask(gateway, candidate, raw, head, request_id)
    except (TimeoutError, AttemptFailed):
        return None


def _candidate(gateway: Gateway, route: Route, principal: Principal) -> Deployment | None:
    """The one that would answer first, of those that count."""
    objection = gateway.permissions.objection(principal, route)
    task, now = plain(Capability.CHAT, principal.id), gateway.clock()
    for step in route.steps:
        found = sort(step, task, now, objection=objection)
        for one in (*found.ready, *found.waiting):
            if one.engine.kind.counts_messages and NATIVE.name in one.ways and one.resident is not False:
                return one
    return None


async def _ask(
    gateway: Gateway, candidate: Deployment, raw: bytes, head: Head, request_id: str
) -> int | None:
    engine = candidate.engine
    way = engine.ways[NATIVE.name]
    account = accounts.take(candidate, gateway.clock())
    original = Original(NATIVE, raw)
    try:
        original.headers = head.of_dialect
        body, _ = original.encode(candidate, stream=False, signed=way.signed)
    finally:
        original.close()
    headers = dict((*gateway.upstream_headers(head, request_id), *account.headers, *headers_of(original)))
    request = UpstreamRequest(
        way.target or engine.target, "POST", way.path + PATH, tuple(headers.items()), body
    )
    answer = await gateway.transport_for(candidate).open(request)
    try:
        found = await read_all(answer, _LARGEST) if answer.status == 200 else None
    finally:
        answer.abort()
    return _count(found)


def _count(body: bytes | None) -> int | None:
    try:
        value: Any = msgspec.json.decode(body or b"null")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    tokens = value.get("input_tokens") if isinstance(value, dict) else None
    return tokens if type(tokens) is int and tokens >= 0 else None
