"""A request in its caller's own dialect, kept for upstreams that speak it: there it passes as it was written.

Everything else in the gateway looks at the request in the form between, which is made of it beside. Set per
attempt are `model`, `stream`, and the bound of the answer where a budget sets one. Large ones wait on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.dialects.port import Facts
from fleetgate.engines import bounds
from fleetgate.engines.rules import Deed
from fleetgate.engines.terms import MOST_TOKENS, Asked, Change
from fleetgate.gateway.spool import IN_MEMORY, on_disk
from fleetgate.placement import keep_for
from fleetgate.routing.availability import Reason

if TYPE_CHECKING:
    from fleetgate.dialects.port import Altered, Native
    from fleetgate.errors import Refused
    from fleetgate.live import Deployment, Way

_split: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.encode


class Original:
    """The body as its caller wrote it. `close` gives its memory back; it may be called twice."""

    __slots__ = ("_file", "_plain", "_raw", "dialect", "headers", "refused")

    def __init__(
        self, dialect: Native, raw: bytes, refused: Refused | None = None, *, plain: bool = True
    ) -> None:
        """`refused`: why it cannot be translated. Then only upstreams that speak the dialect are asked.
        `plain`: engines of one's own, which know the dialect by halves, read it as it is meant, too."""
        self.dialect = dialect
        self.refused = refused
        self._plain = plain
        self.headers: tuple[tuple[str, str], ...] = ()
        """of the caller, that belong to the dialect"""
        self._file: Any = None
        self._raw = raw
        if len(raw) > IN_MEMORY:
            self._file = on_disk("body", raw)
            self._raw = b""

    def encode(
        self, deployment: Deployment, *, stream: bool, cap: int | None = None, signed: bool = False
    ) -> tuple[bytes, tuple[Change, ...]]:
        """The body for one attempt, and what was changed in it. Raises AttemptFailed where an engine of
        one's own cannot take it."""
        members = _split.decode(self.read())
        members["model"] = msgspec.Raw(_encode(deployment.model.id))
        if stream or "stream" in members:
            members["stream"] = msgspec.Raw(b"true" if stream else b"false")
        if cap is not None:
            self.dialect.bound(members, cap)
        altered = self.dialect.prepare(members, facts_of(deployment, signed=signed))
        changes = tuple(_change(one) for one in altered)
        body = _encode(members)
        if deployment.terms is None or not deployment.engine.node.local:
            return body, changes
        asked = Asked(
            frozenset(members),
            longest=self.dialect.longest(members),
            chat=False,
            pictures=bounds.may_hold_files(body),
        )
        if deployment.terms.fits(body, asked, deployment.context):
            return body, changes
        body, bounded = deployment.terms.apply(body, asked, deployment.context)
        return body, (*changes, *bounded)

    def suits(self, way: Way) -> bool:
        """Whether it is better sent as it was written than translated."""
        return way.signed or self._plain or self.refused is not None

    def read(self) -> bytes:
        """What the caller wrote."""
        if self._file is None:
            return self._raw
        self._file.seek(0)
        return bytes(self._file.read())

    def objection(self, candidate: Deployment) -> Reason | None:
        """What stands against candidates that would have to be asked in other words."""
        if self.refused is None:
            return None
        engine = candidate.engine
        runs = not self.dialect.hosted or not engine.node.local or engine.ways_written
        return None if runs and self.dialect.name in candidate.ways else Reason.OTHER_DIALECT

    def close(self) -> None:
        self._raw = b""
        if self._file is not None:
            self._file.close()


def facts_of(deployment: Deployment, *, signed: bool) -> Facts:
    """What a dialect has to know of who is asked. How a model was loaded is told by the engine alone: where
    the file says what fits, nobody knows."""
    told = deployment.resident and deployment.model.context is None
    return Facts(
        signed=signed,
        fits=(deployment.context or MOST_TOKENS) if deployment.engine.node.local else None,
        loaded=deployment.context if told else None,
        keep=keep_for(deployment),
    )


def _change(one: Altered) -> Change:
    return Change(one.name, Deed.CLAMP if one.to else Deed.DROP, one.why, one.to)
