"""Answers that go through as they come: sound, texts, events of transcriptions. Nobody waits for their end.

The first bytes commit. What fails before them fails as every attempt does; what breaks off behind them ends
the connection, so that nothing looks complete that is not: a sound has no place for an error. Events have:
they are cut into frames, an error among them ends the answer, and their usage is read on the way. JSON is
read whole, as ever, unless a text was asked for and only its name is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.dialects.usage import read_usage
from fleetgate.domain import PASSING, PICTURES, Capability, Timings, Usage
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from fleetgate.gateway.body import Body
    from fleetgate.gateway.downstream import Downstream, Headers
    from fleetgate.gateway.stall import Stall
    from fleetgate.upstream.port import Answer

EVENTS: Final = "text/event-stream"
_TEXTS: Final = frozenset({"text", "srt", "vtt"})
"""`response_format` of transcriptions that are no JSON"""
_UNKNOWN: Final = "application/octet-stream"
_HEADERS: Final = ("content-disposition", "content-language")
"""headers that go through beside the type"""
_END: Final = (b"[DONE]", b'.done"', b'.completed"', b'finish_reason":"')
"""what the last events of such streams have in them"""
_PICTURE: Final = b'.completed"'


@dataclass(slots=True)
class Through:
    """An answer whose first bytes have arrived."""

    answer: Answer
    status: int
    type: str
    first: bytes
    usage: Usage
    events: Events | None = None
    """reads it, where it is a stream of events"""
    timings: Timings | None = None
    unsaid: bool = False

    @property
    def headers(self) -> Headers:
        found = [(name, self.answer.header(name)) for name in _HEADERS]
        more = [(name.encode(), value.encode("latin-1")) for name, value in found if value is not None]
        kind = self.type.encode("latin-1", "replace")
        streamed = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        return [(b"content-type", kind), *more, *(streamed if self.events is not None else [])]


@dataclass(slots=True)
class Events:
    """Cuts events and looks at them."""

    usage: Usage
    cutter: sse.Cutter = field(default_factory=sse.Cutter)
    ended: bool = False
    """one of them said so"""
    failed: AttemptFailed | None = None
    """an error that stands behind what was given out"""

    def feed(self, piece: bytes) -> list[bytes]:
        """Whole events. Raises AttemptFailed for an error that is the first of them; another one is kept
        in `failed`."""
        try:
            frames = self.cutter.feed(piece)
        except sse.FrameTooLong:
            raise AttemptFailed(FailureClass.GARBAGE, "an event is too long") from None
        for place, frame in enumerate(frames):
            try:
                self._look(frame)
            except AttemptFailed as error:
                if not place:
                    raise
                self.failed = error
                return frames[:place]
        return frames

    def rest(self) -> bytes:
        """What is left at the end: a last event without its blank line."""
        found = self.cutter.end()
        if not found or not sse.is_complete(found):
            return b""
        self._look(found)
        return found

    def _look(self, frame: bytes) -> None:
        self.ended = self.ended or any(mark in frame for mark in _END)
        if b'"usage"' in frame or b'"error"' in frame:
            value = _data(frame)
            if value.get("error"):
                raise openai.failure_in_band(msgspec.json.encode(value["error"]))
            if isinstance(value.get("usage"), dict):
                known = read_usage(value["usage"])
                self.usage = replace(known, images=self.usage.images, characters=self.usage.characters)
        if _PICTURE in frame:
            self.usage = replace(self.usage, images=(self.usage.images or 0) + 1)


def goes_through(capability: Capability, body: Body, answer: Answer) -> bool:
    """Whether this good answer is passed on as it comes. Raises AttemptFailed for one that cannot be it."""
    if capability in PICTURES:
        return body.wanted.stream and _kind(answer) == EVENTS
    if capability not in PASSING:
        return False
    kind = _kind(answer)
    if kind == "text/html":
        raise AttemptFailed(FailureClass.GARBAGE, "a web page came back")
    if kind == "application/json" or kind.endswith("+json"):
        return body.upload is not None and body.upload.fields.get("response_format") in _TEXTS
    return True


async def begin(capability: Capability, body: Body, answer: Answer) -> Through:
    """Wait for the first bytes. Raises AttemptFailed."""
    usage = Usage(characters=body.characters) if capability is Capability.SPEAK else Usage()
    kind = answer.header("content-type") or _UNKNOWN
    if _kind(answer) == EVENTS:
        events = Events(usage)
        first = await _first_event(answer, events)
        return Through(answer, answer.status, kind, first, events.usage, events)
    first = await answer.read()
    if not first and not kind.startswith("text/"):  # silence has an empty text, and no empty sound
        raise AttemptFailed(FailureClass.CUT_SHORT, "the answer is empty")
    return Through(answer, answer.status, kind, first, usage)


async def relay(got: Through, down: Downstream, stall: Stall) -> str:
    """Pass it on to its end, which is not sent; what to note of it. Raises AttemptFailed (stream_broken)."""
    piece = got.first
    try:
        while piece:
            stall.writing()
            await down.piece(piece)
            stall.reading()
            piece = await _next(got)
    except AttemptFailed as error:
        got.answer.abort()
        raise AttemptFailed(FailureClass.STREAM_BROKEN, error.text or error.failure.value) from error
    except BaseException:
        got.answer.abort()
        raise
    return "no event said that it was the last" if got.events is not None and not got.events.ended else ""


async def _first_event(answer: Answer, events: Events) -> bytes:
    """Up to the first event that says something; signs of life before it are nobody's answer."""
    while piece := await answer.read():
        frames = events.feed(piece)
        if any(not frame.startswith(b":") for frame in frames):
            return b"".join(frames)
        if events.failed is not None:
            raise events.failed
    if rest := events.rest():
        return rest
    raise AttemptFailed(FailureClass.CUT_SHORT, "the stream ended before any event")


async def _next(got: Through) -> bytes:
    events = got.events
    if events is None:
        return await got.answer.read()
    try:
        if events.failed is not None:
            raise events.failed
        while piece := await got.answer.read():
            if frames := events.feed(piece):
                return b"".join(frames)
        return events.rest()
    finally:
        got.usage = events.usage


def _kind(answer: Answer) -> str:
    return (answer.header("content-type") or "").partition(";")[0].strip().lower()


def _data(frame: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(sse.data_of(frame) or b"null")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}
