"""Tells when the files of a configuration have changed and come to rest.

Polling `os.stat` instead of kernel notifications works alike on Linux, macOS, network file systems and
in containers, and costs a few microseconds. Kubernetes swaps the symlink `..data` of a mounted volume:
`stat` follows links, so the new file's inode shows it; the targets of links on the way are compared as
well. No thread and no clock of its own: the owner calls `check` once in a while.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

STABLE: Final = 1.0
"""Seconds without a further change before a change is reported."""

Mark = tuple[object, ...]


class Watch:
    """Watches one set of files. `check` is true once for each change that has come to rest."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths: tuple[Path, ...] = tuple(paths)
        self._known = self._look()
        self._seen = self._known
        self._since: float | None = None

    def check(self, now: float) -> bool:
        """Whether the files differ from what was known and have been the same for a second."""
        marks = self._look()
        if marks != self._seen:
            self._seen = marks
            self._since = now
        if marks == self._known:
            # Changed and changed back, as editors do that write twice.
            self._since = None
            return False
        if self._since is None:
            self._since = now
        if now - self._since < STABLE:
            return False
        self._known = marks
        self._since = None
        return True

    def follow(self, paths: Iterable[Path]) -> None:
        """Watches another set from now on: a new configuration may include other files.

        Files watched before keep what is known of them, so that a change in between is not missed.
        """
        before = dict(zip(self._paths, self._known, strict=True))
        self._paths = tuple(paths)
        marks = self._look()
        self._known = tuple(before.get(path, mark) for path, mark in zip(self._paths, marks, strict=True))
        self._seen = marks

    @property
    def paths(self) -> tuple[Path, ...]:
        return self._paths

    def _look(self) -> tuple[Mark, ...]:
        return tuple(_mark(path) for path in self._paths)


def _mark(path: Path) -> Mark:
    """What tells one state of a file from another; a missing file is a state too."""
    try:
        stat = os.stat(path)  # noqa: PTH116  (follows links, one call)
    except OSError as error:
        return ("missing", error.errno, _links(path))
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev, _links(path))


def _links(path: Path) -> tuple[str, ...]:
    """The targets of the file's own link, of its directory's, and of `..data` beside it."""
    found = []
    for link in (path, path.parent, path.parent / "..data"):
        try:
            found.append(os.readlink(link))  # noqa: PTH115  (no Path is needed)
        except OSError:
            found.append("")
    return tuple(found)
