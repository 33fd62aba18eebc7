"""Ties a process to its parent: when the parent is gone, however it went, the process ends too.

Without it, a gateway that is killed leaves engines behind that hold memory and ports. Our own
processes wait for their parent's end (`wait_for_end`). Programs that are not ours are started as
`python -m fleetgate.agent.leash --parent-pid P -- PROGRAM …`: on Linux the kernel is told to kill
them (`PR_SET_PDEATHSIG` survives `exec`); elsewhere they are on their own.

The kernel's "parent" is the *thread* that started the process: start leashed programs from one that
lasts, in asyncio the loop's own.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_PR_SET_PDEATHSIG: Final = 1


def attach(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies; end at once if it already has."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the call above, and then no signal ever comes.
    if os.getppid() != parent:
        raise SystemExit(f"the process that started this one ({parent}) is gone")


def wait_for_end(parent: int) -> None:
    """Return when the parent is gone, at once if it already is."""
    if sys.platform == "darwin":
        queue = select.kqueue()
        event = select.kevent(parent, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
        queue.control([event], 1)
        return
    if sys.platform == "linux":
        # Old kernels and some sandboxes do not have it; the loop below serves them.
        with contextlib.suppress(OSError):
            end = os.pidfd_open(parent)
            # The number may belong to somebody else by now if the parent ended before we asked.
            if os.getppid() == parent:
                poll = select.poll()
                poll.register(end, select.POLLIN)
                poll.poll()
            return
    while os.getppid() == parent:
        time.sleep(1)


def leashed(command: Sequence[str], parent: int) -> list[str]:
    """The command that runs `command` tied to the process `parent`."""
    return [sys.executable, "-m", "fleetgate.agent.leash", "--parent-pid", str(parent), "--", *command]


def main() -> None:
    parser = argparse.ArgumentParser(prog="fleetgate.agent.leash", description=__doc__)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    attach(given.parent_pid)
    os.execvp(given.command[0], given.command)  # noqa: S606  (the command is our own configuration)


if __name__ == "__main__":
    main()
