"""Forms with files (`multipart/form-data`), read piece by piece. Pure: bytes in, parts out.

Everything is bounded, and strict where readers disagree: what we and an engine could understand in two ways
(two names, folded lines, a field with a strange name) is refused, so that nobody smuggles a second `model`
past us. Contents are never held: a piece goes out as soon as it cannot belong to a boundary any more. How the
bytes were cut on their way changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_PARTS: Final = 128
MOST_HEAD: Final = 8 * 1024
"""Bytes of the headers of one part."""
MOST_LINES: Final = 16
LONGEST_FILE_NAME: Final = 255
_PREAMBLE: Final = 64
"""Bytes of line ends that may stand before the first part."""
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_PARAMETER: Final = re.compile(r'\s*;\s*([A-Za-z0-9*_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')
_ESCAPED: Final = re.compile(r'\\(["\\])')
_FIELD: Final = re.compile(r"[A-Za-z0-9_.\-\[\]]{1,100}")
_TYPE: Final = re.compile(r"[!-~][ -~]{0,199}")
_AS_IT_IS: Final = frozenset({"7bit", "8bit", "binary"})


class Malformed(Exception):
    """It is no form that everybody would read alike."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a part says of itself. `file`: the name of a file, empty where that is not told; None: a field."""

    name: str
    file: str | None = None
    type: str | None = None

    def encode(self) -> bytes:
        """As it is written by us: nothing in it is read in two ways."""
        lines = f'Content-Disposition: form-data; name="{self.name}"'
        if self.file is not None:
            lines += '; filename="' + self.file.replace('"', "%22") + '"'
        if self.type is not None:
            lines += f"\r\nContent-Type: {self.type}"
        return lines.encode() + b"\r\n\r\n"


class _At(Enum):
    START = auto()
    DELIMITER = auto()
    """behind a boundary: another part, or the end"""
    HEAD = auto()
    CONTENT = auto()
    END = auto()


class Scanner:
    """One form. Feed it, take what comes, and ask for `finish` at the end."""

    __slots__ = ("_at", "_buffer", "_delimiter", "_parts", "_searched")

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # before the first boundary a line end may be missing
        self._at = _At.START
        self._parts = 0
        self._searched = 0

    def feed(self, piece: bytes) -> Iterator[Head | bytes]:
        """Heads of parts, and behind each its content in pieces. Raises Malformed."""
        if self._at is _At.END:
            return  # nobody reads on behind the last boundary
        self._buffer += piece
        while True:
            if self._at is _At.CONTENT:
                content, whole = self._content()
                if content:
                    yield content
                if not whole:
                    return
            elif self._at is _At.HEAD:
                head = self._head()
                if head is None:
                    return
                yield head
            elif not self._between():
                return

    def finish(self) -> None:
        """The body has ended. Raises Malformed where the form has not."""
        if self._at is not _At.END:
            raise Malformed("it ends before its last boundary")

    def _between(self) -> bool:
        """Pass a boundary and what stands around it; False: more has to come."""
        buffer = self._buffer
        if self._at is _At.END:
            return False
        if self._at is _At.START:
            found = buffer.find(self._delimiter)
            if found > _PREAMBLE or (found < 0 and len(buffer) > _PREAMBLE + len(self._delimiter)):
                raise Malformed("it does not begin with its boundary")
            if found < 0:
                return False
            if bytes(buffer[:found]).strip(b"\r\n"):
                raise Malformed("it does not begin with its boundary")
            del buffer[: found + len(self._delimiter)]
            self._at = _At.DELIMITER
        if len(buffer) < 2:
            return False
        mark = bytes(buffer[:2])
        if mark == b"--":
            self._at = _At.END
            buffer.clear()
        elif mark == b"\r\n":
            self._parts += 1
            if self._parts > MOST_PARTS:
                raise Malformed(f"it has more than {MOST_PARTS} parts")
            del buffer[:2]
            self._at, self._searched = _At.HEAD, 0
        else:
            raise Malformed("something stands behind a boundary")
        return True

    def _head(self) -> Head | None:
        found = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        if (found if found >= 0 else len(self._buffer) - 3) > MOST_HEAD:
            raise Malformed(f"the headers of a part are longer than {MOST_HEAD} bytes")
        if found < 0:
            self._searched = len(self._buffer)
            return None
        head = _read_head(bytes(self._buffer[:found]))
        del self._buffer[: found + 4]
        self._at = _At.CONTENT
        return head

    def _content(self) -> tuple[bytes, bool]:
        """What is certain to be content, and whether the part ends behind it."""
        buffer, delimiter = self._buffer, self._delimiter
        found = buffer.find(delimiter)
        if found >= 0:
            content = bytes(buffer[:found])
            del buffer[: found + len(delimiter)]
            self._at = _At.DELIMITER
            return content, True
        certain = max(0, len(buffer) - len(delimiter) + 1)
        content = bytes(buffer[:certain])
        del buffer[:certain]
        return content, False


def boundary_of(content_type: str) -> bytes:
    """What separates the parts, as the request's `Content-Type` says. Raises Malformed."""
    kind, semicolon, rest = content_type.partition(";")
    if kind.strip().lower() != "multipart/form-data":
        raise Malformed("its type is not multipart/form-data")
    found = _parameters(semicolon + rest).get("boundary", "")
    if not _BOUNDARY.fullmatch(found):
        raise Malformed("its type names no boundary")
    return found.encode("ascii")


def _read_head(raw: bytes) -> Head:
    lines = raw.split(b"\r\n")
    if len(lines) > MOST_LINES:
        raise Malformed(f"a part has more than {MOST_LINES} headers")
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = _text(line).partition(":")
        name = name.lower()
        if (
            not colon
            or not name
            or name != name.strip()
            or any(sign < " " and sign != "\t" for sign in value)
        ):
            raise Malformed("a header of a part is not understood")
        if name in found:
            raise Malformed(f"a part has two headers {name!r}"[:100])
        found[name] = value.strip()
    if found.get("content-transfer-encoding", "binary").lower() not in _AS_IT_IS:
        raise Malformed("a part is encoded for mail")
    kind = found.get("content-type")
    if kind is not None and not _TYPE.fullmatch(kind):
        raise Malformed("the type of a part is not understood")
    return _named(found.get("content-disposition", ""), kind)


def _named(disposition: str, kind: str | None) -> Head:
    form, semicolon, rest = disposition.partition(";")
    if form.strip().lower() != "form-data":
        raise Malformed("a part has no name")
    parameters = _parameters(semicolon + rest)
    name = parameters.get("name", "")
    if not _FIELD.fullmatch(name):
        raise Malformed(f"a part has an unusual name: {name[:50]!r}")
    if parameters.keys() - {"name", "filename", "filename*"}:
        raise Malformed("a part is named in an unusual way")
    file = parameters.get("filename")
    if file is None and "filename*" in parameters:
        coding, _, encoded = parameters["filename*"].partition("''")
        if coding.lower() != "utf-8":
            raise Malformed("the name of a file is not understood")
        file = _text(unquote_to_bytes(encoded))
    return Head(name, None if file is None else _file_name(file), kind)


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while match := _PARAMETER.match(text, at):
        name = match[1].lower()
        if name in found:
            raise Malformed(f"{name!r} is said twice"[:100])
        found[name] = _unescaped(match[2]) if match[3] is None else match[3]
        at = match.end()
    if text[at:].strip(" \t;"):
        raise Malformed("a header is not understood")
    return found


def _unescaped(text: str) -> str:
    """A quoted text. Only quotes and backslashes are escaped: some write paths of Windows as they are."""
    return _ESCAPED.sub(r"\1", text)


def _file_name(text: str) -> str:
    """Without a path of Windows, control characters, and what is too much; its end tells the format."""
    name = "".join(sign for sign in text.rpartition("\\")[2] if sign.isprintable())
    return name[-LONGEST_FILE_NAME:]


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
