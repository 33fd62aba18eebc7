"""Streams: what a chunk costs on its way, and how much later it comes, beside nginx and directly."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import load, parts
from bench.rig import Missing, Rig, cores

if TYPE_CHECKING:
    from bench.load import Read
    from bench.rig import Running

WARM_UP: Final = 4
"""Streams that are read before anything counts."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many streams at once, how long each is, and seconds between its chunks."""

    streams: int = 200
    chunks: int = 100
    every: float = 0.02

    @property
    def seconds(self) -> float:
        return self.chunks * self.every + load.RAMP


@dataclass(frozen=True, slots=True)
class Figures:
    """What one program did with the streams. Times in milliseconds."""

    cpu_us: float
    """CPU microseconds per chunk; 0 where nothing was in between"""
    first_p50: float
    first_p99: float
    way_p50: float
    way_p99: float
    broken: int


@dataclass(frozen=True, slots=True)
class Outcome:
    shape: Shape
    gateway: Figures
    nginx: Figures | None
    direct: Figures
    memory: int
    """resident bytes of the gateway after the streams"""
    missing: tuple[str, ...]


def measure(shape: Shape, rounds: int) -> Outcome:
    """One run over the same upstream: directly, then through gateway and nginx in turn.

    Both get several rounds, because machines have other things to do; the cheapest of each counts.
    """
    core, other = cores()
    missing = []
    with tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as place, Rig(Path(place)) as rig:
        _, upstream = parts.own_upstream(rig, other, chunks=shape.chunks, every=shape.every)
        running, port, _ = parts.gateway(rig, core, upstream, rig.directory / "state")
        programs = [(running, port)]
        try:
            programs.append(parts.nginx(rig, core, before=upstream))
        except Missing as why:
            missing.append(f"the comparison with nginx: {why}")
        direct = _round(rig, None, upstream, shape)
        for _, at in programs:
            load.read_streams(rig, other, at, WARM_UP, shape.seconds)
        found = [[_round(rig, one, at, shape) for one, at in programs] for _ in range(rounds)]
        gateway, *beside = (min(figures, key=lambda one: one.cpu_us) for figures in zip(*found, strict=True))
        memory = running.memory()
    return Outcome(shape, gateway, beside[0] if beside else None, direct, memory, tuple(missing))


def _round(rig: Rig, running: Running | None, port: int, shape: Shape) -> Figures:
    _, other = cores()
    before = running.cpu() if running is not None else 0.0
    read = load.read_streams(rig, other, port, shape.streams, shape.seconds)
    cpu = running.cpu() - before if running is not None else 0.0
    return Figures(
        cpu / max(1, read.chunks) * 1e6,
        read.first_p50,
        read.first_p99,
        read.way_p50,
        read.way_p99,
        _broken(read, shape),
    )


def _broken(read: Read, shape: Shape) -> int:
    """Streams that did not end well, and chunks that never came."""
    return shape.streams - read.whole + max(0, shape.streams * shape.chunks - read.chunks)
