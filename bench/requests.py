"""Whole requests: how many per second on one core, what each costs, how long it takes, and the memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import load, parts
from bench.rig import Missing, Rig, cores, find

if TYPE_CHECKING:
    from bench.load import Asked
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
    missing: tuple[str, ...]


def measure(seconds: float) -> Outcome:
    """One run: gateway and nginx on the first core, one after the other; all else on the second."""
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
        gateway = _figures(rig, running, port, seconds)
        after = running.memory()
        running.end()
        beside = None
        try:
            limit, limit_port = parts.nginx(rig, core, before=upstream)
            beside = _figures(rig, limit, limit_port, seconds)
        except Missing as why:
            missing.append(f"the comparison with nginx: {why}")
        if find("wrk") is None:
            missing.append("wrk: our own, slower generator was used")
    return Outcome(gateway, beside, direct.p50, idle, after, ready_first, ready, tuple(missing))


def _figures(rig: Rig, running: Running, port: int, seconds: float) -> Figures:
    _, other = cores()
    load.ask(rig, other, port, MANY, WARM_UP)
    many, cpu = _round(rig, running, port, MANY, seconds)
    alone, _ = _round(rig, running, port, 1, min(seconds, 3.0))
    return Figures(
        many.requests / many.seconds,
        cpu / max(1, many.requests) * 1e6,
        many.p50,
        many.p99,
        alone.p50,
        many.failed + alone.failed,
    )


def _round(rig: Rig, running: Running, port: int, connections: int, seconds: float) -> tuple[Asked, float]:
    _, other = cores()
    before = running.cpu()
    asked = load.ask(rig, other, port, connections, seconds)
    return asked, running.cpu() - before
