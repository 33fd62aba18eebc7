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
NAMES: Final = ("bench-*", "!other/*")
USED_KEYS: Final = 1_000
"""keys that requests are spread over where there are many"""

_KEYS: Final = {"gateway": {"auth": "keys"}}
_LIMITS: Final = [
    {"scope": {"key": "*"}, "requests": 50_000_000},
    {"scope": {"key": "*"}, "tokens": 50_000_000_000},
    {"scope": {"key": "*"}, "requests": 500_000_000, "per": "day"},
    {"scope": "global", "parallel": 1_000},
    {"scope": {"role": parts.MODEL}, "requests": 50_000_000},
    {"scope": "global", "money": "100000 USD"},
]
"""All of them are asked; none is reached."""
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
    exchanges: int = 0
    own_limits: bool = False
    """a stored limit for each key that is used"""
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
        Setup("a key with names, no limits", _KEYS, 10),
        Setup("a key, six limits", _LIMITED, 10, goal="+60"),
        Setup(
            f"the same, {scale.keys:,} keys, {USED_KEYS:,} of them asking, each with a limit of its own",
            _LIMITED,
            scale.keys,
            USED_KEYS,
            own_limits=True,
            goal="1.1 x",
        ),
        Setup(
            f"the same, {scale.exchanges:,} exchanges in the ledger",
            _LIMITED,
            10,
            exchanges=scale.exchanges,
            goal="1.1 x",
        ),
        Setup("the same, and a provider that costs money", {**_LIMITED, "nodes": {}, "providers": {"sold": sold}}, 10),
    ]


def measure(scale: Scale) -> Outcome:
    """One run. Raises Missing where a gateway does not start."""
    core, other = cores()
    with tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as place, Rig(Path(place)) as rig:
        _, upstream = parts.any_upstream(rig, other)
        asked = [_begin(rig, core, upstream, number, one) for number, one in enumerate(setups(scale, upstream))]
        for one in asked:
            one.warm_up(rig, other)
        found = [[one.round(rig, other, scale.seconds) for one in asked] for _ in range(scale.rounds)]
        figures = tuple(one.figures(rounds) for one, rounds in zip(asked, zip(*found, strict=True), strict=True))
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
        before = self.running.cpu()
        asked = self.ask(rig, core, seconds)
        return (self.running.cpu() - before) / max(1, asked.requests) * 1e6, asked

    def figures(self, rounds: Sequence[tuple[float, load.Asked]]) -> Figures:
        cpu, best = min(rounds, key=lambda one: one[0])
        return Figures(
            self.setup.name,
            cpu,
            max(one for one, _ in rounds),
            best.p50,
            best.p99,
            sum(asked.failed for _, asked in rounds),
            self.ready,
            self.running.memory(),
            self.setup.goal,
        )


def _begin(rig: Rig, core: int, upstream: int, number: int, setup: Setup) -> Asked:
    directory = rig.directory / f"state-{number}"
    state.prepare(directory)
    keys = state.add_keys(directory, setup.keys, NAMES)[: setup.used] or [""]
    if setup.own_limits:
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
