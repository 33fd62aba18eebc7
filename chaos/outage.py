"""The database or Redis away for some seconds under light load: who is still answered, and what is lost."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench.rig import Missing, status_of
from sqlalchemy import create_engine
from tests.support.postgres import postgres_running
from tests.support.redis import redis_running

from chaos import books
from chaos.load import Load, Wish
from chaos.provider import Script
from chaos.stage import database, new_key, ready_in, staged

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.process import RunningGateway

    from chaos.load import Told

WARM: Final = 1.5
"""Seconds of load before a fault."""
RECOVERED_WITHIN: Final = 5.0
PATIENCE: Final = 20.0
DISK: Final = 16 * 1024 * 1024
"""bytes of the small disk"""
NOBODYS: Final = "fg-never-issued-0123456789abcdefghijklmnopqrstuv"


@dataclass
class Scene:
    """What a fault may touch."""

    gateways: list[RunningGateway]
    state: Path | None = None
    """of the one gateway: the directory of its database"""
    postgres: Any = None
    redis: Any = None

    @property
    def file(self) -> Path:
        return (self.state / "fleetgate.db") if self.state else database(self.gateways[0])


Fault = Callable[[Scene], AbstractContextManager[None]]


@contextlib.contextmanager
def locked(scene: Scene) -> Iterator[None]:
    """Another program holds the lock for writing."""
    with closing(sqlite3.connect(scene.file, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def no_writing(scene: Scene) -> Iterator[None]:
    """The file system takes nothing more of this process: a limit on its files."""
    for one in scene.gateways:
        _, hard = resource.prlimit(one.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (0, hard))
    yield
    for one in scene.gateways:
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextlib.contextmanager
def read_only(scene: Scene) -> Iterator[None]:
    """Its files may not be changed any more, open or not."""
    files = [str(one) for one in scene.file.parent.glob("fleetgate.db*") if one.suffix != ".db-shm"]
    _chattr("+i", files)
    try:
        yield
    finally:
        _chattr("-i", files)


def _chattr(change: str, files: list[str]) -> None:
    if shutil.which("chattr") is None:
        raise Missing("chattr is not installed")
    done = subprocess.run(["chattr", change, *files], capture_output=True, text=True, check=False, timeout=10)
    if done.returncode:
        raise Missing(f"files cannot be made unchangeable here: {done.stderr.strip()}")


@contextlib.contextmanager
def full(scene: Scene) -> Iterator[None]:
    """A small disk, filled to its last byte."""
    assert scene.state is not None
    filler = scene.state / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4_096))
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Raises Missing where nothing can be mounted."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "fleetgate-chaos", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError as error:
        raise Missing(f"no disk can be mounted: {error}") from None
    if done.returncode:
        raise Missing(f"no disk can be mounted: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False, timeout=10)


@contextlib.contextmanager
def postgres_stopped(scene: Scene) -> Iterator[None]:
    scene.postgres.stop()
    yield
    scene.postgres.start()


@contextlib.contextmanager
def postgres_frozen(scene: Scene) -> Iterator[None]:
    scene.postgres.freeze()
    yield
    scene.postgres.thaw()


@contextlib.contextmanager
def redis_stopped(scene: Scene) -> Iterator[None]:
    scene.redis.kill()
    yield
    scene.redis.start()


@contextlib.contextmanager
def redis_frozen(scene: Scene) -> Iterator[None]:
    scene.redis.freeze()
    yield
    scene.redis.thaw()


@contextlib.contextmanager
def redis_flushed(scene: Scene) -> Iterator[None]:
    scene.redis.flush()
    yield


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    fault: Fault
    paid: str
    """what becomes of paid requests meanwhile: `refused`, `answered`, `both` (as long as there is room)"""
    shared: bool = False
    small_disk: bool = False


CASES: Final = (
    Case("database locked", locked, "refused"),
    Case("database read-only", read_only, "refused"),
    Case("nothing can be written", no_writing, "refused"),
    Case("disk full", full, "both", small_disk=True),
    Case("PostgreSQL stopped", postgres_stopped, "refused", shared=True),
    Case("PostgreSQL frozen", postgres_frozen, "refused", shared=True),
    Case("Redis stopped", redis_stopped, "answered", shared=True),
    Case("Redis frozen", redis_frozen, "answered", shared=True),
    Case("Redis flushed", redis_flushed, "answered", shared=True),
)


@dataclass
class Outcome:
    figures_: dict[str, Any] = field(default_factory=dict)
    verdict: books.Verdict = field(default_factory=books.Verdict)
    missing: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return self.figures_


def run(directory: Path, seed: int, seconds: float, cases: tuple[Case, ...] = CASES) -> Outcome:
    outcome = Outcome()
    for number, case in enumerate(cases):
        print(f"{case.name}, {seconds:g} s …", file=sys.stderr, flush=True)
        place = directory / f"case-{number}"
        place.mkdir()
        try:
            _run(place, case, seed, seconds, outcome)
        except Missing as why:
            outcome.missing.append(f"{case.name}: {why}")
    return outcome


def _run(directory: Path, case: Case, seed: int, seconds: float, outcome: Outcome) -> None:
    limits = [
        {"scope": "global", "money": "20 USD"},
        {"scope": {"key": "*"}, "requests": 1_000_000, "per": "day"},
        {"scope": {"key": "*"}, "requests": 1_000_000, "per": "minute", "name": "pace"},
    ]
    with ExitStack() as stack:
        shared: dict[str, str] = {}
        scene = Scene([])
        if case.shared:
            scene.postgres = stack.enter_context(postgres_running())
            scene.redis = stack.enter_context(redis_running())
            shared = {"database": scene.postgres.url, "shared_state": scene.redis.url}
        if case.small_disk:
            scene.state = stack.enter_context(small_disk(directory / "disk"))
        script = Script(seed=seed, faults=0.0, slow=0.0)
        stage, provider = stack.enter_context(staged(directory, script, limits=limits, gateway=shared))
        gateway = stage.gateway(state=scene.state)
        scene.gateways.append(gateway)
        ready_in(gateway)
        play = _Play(gateway, new_key(gateway, "known"), scene, case, seconds)
        asyncio.run(play.run(seed))
        books_now = _read(scene, shared, directory)
        journal = books.Journal(provider.journal)
        journal.read()
        before = Counter(outcome.verdict.figures)
        books.compare(books_now, journal, outcome.verdict)
        books.compare_told(books_now, journal, play.told, None, outcome.verdict)
        play.judge(outcome)
        lost = outcome.verdict.figures["lost rows"] - before["lost rows"]
        outcome.figures_[case.name] |= {"answers without an entry": lost}
        gateway.stop()


def _read(scene: Scene, shared: dict[str, str], directory: Path) -> books.Books:
    if not shared:
        return books.read_file(scene.file, directory / "copy.db")
    address = shared["database"].replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(address, isolation_level="REPEATABLE READ")
    try:
        with engine.connect() as connection, connection.begin():
            return books.read(connection)
    finally:
        engine.dispose()


@dataclass
class _Play:
    """One fault under load, and what everybody was told."""

    gateway: RunningGateway
    key: str
    scene: Scene
    case: Case
    seconds: float
    told: list[Told] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
    recovered: float = float("inf")
    unready: int = 0

    async def run(self, seed: int) -> None:
        def known(model: str) -> Callable[[random.Random], Wish]:
            return lambda chance: Wish(model, self.key, chance.random() < 0.5)

        loads = [
            Load(known("box/m"), 4, pause=0.05),
            Load(known("p/m"), 3, pause=0.05),
            Load(lambda _: Wish("box/m", NOBODYS), 1, pause=0.1),
        ]
        loop = asyncio.get_running_loop()
        running = [loop.create_task(one.run(self.gateway.port, seed)) for one in loads]
        watch = loop.create_task(self._watch())
        try:
            await asyncio.sleep(WARM)
            await self._fault()
            await self._recover(loads[1])
            await asyncio.sleep(1.0)
        finally:
            for one in loads:
                one.stopped = True
            await asyncio.gather(*running)
            watch.cancel()
            self.told = [told for one in loads for told in one.told]
        await self._quiet()

    async def _fault(self) -> None:
        with self.case.fault(self.scene):
            self.began = time.monotonic()
            await asyncio.sleep(self.seconds)
            # How long a database takes to come back is its own matter.
            self.ended = time.monotonic()
        self.back = time.monotonic()

    back: float = 0.0

    async def _recover(self, paid: Load) -> None:
        """Until the first paid answer."""
        limit = self.back + PATIENCE
        while time.monotonic() < limit:
            good = [one.ended for one in paid.told if one.answered and one.began > self.ended]
            if good:
                self.recovered = max(0.0, good[0] - self.back)
                return
            await asyncio.sleep(0.01)

    async def _watch(self) -> None:
        while True:
            if await asyncio.to_thread(status_of, self.gateway.port, "/readyz") != 200:
                self.unready += 1
            await asyncio.sleep(0.1)

    async def _quiet(self) -> None:
        """Until what waited in memory is written: an orderly look at the ledger needs no open requests."""
        await asyncio.sleep(2.5)

    def judge(self, outcome: Outcome) -> None:
        name, verdict = self.case.name, outcome.verdict
        during = [one for one in self.told if self.began <= one.began and one.ended <= self.ended]
        free = [one for one in during if one.wish.model == "box/m" and one.wish.key == self.key]
        paid = [one for one in during if one.wish.model == "p/m"]
        refused = [one for one in paid if one.status == 503 and one.retry_after]
        strangers = [one for one in self.told if one.wish.key == NOBODYS]
        let_in = [one for one in strangers if one.status not in (401, 503)]
        failed = [one for one in free if not one.answered]
        odd = [one for one in paid if one not in refused and not one.answered]
        paid_for = [one for one in paid if one.answered]
        for one in failed:
            verdict.breaks("free errors", f"{name}: {one.status} {one.code}")
        for one in let_in:
            verdict.breaks("strangers", f"{name}: {one.status}")
        for one in odd:
            verdict.breaks("paid answers", f"{name}: {one.status} {one.code} {one.retry_after}")
        if self.case.paid == "answered":
            for one in refused:
                verdict.breaks("paid refusals", f"{name}: {one.code}")
        if self.case.paid == "refused":
            # What was under way when it began may be answered; nothing that was asked later.
            for one in paid_for:
                verdict.breaks(
                    "paid answers", f"{name}: answered {one.began - self.began:.2f} s after its begin"
                )
        if self.unready:
            verdict.breaks("unready", f"{name}: {self.unready} times")
        if self.recovered > RECOVERED_WITHIN:
            verdict.breaks("late recoveries", f"{name}: {self.recovered:.1f} s")
        outcome.figures_[name] = {
            "free answers": len(free) - len(failed),
            "free errors": len(failed),
            "slowest free ms": round(max((one.ended - one.began for one in free), default=0) * 1e3),
            "paid refused": len(refused),
            "paid answered": len(paid_for),
            "slowest refusal ms": round(max((one.ended - one.began for one in refused), default=0) * 1e3),
            "unknown keys refused": len(strangers) - len(let_in),
            "unknown keys let in": len(let_in),
            "back after s": round(self.recovered, 2),
        }
