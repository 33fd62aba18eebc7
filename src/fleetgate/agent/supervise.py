"""Keeps one process running: starts it, waits until it is ready, restarts it within bounds, stops it.

Rules
- A process gets its own process group, so that everything it started ends with it, and Ctrl-C in
  the terminal reaches only us.
- Restarts are bounded: one that keeps dying is reported with its last words instead of being
  started for ever.
- `Child` starts no task: whoever owns it runs `run` and may wait for `ready` meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

KEPT_LINES: Final = 20
_READY_PAUSES: Final = (0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How patient we are. Seconds."""

    restarts: int = 5
    """more than these `within` the time below, and it is given up"""
    within: float = 60.0
    first_pause: float = 0.2
    longest_pause: float = 10.0
    """the pause before a restart doubles up to this"""
    grace: float = 5.0
    """between TERM and KILL"""


class ChildFailed(Exception):
    """The process ended and is not started again."""


class Child:
    """One supervised process.

    `is_ready` is asked again and again until it says yes; `clock` counts seconds and never goes back.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        is_ready: Callable[[], Awaitable[bool]],
        *,
        clock: Callable[[], float],
        bounds: Bounds | None = None,
    ) -> None:
        self.name = name
        self.restarts = 0
        """how often it was started again"""
        self._command = tuple(command)
        self._is_ready = is_ready
        self._clock = clock
        self._bounds = bounds or Bounds()
        self._process: asyncio.subprocess.Process | None = None
        self._words: deque[str] = deque(maxlen=KEPT_LINES)
        self._ended: deque[float] = deque(maxlen=self._bounds.restarts + 1)
        self._stopping = asyncio.Event()
        self._settled = asyncio.Event()
        """set while it is ready, and for good when it is over"""
        self._is_up = False
        self._why_over = ""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def is_up(self) -> bool:
        """it has said that it is ready since it was last started"""
        return self._is_up

    @property
    def last_words(self) -> str:
        """the last lines it wrote"""
        return "\n".join(self._words)

    async def run(self) -> None:
        """Keep it running until `stop` or cancellation. Raises `ChildFailed` when it is given up."""
        why = "it was stopped"
        try:
            while not self._stopping.is_set():
                await self._live()
                if not self._stopping.is_set():
                    await self._pause()
        except ChildFailed as error:
            why = str(error)
            raise
        finally:
            await self._end()
            self._why_over = why
            self._settled.set()

    async def ready(self) -> None:
        """Return when it is ready. Raises `ChildFailed` if it never will be. Needs `run` beside it."""
        while not self._is_up:
            await self._settled.wait()
            if self._why_over:
                raise ChildFailed(self._why_over)

    async def stop(self) -> None:
        """TERM, a grace, KILL; returns when it is gone."""
        self._stopping.set()
        await self._end()

    async def _live(self) -> None:
        """One life of the process, from its start to its end."""
        self._words.clear()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # its own group; uvloop knows no `process_group`
            )
        except OSError as error:
            raise ChildFailed(f"{self.name} cannot be started: {error}") from None
        self._process = process
        if self._stopping.is_set():  # told so while it was being started
            return
        gone = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(process))
            tasks.create_task(self._watch(gone))
            await process.wait()
            gone.set()
            self._is_up = False
            self._settled.clear()
            # What it started itself may outlive it and hold the pipe open.
            self._signal(signal.SIGKILL)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while piece := await process.stdout.read(65_536):
            self._words.extend(line for line in piece.decode(errors="replace").splitlines() if line.strip())

    async def _watch(self, gone: asyncio.Event) -> None:
        """Ask until it is ready, or gone."""
        asked = 0
        while not gone.is_set():
            if await self._is_ready():
                if not gone.is_set():
                    self._is_up = True
                    self._settled.set()
                return
            pause = _READY_PAUSES[min(asked, len(_READY_PAUSES) - 1)]
            asked += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gone.wait(), pause)

    async def _pause(self) -> None:
        """Between two lives. Raises when there were too many."""
        now, bounds = self._clock(), self._bounds
        self._ended.append(now)
        recent = sum(1 for at in self._ended if now - at <= bounds.within)
        if recent > bounds.restarts:
            words = f"; its last words:\n{self.last_words}" if self._words else ""
            code = None if self._process is None else self._process.returncode
            raise ChildFailed(
                f"{self.name} ended {recent} times in {bounds.within:g} s (exit code {code}) and is not "
                f"started again{words}"
            )
        self.restarts += 1
        pause = min(bounds.first_pause * 2 ** (recent - 1), bounds.longest_pause)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause)

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self._bounds.grace)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await process.wait()

    def _signal(self, how: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, how)
