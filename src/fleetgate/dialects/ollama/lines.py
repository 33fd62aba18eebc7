"""Lines of JSON: bytes in, whole objects out, as they came. No I/O.

Lines end with LF, or CRLF. One that is empty is nobody's. The last object of a body is whole without its
line end too, and gets one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fleetgate import sse

_MOST_TRIED: Final = 64 * 1024
"""Bytes of a line without its end that are looked at whether they are all of it"""
_END: Final = b"\n"


class Cutter:
    """Cuts a byte stream into lines. One per stream."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that `piece` completed. Raises FrameTooLong."""
        lines: list[bytes] = []
        if _END in piece:
            if self._rest:
                piece = bytes(self._rest) + piece
                self._rest.clear()
            *found, piece = piece.split(_END)
            lines = [line + _END for line in found if line.strip()]
        self._rest += piece
        if len(self._rest) > sse.MAX_FRAME:
            raise sse.FrameTooLong
        if piece.endswith(b"}") and _is_object(self._rest):
            lines.append(bytes(self._rest) + _END)
            self._rest.clear()
        return lines

    def end(self) -> bytes:
        """A line that was torn is no frame."""
        self._rest.clear()
        return b""


def _is_object(rest: bytearray) -> bool:
    """Whether nothing but a line end is missing."""
    if len(rest) > _MOST_TRIED:
        return False
    try:
        return isinstance(msgspec.json.decode(rest), dict)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
