"""`fleetgate providers`: which account of which provider can be used, and until when the others cannot; its
models, and which of them are retired."""

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
@click.option("--models", "all_models", is_flag=True, help="List every model with its price.")
@json_option
@reaching
def providers(url: str | None, key_file: Path | None, *, all_models: bool, as_json: bool) -> None:
    """List providers: their accounts, which of them are out and why, quotas, models that are retired or have
    no known price, and how often rules changed requests.

    \b
    Examples:
      fleetgate providers
      fleetgate providers --models
      fleetgate providers --json
    """
    document = remote_of(url, key_file).get("/admin/api/providers")
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    show(document["rows"], all_models=all_models)


def show(rows: list[dict[str, Any]], *, all_models: bool = False) -> None:
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
    models = [line for row in rows for line in _models(row, all_models=all_models)]
    if models:
        click.echo()
        table(("MODEL", "RETIRED", "INSTEAD", "PRICE"), models)
    rules = [
        (row["provider"], one["member"], one["deed"], f"{one['count']:,}")
        for row in rows
        for one in row["rules"]
    ]
    if rules:
        click.echo()
        table(("PROVIDER", "MEMBER", "WAS", "TIMES"), rules)
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


def _models(row: dict[str, Any], *, all_models: bool) -> Iterator[tuple[str, ...]]:
    """All of them, or those that are retired or will be."""
    for one in row["models"]:
        if not all_models and one["retires"] is None:
            continue
        price = known(one["price"]) if one["price_known"] else "?"
        retires = one["retires"] or ("gone" if one["removed"] else "")
        mark = " (past)" if one["retired"] else ""
        yield (one["deployment"], retires + mark, one["successor"] or "", price)


def _quotas(row: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in row["quotas"]:
        used, ceiling = one["used"] + one["held"], one["ceiling"]
        shown = (units.print_money(n) if one["unit"] == "nano_usd" else f"{n:,}" for n in (used, ceiling))
        frees = "" if one["frees_in_s"] is None else f"{round(one['frees_in_s'])} s"
        yield (row["provider"], one["words"], known(one["of"] or ""), *shown, frees)
