"""Lanes of answers that somebody else could go on with, and of those that go on. Their frames are those of
the form between.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from fleetgate import sse
from fleetgate.dialects import openai
from fleetgate.dialects.continuing import Following, Heard
from fleetgate.dialects.llamacpp import request as by_ids
from fleetgate.gateway.sent import Sent
from fleetgate.gateway.turned import Turned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetgate.dialects.llamacpp.stream import Chunks, Stamp
    from fleetgate.dialects.llamacpp.trail import Trail
    from fleetgate.dialects.port import Cutter, Reader
    from fleetgate.domain import Usage
    from fleetgate.gateway.ask import Lane
    from fleetgate.live import Deployment


class Leg(Turned, ABC):
    """What all these lanes have alike: they cut their frames themselves."""

    def __init__(self, body: bytes | None, path: str | None, usual: Lane | None = None) -> None:
        self._body = body
        """None: as it is"""
        self._usual = usual
        self._cutter: Cutter = sse.Cutter() if usual is None else usual.frames()
        self.path = path if usual is None else usual.path
        if usual is not None:
            self.target, self.headers = usual.target, usual.headers

    def request(self, body: bytes) -> Sent:
        body = body if self._body is None else self._body
        return Sent(body) if self._usual is None else self._usual.request(body)

    def reader(self, choices: int) -> Reader:
        return super().reader(choices) if self._usual is None else self._usual.reader(choices)

    def frames(self) -> Cutter:
        return self

    @abstractmethod
    def feed(self, piece: bytes) -> list[bytes]:
        """a `Cutter`'s"""

    @abstractmethod
    def end(self) -> bytes:
        """a `Cutter`'s"""


class ByIds(Leg):
    """The first part or the second of an answer that is driven by ids."""

    def __init__(
        self,
        deployment: Deployment,
        members: dict[str, Any],
        most: int | None,
        body: bytes,
        chunks: Chunks,
        trail: Trail,
        stamp: Stamp,
        repeats: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__(body, deployment.engine.path(by_ids.COMPLETION))
        self.members = members
        self.most = most
        self.trail = trail
        self.stamp = stamp
        self._chunks = chunks
        self.repeats = repeats
        """it says everything again"""

    @property
    def diverged(self) -> bool:
        return self._chunks.diverged

    @property
    def fit(self) -> bool:
        return self.trail.fits

    @property
    def characters(self) -> int:
        return self.trail.characters

    @property
    def usage(self) -> Usage:
        return self._chunks.usage

    def ending(self) -> Sequence[bytes]:
        spent = self.most is not None and self.trail.tokens >= self.most
        return self._chunks.ending() if spent else ()

    def reader(self, choices: int) -> Reader:
        reader = openai.Stream(strip_usage=True, choices=choices)
        if self._chunks.resumes:
            reader.goes_on()
        return reader

    def feed(self, piece: bytes) -> list[bytes]:
        return [frame for event in self._cutter.feed(piece) for frame in self._chunks.feed(event)]

    def end(self) -> bytes:
        rest = self._cutter.end()
        return b"".join(self._chunks.feed(rest)) if rest and sse.is_complete(rest) else b""


class Listening(Leg):
    """The usual call, whose text is kept."""

    def __init__(self, usual: Lane | None, *, chat: bool) -> None:
        super().__init__(None, None, usual)
        self.heard = Heard(chat=chat)

    @property
    def fit(self) -> bool:
        return self.heard.fit and self.heard.characters > 0

    @property
    def characters(self) -> int:
        return self.heard.characters

    def feed(self, piece: bytes) -> list[bytes]:
        frames = self._cutter.feed(piece)
        for frame in frames:
            self.heard.add(frame)
        return frames

    def end(self) -> bytes:
        return self._cutter.end()


class Rest(Leg):
    """The rest of an answer whose text was kept."""

    def __init__(self, body: bytes, usual: Lane | None, first: Heard) -> None:
        super().__init__(body, None, usual)
        self._following = Following(first)

    @property
    def usage(self) -> Usage | None:
        """Its own; None: it is not told."""
        return self._following.usage

    def reader(self, choices: int) -> Reader:
        reader = super().reader(choices)
        if isinstance(reader, openai.Stream):
            reader.goes_on()
        return reader

    def feed(self, piece: bytes) -> list[bytes]:
        turned = (self._following.turn(frame) for frame in self._cutter.feed(piece))
        return [frame for frame in turned if frame]

    def end(self) -> bytes:
        rest = self._cutter.end()
        return self._following.turn(rest) if rest and sse.is_complete(rest) else b""
