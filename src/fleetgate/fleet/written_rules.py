"""Rules of the file about requests, in the form in which they are applied. Pure."""

from __future__ import annotations

from fnmatch import translate
from typing import TYPE_CHECKING, Final

import msgspec

from fleetgate.engines.rules import Deed, Rule, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fleetgate.config.rules import Rule as Entry

_WHY: Final = "the configuration says so"
_DEEDS: Final = {
    "drop": Deed.DROP,
    "rename": Deed.RENAME,
    "clamp": Deed.CLAMP,
    "map": Deed.MAP,
    "reject": Deed.REFUSE,
}


def written_rules(entries: Iterable[Entry]) -> Written:
    """All rules of one engine or provider."""
    found = list(entries)
    return Written(
        tuple(_rule(one) for one in found if one.deed != "keep"),
        tuple(Rule(one.member, Deed.DROP, "", models=_models(one)) for one in found if one.deed == "keep"),
    )


def _rule(entry: Entry) -> Rule:
    return Rule(
        entry.member,
        _DEEDS[entry.deed],
        entry.why or _WHY,
        to=entry.to if isinstance(entry.to, str) else "",
        models=_models(entry),
        most=entry.to if isinstance(entry.to, float) else None,
        into=tuple(pair for value, into in entry.values.items() for pair in _pairs(value, into)),
        written=True,
    )


def _pairs(value: str, into: object) -> Iterator[tuple[bytes, bytes]]:
    """`low` is the text; `true` and `1` are these values as well as the texts."""
    sent = msgspec.json.encode(into)
    yield msgspec.json.encode(value), sent
    try:
        yield msgspec.json.encode(msgspec.json.decode(value)), sent
    except msgspec.DecodeError:
        return


def _models(entry: Entry) -> str:
    """One pattern for all of them; empty: every model."""
    return "|".join(f"^{translate(glob)}" for glob in entry.models)
