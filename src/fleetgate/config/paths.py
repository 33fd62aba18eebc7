"""Where things lie: XDG and systemd directories, the default configuration file, and why a path is wrong."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleetgate.config.findings import Finding, Place, finding

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = "fleetgate"
FILE: Final = "config.yaml"
SYSTEM_FILE: Final = Path("/etc/fleetgate/config.yaml")


@dataclass(frozen=True, slots=True)
class Directories:
    """One directory for each purpose. None of them is created here."""

    config: Path
    state: Path
    cache: Path
    runtime: Path


def directories(environ: Mapping[str, str]) -> Directories:
    """What systemd gives, else the XDG directories, else their defaults below the home directory."""
    home = Path(environ.get("HOME") or Path.home())
    state = _directory(environ, "STATE_DIRECTORY", "XDG_STATE_HOME", home / ".local/state")
    return Directories(
        config=_directory(environ, "CONFIGURATION_DIRECTORY", "XDG_CONFIG_HOME", home / ".config"),
        state=state,
        cache=_directory(environ, "CACHE_DIRECTORY", "XDG_CACHE_HOME", home / ".cache"),
        runtime=_directory(environ, "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", state / "run", own=True),
    )


def _directory(
    environ: Mapping[str, str], systemd: str, xdg: str, default: Path, *, own: bool = False
) -> Path:
    # systemd joins several directories with colons; the first one is ours.
    given = environ.get(systemd, "").partition(":")[0]
    if given:
        return Path(given)
    base = Path(environ.get(xdg, ""))
    if base.is_absolute():
        return base / NAME
    return default if own else default / NAME


def candidates(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where a configuration is looked for when none is named, best first."""
    return tuple(dict.fromkeys((directories(environ).config / FILE, SYSTEM_FILE)))


def find_config(environ: Mapping[str, str]) -> Path | None:
    """The configuration to use: `FLEETGATE_CONFIG` (there or not), else the first default that exists."""
    named = environ.get("FLEETGATE_CONFIG", "").strip()
    if named:
        return Path(named).expanduser()
    holder = environ.get("FLEETGATE_CONFIG_FILE", "").strip()
    if holder:
        try:
            return Path(Path(holder).read_text(encoding="utf-8").strip()).expanduser()
        except (OSError, UnicodeDecodeError):
            return Path(holder)
    return next((path for path in candidates(environ) if _exists(path)), None)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # not even allowed to look: the reader will say so
        return True


def problem_with(path: Path) -> Finding | None:
    """Why a path cannot be a configuration file; None where it can be read."""
    place = Place(str(path))
    if path.is_dir():
        inside = _listed(path)
        hint = f"it holds {', '.join(inside)}" if inside else "name the file"
        mount = (
            "a container mount of a missing host file creates a directory: check the left side of the mount"
        )
        return finding("error", place, (), "this is a directory, not a file", f"{hint}; {mount}")
    try:
        with path.open("rb"):
            return None
    except FileNotFoundError:
        return finding("error", place, (), "there is no such file", _missing_hint(path))
    except OSError as error:
        reason = (error.strerror or "unknown").lower()
        return finding("error", place, (), f"cannot be read ({reason})", "check its owner and mode")


def _missing_hint(path: Path) -> str:
    if not path.parent.is_dir():
        return f"the directory {path.parent} does not exist either"
    names = _listed(path.parent)
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if near:
        return f"beside it: {', '.join(near)}"
    if names:
        return f"beside it: {', '.join(names)}"
    return "`fleetgate init` writes a first one"


def _listed(directory: Path) -> list[str]:
    """The YAML files of a directory, at most five."""
    try:
        names = sorted(entry.name for entry in directory.iterdir() if entry.suffix in {".yaml", ".yml"})
    except OSError:
        return []
    return names[:5]
