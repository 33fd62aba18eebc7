"""The transport port: one request to one engine address, and its answer piece by piece.

Two implementations exist: `general` (aiohttp: TLS, names, anything odd) and `lean` (httptools on
plain sockets, for engines on the LAN). One contract suite of hostile upstreams runs over both.

Rules of the port
- A transport never retries and never follows a redirect. It sends exactly the given headers plus
  `Host`, `Content-Length` (and what its library cannot leave out), asks for identity encoding and
  decompresses nothing.
- Every error is an `AttemptFailed` of one of: unsent_refused, unsent_unreachable, tls_failed (all
  three: no request byte left), stale_connection (a *reused* connection ended before any response
  byte), cut_short (reset or early end on a fresh one, or inside the answer), garbage (not HTTP).
- A body in pieces is read as the upstream takes it: little of it is held. Pieces that cannot be read, or
  are not as long as was said, end the exchange as cut_short. What an upstream answers before it has taken
  everything counts, and the connection is not used again.
- Cancelling `open` or `read`, or calling `abort`, closes the socket at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_HEAD = 64 * 1024
"""Bytes of an answer's status line and headers; more is garbage."""


@dataclass(frozen=True, slots=True)
class Target:
    """One address of an engine. Hashable: it keys the connection pool."""

    hosts: tuple[str, ...]
    """names or addresses of the same machine, tried in order; the one that worked last comes first"""
    port: int
    tls: bool = False
    ca: str | None = None
    """path of a PEM file with the authorities to trust instead of the system's"""
    connect_timeout: float = 2.0
    """seconds, for each of `hosts`"""
    idle_expiry: float = 4.0
    """seconds after which an idle connection is not used again"""

    @property
    def authority(self) -> str:
        host = self.hosts[0]
        if ":" in host:
            host = f"[{host}]"
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class Pieces(Protocol):
    """A body of known length that is not held in memory: whoever asks for its pieces gets them from the
    beginning, as often as it is sent."""

    def __len__(self) -> int:
        """bytes of all pieces"""
        ...

    def __iter__(self) -> Iterator[bytes]:
        """pieces of a moderate size, read when they are asked for. Raises OSError where that fails"""
        ...


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """`path` is absolute and includes the query; `body` is sent with its length."""

    target: Target
    method: str
    path: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | Pieces = b""
    fresh: bool = False
    """do not use a pooled connection"""


class Answer(Protocol):
    """An answer whose head has arrived. The body is read by one reader, in order."""

    @property
    def status(self) -> int: ...

    @property
    def reused(self) -> bool:
        """the connection had served another request before"""
        ...

    def header(self, name: str) -> str | None:
        """value of a header (lower-case name), the first if it came twice"""
        ...

    async def read(self) -> bytes:
        """The next piece of the body as it arrived, `b""` at its proper end. Raises AttemptFailed."""
        ...

    def abort(self) -> None:
        """Close the socket at once. Does nothing after the end of the body. May be called twice."""
        ...


class Transport(Protocol):
    """Opens exchanges with upstreams and owns their connections."""

    async def open(self, request: UpstreamRequest) -> Answer:
        """Send the request and wait for the head of the answer (1xx answers are skipped)."""
        ...

    async def close(self) -> None:
        """Close every idle connection."""
        ...


async def read_all(answer: Answer, limit: int) -> bytes | None:
    """The whole body, or None (and the connection aborted) when it is longer than `limit` bytes."""
    pieces: list[bytes] = []
    total = 0
    while piece := await answer.read():
        total += len(piece)
        if total > limit:
            answer.abort()
            return None
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
