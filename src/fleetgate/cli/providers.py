"""`fleetgate providers`: which account of which provider can be used, and until when the others cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from fleetgate import units
from fleetgate.cli.remote import json_option, known, reaching, remote_of, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@click.command()
@json_option
@reaching
def providers(url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """List providers: their accounts, which of them are out and why, unknown prices, and quotas.

    \b
    Examples:
      fleetgate providers
      fleetgate providers --json
    """
    document = remote_of(url, key_file).get("/admin/api/providers")
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    show(document["rows"])


def show(rows: list[dict[str, Any]]) -> None:
    """The rows as tables; what is empty is left out."""
    if not rows:
        click.echo("No providers: write one under `providers:`.", err=True)
        return
    accounts = [line for row in rows for line in _accounts(row)]
    table(("PROVIDER", "ACCOUNT", "STATE", "MODEL", "UNTIL", "WHY"), accounts)
    quotas = [line for row in rows for line in _quotas(row)]
    if quotas:
        click.echo()
        table(("PROVIDER", "QUOTA", "OF", "USED", "CEILING", "FREES IN"), quotas)
    unpriced = [one["deployment"] for row in rows for one in row["models"] if not one["price_known"]]
    if unpriced:
        click.echo(f"\nno price is known for: {', '.join(unpriced)}")


def _accounts(row: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in row["accounts"]:
        remembered = " (remembered)" if one["remembered"] else ""
        head = (row["provider"], one["account"])
        if one["state"] != "limited":
            yield (
                *head,
                one["state"],
                "",
                one["until"] or "",
                one["why"] + (remembered if one["why"] else ""),
            )
        for out in one["models_out"]:
            yield (*head, out["state"], out["model"], out["until"], out["why"] + remembered)


def _quotas(row: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in row["quotas"]:
        used, ceiling = one["used"] + one["held"], one["ceiling"]
        shown = (units.print_money(n) if one["unit"] == "nano_usd" else f"{n:,}" for n in (used, ceiling))
        frees = "" if one["frees_in_s"] is None else f"{round(one['frees_in_s'])} s"
        yield (row["provider"], one["words"], known(one["of"] or ""), *shown, frees)
