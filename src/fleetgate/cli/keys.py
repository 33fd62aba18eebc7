"""`fleetgate keys`: hand out keys, and take them back. A running gateway does the work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from fleetgate.cli.limits import Entries, budget_entry, limit_entry
from fleetgate.cli.remote import json_option, reaching, remote_of, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AT: Final = "/admin/api/keys"
KINDS: Final = ("caller", "viewer", "admin")
NONE: Final = "-"
"""empties a field on the command line"""


def _fields(command: Callable[..., None]) -> Callable[..., None]:
    """Options for what a key says."""
    options = (
        click.option("--alias", help="A name for people; no two keys share one."),
        click.option("--user", help="Whose key it is."),
        click.option("--team", help="The team it counts for; default: its user's."),
        click.option("--tag", "tags", multiple=True, help="A word to find it by; may repeat."),
        click.option(
            "--allow",
            "names",
            multiple=True,
            metavar="NAME",
            help="A name it may ask for, `*` for any text, `!` in front forbids; may repeat.",
        ),
        click.option(
            "--expires", metavar="TIME", help="When it ends, from now, such as 30d; default: never."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _form(given: dict[str, Any]) -> dict[str, Any]:
    """Options as members of a request; `-` empties one."""
    form: dict[str, Any] = {}
    for option, member in (("alias", "alias"), ("user", "user"), ("team", "team"), ("expires", "expires_in")):
        if given[option] is not None:
            form[member] = None if given[option] == NONE else given[option]
    for member in ("tags", "names"):
        if given[member]:
            form[member] = [one for one in given[member] if one != NONE]
    return form


@click.group()
def keys() -> None:
    """Keys for people and programs.

    A key's secret is shown once, when it is made. What is kept of it is a keyed hash.

    \b
    Examples:
      fleetgate keys create --alias laptop --user anna
      fleetgate keys create --alias batch --allow 'local/*' --expires 30d
      fleetgate keys list
      fleetgate keys revoke laptop
    """


@keys.command()
@_fields
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="caller",
    show_default=True,
    help="caller: asks models; viewer: reads the admin API; admin: everything.",
)
@click.option(
    "--limit",
    "limits",
    type=Entries("LIMIT", limit_entry),
    multiple=True,
    help="A limit of this key, such as '60 requests per minute' or '2 requests at a time'; may repeat.",
)
@click.option(
    "--budget",
    "budgets",
    type=Entries("BUDGET", budget_entry),
    multiple=True,
    help="A budget of this key, such as '10 USD per month'; may repeat.",
)
@json_option
@reaching
def create(
    kind: str,
    limits: tuple[dict[str, Any], ...],
    budgets: tuple[dict[str, Any], ...],
    url: str | None,
    key_file: Path | None,
    *,
    as_json: bool,
    **given: Any,
) -> None:
    """Make a key and print it. This is the only time that it can be seen.

    \b
    Examples:
      fleetgate keys create --alias laptop --user anna
      export OPENAI_API_KEY=$(fleetgate keys create --alias editor)
      fleetgate keys create --alias batch --allow 'local/*' --allow '!local/large' --expires 30d
      fleetgate keys create --alias ci --limit '60 requests per minute' --budget '10 USD per month'
    """
    form = {"kind": kind, **_form(given), "limits": [*limits, *budgets]}
    answer = remote_of(url, key_file).change("POST", AT, form)
    _print_secret(answer, as_json=as_json)


@keys.command(name="list")
@click.option("--user", help="Only keys of this user.")
@click.option("--team", help="Only keys of this team.")
@click.option("--revoked", is_flag=True, help="Revoked ones too.")
@json_option
@reaching
def listed(
    user: str | None,
    team: str | None,
    url: str | None,
    key_file: Path | None,
    *,
    revoked: bool,
    as_json: bool,
) -> None:
    """List keys, the newest first.

    \b
    Examples:
      fleetgate keys list
      fleetgate keys list --team family --json
    """
    query = {"user": user, "team": team, "revoked": "true" if revoked else None}
    document = remote_of(url, key_file).get(AT, **{name: value for name, value in query.items() if value})
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    rows = [
        (
            row["id"],
            row["alias"] or NONE,
            row["kind"],
            row["state"],
            row["user"] or NONE,
            row["team"] or NONE,
            row["last_used_at"] or "never",
            row["expires_at"] or "never",
            NONE if row["kind"] == "viewer" else " ".join(row["names"]) or "everything",
        )
        for row in document["rows"]
    ]
    if rows:
        table(("KEY", "ALIAS", "KIND", "STATE", "USER", "TEAM", "USED", "EXPIRES", "MAY USE"), rows)
    else:
        click.echo("There are no keys yet: `fleetgate keys create` makes one.", err=True)


@keys.command()
@click.argument("key")
@json_option
@reaching
def show(key: str, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Show one key, by id or alias.

    \b
    Examples:
      fleetgate keys show laptop
    """
    _print_key(remote_of(url, key_file).get(_at(key)), as_json=as_json)


@keys.command()
@click.argument("key")
@_fields
@click.option("--enable/--disable", "enabled", default=None, help="Let it count again, or not for now.")
@json_option
@reaching
def update(
    key: str, url: str | None, key_file: Path | None, *, enabled: bool | None, as_json: bool, **given: Any
) -> None:
    """Change what a key says; `-` empties a field. What is not named stays.

    \b
    Examples:
      fleetgate keys update laptop --disable
      fleetgate keys update batch --allow 'local/*' --expires -
    """
    form = _form(given) | ({"enabled": enabled} if enabled is not None else {})
    _print_key(remote_of(url, key_file).change("PATCH", _at(key), form), as_json=as_json)


@keys.command()
@click.argument("key")
@click.option(
    "--grace",
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How long the secret before still counts.",
)
@json_option
@reaching
def rotate(key: str, grace: str, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Give a key a new secret and print it; id, alias and all else stay.

    \b
    Examples:
      fleetgate keys rotate laptop
      fleetgate keys rotate laptop --grace 0s     the old secret is known to others
    """
    answer = remote_of(url, key_file).change("POST", _at(key, "/rotate"), {"grace": grace})
    _print_secret(answer, as_json=as_json)


@keys.command()
@click.argument("key")
@json_option
@reaching
def revoke(key: str, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Take a key back for good. Its alias becomes free.

    \b
    Examples:
      fleetgate keys revoke laptop
    """
    _print_key(remote_of(url, key_file).change("POST", _at(key, "/revoke")), as_json=as_json)


@keys.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@json_option
@reaching
def audit(limit: int, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Show who changed what, the newest first: keys, users, teams, limits, the switch, the cache, reloads.

    \b
    Examples:
      fleetgate keys audit
      fleetgate keys audit --limit 200 --json
    """
    document = remote_of(url, key_file).get("/admin/api/audit", limit=str(limit))
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    rows = [
        (row["at"], row["who"], row["action"], row["subject"], row["address"], _difference(row))
        for row in document["rows"]
    ]
    if rows:
        table(("WHEN", "WHO", "WHAT", "WHICH", "FROM", "CHANGED"), rows)
    else:
        click.echo("Nothing was changed yet.", err=True)


def _difference(row: Any) -> str:
    """What changed, member by member; a thing that came or went is not told again."""
    before, after = row["before"], row["after"]
    if before is None or after is None:
        return str((after or before).get("alias") or "")
    found = [name for name in after if after[name] != before.get(name)]
    return ", ".join(f"{name}: {_word(before.get(name))} → {_word(after[name])}" for name in found)


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value) or NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value is not None else NONE


def _at(key: str, verb: str = "") -> str:
    return f"{AT}/{quote(key, safe='')}{verb}"


def _print_secret(answer: Any, *, as_json: bool) -> None:
    """The secret alone on stdout, so that it can be piped; everything else beside it."""
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(answer["secret"])
        for line in _lines(answer["key"]):
            click.echo(line, err=True)
        for limit in answer.get("limits", []):
            click.echo(f"  {'limit':<16} {limit}", err=True)
    click.echo("This secret is shown this once: keep it now.", err=True)


def _print_key(answer: Any, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for line in _lines(answer["key"]):
        click.echo(line)


def _lines(row: Any) -> list[str]:
    """A key as lines; what it does not have is left out."""
    labels = (
        ("key", "id"),
        *((name, name) for name in ("alias", "kind", "state", "user", "team")),
        ("may use", "names"),
        ("tags", "tags"),
        ("created", "created_at"),
        ("expires", "expires_at"),
        ("old secret until", "old_secret_until"),
        ("revoked", "revoked_at"),
        ("last used", "last_used_at"),
    )
    return [f"  {label:<16} {_word(row[name])}" for label, name in labels if row[name] not in (None, [])]
