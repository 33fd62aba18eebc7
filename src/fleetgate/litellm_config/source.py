"""Typed access to the tree of a LiteLLM file: numbers that are texts, variables, and places for findings.

YAML 1.1 makes odd things of unquoted words (`1e-7` is a text, `12:30` is 750, `010` is 8, `on` is true).
What can be meant is taken as meant; where a text is wanted and something else was read, that is told.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from fleetgate.config.findings import Document, Finding, Path, Place, Severity, finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VARIABLE: Final = "os.environ/"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LARGEST: Final = 1e15
"""No setting means anything beyond it."""
NOT_YET: Final = "not yet in effect"
IGNORED: Final = "it is accepted and ignored"


@dataclass
class Source:
    """The document, the variables its values may name, and the findings so far."""

    document: Document
    environ: Mapping[str, str] = field(repr=False)
    findings: list[Finding] = field(default_factory=list)
    told: set[object] = field(default_factory=set)
    """what is said only once"""

    def place(self, path: Path) -> Place:
        return self.document.positions.at(path)

    def say(self, severity: Severity, path: Path, message: str, hint: str = "") -> None:
        """A finding about a value; about a key where the value has no place of its own."""
        place = self.document.positions.key(path)
        self.findings.append(finding(severity, place, path, message, hint))

    def once(self, mark: object, severity: Severity, path: Path, message: str, hint: str = "") -> None:
        """A finding for the first of its kind."""
        if mark not in self.told:
            self.told.add(mark)
            self.say(severity, path, message, hint)

    def root(self) -> Section:
        return self.section(self.document.tree, ())

    def section(self, value: Any, path: Path) -> Section:
        """A map at a path; anything else is an empty one, and told."""
        if value is None:
            return Section(self, path)
        if not isinstance(value, dict):
            self.once(path, "warning", path, "not a map", "it is left out")
            return Section(self, path)
        return Section(self, path, {key: (held, (*path, key)) for key, held in value.items()})

    def resolve(self, value: Any, path: Path) -> Any:
        """A value with `os.environ/NAME` replaced; None, and told, where the variable is missing."""
        if not isinstance(value, str) or not value.startswith(_VARIABLE):
            return value
        name = value.removeprefix(_VARIABLE)
        text = self.environ.get(name, "").strip()
        if not text:
            message = f"environment variable {name} is {'empty' if name in self.environ else 'not set'}"
            self.once(path, "warning", path, message, "the value counts as not written")
            return None
        return {"true": True, "false": False}.get(text.lower(), text)

    def text(self, value: Any, path: Path) -> str:
        """A text; empty where there is none. Other scalars become texts, with a warning."""
        resolved = self.resolve(value, path)
        if resolved is None or isinstance(resolved, str):
            return resolved or ""
        if isinstance(resolved, bool | int | float):
            if resolved is value:  # not from a variable, where words are texts anyway
                message = "an unquoted word that YAML 1.1 reads as a number or truth value"
                self.once(path, "warning", path, message, "put quotes around it")
            return str(resolved)
        self.once(path, "warning", path, "not a text", "it is left out")
        return ""

    def number(self, value: Any, path: Path) -> float | None:
        """A number from zero to `LARGEST`, also from a text such as `1e-7`."""
        resolved = self.resolve(value, path)
        if resolved is None:
            return None
        try:
            number = math.nan if isinstance(resolved, bool) else float(resolved)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if 0 <= number <= LARGEST:
            return number
        self.once(path, "warning", path, "not a number that can be used", "it is left out")
        return None


@dataclass(frozen=True)
class Section:
    """One map of the file. Each value keeps its own path, also when maps were laid over each other."""

    source: Source
    path: Path
    held: Mapping[str, tuple[Any, Path]] = field(default_factory=dict, repr=False)

    def over(self, under: Section) -> Section:
        """This map laid over another one."""
        return Section(self.source, self.path, {**under.held, **self.held})

    def only(self, names: frozenset[str]) -> Section:
        """This map without the other keys."""
        return replace(self, held={key: held for key, held in self.held.items() if key in names})

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str) -> Any:
        return self.held[key][0] if key in self.held else None

    def at(self, key: str) -> Path:
        return self.held[key][1] if key in self.held else self.path

    def text(self, key: str) -> str:
        return self.source.text(self.get(key), self.at(key)).strip()

    def number(self, key: str) -> float | None:
        return self.source.number(self.get(key), self.at(key))

    def whole(self, key: str) -> int | None:
        number = self.number(key)
        return None if number is None else int(number)

    def flag(self, key: str) -> bool:
        value = self.source.resolve(self.get(key), self.at(key))
        return value is True or (isinstance(value, str) and value.lower() == "true")

    def section(self, key: str) -> Section:
        return self.source.section(self.get(key), self.at(key))

    def items(self, key: str) -> Iterator[tuple[Any, Path]]:
        """The entries of a list; a single value counts as a list of one."""
        value = self.get(key)
        if isinstance(value, list):
            yield from ((held, (*self.at(key), index)) for index, held in enumerate(value))
        elif value is not None:
            yield value, self.at(key)

    def secret(self, key: str) -> str:
        """A key as our form writes it: `${NAME}` for a variable, else the text; empty where there is none."""
        value = self.get(key)
        if isinstance(value, str) and value.startswith(_VARIABLE):
            name = value.removeprefix(_VARIABLE)
            if _NAME.fullmatch(name):
                return f"${{{name}}}"
        return self.text(key)
