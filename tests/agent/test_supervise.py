"""Supervision of real processes: small Python programs that live, die and refuse to die."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleetgate.agent import leash
from fleetgate.agent.supervise import Bounds, Child, ChildFailed

SOURCE = Path(__file__).parents[2] / "src"
QUICK = Bounds(restarts=2, first_pause=0.01, longest_pause=0.02, grace=5)
PARENT = """
import os, subprocess, sys
from fleetgate.agent import leash
program = "import signal; print('up'); signal.pause()"
command = leash.leashed([sys.executable, "-u", "-c", program], os.getpid())
below = subprocess.Popen(command, stdout=subprocess.PIPE)
below.stdout.readline()
print(below.pid, flush=True)
sys.stdin.read()
"""
WAITS = "import signal; signal.pause()"


def child(program: str, is_ready=None, *, bounds=QUICK) -> Child:
    async def at_once() -> bool:
        return True

    return Child("the child", (sys.executable, "-c", program), is_ready or at_once, clock=time.monotonic,
                 bounds=bounds)  # fmt: skip


async def until(true) -> None:
    """There is no event for it: the child's life is all there is to see."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_runs_becomes_ready_and_stops() -> None:
    answers = iter([False, False, True])

    async def is_ready() -> bool:
        return next(answers)

    one = child(WAITS, is_ready)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(one.run())
        await one.ready()
        assert one.is_up
        pid = one.pid
        assert pid is not None
        assert os.getpgid(pid) == pid
        await one.stop()
        await running
    assert not one.is_up
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.asyncio
async def test_a_killed_child_is_started_again() -> None:
    one = child(WAITS)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(one.run())
        await one.ready()
        first = one.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: one.pid != first)
        await one.ready()
        assert one.restarts == 1
        await one.stop()


@pytest.mark.asyncio
async def test_one_that_keeps_dying_is_given_up_with_its_last_words() -> None:
    """A supervisor without a bound on restarts turns a bad option into a machine under full load."""

    async def never() -> bool:
        return False

    one = child("import sys; sys.exit('no such model file')", never)
    with pytest.raises(ChildFailed, match=r"ended 3 times in 60 s \(exit code 1\).*\nno such model file"):
        await one.run()
    assert one.restarts == 2
    with pytest.raises(ChildFailed, match="no such model file"):
        await one.ready()


@pytest.mark.asyncio
async def test_deaths_long_ago_do_not_count() -> None:
    moments = iter(range(0, 10_000, 100))
    lives = 0

    async def is_ready() -> bool:
        nonlocal lives
        lives += 1
        return True

    one = Child("it", (sys.executable, "-c", ""), is_ready, clock=lambda: next(moments), bounds=QUICK)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(one.run())
        await until(lambda: one.restarts == 4)
        await one.stop()


@pytest.mark.asyncio
async def test_a_program_that_does_not_exist() -> None:
    async def never() -> bool:
        return False

    one = Child("it", ("/nonexistent/program",), never, clock=time.monotonic)
    with pytest.raises(ChildFailed, match="it cannot be started: "):
        await one.run()


@pytest.mark.asyncio
async def test_kill_follows_term_and_takes_the_whole_group(tmp_path: Path) -> None:
    """An engine's own children hold the GPU's memory: ending only the first process leaves it taken."""
    said = tmp_path / "said"
    program = (
        "import os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "below = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"open({str(said)!r}, 'w').write(str(below.pid) + '\\n')\n"
        "signal.pause()\n"
    )

    async def is_ready() -> bool:
        return said.exists() and said.read_text().endswith("\n")

    one = child(program, is_ready, bounds=Bounds(grace=0.05))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(one.run())
        await one.ready()
        below = os.pidfd_open(int(said.read_text()))
        await one.stop()
    await _ended(below)


@pytest.mark.asyncio
async def test_cancelling_ends_the_process() -> None:
    one = child(WAITS)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(one.run())
        await one.ready()
        running.cancel()
    assert not _alive(one.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends foreign programs by itself")
def test_a_leashed_program_ends_with_its_parent() -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PARENT,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},  # noqa: TID251  (a child's)
    )
    with parent:
        below = int(parent.stdout.readline())
        assert _alive(below)
        parent.kill()
    for _ in range(500):
        if not _alive(below):
            break
        time.sleep(0.01)
    assert not _alive(below)


def test_attaching_to_a_parent_that_is_gone_ends_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleetgate.agent.leash", "--parent-pid", "1", "--", "true"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},  # noqa: TID251  (a child's)
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is gone" in done.stderr


def test_waiting_for_the_end_of_a_parent_that_is_gone_returns() -> None:
    leash.wait_for_end(1 if os.getppid() != 1 else 2)


async def _ended(process: int) -> None:
    """Wait for the end of a process that is not ours to reap: a signal is sent before it has worked."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process, over.set)
    try:
        async with asyncio.timeout(10):
            await over.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)


def _alive(pid: int) -> bool:
    """Running, not merely waiting to be reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
