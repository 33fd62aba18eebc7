"""Models that providers retire: when, and what to use instead, from `retired.json`.

The days are those that the providers gave, and each row says where it is from; `scripts/retired.py` takes
over new ones. A day in the past does not prove that a model is gone: only its provider's answer does.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fleetgate.domain import Retirement

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE: Final = Path(__file__).with_name("retired.json")
FORM: Final = 1
_LISTED_AS: Final = "models/"
"""what some providers put before ids where they list them"""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    form: int
    made: date
    sources: dict[str, str]
    providers: dict[str, dict[str, tuple[date, str | None, str]]]


@cache
def _file() -> _File:
    found = msgspec.json.decode(FILE.read_bytes(), type=_File)
    if found.form != FORM:
        raise ValueError(f"{FILE.name} has form {found.form}, not {FORM}; run scripts/retired.py again")
    return found


def lookup(provider: str, model_id: str) -> Retirement | None:
    """When a provider of our table retires a model; None: nothing is known. The successor is the last of a
    line: one that is retired before or on the same day has its own."""
    rows = _file().providers.get(provider)
    if rows is None:
        return None
    text = model_id.lower().removeprefix(_LISTED_AS)
    tuned = ":".join(text.split(":")[:2]) if text.startswith("ft:") else text
    row = rows.get(text) or rows.get(tuned) or _by_case(provider).get(text)
    if row is None:
        return None
    day, successor, source = row
    seen = {text}
    while successor is not None and successor not in seen and successor in rows and rows[successor][0] <= day:
        seen.add(successor)
        successor = rows[successor][1]
    return Retirement(_unix(day), successor or "", _file().sources[source])


@cache
def _by_case(provider: str) -> dict[str, tuple[date, str | None, str]]:
    return {text.lower(): row for text, row in _file().providers[provider].items()}


def _unix(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def every() -> Iterator[tuple[str, str, Retirement]]:
    """All rows: provider, model, and what is known."""
    for provider, rows in _file().providers.items():
        for model_id in rows:
            found = lookup(provider, model_id)
            if found is not None:
                yield provider, model_id, found
