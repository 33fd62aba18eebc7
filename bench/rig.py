"""The rig: processes on their cores, their clocks and memory, and plain requests to see if they are up.

Rules: everything listens on loopback on a port that the kernel chose; every process is ours, is known
by its id and is ended by it, whatever happens; every wait has an end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

START_LIMIT: Final = 20.0
"""Seconds a process may take to be up."""
END_LIMIT: Final = 10.0
PAGE: Final = 4096
SBIN: Final = ("/usr/sbin", "/usr/local/sbin", "/sbin")
"""Where Debian keeps nginx; often not on a user's path."""


class Missing(Exception):
    """Something that the measurement needs is not there; the message says what."""


def find(program: str) -> str | None:
    """Where a program is, or None."""
    return shutil.which(program) or shutil.which(program, path=":".join(SBIN))


def cores() -> tuple[int, int]:
    """The core of what is measured, and the core of everything around it."""
    mine = sorted(os.sched_getaffinity(0))
    return mine[0], mine[-1]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Running:
    """One process of ours."""

    name: str
    process: subprocess.Popen[bytes]
    began: float

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu(self) -> float:
        return cpu_of(self.pid)

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE

    def check(self) -> None:
        """Raises Missing when it ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise Missing(f"{self.name} ended with code {code}")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_LIMIT)


@dataclass(slots=True)
class Rig:
    """Owns the processes of one measurement and a directory for their files."""

    directory: Path
    running: list[Running] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in reversed(self.running):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                one.end()

    def start(self, name: str, command: Sequence[str], core: int | None = None) -> Running:
        """Start a process, on one core if said; what it says goes to `name.log`."""
        began = time.monotonic()
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self.environment(),
            )
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        one = Running(name, process, began)
        self.running.append(one)
        return one

    def environment(self) -> dict[str, str]:
        """The tree we lie in is what is measured; nothing of the caller's settings reaches it."""
        tree = Path(__file__).parents[1]
        return {
            "HOME": str(self.directory),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}",
        }

    def last_words(self, name: str) -> str:
        """The end of a process's log, for an error message."""
        text = (self.directory / f"{name}.log").read_text("utf-8", "replace").strip()
        return text[-400:]


def cpu_of(pid: int) -> float:
    """CPU seconds of all threads of a process since it began, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)  # the clock of a process: clock_getcpuclockid(3)


def python(module: str, *arguments: str) -> list[str]:
    """A command that runs one of our modules."""
    return [sys.executable, "-m", module, *arguments]


def wait_until_up(one: Running, port: int, path: str) -> float:
    """Seconds from its start until it answered 200. Raises Missing."""
    limit = one.began + START_LIMIT
    while time.monotonic() < limit:
        one.check()
        if status_of(port, path) == 200:
            return time.monotonic() - one.began
        time.sleep(0.005)
    raise Missing(f"{one.name} was not up within {START_LIMIT:g} s")


def status_of(port: int, path: str) -> int | None:
    """The status of a GET, or None without an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began
