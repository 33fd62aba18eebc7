"""Anthropic's Messages API. Its list of models shares the path of OpenAI's: see `inference`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetgate.dialects.anthropic.count import count_tokens
from fleetgate.dialects.anthropic.dialect import DIALECT
from fleetgate.dialects.anthropic.request import named
from fleetgate.domain import Capability
from fleetgate.gateway.body import json_object
from fleetgate.gateway.counting import counted
from fleetgate.gateway.spool import IN_MEMORY
from fleetgate.http.door import read_head
from fleetgate.http.forms import read_raw
from fleetgate.http.inference import STORE_DOWN, infer
from fleetgate.http.table import Access, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.http.call import Call

ESTIMATED = (b"x-fleetgate-estimated", b"true")
"""header of a count that nobody's tokenizer made"""


def rows() -> Iterator[Row]:
    for prefix in ("/v1", ""):
        yield Row(
            "POST",
            f"{prefix}/messages",
            Access.CALLER,
            infer,
            "A message, whole or streamed.",
            Capability.CHAT,
            DIALECT,
            store=STORE_DOWN,
        )
        yield Row(
            "POST",
            f"{prefix}/messages/count_tokens",
            Access.CALLER,
            count,
            "A request's tokens, counted or estimated.",
            dialect=DIALECT,
        )


async def count(call: Call) -> None:
    """By whoever would answer, where that one can count, else estimated: rather too many than too few. The
    body has no room to say that it is an estimate, the header has."""
    gateway = call.gateway
    raw = await read_raw(call, gateway.settings.gateway.body_limit)
    large = len(raw) > IN_MEMORY  # others are served while it is read
    body = await asyncio.to_thread(json_object, raw) if large else json_object(raw)
    named(body)
    route = gateway.route_of(body["model"], call.principal)
    head = read_head(call, gateway.instance)
    tokens = await counted(gateway, route, call.principal, raw, head, call.request_id)
    if tokens is not None:
        await call.json({"input_tokens": tokens})
    else:
        found = await asyncio.to_thread(count_tokens, body) if large else count_tokens(body)
        await call.json(found, headers=(ESTIMATED,))
