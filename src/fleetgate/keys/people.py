"""Users and teams: whom keys belong to. A user may be in a team; its keys count for both.

A change to a user has the next number of the counter of changes, as one to a key has: the team of a
key may be that of its user, and there may be callers without a key who count as a user.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from fleetgate.errors import Refused
from fleetgate.keys.changes import Actor, Note, change, moment, read
from fleetgate.store import access
from fleetgate.store.access import PersonRow, TeamRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

    from fleetgate.keys.owner import Issued

Found = TypeVar("Found")


class People:
    """Owner of users and teams in the database."""

    def __init__(self, issued: Issued) -> None:
        self._issued = issued
        self._store = issued.store

    async def create_user(self, actor: Actor, name: str, team: str | None, note: str) -> dict[str, Any]:
        now = self._now()
        row = PersonRow(name, now, team, note)

        def act(connection: Connection) -> None:
            if access.person_called(connection, name) is not None:
                raise Refused(409, "user_exists", f"there is a user {name!r} already", param="name")
            if team is not None and access.team_called(connection, team) is None:
                raise Refused(400, "team_not_found", f"there is no team {team!r}", param="team")
            access.add_person(connection, row)
            Note(actor, now, "user.create", f"user {name}").write(connection, None, user_view(row))

        await self._change(act)
        return user_view(row)

    async def update_user(self, actor: Actor, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """`changes`: `team` and `note`. In effect for the user's keys at once."""
        now = self._now()

        def act(connection: Connection) -> PersonRow:
            before = access.person_called(connection, name)
            if before is None:
                raise Refused(404, "user_not_found", f"there is no user {name[:100]!r}")
            after = replace(before, **changes)
            if after.team is not None and access.team_called(connection, after.team) is None:
                raise Refused(400, "team_not_found", f"there is no team {after.team!r}", param="team")
            if after != before:
                access.replace_person(connection, after)
                line = Note(actor, now, "user.update", f"user {name}")
                line.write(connection, user_view(before), user_view(after))
            return after

        return user_view(await self._change(act))

    async def remove_user(self, actor: Actor, name: str) -> None:
        """Raises Refused while the user has keys: what they were given must not go on without them."""
        now = self._now()

        def act(connection: Connection) -> None:
            row = access.person_called(connection, name)
            if row is None:
                raise Refused(404, "user_not_found", f"there is no user {name[:100]!r}")
            _refuse_keys(access.keys(connection, of=name), f"the user {name!r}", "user_has_keys")
            access.remove_person(connection, name)
            Note(actor, now, "user.remove", f"user {name}").write(connection, user_view(row), None)

        await self._change(act)

    async def users(self) -> list[dict[str, Any]]:
        return [user_view(row) for row in await read(self._store, access.people)]

    async def create_team(self, actor: Actor, name: str, note: str) -> dict[str, Any]:
        now = self._now()
        row = TeamRow(name, now, note)

        def act(connection: Connection) -> None:
            if access.team_called(connection, name) is not None:
                raise Refused(409, "team_exists", f"there is a team {name!r} already", param="name")
            access.add_team(connection, row)
            Note(actor, now, "team.create", f"team {name}").write(connection, None, team_view(row))

        await change(self._store, act)
        return team_view(row)

    async def remove_team(self, actor: Actor, name: str) -> None:
        """Raises Refused while users or keys belong to it."""
        now = self._now()

        def act(connection: Connection) -> None:
            row = access.team_called(connection, name)
            if row is None:
                raise Refused(404, "team_not_found", f"there is no team {name[:100]!r}")
            _refuse_keys(access.keys(connection, team_of=name), f"the team {name!r}", "team_has_keys")
            members = [one.id for one in access.people(connection) if one.team == name]
            if members:
                raise Refused(
                    409,
                    "team_has_users",
                    f"the team {name!r} has users: {', '.join(members[:5])}",
                    advice="Remove them first.",
                )
            access.remove_team(connection, name)
            Note(actor, now, "team.remove", f"team {name}").write(connection, team_view(row), None)

        await change(self._store, act)

    async def teams(self) -> list[dict[str, Any]]:
        return [team_view(row) for row in await read(self._store, access.teams)]

    async def _change(self, act: Callable[[Connection], Found]) -> Found:
        """One change with the next number of the counter; what was read before counts no more."""

        def whole(connection: Connection) -> tuple[Found, int]:
            return act(connection), access.next_epoch(connection)

        found, epoch = await change(self._store, whole)
        self._issued.ring.outdated(epoch)
        return found

    def _now(self) -> int:
        return round(self._issued.wall() * 1e3)


def user_view(row: PersonRow) -> dict[str, Any]:
    return {"name": row.id, "team": row.team, "note": row.note, "created_at": moment(row.created_at)}


def team_view(row: TeamRow) -> dict[str, Any]:
    return {"name": row.id, "note": row.note, "created_at": moment(row.created_at)}


def _refuse_keys(keys: list[access.KeyRow], whose: str, code: str) -> None:
    if keys:
        shown = ", ".join(key.alias or key.id for key in keys[:5])
        raise Refused(409, code, f"{whose} has keys: {shown}", advice="Revoke them first.")
