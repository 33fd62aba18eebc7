"""The names of what was left out of a request, for the header that tells them. Pure.

Names may come from the caller: only harmless signs of them are kept, and few and short ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

MOST: Final = 24
"""names that are told; a request may have any number of members nobody knows"""
LONGEST: Final = 64
MORE: Final = "..."
"""stands behind the last name where there were more"""
_ODD: Final = re.compile(r"[^A-Za-z0-9_.\[\]:-]")


class LeftOut:
    """Each name once, in the order in which they came up."""

    __slots__ = ("_more", "_names")

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._more = False

    def add(self, name: str) -> None:
        told = _ODD.sub("_", name[:LONGEST]) or "_"
        if told == MORE:
            self._more = True
        elif told in self._names:
            return
        elif len(self._names) < MOST:
            self._names[told] = None
        else:
            self._more = True

    def rest(self, owner: Mapping[str, Any], known: Collection[str], where: str = "") -> None:
        """All members of `owner` that nobody reads. Null says nothing, so nothing is lost with it."""
        for name, value in owner.items():
            if value is not None and name not in known:
                self.add(f"{where}{name[:LONGEST]}")

    def names(self) -> tuple[str, ...]:
        return (*self._names, MORE) if self._more else tuple(self._names)


def header(names: Iterable[str]) -> bytes:
    """Names of several sources as the text of the one header."""
    found = LeftOut()
    for name in names:
        found.add(name)
    return ", ".join(found.names()).encode("ascii", "replace")
