"""Fetching a picture or a sound from an address that a caller wrote: guarded, bounded, and nothing else.

Rules
- Only http and https, without credentials, from hosts that are allowed. What a name leads to is looked up
  once and checked, and that very address is connected to; the certificate is checked against the name.
- A redirect is a new address, checked anew; there are at most three, and none from https to http.
- Our own headers only: no cookies, no proxy of the environment, nothing of the caller.
- The answer must call itself what its first bytes are. Drawings made of markup (SVG) are none of these.
- Bytes are counted as they come. Whoever asks bounds the time.
- An error names the host and why, never a byte of what came, nor where a name leads to.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin, urlsplit

from fleetgate import __version__
from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.upstream.dial import AddressRefused, Dialler
from fleetgate.upstream.general import GeneralTransport
from fleetgate.upstream.port import Target, UpstreamRequest
from fleetgate.upstream.public import not_public

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetgate.upstream.dial import Address
    from fleetgate.upstream.port import Answer

MOST_AT_ONCE: Final = 16
"""fetches of all callers together; the others wait"""
MOST_REDIRECTS: Final = 3
LONGEST: Final = 4_096
"""characters of an address"""
CONNECT: Final = 5.0
_USUAL_PORTS: Final = frozenset({80, 443})
_FIRST_FREE_PORT: Final = 1024
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_HOST: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,250}[a-z0-9_.])?|[0-9a-f:.]+")
_STRANGE: Final = re.compile(r"[\x00-\x20\x7f\\]")
_AS_IT_IS: Final = "!$&'()*+,;=:@/?%-._~[]|"
_HEADERS: Final = (
    ("user-agent", f"fleetgate/{__version__}"),
    ("accept", "image/*, audio/*"),
)
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_MPEG: Final = frozenset({b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa"})


class NotFetched(Exception):
    """Why there is no picture. `host` is all that is told of the address."""

    def __init__(self, host: str, why: str) -> None:
        super().__init__(f"{host}: {why}" if host else why)
        self.host = host
        self.why = why


@dataclass(frozen=True, slots=True)
class Found:
    """What was fetched."""

    type: str
    """as its first bytes say"""
    data: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """An address, taken apart."""

    tls: bool
    host: str
    port: int
    path: str


class Media:
    """Fetches. One per gateway."""

    def __init__(
        self,
        resolve: Callable[[str, int], Sequence[Address]] | None = None,
        refused: Callable[[str], str | None] = not_public,
    ) -> None:
        """`resolve` stands in for the system's resolver; `refused`: why an address is not connected to."""
        self._dialler = Dialler(resolve, refused)
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    async def fetch(self, address: str, hosts: Sequence[str], take: Callable[[int], None]) -> Found:
        """What is there. `hosts`: from where, with wildcards; `take` counts the bytes and may raise.

        Raises NotFetched. A cancelled fetch leaves no socket open.
        """
        place = read(address)
        async with self._turns:
            for _ in range(MOST_REDIRECTS + 1):
                check_host(place.host, hosts)
                found = await self._one(place, take)
                if isinstance(found, Found):
                    return found
                moved = read(found)
                if place.tls and not moved.tls:
                    raise NotFetched(place.host, "it leads from https to http")
                place = moved
        raise NotFetched(place.host, f"there are more than {MOST_REDIRECTS} redirects")

    def close(self) -> None:
        self._dialler.close()

    async def _one(self, place: Place, take: Callable[[int], None]) -> Found | str:
        """What one address gives, or where it leads to."""
        # A transport keeps connections by their targets, and callers could name any number of these.
        transport = GeneralTransport(self._dialler)
        target = Target((place.host,), place.port, place.tls, connect_timeout=CONNECT)
        try:
            answer = await transport.open(UpstreamRequest(target, "GET", place.path, _HEADERS, fresh=True))
            try:
                if answer.status in _MOVED:
                    return _onward(place, answer)
                return await _read(place, answer, take)
            finally:
                answer.abort()
        except AttemptFailed as failed:
            raise NotFetched(place.host, _in_words(failed)) from None
        finally:
            await transport.close()


def read(address: str) -> Place:
    """Take an address apart. Raises NotFetched for whatever is not plainly one."""
    if len(address) > LONGEST:
        raise NotFetched("", f"an address is longer than {LONGEST} characters")
    text = address.strip()
    if _STRANGE.search(text):
        raise NotFetched("", "an address has spaces, backslashes or control characters")
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").encode("idna").decode("ascii"), parts.port
    except (ValueError, UnicodeError):
        raise NotFetched("", "an address cannot be read") from None
    if parts.scheme not in {"http", "https"}:
        raise NotFetched("", "an address begins with neither http:// nor https://")
    if parts.username is not None or parts.password is not None:
        raise NotFetched("", "an address holds a name or password")
    if not _HOST.fullmatch(host):
        raise NotFetched("", "an address names no host")
    tls = parts.scheme == "https"
    port = (443 if tls else 80) if port is None else port
    if port not in _USUAL_PORTS and port < _FIRST_FREE_PORT:
        raise NotFetched(host, "it is no port of the web")
    path = quote(parts.path or "/", safe=_AS_IT_IS) + (
        f"?{quote(parts.query, safe=_AS_IT_IS)}" if parts.query else ""
    )
    return Place(tls, host, port, path)


def check_host(host: str, hosts: Sequence[str]) -> None:
    """Raises NotFetched where nothing may be fetched from it. `*.name` stands for all below a name."""
    name = host.rstrip(".")
    for one in hosts:
        written = one.lower()
        if written in {"*", name} or (written.startswith("*.") and name.endswith(written[1:])):
            return
    raise NotFetched(host, "it is none of the hosts of `gateway.fetch_media`")


def kind_of(begin: bytes) -> str | None:
    """The type that the first bytes tell; None: nothing that is passed on."""
    for sign, kind in _MAGIC:
        if begin.startswith(sign):
            return kind
    if begin[:4] == b"RIFF":
        return _RIFF.get(begin[8:12])
    if begin[4:8] == b"ftyp" and begin[8:11] == b"M4A":
        return "audio/mp4"
    return "audio/mpeg" if begin[:2] in _MPEG else None


def _onward(place: Place, answer: Answer) -> str:
    where = answer.header("location")
    if not where:
        raise NotFetched(place.host, "it redirects to nowhere")
    host = f"[{place.host}]" if ":" in place.host else place.host
    here = f"{'https' if place.tls else 'http'}://{host}:{place.port}{place.path}"
    try:
        return urljoin(here, where)
    except ValueError:
        raise NotFetched(place.host, "it redirects to what is no address") from None


async def _read(place: Place, answer: Answer, take: Callable[[int], None]) -> Found:
    if answer.status != 200:
        raise NotFetched(place.host, f"it answers with status {answer.status}")
    family = (answer.header("content-type") or "").strip().lower().partition("/")[0]
    if family not in {"image", "audio"}:
        raise NotFetched(place.host, "what is there calls itself neither a picture nor a sound")
    if (answer.header("content-encoding") or "identity").lower() != "identity":
        raise NotFetched(place.host, "what is there comes compressed")
    pieces = []
    while piece := await answer.read():
        take(len(piece))
        pieces.append(piece)
    data = b"".join(pieces)
    kind = kind_of(data[:16])
    if kind is None or kind.partition("/")[0] != family:
        raise NotFetched(place.host, "what is there is not what it calls itself, or of no known kind")
    return Found(kind, data)


def _in_words(failed: AttemptFailed) -> str:
    """Without where a name leads to: that may be nobody's business."""
    if isinstance(failed, AddressRefused):
        return "it has no public address"
    if failed.failure is FailureClass.TLS_FAILED:
        return "its certificate is not in order, or it speaks no TLS"
    if failed.failure in {FailureClass.UNSENT_REFUSED, FailureClass.UNSENT_UNREACHABLE}:
        return "it cannot be reached"
    return "it broke off, or does not speak HTTP"
