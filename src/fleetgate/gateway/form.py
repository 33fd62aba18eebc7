"""A form with files as it is sent on: told anew for each attempt, every part as it was but for `model`.

What is said of the parts (names, types) is written by us, so that gateway and engine read the same form, with
a boundary that only we know. A large one is read from the disk while it is sent.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.gateway.multipart import Head
    from fleetgate.gateway.spool import Contents
    from fleetgate.upstream.port import Pieces

_PIECE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One part, and where its content lies."""

    head: Head
    begin: int
    size: int


class Upload:
    """A form that was read."""

    __slots__ = ("_boundary", "_contents", "fields", "parts")

    def __init__(self, parts: tuple[Part, ...], fields: dict[str, str], contents: Contents) -> None:
        self.parts = parts
        self.fields = fields
        """those that the gateway itself reads"""
        self._contents = contents
        self._boundary = f"fleetgate-{secrets.token_hex(16)}"

    @property
    def content_type(self) -> str:
        """Of the form as it is sent on."""
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def size(self) -> int:
        """Bytes of all contents."""
        return self._contents.size

    def begin_of(self, part: Part, most: int) -> bytes:
        """The first bytes of a part."""
        return self._contents.read(part.begin, min(part.size, most))

    def form(self, model: str) -> bytes | Pieces:
        """As it is sent to one deployment, where the model has this id."""
        form = _Form(self._contents, self._boundary, self.parts, model.encode())
        return b"".join(form) if self._contents.in_memory else form

    def close(self) -> None:
        self._contents.close()


class _Form:
    """The form for one deployment, in pieces."""

    __slots__ = ("_contents", "_runs", "_size")

    def __init__(self, contents: Contents, boundary: str, parts: tuple[Part, ...], model: bytes) -> None:
        self._contents = contents
        runs: list[bytes | Part] = []
        opening = f"--{boundary}\r\n".encode()
        for part in parts:
            runs += [opening + part.head.encode(), model if part.head.name == "model" else part, b"\r\n"]
        self._runs = (*runs, f"--{boundary}--\r\n".encode())
        self._size = sum(one.size if isinstance(one, Part) else len(one) for one in self._runs)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        written = bytearray()
        for one in self._runs:
            if isinstance(one, bytes):
                written += one
                continue
            if one.size <= _PIECE:
                written += self._contents.read(one.begin, one.size)
            else:
                yield bytes(written)
                written.clear()
                for at in range(one.begin, one.begin + one.size, _PIECE):
                    yield self._contents.read(at, min(_PIECE, one.begin + one.size - at))
            if len(written) >= _PIECE:
                yield bytes(written)
                written.clear()
        yield bytes(written)
