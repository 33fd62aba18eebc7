"""`fleetgate budget`: how much is spent, and the switch that stops everything that costs money."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from fleetgate import units
from fleetgate.cli.remote import json_option, reaching, remote_of, table

if TYPE_CHECKING:
    from pathlib import Path

NONE: Final = "-"


@click.group(invoke_without_command=True)
@json_option
@reaching
@click.pass_context
def budget(call: click.Context, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Budgets: what is spent, held and left; and the switch that stops everything that costs money.

    A budget is a limit on money: `fleetgate limits add --money '20 USD'`, or `limits:` in the file.

    \b
    Examples:
      fleetgate budget
      fleetgate budget pause --why "the card was stolen"
      fleetgate budget resume
      fleetgate budget check
    """
    if call.invoked_subcommand is not None:
        return
    document = remote_of(url, key_file).get("/admin/api/budget")
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    _print(document)


@budget.command()
@click.option("--why", default="", help="Why; shown by `fleetgate budget` and in the trail.")
@json_option
@reaching
def pause(why: str, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Ask nothing any more that costs money, at once and for everybody. Own machines go on.

    What is under way is not cut off.

    \b
    Examples:
      fleetgate budget pause --why "end of the month"
    """
    answer = remote_of(url, key_file).change("POST", "/admin/api/budget/pause", {"why": why})
    click.echo(json.dumps(answer, indent=2) if as_json else "paid models are off: fleetgate budget resume")


@budget.command()
@json_option
@reaching
def resume(url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Let paid models be asked again.

    \b
    Examples:
      fleetgate budget resume
    """
    answer = remote_of(url, key_file).change("POST", "/admin/api/budget/resume", {})
    click.echo(json.dumps(answer, indent=2) if as_json else "paid models are on")


@budget.command()
@json_option
@reaching
def check(url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Compare every counter and every sum of the ledger with the events they were made of.

    \b
    Examples:
      fleetgate budget check
    """
    answer = remote_of(url, key_file).get("/admin/api/budget/check")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        for finding in answer["findings"]:
            click.echo(finding)
        if answer["ok"]:
            click.echo("every counter and every sum is what its events say")
    if not answer["ok"]:
        raise SystemExit(1)


def _print(document: dict[str, Any]) -> None:
    off = document["paid_off"]
    if off is not None:
        why = f": {off['why']}" if off["why"] else ""
        click.echo(f"PAID MODELS ARE OFF since {off['since']}, by {off['who']}{why}")
    rows = document["rows"]
    if not rows:
        click.echo(
            "There are no budgets: `fleetgate limits add --money '20 USD'` makes one.",
            err=True,
        )
        return
    table(
        ("BUDGET", "OF", "SPENT", "HELD", "CEILING", "LEFT", "UNTIL", "THEN"),
        [_line(row, document["currency"]) for row in rows],
    )


def _line(row: dict[str, Any], currency: dict[str, Any]) -> tuple[str, ...]:
    spent, held, ceiling = (row[f"{name}_nano_usd"] for name in ("spent", "held", "ceiling"))
    amounts = (spent, held, ceiling, max(0, ceiling - spent - held))
    return (
        f"{row['name']}: {row['words']}" if row["name"] else row["words"],
        row["of"] or NONE,
        *(units.print_money(one, currency["code"], currency["rate"]) for one in amounts),
        row["frees_at"] or NONE,
        row["then"].replace("_", " "),
    )
