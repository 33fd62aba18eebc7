"""Which dialects an engine of some version speaks beside OpenAI's. Pure.

Versions are compared by the numbers in them. One that is not known, or has no numbers, promises nothing:
then requests are translated, which every engine understands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DIALECT_PATHS: Final[Mapping[str, str]] = {
    "anthropic": "/v1/messages",
    "ollama": "/api",
    "responses": "/v1/responses",
}
"""where a dialect is spoken, below the root"""
EVER: Final[tuple[int, ...]] = ()
"""for what is spoken by every version, known or not"""
_NUMBERS: Final = re.compile(r"^\D{0,8}(\d+(?:\.\d+)*)")


def spoken(since: Mapping[str, tuple[int, ...]], version: str | None) -> dict[str, str]:
    """Dialects of `since` that this version has, with their paths."""
    numbers = numbers_of(version)
    return {
        name: DIALECT_PATHS[name]
        for name, first in since.items()
        if first == EVER or (numbers is not None and numbers >= first)
    }


def numbers_of(version: str | None) -> tuple[int, ...] | None:
    """`0.14.2-rc1` -> (0, 14, 2), `b11549-1a2b3c4` -> (11549,); None: there are none."""
    found = _NUMBERS.match(version or "")
    return tuple(int(one) for one in found[1].split(".")) if found is not None else None
