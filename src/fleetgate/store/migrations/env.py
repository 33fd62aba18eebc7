"""Run by Alembic: applies migrations on the connection that `upgrade.py` hands over.

That connection is inside its one transaction already; nothing here opens, commits or closes.
"""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # SQLite cannot alter most of a table in place: batch mode copies it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
