"""`kill -9` at random instants under load: what is charged afterwards, and how soon it is ready again."""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench.rig import cpu_of

from chaos import books
from chaos.load import Load, Wish
from chaos.provider import Script
from chaos.stage import admin, database, new_key, ready_in, staged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.process import RunningGateway

CALLERS: Final = 40
READY_WITHIN: Final = 3.0
CAP: Final = "20 USD"
THRIFTY: Final = "0.02 USD"
"""budget of one key: small enough to be reached while gateways die"""


@dataclass
class Outcome:
    times: int = 0
    ready: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """seconds that a start needs of a core, whatever else runs"""
    verdict: books.Verdict = field(default_factory=books.Verdict)

    def figures(self) -> dict[str, Any]:
        return {
            "kills": self.times,
            "ready p50 s": round(statistics.median(self.ready), 3),
            "ready max s": round(max(self.ready), 3),
            "CPU until ready, max s": round(max(self.cpu), 3),
            **dict(sorted(self.verdict.figures.items())),
        }


def wishes(keys: list[str], leaving: float = 0.03) -> Callable[[random.Random], Wish]:
    def wish(chance: random.Random) -> Wish:
        model = chance.choices(("r", "p/m", "box/m"), (5, 3, 2))[0]
        return Wish(model, chance.choice(keys), chance.random() < 0.5, chance.random() < leaving)

    return wish


def run(directory: Path, times: int, seed: int, *, longest: float = 2.0) -> Outcome:
    """So many kills. `longest`: seconds of load before one."""
    outcome = Outcome()
    chance = random.Random(seed)
    limits = [
        {"scope": "global", "money": CAP, "name": "everything"},
        {"scope": {"key": "*"}, "requests": 1_000_000, "per": "day"},
        {"scope": {"key": "*"}, "requests": 1_000_000, "per": "minute", "name": "pace"},
    ]
    with staged(directory, Script(seed=seed), limits=limits) as (stage, provider):
        gateway = stage.gateway()
        ready_in(gateway)
        keys = [new_key(gateway, f"key-{number}") for number in range(3)]
        keys.append(new_key(gateway, "thrifty", {"money": THRIFTY}))
        ceilings = books.ceilings(admin(gateway, "limits")["rows"])
        journal = books.Journal(provider.journal)
        for number in range(times):
            load = Load(wishes(keys), CALLERS)
            killed = asyncio.run(_until_killed(load, gateway, chance, longest))
            outcome.times += 1
            outcome.ready.append(ready_in(gateway))
            outcome.cpu.append(cpu_of(gateway.pid))
            if outcome.ready[-1] > READY_WITHIN:
                outcome.verdict.breaks("late starts", f"ready after {outcome.ready[-1]:.2f} s")
            journal.read()
            found = books.read_file(database(gateway), directory / "copy.db")
            fresh = _Fresh(outcome.verdict)
            books.compare(found, journal, fresh.verdict)
            books.compare_told(found, journal, load.told, killed, fresh.verdict)
            books.check_ceilings(found, ceilings, fresh.verdict)
            fresh.add(total=number == times - 1)
            _say(number, times, outcome, fresh.verdict)
        checked = admin(gateway, "budget/check")
        if not checked["ok"]:
            outcome.verdict.breaks("findings", str(checked["findings"]))
        gateway.stop()
    return outcome


@dataclass
class _Fresh:
    """The verdict over everything so far. Its sums count at the end only, what is broken at once."""

    total: books.Verdict
    verdict: books.Verdict = field(default_factory=books.Verdict)

    def add(self, *, total: bool) -> None:
        each = ("answered", "late estimates", "late rows")
        sums = ("attempts", "estimated", "ended by the next start")
        for name in each:
            self.total.figures[name] += self.verdict.figures[name]
        for name in sums if total else ():
            self.total.figures[name] = self.verdict.figures[name]
        known = set(self.total.broken)
        for text in self.verdict.broken:
            if text not in known:
                self.total.breaks(*_named(text))
        for name in FIGURES:
            self.total.figures[name] += 0


FIGURES: Final = ("missing", "doubled", "wrong", "refunded", "inexact", "lost rows", "over cap", "findings")


def _named(text: str) -> tuple[str, str]:
    name, _, rest = text.partition(": ")
    return name, rest


async def _until_killed(load: Load, gateway: RunningGateway, chance: random.Random, longest: float) -> float:
    """Kill it at a random instant; when that was."""
    running = asyncio.get_running_loop().create_task(load.run(gateway.port, chance.randrange(10**6)))
    await asyncio.sleep(chance.uniform(0.2, longest))
    killed = time.monotonic()
    gateway.kill()
    load.stopped = True
    await running
    return killed


def _say(number: int, times: int, outcome: Outcome, verdict: books.Verdict) -> None:
    figures = verdict.figures
    print(
        f"kill {number + 1} of {times}: ready in {outcome.ready[-1]:.2f} s, "
        f"{figures['attempts']} attempts so far, {figures['ended by the next start']} ended by a start, "
        f"{len(outcome.verdict.broken)} broken",
        file=sys.stderr,
        flush=True,
    )
