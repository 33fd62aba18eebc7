"""What lanes have alike whose answers are turned into the form between: they override what they turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.dialects.assemble import Assembly
from fleetgate.gateway.sent import Sent

if TYPE_CHECKING:
    from typing import Protocol

    from fleetgate.dialects.port import Cutter, Gathering, Reader
    from fleetgate.domain import Timings, Usage
    from fleetgate.upstream.port import Target

    class Turner(Protocol):
        """Turns events of another dialect."""

        def feed(self, event: bytes) -> list[bytes]:
            """the frames that one event becomes"""
            ...


class Turned:
    """OpenAI's dialect, as it is: a lane is one of these and says what is different."""

    native = False
    stream_type = sse.EVENTS
    chat = True
    """False: completions"""
    path: str | None = None
    target: Target | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def request(self, body: bytes) -> Sent:
        return Sent(body)

    def whole(self, body: bytes) -> bytes:
        return body

    def read_whole(self, body: bytes) -> tuple[Usage, Timings | None, bool]:
        usage, timings = openai.read_whole(body)
        return usage, timings, self.chat and openai.is_unsaid(body)

    def frames(self) -> Cutter:
        return sse.Cutter()

    def reader(self, choices: int) -> Reader:
        return openai.Stream(strip_usage=True, choices=choices)

    def gathering(self) -> Gathering:
        return Assembly(chat=self.chat)


class Events:
    """Cuts a stream into events of another dialect, and turns them into frames of the form between."""

    __slots__ = ("_cutter", "_turner")

    def __init__(self, turner: Turner) -> None:
        self._cutter = sse.Cutter()
        self._turner = turner

    def feed(self, piece: bytes) -> list[bytes]:
        return [frame for event in self._cutter.feed(piece) for frame in self._turner.feed(event)]

    def end(self) -> bytes:
        rest = self._cutter.end()
        frames = self._turner.feed(rest) if rest and sse.is_complete(rest) else []
        return frames[0] if frames else b""
