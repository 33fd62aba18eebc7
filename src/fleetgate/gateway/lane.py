"""How an upstream is spoken with: one adapter for each attempt that is not OpenAI's dialect all along.

Where the caller's dialect is the upstream's too, the request passes as it was written, and so does the
answer (`Passing`). Else the request is turned as the last thing before it is sent, and the answer before
anything else looks at it, so that everything between knows one form only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from fleetgate.dialects import fim
from fleetgate.dialects.anthropic.upstream.answer import completion
from fleetgate.dialects.anthropic.upstream.request import outbound
from fleetgate.dialects.anthropic.upstream.stream import Chunks
from fleetgate.dialects.anthropic.upstream.table import most_tokens
from fleetgate.dialects.llamacpp import infill
from fleetgate.dialects.mend import ODDITIES, Mender
from fleetgate.domain import Capability
from fleetgate.engines.anthropic import VERSION
from fleetgate.engines.rules import Deed
from fleetgate.engines.terms import Change
from fleetgate.errors import AttemptFailed, FailureClass, Refused
from fleetgate.gateway.replaced import takes_data_only
from fleetgate.gateway.reranking import COHERE, Reranking
from fleetgate.gateway.sent import Sent
from fleetgate.gateway.turned import Events, Turned

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.dialects.mend import Oddities
    from fleetgate.dialects.port import Cutter, Gathering, Reader
    from fleetgate.domain import Timings, Usage
    from fleetgate.gateway.ask import Ask, Lane
    from fleetgate.gateway.native import Original
    from fleetgate.live import Way

ANTHROPIC: Final = "anthropic"
MISTRAL: Final = "mistral"
_CHATS_ONLY: Final = re.compile(r"(?:open-)?(?:mistral|ministral|magistral|pixtral|voxtral)")
"""begins the names of models of Mistral that complete no texts"""
_NO_CHATS: Final = frozenset(Capability) - {
    *(Capability.CHAT, Capability.VISION, Capability.TOOLS, Capability.REASONING, Capability.SCHEMA)
}
_WHY: Final = "its dialect has no such thing"
_decode: Final = msgspec.json.Decoder(dict).decode
_encode: Final = msgspec.json.encode


def lane_to(ask: Ask, wall: Callable[[], float]) -> Lane | None:
    """None: OpenAI's dialect is spoken on both sides, and bytes pass."""
    engine, original = ask.deployment.engine, ask.body.original
    if original is not None:
        way = ask.deployment.ways.get(original.dialect.name)
        kept_back = ask.body.replaced is not None and takes_data_only(ask.deployment)
        if way is not None and original.suits(way) and not kept_back:
            return Passing(ask, original, way)
        if original.refused is not None:
            raise AttemptFailed(FailureClass.ABSENT_FEATURE, original.refused.message, status=400)
    if engine.kind.speaks == "openai":
        if _has_gap(ask):
            return Infill(ask, int(wall()))
        if ask.capability is Capability.COMPLETE and engine.kind.name == MISTRAL:
            return Filling(ask.deployment.model.id)
        if ask.capability is Capability.RERANK and engine.kind.name == COHERE:
            return Reranking()
        odd = ODDITIES.get(engine.kind.name) if ask.capability not in _NO_CHATS else None
        return Mending(odd) if odd is not None else None
    return Messages(ask.deployment.model.id, int(wall()))


class Passing:
    """The caller's dialect is the upstream's: what was written passes, and so does the answer."""

    __slots__ = ("_ask", "_original", "_way", "headers", "path", "stream_type", "target")

    native = True

    def __init__(self, ask: Ask, original: Original, way: Way) -> None:
        self._ask = ask
        self._original = original
        self._way = way
        self.path: str | None = way.path + original.dialect.at
        self.stream_type = original.dialect.stream_type
        self.target = way.target
        self.headers = headers_of(original)

    def request(self, body: bytes) -> Sent:  # noqa: ARG002  (the form between is not what is sent)
        ask = self._ask
        return Sent(
            *self._original.encode(ask.deployment, stream=ask.streamed, cap=ask.cap, signed=self._way.signed)
        )

    def whole(self, body: bytes) -> bytes:
        return body

    def read_whole(self, body: bytes) -> tuple[Usage, Timings | None, bool]:
        return self._original.dialect.read_whole(body)

    def frames(self) -> Cutter:
        return self._original.dialect.cutter()

    def reader(self, choices: int) -> Reader:  # noqa: ARG002  (these dialects have one answer)
        return self._original.dialect.reader()

    def gathering(self) -> Gathering:
        return self._original.dialect.gathering()


def headers_of(original: Original) -> tuple[tuple[str, str], ...]:
    """What names the version of the dialect: the caller's word for it, else ours."""
    if original.dialect.name != ANTHROPIC:
        return original.headers
    return tuple({"anthropic-version": VERSION, **dict(original.headers)}.items())


def _has_gap(ask: Ask) -> bool:
    """Whether it is a completion with a gap, and the engine has a call of its own for that."""
    there = ask.capability is Capability.COMPLETE and ask.deployment.engine.kind.infill is not None
    return there and "suffix" in ask.body.names and infill.asks(b"{" + ask.body.rest() + b"}")


class Infill(Turned):
    """llama.cpp's call for text between two others, whose answers are turned into completions."""

    chat = False

    def __init__(self, ask: Ask, created: int) -> None:
        engine = ask.deployment.engine
        self.path = engine.path(engine.kind.infill or "")
        request_id = dict(ask.headers).get("x-request-id", "")
        self._stamp = infill.Stamp(f"cmpl-{request_id}", created, ask.deployment.model.id)

    def request(self, body: bytes) -> Sent:
        found, left_out = infill.request(body)
        return Sent(found, tuple(Change(name, Deed.DROP, "there is one answer") for name in left_out))

    def whole(self, body: bytes) -> bytes:
        return infill.whole(body, self._stamp)

    def frames(self) -> Cutter:
        return Events(infill.Chunks(self._stamp))


class Filling(Turned):
    """Mistral's call for completions, which only its models for source code know."""

    chat = False

    def __init__(self, model: str) -> None:
        self._model = model

    def request(self, body: bytes) -> Sent:
        if _CHATS_ONLY.match(self._model):
            text = f"`{self._model}` completes no texts: Mistral's models for source code alone do"
            raise AttemptFailed(FailureClass.ABSENT_FEATURE, text, status=400)
        found, left_out = fim.request(body)
        return Sent(found, tuple(Change(name, Deed.DROP, _WHY) for name in left_out))

    def whole(self, body: bytes) -> bytes:
        return fim.whole(body)

    def frames(self) -> Cutter:
        return Events(fim.Pieces())


class Messages(Turned):
    """Anthropic's dialect. `created`: Unix time, which its answers do not say."""

    def __init__(self, model: str, created: int) -> None:
        self._model = model
        self._created = created

    def request(self, body: bytes) -> Sent:
        most = most_tokens(self._model)
        try:
            found = outbound(_decode(body), most=most)
        except Refused as refused:
            absent = refused.code == "not_translatable"
            failure = FailureClass.ABSENT_FEATURE if absent else FailureClass.BAD_REQUEST
            text = f"{refused.message.rstrip('.')}. {refused.advice}".rstrip()
            raise AttemptFailed(failure, text, status=400) from None
        members = dict(found.members)
        changes = [Change(name, Deed.DROP, _WHY) for name in found.left_out]
        if members["max_tokens"] > most:
            members["max_tokens"] = most
            changes.append(Change("max_tokens", Deed.CLAMP, "the model's answers are no longer", str(most)))
        return Sent(_encode(members), tuple(changes))

    def whole(self, body: bytes) -> bytes:
        try:
            message = _decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise AttemptFailed(FailureClass.GARBAGE, f"the answer is not JSON: {error}") from None
        return _encode(completion(message, self._created))

    def frames(self) -> Cutter:
        return Events(Chunks(self._created))


class Mending(Turned):
    """OpenAI's dialect with oddities: they are mended, everything else passes."""

    def __init__(self, odd: Oddities) -> None:
        self._odd = odd

    def whole(self, body: bytes) -> bytes:
        return Mender(self._odd).whole(body)

    def frames(self) -> Cutter:
        return Mender(self._odd)
