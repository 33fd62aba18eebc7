"""Rows of keys, users, teams and the audit trail: the one place where they meet the tables.

Functions over a connection. Reads may run on any; everything that changes belongs inside
`Store.change`, together with its `note` in the audit trail and, where a key is concerned, `next_epoch`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Connection,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from fleetgate.store.adding import adding
from fleetgate.store.schema import access_key, audit, meta, person, team

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import RowMapping

EPOCH: Final = "key_epoch"
"""Name of the value in `meta` that grows with every change to a key."""


_CHANGES: Final = 0x666C6B657973
"""Number of PostgreSQL's lock on changes of keys, users and teams."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An issued key. Times are unix milliseconds."""

    id: str
    kind: str
    digest: str
    created_at: int
    old_digest: str | None = None
    old_until: int | None = None
    alias: str | None = None
    person: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    enabled: bool = True
    expires_at: int | None = None
    rotated_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A user."""

    id: str
    created_at: int
    team: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class TeamRow:
    id: str
    created_at: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One administrative change. `before` and `after` are plain data without secrets."""

    at: int
    who: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    address: str
    request_id: str
    number: int | None = None


_KEY_FIELDS: Final = tuple(field.name for field in fields(KeyRow))
_LISTS: Final = ("tags", "names")


def _values(row: KeyRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in _KEY_FIELDS}
    return {**values, **{name: msgspec.json.encode(values[name]).decode() for name in _LISTS}}


def _key(row: RowMapping) -> KeyRow:
    lists = {name: tuple(msgspec.json.decode(row[name], type=list[str])) for name in _LISTS}
    return KeyRow(**{**{name: row[name] for name in _KEY_FIELDS}, **lists, "enabled": bool(row["enabled"])})


def alone(connection: Connection) -> Connection:
    """From here to the end of the transaction no other gateway changes keys, users or teams: what is looked
    up before a change still holds when it is made. On SQLite there is no other gateway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_CHANGES)))
    return connection


# Keys


def key_and_team(connection: Connection, key_id: str) -> tuple[KeyRow | None, str | None]:
    """A key by its id, and the team it counts for: its own, else that of its user."""
    members = access_key.outerjoin(person, person.c.id == access_key.c.person)
    query = (
        select(access_key, func.coalesce(access_key.c.team, person.c.team).label("whole_team"))
        .select_from(members)
        .where(access_key.c.id == key_id)
    )
    row = connection.execute(query).mappings().first()
    return (_key(row), row["whole_team"]) if row is not None else (None, None)


def key_called(connection: Connection, name: str) -> KeyRow | None:
    """A key by its id, else by its alias."""
    query = select(access_key).where(or_(access_key.c.id == name, access_key.c.alias == name))
    rows = [_key(row) for row in connection.execute(query).mappings()]
    return next((row for row in rows if row.id == name), rows[0] if rows else None)


def keys(
    connection: Connection, *, of: str | None = None, team_of: str | None = None, revoked: bool = False
) -> list[KeyRow]:
    """Keys, the newest first, of one user or team if said."""
    query = select(access_key).order_by(access_key.c.created_at.desc(), access_key.c.id)
    if of is not None:
        query = query.where(access_key.c.person == of)
    if team_of is not None:
        query = query.where(access_key.c.team == team_of)
    if not revoked:
        query = query.where(access_key.c.revoked_at.is_(None))
    return [_key(row) for row in connection.execute(query).mappings()]


def add_key(connection: Connection, row: KeyRow) -> None:
    connection.execute(insert(access_key).values(_values(row)))


def replace_key(connection: Connection, row: KeyRow) -> None:
    """Everything but when it was last used: that is written apart."""
    values = _values(row)
    del values["last_used_at"]
    connection.execute(update(access_key).where(access_key.c.id == row.id).values(values))


def note_use(connection: Connection, used: Mapping[str, int]) -> None:
    """When keys were last used; later times win."""
    later = and_(
        access_key.c.id == bindparam("key"),
        or_(access_key.c.last_used_at.is_(None), access_key.c.last_used_at < bindparam("time")),
    )
    statement = update(access_key).where(later).values(last_used_at=bindparam("time"))
    connection.execute(statement, [{"key": key, "time": at} for key, at in sorted(used.items())])


def epoch(connection: Connection) -> int:
    """How many changes to keys there were."""
    value = connection.execute(select(meta.c.value).where(meta.c.name == EPOCH)).scalar()
    return int(value) if value is not None else 0


def next_epoch(connection: Connection) -> int:
    """Tells every gateway on this database that a key has changed.

    Two gateways that do this at once do it one after the other: the row is locked until the end of the
    transaction.
    """
    first = adding(connection, meta).values(name=EPOCH, value="1")
    following = cast(cast(meta.c.value, BigInteger) + 1, Text)
    connection.execute(first.on_conflict_do_update(index_elements=[meta.c.name], set_={"value": following}))
    return epoch(connection)


# Users and teams


def person_called(connection: Connection, name: str) -> PersonRow | None:
    row = connection.execute(select(person).where(person.c.id == name)).mappings().first()
    return PersonRow(**row) if row is not None else None


def people(connection: Connection) -> list[PersonRow]:
    return [PersonRow(**row) for row in connection.execute(select(person).order_by(person.c.id)).mappings()]


def add_person(connection: Connection, row: PersonRow) -> None:
    connection.execute(
        insert(person).values(id=row.id, created_at=row.created_at, team=row.team, note=row.note)
    )


def replace_person(connection: Connection, row: PersonRow) -> None:
    connection.execute(update(person).where(person.c.id == row.id).values(team=row.team, note=row.note))


def remove_person(connection: Connection, name: str) -> None:
    connection.execute(delete(person).where(person.c.id == name))


def team_called(connection: Connection, name: str) -> TeamRow | None:
    row = connection.execute(select(team).where(team.c.id == name)).mappings().first()
    return TeamRow(**row) if row is not None else None


def teams(connection: Connection) -> list[TeamRow]:
    return [TeamRow(**row) for row in connection.execute(select(team).order_by(team.c.id)).mappings()]


def add_team(connection: Connection, row: TeamRow) -> None:
    connection.execute(insert(team).values(id=row.id, created_at=row.created_at, note=row.note))


def remove_team(connection: Connection, name: str) -> None:
    connection.execute(delete(team).where(team.c.id == name))


# The audit trail


def note(connection: Connection, row: AuditRow) -> None:
    """Adds a line to the trail. There is nothing that changes or removes one."""
    connection.execute(
        insert(audit).values(
            at=row.at,
            who=row.who,
            action=row.action,
            subject=row.subject,
            before=msgspec.json.encode(row.before).decode(),
            after=msgspec.json.encode(row.after).decode(),
            address=row.address,
            request_id=row.request_id,
        )
    )


def trail(connection: Connection, limit: int, below: int | None = None) -> list[AuditRow]:
    """The latest changes, newest first; `below` a number for older ones."""
    query = select(audit).order_by(audit.c.number.desc()).limit(limit)
    if below is not None:
        query = query.where(audit.c.number < below)
    return [
        AuditRow(
            **{
                **row,
                "before": msgspec.json.decode(row["before"]),
                "after": msgspec.json.decode(row["after"]),
            }
        )
        for row in connection.execute(query).mappings()
    ]
