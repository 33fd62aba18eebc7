"""Reports of use, out of the sums by hour, and the latest entries themselves.

Rules: a report reads `hourly` and the names of keys, never the entries, so that it takes as long after
ten million exchanges as after ten thousand. An hour belongs to the local day in which it begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, and_, case, func, literal, or_, select

from fleetgate.store.access import key_called
from fleetgate.store.hourly import HOUR
from fleetgate.store.rows import entry_of
from fleetgate.store.schema import access_key, exchange, hourly

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, RowMapping, Select

    from fleetgate.domain import Entry

PLACES: Final = {
    "key": hourly.c.key,
    "user": hourly.c.person,
    **{name: hourly.c[name] for name in ("team", "model", "deployment", "node", "provider", "account")},
}
"""what can be told apart and asked for, and its column"""
TIMES: Final = ("month", "day", "hour")
CACHE: Final = "cache"
BY: Final = (*PLACES, *TIMES, CACHE)
SENT: Final = frozenset({"deployment", "node", "provider", "account"})
"""Where these are told apart or asked for, `requests` counts what was sent there: attempts."""
MEASURES: Final = {
    "requests": "requests",
    "attempts": "attempts",
    "failures": "failures",
    "cache_hits": "cache_hits",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "cached_tokens",
    "cost_nano_usd": "cost",
    "cost_unknown_requests": "cost_unknown",
    "estimated_requests": "estimated",
    "energy_uwh": "energy",
    "energy_cost_nano_usd": "energy_cost",
    "duration_ms": "duration_ms",
}
"""what reports call the sums; `energy_uwh` becomes `energy_wh`"""
SHOWN: Final = tuple("energy_wh" if name == "energy_uwh" else name for name in MEASURES)
_DAY: Final = 86_400
_EPOCH: Final = date(1970, 1, 1)
_NAMES_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Question:
    """What is wanted to know."""

    by: tuple[str, ...]
    """told apart by these, in this order"""
    since: int
    """unix seconds"""
    until: int
    """hours that begin before this"""
    zone: tzinfo = UTC
    """of days, months and hours"""
    filters: Mapping[str, str] = field(default_factory=dict)
    """only what has these values; a key by its id or alias"""
    limit: int = 1_000
    """the most rows"""


@dataclass(frozen=True, slots=True)
class Report:
    """Rows as flat objects, and the sum of all, of those beyond `limit` too."""

    rows: list[dict[str, Any]]
    total: dict[str, Any]
    more: bool


def report(connection: Connection, question: Question) -> Report:
    """Rows by time, then the dearest and the busiest first."""
    chosen = _chosen(connection, question)
    sent = bool(SENT & {*question.by, *question.filters})
    if sent:
        chosen.append(or_(hourly.c.attempts > 0, hourly.c.cache_hits > 0))
    sums = [func.coalesce(func.sum(hourly.c[column]), 0).label(name) for name, column in MEASURES.items()]
    bounds = (func.min(hourly.c.hour).label("first"), func.max(hourly.c.hour).label("last"))
    whole = connection.execute(select(*sums, *bounds).where(*chosen)).mappings().one()
    query = _grouped(question, chosen, whole["first"] or 0, whole["last"] or 0)
    found = connection.execute(query).mappings().all()
    more = len(found) > question.limit
    rows = []
    for row in found[: question.limit]:
        named = _names(question, row)
        for cached, amounts in _split(_amounts(row, sent=sent), split=CACHE in question.by):
            rows.append({**named, **cached, **amounts} if cached else {**named, **amounts})
    if "key" in question.by:
        rows = _with_aliases(connection, rows)
    return Report([_in_order(question, row) for row in rows], _shown(_amounts(whole, sent=sent)), more)


def _chosen(connection: Connection, question: Question) -> list[ColumnElement[bool]]:
    chosen = [hourly.c.hour >= question.since // HOUR * HOUR, hourly.c.hour < question.until]
    for name, value in question.filters.items():
        wanted = value
        if name == "key" and (key := key_called(connection, value)) is not None:
            wanted = key.id
        chosen.append(PLACES[name] == wanted)
    return chosen


def _grouped(question: Question, chosen: list[ColumnElement[bool]], first: int, last: int) -> Select[Any]:
    """The sums by everything that is told apart. Times are numbers here: an hour, a day, a month."""
    names = [name for name in question.by if name != CACHE]
    columns = [
        (_time(name, question.zone, first, last) if name in TIMES else PLACES[name]).label(f"by_{name}")
        for name in names
    ]
    # Inside first, so that the outer part can group by a plain column on every database.
    inside = select(*columns, *(hourly.c[column] for column in MEASURES.values())).where(*chosen).subquery()
    groups = [inside.c[f"by_{name}"] for name in names]
    sums = {name: func.sum(inside.c[column]).label(name) for name, column in MEASURES.items()}
    outer = select(*groups, *sums.values())
    if not groups:
        return outer.having(func.count() > 0)
    times = [inside.c[f"by_{name}"] for name in names if name in TIMES]
    busiest = [sums[name].desc() for name in ("cost_nano_usd", "attempts", "requests")]
    return outer.group_by(*groups).order_by(*times, *busiest, *groups).limit(question.limit + 1)


# Times


def _time(name: str, zone: tzinfo, first: int, last: int) -> ColumnElement[int]:
    """An hour as the number of its local day since 1970, or of its month since the year 0."""
    if name == "hour":
        return hourly.c.hour
    if name == "day":
        return (hourly.c.hour + _stepped(_offsets(zone, first, last))) // _DAY
    return _stepped(_months(zone, first, last))


def _stepped(steps: Sequence[tuple[int, int]]) -> ColumnElement[int]:
    """A value that changes at certain times. `steps`: from when on, and what it is then."""
    *earlier, (_, newest) = steps
    following = [at for at, _ in steps[1:]]
    whens = [
        (hourly.c.hour < end, literal(value)) for end, (_, value) in zip(following, earlier, strict=True)
    ]
    return case(*whens, else_=literal(newest)) if whens else literal(newest)


def _offsets(zone: tzinfo, first: int, last: int) -> list[tuple[int, int]]:
    """From which hour on clocks were how many seconds ahead of UTC."""
    steps = [(first, _offset(zone, first))]
    at = first
    while at < last:
        after = min(at + _DAY, last)
        if _offset(zone, after) != steps[-1][1]:
            # Within this day the clocks were moved: the first hour after that.
            low = at
            while after - low > HOUR:
                middle = low + (after - low) // HOUR // 2 * HOUR
                low, after = (low, middle) if _offset(zone, middle) != steps[-1][1] else (middle, after)
            steps.append((after, _offset(zone, after)))
        at = after
    return steps


def _offset(zone: tzinfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return round(offset.total_seconds()) if offset is not None else 0


def _months(zone: tzinfo, first: int, last: int) -> list[tuple[int, int]]:
    """From when on it was which month."""
    here = datetime.fromtimestamp(first, zone).date().replace(day=1)
    steps = [(first, here.year * 12 + here.month - 1)]
    while True:
        here = (here + timedelta(days=31)).replace(day=1)
        begin = int(datetime(here.year, here.month, 1, tzinfo=zone).timestamp())
        if begin > last:
            return steps
        steps.append((begin, here.year * 12 + here.month - 1))


def _told(name: str, value: Any, zone: tzinfo) -> str:
    """A value that is told apart, as reports show it."""
    if name == "hour":
        return datetime.fromtimestamp(value, zone).isoformat(timespec="minutes")
    if name == "day":
        return (_EPOCH + timedelta(days=value)).isoformat()
    if name == "month":
        return f"{value // 12:04}-{value % 12 + 1:02}"
    return str(value)


# Rows


def _names(question: Question, row: RowMapping) -> dict[str, str]:
    return {name: _told(name, row[f"by_{name}"], question.zone) for name in question.by if name != CACHE}


def _amounts(row: RowMapping, *, sent: bool) -> dict[str, Any]:
    amounts: dict[str, Any] = {name: int(row[name]) for name in MEASURES}
    if sent:
        amounts["requests"] = amounts["attempts"]
    return amounts


def _split(amounts: dict[str, Any], *, split: bool) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """What came from the cache apart from the rest: it has no attempts and costs nothing."""
    if not split:
        yield {}, amounts
        return
    hits = amounts["cache_hits"]
    rest = {**amounts, "requests": max(0, amounts["requests"] - hits), "cache_hits": 0}
    if any(rest.values()):
        yield {CACHE: ""}, rest
    if hits:
        yield {CACHE: "hit"}, {**dict.fromkeys(amounts, 0), "requests": hits, "cache_hits": hits}


def _with_aliases(connection: Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ids = sorted({row["key"] for row in rows})
    aliases: dict[str, str] = {}
    for at in range(0, len(ids), _NAMES_AT_ONCE):
        named = access_key.c.id.in_(ids[at : at + _NAMES_AT_ONCE])
        query = select(access_key.c.id, access_key.c.alias).where(
            and_(named, access_key.c.alias.is_not(None))
        )
        aliases.update((row.id, row.alias) for row in connection.execute(query))
    return [{**row, "alias": aliases.get(row["key"], "")} for row in rows]


def _in_order(question: Question, row: dict[str, Any]) -> dict[str, Any]:
    names = [name for one in question.by for name in ((one, "alias") if one == "key" else (one,))]
    return {**{name: row[name] for name in names}, **_shown(row)}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        ("energy_wh" if name == "energy_uwh" else name): row[name] / 1e6
        if name == "energy_uwh"
        else row[name]
        for name in MEASURES
    }


# Entries


def entries(connection: Connection, limit: int, below: str | None = None) -> list[Entry]:
    """The latest entries, newest first; `below` a request id for older ones than that."""
    query = select(exchange).order_by(exchange.c.at.desc(), exchange.c.request_id.desc()).limit(limit)
    if below is not None:
        at = select(exchange.c.at).where(exchange.c.request_id == below).scalar_subquery()
        same = and_(exchange.c.at == at, exchange.c.request_id < below)
        query = query.where(or_(exchange.c.at < at, same))
    return [entry_of(dict(row)) for row in connection.execute(query).mappings()]
