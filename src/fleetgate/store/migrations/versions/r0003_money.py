"""The ledger of money: events, counters, leases of budget, sums by hour, limits made over the API.

Everything is new tables, and columns with defaults: the previous version goes on reading and writing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for name in ("cost", "energy", "energy_cost"):
        op.add_column("exchange", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.add_column(
        "exchange", sa.Column("cost_unknown", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column("exchange", sa.Column("cache", sa.Text, nullable=False, server_default=""))
    op.add_column("exchange", sa.Column("tags", sa.Text, nullable=False, server_default="[]"))
    op.create_table(
        "run",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("beat_at", sa.BigInteger, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
    )
    _counters()
    _events()
    op.create_table(
        "limit_rule",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "hourly",
        sa.Column("hour", sa.BigInteger, primary_key=True),
        *(
            sa.Column(name, sa.Text, primary_key=True)
            for name in ("key", "person", "team", "model", "deployment", "node", "provider", "account")
        ),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in (
                *("requests", "attempts", "failures", "cache_hits", "input_tokens", "output_tokens"),
                *("cached_tokens", "cost", "cost_unknown", "estimated", "energy", "energy_cost"),
                "duration_ms",
            )
        ),
    )


def _counters() -> None:
    amounts = ("granted", "spent", "held", "counted")
    not_negative = "granted >= 0 AND spent >= 0 AND held >= 0 AND counted >= 0"
    op.create_table(
        "counter",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("window", sa.BigInteger, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in amounts),
        sa.CheckConstraint(not_negative, name="counter_not_negative"),
    )
    op.create_table(
        "budget_lease",
        sa.Column("run", sa.Text, primary_key=True),
        sa.Column("counter", sa.Text, primary_key=True),
        sa.Column("window", sa.BigInteger, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in amounts),
        sa.CheckConstraint(not_negative, name="budget_lease_not_negative"),
    )
    op.create_index("budget_lease_counter", "budget_lease", ["counter", "window"])


def _events() -> None:
    op.create_table(
        "money_event",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("expected", sa.BigInteger, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("bookings", sa.Text, nullable=False),
    )
    op.create_index("money_event_at", "money_event", ["at"])
    op.create_table(
        "open_request",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("open_request_run", "open_request", ["run"])
