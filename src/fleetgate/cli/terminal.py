"""Whether a stream gets colours, and the few that are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODES: Final = {"red": "31", "yellow": "33", "green": "32", "dim": "2", "bold": "1"}


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Off by NO_COLOR or FLEETGATE_NO_COLOR, on by FORCE_COLOR, else on a terminal that is not dumb."""
    if environ.get("NO_COLOR") or environ.get("FLEETGATE_NO_COLOR"):
        return False
    force = environ.get("FORCE_COLOR", "")
    if force:
        return force not in {"0", "false"}
    return stream.isatty() and environ.get("TERM") != "dumb"


def paint(text: str, colour: str, *, on: bool) -> str:
    """The text in a colour, or as it is."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if on and text else text
