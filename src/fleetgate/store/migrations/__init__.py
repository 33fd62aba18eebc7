"""Numbered migrations of the state database. Alembic runs these files; nothing imports them."""
