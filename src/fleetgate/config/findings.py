"""What is wrong with a configuration, with the place where it stands.

A finding renders as one line, `file:line:column: path: what is wrong; what would be right`, so that
editors and terminals can jump to it. An error keeps a file from being applied; a warning does not; a
note tells of something that is accepted but does nothing yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Severity = Literal["error", "warning", "note"]
Path = tuple[str | int, ...]
"""where a value stands in the tree: keys of maps and indices of lists"""

_BARE: Final = re.compile(r"[^\s.\[\]\"']+")
_ORDER: Final = {"error": 0, "warning": 1, "note": 2}


def show_path(path: Path) -> str:
    """`("nodes", "box", "engines", 0, "port")` -> `nodes.box.engines[0].port`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        shown = part if _BARE.fullmatch(part) else f'"{part}"'
        text += f".{shown}" if text else shown
    return text


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written. Lines and columns start at 1; 0 means that there is none."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def short(self) -> str:
        """Without the column, as origins show it."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem at one place."""

    severity: Severity
    file: str
    line: int
    column: int
    path: str
    message: str
    """what is wrong"""
    hint: str = ""
    """what would be right"""

    @property
    def place(self) -> Place:
        return Place(self.file, self.line, self.column)

    def render(self) -> str:
        said = f"{self.message}; {self.hint}" if self.hint else self.message
        return ": ".join(part for part in (str(self.place), self.path, said) if part)

    def row(self) -> dict[str, str | int]:
        """The flat row of `--json`."""
        return {
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
        }


def finding(severity: Severity, place: Place, path: Path | str, message: str, hint: str = "") -> Finding:
    """A finding at a place; a tree path is rendered."""
    shown = path if isinstance(path, str) else show_path(path)
    return Finding(severity, place.file, place.line, place.column, shown, message, hint)


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(found for found in findings if found.severity == "error")


def arrange(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then in the order of the text; the same finding only once."""
    unique = dict.fromkeys(findings)
    return tuple(sorted(unique, key=lambda f: (_ORDER[f.severity], f.file, f.line, f.column, f.path)))


@dataclass(frozen=True)
class Positions:
    """The place of every key and value of a tree."""

    values: Mapping[Path, Place] = field(default_factory=dict)
    keys: Mapping[Path, Place] = field(default_factory=dict)
    """the place of the key that leads to a path; list entries have none"""

    def at(self, path: Path) -> Place:
        """The place of a value, or of the nearest thing around it that was written."""
        for length in range(len(path), -1, -1):
            place = self.values.get(path[:length])
            if place is not None:
                return place
        return Place("")

    def key(self, path: Path) -> Place:
        """The place of the key; of the value where the key has none."""
        return self.keys.get(path) or self.at(path)


@dataclass(frozen=True)
class Document:
    """A plain tree of maps, lists and scalars, with its positions and what was wrong with the text."""

    tree: Any = field(repr=False)
    """as written, so it may hold secrets: never shown"""
    positions: Positions = field(default_factory=Positions, repr=False)
    findings: tuple[Finding, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """variables that the document itself sets, for its own references only"""
