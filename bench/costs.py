"""What keys, limits, money and long ledgers cost: CPU per request of the same gateway, set up in turn.

All of them run at once on the first core, of which only one is asked at a time; so whatever else the
machine does hits all alike. The first is the baseline: open mode, no limits.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import load, parts, state
from bench.rig import Missing, Rig, Running, cores, timed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MANY: Final = 32
WARM_UP: Final = 1.5
"""Seconds of load at a time before anything counts, …"""
WARM: Final = 5
"""… until each key has asked so often: then it is read, and has its counters."""
BEFORE: Final = 1.0
"""Seconds of load before each round: keys count for a minute, so after a rest all are read again."""
NAMES: Final = ("bench-*", "!other/*")
FEW: Final = 10
USED_KEYS: Final = 1_000
"""keys that requests are spread over"""

_KEYS: Final = {"gateway": {"auth": "keys"}}
_LIMITS: Final = [
    {"scope": {"key": "*"}, "requests": 50_000_000},
    {"scope": {"key": "*"}, "tokens": 50_000_000_000},
    {"scope": {"key": "*"}, "requests": 500_000_000, "per": "day"},
    {"scope": "global", "parallel": 1_000},
    {"scope": {"role": parts.MODEL}, "requests": 50_000_000},
    {"scope": "global", "money": "100000 USD"},
]
"""None is reached. The last is for what costs money, all others are asked for every request. Each key
that asks has a seventh of its own, in the database."""
_LIMITED: Final = {**_KEYS, "limits": _LIMITS}


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the large ones are."""

    keys: int = 100_000
    exchanges: int = 10_000_000
    seconds: float = 4.0
    rounds: int = 5


QUICK: Final = Scale(keys=10_000, exchanges=200_000, seconds=2.0, rounds=2)


@dataclass(frozen=True, slots=True)
class Setup:
    """One gateway: its configuration, and what is in its database."""

    name: str
    blocks: Mapping[str, Any] = field(default_factory=dict)
    keys: int = 0
    used: int = 1
    """keys that requests are spread over"""
    exchanges: int = 0
    against: int | None = None
    """the setup it is compared with"""
    goal: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """CPU microseconds per request, the cheapest round and the dearest; latency in milliseconds."""

    name: str
    cpu_us: float
    dearest_us: float
    p50: float
    p99: float
    failed: int
    ready: float
    memory: int
    beside: float | None
    """CPU microseconds of what it is compared with"""
    goal: str


@dataclass(frozen=True, slots=True)
class Outcome:
    scale: Scale
    setups: tuple[Figures, ...]
    usage: float
    """seconds of `usage --by key --since 30d` with the long ledger"""


def setups(scale: Scale, upstream: int) -> list[Setup]:
    """In the order in which they are asked."""
    money = {"input": "1 USD/Mtok", "output": "2 USD/Mtok"}
    sold = {
        "kind": "openai",
        "url": f"http://127.0.0.1:{upstream}/v1",
        "key": "bench-provider-key",
        "models": [{"name": parts.MODEL, "price": money, "context": 8_192}],
    }
    return [
        Setup("open, no limits"),
        Setup("a key with names", _KEYS, keys=10, against=0),
        Setup("a key with names, seven limits", _LIMITED, keys=FEW, used=FEW, against=0, goal="+60"),
        Setup(f"the same, {scale.keys:,} keys", _LIMITED, scale.keys, FEW, against=2, goal="1.1 x"),
        Setup(
            f"the same, {USED_KEYS:,} of them asking",
            _LIMITED,
            scale.keys,
            USED_KEYS,
            against=2,
            goal="1.1 x",
        ),
        Setup(
            f"seven limits, {scale.exchanges:,} exchanges kept",
            *(_LIMITED, FEW, FEW, scale.exchanges),
            against=2,
            goal="1.1 x",
        ),
        Setup(
            "seven limits, a provider that costs money",
            {**_LIMITED, "nodes": {}, "providers": {"sold": sold}},
            *(FEW, FEW),
            against=2,
        ),
    ]


def measure(scale: Scale) -> Outcome:
    """One run. Raises Missing where a gateway does not start."""
    core, other = cores()
    with tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as place, Rig(Path(place)) as rig:
        _, upstream = parts.any_upstream(rig, other)
        asked = [
            _begin(rig, core, upstream, number, one) for number, one in enumerate(setups(scale, upstream))
        ]
        for one in asked:
            one.warm_up(rig, other)
        found = [[one.round(rig, other, scale.seconds) for one in asked] for _ in range(scale.rounds)]
        figures = _figures(asked, list(zip(*found, strict=True)))
        long = next(one for one in asked if one.setup.exchanges)
        seconds = timed(lambda: _usage(rig, long))
    return Outcome(scale, figures, seconds)


@dataclass(frozen=True, slots=True)
class Asked:
    """A gateway that is up."""

    setup: Setup
    running: Running
    port: int
    ready: float
    keys: Sequence[str]
    state: Path

    def ask(self, rig: Rig, core: int, seconds: float) -> load.Asked:
        return load.ask(rig, core, self.port, MANY, seconds, self.keys)

    def warm_up(self, rig: Rig, core: int) -> None:
        left = WARM * self.setup.used
        while left > 0:
            left -= max(1, self.ask(rig, core, WARM_UP).requests)

    def round(self, rig: Rig, core: int, seconds: float) -> tuple[float, load.Asked]:
        self.ask(rig, core, BEFORE)
        before = self.running.cpu()
        asked = self.ask(rig, core, seconds)
        return (self.running.cpu() - before) / max(1, asked.requests) * 1e6, asked


def _figures(
    asked: Sequence[Asked], rounds: Sequence[Sequence[tuple[float, load.Asked]]]
) -> tuple[Figures, ...]:
    found: list[Figures] = []
    for one, its in zip(asked, rounds, strict=True):
        cpu, best = min(its, key=lambda round_: round_[0])
        against = one.setup.against
        figures = Figures(
            one.setup.name,
            cpu,
            max(us for us, _ in its),
            best.p50,
            best.p99,
            sum(each.failed for _, each in its),
            one.ready,
            one.running.memory(),
            found[against].cpu_us if against is not None else None,
            one.setup.goal,
        )
        found.append(figures)
    return tuple(found)


def _begin(rig: Rig, core: int, upstream: int, number: int, setup: Setup) -> Asked:
    directory = rig.directory / f"state-{number}"
    state.prepare(directory)
    keys = state.add_keys(directory, setup.keys, NAMES)[: setup.used] or [""]
    if "limits" in setup.blocks:
        state.add_limits(directory, keys)
    if setup.exchanges:
        state.add_exchanges(directory, setup.exchanges)
    running, port, ready = parts.gateway(rig, core, upstream, directory, setup.blocks)
    return Asked(setup, running, port, ready, keys, directory)


def _usage(rig: Rig, one: Asked) -> None:
    command = [parts.command("fleetgate"), "usage", "--by", "key", "--since", "30d", "--json"]
    where = ["--url", f"http://127.0.0.1:{one.port}", "--key-file", str(one.state / "master.key")]
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(subprocess.TimeoutExpired))
        done = subprocess.run(
            [*command, *where],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=rig.directory,
            env=rig.environment(),
            check=False,
        )
        if done.returncode:
            raise Missing(f"`fleetgate usage` ended with code {done.returncode}: {done.stderr[-300:]}")
