"""Where what callers send is kept until it is answered, and how much of it there may be at once.

Contents are in memory up to one MiB, and all of them in a file without a name as soon as there is more. They
are written while they come, so that a large upload is never held. The directory is the system's for temporary
files; where that is memory too, the bound of uploads is one of memory.
"""

from __future__ import annotations

import tempfile
from typing import IO, Final

from fleetgate.errors import Refused, Source

IN_MEMORY: Final = 1024 * 1024
"""Bytes above which a body waits in a file."""
ALL_BODIES: Final = 256 * 1024 * 1024
"""Bytes of all bodies that may be held at once."""
ALL_UPLOADS: Final = 2 * 1024 * 1024 * 1024
"""Bytes of all uploads that may lie on disk at once."""


class BodyBudget:
    """How many bytes of bodies the gateway holds now. Waiting requests count."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int = ALL_BODIES) -> None:
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        if self.held + size > self.limit:
            raise Refused(
                503,
                "too_many_bodies",
                "the gateway holds too many large requests at the moment",
                advice="Ask again in a moment.",
                source=Source.GATEWAY,
                retry_after=2.0,
            )
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size


class Contents:
    """The contents. The budget of bodies holds what is in memory, that of uploads what is on disk."""

    __slots__ = ("_bodies", "_file", "_memory", "_uploads", "size")

    def __init__(self, bodies: BodyBudget, uploads: BodyBudget) -> None:
        self.size = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._bodies: BodyBudget | None = bodies
        self._uploads = uploads

    @property
    def in_memory(self) -> bool:
        return self._file is None

    def add(self, piece: bytes) -> None:
        """Raises Refused (503) where there is no room."""
        assert self._bodies is not None
        if self._file is None and self.size + len(piece) > IN_MEMORY:
            self._to_disk()
        if self._file is None:
            self._bodies.take(len(piece))
            self._memory += piece
            self.size += len(piece)
        else:
            self._uploads.take(len(piece))
            self.size += len(piece)
            _write(self._file, piece)

    def whole(self) -> None:
        """Nothing more comes. Raises Refused (503) where the disk did not take all of it."""
        if self._file is not None:
            _write(self._file, b"")

    def read(self, begin: int, size: int) -> bytes:
        """Raises OSError."""
        if self._file is None:
            return bytes(self._memory[begin : begin + size])
        if self._file.closed:
            raise OSError("the upload is not kept any more")
        self._file.seek(begin)
        found = self._file.read(size)
        if len(found) != size:
            raise OSError("the upload is not there any more")
        return found

    def close(self) -> None:
        """Give everything back; may be called twice."""
        bodies, self._bodies = self._bodies, None
        if bodies is None:
            return
        if self._file is None:
            bodies.give_back(self.size)
            self._memory = bytearray()
        else:
            self._uploads.give_back(self.size)
            self._file.close()

    def _to_disk(self) -> None:
        assert self._bodies is not None
        self._uploads.take(self.size)
        try:
            file = _open("upload")
        except BaseException:
            self._uploads.give_back(self.size)
            raise
        self._bodies.give_back(self.size)
        memory, self._memory, self._file = self._memory, bytearray(), file
        _write(file, memory)


def on_disk(what: str, whole: bytes) -> IO[bytes]:
    """A file without a name that holds all of it; whoever asks closes it. Raises Refused (503)."""
    file = _open(what)
    try:
        _write(file, whole)
        _write(file, b"")
    except BaseException:
        file.close()
        raise
    return file


def _open(what: str) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(prefix=f"fleetgate-{what}-")
    except OSError as error:
        raise _no_room(error) from None


def _write(file: IO[bytes], piece: bytes | bytearray) -> None:
    """Nothing to write means: let the disk have all of it now."""
    try:
        file.write(piece)
        if not piece:
            file.flush()
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> Refused:
    return Refused(
        503,
        "no_room",
        f"the gateway has no room for the request: {error.strerror or error}",
        advice="Ask its operator to look at the directory for temporary files.",
        source=Source.GATEWAY,
        retry_after=30.0,
    )
