"""Whole requests: how many per second on one core, what each costs, how long it takes, and the memory."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import load, parts
from bench.rig import Missing, Rig, cores, find

if TYPE_CHECKING:
    from bench.rig import Running

WARM_UP: Final = 1.0
"""Seconds of load before anything counts."""
MANY: Final = 32


@dataclass(frozen=True, slots=True)
class Figures:
    """What one program did with whole requests. Latencies in milliseconds."""

    per_second: float
    cpu_us: float
    """CPU microseconds per request, all threads"""
    p50: float
    p99: float
    alone_p50: float
    """over one connection"""
    failed: int
    answered: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that whole requests tell. Memory in bytes, times in seconds."""

    gateway: Figures
    nginx: Figures | None
    direct_alone_p50: float
    """the upstream without anything in between, one connection"""
    memory_idle: int
    memory_after: int
    ready_first: float
    """with an empty state directory"""
    ready: float
    lost_rows: int
    """answered requests without a row in the ledger after the gateway's end"""
    lost_lines: int
    """answered requests without a line in the log"""
    missing: tuple[str, ...]


def measure(seconds: float, rounds: int) -> Outcome:
    """One run: gateway and nginx on the first core, in turn; all else on the second.

    Both get several rounds, because machines have other things to do; the cheapest of each counts.
    """
    core, other = cores()
    missing = []
    with tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as place, Rig(Path(place)) as rig:
        _, upstream = parts.any_upstream(rig, other)
        direct = load.ask(rig, other, upstream, 1, min(seconds, 2.0))
        state = rig.directory / "state"
        first, _, ready_first = parts.gateway(rig, core, upstream, state)
        first.end()
        running, port, ready = parts.gateway(rig, core, upstream, state)
        idle = running.memory()
        programs = [(running, port)]
        try:
            programs.append(parts.nginx(rig, core, before=upstream))
        except Missing as why:
            missing.append(f"the comparison with nginx: {why}")
        if find("wrk") is None:
            missing.append("wrk: our own, slower generator was used")
        warm = [load.ask(rig, other, at, MANY, WARM_UP) for _, at in programs]
        found = [[_figures(rig, one, at, seconds) for one, at in programs] for _ in range(rounds)]
        after = running.memory()
        running.end()
        answered = warm[0].requests - warm[0].failed + sum(figures[0].answered for figures in found)
        rows, lines = _kept(state, rig.directory / f"{running.name}.log")
        gateway, *beside = (min(figures, key=lambda one: one.cpu_us) for figures in zip(*found, strict=True))
    nginx = beside[0] if beside else None
    return Outcome(
        gateway,
        nginx,
        direct.p50,
        idle,
        after,
        ready_first,
        ready,
        max(0, answered - rows),
        max(0, answered - lines),
        tuple(missing),
    )


def _figures(rig: Rig, running: Running, port: int, seconds: float) -> Figures:
    """One round: many connections, then one."""
    _, other = cores()
    before = running.cpu()
    many = load.ask(rig, other, port, MANY, seconds)
    cpu = running.cpu() - before
    alone = load.ask(rig, other, port, 1, min(seconds, 2.0))
    return Figures(
        many.requests / many.seconds,
        cpu / max(1, many.requests) * 1e6,
        many.p50,
        many.p99,
        alone.p50,
        many.failed + alone.failed,
        many.requests + alone.requests - many.failed - alone.failed,
    )


def _kept(state: Path, log: Path) -> tuple[int, int]:
    """Rows and lines of exchanges. A few are of requests that were under way when a round ended."""
    with contextlib.closing(sqlite3.connect(state / "fleetgate.db")) as database:
        rows: int = database.execute("SELECT count(*) FROM exchange").fetchone()[0]
    with log.open("rb") as lines:
        return rows, sum(b'"event":"exchange"' in line for line in lines)
