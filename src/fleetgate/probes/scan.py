"""Looks for engines on this host: every usual port, fingerprinted, all at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetgate.engines.detect import FLEETGATE, USUAL_PORTS, Found, detect
from fleetgate.errors import AttemptFailed
from fleetgate.probes.inquiry import inquire
from fleetgate.upstream.port import Target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetgate.engines.port import Reply
    from fleetgate.upstream.port import Transport

HOST: Final = "127.0.0.1"
CONNECT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Sighting:
    """An engine at a port of this host."""

    port: int
    found: Found


async def scan(
    transport: Transport, ports: Iterable[int] = USUAL_PORTS, *, without: frozenset[int] = frozenset()
) -> tuple[Sighting, ...]:
    """The engines that answer, in the order of the ports. Other Fleetgates are left out."""
    asked = [port for port in dict.fromkeys(ports) if port not in without]
    found = await asyncio.gather(*(identify(transport, HOST, port) for port in asked))
    return tuple(
        Sighting(port, one)
        for port, one in zip(asked, found, strict=True)
        if one is not None and one.kind != FLEETGATE
    )


async def identify(transport: Transport, host: str, port: int) -> Found | None:
    """What listens at an address; None: nothing that is known."""
    target = Target((host,), port, connect_timeout=CONNECT)
    questions = detect()
    reply: Reply | None = None
    try:
        ask = next(questions)
        while True:
            try:
                reply = await inquire(transport, target, ask.path, ask)
            except AttemptFailed as error:
                if not error.row.dispatched:  # nobody is there at all
                    return None
                reply = None
            ask = questions.send(reply)
    except StopIteration as end:
        found: Found | None = end.value
        return found
