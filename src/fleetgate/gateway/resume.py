"""How an answer is asked for so that somebody else could go on with it, and how that is done.

Made only on routes that ask for it. `exact`: llama.cpp's own completion call, by the ids of tokens from the
start. `text`: the usual call, and the text is kept. What cannot be driven so is asked in the usual way, and
ends with an error event where it breaks off.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from fleetgate.dialects import plain_text
from fleetgate.dialects.continuing import onward
from fleetgate.dialects.llamacpp import request as by_ids
from fleetgate.dialects.llamacpp.stream import Chunks, Stamp
from fleetgate.dialects.llamacpp.trail import MOST_GAPS, Trail
from fleetgate.domain import Capability
from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.gateway.lane import lane_to
from fleetgate.gateway.legs import ByIds, Listening, Rest
from fleetgate.gateway.relay import Ended, relay, rest_of
from fleetgate.routing import continuation
from fleetgate.upstream.port import UpstreamRequest, read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetgate.dialects.llamacpp.trail import Gap
    from fleetgate.domain import Usage
    from fleetgate.gateway.ask import Ask, Lane
    from fleetgate.gateway.attempt import Flow
    from fleetgate.gateway.body import Body
    from fleetgate.gateway.downstream import Downstream
    from fleetgate.gateway.recall import Recorder
    from fleetgate.gateway.relay import Outlet
    from fleetgate.gateway.stall import Stall
    from fleetgate.live import Deployment
    from fleetgate.routing.plan import Route
    from fleetgate.upstream.port import Transport

MAX_SAID: Final = 16 * 1024 * 1024
"""Bytes of an answer about a template or about ids."""
REPEATED_WITHIN: Final = 15.0
"""Seconds that it may take to say again what was said."""
_OF_TEXT: Final = frozenset({Capability.CHAT, Capability.COMPLETE})
_decode: Final = msgspec.json.Decoder(dict).decode


def resume_for(route: Route, capability: Capability, body: Body, name: str) -> Resume | None:
    """`name`: of the answer, for its frames. None: the route does not ask for it, or the request is not for
    plain text and one answer."""
    if not route.resume or not body.wanted.stream or capability not in _OF_TEXT or body.wanted.choices != 1:
        return None
    if body.original is not None and body.original.refused is not None:
        return None
    members = _decode(body.encode("", stream=True))
    chat = capability is Capability.CHAT
    return None if plain_text.why_not(members, chat=chat) else Resume(route.resume, name, chat=chat)


class Resume:
    """One exchange's. `way` is asked for the lane of each attempt; what it gave last is looked at when that
    attempt breaks off."""

    __slots__ = (
        "_again",
        "_chat",
        "_first",
        "_leg",
        "_mode",
        "_name",
        "_rest",
        "_silence",
        "_timer",
        "deployment",
        "hopping",
        "second",
    )

    def __init__(self, mode: continuation.Resume, name: str, *, chat: bool) -> None:
        self._mode = mode
        self._name = name
        """of the answer"""
        self._chat = chat
        self._leg: ByIds | Listening | None = None
        self._first: ByIds | Listening | None = None
        """the part that broke off"""
        self._rest: Rest | None = None
        """the part behind it, where it goes on from the text"""
        self.deployment: Deployment | None = None
        """that said it"""
        self.hopping = False
        """the rest is being asked for: that is done once"""
        self.second: Deployment | None = None
        """who goes on"""
        self._again = True
        """the answer may be said again as a whole"""
        self._timer: asyncio.Timeout | None = None
        """around what is passed on of it"""
        self._silence = ""

    @property
    def possible(self) -> bool:
        """Whether the attempt under way can be continued, should it break off now."""
        return not self.hopping and self._leg is not None and self._leg.fit

    @property
    def usage(self) -> Usage | None:
        """What the last attempt alone came to, where that is known better than its frames tell."""
        if isinstance(self._leg, ByIds):
            return self._leg.usage
        return self._rest.usage if self._rest is not None else None

    @property
    def characters(self) -> int:
        """that the first one said"""
        return self._first.characters if self._first is not None else 0

    @property
    def note(self) -> str:
        """What is told of it; empty: nothing was resumed."""
        if self.second is None:
            return ""
        return f"resumed on {self.second.id} after {self.characters} characters"

    def begin_hop(self, broken: Deployment) -> None:
        """From now on the rest is asked for."""
        self.hopping = True
        self.deployment = broken
        self._first = self._leg

    def may_follow(self, other: Deployment) -> bool:
        """Whether it can go on with what broke off."""
        first = self.deployment
        assert first is not None
        if other is first or other.engine is first.engine:
            return False
        return not continuation.why_not(self._mode, first, other, chat=self._chat)

    def ending(self) -> Sequence[bytes]:
        """What is still missing where all tokens that were asked for have gone out; empty: others are."""
        leg = self._leg
        return leg.ending() if isinstance(leg, ByIds) else ()

    def broke_off(self, why: str) -> bool:
        """The upstream has fallen silent; False: nobody could go on."""
        if self._timer is None or not self.possible:
            return False
        self._silence = why
        self._timer.reschedule(asyncio.get_running_loop().time())
        return True

    async def relay(
        self, flow: Flow, down: Downstream, stall: Stall, outlet: Outlet, recorder: Recorder | None
    ) -> Ended:
        """Pass a part on. Raises AttemptFailed (stream_broken) where it breaks off."""
        try:
            async with asyncio.timeout(None) as self._timer:
                ended = await relay(flow, down, stall, outlet, recorder)
        except TimeoutError:
            stall.stop()
            raise AttemptFailed(FailureClass.STREAM_BROKEN, self._silence) from None
        except AttemptFailed as failed:
            stall.stop()
            rest = rest_of(self.ending(), flow.reader, outlet)
            if not rest:
                raise
            await down.piece(rest)
            ended = Ended(f"all tokens had come when it broke off: {failed.text}")
        finally:
            self._timer = None
        return Ended("; ".join(one for one in (self.note, ended.note) if one))

    def has_another_way(self) -> bool:
        """Whether an attempt that failed may be made in another way: the second one did not repeat what the
        first one said, so it is given the ids."""
        leg, self._again = self._leg, False
        return isinstance(leg, ByIds) and leg.repeats and leg.diverged

    async def way(self, ask: Ask, raw: bytes, transport: Transport, wall: Callable[[], float]) -> Lane | None:
        """How this attempt is made; None: in the usual way. `raw`: the request as this deployment would get
        it. Raises AttemptFailed."""
        self._leg = None
        first = self._first
        if first is None:
            self._leg = await self._begin(ask, raw, transport, wall)
            return self._leg
        self.second = ask.deployment
        if isinstance(first, ByIds):
            again = self._again and _may_repeat(first, ask.deployment)
            self._leg = await _go_on(first, ask, transport, again=again)
            return self._leg
        how = ask.deployment.engine.kind.continues
        body = onward(_decode(raw), how, first.heard, chat=self._chat)
        self._rest = Rest(body, _usual(ask, wall), first.heard)
        return self._rest

    async def _begin(
        self, ask: Ask, raw: bytes, transport: Transport, wall: Callable[[], float]
    ) -> ByIds | Listening | None:
        if continuation.begins(self._mode, ask.deployment):
            return None
        if self._mode == "text":
            return Listening(_usual(ask, wall), chat=self._chat)
        members = _decode(raw)
        if by_ids.why_not(members):
            return None
        prompt = await _prompt(members, ask, transport, chat=self._chat)
        if prompt is None:
            return None
        name = f"{'chatcmpl' if self._chat else 'cmpl'}-{self._name}"
        stamped = Stamp(name, int(wall()), ask.deployment.model.id, self._chat)
        trail = Trail(prompt)
        most = by_ids.longest(members)
        sent = by_ids.completion(members, ask.deployment.model.id, prompt, most)
        return ByIds(ask.deployment, members, most, sent, Chunks(stamped, trail), trail, stamped)


def _may_repeat(first: ByIds, second: Deployment) -> bool:
    """Whether the same request has the same answer, and it is said again soon enough."""
    seconds = first.trail.tokens / second.speed.decode_at(second.engine.in_flight)
    return by_ids.is_greedy(first.members) and seconds <= REPEATED_WITHIN


def _usual(ask: Ask, wall: Callable[[], float]) -> Lane | None:
    """What has to be put right in the answers of this engine. A caller's own dialect does not pass here."""
    lane = lane_to(ask, wall)
    return None if lane is None or lane.native else lane


async def _go_on(first: ByIds, ask: Ask, transport: Transport, *, again: bool) -> ByIds:
    """The second part: all of it again, or from the ids of the first."""
    trail = first.trail
    if again:
        cut = trail.from_the_start()
    else:
        cut = trail.cut([await _fill(gap, ask, transport) for gap in trail.gaps[:MOST_GAPS]])
    left = None if first.most is None else first.most - cut.tokens
    model = ask.deployment.model.id
    sent = by_ids.completion(first.members, model, cut.ids, left)
    onward = Trail(trail.prompt)
    chunks = Chunks(first.stamp, onward, cut.tokens, cut.again)
    return ByIds(ask.deployment, first.members, None, sent, chunks, onward, first.stamp, again)


async def _prompt(members: dict[str, Any], ask: Ask, transport: Transport, *, chat: bool) -> list[int] | None:
    """The prompt in ids, as the engine itself would make them; None: it cannot be told, or the answer may
    begin with thoughts."""
    if (ids := by_ids.ids_of(members)) is not None:
        return ids
    text = members.get("prompt")
    if chat:
        text = await _rendered(members, ask, transport)
    if not isinstance(text, str):
        return None
    return await _ids(by_ids.tokenize(ask.deployment.model.id, text), ask, transport)


async def _rendered(members: dict[str, Any], ask: Ask, transport: Transport) -> str | None:
    said = await _call(ask, transport, by_ids.APPLY, by_ids.template(members))
    prompt = said.get("prompt") if said is not None else None
    if not isinstance(prompt, str):
        return None
    props = await _call(ask, transport, f"{by_ids.PROPS}?model={quote(ask.deployment.model.id, safe='')}")
    written = props.get("chat_template") if props is not None else None
    if not isinstance(written, str) or by_ids.may_think(written, prompt, members):
        return None
    return prompt


async def _ids(body: bytes, ask: Ask, transport: Transport) -> list[int] | None:
    said = await _call(ask, transport, by_ids.TOKENIZE, body)
    ids = said.get("tokens") if said is not None else None
    return ids if plain_text.is_ids(ids) else None


async def _fill(gap: Gap, ask: Ask, transport: Transport) -> list[int] | None:
    """The ids of a piece of which some are not known, where there is only one way to have them."""
    body = by_ids.piece(ask.deployment.model.id, gap.text)
    ids = await _ids(body, ask, transport)
    return ids if ids is not None and gap.agrees(ids) else None


async def _call(ask: Ask, transport: Transport, path: str, body: bytes = b"") -> dict[str, Any] | None:
    """One small question to the engine; None: it does not answer that. Raises AttemptFailed."""
    engine = ask.deployment.engine
    headers = (*ask.headers, *ask.account.headers)
    method = "POST" if body else "GET"
    answer = await transport.open(
        UpstreamRequest(engine.target, method, engine.path(path), headers, body, ask.fresh)
    )
    try:
        said = await read_all(answer, MAX_SAID)
    except BaseException:
        answer.abort()
        raise
    if answer.status != 200 or said is None:
        return None
    try:
        return _decode(said)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
