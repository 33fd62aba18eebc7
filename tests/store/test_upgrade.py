from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from fleetgate.store import ledger, sqlite
from fleetgate.store.database import Store
from fleetgate.store.failures import StoreError, Trouble
from fleetgate.store.schema import LINEAGE, Lineage, metadata
from fleetgate.store.upgrade import bring_up

NEXT = f"{len(LINEAGE.revisions) + 1:04}"
SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{down}"


def upgrade() -> None:
    with op.batch_alter_table("exchange") as table:
        table.add_column(sa.Column("colour", sa.Text))
    {more}
"""


@pytest.fixture
def later(tmp_path):
    """A lineage with one migration more than ours, doing what is asked."""

    def make(more: str = "", reader: int = LINEAGE.reader) -> Lineage:
        scripts = tmp_path / "scripts"
        shutil.copytree(LINEAGE.scripts, scripts, dirs_exist_ok=True)
        text = SECOND.format(more=more, revision=NEXT, down=LINEAGE.head)
        (scripts / "versions" / f"r{NEXT}_colour.py").write_text(text)
        return Lineage(scripts, (*LINEAGE.revisions, NEXT), reader)

    return make


def read(directory, query):
    with closing(sqlite3.connect(directory / sqlite.DATABASE)) as connection:
        return connection.execute(query).fetchall()


def change(directory, statement):
    with closing(sqlite3.connect(directory / sqlite.DATABASE)) as connection, connection:
        connection.execute(statement)


def test_the_lineage_names_exactly_the_migrations_there_are():
    config = Config()
    config.set_main_option("script_location", str(LINEAGE.scripts))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == LINEAGE.revisions


def test_migrations_make_exactly_the_declared_tables(tmp_path, clock):
    Store.open(tmp_path, clock).close()
    engine = sqlite.reading_engine(tmp_path / sqlite.DATABASE)
    found = inspect(engine)
    try:
        assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}
        for name, table in metadata.tables.items():
            columns = {c["name"]: (str(c["type"]), c["nullable"]) for c in found.get_columns(name)}
            assert columns == {c.name: (str(c.type), c.nullable) for c in table.columns}
            assert found.get_pk_constraint(name)["constrained_columns"] == [c.name for c in table.primary_key]
            assert {index["name"] for index in found.get_indexes(name)} == {i.name for i in table.indexes}
    finally:
        engine.dispose()


def test_opening_again_changes_nothing_and_makes_no_copy(tmp_path, clock):
    Store.open(tmp_path, clock).close()
    before = read(tmp_path, "SELECT * FROM sqlite_master"), read(tmp_path, "SELECT * FROM meta")
    Store.open(tmp_path, clock).close()
    assert before == (read(tmp_path, "SELECT * FROM sqlite_master"), read(tmp_path, "SELECT * FROM meta"))
    assert not list(tmp_path.glob("*.before-*"))


def test_alembic_is_imported_only_when_a_migration_is_pending(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from fleetgate.store.database import Store\n"
        "Store.open(pathlib.Path(sys.argv[1]), lambda: 1.0).close()\n"
        "print('alembic' in sys.modules)\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert [run.stdout.strip() for run in runs] == ["True", "False"]


async def _one_exchange(directory, clock, entry):
    store = Store.open(directory, clock)
    store.post(entry)
    await store.flush()
    store.close()


@pytest.mark.asyncio
async def test_a_pending_migration_keeps_the_rows_and_leaves_a_copy_of_the_old_state(
    tmp_path, clock, entry, later
):
    state = tmp_path / "state"
    await _one_exchange(state, clock, entry(1))
    store = Store.open(state, clock, lineage=later())
    store.post(entry(2))
    await store.flush()
    store.close()
    assert read(state, "SELECT request_id, colour FROM exchange ORDER BY 1") == [
        ("req-000001", None),
        ("req-000002", None),
    ]
    (copy,) = state.glob("*.before-*")
    assert copy.name == f"fleetgate.db.before-{NEXT}"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as old:
        assert old.execute("SELECT version_num FROM alembic_version").fetchall() == [(LINEAGE.head,)]
        assert old.execute("SELECT request_id FROM exchange").fetchall() == [("req-000001",)]


def test_a_failing_migration_is_taken_back_whole(tmp_path, clock, later):
    state = tmp_path / "state"
    Store.open(state, clock).close()
    before = read(state, "SELECT sql FROM sqlite_master")
    with pytest.raises(StoreError, match="was taken back") as caught:
        Store.open(state, clock, lineage=later("op.execute('SELECT * FROM nowhere')"))
    assert caught.value.trouble is Trouble.MIGRATION
    assert read(state, "SELECT sql FROM sqlite_master") == before
    Store.open(state, clock).close()


def test_going_back_a_version_works_while_its_reader_suits(tmp_path, clock, later):
    state = tmp_path / "state"
    Store.open(state, clock, lineage=later()).close()
    Store.open(state, clock).close()
    assert read(state, "SELECT version_num FROM alembic_version") == [(NEXT,)]


def test_a_database_that_needs_a_newer_reader_is_refused(tmp_path, clock, later):
    state = tmp_path / "state"
    raised = "op.execute(\"UPDATE meta SET value = '2' WHERE name = 'min_reader'\")"
    newer = later(raised, reader=2)
    Store.open(state, clock, lineage=newer).close()
    with pytest.raises(StoreError, match="needs reader 2, and this one is reader 1") as caught:
        Store.open(state, clock)
    assert caught.value.trouble is Trouble.NEWER
    Store.open(state, clock, lineage=replace(newer)).close()


@pytest.mark.parametrize("value", ["'soon'", "''"])
def test_a_min_reader_that_is_no_number_is_refused(tmp_path, clock, value):
    Store.open(tmp_path, clock).close()
    change(tmp_path, f"UPDATE meta SET value = {value}")
    with pytest.raises(StoreError, match="expected a number"):
        Store.open(tmp_path, clock)


def test_somebody_elses_database_is_not_touched(tmp_path, clock):
    change(tmp_path, "CREATE TABLE recipes (title)")
    with pytest.raises(StoreError, match="recipes") as caught:
        Store.open(tmp_path, clock)
    assert caught.value.trouble is Trouble.CORRUPT
    assert read(tmp_path, "SELECT name FROM sqlite_master") == [("recipes",)]


OLD_INSERT = (
    "INSERT INTO exchange (request_id, at, principal, route, model, deployment, status, outcome, streamed, "
    "duration_us, first_content_us, input_tokens, output_tokens, cached_tokens, estimated, bytes_in, "
    "bytes_out, attempts, note, person, team, end_user) VALUES "
    "('{0}', 1790000000000, 'app', '/v1/chat/completions', 'fast', 'box/ollama/q', 200, 'ok', 0, 1250000, "
    "NULL, 12, 34, NULL, 0, 10, 20, '[]', '', 'ada', NULL, NULL) ON CONFLICT (request_id) DO NOTHING"
)
"""How the version before the ledger of money writes an exchange."""


def test_the_ledger_of_money_is_added_to_what_there_is_and_the_previous_version_writes_on(tmp_path, clock):
    older = tmp_path / "scripts"
    shutil.copytree(LINEAGE.scripts, older)
    for script in (older / "versions").glob("r*.py"):
        if script.name[1:5] > "0002":
            script.unlink()
    state = tmp_path / "state"
    before = Lineage(older, LINEAGE.revisions[:2], LINEAGE.reader)
    sqlite.prepare(state)
    database = sqlite.File(state / sqlite.DATABASE, sqlite.BUSY)
    bring_up(database, before)
    database.close()
    change(state, OLD_INSERT.format("old"))
    store = Store.open(state, clock)
    assert [entry.cost for entry in store.entries(5)] == [0]
    store.close()
    change(state, OLD_INSERT.format("newer"))
    store = Store.open(state, clock)
    assert {entry.request_id: (entry.cost, entry.tags, entry.cache) for entry in store.entries(5)} == {
        "old": (0, (), ""),
        "newer": (0, (), ""),
    }
    assert store.ask(ledger.check) == []
    store.close()
