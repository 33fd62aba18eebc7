"""What an unquoted word of YAML means: the typing rules, as a parameter.

Our files follow the core schema of YAML 1.2, where `no` is a text. LiteLLM's files follow YAML 1.1 as
PyYAML reads it, where `no` is false, `010` is 8, `12:30` is 750 and `1e-7` is a text. Dates stay texts
under both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_SPECIAL: Final = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_NUMBER: Final = 400
"""Digits after which a number is taken for a text: converting longer ones costs quadratic time."""


@dataclass(frozen=True)
class TypingRules:
    """One way to read unquoted words. Each pattern leads to the function that converts its match."""

    name: str
    true: frozenset[str]
    false: frozenset[str]
    numbers: tuple[tuple[re.Pattern[str], Callable[[str], int | float]], ...]

    def read(self, text: str) -> Any:
        """The value of an unquoted word."""
        if text in _NULLS:
            return None
        if text in self.true or text in self.false:
            return text in self.true
        if len(text) > _LONGEST_NUMBER or text[0] not in "-+.0123456789":
            return text
        for pattern, convert in self.numbers:
            if pattern.fullmatch(text):
                try:
                    return convert(text)
                except ValueError:
                    return text
        return text


def _special(text: str) -> float:
    return float(text.replace(".", ""))


def _bare(text: str) -> str:
    return text.replace("_", "")


def _sixties(text: str) -> int | float:
    """`12:30` -> 750: base sixty, as YAML 1.1 has it."""
    plain = _bare(text)
    sign = -1 if plain.startswith("-") else 1
    *high, last = plain.lstrip("+-").split(":")
    total: int | float = 0
    for digits in high:
        total = total * 60 + int(digits)
    return sign * (total * 60 + (float(last) if "." in last else int(last)))


def _based(base: int) -> Callable[[str], int]:
    return lambda text: int(_bare(text), base)


YAML_1_2: Final = TypingRules(
    "YAML 1.2",
    _TRUE,
    _FALSE,
    (
        (re.compile(r"[-+]?[0-9]+"), int),
        (re.compile(r"0o[0-7]+"), _based(8)),
        (re.compile(r"0x[0-9a-fA-F]+"), _based(16)),
        (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"), float),
        (_SPECIAL, _special),
    ),
)

YAML_1_1: Final = TypingRules(
    "YAML 1.1",
    _TRUE | {"yes", "Yes", "YES", "on", "On", "ON"},
    _FALSE | {"no", "No", "NO", "off", "Off", "OFF"},
    (
        (re.compile(r"[-+]?0b[01_]+"), _based(2)),
        (re.compile(r"[-+]?0[0-7_]+"), _based(8)),
        (re.compile(r"[-+]?(?:0|[1-9][0-9_]*)"), _based(10)),
        (re.compile(r"[-+]?0x[0-9a-fA-F_]+"), _based(16)),
        (re.compile(r"[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+"), _sixties),
        (re.compile(r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?"), lambda text: float(_bare(text))),
        (re.compile(r"\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"), lambda text: float(_bare(text))),
        (re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*"), _sixties),
        (_SPECIAL, _special),
    ),
)

TAGS: Final[Mapping[str, str]] = {
    "tag:yaml.org,2002:str": "str",
    "tag:yaml.org,2002:int": "int",
    "tag:yaml.org,2002:float": "float",
    "tag:yaml.org,2002:bool": "bool",
    "tag:yaml.org,2002:null": "null",
    "tag:yaml.org,2002:seq": "seq",
    "tag:yaml.org,2002:map": "map",
}
"""The tags that may be written; every other one would ask us to build something."""
