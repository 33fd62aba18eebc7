"""What is promised about the package itself: the locks, the version, and the scripts behind `make`."""

from __future__ import annotations

import importlib.metadata
import os
import re
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fleetgate

ROOT: Final = Path(__file__).resolve().parent.parent
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS: Final = ("core", "dev")
MOST_CORE_PACKAGES: Final = 40


def lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def entries(name: str) -> dict[str, tuple[str, str]]:
    """Package → (version, the whole entry)."""
    found = {}
    for entry in re.split(r"\n(?=\S)", lock(name).strip()):
        if match := re.match(r"([A-Za-z0-9._-]+)==(\S+)", entry):
            found[canonicalize_name(match[1])] = (match[2], entry)
    return found


def group(name: str) -> list[str]:
    lines: list[str] = []
    for line in PROJECT["dependency-groups"][name]:
        lines += group(line["include-group"]) if isinstance(line, dict) else [line]
    return lines


def closure(lines: list[str]) -> set[str]:
    """Everything that these requirements bring along here, by the metadata of what is installed."""
    found: set[str] = set()
    waiting = [(Requirement(line), "") for line in lines]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras) if name not in found else requirement.extras:
            waiting += [(Requirement(line), wanted) for line in importlib.metadata.requires(name) or ()]
        found.add(name)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_names_no_address(name: str) -> None:
    assert "://" not in lock(name)
    assert not re.search(
        r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|-e)\b", lock(name), re.MULTILINE
    )


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_is_pinned_and_hashed(name: str) -> None:
    for line in lock(name).splitlines():
        assert re.fullmatch(r"[a-z0-9._-]+==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
    for package, (_, entry) in entries(name).items():
        assert entry.count("--hash=sha256:") >= 1, package


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_fits_the_project(name: str) -> None:
    # A dependency was added or raised without `make lock` when this fails.
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["local"]]
    asked += group("build" if name == "core" else "dev")
    for requirement in map(Requirement, asked):
        version, _ = entries(name)[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is not {version}"


def test_both_locks_name_the_same_versions() -> None:
    dev = {package: version for package, (version, _) in entries("dev").items()}
    core = {package: version for package, (version, _) in entries("core").items()}
    assert core.items() <= dev.items()


def test_the_core_stays_small() -> None:
    core = closure(PROJECT["project"]["dependencies"])
    assert core <= set(entries("core"))
    assert len(core) <= MOST_CORE_PACKAGES, sorted(core)


def test_one_version_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == fleetgate.__version__ == PROJECT["project"]["version"]


# --- scripts ------------------------------------------------------------------------------------------


def test_a_wheel_has_every_file_of_the_package(tmp_path: Path) -> None:
    """Data as well as modules: prices, what retires, the fleet of the demonstration."""
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        held = {name for name in packed.namelist() if name.startswith("fleetgate/")}
    source = ROOT / "src"
    files = [path for path in (source / "fleetgate").rglob("*") if path.is_file()]
    names = {path.relative_to(source).as_posix() for path in files if "__pycache__" not in path.parts}
    assert {"fleetgate/prices/known.json", "fleetgate/prices/retired.json"} <= held
    assert held == names


def scripts() -> list[Path]:
    # Without their interpreter line, files are sourced or read by Python.
    candidates = [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci" / "run"]
    return [file for file in candidates if file.is_file() and file.read_bytes().startswith(b"#!")]


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.name)
def test_scripts_are_executable_and_parse(script: Path) -> None:
    assert os.access(script, os.X_OK)
    shell = script.read_text(encoding="utf-8").splitlines()[0].split("/")[-1].split()[-1]
    subprocess.run([shell, "-n", str(script)], check=True)


def test_every_make_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == set(re.findall(r"^([a-z]+):[^#\n]*## \S", makefile, re.MULTILINE))


def checkout(folder: Path, gateway: str) -> Path:
    """A tree with our scripts and a stand-in for the installed gateway."""
    (folder / "scripts").mkdir()
    for name in ("up", "down", "state"):
        script = folder / "scripts" / name
        script.write_bytes((ROOT / "scripts" / name).read_bytes())
        script.chmod(0o755)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, text in (("fleetgate", gateway), ("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    return folder


def script(folder: Path, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "scripts" / name],
        env={"PATH": os.defpath, "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), **environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


GATEWAY: Final = """\
#!{python}
import http.server, signal, sys
assert sys.argv[1:] == ["up"], sys.argv
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", {port}), Answers).serve_forever()
"""


def test_up_detached_returns_when_ready_and_down_stops_it(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    folder = checkout(tmp_path, GATEWAY.format(python=sys.executable, port=port))
    url = f"http://127.0.0.1:{port}/readyz"
    try:
        up = script(folder, "up", DETACH="1", READY_URL=url)
        assert up.returncode == 0, up.stderr
        pid = int((folder / "state" / "fleetgate" / "up.pid").read_text())
        log = folder / "state" / "fleetgate" / "up.log"
        assert f"ready: pid {pid}, log {log}" in up.stdout
        assert "make down" in up.stdout
        assert log.read_text().startswith("listening\n")
        again = script(folder, "up", DETACH="1", READY_URL=url)
        assert (again.returncode, again.stdout.split(";")[0]) == (0, f"already running (pid {pid})")
    finally:
        down = script(folder, "down")
    assert (down.returncode, down.stdout) == (0, "stopped\n")
    assert "nothing to stop" in script(folder, "down").stdout
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) != 0


def test_up_detached_shows_why_a_start_failed(tmp_path: Path) -> None:
    folder = checkout(tmp_path, "#!/bin/sh\necho 'fleetgate: the file is wrong' >&2\nexit 78\n")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # held, never listening: nothing can be ready there
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/readyz"
        up = script(folder, "up", DETACH="1", READY_URL=url)
    assert up.returncode == 1
    assert "the file is wrong" in up.stderr


def test_up_in_the_foreground_becomes_the_gateway(tmp_path: Path) -> None:
    folder = checkout(tmp_path, "#!/bin/sh\necho $$ $1\nexit 5\n")
    up = script(folder, "up")
    assert (up.returncode, up.stdout.split()[1]) == (5, "up")
