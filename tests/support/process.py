"""A whole gateway as users run it: `fleetgate up` or `fleetgate serve` in a process of its own.

    with start_gateway(tmp_path, settings_text) as gateway:
        gateway.url              # http://127.0.0.1:PORT, the kernel chose it
        gateway.kill()           # kill -9
        gateway.start()          # again, with the same state, on a new port

The process gets an empty home and nothing of the tests' own environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PROGRAMS = Path(sys.executable).parent
FAREWELL = 30.0
"""seconds after which a gateway that was told to stop is killed, and the test fails"""


def until(true: Callable[[], Any], what: str, seconds: float = 20.0, pause: float = 0.02) -> Any:
    """Ask a foreign process again and again, with a bound. Returns the first answer that is true."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(pause)
    return found


class RunningGateway:
    """One gateway process. `said` is what it printed for a person at the start."""

    def __init__(self, home: Path, arguments: Sequence[str]) -> None:
        self.home = home
        self.log = home / "log.jsonl"
        self.environment = {
            "PATH": os.environ.get("PATH", ""),  # noqa: TID251  (a child's)
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "xdg" / "config"),
            "XDG_STATE_HOME": str(home / "xdg" / "state"),
            "XDG_CACHE_HOME": str(home / "xdg" / "cache"),
        }
        self.listen = "127.0.0.1:0"
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.said: list[str] = []

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        return self._process.pid

    @property
    def port(self) -> int:
        return int(self.url.split("//")[1].partition("/")[0].rpartition(":")[2])

    def start(self) -> None:
        """Returns when it says that it is ready."""
        words = [str(PROGRAMS / "fleetgate"), *self._arguments, "--listen", self.listen, "--log", "json"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment, cwd=self.home
            )
        assert self._process.stdout is not None
        self.said = []
        for line in self._process.stdout:
            self.said.append(line.rstrip("\n"))
            if line.startswith("  stop"):
                break
        else:
            code = self._process.wait()
            self._close()
            raise RuntimeError(
                f"the gateway did not start (exit code {code}): {self.log.read_text()[-4000:]}"
            )
        self.url = self.said[0].partition(" on ")[2].split()[0]

    def kill(self) -> None:
        """End it as a crash would; returns when it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end; its exit code. Nothing happens when it does not run."""
        return self._end(signal.SIGTERM)

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of ours, pointed at this gateway."""
        where = {"ASK_BASE_URL": self.url, "FLEETGATE_URL": self.url}
        return subprocess.run(
            [str(PROGRAMS / program), *arguments],
            capture_output=True,
            text=True,
            env={**self.environment, **where},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )

    @property
    def key(self) -> str:
        """The master key that it made for itself."""
        return (self.home / "xdg" / "state" / "fleetgate" / "master.key").read_text().strip()

    def models(self) -> dict[str, dict[str, Any]]:
        """What `fleetgate models` asks for, by deployment."""
        request = urllib.request.Request(
            f"{self.url}/admin/api/models", headers={"authorization": f"Bearer {self.key}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return {row["deployment"]: row for row in json.load(answer)["rows"]}

    def learned(self) -> list[Any]:
        """What is durable of what it learned about engines."""
        file = self.home / "xdg" / "state" / "fleetgate" / "fleetgate.db"
        with contextlib.closing(sqlite3.connect(file)) as database:
            rows = database.execute("SELECT document FROM learned").fetchall()
        return [json.loads(document) for (document,) in rows]

    def logged(self, event: str, least: int = 1, **values: Any) -> list[dict[str, Any]]:
        """Lines of the log with these values, at least so many; waits for them."""

        def found() -> list[dict[str, Any]]:
            *whole, _ = self.log.read_text().split("\n")
            lines = [json.loads(line) for line in whole if line.startswith("{")]
            wanted = {"event": event, **values}
            return [line for line in lines if wanted.items() <= line.items()]

        return until(lambda: (lines := found()) and len(lines) >= least and lines, f"a line {event} {values}")

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        try:
            return self._process.wait(FAREWELL)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._close()

    def _close(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None


@contextlib.contextmanager
def start_gateway(
    home: Path, settings: str | None = None, *, flags: Sequence[str] = ()
) -> Iterator[RunningGateway]:
    """A running gateway: `serve` with a configuration, `up` without one."""
    arguments = ["up" if settings is None else "serve", *flags]
    if settings is not None:
        config = home / "config.yaml"
        config.write_text(settings)
        arguments += ["--config", str(config)]
    gateway = RunningGateway(home, arguments)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()
