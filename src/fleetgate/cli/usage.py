"""`fleetgate usage`: what was used, by whom and where, and what it cost. A running gateway knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from fleetgate import units
from fleetgate.cli.remote import json_option, reaching, remote_of, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

AT: Final = "/admin/api/usage"
BY: Final = (
    *("key", "user", "team", "model", "deployment", "node", "provider", "account"),
    *("month", "day", "hour", "cache"),
)
OF: Final = BY[:8]
NONE: Final = "-"
_ALWAYS: Final = (
    ("REQUESTS", "requests"),
    ("FAILED", "failures"),
    ("INPUT", "input_tokens"),
    ("OUTPUT", "output_tokens"),
)
_IF_ANY: Final = (("CACHED INPUT", "cached_tokens"), ("FROM CACHE", "cache_hits"))
_PLACES: Final = 6


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    for name in reversed(OF):
        which = "this key (id or alias)" if name == "key" else f"this {name}"
        command = click.option(f"--{name}", metavar=name.upper(), help=f"Only of {which}.")(command)
    return command


@click.command()
@click.option(
    "--by",
    multiple=True,
    metavar="WHAT",
    help=f"Told apart by this; may repeat: {', '.join(BY)}. Default: key, model, deployment.",
)
@click.option("--since", metavar="TIME", help="From then on: 7d, 12h, 2026-11, 2026-11-01; default: 30d.")
@click.option("--until", metavar="TIME", help="Until the begin of that; default: now.")
@click.option("--zone", metavar="ZONE", help="Time zone of days and dates; default: UTC.")
@_filters
@click.option("--limit", type=click.IntRange(1, 20_000), default=1_000, show_default=True, help="Most rows.")
@click.option("--csv", "as_csv", is_flag=True, help="Print it for a spreadsheet.")
@json_option
@reaching
def usage(
    url: str | None,
    key_file: Path | None,
    by: tuple[str, ...],
    limit: int,
    *,
    as_csv: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Show what was used: requests, tokens, money, energy.

    An exchange counts once, where it was answered. By deployment, node, provider or account every
    attempt that was sent there counts.

    \b
    Examples:
      fleetgate usage
      fleetgate usage --by day --since 7d
      fleetgate usage --by user --by model --since 2026-11 --until 2026-12
      fleetgate usage --by day --key laptop --csv > laptop.csv
    """
    query = {name: value for name, value in given.items() if value is not None}
    if by:
        query["by"] = ",".join(by)
    document = remote_of(url, key_file).get(AT, limit=str(limit), **query)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    elif as_csv:
        from fleetgate.http import usage as routes

        click.echo(routes.as_csv(routes.columns(document["by"]), document["rows"]), nl=False)
    else:
        _print(document)
    if document["more"]:
        click.echo(f"these are the first {limit} rows; the total is that of all", err=True)


def _print(document: Mapping[str, Any]) -> None:
    rows, total = document["rows"], document["total"]
    between = f"from {document['since']} to {document['until']}"
    if not rows:
        click.echo(f"nothing was used {between}", err=True)
        return
    money, names = document["currency"], document["by"]
    numbers = [*_ALWAYS, *(one for one in _IF_ANY if total[one[1]])]
    energy = bool(total["energy_wh"])
    head = [*(name.upper() for name in names), *(title for title, _ in numbers), "COST"]
    lines = [
        [*(_name(row, name) for name in names), *_cells(row, numbers, money, energy=energy)] for row in rows
    ]
    if len(rows) > 1 and names:
        blank = [""] * (len(names) - 1)
        lines.append(["total", *blank, *_cells(total, numbers, money, energy=energy)])
    if energy:
        head += ["ENERGY", "ITS COST"]
    _align(head, lines, range(len(names), len(names) + len(numbers)))
    table(tuple(head), [tuple(line) for line in lines])
    click.echo(between, err=True)


def _name(row: Mapping[str, Any], name: str) -> str:
    return str((row["alias"] if name == "key" else "") or row[name] or NONE)


def _cells(
    row: Mapping[str, Any], numbers: list[tuple[str, str]], money: Mapping[str, Any], *, energy: bool
) -> list[str]:
    cells = [*(f"{row[name]:,}" for _, name in numbers), _cost(row, money)]
    if energy:
        cells += [f"{row['energy_wh']:,.3f} Wh", _amount(row["energy_cost_nano_usd"], money)]
    return cells


def _cost(row: Mapping[str, Any], money: Mapping[str, Any]) -> str:
    """What it cost, and of how many requests that is not known, or not exactly."""
    unknown, estimated = row["cost_unknown_requests"], row["estimated_requests"]
    text = _amount(row["cost_nano_usd"], money)
    if unknown:
        text += f" +{unknown:,} unknown"
    return f"{text} ({estimated:,} estimated)" if estimated else text


def _amount(nano: int, money: Mapping[str, Any]) -> str:
    return units.print_money(nano, money["code"], money["rate"], places=_PLACES)


def _align(head: list[str], lines: list[list[str]], numbers: range) -> None:
    """Numbers end where their column ends."""
    for column in numbers:
        width = max(len(line[column]) for line in (head, *lines))
        for line in (head, *lines):
            line[column] = line[column].rjust(width)
