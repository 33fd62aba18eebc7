"""What a request of ours may look like on the wire, for both transports.

A request is written by us alone: its framing (`Host`, `Content-Length`, `Connection`) belongs to the
transport, and nothing in a path or header can begin a second line. A breach is a fault of our own
code, so it is a `ValueError` and not a failed attempt.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fleetgate.upstream.port import UpstreamRequest

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PATH: Final = re.compile(r"/[!-\"$-~]*")
"""printable ASCII without spaces; a `#` never goes to a server"""
_BROKEN: Final = re.compile(r"[\r\n\0]|[^\x00-\xff]")

_FRAMING: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def check_name(name: str) -> str:
    """The lower-case header name. Raises ValueError for what is none, or is the transport's own."""
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"not a header name: {name!r}")
    lower = name.lower()
    if lower in _FRAMING:
        raise ValueError(f"the transport writes this header itself: {name}")
    return lower


def check_line(method: str, path: str) -> None:
    if _TOKEN.fullmatch(method) is None:
        raise ValueError(f"not a method: {method!r}")
    if _PATH.fullmatch(path) is None:
        raise ValueError(f"not a path: {path!r}")


def check_request(request: UpstreamRequest) -> bool:
    """Raises ValueError for a request that cannot be written; True if it names an encoding itself."""
    check_line(request.method, request.path)
    encoding = False
    for name, value in request.headers:
        encoding |= check_name(name) == "accept-encoding"
        if _BROKEN.search(value):
            # The value may be a key: only its name is told.
            raise ValueError(f"a header value that cannot be sent: {name}")
    return encoding
