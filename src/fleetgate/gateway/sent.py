"""What goes out in one attempt, where it is not the body as it was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetgate.engines.terms import Change


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt's request, as it goes out."""

    body: bytes
    changes: tuple[Change, ...] = ()
    """what the upstream does not take as it was written"""
