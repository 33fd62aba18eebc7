"""Sums of the ledger by hour: kept with every entry, so that reports never read the entries themselves.

Rules: `add` runs in the transaction that adds the entries' own rows, for those that were really added,
so a sum and what it was made of are there together or not at all. An attempt counts where it was sent:
its tokens, cost and energy stand at its deployment. An exchange counts once (`requests`), at the
deployment that answered or was tried last, else at none. Answers from the cache are `cache_hits` and
have no tokens: nobody is billed for them.

Amounts and sums end at `MOST`, so that no absurd figure of an upstream can stop the ledger.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, select

from fleetgate.domain import Usage
from fleetgate.store.rows import LONGEST, bent, entry_of, micros
from fleetgate.store.schema import exchange, hourly, meta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Connection

    from fleetgate.domain import Attempt, Entry

Place = tuple[Any, ...]
"""hour, key, person, team, model, deployment, node, provider, account"""
Sums = dict[Place, list[int]]

HOUR: Final = 3_600
"""seconds"""
MOST: Final = 10**15
"""of anything in one row: a million dollars, in nano-dollars. Thousands of such rows still fit a sum."""
PLACE: Final = tuple(column.name for column in hourly.primary_key)
AMOUNTS: Final = tuple(column.name for column in hourly.columns if not column.primary_key)
(
    _REQUESTS,
    _ATTEMPTS,
    _FAILURES,
    _CACHE_HITS,
    _INPUT,
    _OUTPUT,
    _CACHED,
    _COST,
    _COST_UNKNOWN,
    _ESTIMATED,
    _ENERGY,
    _ENERGY_COST,
    _DURATION,
) = range(len(AMOUNTS))

UNKNOWN_MODEL: Final = "model_not_found"
"""outcome of a request for a name that nobody has given: it is not a name to keep sums of"""
KEPT_FROM: Final = "ledger_kept_from"
"""Name of the value in `meta` that says since when entries are kept (unix seconds, a whole hour)."""
_NOWHERE: Final = ("", "", "", "")
_NOTHING: Final = Usage()
_ROWS: Final = (32, 8, 1)
"""rows of one statement: few texts, each prepared once"""
_AT_A_TIME: Final = 500
_MOST_FINDINGS: Final = 50
_MOST_READS: Final = 5


def add(connection: Connection, entries: Sequence[Entry]) -> None:
    """Adds what these exchanges were to the sums of their hours. Each exchange only once."""
    try:
        sums = summed(entries)
    except (ValueError, OverflowError):  # a time that is none
        sums = summed([bent(entry) for entry in entries])
    # Always in the same order: two gateways that touch the same rows wait for each other, and no more.
    _put(connection, sorted(sums.items()))


def summed(entries: Iterable[Entry]) -> Sums:
    """The same sums in memory."""
    sums: Sums = {}
    for entry in entries:
        at = entry.at
        if not -LONGEST <= at <= LONGEST:
            raise ValueError(at)
        model = "" if entry.outcome == UNKNOWN_MODEL else _text(entry.model)
        hour = round(at * 1e3) // 3_600_000 * HOUR
        who = (hour, entry.principal, entry.user or "", entry.team or "", model)
        lone = _attempt_of_usage(entry)
        last = None
        for attempt in entry.attempts:
            place = (*who, *_where(attempt.deployment, attempt.account))
            if attempt.deployment == entry.deployment or entry.deployment is None:
                last = place
            if attempt.dispatched:
                _count(_row(sums, place), attempt, entry.usage if attempt is lone else attempt.usage)
        if last is None:
            last = (*who, *_where(entry.deployment, None))
        row = _row(sums, last)
        row[_REQUESTS] += 1
        if entry.cache:
            row[_CACHE_HITS] += 1
    return sums


def _row(sums: Sums, place: Place) -> list[int]:
    row = sums.get(place)
    if row is None:
        row = sums[place] = [0] * len(AMOUNTS)
    return row


def _count(row: list[int], attempt: Attempt, usage: Usage) -> None:
    row[_ATTEMPTS] += 1
    if attempt.outcome != "ok":
        row[_FAILURES] += 1
    if usage is not _NOTHING:
        row[_INPUT] += _within(usage.input_tokens)
        row[_OUTPUT] += _within(usage.output_tokens)
        row[_CACHED] += _within(usage.cached_tokens)
    if attempt.cost:
        row[_COST] += _within(attempt.cost)
    elif attempt.cost is None:
        row[_COST_UNKNOWN] += 1
    if attempt.estimated or usage.estimated:
        row[_ESTIMATED] += 1
    if attempt.energy or attempt.energy_cost:
        row[_ENERGY] += _within(attempt.energy)
        row[_ENERGY_COST] += _within(attempt.energy_cost)
    row[_DURATION] += _within((micros(attempt.ended) - micros(attempt.began)) // 1_000)


def _attempt_of_usage(entry: Entry) -> Attempt | None:
    """Where only the exchange knows what was used: the attempt that used it.

    That is the last one that went well, else the last one that was sent.
    """
    usage = entry.usage
    if entry.cache or usage == _NOTHING:
        return None
    sent = [attempt for attempt in entry.attempts if attempt.dispatched]
    if not sent or any(attempt.usage is usage or attempt.usage != _NOTHING for attempt in sent):
        return None
    return next((attempt for attempt in reversed(sent) if attempt.outcome == "ok"), sent[-1])


def _where(deployment: str | None, account: str | None) -> tuple[str, str, str, str]:
    """Deployment, node, provider, account. Only providers have accounts in the sums.

    `node/engine/model` and `provider/model` look alike, as models have names with `/`. What was sent to
    a provider has its account; the account of an engine is called like the engine, `node/engine`.
    """
    if deployment is None:
        return _NOWHERE
    deployment = _text(deployment)
    first = deployment.partition("/")[0]
    if account is None or ("/" in account and deployment.startswith(f"{account}/")):
        return (deployment, first, "", "")
    return (deployment, "", first, account)


def _within(amount: int | None) -> int:
    if not amount or amount < 0:
        return 0
    return min(amount, MOST)


def _text(text: str) -> str:
    """What every database takes as text."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


# Rows


def _put(connection: Connection, rows: list[tuple[Place, list[int]]]) -> None:
    """Many rows in one statement: each costs the interpreter's lock once."""
    mark = "%s" if connection.dialect.paramstyle == "pyformat" else "?"
    at = 0
    for size in _ROWS:
        while len(rows) - at >= size:
            values: list[Any] = []
            for place, amounts in rows[at : at + size]:
                values += place
                values += amounts if max(amounts) <= MOST else [min(amount, MOST) for amount in amounts]
            connection.exec_driver_sql(_statement(size, mark), tuple(values))
            at += size


@cache
def _statement(rows: int, mark: str) -> str:
    row = "(" + ", ".join([mark] * (len(PLACE) + len(AMOUNTS))) + ")"
    added = ", ".join(
        f"{name} = CASE WHEN hourly.{name} + excluded.{name} > {MOST} THEN {MOST} "
        f"ELSE hourly.{name} + excluded.{name} END"
        for name in AMOUNTS
    )
    return (
        f"INSERT INTO hourly ({', '.join(PLACE + AMOUNTS)}) VALUES {', '.join([row] * rows)} "  # noqa: S608
        f"ON CONFLICT ({', '.join(PLACE)}) DO UPDATE SET {added}"
    )


# Against what they were made of


def hours(connection: Connection, since: int = 0, until: int = MOST) -> Iterator[int]:
    """Hours with sums or entries, as far back as entries are kept. Two quick looks for each."""
    hour = max(since, kept_from(connection)) - HOUR
    while True:
        at = hour + HOUR
        summed_next = connection.execute(select(func.min(hourly.c.hour)).where(hourly.c.hour >= at)).scalar()
        entry_next = connection.execute(
            select(func.min(exchange.c.at)).where(exchange.c.at >= at * 1_000)
        ).scalar()
        found = [one for one in (summed_next, entry_next and hour_of(entry_next)) if one is not None]
        if not found or min(found) >= until:
            return
        hour = min(found)
        yield hour


def hour_of(at: int) -> int:
    """The hour of an entry, whose time is in milliseconds."""
    return at // 3_600_000 * HOUR


def kept_from(connection: Connection) -> int:
    """Since when entries are kept: sums of earlier hours can no longer be compared, or made again."""
    value = connection.execute(select(meta.c.value).where(meta.c.name == KEPT_FROM)).scalar()
    return int(value) if value is not None else 0


def verify(connection: Connection, breathe: Callable[[], None] | None = None) -> list[str]:
    """What is wrong with the sums, one line each; the first few of many."""
    findings: list[str] = []
    for hour in hours(connection):
        findings += verify_hour(connection, hour, breathe)
        if len(findings) >= _MOST_FINDINGS:
            return [*findings[:_MOST_FINDINGS], "there is more"]
    return findings


def verify_hour(connection: Connection, hour: int, breathe: Callable[[], None] | None = None) -> list[str]:
    """The same for one hour. `breathe` is called now and then, so that others get their turn.

    Gateways may go on writing. Where the sums were the same before and after the entries were read,
    nothing came between: each new entry changes them.
    """
    before = _stored(connection, hour)
    for _ in range(_MOST_READS):
        made = _made(connection, hour, breathe)
        after = _stored(connection, hour)
        if before == after:
            kept = hour >= kept_from(connection)  # they may have begun to go in the meantime
            return list(_differences(hour, after, made)) if kept else []
        before = after
    return []  # the hour is too busy: tomorrow it is over


def rebuild(connection: Connection, hour: int) -> None:
    """Makes the sums of one hour again from its entries. In a transaction that may write."""
    if hour < kept_from(connection):
        raise ValueError(f"the entries of {_moment(hour)} are not kept any more")
    if connection.dialect.name == "postgresql":  # SQLite has one writer, and this is it
        connection.exec_driver_sql("LOCK TABLE hourly IN SHARE ROW EXCLUSIVE MODE")
    made = _made(connection, hour)
    connection.execute(delete(hourly).where(hourly.c.hour == hour))
    _put(connection, sorted(made.items()))


def _stored(connection: Connection, hour: int) -> Sums:
    rows = connection.execute(select(hourly).where(hourly.c.hour == hour)).all()
    edge = len(PLACE)
    return {tuple(row[:edge]): list(row[edge:]) for row in rows}


def _made(connection: Connection, hour: int, breathe: Callable[[], None] | None = None) -> Sums:
    query = select(exchange).where(exchange.c.at >= hour * 1_000, exchange.c.at < (hour + HOUR) * 1_000)
    made: Sums = {}
    rows = connection.execute(query.execution_options(yield_per=_AT_A_TIME)).mappings()
    for part in rows.partitions():
        for place, amounts in summed(entry_of(dict(row)) for row in part).items():
            made[place] = [a + b for a, b in zip(made.get(place, [0] * len(AMOUNTS)), amounts, strict=True)]
        if breathe is not None:
            breathe()
    return {place: [min(amount, MOST) for amount in amounts] for place, amounts in made.items()}


def _differences(hour: int, stored: Sums, made: Sums) -> Iterator[str]:
    nothing = [0] * len(AMOUNTS)
    for place in sorted(stored.keys() | made.keys()):
        has, should = stored.get(place, nothing), made.get(place, nothing)
        wrong = [
            f"{name} {a} where the entries say {b}"
            for name, a, b in zip(AMOUNTS, has, should, strict=True)
            if a != b
        ]
        if wrong:
            named = ", ".join(f"{n} {v}" for n, v in zip(PLACE[1:], place[1:], strict=True) if v)
            yield f"the sums of {_moment(hour)} ({named or 'nobody'}): {', '.join(wrong)}"


def _moment(hour: int) -> str:
    try:
        return datetime.fromtimestamp(hour, UTC).strftime("%Y-%m-%d %H:00 UTC")
    except (ValueError, OverflowError, OSError):
        return f"the hour {hour}"
