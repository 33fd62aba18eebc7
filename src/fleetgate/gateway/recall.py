"""Stage 4: what an exchange takes from the answer cache, and what it leaves there.

Made only where a cache is configured and answers to the name are kept. An answer is given when it was
made for an equal request, by a candidate that the name still leads to and that the key may use. Equal
requests for whole answers at the same time are one: the others wait for the first (`cache.flights`).

Kept is what is complete: status 200, every choice ended for a reason that a model has, a stream with
its end mark, and nothing that the gateway shortened (`forgo`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from fleetgate import sse
from fleetgate.cache.flights import Flight, Turn
from fleetgate.cache.owner import EVERYBODY
from fleetgate.cache.stored import Stored
from fleetgate.domain import Capability, Principal, Usage
from fleetgate.gateway.likeness import fingerprint, wishes

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.cache.owner import Cache
    from fleetgate.dialects.port import Reader
    from fleetgate.gateway.attempt import Whole
    from fleetgate.gateway.body import Body
    from fleetgate.gateway.gateway import Gateway, Head
    from fleetgate.live import Deployment
    from fleetgate.routing.plan import Route

KEPT: Final = frozenset({Capability.CHAT, Capability.COMPLETE, Capability.EMBED})
"""what answers are kept of"""
WELL_ENDED: Final = frozenset(
    {"stop", "length", "tool_calls", "function_call", "eos_token", "stop_sequence", "end_turn"}
)
"""finish reasons of answers that are complete; others stand for a filter, an abort, a fault"""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, by whom."""

    principal: Principal
    capability: Capability
    body: Body
    route: Route


def recall(gateway: Gateway, head: Head, question: Question) -> Recall | None:
    """None: the cache has no part in this exchange. Raises Refused where its wishes have a wrong form."""
    cache, like = gateway.cache, question.body.likeness
    if cache is None or cache.settings is None or like is None:
        return None
    wanted = question.body.wanted
    wished = wishes(head.cache_control, like.control)
    if not like.digest or question.capability not in KEPT or not cache.covers(wanted.model):
        return None
    if not wished.read and not wished.store:
        return None
    principal = question.principal
    issuer = EVERYBODY if cache.settings.share else principal.id
    person = "" if cache.settings.share else principal.user or ""
    parts = (question.capability.value, wanted.model, issuer, person, wished.namespace)
    found = Recall(gateway, cache, question, f"{issuer}:{fingerprint(parts, like.digest)}")
    found.reads, found.oldest = wished.read, wished.oldest
    found.ttl = _shorter(cache.settings.ttl, wished.ttl) if wished.store else 0.0
    return found


class Recall:
    """The part of one exchange that has to do with the cache. `over` is called at its end, in any case."""

    def __init__(self, gateway: Gateway, cache: Cache, question: Question, key: str) -> None:
        self._gateway = gateway
        self._cache = cache
        self._question = question
        self._key = key
        self._generation = cache.generation
        self._flight: Flight | None = None
        self._recorder: Recorder | None = None
        self.reads = True
        self.oldest: float | None = None
        self.ttl = 0.0
        """seconds; 0: the answer is not kept"""
        self.found: Stored | None = None
        """what is given in place of a new answer"""
        self.mark = "pending"
        """hit, joined, miss: for the header and the record"""

    async def find(self) -> Stored | None:
        """The answer, if there is one, or if an equal request brings it. None: it has to be made."""
        self.found = await self._find()
        counts = self._cache.counts
        if self.found is None:
            self.mark = "miss"
            counts.misses += 1
        elif self.mark == "joined":
            counts.joined += 1
        else:
            self.mark = "hit"
            counts.hits += 1
        return self.found

    async def _find(self) -> Stored | None:
        cache = self._cache
        if not self.reads:
            return None
        found = self._fitting(cache.get(self._key))
        if found is None and self.ttl > 0 and not self._question.body.wanted.stream:
            found = self._fitting(await self._join())
            self.mark = "joined" if found is not None else "pending"
        if found is None and cache.remote:
            found = self._fitting(await cache.fetch(self._key))
            if found is not None and self._flight is not None:
                self._land(found)
        return found

    async def _join(self) -> Stored | None:
        """Wait for an equal request that is on its way, or be the one that others wait for."""
        flights = self._cache.flights
        flight = flights.find(self._key)
        if flight is None:
            self._flight = flights.lead(self._key)
            return None
        got = await flights.join(flight)
        if isinstance(got, Stored):
            return got
        if got is Turn.LEAD:
            self._flight = flight
        return None

    def _fitting(self, stored: Stored | None) -> Stored | None:
        """What may be given to this caller: not too old, by a candidate of this name that its key may use."""
        settings = self._cache.settings
        if stored is None or settings is None:
            return None
        age = stored.age(self._cache.wall())
        if age > _shorter(min(settings.ttl, stored.ttl), self.oldest):
            return None
        question = self._question
        candidate = _candidate(question.route, stored.deployment)
        if candidate is None or _other_weights(candidate, stored):
            return None
        objection = self._gateway.permissions.objection(question.principal, question.route)
        return stored if objection is None or objection(candidate) is None else None

    # -- others who wait -------------------------------------------------------------------------------

    def wanted(self, deserted: Callable[[], None]) -> bool:
        """Whether others wait for this answer. If so, `deserted` tells when they no longer do."""
        flight = self._flight
        if flight is None or not flight.waiting:
            return False
        flight.deserted = deserted
        return True

    def _land(self, stored: Stored) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            self._cache.flights.landed(flight, stored)

    # -- the answer ------------------------------------------------------------------------------------

    def forgo(self) -> None:
        """The answer is not what was asked for, as the gateway shortened it: nobody else gets it."""
        self.ttl = 0.0

    def keep_whole(self, got: Whole, deployment: Deployment) -> None:
        """A whole answer has come: for those who wait, and for later."""
        if self.ttl <= 0 or got.status != 200:
            return
        embeds = self._question.capability is Capability.EMBED
        if not _is_complete(got.body, self._question.body.wanted.choices, embeds=embeds):
            return
        stored = self._stored(deployment, got.body, got.usage)
        self._land(stored)
        self._cache.keep(self._key, stored, self._generation)

    def recorder(self) -> Recorder | None:
        """What a stream is recorded with; None: it is not kept."""
        if self.ttl > 0:
            settings = self._cache.settings
            self._recorder = Recorder(self._cache, settings.largest if settings is not None else 0)
        return self._recorder

    def keep_stream(self, reader: Reader, deployment: Deployment) -> None:
        """A stream has come to its end mark."""
        recorder = self._recorder
        if recorder is None or self.ttl <= 0:
            return
        if not (reader.ended and reader.whole and reader.reasons <= WELL_ENDED):
            return
        body = recorder.body()
        if body is None:
            self._cache.counts.too_large += 1
            return
        stored = self._stored(deployment, body, reader.usage, tuple(recorder.usage_at))
        self._cache.keep(self._key, stored, self._generation)

    def over(self) -> None:
        """The exchange ends: nobody waits for what does not come, nothing is recorded any more."""
        flight, self._flight = self._flight, None
        if flight is not None:
            self._cache.flights.failed(flight)
        if self._recorder is not None:
            self._recorder.close()

    def _stored(
        self, deployment: Deployment, body: bytes, usage: Usage, usage_at: tuple[tuple[int, int], ...] = ()
    ) -> Stored:
        return Stored(
            at=self._cache.wall(),
            ttl=self.ttl,
            deployment=deployment.id,
            weights=deployment.model.digest or "",
            streamed=self._question.body.wanted.stream,
            body=body,
            usage_at=usage_at,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
        )

    # -- what is told about it ---------------------------------------------------------------------------

    def headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-fleetgate-cache", self.mark.encode())]
        if self.found is not None:
            headers.append((b"age", b"%d" % self.found.age(self._cache.wall())))
        return headers

    @property
    def record(self) -> str:
        """For the ledger: how the answer was spared; empty where it was not."""
        return self.mark if self.found is not None else ""

    @property
    def note(self) -> str:
        """Where the answer is from, and how many tokens were spared."""
        found = self.found
        if found is None:
            return ""
        tokens = ["?" if one is None else str(one) for one in (found.input_tokens, found.output_tokens)]
        return f"answer of {found.deployment}, {tokens[0]} -> {tokens[1]} tokens not used"


class Recorder:
    """Collects the frames of one stream, up to a size. Comments are left out."""

    __slots__ = ("_cache", "_frames", "_largest", "_taken", "usage_at")

    def __init__(self, cache: Cache, largest: int) -> None:
        self._cache = cache
        self._largest = largest
        self._frames: bytearray | None = bytearray()
        self._taken = 0
        self.usage_at: list[tuple[int, int]] = []

    def add(self, frame: bytes, *, usage: bool = False) -> None:
        """`usage`: it tells nothing but the usage."""
        frames = self._frames
        if frames is None or (frame.startswith(b":") and sse.data_of(frame) is None):
            return
        size = len(frame)
        if self._taken + size > self._largest or not self._cache.take_room(size):
            self.close()
            return
        if usage:
            self.usage_at.append((self._taken, self._taken + size))
        self._taken += size
        frames += frame

    def body(self) -> bytes | None:
        """All frames; None: they were too many."""
        return bytes(self._frames) if self._frames is not None else None

    def close(self) -> None:
        """Give the room back. May be called twice."""
        self._cache.give_room(self._taken)
        self._taken = 0
        self._frames = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


class _Vectors(msgspec.Struct):
    data: list[msgspec.Raw] = []


_answer: Final = msgspec.json.Decoder(_Answer)
_vectors: Final = msgspec.json.Decoder(_Vectors)


def _is_complete(body: bytes, choices: int, *, embeds: bool) -> bool:
    """Whether a whole answer has all its choices, each of them ended well."""
    try:
        if embeds:
            return bool(_vectors.decode(body).data)
        found = _answer.decode(body).choices
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return len(found) >= choices and all(one.finish_reason in WELL_ENDED for one in found)


def _candidate(route: Route, deployment: str) -> Deployment | None:
    for step in route.steps:
        for candidate in step.candidates:
            if candidate.id == deployment:
                return candidate
    return None


def _other_weights(candidate: Deployment, stored: Stored) -> bool:
    known = candidate.model.digest
    return bool(known and stored.weights and known != stored.weights)


def _shorter(time: float, wished: float | None) -> float:
    return time if wished is None else min(time, wished)
