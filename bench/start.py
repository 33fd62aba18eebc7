"""How long a command takes to start, and how much memory it needs."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import parts
from bench.rig import END_LIMIT, Missing, Rig, Running

TIMES: Final = 7


@dataclass(frozen=True, slots=True)
class Outcome:
    """`ask --help`, the quickest of several starts."""

    seconds: float
    memory: int


def measure(times: int = TIMES) -> Outcome:
    """Raises Missing where the command is not installed."""
    command = [parts.command("ask"), "--help"]
    with tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as place:
        rig = Rig(Path(place))
        return Outcome(min(_seconds(command, rig) for _ in range(times)), _memory(command, rig))


def _seconds(command: list[str], rig: Rig) -> float:
    began = time.monotonic()
    with _begin(command, rig) as process:
        code = process.wait(END_LIMIT)
    if code:
        raise Missing(f"{command[0]} ended with code {code}")
    return time.monotonic() - began


def _memory(command: list[str], rig: Rig) -> int:
    """The largest resident size that was seen. (What the kernel reports at its end includes our own.)"""
    most = 0
    with _begin(command, rig) as process:
        one = Running("ask", process, time.monotonic())
        while process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                most = max(most, one.memory())
    return most


def _begin(command: list[str], rig: Rig) -> subprocess.Popen[bytes]:
    nothing = subprocess.DEVNULL
    return subprocess.Popen(
        command, stdin=nothing, stdout=nothing, stderr=nothing, cwd=rig.directory, env=rig.environment()
    )
