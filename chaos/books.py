"""Three records of the same requests, compared: the provider's journal, the ledger, the callers' own.

The journal is written to the disk by the provider before it answers, so what is in it has been sent. What is
allowed: a dispatch without a line, where the gateway died in between or the caller left; it is released or
marked as estimated then. What is not: a line without a dispatch, two charges for one line, another cost than
the line says, and a refund of what was answered.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from chaos.provider import OK
from chaos.stage import PRICE
from fleetgate.store import leases, ledger
from fleetgate.store.hourly import hours, verify_hour
from fleetgate.store.sqlite import reading_engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from chaos.load import Told

GRACE: Final = 0.25
"""Seconds before a kill whose answers may be charged by estimate."""


@dataclass(slots=True)
class Line:
    """One attempt as the provider saw it."""

    what: str
    cost: int
    began: float
    ended: float | None = None


@dataclass
class Journal:
    """Read as it grows."""

    path: Path
    price: tuple[int, int] = PRICE
    lines: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))
    _by_number: dict[int, Line] = field(default_factory=dict)
    _read: int = 0

    def read(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for one in map(json.loads, whole.splitlines()):
            if "end" in one:
                self._by_number[one["end"]].ended = one["at"]
                continue
            given, made = one["tokens"]
            line = Line(one["what"], given * self.price[0] + made * self.price[1], one["at"])
            self._by_number[one["n"]] = line
            self.lines[one["id"]].append(line)

    @property
    def attempts(self) -> int:
        return len(self._by_number)


@dataclass(slots=True)
class Attempt:
    """One attempt as the ledger has it."""

    dispatched: bool = False
    released: bool = False
    settled: int | None = None
    estimated: bool = False
    recovered: bool = False
    """another run than the one that sent it ended it"""


@dataclass
class Books:
    """What the ledger says, of one instant."""

    attempts: dict[str, dict[int, Attempt]]
    costs: dict[str, int]
    """of the exchanges"""
    counters: list[leases.Count]
    findings: list[str]


def read(connection: Connection) -> Books:
    attempts: dict[str, dict[int, Attempt]] = defaultdict(lambda: defaultdict(Attempt))
    query = "SELECT request_id, attempt, kind, run, amount, estimated FROM money_event ORDER BY seq"
    runs = {}
    rows = connection.exec_driver_sql(query).all()
    for request_id, number, kind, run, *_ in rows:
        if kind == "dispatch":
            runs[request_id, number] = run
    for request_id, number, kind, run, amount, estimated in rows:
        one = attempts[request_id][number]
        one.dispatched |= kind == "dispatch"
        one.released |= kind == "release"
        one.estimated |= bool(estimated)
        if kind in ("settle", "adjust"):
            one.settled = (one.settled or 0) + amount
        if kind in ("settle", "release"):
            one.recovered = run != runs.get((request_id, number))
    costs = {row[0]: row[1] for row in connection.exec_driver_sql("SELECT request_id, cost FROM exchange")}
    findings = list(ledger.check(connection))
    for hour in list(hours(connection)):
        findings += verify_hour(connection, hour, _nothing)
    return Books(attempts, costs, leases.counts(connection), findings)


def _nothing() -> None:
    """No rest: nobody is served by this process."""


def read_file(database: Path, copy: Path) -> Books:
    """Of a copy, so that nothing here can be in the way of a running gateway."""
    copy.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        findings = [row[0] for row in target.execute("PRAGMA integrity_check") if row[0] != "ok"]
    engine = reading_engine(copy)
    try:
        with engine.connect() as connection:
            books = read(connection)
    finally:
        engine.dispose()
    books.findings += findings
    return books


@dataclass
class Verdict:
    """Figures, and each promise that was broken in words."""

    figures: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def breaks(self, figure: str, text: str) -> None:
        self.figures[figure] += 1
        self.broken.append(f"{figure}: {text}")


def compare(books: Books, journal: Journal, verdict: Verdict, ids: Iterable[str] | None = None) -> None:
    """The journal against the ledger, request by request."""
    for request_id in set(ids if ids is not None else [*journal.lines, *books.attempts]):
        lines = journal.lines.get(request_id, [])
        attempts = list(books.attempts.get(request_id, {}).values())
        _compare_one(request_id, lines, [one for one in attempts if one.dispatched], verdict)
        charged = sum(one.settled or 0 for one in attempts)
        cost = books.costs.get(request_id)
        if cost is not None and cost != charged:
            verdict.breaks("wrong", f"{request_id}: the entry says {cost}, its events {charged}")
    verdict.broken += [f"findings: {finding}" for finding in books.findings]
    verdict.figures["findings"] += len(books.findings)


def _compare_one(request_id: str, lines: Sequence[Line], sent: Sequence[Attempt], verdict: Verdict) -> None:
    unsure = [one for one in sent if one.released or one.estimated]
    exact = Counter(one.settled for one in sent if not one.released and not one.estimated)
    true = Counter(line.cost for line in lines if line.what == OK)
    verdict.figures["attempts"] += len(lines)
    verdict.figures["estimated"] += sum(one.estimated for one in sent)
    verdict.figures["ended by the next start"] += sum(one.recovered for one in sent)
    if len(lines) > len(sent):
        verdict.breaks("missing", f"{request_id}: {len(lines)} attempts sent, {len(sent)} in the ledger")
    surplus = len(sent) - len(lines)
    if surplus > len(unsure):
        verdict.breaks("doubled", f"{request_id}: {len(sent)} in the ledger, {len(lines)} sent")
    if exact - true:
        verdict.breaks("wrong", f"{request_id}: charged {dict(exact)}, answered {dict(true)}")
    refused = sum(line.what in ("429", "500") for line in lines)
    released = sum(one.released for one in sent)
    if released > refused + max(0, surplus):
        verdict.breaks("refunded", f"{request_id}: {released} given back, {refused} refused")


def compare_told(
    books: Books, journal: Journal, told: Iterable[Told], until: float | None, verdict: Verdict
) -> None:
    """The callers' record against the other two. `until`: when the gateway was killed."""
    for one in told:
        if not one.answered:
            continue
        verdict.figures["answered"] += 1
        late = until is not None and one.ended > until - GRACE
        if one.request_id not in books.costs:
            if not late:
                verdict.breaks("lost rows", f"{one.request_id} was answered and has no entry")
            else:
                verdict.figures["late rows"] += 1
        lines = [line for line in journal.lines.get(one.request_id, []) if line.what == OK]
        if not lines:
            continue
        attempts = books.attempts.get(one.request_id, {}).values()
        exact = [each.settled for each in attempts if not each.released and not each.estimated]
        if lines[-1].cost not in exact:
            if not late:
                verdict.breaks("inexact", f"{one.request_id} was answered in time, charged {exact}")
            else:
                verdict.figures["late estimates"] += 1


def check_ceilings(books: Books, ceilings: Mapping[str, int], verdict: Verdict) -> None:
    for count in books.counters:
        ceiling = ceilings.get(count.counter.partition("@")[0])
        if ceiling is not None and max(count.spent + count.held, count.granted) > ceiling:
            verdict.breaks("over cap", f"{count} is above {ceiling}")


def ceilings(limits: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Of lasting limits, by id; from the rows of the admin API."""
    return {row["id"]: row["ceiling"] for row in limits}
