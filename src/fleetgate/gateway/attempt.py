"""One try at one deployment: send the request, wait for the first content, or fail with a class.

Nothing here touches the caller or the fleet's records. What comes back is either a whole answer or
an open stream whose first content has arrived; everything else is an `AttemptFailed`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.dialects.assemble import Assembly
from fleetgate.dialects.openai import Look
from fleetgate.domain import IN_TOKENS, PASSING, PICTURES, Capability, Timings, Usage
from fleetgate.engines import hints
from fleetgate.engines.reading import error_text
from fleetgate.engines.terms import Asked, Unfit, member_in
from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.gateway import through
from fleetgate.gateway.ask import Ask
from fleetgate.gateway.lane import lane_to
from fleetgate.upstream.port import UpstreamRequest, read_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.dialects.port import Cutter, Reader
    from fleetgate.gateway.ask import Lane
    from fleetgate.gateway.body import Body
    from fleetgate.gateway.form import Upload
    from fleetgate.gateway.through import Through
    from fleetgate.live import Deployment
    from fleetgate.upstream.port import Answer, Pieces, Transport

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of a whole answer."""
MAX_ERROR: Final = 64 * 1024
"""Bytes that are read of an error answer."""
MAX_HELD: Final = 16 * 1024
"""Bytes of frames held back before the first content."""


@dataclass(slots=True)
class Whole:
    """A complete answer."""

    body: bytes
    usage: Usage
    status: int = 200
    timings: Timings | None = None
    """as the engine measured, where it says"""
    unsaid: bool = False
    """its bound ended it before anything was said"""
    native: bool = False
    """it is in the caller's own dialect"""


@dataclass(slots=True)
class Flow:
    """A stream that has begun: `held` are its frames so far, the first content last."""

    answer: Answer
    cutter: Cutter
    reader: Reader
    held: list[bytes]
    later: list[bytes]
    """frames that came in the same piece behind the first content"""
    lane: Lane | None = None

    @property
    def native(self) -> bool:
        """It is in the caller's own dialect."""
        return self.lane is not None and self.lane.native

    @property
    def timings(self) -> Timings | None:
        return self.reader.timings

    @property
    def unsaid(self) -> bool:
        return self.reader.unsaid


async def attempt(ask: Ask, transport: Transport, wall: Callable[[], float]) -> Whole | Flow | Through:
    """Make the attempt. Raises AttemptFailed; a cancelled one leaves no socket open."""
    if ask.limit is None:
        return await _attempt(ask, transport, wall)
    try:
        async with asyncio.timeout(ask.limit):
            return await _attempt(ask, transport, wall)
    except TimeoutError:
        raise AttemptFailed(FailureClass.FIRST_TOKEN_TIMEOUT, f"no content within {ask.limit:g} s") from None


async def _attempt(ask: Ask, transport: Transport, wall: Callable[[], float]) -> Whole | Flow | Through:
    engine = ask.deployment.engine
    path = engine.kind.path(ask.capability)
    if path is None:
        raise AttemptFailed(FailureClass.ABSENT_FEATURE, f"{engine.kind.name} has no {ask.capability.value}")
    stream = ask.streamed if ask.capability in IN_TOKENS else None
    body: bytes | Pieces | None = None
    if ask.resume is not None and stream:
        body = await _resumable(ask, transport, wall)
    if ask.body.upload is not None:
        body = ask.body.upload.form(ask.deployment.model.id)
    if body is None:
        body = _prepare(ask, stream, wall)
    target, path, headers = engine.target, engine.path(path), (*ask.headers, *ask.account.headers)
    if (lane := ask.lane) is not None:
        target, path = lane.target or target, lane.path or path
        headers = tuple({**dict(headers), **dict(lane.headers)}.items())
    if ask.body.upload is not None or ask.capability in PASSING:
        headers = _media_headers(headers, ask.body.upload)
    request = UpstreamRequest(target, "POST", path, headers, body, ask.fresh)
    answer = await transport.open(request)
    try:
        return await _read(ask, answer, wall)
    except openai.InBand as told:
        answer.abort()
        if ask.resume is None or not ask.resume.has_another_way():
            raise _told(ask, told) from None
    except BaseException:
        answer.abort()
        raise
    return await _attempt(ask, transport, wall)


async def _resumable(ask: Ask, transport: Transport, wall: Callable[[], float]) -> bytes | None:
    """The body of an attempt that others could go on with; None: this one is made in the usual way."""
    assert ask.resume is not None
    if ask.deployment.engine.kind.speaks != "openai":
        return None
    raw = _encoded(ask, stream=True)
    lane = ask.lane = await ask.resume.way(ask, raw, transport, wall)
    return None if lane is None else lane.request(raw).body


def _media_headers(
    headers: tuple[tuple[str, str], ...], upload: Upload | None
) -> tuple[tuple[str, str], ...]:
    """With the type of a form, and ready for any kind of answer."""
    ours = {"accept": "*/*"} if upload is None else {"accept": "*/*", "content-type": upload.content_type}
    return tuple({**dict(headers), **ours}.items())


def changes(capability: Capability, deployment: Deployment, body: Body) -> list[str]:
    """What a deployment would not take of a body as it is written, in words; nothing is sent."""
    stream = None if capability is Capability.EMBED else body.wanted.stream
    ask = Ask(capability, deployment, deployment.engine.account, body, (), bool(stream), None)
    try:
        _prepare(ask, stream, lambda: 0.0)
    except AttemptFailed as failed:
        return [f"refused: {failed.text}"]
    return [f"{one.text}: {one.why}" for one in ask.changes if not one.silent]


def _prepare(ask: Ask, stream: bool | None, wall: Callable[[], float]) -> bytes:  # noqa: FBT001  (as it is encoded)
    """The body as it is sent. Raises AttemptFailed."""
    lane = ask.lane = lane_to(ask, wall)
    body = b"" if lane is not None and lane.native else _encoded(ask, stream)
    if lane is None:
        return body
    sent = lane.request(body)
    ask.changes += sent.changes
    return sent.body


def _encoded(ask: Ask, stream: bool | None) -> bytes:  # noqa: FBT001  (as it is encoded)
    """The body as this deployment takes it. Raises AttemptFailed where it cannot be."""
    body, deployment = ask.body, ask.deployment
    rest = body.replaced.rest(deployment) if body.replaced is not None else None
    raw = body.encode(deployment.model.id, stream=stream, cap=ask.cap, rest=rest)
    terms = deployment.terms
    if terms is None or ask.capability not in _BY_TERMS:
        return raw
    chat = ask.capability not in _NO_CHATS
    asked = Asked(body.names, body.translated, body.wanted.max_tokens, chat, body.may_hold_addresses)
    ours = (ask.cap is not None and terms.writes("max_tokens")) or (stream and terms.writes("stream_options"))
    if not ours and terms.fits(raw, asked, deployment.context):
        return raw
    try:
        raw, ask.changes = terms.apply(raw, asked, deployment.context)
    except Unfit as unfit:
        ask.changes = unfit.changes
        raise
    return raw


_BY_TERMS: Final = frozenset(
    {Capability.CHAT, Capability.VISION, Capability.TOOLS, Capability.REASONING, Capability.SCHEMA}
    | {Capability.COMPLETE, Capability.EMBED}
)
_NO_CHATS: Final = frozenset({Capability.COMPLETE, Capability.EMBED})


async def _read(ask: Ask, answer: Answer, wall: Callable[[], float]) -> Whole | Flow | Through:
    if ask.heard is not None:
        ask.heard(answer)
    if answer.status >= 300:
        raise await _failure(ask, answer, wall)
    if through.goes_through(ask.capability, ask.body, answer):
        return await through.begin(ask.capability, ask.body, answer)
    stream_type = ask.lane.stream_type if ask.lane is not None else sse.EVENTS
    is_stream = (answer.header("content-type") or "").startswith(stream_type)
    if not ask.streamed:
        if is_stream:
            raise AttemptFailed(FailureClass.GARBAGE, "a stream came back that nobody asked for")
        body = await read_all(answer, MAX_ANSWER)
        if body is None:
            raise AttemptFailed(FailureClass.GARBAGE, f"the answer is larger than {MAX_ANSWER} bytes")
        if (lane := ask.lane) is not None:
            body = lane.whole(body)
            usage, timings, unsaid = lane.read_whole(body)
            return Whole(body, usage, answer.status, timings, unsaid, lane.native)
        usage, timings = openai.read_whole(body)
        if ask.capability in PICTURES:
            usage = replace(usage, images=openai.pictures_in(body))
        unsaid = ask.capability is Capability.CHAT and openai.is_unsaid(body)
        return Whole(body, usage, answer.status, timings, unsaid)
    if not is_stream:
        raise await _not_a_stream(answer)
    choices, lane = ask.body.wanted.choices, ask.lane
    if lane is not None:
        return await _first_content(answer, lane.frames(), lane.reader(choices), lane)
    tells_of_load = ask.deployment.engine.kind.tells_of_load
    reader = openai.Stream(strip_usage=True, choices=choices, tells_of_load=tells_of_load)
    return await _first_content(answer, sse.Cutter(), reader)


async def _failure(ask: Ask, answer: Answer, wall: Callable[[], float]) -> AttemptFailed:
    """The class of an error answer, with the upstream's own words."""
    if answer.status < 400:
        answer.abort()
        return AttemptFailed(FailureClass.GARBAGE, f"the upstream redirects ({answer.status})")
    body = await read_all(answer, MAX_ERROR) or b""
    engine = ask.deployment.engine
    names = (*_ERROR_HEADERS, *engine.hints)
    headers = {name: value for name in names if (value := answer.header(name)) is not None}
    failure = engine.kind.classify(answer.status, headers, body)
    # A pause is clamped; a quota is out until its reset, however far away that is.
    hint = hints.reset if failure is FailureClass.QUOTA_EXHAUSTED else hints.retry_after
    retry_after = hint(headers, wall(), body=body, also=engine.hints)
    text = "" if failure in _KEY_FAILURES else error_text(body)
    text = _with_advice(ask, failure, text or f"status {answer.status}", wall)
    return AttemptFailed(failure, text, status=answer.status, retry_after=retry_after)


def _told(ask: Ask, told: openai.InBand) -> AttemptFailed:
    """An error inside an answer that began well, as it would have been understood before it."""
    if told.failure is FailureClass.SERVER_ERROR or told.status is None:
        return told
    failure = ask.deployment.engine.kind.classify(told.status, {}, told.body)
    text = f"status {told.status}" if failure in _KEY_FAILURES else error_text(told.body)
    return AttemptFailed(failure, text, status=told.status, retry_after=hints.retry_after({}, body=told.body))


def _with_advice(ask: Ask, failure: FailureClass, text: str, wall: Callable[[], float]) -> str:
    """The provider's words, and what is known here beside them."""
    deployment = ask.deployment
    if failure is FailureClass.MODEL_MISSING and deployment.retires is not None:
        return f"{text.rstrip('.')}; {deployment.retires.text(wall())}"
    if failure is FailureClass.BAD_REQUEST and not deployment.engine.node.local:
        member = member_in(text, ask.body.names)
        if member:
            rule = f"`rules: [{{drop: {member}}}]`"
            return f"{text.rstrip('.')}; {rule} at {deployment.engine.id} would leave it out"
    return text


_ERROR_HEADERS: Final = ("retry-after", "retry-after-ms", "date", "content-type")
_KEY_FAILURES: Final = frozenset(
    {FailureClass.KEY_INVALID, FailureClass.KEY_UNFUNDED, FailureClass.KEY_FORBIDDEN}
)
"""Texts of these may hold parts of a key and are never passed on."""


async def _not_a_stream(answer: Answer) -> AttemptFailed:
    """A 200 that is no stream: an error in disguise, or nothing we can use."""
    body = await read_all(answer, MAX_ERROR)
    if body:
        openai.read_answer(body)  # raises what an in-band error stands for
    return AttemptFailed(FailureClass.GARBAGE, "a stream was asked for and something else came back")


async def _first_content(answer: Answer, cutter: Cutter, reader: Reader, lane: Lane | None = None) -> Flow:
    """Read until something is worth sending. What came before it is held."""
    held: list[bytes] = []
    size = 0
    while piece := await answer.read():
        frames = _cut(cutter, piece)
        for position, frame in enumerate(frames):
            look = reader.look(frame)
            if look is Look.END:
                if reader.finished:  # an empty answer, whose end mark says that it is whole
                    return Flow(answer, cutter, reader, held, [], lane)
                raise AttemptFailed(FailureClass.CUT_SHORT, "the stream ended before any content")
            if look is Look.DROP:
                continue
            held.append(frame)
            size += len(frame)
            if look in (Look.CONTENT, Look.FINISH) or size > MAX_HELD:
                reader.committed = True
                return Flow(answer, cutter, reader, held, frames[position + 1 :], lane)
    raise AttemptFailed(FailureClass.CUT_SHORT, "the stream ended before any content")


def _cut(cutter: Cutter, piece: bytes) -> list[bytes]:
    try:
        return cutter.feed(piece)
    except sse.FrameTooLong:
        raise AttemptFailed(FailureClass.GARBAGE, f"a frame is longer than {sse.MAX_FRAME} bytes") from None


async def assemble(flow: Flow, *, chat: bool, between: float) -> Whole:
    """Read a stream to its end and put the whole answer together. Raises AttemptFailed.

    `between`: seconds of silence that are allowed inside it.
    """
    try:
        async with asyncio.timeout(between) as timer:
            return await _assemble(flow, timer, between, chat=chat)
    except TimeoutError:
        raise AttemptFailed(FailureClass.CUT_SHORT, f"no token for {between:g} s") from None
    except AttemptFailed as error:
        if error.failure is not FailureClass.STREAM_BROKEN:
            raise
        # An error behind the first content: nothing of it has gone out, so others may still answer.
        raise AttemptFailed(FailureClass.SERVER_ERROR, error.text, status=error.status) from None


async def _assemble(flow: Flow, timer: asyncio.Timeout, between: float, *, chat: bool) -> Whole:
    loop = asyncio.get_running_loop()
    assembly = flow.lane.gathering() if flow.lane is not None else Assembly(chat=chat)
    reader = flow.reader
    reader.strip_usage = False
    try:
        for frame in flow.held:
            assembly.add(frame)
        frames = flow.later
        size = 0
        while True:
            for frame in frames:
                seen = reader.look(frame)
                assembly.add(frame)
                if seen is Look.END:
                    break
            if reader.ended or not (piece := await _read_on(flow)):
                break
            timer.reschedule(loop.time() + between)
            size += len(piece)
            if size > MAX_ANSWER:
                raise AttemptFailed(FailureClass.GARBAGE, f"the answer is larger than {MAX_ANSWER} bytes")
            frames = _cut(flow.cutter, piece)
        rest = flow.cutter.end()  # a last frame that ends in a CR waited for what might follow
        if rest and sse.is_complete(rest):
            reader.look(rest)
            assembly.add(rest)
    finally:
        flow.answer.abort()
    if not reader.finished:
        raise AttemptFailed(FailureClass.CUT_SHORT, "the answer ended without a finish reason")
    return Whole(
        assembly.body(), reader.usage, timings=reader.timings, unsaid=reader.unsaid, native=flow.native
    )


async def _read_on(flow: Flow) -> bytes:
    """The next piece. What breaks behind the finish reason takes nothing from the answer."""
    try:
        return await flow.answer.read()
    except AttemptFailed:
        if not flow.reader.whole:
            raise
        return b""
