"""The known prices of providers' models, from `known.json`, which `scripts/prices.py` writes.

A provider's rows are read when its first model is looked up, and kept: they are part of the program, like
its source. Rules are tried in the order of the data, the first that fits names the model. A price may
begin on a day or apply by the hour (UTC): `when` chooses. Unknown is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.pricing import Price, Tier

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE: Final = Path(__file__).with_name("known.json")
FORM: Final = 1
_DAY: Final = 24 * 60
_COMPACT_DATE: Final = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_LISTED_AS: Final = "models/"
"""what some providers put before ids where they list them"""


class _Tier(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    above: int
    input: int | None = None
    output: int | None = None
    cached_input: int | None = None
    cache_write: int | None = None


class _Price(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    from_: date | None = msgspec.field(name="from", default=None)
    hours: tuple[int, int] | None = None
    input: int | None = None
    output: int | None = None
    cached_input: int | None = None
    cache_write: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    hour: int | None = None
    character: int | None = None
    request: int | None = None
    tiers: tuple[_Tier, ...] = ()

    def active(self, now: datetime) -> bool:
        if self.from_ is not None and now.date() < self.from_:
            return False
        if self.hours is None:
            return True
        (begin, end), minute = self.hours, now.hour * 60 + now.minute
        return begin <= minute < end if begin < end else minute >= begin or minute < end

    def turns(self, now: datetime) -> Iterable[datetime]:
        """When it next begins or ends."""
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.from_ is not None and now.date() < self.from_:
            yield datetime.combine(self.from_, datetime.min.time(), UTC)
        for minute in self.hours or ():
            turn = today + timedelta(minutes=minute)
            yield turn if turn > now else turn + timedelta(days=1)

    @property
    def known(self) -> bool:
        return any(
            one is not None for one in (self.input, self.output, self.hour, self.character, self.request)
        )


class _Model(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    id: str
    match: Any
    prices: tuple[_Price, ...]
    context: int | None = None
    batch: tuple[int, int] | None = None


class _Provider(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    models: tuple[_Model, ...]
    also: tuple[str, ...] = ()


class _File(msgspec.Struct, forbid_unknown_fields=True):
    form: int
    source: str
    version: str
    made: date
    licence: str
    providers: dict[str, msgspec.Raw]


class _Address(msgspec.Struct):
    url: str


@dataclass(frozen=True, slots=True)
class About:
    """Where the known prices are from."""

    source: str
    version: str
    made: date
    """the day when they were taken over"""

    @property
    def origin(self) -> str:
        return f"{self.source} {self.version} ({self.made})"

    def age(self, when: float) -> int:
        """Days between that day and a unix time."""
        return max(0, (datetime.fromtimestamp(when, UTC).date() - self.made).days)


def about() -> About:
    """Source, version and date of the known prices."""
    return _about(_file())


def _about(found: _File) -> About:
    return About(found.source, found.version, found.made)


def _file() -> _File:
    """The outline of the file; the rows of each provider stay bytes."""
    found = msgspec.json.decode(FILE.read_bytes(), type=_File)
    if found.form != FORM:
        raise ValueError(f"{FILE.name} has form {found.form}, not {FORM}; run scripts/prices.py again")
    return found


class _Rows:
    """The rows of one provider, so that an id is found without trying every rule."""

    def __init__(self, provider: _Provider, origin: str) -> None:
        self.also = provider.also
        self.origin = origin
        self._models = provider.models
        self._equal: dict[str, int] = {}
        rules = []
        for index, model in enumerate(provider.models):
            for text in _equals(model.match):
                self._equal.setdefault(text, index)
            if not _only_equals(model.match):
                rules.append((index, model.match))
        self._rules = tuple(rules)

    def find(self, model_id: str) -> _Model | None:
        """The first model whose rule fits a lower-case id."""
        first = self._equal.get(model_id, len(self._models))
        for index, rule in self._rules:
            if index >= first:
                break
            if _fits(rule, model_id):
                first = index
                break
        return self._models[first] if first < len(self._models) else None


def _equals(rule: Any) -> list[str]:
    """The ids that fit a rule because they are written in it."""
    if isinstance(rule, str):
        return [rule]
    return [text for one in rule for text in _equals(one)] if isinstance(rule, list) else []


def _only_equals(rule: Any) -> bool:
    return isinstance(rule, str) or (isinstance(rule, list) and all(map(_only_equals, rule)))


def _fits(rule: Any, text: str) -> bool:  # noqa: PLR0911  (one for each kind)
    if isinstance(rule, str):
        return text == rule
    if isinstance(rule, list):
        return any(_fits(one, text) for one in rule)
    ((name, value),) = rule.items()
    if name == "and":
        return all(_fits(one, text) for one in value)
    match name:
        case "starts_with":
            return text.startswith(value)
        case "ends_with":
            return text.endswith(value)
        case "contains":
            return value in text
        case "regex":
            return re.search(value, text) is not None
    raise ValueError(f"{FILE.name} has an unknown rule {name!r}")


@cache
def _rows(provider: str) -> _Rows | None:
    found = _file()
    raw = found.providers.get(provider)
    if raw is None:
        return None
    return _Rows(msgspec.json.decode(raw, type=_Provider), _about(found).origin)


@cache
def provider_at(url: str) -> str | None:
    """The provider whose interface is at an address."""
    for provider, raw in _file().providers.items():
        if re.match(msgspec.json.decode(raw, type=_Address).url, url):
            return provider
    return None


def _model(provider: str, model_id: str) -> tuple[_Model, _Rows] | None:
    rows = _rows(provider)
    if rows is None:
        return None
    text = model_id.lower()
    bare = text.removeprefix(_LISTED_AS)
    for one in dict.fromkeys((text, bare, _COMPACT_DATE.sub(r"-\1-\2-\3", bare))):
        for among in (rows, *filter(None, map(_rows, rows.also))):
            found = among.find(one)
            if found is not None:
                return found, among
    return None


def lookup(provider: str, model_id: str, when: float) -> Price | None:
    """The known price of a model of the data's provider at a unix time.

    `Price.until` says when another one may apply.
    """
    found = _model(provider, model_id)
    if found is None:
        return None
    model, rows = found
    now = datetime.fromtimestamp(when, UTC)
    price = next((one for one in reversed(model.prices) if one.active(now)), model.prices[0])
    if not price.known:
        return None
    turns = [turn for one in model.prices for turn in one.turns(now)]
    return Price(
        input=price.input,
        output=price.output,
        cached_input=price.cached_input,
        cache_write=price.cache_write,
        audio_input=price.audio_input,
        audio_output=price.audio_output,
        hour=price.hour,
        character=price.character,
        request=price.request,
        batch=model.batch,
        tiers=tuple(
            Tier(one.above, one.input, one.output, one.cached_input, one.cache_write) for one in price.tiers
        ),
        origin=rows.origin,
        until=int(min(turns).timestamp()) if turns else None,
    )


def context_length(provider: str, model_id: str) -> int | None:
    """Tokens that fit into a model, as far as the data say."""
    found = _model(provider, model_id)
    return found[0].context if found is not None else None
