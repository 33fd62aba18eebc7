"""How soon an upstream hears that the caller has left: before the first token, inside a stream, and
inside a whole answer. Its socket is ours here, so the time is from one close to the other."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from bench import parts
from bench.rig import Missing, Rig, cores
from bench.upstream import DATED_CHUNK, STREAM, Caller, chunked, whole

if TYPE_CHECKING:
    from bench.rig import Running

TIMES: Final = 100
PHASES: Final = ("before the first token", "inside a stream", "inside a whole answer")
_LIMIT: Final = 5.0
"""Seconds after which a cancellation counts as one that never came."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Where the caller left. Times in milliseconds."""

    name: str
    p50: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Outcome:
    phases: tuple[Phase, ...]


def measure(times: int = TIMES) -> Outcome:
    """Raises Missing where the gateway does not start, or an upstream is never told."""
    return asyncio.run(_measure(times))


async def _measure(times: int) -> Outcome:
    core, _ = cores()
    loop = asyncio.get_running_loop()
    quiet = Quiet()
    listening = await loop.create_server(lambda: Held(loop, quiet), "127.0.0.1", 0)
    upstream = listening.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as place, Rig(Path(place)) as rig:
        started: tuple[Running, int, float] = await asyncio.to_thread(
            parts.gateway, rig, core, upstream, rig.directory / "state"
        )
        port = started[1]
        phases = []
        for name in PHASES:
            quiet.begins = name == PHASES[1]
            found = sorted([await _once(quiet, port, name) for _ in range(times)])
            phases.append(Phase(name, _share(found, 0.5), _share(found, 0.99), found[-1]))
    listening.close()
    return Outcome(tuple(phases))


class Quiet:
    """What all connections of the upstream share."""

    def __init__(self) -> None:
        self.begins = False
        """a stream gets its first chunk"""
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.left_at = 0.0


class Held(Caller):
    """A connection that begins an answer at most, and notes when it is closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, quiet: Quiet) -> None:
        super().__init__(loop, 0, 0.0)
        self._quiet = quiet
        self._held = False

    def on_message_complete(self) -> None:
        if self._url.endswith(b"/models"):
            self.transport.write(whole(parts.CATALOGUE))
            return
        self._held = True
        if self._quiet.begins:
            self.transport.write(STREAM + chunked(DATED_CHUNK % time.monotonic_ns()))
        self._quiet.asked.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._held:
            self._quiet.left_at = time.perf_counter()
            self._quiet.left.set()


async def _once(quiet: Quiet, port: int, phase: str) -> float:
    """Milliseconds from the caller's close to the upstream's."""
    quiet.asked.clear()
    quiet.left.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = (parts.QUESTION if phase == PHASES[2] else parts.STREAMED).encode()
    head = (
        f"POST {parts.PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    try:
        async with asyncio.timeout(_LIMIT):
            await quiet.asked.wait()
            if phase == PHASES[1]:
                await reader.readuntil(b"data: ")
            began = time.perf_counter()
            cast("asyncio.Transport", writer.transport).abort()
            await quiet.left.wait()
    except TimeoutError:
        raise Missing(f"a caller who left {phase} was not noticed within {_LIMIT:g} s") from None
    return (quiet.left_at - began) * 1e3


def _share(found: list[float], share: float) -> float:
    """The value below which this share of the sorted ones lies."""
    return found[min(len(found) - 1, int(share * len(found)))]
