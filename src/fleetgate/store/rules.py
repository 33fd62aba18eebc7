"""Rows of limits made over the API: the one place where they meet the table.

Functions over a connection. What changes belongs inside `Store.change`, together with `next_epoch` and
its note in the audit trail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import BigInteger, Text, cast, delete, insert, select

from fleetgate.store.adding import adding
from fleetgate.store.schema import limit_rule, meta

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

EPOCH: Final = "limits_epoch"
"""Name of the value in `meta` that grows with every change to a stored limit."""


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A stored limit. `document` has the form of an entry in the file; `created_at`: unix milliseconds."""

    id: str
    document: dict[str, Any]
    created_at: int


def epoch(connection: Connection) -> int:
    """How many changes to stored limits there were."""
    value = connection.execute(select(meta.c.value).where(meta.c.name == EPOCH)).scalar()
    return int(value) if value is not None else 0


def next_epoch(connection: Connection) -> None:
    """Tells every gateway on this database that a stored limit has changed."""
    first = adding(connection, meta).values(name=EPOCH, value="1")
    following = cast(cast(meta.c.value, BigInteger) + 1, Text)
    connection.execute(first.on_conflict_do_update(index_elements=[meta.c.name], set_={"value": following}))


def rules(connection: Connection) -> list[RuleRow]:
    """All of them, the oldest first."""
    query = select(limit_rule).order_by(limit_rule.c.created_at, limit_rule.c.id)
    return [_rule(row) for row in connection.execute(query).mappings()]


def rule_called(connection: Connection, rule_id: str) -> RuleRow | None:
    row = connection.execute(select(limit_rule).where(limit_rule.c.id == rule_id)).mappings().first()
    return _rule(row) if row is not None else None


def add_rule(connection: Connection, row: RuleRow) -> None:
    document = msgspec.json.encode(row.document).decode()
    connection.execute(insert(limit_rule).values(id=row.id, document=document, created_at=row.created_at))


def remove_rule(connection: Connection, rule_id: str) -> None:
    connection.execute(delete(limit_rule).where(limit_rule.c.id == rule_id))


def _rule(row: RowMapping) -> RuleRow:
    document = msgspec.json.decode(row["document"], type=dict[str, Any])
    return RuleRow(row["id"], document, row["created_at"])
