"""What can become of a member of a request in another dialect: the words of every dialect's table. Data.

Each dialect has one table of such rows; its documentation lists them, and its tests try them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """What happens to a member."""

    CARRIED = "carried"
    """it means the same in the form between, maybe under another name"""
    MOVED = "moved"
    """it is said in another place or way; the meaning stays"""
    SILENT = "left out silently"
    """it says nothing to anybody here"""
    NAMED = "left out and named"
    """it has no place; the answer is the same kind of answer without it, and the caller is told its name"""
    REFUSED = "refused"
    """without it the answer would be one to another question: 400"""


@dataclass(frozen=True, slots=True)
class Row:
    """One member and its fate."""

    member: str
    fate: Fate
    how: str = ""
    """as what it is carried, or why it is not"""
    where: tuple[str, ...] = ()
    """the operations that have it; empty: there is one"""
