r"""Event-stream framing: bytes in, frames out. No I/O, no JSON.

A frame is the raw bytes of one event, its closing blank line included, exactly as they came: what
is not changed is passed on untouched. Lines end with CR, LF or CRLF (WHATWG HTML, section
"Server-sent events"). Frames never depend on how the bytes were cut: a CR at the end of a piece may
be half of a CRLF, so a boundary that ends in one waits for the next byte.
"""

from __future__ import annotations

import re
from typing import Final

_BOUNDARY: Final = re.compile(rb"(?>\r\n|\n|\r)(?:\r\n|\n|\r)")
"""Two line ends. Atomic, or a single CRLF would be taken for a CR and an LF."""
_LINE: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"

EVENTS: Final = "text/event-stream"
"""the content type"""
MAX_FRAME: Final = 4 * 1024 * 1024
"""Bytes of one frame. Longer ones cannot be an answer."""


class FrameTooLong(Exception):
    """No blank line within `MAX_FRAME` bytes."""


class Cutter:
    """Cuts a byte stream into frames. One per stream."""

    __slots__ = ("_began", "_rest", "_scanned")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._scanned = 0
        self._began = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The frames that `piece` completed. Raises FrameTooLong."""
        if not self._began:
            piece = self._begin(piece)
        if not self._rest and b"\r" not in piece:
            return self._feed_plain(piece)
        self._rest += piece
        return self._feed_any()

    def end(self) -> bytes:
        """What is left when the stream is over: a complete frame, a torn one, or nothing."""
        rest = bytes(self._rest)
        self._rest.clear()
        self._scanned = 0
        return rest

    def _begin(self, piece: bytes) -> bytes:
        """Drop a byte order mark. It may itself come in pieces."""
        head = bytes(self._rest) + piece
        self._rest.clear()
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._rest += head
            return b""
        self._began = True
        return head.removeprefix(_BOM)

    def _feed_plain(self, piece: bytes) -> list[bytes]:
        """The common case: whole frames with LF only."""
        frames: list[bytes] = []
        start = 0
        while (at := piece.find(b"\n\n", start)) >= 0:
            frames.append(piece[start : at + 2])
            start = at + 2
        if start < len(piece):
            self._keep(piece[start:])
        return frames

    def _feed_any(self) -> list[bytes]:
        buffer = self._rest
        frames: list[bytes] = []
        start = 0
        scan = self._scanned
        while match := _BOUNDARY.search(buffer, scan):
            end = match.end()
            if end == len(buffer) and buffer[end - 1] == 13:
                break
            frames.append(bytes(buffer[start:end]))
            start = scan = end
        del buffer[:start]
        self._scanned = max(0, len(buffer) - 3)  # a boundary is at most four bytes long
        if len(buffer) > MAX_FRAME:
            raise FrameTooLong
        return frames

    def _keep(self, rest: bytes) -> None:
        if len(rest) > MAX_FRAME:
            raise FrameTooLong
        self._rest += rest
        self._scanned = max(0, len(rest) - 3)


def is_complete(rest: bytes) -> bool:
    """Whether what `Cutter.end` gave is a whole frame."""
    return bool(_BOUNDARY.search(rest))


def data_of(frame: bytes) -> bytes | None:
    """The data of a frame, its lines joined with LF; None where it has none (a comment)."""
    if (
        frame.startswith(b"data: ")
        and frame.endswith(b"\n\n")
        and frame.count(b"\n") == 2
        and b"\r" not in frame
    ):
        return frame[6:-2]
    lines: list[bytes] = []
    for line in _LINE.split(frame):
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value.removeprefix(b" "))
        elif line == b"data":
            lines.append(b"")
    return b"\n".join(lines) if lines else None


def event_of(frame: bytes) -> str:
    """The event's name; `message` where none is given."""
    name = b""
    for line in _LINE.split(frame):
        if line.startswith(b"event:"):
            name = line[6:].removeprefix(b" ")
    return name.decode("utf-8", "replace") or "message"


def frame(data: bytes, event: str = "") -> bytes:
    """A frame of ours. `data` must not hold line ends (JSON never does)."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + data + b"\n\n"


def comment(text: str) -> bytes:
    """A comment line as a frame: clients ignore it, proxies see traffic."""
    return b": " + text.encode() + b"\n\n"
