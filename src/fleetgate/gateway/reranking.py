"""How Cohere is asked to put documents in order: its own form, at its own path."""

from __future__ import annotations

from typing import Final

import msgspec

from fleetgate.dialects import cohere
from fleetgate.engines.rules import Deed
from fleetgate.engines.terms import Change
from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.gateway.sent import Sent
from fleetgate.gateway.turned import Turned

COHERE: Final = cohere.NAME
_WHY: Final = "its dialect has no such thing"
_decode: Final = msgspec.json.Decoder(dict).decode


class Reranking(Turned):
    """One attempt."""

    chat = False

    def __init__(self) -> None:
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
