"""`fleetgate users` and `fleetgate teams`: whom keys belong to. A running gateway does the work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from fleetgate.cli.remote import json_option, reaching, remote_of, table

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def users() -> None:
    """Users: people and programs that keys belong to.

    \b
    Examples:
      fleetgate users create anna --team family
      fleetgate users list
    """


@users.command(name="create")
@click.argument("name")
@click.option("--team", help="The team this user is in.")
@click.option("--note", default="", help="Anything worth remembering.")
@json_option
@reaching
def create_user(
    name: str, team: str | None, note: str, url: str | None, key_file: Path | None, *, as_json: bool
) -> None:
    """Add a user.

    \b
    Examples:
      fleetgate users create anna --team family
    """
    form = {"name": name, "note": note, **({"team": team} if team else {})}
    answer = remote_of(url, key_file).change("POST", "/admin/api/users", form)
    click.echo(json.dumps(answer, indent=2) if as_json else f"added the user {name}")


@users.command(name="list")
@json_option
@reaching
def list_users(url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """List users.

    \b
    Examples:
      fleetgate users list --json
    """
    document = remote_of(url, key_file).get("/admin/api/users")
    _print_rows(document, "users", ("name", "team", "created_at", "note"), as_json=as_json)


@users.command(name="update")
@click.argument("name")
@click.option("--team", help="The team this user is in; `-`: none.")
@click.option("--note", help="Anything worth remembering; `-`: nothing.")
@json_option
@reaching
def update_user(
    name: str, team: str | None, note: str | None, url: str | None, key_file: Path | None, *, as_json: bool
) -> None:
    """Change the team or note of a user. The user's keys count for the new team at once.

    \b
    Examples:
      fleetgate users update anna --team work
      fleetgate users update anna --team -
    """
    form: dict[str, Any] = {}
    if team is not None:
        form["team"] = None if team == "-" else team
    if note is not None:
        form["note"] = "" if note == "-" else note
    path = f"/admin/api/users/{quote(name, safe='')}"
    answer = remote_of(url, key_file).change("PATCH", path, form)
    click.echo(json.dumps(answer, indent=2) if as_json else f"changed the user {name}")


@users.command(name="remove")
@click.argument("name")
@json_option
@reaching
def remove_user(name: str, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Remove a user who has no keys.

    \b
    Examples:
      fleetgate users remove anna
    """
    answer = remote_of(url, key_file).change("DELETE", f"/admin/api/users/{quote(name, safe='')}")
    click.echo(json.dumps(answer, indent=2) if as_json else f"removed the user {name}")


@click.group()
def teams() -> None:
    """Teams: several users, or keys without one.

    \b
    Examples:
      fleetgate teams create family
      fleetgate teams list
    """


@teams.command(name="create")
@click.argument("name")
@click.option("--note", default="", help="Anything worth remembering.")
@json_option
@reaching
def create_team(name: str, note: str, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Add a team.

    \b
    Examples:
      fleetgate teams create family --note 'everybody at home'
    """
    answer = remote_of(url, key_file).change("POST", "/admin/api/teams", {"name": name, "note": note})
    click.echo(json.dumps(answer, indent=2) if as_json else f"added the team {name}")


@teams.command(name="list")
@json_option
@reaching
def list_teams(url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """List teams.

    \b
    Examples:
      fleetgate teams list
    """
    document = remote_of(url, key_file).get("/admin/api/teams")
    _print_rows(document, "teams", ("name", "created_at", "note"), as_json=as_json)


@teams.command(name="remove")
@click.argument("name")
@json_option
@reaching
def remove_team(name: str, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """Remove a team that has neither users nor keys.

    \b
    Examples:
      fleetgate teams remove family
    """
    answer = remote_of(url, key_file).change("DELETE", f"/admin/api/teams/{quote(name, safe='')}")
    click.echo(json.dumps(answer, indent=2) if as_json else f"removed the team {name}")


def _print_rows(document: Any, what: str, members: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document, indent=2))
    elif document["rows"]:
        head = tuple(name.removesuffix("_at").upper() for name in members)
        table(head, [tuple(row[name] or "-" for name in members) for row in document["rows"]])
    else:
        click.echo(f"There are no {what} yet.", err=True)
