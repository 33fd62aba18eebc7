"""Issued keys: make, show, change, rotate, revoke. What it changes is in effect here at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from fleetgate.domain import KeyKind
from fleetgate.errors import Refused
from fleetgate.keys import form
from fleetgate.keys.changes import Actor, Note, change, moment, read
from fleetgate.keys.owner import digest
from fleetgate.keys.ring import known_of
from fleetgate.store import access

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

    from fleetgate.domain import Principal
    from fleetgate.keys.owner import Issued
    from fleetgate.store.access import KeyRow

    Also = Callable[[Connection, str], object]
    """what else belongs to a change of a key, given its id: it is done in the same transaction"""

FINGERPRINT: Final = 8


class Registry:
    """Owner of the issued keys in the database."""

    def __init__(self, issued: Issued, token: Callable[[int], bytes]) -> None:
        self._issued = issued
        self._token = token

    async def create(
        self, actor: Actor, kind: KeyKind, wanted: Mapping[str, Any], also: Also | None = None
    ) -> tuple[KeyRow, str]:
        """A new key and its text, which nothing can show again. `wanted`: fields of `KeyRow`."""
        key_id, secret, now = form.mint_id(self._token), form.mint_secret(self._token), self._now()
        row = access.KeyRow(key_id, kind.value, self._digest(secret), now, **wanted)

        def act(connection: Connection) -> tuple[None, KeyRow]:
            _check(connection, row)
            access.add_key(connection, row)
            if also is not None:
                also(connection, key_id)
            return None, row

        await self._change(actor, "key.create", act)
        return row, form.whole(kind, key_id, secret)

    async def update(self, actor: Actor, name: str, changes: Mapping[str, Any]) -> KeyRow:
        """The key with some fields changed."""

        def act(connection: Connection) -> tuple[KeyRow, KeyRow]:
            before = _living(connection, name)
            after = replace(before, **changes)
            _check(connection, after, before)
            access.replace_key(connection, after)
            return before, after

        return await self._change(actor, "key.update", act)

    async def rotate(self, actor: Actor, name: str, grace: float) -> tuple[KeyRow, str]:
        """A new secret. The one before goes on counting for `grace` seconds, an earlier one does not."""
        secret, now = form.mint_secret(self._token), self._now()

        def act(connection: Connection) -> tuple[KeyRow, KeyRow]:
            before = _living(connection, name)
            after = replace(
                before,
                digest=self._digest(secret),
                old_digest=before.digest if grace > 0 else None,
                old_until=now + round(grace * 1e3) if grace > 0 else None,
                rotated_at=now,
            )
            access.replace_key(connection, after)
            return before, after

        row = await self._change(actor, "key.rotate", act)
        return row, form.whole(KeyKind(row.kind), row.id, secret)

    async def revoke(self, actor: Actor, name: str, also: Also | None = None) -> KeyRow:
        """The key never counts again. Its row stays, its alias becomes free."""
        now = self._now()

        def act(connection: Connection) -> tuple[KeyRow, KeyRow]:
            before = _called(connection, name)
            if before.revoked_at is not None:
                return before, before
            after = replace(before, revoked_at=now, alias=None, old_digest=None, old_until=None)
            access.replace_key(connection, after)
            if also is not None:
                also(connection, before.id)
            return before, after

        return await self._change(actor, "key.revoke", act)

    async def show(self, name: str) -> KeyRow:
        return await read(self._issued.store, lambda connection: _called(connection, name))

    async def listed(self, *, user: str | None, team: str | None, revoked: bool) -> list[KeyRow]:
        return await read(
            self._issued.store,
            lambda connection: access.keys(connection, of=user, team_of=team, revoked=revoked),
        )

    async def principal(self, name: str) -> Principal:
        """Whom a key stands for, without its secret: to explain what it may use."""

        def look(connection: Connection) -> Principal:
            row, team = access.key_and_team(connection, _called(connection, name).id)
            assert row is not None
            return known_of(row, team).principal

        return await read(self._issued.store, look)

    async def trail(self, limit: int, below: int | None) -> list[access.AuditRow]:
        return await read(self._issued.store, lambda connection: access.trail(connection, limit, below))

    async def note(
        self, actor: Actor, action: str, subject: str, before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        """A line of the trail about something that is not in the database."""
        line = Note(actor, self._now(), action, subject)
        await change(self._issued.store, lambda connection: line.write(connection, before, after))

    def view(self, row: KeyRow) -> dict[str, Any]:
        """A key as people see it."""
        return {**_facts(row), "state": self._state(row), "last_used_at": moment(row.last_used_at)}

    async def _change(
        self,
        actor: Actor,
        action: str,
        act: Callable[[Connection], tuple[KeyRow | None, KeyRow]],
    ) -> KeyRow:
        """One change with its trail and the next number of the counter."""
        issued, now = self._issued, self._now()

        def whole(connection: Connection) -> tuple[KeyRow, str | None, int | None]:
            before, after = act(connection)
            if before == after:
                return after, None, None
            note = Note(actor, now, action, f"key {after.id}")
            note.write(connection, _facts(before) if before is not None else None, _facts(after))
            _, team = access.key_and_team(connection, after.id)
            return after, team, access.next_epoch(connection)

        row, team, epoch = await change(issued.store, whole)
        if epoch is not None:
            issued.ring.changed(row.id, known_of(row, team), epoch, issued.clock())
        return row

    def _digest(self, secret: str) -> str:
        return digest(self._issued.pepper, secret.encode()).hex()

    def _now(self) -> int:
        return round(self._issued.wall() * 1e3)

    def _state(self, row: KeyRow) -> str:
        if row.revoked_at is not None:
            return "revoked"
        if row.expires_at is not None and row.expires_at <= self._now():
            return "expired"
        return "active" if row.enabled else "disabled"


def _facts(row: KeyRow) -> dict[str, Any]:
    """A key without its secret, of which there is a fingerprint."""
    return {
        "id": row.id,
        "kind": row.kind,
        "alias": row.alias,
        "user": row.person,
        "team": row.team,
        "tags": list(row.tags),
        "names": list(row.names),
        "enabled": row.enabled,
        "fingerprint": row.digest[:FINGERPRINT],
        "created_at": moment(row.created_at),
        "expires_at": moment(row.expires_at),
        "rotated_at": moment(row.rotated_at),
        "old_secret_until": moment(row.old_until),
        "revoked_at": moment(row.revoked_at),
    }


def _called(connection: Connection, name: str) -> KeyRow:
    row = access.key_called(connection, name)
    if row is None:
        raise Refused(
            404, "key_not_found", f"there is no key {name[:100]!r}", advice="Name it by its id or alias."
        )
    return row


def _living(connection: Connection, name: str) -> KeyRow:
    row = _called(connection, name)
    if row.revoked_at is not None:
        raise Refused(
            409, "key_revoked", f"the key {name[:100]!r} is revoked for good", advice="Create another one."
        )
    return row


def _check(connection: Connection, row: KeyRow, before: KeyRow | None = None) -> None:
    """Whom it belongs to exists, and nobody else bears its alias."""
    if row.alias is not None and (before is None or before.alias != row.alias):
        other = access.key_called(connection, row.alias)
        if other is not None and other.id != row.id:
            raise Refused(
                409, "alias_taken", f"another key is called {row.alias!r}: {other.id}", param="alias"
            )
    if row.person is not None and access.person_called(connection, row.person) is None:
        raise Refused(400, "user_not_found", f"there is no user {row.person!r}", param="user")
    if row.team is not None and access.team_called(connection, row.team) is None:
        raise Refused(400, "team_not_found", f"there is no team {row.team!r}", param="team")
