"""The part of the admin API about what was used: sums by whatever is asked for, and the latest entries."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final, Literal

from fleetgate import units
from fleetgate.errors import Refused
from fleetgate.http import answers, forms
from fleetgate.http.currency import currency_of
from fleetgate.http.parameters import Parameter
from fleetgate.http.table import Access, Row
from fleetgate.keys.changes import read
from fleetgate.store import usage
from fleetgate.store.hourly import HOUR
from fleetgate.store.usage import BY, PLACES, Question, Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from fleetgate.config.money import Currency
    from fleetgate.domain import Attempt, Entry, Usage
    from fleetgate.http.call import Call
    from fleetgate.store.database import Store

DEFAULT_BY: Final = ("key", "model", "deployment")
DEFAULT_SINCE: Final = "30d"
DEFAULT_ROWS: Final = 1_000
MOST_ROWS: Final = 20_000
MOST_ENTRIES: Final = 1_000
FORMATS: Final = ("json", "csv")
DAY: Final = 86_400
SUMS: Final = (
    Parameter("by", f"what is told apart, with commas between: {', '.join(BY)}"),
    Parameter("since", f"a time ago such as 7d, or a date; {DEFAULT_SINCE} if not said"),
    Parameter("until", "the same; now if not said"),
    Parameter("zone", "of days, months and hours; UTC if not said"),
    Parameter("limit", f"at most so many rows; {MOST_ROWS} at the most", forms.Number),
    Parameter("format", "JSON if not said", Literal["json", "csv"]),
    *(Parameter(name, f"only what has this {name}") for name in PLACES),
)
LATEST: Final = (
    Parameter("limit", f"at most so many entries; {MOST_ENTRIES} at the most", forms.Number),
    Parameter("below", "only entries older than the one with this request id"),
)
_TIME: Final = re.compile(r"(\d{4})-(\d\d)(-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?)?")
_TIMES_MEAN: Final = (
    "Write a time ago such as 7d or 12h, or a date such as 2026-11, 2026-11-01, 2026-11-01T08:00."
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def rows(store: Store) -> Iterator[Row]:
    async def used(call: Call) -> None:
        query = call.query()
        question = _question(query, call.gateway.wall())
        form = query.get("format", "json")
        if form not in FORMATS:
            raise _wrong("format", f"`format` is {' or '.join(FORMATS)}, not {form[:50]!r}")

        def look(connection: Connection) -> tuple[Report, bytes]:
            found = usage.report(connection, question)
            return found, as_csv(columns(question.by), found.rows).encode() if form == "csv" else b""

        found, text = await read(store, look)
        if form == "csv":
            await call.reply(200, _csv_headers(more=found.more), text)
        else:
            await call.json(_document(question, found, call.gateway.settings.currency))

    async def exchanges(call: Call) -> None:
        query = call.query()
        limit = _number(query.get("limit", "100"), "limit", MOST_ENTRIES)
        below = query.get("below")
        found = await read(store, lambda connection: usage.entries(connection, limit, below))
        await call.json({"rows": [entry_row(entry) for entry in found]})

    yield Row(
        "GET",
        "/admin/api/usage",
        Access.VIEWER,
        used,
        f"What was used: sums by `?by=` ({', '.join(BY)}), `?since=`, `?until=`, `?zone=`, `?limit=`, of one "
        f"{', '.join(PLACES)} if said; `?format=csv`.",
        store="503",
        query=SUMS,
        gives=answers.Usage,
        media=("text/csv",),
    )
    yield Row(
        "GET",
        "/admin/api/exchanges",
        Access.VIEWER,
        exchanges,
        "The latest entries of the ledger with their attempts; `?limit=`, `?below=ID` for older ones.",
        store="503",
        query=LATEST,
        gives=answers.Exchanges,
    )


# What is asked


def _question(query: Mapping[str, str], now: float) -> Question:
    """Raises Refused (400): a question that is misunderstood would get a wrong answer, not none."""
    zone = _zone(query.get("zone", "UTC"))
    until = _moment(query["until"], "until", now, zone) if "until" in query else now
    since = _moment(query.get("since", DEFAULT_SINCE), "since", now, zone)
    if since >= until:
        raise _wrong("since", "`since` is not before `until`: nothing lies between them")
    limit = _number(query.get("limit", str(DEFAULT_ROWS)), "limit", MOST_ROWS)
    filters = {name: query[name] for name in PLACES if name in query}
    # Nothing lies beyond tomorrow, and days have to be counted up to there.
    until = min(int(until), int(now) + DAY)
    return Question(_by(query), max(0, int(since)), until, zone, filters, limit)


def _by(query: Mapping[str, str]) -> tuple[str, ...]:
    if "by" not in query:
        return DEFAULT_BY
    found = tuple(dict.fromkeys(name.strip() for name in query["by"].split(",") if name.strip()))
    for name in found:
        if name not in BY:
            advice = f"What can be told apart: {', '.join(BY)}."
            raise _wrong("by", f"nothing is summed by {name[:50]!r}", advice=advice)
    return found


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return units.zone(name[:100])
    except ValueError as error:
        raise _wrong("zone", str(error)) from None


def _moment(text: str, name: str, now: float, zone: tzinfo) -> float:
    """Unix seconds of a time ago, or of the begin of what is written."""
    try:
        match = _TIME.fullmatch(text)
        if match is None:
            return now - units.duration(text)
        whole = text if match[3] else f"{text}-01"
        found = datetime.fromisoformat(whole)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        raise _wrong(name, f"`{name}` is no time: {text[:50]!r}", advice=_TIMES_MEAN) from None


def _number(text: str, name: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18) or int(text) < 1:
        raise _wrong(name, f"`{name}` must be a number from 1 to {most}: {text[:50]!r}")
    return min(int(text), most)


def _wrong(name: str, message: str, *, advice: str = "") -> Refused:
    return Refused(400, "malformed", message, advice=advice, param=name)


# What is answered


def _document(question: Question, found: Report, currency: Currency | None) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "total": found.total,
        "more": found.more,
        "by": question.by,
        "since": _when(question.since // HOUR * HOUR * 1_000, question.zone),
        "until": _when(question.until * 1_000, question.zone),
        "zone": str(question.zone),
        "currency": currency_of(currency),
    }


def columns(by: Iterable[str]) -> list[str]:
    """The names in a row, in their order."""
    names = [name for one in by for name in ((one, "alias") if one == "key" else (one,))]
    return [*names, *usage.SHOWN]


def as_csv(columns: Sequence[str], found: Iterable[Mapping[str, Any]]) -> str:
    """Rows for a spreadsheet. No cell becomes a formula there: names come from callers and engines."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in found:
        writer.writerow([_cell(row[name]) for name in columns])
    return out.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _csv_headers(*, more: bool) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"content-type", b"text/csv; charset=utf-8"),
        (b"content-disposition", b'attachment; filename="usage.csv"'),
        (b"x-fleetgate-more", b"true" if more else b"false"),
    )


def entry_row(entry: Entry) -> dict[str, Any]:
    """An entry of the ledger as a flat object with its attempts. What nobody knows is null."""
    return {
        "request_id": entry.request_id,
        "at": _when(round(entry.at * 1e3), UTC),
        "key": entry.principal,
        "user": entry.user,
        "team": entry.team,
        "end_user": entry.end_user,
        "tags": entry.tags,
        "route": entry.route,
        "model": entry.model,
        "deployment": entry.deployment,
        "status": entry.status,
        "outcome": entry.outcome,
        "note": entry.note,
        "cache": entry.cache,
        "streamed": entry.streamed,
        "duration_ms": _millis(entry.duration),
        "first_content_ms": _millis(entry.first_content),
        **_tokens(entry.usage),
        "cost_nano_usd": entry.cost,
        "cost_unknown": entry.cost_unknown,
        "energy_wh": sum(attempt.energy for attempt in entry.attempts) / 1e6,
        "energy_cost_nano_usd": sum(attempt.energy_cost for attempt in entry.attempts),
        "bytes_in": entry.bytes_in,
        "bytes_out": entry.bytes_out,
        "attempts": [_attempt_row(attempt) for attempt in entry.attempts],
    }


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "step": attempt.step,
        "deployment": attempt.deployment,
        "account": attempt.account,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "dispatched": attempt.dispatched,
        "began_ms": _millis(attempt.began),
        "ended_ms": _millis(attempt.ended),
        "first_content_ms": _millis(attempt.first_content),
        "text": attempt.text,
        **_tokens(attempt.usage),
        "cost_nano_usd": attempt.cost,
        "cost_estimated": attempt.estimated,
        "price": attempt.price,
        "energy_wh": attempt.energy / 1e6,
        "energy_cost_nano_usd": attempt.energy_cost,
    }


def _tokens(used: Usage) -> dict[str, Any]:
    return {
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "cached_tokens": used.cached_tokens,
        "tokens_estimated": used.estimated,
    }


def _millis(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e3)


def _when(at: int, zone: tzinfo) -> str:
    """Unix milliseconds as ISO 8601; a time beyond the calendar as a number."""
    try:
        found = datetime.fromtimestamp(at / 1e3, zone)
    except (ValueError, OverflowError, OSError):
        return str(at)
    return found.isoformat(timespec="milliseconds" if at % 1_000 else "seconds").replace("+00:00", "Z")
