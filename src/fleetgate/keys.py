"""Who may ask. For now there is one key, the master key: it is made once and opens everything.

Missing, malformed and wrong keys get the same answer on the same path; the comparison takes the
same time whatever the key looks like.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING, Final

from fleetgate.domain import Principal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MASTER: Final = Principal("master", admin=True)
ANYBODY: Final = Principal("anonymous")
MASTER_FILE: Final = "master.key"
WEAK_LENGTH: Final = 16
"""Characters below which a key is called weak."""


class Keys:
    """Knows the keys; answers who presents one."""

    def __init__(self, master: str) -> None:
        self._master = _digest(master.encode())

    def identify(self, presented: bytes | None) -> Principal | None:
        """The principal of a presented key, or None."""
        known = hmac.compare_digest(_digest(presented or b""), self._master)
        return MASTER if known and presented else None


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key of a request: `Authorization: Bearer` first, then `x-api-key`."""
    other = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            other = value.strip()
    return other


def master_key(directory: Path, given: str | None) -> tuple[str, Path | None]:
    """The master key: as given, else from its 0600 file, which is made where it is missing.

    Returns the key and the file it lives in (None when it was given). Raises OSError.
    """
    if given:
        return given, None
    path = directory / MASTER_FILE
    try:
        kept = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        kept = ""
    if kept:
        return kept, path
    fresh = f"fg_master_{secrets.token_urlsafe(32)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        path.chmod(0o600)  # an empty file may have been there
        file.write(fresh + "\n")
    return fresh, path


def _digest(key: bytes) -> bytes:
    """Keys of any length become equally long, so that comparing them takes equally long."""
    return hashlib.sha256(key).digest()
