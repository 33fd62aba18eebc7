"""The secrets a gateway makes for itself: the master key and the pepper. And where a request has its key."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MASTER_FILE: Final = "master.key"
PEPPER_FILE: Final = "keys.pepper"
WEAK_LENGTH: Final = 16
"""Characters below which a key is called weak."""


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
    kept = _kept(path)
    if kept:
        return kept, path
    fresh = f"fg_master_{secrets.token_urlsafe(32)}"
    _write(path, fresh)
    return fresh, path


def pepper(directory: Path) -> bytes:
    """What hashes of issued keys are keyed with: from its 0600 file beside the database, made if missing.

    It is never in the database: who gets hold of a copy of that can check no guess at a key. Raises OSError.
    """
    path = directory / PEPPER_FILE
    kept = _kept(path)
    if not kept:
        kept = secrets.token_hex(32)
        _write(path, kept)
    return hashlib.sha256(kept.encode()).digest()


def _kept(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    """A file for its owner alone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        path.chmod(0o600)  # an empty file may have been there
        file.write(text + "\n")
