"""What one attempt is told, and the ports by which it learns how to speak with its upstream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.dialects.port import Cutter, Gathering, Reader
    from fleetgate.domain import Capability, Timings, Usage
    from fleetgate.engines.terms import Change
    from fleetgate.gateway.body import Body
    from fleetgate.gateway.sent import Sent
    from fleetgate.live import Account, Deployment
    from fleetgate.upstream.port import Answer, Target, Transport


class Lane(Protocol):
    """One attempt's way to an upstream and back, where that is not OpenAI's dialect all along."""

    native: bool
    """the caller's own dialect is spoken: what comes back is what the caller gets"""
    stream_type: str
    """content type of a streamed answer"""
    path: str | None
    """None: that of the kind, for this kind of work"""
    target: Target | None
    """None: the engine's own"""
    headers: tuple[tuple[str, str], ...]
    """they win over others of the same name"""

    def request(self, body: bytes) -> Sent:
        """the body as it is sent, of that in the form between; raises AttemptFailed"""
        ...

    def whole(self, body: bytes) -> bytes:
        """a whole answer as it goes on; raises AttemptFailed"""
        ...

    def read_whole(self, body: bytes) -> tuple[Usage, Timings | None, bool]:
        """of what `whole` gave: usage, what the engine measured, and whether its bound ended it before
        anything was said; raises AttemptFailed"""
        ...

    def frames(self) -> Cutter:
        """for a streamed answer"""
        ...

    def reader(self, choices: int) -> Reader:
        """for these frames"""
        ...

    def gathering(self) -> Gathering:
        """for these frames"""
        ...


class Ways(Protocol):
    """Ways to ask so that somebody else could go on with the answer."""

    async def way(self, ask: Ask, raw: bytes, transport: Transport, wall: Callable[[], float]) -> Lane | None:
        """how this attempt is made; None: in the usual way. `raw`: the request as this deployment would get
        it. Raises AttemptFailed"""
        ...

    def has_another_way(self) -> bool:
        """whether an attempt that failed may be made in another way"""
        ...


@dataclass(slots=True)
class Ask:
    """What is sent in one attempt."""

    capability: Capability
    deployment: Deployment
    account: Account
    body: Body
    headers: tuple[tuple[str, str], ...]
    streamed: bool
    """the upstream is asked to stream"""
    limit: float | None
    """seconds from dispatch to the first content; None: no limit"""
    fresh: bool = False
    heard: Callable[[Answer], None] | None = None
    """told of the head of every answer: set for providers, whose heads tell what is left of their limits"""
    cap: int | None = None
    """output tokens that the rest of a budget allows, where the caller left that open"""
    lane: Lane | None = None
    """how it is spoken with, where that is not OpenAI's dialect; known as soon as it is sent"""
    resume: Ways | None = None
    """asked first for a lane, so that somebody else could go on with the answer"""
    changes: tuple[Change, ...] = ()
    """what this deployment does not take as it was written; known as soon as it is sent"""
