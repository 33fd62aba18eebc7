"""`fleetgate limits`: what bounds requests, how far it is used, and more of it. A running gateway does it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from fleetgate import units
from fleetgate.cli.remote import json_option, reaching, remote_of, table

if TYPE_CHECKING:
    from pathlib import Path

AT: Final = "/admin/api/limits"
KINDS: Final = ("team", "user", "key", "role", "model", "deployment", "provider", "account", "node")
MEASURES: Final = ("requests", "input_tokens", "output_tokens", "tokens", "parallel", "money")
NONE: Final = "-"
_LIMIT: Final = re.compile(
    r"(?P<count>[0-9][0-9,_]*)\s+(?P<what>requests?|input tokens?|output tokens?|tokens?)"
    r"(?:\s+(?P<parallel>at a time)|\s+(?:per|in any)\s+(?P<per>\S+))?"
)
_BUDGET: Final = re.compile(r"(?P<money>.+?)(?:\s+per\s+(?P<per>\S+))?")


def limit_entry(text: str) -> dict[str, Any]:
    """`60 requests per minute` -> an entry. Raises ValueError."""
    found = _LIMIT.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no limit; write one such as `60 requests per minute`")
    count = int(found["count"].replace(",", "").replace("_", ""))
    what = found["what"].rstrip("s").replace(" ", "_") + "s"
    if found["parallel"]:
        if what != "requests":
            raise ValueError(f"{text!r}: only requests are counted at a time")
        return {"parallel": count}
    return {what: count, **({"per": found["per"]} if found["per"] else {})}


def budget_entry(text: str) -> dict[str, Any]:
    """`10 USD per month` -> an entry. Raises ValueError."""
    found = _BUDGET.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no budget; write one such as `10 USD per month`")
    units.amount(found["money"])
    return {"money": found["money"], **({"per": found["per"]} if found["per"] else {})}


class Entries(click.ParamType[Any]):
    """Limits as people write them."""

    def __init__(self, name: str, read: Any) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, dict):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group(invoke_without_command=True)
@json_option
@reaching
@click.pass_context
def limits(call: click.Context, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Limits, provider quotas and budgets, and how far each is used.

    \b
    Examples:
      fleetgate limits
      fleetgate limits add --scope key=ci --requests 60 --per minute
      fleetgate limits add --scope 'user=*' --money '10 USD' --then local_only
      fleetgate limits remove l3a41c2f9b07d
    """
    if call.invoked_subcommand is not None:
        return
    document = remote_of(url, key_file).get(AT)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _print(document["rows"], document["currency"])


@limits.command()
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="KIND=NAME",
    help=f"For whom, at most two; default: all together. KIND: {', '.join(KINDS)}. "
    "NAME: `*` for each by itself, or with `*` for any text.",
)
@click.option("--requests", type=click.IntRange(0), help="Requests.")
@click.option("--tokens", type=click.IntRange(0), help="Tokens in and out together.")
@click.option("--input-tokens", type=click.IntRange(0), help="Tokens that go in.")
@click.option("--output-tokens", type=click.IntRange(0), help="Tokens that come out.")
@click.option("--parallel", type=click.IntRange(0), help="Requests at the same time.")
@click.option("--money", metavar="AMOUNT", help="Money, such as '10 USD'.")
@click.option(
    "--per",
    metavar="WINDOW",
    help="second, minute, hour, day, month, or a duration such as 5h; default: month for money, else minute.",
)
@click.option("--window", type=click.Choice(["rolling", "calendar"]), help="Default: as the window suggests.")
@click.option("--zone", metavar="ZONE", help="Time zone of calendar windows, such as Europe/Berlin.")
@click.option("--reset", metavar="HH:MM", help="Time of day at which calendar windows begin.")
@click.option("--burst", type=click.IntRange(1), help="How much of a rolling limit may come at once.")
@click.option(
    "--then",
    type=click.Choice(["refuse", "local_only", "warn"]),
    help="What follows where it is reached; default: refuse.",
)
@click.option("--name", help="What refusals call it.")
@json_option
@reaching
def add(
    scopes: tuple[str, ...], url: str | None, key_file: Path | None, *, as_json: bool, **given: Any
) -> None:
    """Make limits: one for each measure that is named. They last until they are removed.

    \b
    Examples:
      fleetgate limits add --scope key=ci --requests 60 --per minute
      fleetgate limits add --scope 'key=*' --scope role=chat --tokens 1000000 --per day
      fleetgate limits add --money '100 USD' --name house
    """
    form = {name: value for name, value in given.items() if value is not None}
    if not any(name in form for name in MEASURES):
        raise click.UsageError("Say what is bounded: --requests, --tokens, --parallel, --money, …")
    form["scope"] = _scope(scopes)
    answer = remote_of(url, key_file).change("POST", AT, form)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for row in answer["rows"]:
        click.echo(f"{row['id']}  {_title(row)}")


@limits.command()
@click.argument("limit", metavar="ID")
@json_option
@reaching
def remove(limit: str, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Remove a limit that was made with `add`. The same one made again goes on with its count.

    \b
    Examples:
      fleetgate limits remove l3a41c2f9b07d
    """
    answer = remote_of(url, key_file).change("DELETE", f"{AT}/{quote(limit, safe='')}")
    click.echo(json.dumps(answer, indent=2) if as_json else f"removed the limit {limit}")


def _scope(words: tuple[str, ...]) -> dict[str, str]:
    scope: dict[str, str] = {}
    for word in words:
        kind, equals, name = word.partition("=")
        if not equals or not name or kind not in KINDS:
            raise click.UsageError(
                f"{word!r} is no scope. Write KIND=NAME; KIND is one of {', '.join(KINDS)}."
            )
        if kind in scope:
            raise click.UsageError(f"Two scopes of the kind {kind}: write two limits.")
        scope[kind] = name
    return scope


def _print(rows: list[dict[str, Any]], currency: dict[str, Any]) -> None:
    if not rows:
        click.echo("There are no limits: `fleetgate limits add` makes one.", err=True)
        return
    lines = []
    for row in rows:
        lines += [_line(row, counter, currency) for counter in row["counters"] or [None]]
        if row["counters_left_out"]:
            rest = f"and {row['counters_left_out']} less used"
            lines.append((row["id"], _title(row), rest, NONE, NONE, NONE, _remark(row)))
    table(("ID", "LIMIT", "OF", "USED", "CEILING", "FREES AT", ""), lines)


def _line(row: dict[str, Any], counter: dict[str, Any] | None, currency: dict[str, Any]) -> tuple[str, ...]:
    ceiling = _amount(row, row["ceiling"], currency)
    if counter is None:
        return row["id"], _title(row), NONE, NONE, ceiling, NONE, _remark(row)
    used = counter["used"] + counter["held"]
    frees = counter["frees_at"] if used and counter["frees_at"] else NONE
    return (
        row["id"],
        _title(row),
        counter["of"] or NONE,
        _amount(row, used, currency),
        ceiling,
        frees,
        _remark(row),
    )


def _title(row: dict[str, Any]) -> str:
    return f"{row['name']}: {row['words']}" if row["name"] else str(row["words"])


def _remark(row: dict[str, Any]) -> str:
    """What is not as usual: made here, set by a provider, not refusing, not in effect."""
    remarks = [
        {"file": "", "database": "added", "quota": "quota"}[row["origin"]],
        row["then"].replace("_", " ") if row["then"] != "refuse" else "",
        "overridden by the file" if row["overridden"] else "",
    ]
    return ", ".join(remark for remark in remarks if remark)


def _amount(row: dict[str, Any], count: int, currency: dict[str, Any]) -> str:
    if row["unit"] == "nano_usd":
        return units.print_money(count, currency["code"], currency["rate"])
    return f"{count:,}"
