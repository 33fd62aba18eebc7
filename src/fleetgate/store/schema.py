"""The tables of the state database and the lineage of their migrations.

Rules: times are integers (`at`: unix milliseconds, `…_us`: microseconds); nothing here is particular
to SQLite, so that another database can hold the same tables; tables change only by a new numbered
file in `migrations/versions/`, whose name is then added to `LINEAGE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    false,
)

metadata: Final = MetaData()

meta: Final = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single values: `min_reader`, and names such as the instance's id."""

learned: Final = Table(
    "learned",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
"""What was found out and must survive a restart; `document` is a JSON object."""

exchange: Final = Table(
    "exchange",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("principal", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("deployment", Text),
    Column("status", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("first_content_us", BigInteger),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("estimated", Boolean, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("attempts", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("person", Text),
    Column("team", Text),
    Column("end_user", Text),
    Column("cost", BigInteger, nullable=False, server_default="0"),
    Column("cost_unknown", Boolean, nullable=False, server_default=false()),
    Column("energy", BigInteger, nullable=False, server_default="0"),
    Column("energy_cost", BigInteger, nullable=False, server_default="0"),
    Column("cache", Text, nullable=False, server_default=""),
    Column("tags", Text, nullable=False, server_default="[]"),
    Index("exchange_at", "at"),
)
"""One row per finished exchange: an entry of the ledger. Money is in nano-dollars, energy in µWh."""

run: Final = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("beat_at", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
)
"""Gateway processes that hold something: leases of budget, open requests. `beat_at` says who is alive."""

counter: Final = Table(
    "counter",
    metadata,
    Column("id", Text, primary_key=True),
    Column("window", BigInteger, primary_key=True),
    Column("granted", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("counted", BigInteger, nullable=False),
    CheckConstraint(
        "granted >= 0 AND spent >= 0 AND held >= 0 AND counted >= 0", name="counter_not_negative"
    ),
)
"""A lasting limit in one of its windows. `spent` and `held`: what ended processes left behind; `granted`:
that, and the leases of the living ones. `counted`: the part of `spent` that no event tells of, as it came
with exchanges that cost nothing."""

budget_lease: Final = Table(
    "budget_lease",
    metadata,
    Column("run", Text, primary_key=True),
    Column("counter", Text, primary_key=True),
    Column("window", BigInteger, primary_key=True),
    Column("granted", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("counted", BigInteger, nullable=False),
    CheckConstraint(
        "granted >= 0 AND spent >= 0 AND held >= 0 AND counted >= 0", name="budget_lease_not_negative"
    ),
    Index("budget_lease_counter", "counter", "window"),
)
"""The part of a counter that one process may use up without asking again."""

money_event: Final = Table(
    "money_event",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("run", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("expected", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("bookings", Text, nullable=False),
    Index("money_event_at", "at"),
)
"""reserve, dispatch, settle, release, adjust, carry: appended, never changed. Nano-dollars."""

open_request: Final = Table(
    "open_request",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Index("open_request_run", "run"),
)
"""Requests with a reservation and no entry yet: what a start after a crash has to bring to an end."""

hourly: Final = Table(
    "hourly",
    metadata,
    Column("hour", BigInteger, primary_key=True),
    *(
        Column(name, Text, primary_key=True)
        for name in ("key", "person", "team", "model", "deployment", "node", "provider", "account")
    ),
    *(
        Column(name, BigInteger, nullable=False)
        for name in (
            *("requests", "attempts", "failures", "cache_hits", "input_tokens", "output_tokens"),
            *("cached_tokens", "cost", "cost_unknown", "estimated", "energy", "energy_cost", "duration_ms"),
        )
    ),
)
"""Sums of the ledger by hour (unix seconds of its begin), kept when entries are deleted. `requests` counts
an exchange once, at the deployment that answered or was tried last; `attempts` what was sent where."""

limit_rule: Final = Table(
    "limit_rule",
    metadata,
    Column("id", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""Limits made over the API: each a JSON object of the same form as one in the file."""

team: Final = Table(
    "team",
    metadata,
    Column("id", Text, primary_key=True),
    Column("note", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

person: Final = Table(
    "person",
    metadata,
    Column("id", Text, primary_key=True),
    Column("team", Text),
    Column("note", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""A user. (`user` is a reserved word in other databases.)"""

access_key: Final = Table(
    "access_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("old_digest", Text),
    Column("old_until", BigInteger),
    Column("alias", Text),
    Column("person", Text),
    Column("team", Text),
    Column("tags", Text, nullable=False),
    Column("names", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("rotated_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    Index("access_key_alias", "alias", unique=True),
    Index("access_key_person", "person"),
    Index("access_key_team", "team"),
)
"""Issued keys, revoked ones too. Of a secret there is only a keyed hash, in hexadecimal digits."""

audit: Final = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("request_id", Text, nullable=False),
)
"""Administrative changes, written in the transaction of the change and never altered."""

MIN_READER: Final = "min_reader"
"""Name of the value in `meta` that says which readers the tables still suit."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where migrations live, which ones this code knows, and what it can read.

    `reader` is the generation of tables this code understands. A migration that older code could not
    live with raises `min_reader`; all others leave it, so that going back one version works.
    """

    scripts: Path
    revisions: tuple[str, ...]
    """oldest first"""
    reader: int

    @property
    def head(self) -> str:
        return self.revisions[-1]


LINEAGE: Final = Lineage(Path(__file__).parent / "migrations", ("0001", "0002", "0003"), 1)
