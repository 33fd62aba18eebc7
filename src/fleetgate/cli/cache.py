"""`fleetgate cache`: what the answer cache holds and spares, and forgetting it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from fleetgate import units
from fleetgate.cli.remote import json_option, reaching, remote_of

if TYPE_CHECKING:
    from pathlib import Path

AT: Final = "/admin/api/cache"
_MIB: Final = 1024 * 1024


@click.group(invoke_without_command=True)
@json_option
@reaching
@click.pass_context
def cache(ctx: click.Context, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Show the answer cache: what it holds, how often it helped.

    \b
    Examples:
      fleetgate cache
      fleetgate cache --json
      fleetgate cache flush
    """
    if ctx.invoked_subcommand is not None:
        return
    document = remote_of(url, key_file).get(AT)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    elif not document["enabled"]:
        click.echo("no answers are kept: there is no `cache` in the configuration", err=True)
    else:
        for name, text in _lines(document):
            click.echo(f"{name:<10}{text}")


@cache.command()
@click.option("--key", metavar="KEY", help="Only the answers to this key (id or alias).")
@json_option
@reaching
def flush(key: str | None, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Forget kept answers.

    \b
    Examples:
      fleetgate cache flush
      fleetgate cache flush --key laptop
    """
    form = {"key": key} if key is not None else {}
    answer = remote_of(url, key_file).change("POST", f"{AT}/flush", form)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(f"forgot {_answers(answer['flushed'])}")


def _lines(document: dict[str, Any]) -> list[tuple[str, str]]:
    asked = document["hits"] + document["joined"] + document["misses"]
    spared = document["hits"] + document["joined"]
    share = f" ({spared / asked:.0%})" if asked else ""
    if document["where"] == "memory":
        used, size = document["bytes"] / _MIB, document["size"] / _MIB
        held = f"{_answers(document['entries'])}, {used:.1f} of {size:.1f} MiB"
    else:
        held = f"in the shared state, which {'answers' if document['shared_healthy'] else 'does not answer'}"
    whose = "all keys together" if document["share"] else "each key apart"
    return [
        ("holds", held),
        ("for", f"{units.print_duration(document['ttl_s'])}, {whose}"),
        (
            "spared",
            f"{spared} of {asked} requests{share}: {document['hits']} hits, {document['joined']} joined",
        ),
        ("kept", f"{document['kept']}; {document['too_large']} too large, {document['evicted']} evicted"),
    ]


def _answers(count: int) -> str:
    return "1 answer" if count == 1 else f"{count} answers"
