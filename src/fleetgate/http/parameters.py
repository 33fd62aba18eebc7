"""What may stand behind the `?` of a path. Rows declare it, and this is where it is held against them.

A parameter that is not declared is refused: a misspelt filter must not be none. What a value means is
the row's own business.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleetgate.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of them."""

    name: str
    doc: str
    form: Any = str
    """its type, as a form would have it"""
    required: bool = False


def hold_against(query: Iterable[str], declared: Iterable[Parameter]) -> None:
    """Raises Refused (400) for the first name that is not declared."""
    names = [one.name for one in declared]
    for name in query:
        if name not in names:
            raise Refused(
                400,
                "malformed",
                f"there is no parameter {name[:50]!r}",
                advice=advice_for(name, names) or "None is known here.",
                param=name[:100],
            )


def advice_for(name: str, known: list[str]) -> str:
    """What was probably meant, or all there is."""
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean `{near[0]}`?"
    return f"Known: {', '.join(known)}." if known else ""
