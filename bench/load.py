"""Load: many whole requests with wrk or our own generator, and many streams read at once.

As a program (`python -m bench.load asks|streams …`) it runs our own generators in a process of their
own, because they must not share a core with what they measure, and prints one JSON line.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import httptools
import uvloop

from bench.parts import PATH, QUESTION, STREAMED
from bench.rig import Missing, find, python

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.rig import Rig

RAMP: Final = 1.0
"""Seconds over which streams begin, so that they do not all beat at once."""
PATIENCE: Final = 30.0
"""Seconds beyond its own duration that a generator may take."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a round of whole requests went. Latencies in milliseconds."""

    requests: int
    failed: int
    seconds: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Read:
    """How a round of streams went. Times in milliseconds."""

    chunks: int
    whole: int
    """streams that ended as they should"""
    first_p50: float
    first_p99: float
    way_p50: float
    """from the upstream's sending of a chunk to its reading"""
    way_p99: float


_ASK: Final = """
wrk.method = 'POST'
wrk.body = [[{body}]]
wrk.headers['Content-Type'] = 'application/json'
"""
_ASK_WITH_KEYS: Final = """
local made, at = {{}}, 0
init = function()
  for key in io.lines('{keys}') do
    local headers = {{ ['Content-Type'] = 'application/json', ['Host'] = wrk.headers['Host'] }}
    if key ~= '' then headers['Authorization'] = 'Bearer ' .. key end
    made[#made + 1] = wrk.format('POST', nil, headers, [[{body}]])
  end
end
request = function()
  at = at % #made + 1
  return made[at]
end
"""


def request_bytes(port: int, body: str, key: str = "") -> bytes:
    data = body.encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data


def ask(rig: Rig, core: int, port: int, connections: int, seconds: float, keys: Sequence[str] = ()) -> Asked:
    """Whole requests over kept connections, each as soon as the last was answered; with these keys in
    turn, if any, of which an empty one is none."""
    program = find("wrk")
    listed = rig.directory / f"keys-{port}.txt"
    listed.write_text("".join(f"{key}\n" for key in keys), encoding="ascii")
    if program is None:
        return Asked(**_run(rig, core, "asks", port, connections, seconds, listed))
    script = rig.directory / f"ask-{port}.lua"
    form = _ASK_WITH_KEYS if keys else _ASK
    script.write_text(form.format(body=QUESTION, keys=listed), encoding="utf-8")
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(script)]
    said = _output(rig, core, [program, *options, f"http://127.0.0.1:{port}{PATH}"], seconds)
    return _read_wrk(said)


def read_streams(rig: Rig, core: int, port: int, streams: int, seconds: float) -> Read:
    """`streams` at once, each on a connection of its own, read to their ends."""
    return Read(**_run(rig, core, "streams", port, streams, seconds))


def _run(
    rig: Rig, core: int, what: str, port: int, count: int, seconds: float, keys: Path | None = None
) -> dict[str, Any]:
    arguments = (str(port), str(count), str(seconds), *([str(keys)] if keys is not None else []))
    said = _output(rig, core, python("bench.load", what, *arguments), seconds)
    values: dict[str, Any] = json.loads(said)
    return values


def _output(rig: Rig, core: int, command: Sequence[str], seconds: float) -> str:
    pinned = ["taskset", "-c", str(core), *command] if find("taskset") else [*command]
    try:
        done = subprocess.run(
            pinned,
            capture_output=True,
            text=True,
            timeout=seconds + PATIENCE,
            cwd=rig.directory,
            env=rig.environment(),
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise Missing(f"the load generator failed: {error}") from error
    return done.stdout


_UNITS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


def _read_wrk(said: str) -> Asked:
    def milliseconds(percent: str) -> float:
        found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", said, re.MULTILINE)
        return float(found[1]) * _UNITS[found[2]] if found else 0.0

    count = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", said)
    if count is None:
        raise Missing(f"wrk said something unexpected: {said[:200]}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    failed = (int(bad[1]) if bad else 0) + (sum(map(int, lost.groups())) if lost else 0)
    seconds = float(count[2]) * _UNITS[count[3]] / 1e3
    return Asked(int(count[1]), failed, seconds, milliseconds("50"), milliseconds("99"))


# Our own generators


class _Caller(asyncio.Protocol):
    """One connection that asks again as soon as it was answered; receives its parser's events."""

    transport: asyncio.Transport

    def __init__(self, requests: Iterator[bytes], until: float, took: list[float], failed: list[int]) -> None:
        self._requests = requests
        self._until = until
        self._took = took
        self._failed = failed
        self._parser = httptools.HttpResponseParser(self)
        self._asked = 0.0
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio calls it so)
        if not self.over.done():
            self._failed.append(0)
            self.over.set_result(None)

    def on_message_complete(self) -> None:
        now = time.monotonic()
        status = self._parser.get_status_code()
        if status == 200:
            self._took.append(now - self._asked)
        else:
            self._failed.append(status)
        if now < self._until:
            self._ask()
        elif not self.over.done():
            self.over.set_result(None)
            self.transport.close()

    def _ask(self) -> None:
        self._asked = time.monotonic()
        self.transport.write(next(self._requests))


async def _asks(port: int, connections: int, seconds: float, keys: Sequence[str]) -> Asked:
    loop = asyncio.get_running_loop()
    took: list[float] = []
    failed: list[int] = []
    requests = itertools.cycle([request_bytes(port, QUESTION, key) for key in keys or ("",)])
    began = time.monotonic()
    made = [
        await loop.create_connection(
            lambda: _Caller(requests, began + seconds, took, failed), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    await asyncio.wait([caller.over for _, caller in made], timeout=seconds + PATIENCE / 2)
    passed = time.monotonic() - began
    return Asked(len(took), len(failed), passed, *(1e3 * share for share in _percentiles(took)))


_DATED: Final = re.compile(rb'"content":"(\d+)"')


class _Reader(asyncio.Protocol):
    """One stream."""

    transport: asyncio.Transport

    def __init__(self, request: bytes, firsts: list[float], ways: list[float]) -> None:
        self._request = request
        self._firsts = firsts
        self._ways = ways
        self._asked = 0
        self._begun = False
        self._end = b""
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._asked = time.monotonic_ns()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        sent = [int(found) for found in _DATED.findall(data)]
        self._ways += [(now - at) / 1e6 for at in sent]
        if sent and not self._begun:
            self._begun = True
            self._firsts.append((now - self._asked) / 1e6)
        self._end = (self._end + data)[-16:]
        if b"[DONE]" in self._end and not self.over.done():
            self.over.set_result(True)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio calls it so)
        if not self.over.done():
            self.over.set_result(False)


async def _streams(port: int, streams: int, seconds: float) -> Read:
    loop = asyncio.get_running_loop()
    firsts: list[float] = []
    ways: list[float] = []
    request = request_bytes(port, STREAMED)
    readers = []
    for _ in range(streams):
        _, reader = await loop.create_connection(lambda: _Reader(request, firsts, ways), "127.0.0.1", port)
        readers.append(reader)
        await asyncio.sleep(RAMP / streams)
    done, _ = await asyncio.wait([reader.over for reader in readers], timeout=seconds + PATIENCE / 2)
    whole = sum(one.result() for one in done)
    return Read(len(ways), whole, *_percentiles(firsts), *_percentiles(ways))


def _percentiles(values: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile; zeros of nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0, 0.0
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def main(what: str, port: str, count: str, seconds: str, keys: str = "") -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if what == "asks":
            listed = Path(keys).read_text(encoding="ascii").splitlines() if keys else []
            found = asdict(runner.run(_asks(int(port), int(count), float(seconds), listed)))
        else:
            found = asdict(runner.run(_streams(int(port), int(count), float(seconds))))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:6])
