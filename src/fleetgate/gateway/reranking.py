"""How Cohere is asked to put documents in order: its own form, at its own path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fleetgate import sse
from fleetgate.dialects import cohere, openai
from fleetgate.engines.rules import Deed
from fleetgate.engines.terms import Change
from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.gateway.sent import Sent

if TYPE_CHECKING:
    from fleetgate.dialects.port import Cutter, Gathering, Reader
    from fleetgate.domain import Timings, Usage
    from fleetgate.upstream.port import Target

COHERE: Final = cohere.NAME
_WHY: Final = "its dialect has no such thing"
_decode: Final = msgspec.json.Decoder(dict).decode


class Reranking:
    """One attempt."""

    __slots__ = ("_asked", "headers", "path", "target")

    native = False
    stream_type = sse.EVENTS

    def __init__(self) -> None:
        self.path: str | None = None
        self.target: Target | None = None
        self.headers: tuple[tuple[str, str], ...] = ()
        self._asked = cohere.Asked({}, (), ())

    def request(self, body: bytes) -> Sent:
        self._asked = asked = cohere.outbound(_decode(body))
        changes = tuple(Change(name, Deed.DROP, _WHY) for name in asked.left_out)
        return Sent(msgspec.json.encode(asked.members), changes)

    def whole(self, body: bytes) -> bytes:
        try:
            answer = _decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise AttemptFailed(FailureClass.GARBAGE, f"the answer is not JSON: {error}") from None
        return msgspec.json.encode(cohere.inbound(answer, self._asked))

    def read_whole(self, body: bytes) -> tuple[Usage, Timings | None, bool]:
        return *openai.read_whole(body), False

    def frames(self) -> Cutter:
        raise NotImplementedError  # no order comes in pieces

    def reader(self, choices: int) -> Reader:
        raise NotImplementedError

    def gathering(self) -> Gathering:
        raise NotImplementedError
