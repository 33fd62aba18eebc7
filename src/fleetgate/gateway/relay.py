"""From an open stream to the caller: frames pass as they come, the end is read, nothing is invented.

The end mark is held back until the exchange has settled. A finish reason decides that the answer is
whole; a missing `[DONE]` after it is added for the caller and noted. Anything that ends earlier is
`stream_broken`: the caller gets an error event, and neither a finish reason nor `[DONE]`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetgate import sse
from fleetgate.dialects.openai import Look
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetgate.dialects.port import Reader
    from fleetgate.gateway.attempt import Flow
    from fleetgate.gateway.downstream import Downstream
    from fleetgate.gateway.recall import Recorder
    from fleetgate.gateway.stall import Stall

CLOSING: Final = 1.0
"""Seconds an upstream may take to end its body after its end mark."""


class Unsayable(AttemptFailed):
    """Something that came cannot be said in the caller's dialect: without it no answer is whole."""


@dataclass(slots=True)
class Ended:
    """How a stream ended well."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Outlet:
    """How frames go out."""

    usage_wanted: bool
    """frames of usage, too"""
    frames: Callable[[Sequence[bytes]], bytes]
    """some of them as the caller gets them; empty: nothing of it"""


async def relay(
    flow: Flow, down: Downstream, stall: Stall, outlet: Outlet, recorder: Recorder | None = None
) -> Ended:
    """Pass the stream on until its end mark, which is not sent. Raises AttemptFailed (stream_broken).

    `recorder` takes every frame down, the usage frame too where the caller does not want it.
    """
    reader, answer, cutter = flow.reader, flow.answer, flow.cutter
    usage_wanted, spoken = outlet.usage_wanted, outlet.frames
    reader.strip_usage = True  # what is to be dropped then tells nothing but the usage
    out, frames = flow.held, flow.later
    if recorder is not None:
        for frame in out:
            recorder.add(frame)
    read = answer.read
    try:
        while True:
            moved = bool(out)
            try:
                moved = _sift(reader, frames, out, recorder, usage_wanted=usage_wanted) or moved
            finally:  # what came before an error is the caller's all the same
                if out:
                    stall.writing()
                    if told := _said(spoken, out):
                        await down.piece(told)
                    out = []
            if reader.ended:
                return _finish(flow)
            stall.reading(progress=moved)
            if not (piece := await read()):
                return await _finish_without_mark(flow, down, outlet)
            frames = cutter.feed(piece)
    except AttemptFailed as error:
        answer.abort()
        if reader.whole and not isinstance(error, Unsayable):  # the answer is whole; what broke came after it
            return Ended(f"after the finish reason: {error.failure.value}")
        raise AttemptFailed(FailureClass.STREAM_BROKEN, error.text or error.failure.value) from error
    except sse.FrameTooLong:
        answer.abort()
        raise AttemptFailed(FailureClass.STREAM_BROKEN, "a frame is too long") from None
    except BaseException:
        answer.abort()
        raise


def _said(spoken: Callable[[Sequence[bytes]], bytes], frames: Sequence[bytes]) -> bytes:
    """Frames as the caller gets them. Raises Unsayable."""
    try:
        return spoken(frames)
    except AttemptFailed as error:
        raise Unsayable(error.failure, error.text, status=error.status) from None


def _sift(
    reader: Reader, frames: list[bytes], out: list[bytes], recorder: Recorder | None, *, usage_wanted: bool
) -> bool:
    """Look at new frames and add what goes out to `out`. True when one was more than a sign of life."""
    moved = False
    for frame in frames:
        seen = reader.look(frame)
        if seen is Look.END:
            return True
        usage = seen is Look.DROP
        if recorder is not None:
            recorder.add(frame, usage=usage)
        if usage_wanted or not usage:
            out.append(frame)
        moved = moved or not (seen is Look.HOLD or frame.startswith(b":"))
    return moved


def _finish(flow: Flow) -> Ended:
    """The end mark came."""
    if not flow.reader.finished:
        flow.answer.abort()
        raise AttemptFailed(FailureClass.STREAM_BROKEN, "the stream ended without a finish reason")
    return Ended()


async def _finish_without_mark(flow: Flow, down: Downstream, outlet: Outlet) -> Ended:
    """The body ended. A whole frame without its blank line still counts."""
    rest = flow.cutter.end()
    if rest and sse.is_complete(rest):
        look = flow.reader.look(rest)
        if look is not Look.END and (look is not Look.DROP or outlet.usage_wanted):
            await down.piece(_said(outlet.frames, [rest]))
    if not flow.reader.finished:
        raise AttemptFailed(FailureClass.STREAM_BROKEN, "the stream ended without a finish reason")
    return Ended("" if flow.reader.ended else "no [DONE] after the finish reason")


def rest_of(frames: Sequence[bytes], reader: Reader, outlet: Outlet) -> bytes:
    """The last frames of an answer, made by ourselves, as the caller gets them; empty: there are none."""
    unwanted = {Look.END} if outlet.usage_wanted else {Look.END, Look.DROP}
    out = [frame for frame in frames if reader.look(frame) not in unwanted]
    return outlet.frames(out) if out else b""


async def close(flow: Flow) -> None:
    """After the end mark: a body that ends right behind it leaves its connection for others to use."""
    try:
        async with asyncio.timeout(CLOSING):
            if await flow.answer.read():
                flow.answer.abort()
    except (TimeoutError, AttemptFailed):
        flow.answer.abort()
    except asyncio.CancelledError:
        flow.answer.abort()
        raise
