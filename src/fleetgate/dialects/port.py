"""The port of inbound dialects: how callers speak, and how they are answered. Pure, no I/O.

Between callers and engines stands one form: that of OpenAI's chat completions (completions and embeddings
likewise). Whoever speaks it is passed through, byte for byte. Every other dialect is translated into it,
and its answers back, by one implementation of this port per dialect. What cannot be carried over is either
refused, or left out and named: nothing changes its meaning in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec

    from fleetgate.dialects.openai import ErrorForm, Look
    from fleetgate.domain import Capability, Timings, Usage
    from fleetgate.errors import Refused


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the upstream that a request passes to."""

    signed: bool = False
    """it takes thoughts of earlier answers back only with its own signature, so those of others have to go"""
    fits: int | None = None
    """tokens that fit; None: not known, or nothing that it has to be kept from"""
    loaded: int | None = None
    """the same, as its model was loaded; None: not known"""
    keep: float | None = None
    """seconds that it is to keep its model in memory, negative: for ever; None: its own time"""


@dataclass(frozen=True, slots=True)
class Altered:
    """A member that does not pass as it was written."""

    name: str
    why: str
    to: str = ""
    """what it was lowered to; empty: it was taken out"""


@dataclass(frozen=True, slots=True)
class Translated:
    """A request in the form that stands between."""

    members: Mapping[str, Any]
    """the whole body: `model`, `stream`, `messages` and so on"""
    left_out: tuple[str, ...] = ()
    """members that have no place in it, by name; the caller is told in a header and the ledger keeps it"""
    memory: Any = field(default=None, repr=False)
    """what the answer needs of the request; belongs to the dialect"""
    capability: Capability | None = None
    """the kind of work, where it is not that of the route"""
    preparing: Mapping[str, Any] | None = None
    """the answer to a request that only wants the model in memory: no model is asked"""


class Answering(Protocol):
    """Turns one streamed answer back, frame by frame."""

    def begin(self) -> bytes:
        """what stands before the first content, such as an event that opens the message; may be empty"""
        ...

    def feed(self, frame: bytes) -> bytes:
        """one whole SSE frame of the form between (the usage frame among them, never `[DONE]`) as what the
        caller gets for it; empty where that is nothing. Raises AttemptFailed (garbage) for what cannot be
        part of an answer"""
        ...

    def alive(self) -> bytes:
        """a sign of life, before `begin`"""
        ...

    def fail(self, refused: Refused) -> bytes:
        """the end of a bad answer: it never looks whole"""
        ...

    def end(self) -> bytes:
        """the end of a good answer: what `[DONE]` is in this dialect, with the usage that was seen"""
        ...


class Reader(Protocol):
    """Reads one upstream stream: when content begins, how it ended, what it used."""

    strip_usage: bool
    """frames that tell nothing but the usage are `Look.DROP`"""
    committed: bool
    """content has been seen"""
    ended: bool
    """the end mark has been seen"""
    frames: int
    """how many frames there were: each has about one token"""
    reasons: set[str]
    """the finish reasons, in the words of the form between"""
    timings: Timings | None
    answer_id: str
    """what the upstream calls its answer, where later frames have to repeat it; else empty"""

    @property
    def usage(self) -> Usage: ...

    @property
    def finished(self) -> bool:
        """a finish reason was seen: an end in good order is the end of the answer"""
        ...

    @property
    def whole(self) -> bool:
        """every answer that was asked for has its finish reason"""
        ...

    @property
    def unsaid(self) -> bool:
        """its bound ended it before anything was said"""
        ...

    @property
    def end_mark(self) -> bytes:
        """the frame that ends a good stream, as it came; empty: none came, or it is always the same"""
        ...

    def look(self, frame: bytes) -> Look:
        """what a frame is; raises AttemptFailed for an error inside the stream"""
        ...


class Cutter(Protocol):
    """Cuts the pieces of a stream into frames."""

    def feed(self, piece: bytes) -> list[bytes]: ...

    def end(self) -> bytes:
        """what is left when the body has ended; it may be a whole frame without its blank line"""
        ...


class Gathering(Protocol):
    """Builds a whole answer out of the frames of a stream."""

    def add(self, frame: bytes) -> None:
        """take one frame in; raises AttemptFailed (garbage)"""
        ...

    def body(self) -> bytes: ...


class Native(Protocol):
    """A dialect as upstreams speak it that know it themselves: what a caller of it wrote passes, and so do
    the frames of the answer. Pure."""

    @property
    def name(self) -> str:
        """of the dialect"""
        ...

    @property
    def at(self) -> str:
        """where it is asked, below the path of the dialect"""
        ...

    @property
    def stream_type(self) -> str:
        """content type of a streamed answer"""
        ...

    def reopened(self, frame: bytes, request_id: str) -> bytes:
        """a frame of an answer that our own signs of life have opened before; empty: nothing of it"""
        ...

    def fail(self, refused: Refused, request_id: str, answer_id: str) -> bytes:
        """the end of a bad answer behind frames that passed. `answer_id`: as they called it; empty: they did
        not"""
        ...

    @property
    def hosted(self) -> bool:
        """what cannot be translated of it runs at providers: an engine of one's own is sent it only where the
        file says that it speaks the dialect"""
        ...

    def passes(self, refused: Refused) -> bool:
        """whether a request that cannot be translated, for this reason, may pass all the same"""
        ...

    def is_plain(self, body: Mapping[str, Any]) -> bool:
        """whether engines of one's own read it as it is meant, too: they know the dialect by halves, and some
        leave out, rename or refuse what the makers of clients have added to it"""
        ...

    def outline(self, body: Mapping[str, Any]) -> Translated:
        """a request that only passes, as far as the gateway itself needs to know it: who is asked, how, how
        long it is and how long its answer may be"""
        ...

    def longest(self, members: Mapping[str, msgspec.Raw]) -> int | None:
        """tokens of the answer, where it says so"""
        ...

    def bound(self, members: dict[str, msgspec.Raw], most: int) -> None:
        """have the answer end after `most` tokens"""
        ...

    def prepare(self, members: dict[str, msgspec.Raw], facts: Facts) -> list[Altered]:
        """take out what this upstream would refuse, or what is not the caller's to say, and name it"""
        ...

    def cutter(self) -> Cutter: ...

    def reader(self) -> Reader:
        """for a streamed answer"""
        ...

    def gathering(self) -> Gathering: ...

    def read_whole(self, body: bytes) -> tuple[Usage, Timings | None, bool]:
        """usage of a whole answer, what the engine measured, and whether its bound ended it before anything
        was said. Raises AttemptFailed when it is none, or an error in disguise"""
        ...


class Dialect(Protocol):
    """One way to ask for one kind of work."""

    @property
    def native(self) -> Native | None:
        """for upstreams that speak it themselves; None: it is always translated"""
        ...

    @property
    def name(self) -> str:
        """`anthropic`, `ollama`, `responses`"""
        ...

    @property
    def stream_type(self) -> bytes:
        """content type of a streamed answer"""
        ...

    def request(self, body: Mapping[str, Any]) -> Translated:
        """a decoded body in the form between; raises Refused (400) with what is wrong and where"""
        ...

    def answer(self, body: Mapping[str, Any], memory: Any, request_id: str) -> Mapping[str, Any]:
        """a whole answer of the form between, as the caller gets it"""
        ...

    def answering(self, memory: Any, request_id: str) -> Answering:
        """for a streamed answer"""
        ...

    def error_form(self, refused: Refused, request_id: str) -> ErrorForm:
        """an error as a whole answer"""
        ...
