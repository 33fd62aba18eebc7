"""`fleetgate check`, `fleetgate config show|schema`, `fleetgate init`: the configuration at a terminal.

Findings and settings go to stdout, because they are what was asked for; everything said about them
goes to stderr. Exit codes: 0 fine (warnings included), 78 the configuration has errors.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fleetgate.cli.remote import running_configuration
from fleetgate.cli.terminal import paint, wants_colour
from fleetgate.config.environment import process_environment
from fleetgate.config.json_schema import ID, json_schema
from fleetgate.config.load import Loaded, load
from fleetgate.config.paths import candidates, find_config
from fleetgate.litellm_config import convert
from fleetgate.prices.check import of_models

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetgate.config.findings import Finding

EXIT_BAD_CONFIG: Final = 78
_COLOURS: Final = {"error": "red", "warning": "yellow", "note": "dim"}

_FILE = click.Path(path_type=Path)
_config = click.option("--config", "config_file", type=_FILE, metavar="FILE", help="The configuration file.")
_overlay = click.option(
    "--overlay",
    "overlays",
    type=_FILE,
    multiple=True,
    metavar="FILE",
    help="A file laid over it; may repeat.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.command()
@click.argument("file", type=_FILE, required=False)
@_config
@_overlay
@_json
def check(file: Path | None, config_file: Path | None, overlays: tuple[Path, ...], *, as_json: bool) -> None:
    """Check a configuration without starting anything.

    Every problem is printed as file:line:column: path: what is wrong; what would be right. Warnings do
    not fail; errors exit with 78.

    \b
    Examples:
      fleetgate check
      fleetgate check config.yaml
      fleetgate check --config config.yaml --overlay site.yaml
      fleetgate check config.yaml --json | jq '.rows[] | select(.severity == "error")'
    """
    if file is not None and config_file is not None and file != config_file:
        raise click.UsageError("two files are named: give FILE or --config, not both")
    named = file or config_file
    loaded = _load(named, overlays)
    if as_json:
        document = {"ok": not loaded.errors, "rows": [found.row() for found in loaded.findings]}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print_findings(loaded.findings, err=False)
        click.echo(_summary(loaded), err=True)
    if loaded.errors:
        sys.exit(EXIT_BAD_CONFIG)


@click.group()
def config() -> None:
    """Look at the configuration.

    \b
    Examples:
      fleetgate config show --origin
      fleetgate config schema > fleetgate.schema.json
    """


@config.command()
@_config
@_overlay
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.option("--all", "everything", is_flag=True, help="Show settings that are left open, too.")
@_json
def show(
    config_file: Path | None, overlays: tuple[Path, ...], *, origin: bool, everything: bool, as_json: bool
) -> None:
    """Show every setting in effect, secrets as fingerprints.

    Where a gateway runs on this host and refuses or holds what the file says now, that is said too.

    \b
    Examples:
      fleetgate config show
      fleetgate config show --origin --config config.yaml
      fleetgate config show --json | jq -r '.rows[] | select(.origin != "default") | .path'
    """
    loaded = _load(config_file, overlays)
    if loaded.settings is None:
        _print_findings(loaded.errors, err=True)
        click.echo(_summary(loaded), err=True)
        sys.exit(EXIT_BAD_CONFIG)
    rows = [row for row in loaded.origins if everything or row.value not in {"-", "", "[]", "{}"}]
    if as_json:
        click.echo(json.dumps({"rows": [row.row() for row in loaded.origins]}, indent=2, ensure_ascii=False))
        return
    colour = wants_colour(sys.stdout, process_environment())
    for row in rows:
        line = f"{row.path}: {row.value}"
        click.echo(f"{line}  {paint(f'# {row.origin}', 'dim', on=colour)}" if origin else line, color=colour)
    if config_file is None:
        _say_what_runs()


def _say_what_runs() -> None:
    """What the running gateway thinks of the file; nothing where none runs."""
    running = running_configuration()
    if running is None or running["rejected"] is None:
        return
    verb = "holds" if running["held"] else "refuses"
    hint = "; `fleetgate reload` confirms it" if running["held"] else ""
    click.echo(f"the running gateway {verb} this file: {running['rejected']}{hint}", err=True)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors.

    \b
    Example:
      fleetgate config schema > fleetgate.schema.json
      # first line of config.yaml:  # yaml-language-server: $schema=fleetgate.schema.json
    """
    click.echo(json.dumps(json_schema(), indent=2))


@click.command()
@click.argument("directory", type=_FILE, default=Path(), metavar="[DIR]")
@click.option("--force", is_flag=True, help="Overwrite what is there, the key included.")
def init(directory: Path, *, force: bool) -> None:
    """Write a first configuration: config.yaml, a private .env with a random admin key, .gitignore.

    \b
    Examples:
      fleetgate init
      fleetgate init ~/.config/fleetgate
    """
    first = {
        directory / "config.yaml": (_first_config(), 0o644),
        directory / ID: (json.dumps(json_schema(), indent=2) + "\n", 0o644),
        directory / ".env": (_first_environment(), 0o600),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        there = [path.name for path in first if path.exists() or path.is_symlink()]
        if there and not force:
            raise click.ClickException(
                f"{', '.join(there)} in {directory}: already there; --force overwrites"
            )
        for path, (text, mode) in first.items():
            _write(path, text, mode)
        _ignore(directory / ".gitignore")
    except OSError as error:
        reason = (error.strerror or "unknown").lower()
        raise click.ClickException(f"{error.filename}: cannot be written ({reason})") from error
    click.echo(f"wrote {', '.join(path.name for path in first)} and .gitignore in {directory}", err=True)
    click.echo(_next_steps(directory), err=True)


def _load(named: Path | None, overlays: tuple[Path, ...]) -> Loaded:
    environ = process_environment()
    source = named or find_config(environ)
    if source is None:
        looked = " or ".join(str(path) for path in candidates(environ))
        click.echo(f"no configuration file at {looked}: the defaults are in effect", err=True)
    further = of_models(time.time)  # noqa: TID251  (retirements have days)
    return load(source, environ, overlays, convert=convert, further=further)


def _print_findings(findings: Iterable[Finding], *, err: bool) -> None:
    colour = wants_colour(sys.stderr if err else sys.stdout, process_environment())
    for found in findings:
        line = found.render()
        if found.severity != "error":
            line += f" ({found.severity})"
        click.echo(paint(line, _COLOURS[found.severity], on=colour), err=err, color=colour)


def _summary(loaded: Loaded) -> str:
    counts: Counter[str] = Counter(found.severity for found in loaded.findings)
    told = ", ".join(
        f"{counts[severity]} {severity}{'' if counts[severity] == 1 else 's'}"
        for severity in _COLOURS
        if counts[severity]
    )
    colour = wants_colour(sys.stderr, process_environment())
    if loaded.errors:
        return f"{paint('not usable', 'red', on=colour)}: {told}"
    return paint("ok", "green", on=colour) + (f": {told}" if told else "")


def _first_config() -> str:
    return f"""\
# yaml-language-server: $schema={ID}
#
# Fleetgate's configuration. `fleetgate check` says what is wrong with it; a running gateway applies
# changes to it by itself. Every setting: `fleetgate config show --all`.

gateway:
  listen: 127.0.0.1:4000        # add other addresses to be reached from other machines
  auth: keys                    # every request needs a key; the first one is in .env

# Your machines. (Only where there is no file are the engines of this host found by themselves.)
# nodes:
#   workstation:
#     address: 192.168.1.20
#     power: manual             # always | on_demand | manual: may it be off?
#     engines:
#       - {{kind: ollama}}        # its models are discovered

# Cloud providers. Keys are references, never written out here.
# providers:
#   openai: {{key: "${{OPENAI_API_KEY}}", models: [{{id: gpt-4o-mini}}]}}

# Names for your applications: what stands behind them can change.
# roles:
#   chat:
#     policy: chain             # one after the other
#     use: [workstation/llama3.1, openai/gpt-4o-mini]
# aliases: {{default: chat}}
"""


def _first_environment() -> str:
    return (
        "# The admin key of the gateway. Keep this file private; it is in .gitignore.\n"
        f"FLEETGATE_MASTER_KEY=sk-{secrets.token_urlsafe(32)}\n"
        "# OPENAI_API_KEY=\n"
    )


def _next_steps(directory: Path) -> str:
    file = directory / "config.yaml"
    return (
        "next:\n"
        f"  set -a; . {directory / '.env'}; set +a     # the key, for this shell\n"
        f"  fleetgate check {file}\n"
        f"  fleetgate serve --config {file}\n"
        '  ASK_API_KEY=$FLEETGATE_MASTER_KEY ask "hello"     # in a second terminal, after the first line'
    )


def _write(path: Path, text: str, mode: int) -> None:
    """Writes beside and renames, so that nobody sees half a file or a key that others can read."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _ignore(path: Path) -> None:
    """Adds what git must not see, and leaves what stands there."""
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [name for name in (".env", "*.key") if name not in there.splitlines()]
    if missing:
        gap = "" if not there or there.endswith("\n") else "\n"
        path.write_text(there + gap + "\n".join(missing) + "\n", encoding="utf-8")
