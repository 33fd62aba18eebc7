"""A real Redis in a test: started on a port of loopback or a unix socket, kept in memory only.

    with redis_running() as redis:
        shared = open_shared(redis.url, …)
        redis.freeze()  # it takes connections and answers nothing
        redis.thaw()
        redis.kill()
        redis.start()  # empty again, at the same address

Tests that need it carry `needs_redis`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import pytest

from fleetgate.shared.connect import open_shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence

    from fleetgate.shared.redis import Redis

Read = TypeVar("Read")
BINARY = shutil.which("redis-server") or shutil.which("valkey-server")
needs_redis = pytest.mark.skipif(BINARY is None, reason="neither redis-server nor valkey-server is installed")
_START_LIMIT = 10.0


@dataclass
class RunningRedis:
    """A Redis of our own."""

    directory: Path
    port: int
    """of loopback"""
    password: str = ""
    extra: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def path(self) -> Path:
        return self.directory / "redis.sock"

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.path}"

    def start(self) -> None:
        assert BINARY is not None
        assert self.process is None
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path)]
        options += ["--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        options += ["--requirepass", self.password] if self.password else []
        self.process = subprocess.Popen(
            [BINARY, *options, *self.extra],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_LIMIT
        while not self._answers():
            assert self.process.poll() is None, "redis-server ended at its start"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.002)

    def command(self, *words: str) -> bytes:
        """Sends one command, and gives the first line of its answer."""
        return self._answer(words, lambda replies: replies.readline())

    def numbers(self, *words: str) -> list[int]:
        """Sends one command that answers a whole number, or a list of them."""

        def read(replies: BinaryIO) -> list[int]:
            head = replies.readline()
            assert head[:1] in (b":", b"*"), head
            lines = [head] if head[:1] == b":" else [replies.readline() for _ in range(int(head[1:]))]
            return [int(line[1:]) for line in lines]

        return self._answer(words, read)

    def text(self, *words: str) -> str:
        """Sends one command that answers a text."""

        def read(replies: BinaryIO) -> str:
            head = replies.readline()
            assert head[:1] == b"$", head
            return replies.read(int(head[1:])).decode()

        return self._answer(words, read)

    def flush(self) -> None:
        """Everything in it is gone, scripts too."""
        self.command("FLUSHALL")
        self.command("SCRIPT", "FLUSH")

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """At once; connections break."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()  # works on a frozen one, too
            process.wait()

    def _answer(self, words: Sequence[str], read: Callable[[BinaryIO], Read]) -> Read:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.path))
            with line.makefile("rb") as replies:
                if self.password:
                    line.sendall(_packed("AUTH", self.password))
                    replies.readline()
                line.sendall(_packed(*words))
                return read(replies)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False


def _packed(*words: str) -> bytes:
    return b"".join(
        [b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)]
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def redis_running(password: str = "", *, extra: Sequence[str] = ()) -> Iterator[RunningRedis]:
    """A running Redis that nobody else uses."""
    # The path of a unix socket may have about a hundred characters; pytest's directories are longer.
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        # Redis cannot be told to choose a port itself. Another program may take it in between.
        for last in (False, False, True):
            redis = RunningRedis(Path(directory), _free_port(), password, extra)
            try:
                redis.start()
                break
            except AssertionError:
                redis.kill()
                if last:
                    raise
        try:
            yield redis
        finally:
            redis.kill()


@contextlib.asynccontextmanager
async def sharing(url: str, clock: Callable[[], float] = time.monotonic) -> AsyncIterator[Redis]:
    """Shared state at an address; what it spawned has ended when it is left.

    It is patient: a busy machine is no outage. Tests of outages give it back its own `PATIENCE`.
    """
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        tasks.append(asyncio.get_running_loop().create_task(work))
        return tasks[-1]

    shared = open_shared(url, spawn, clock)
    redis = cast("Redis", shared)
    redis._patience = 5.0
    try:
        yield redis
    finally:
        await redis.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(one.exception()) for one in tasks if not one.cancelled() and one.exception()] == []
