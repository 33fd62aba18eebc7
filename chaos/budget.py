"""Five hundred requests at once, and a budget for a hundred of them: who is let in, at any instant."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import Engine, create_engine
from tests.support.postgres import postgres_running
from tests.support.redis import redis_running

from chaos import books
from chaos.load import Wish, at_once
from chaos.provider import Script
from chaos.stage import database, new_key, open_files, ready_in, staged, until
from fleetgate.store.sqlite import reading_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chaos.load import Told

REQUESTS: Final = 500
CAP: Final = 1_000_000_000
"""one dollar"""
TOKENS: Final = 5_000
"""of output, at most: a hundred such answers are what the budget allows"""
READ: Final = (
    "SELECT coalesce(sum(spent + held), 0) FROM "
    "(SELECT spent, held FROM counter UNION ALL SELECT spent, held FROM budget_lease) AS both_of_them"
)
"""in one statement, hence of one instant"""
GRANTED: Final = "SELECT coalesce(sum(granted), 0) FROM counter"


USED_UP: Final = "all of it used"
PARTLY: Final = "part of it used"
WAVES: Final = {USED_UP: 1, PARTLY: 4}
"""Where less is used than was held, the next ones can be let in."""


@dataclass
class Outcome:
    figures_: dict[str, Any] = field(default_factory=dict)
    verdict: books.Verdict = field(default_factory=books.Verdict)

    def figures(self) -> dict[str, Any]:
        return self.figures_


class Sampler:
    """Reads what is spent and held, as often as it can, in a thread of its own."""

    def __init__(self, read: Callable[[], tuple[int, int]]) -> None:
        self._read = read
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.samples = 0
        self.highest = 0
        self.granted = 0
        self.rising = 0
        """samples that were neither nothing nor the final value"""
        self._seen: Counter[int] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.rising = len(self._seen)

    def _run(self) -> None:
        while not self._ended.is_set():
            used, granted = self._read()
            self.samples += 1
            self._seen[used] += 1
            self.highest = max(self.highest, used)
            self.granted = max(self.granted, granted)


def run(directory: Path, seed: int, *, two: bool, requests: int = REQUESTS) -> Outcome:
    """`two`: two gateways over PostgreSQL and Redis."""
    outcome = Outcome()
    open_files(4 * requests + 200)
    for name, whole_price in ((USED_UP, True), (PARTLY, False)):
        place = directory / name.replace(" ", "-")
        place.mkdir()
        with _stores(two=two) as shared:
            script = Script(seed=seed, faults=0.0, slow=0.0, think=0.2, whole_price=whole_price)
            _race(place, script, shared, outcome, name, requests)
    return outcome


@contextlib.contextmanager
def _stores(*, two: bool) -> Iterator[dict[str, str]]:
    if not two:
        yield {}
        return
    with postgres_running() as postgres, redis_running() as redis:
        yield {"database": postgres.url, "shared_state": redis.url}


def _race(
    directory: Path, script: Script, shared: dict[str, str], outcome: Outcome, name: str, requests: int
) -> None:
    limits = [{"scope": "global", "money": "1 USD", "name": "a dollar"}]
    price = {"input": "0 USD/Mtok", "output": "2 USD/Mtok"}
    with staged(directory, script, limits=limits, gateway=shared) as (stage, provider):
        stage.blocks["providers"]["p"]["models"][0] |= {"price": price, "context": 100_000}
        gateways = [stage.gateway()]
        ready_in(gateways[0])
        if shared:
            gateways.append(stage.beside(gateways[0]))
            ready_in(gateways[1])
        key = new_key(gateways[0], "caller")
        for one in gateways:
            until_known(one, key)
        engine = _engine(shared, database(gateways[0]))
        wishes = [Wish("p/m", key, bool(n % 2), max_tokens=TOKENS) for n in range(requests)]
        parts = [wishes[number :: len(gateways)] for number in range(len(gateways))]
        with engine.connect() as connection:

            def read() -> tuple[int, int]:
                with connection.begin():
                    used = connection.exec_driver_sql(READ).scalar_one()
                    granted = connection.exec_driver_sql(GRANTED).scalar_one()
                return int(used), int(granted)

            with Sampler(read) as sampler:
                began = time.monotonic()
                told = [
                    one
                    for _ in range(WAVES[name])
                    for one in asyncio.run(_all(list(zip(gateways, parts, strict=True))))
                ]
                took = time.monotonic() - began
        journal = books.Journal(provider.journal, (0, 2_000))
        found = _settled(engine, journal)
        engine.dispose()
        _judge(outcome, name, told, sampler, found, journal, exact=script.whole_price)
        outcome.figures_[f"{name}: seconds"] = round(took, 2)
        for one in gateways:
            one.stop()


def until_known(gateway: Any, key: str) -> None:
    """Another gateway hears of a new key within a moment."""
    until(
        lambda: asyncio.run(at_once(gateway.port, [Wish("box/m", key)]))[0].status == 200, "the key is known"
    )


async def _all(parts: list[tuple[Any, list[Wish]]]) -> list[Told]:
    found = await asyncio.gather(*(at_once(gateway.port, wishes) for gateway, wishes in parts))
    return [told for part in found for told in part]


def _engine(shared: dict[str, str], file: Path) -> Engine:
    if not shared:
        return reading_engine(file)
    address = shared["database"].replace("postgresql:", "postgresql+psycopg:")
    return create_engine(address, isolation_level="REPEATABLE READ")


def _settled(engine: Engine, journal: books.Journal) -> books.Books:
    """The ledger, once nothing is open any more."""

    def closed() -> books.Books | None:
        with engine.connect() as connection, connection.begin():
            if connection.exec_driver_sql("SELECT count(*) FROM open_request").scalar_one():
                return None
            return books.read(connection)

    found: books.Books = until(closed, "no request is open")
    journal.read()
    return found


def _judge(
    outcome: Outcome,
    name: str,
    told: list[Told],
    sampler: Sampler,
    found: books.Books,
    journal: books.Journal,
    *,
    exact: bool,
) -> None:
    verdict = outcome.verdict
    books.compare(found, journal, verdict)
    books.compare_told(found, journal, told, None, verdict)
    admitted = [one for one in told if one.status == 200]
    refused = [one for one in told if one.status == 429]
    for what, value in (("spent and held", sampler.highest), ("granted", sampler.granted)):
        if value > CAP:
            verdict.breaks("over cap", f"{name}: {what} {value / 1e9:.9f} of 1 USD")
    if exact and len(admitted) > CAP // (2_000 * TOKENS):
        verdict.breaks("admitted", f"{name}: {len(admitted)}")
    for one in refused:
        if one.code != "limit_reached" or one.should_retry != "false":
            verdict.breaks("refusals", f"{name}: {one.code}, x-should-retry {one.should_retry}")
    others = Counter((one.status, one.code) for one in told if one.status not in (200, 429))
    if others or not all(one.whole for one in told):
        verdict.breaks("answers", f"{name}: {dict(others)}, cut {sum(not one.whole for one in told)}")
    outcome.figures_ |= {
        f"{name}: answered": len(admitted),
        f"{name}: refused": len(refused),
        f"{name}: highest spent + held, USD": round(sampler.highest / 1e9, 6),
        f"{name}: highest granted, USD": round(sampler.granted / 1e9, 6),
        f"{name}: samples": sampler.samples,
        f"{name}: different values seen": sampler.rising,
    }
