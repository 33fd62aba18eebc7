from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from tests.support.postgres import needs_postgres

from fleetgate.store import ledger, sqlite
from fleetgate.store.database import SQLITE, Store
from fleetgate.store.failures import StoreError, Trouble
from fleetgate.store.schema import LINEAGE, Lineage, metadata
from fleetgate.store.upgrade import bring_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Engine

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


@dataclass
class Place:
    """A state directory and a database that nothing was done to yet."""

    state: Path
    database: str
    clock: Callable[[], float]
    foreign: Callable[..., AbstractContextManager[Any]]

    def open(self, lineage: Lineage = LINEAGE) -> Store:
        return Store.open(self.state, self.clock, database=self.database, lineage=lineage)

    def read(self, query: str) -> list[Any]:
        with self.foreign(self.state) as other:
            return other.execute(query).fetchall()

    def change(self, statement: str) -> None:
        self.state.mkdir(exist_ok=True)
        with self.foreign(self.state) as other:
            other.execute(statement)

    def tables(self) -> Any:
        """What there is, in whatever form."""
        if self.database == SQLITE:
            return self.read("SELECT sql FROM sqlite_master")
        return self.read(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_schema = 'public' ORDER BY 1, 2"
        )

    def engine(self) -> Engine:
        if self.database == SQLITE:
            return sqlite.reading_engine(self.state / sqlite.DATABASE)
        return self.server().reading

    def server(self) -> Any:
        from fleetgate.store.postgres import Postgres

        return Postgres(self.database)


@pytest.fixture
def database(empty_database):
    return empty_database


@pytest.fixture
def place(tmp_path, database, clock, foreign):
    return Place(tmp_path / "state", database, clock, foreign)


def test_the_lineage_names_exactly_the_migrations_there_are():
    config = Config()
    config.set_main_option("script_location", str(LINEAGE.scripts))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == LINEAGE.revisions


def test_migrations_make_exactly_the_declared_tables(place):
    place.open().close()
    engine = place.engine()
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


def test_opening_again_changes_nothing_and_makes_no_copy(place):
    place.open().close()
    before = place.tables(), place.read("SELECT * FROM meta WHERE name = 'min_reader'")
    place.open().close()
    assert before == (place.tables(), place.read("SELECT * FROM meta WHERE name = 'min_reader'"))
    assert not list(place.state.glob("*.before-*"))


def test_alembic_is_imported_only_when_a_migration_is_pending(place):
    script = (
        "import sys, pathlib\n"
        "from fleetgate.store.database import Store\n"
        "Store.open(pathlib.Path(sys.argv[1]), lambda: 1.0, database=sys.argv[2]).close()\n"
        "print('alembic' in sys.modules)\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, place.state, place.database],
            capture_output=True,
            text=True,
            check=True,
        )
        for _ in range(2)
    ]
    assert [run.stdout.strip() for run in runs] == ["True", "False"]


async def _one_exchange(place, entry):
    store = place.open()
    store.post(entry)
    await store.flush()
    store.close()


@pytest.mark.asyncio
async def test_a_pending_migration_keeps_the_rows_and_leaves_a_copy_of_a_file(place, entry, later):
    await _one_exchange(place, entry(1))
    store = place.open(later())
    store.post(entry(2))
    await store.flush()
    store.close()
    assert place.read("SELECT request_id, colour FROM exchange ORDER BY 1") == [
        ("req-000001", None),
        ("req-000002", None),
    ]
    if place.database != SQLITE:
        return
    (copy,) = place.state.glob("*.before-*")
    assert copy.name == f"fleetgate.db.before-{NEXT}"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as old:
        assert old.execute("SELECT version_num FROM alembic_version").fetchall() == [(LINEAGE.head,)]
        assert old.execute("SELECT request_id FROM exchange").fetchall() == [("req-000001",)]


def test_a_failing_migration_is_taken_back_whole(place, later):
    place.open().close()
    before = place.tables()
    with pytest.raises(StoreError, match="was taken back") as caught:
        place.open(later("op.execute('SELECT * FROM nowhere')"))
    assert caught.value.trouble is Trouble.MIGRATION
    assert place.tables() == before
    place.open().close()


def test_going_back_a_version_works_while_its_reader_suits(place, later):
    place.open(later()).close()
    place.open().close()
    assert place.read("SELECT version_num FROM alembic_version") == [(NEXT,)]


def test_a_database_that_needs_a_newer_reader_is_refused(place, later):
    raised = "op.execute(\"UPDATE meta SET value = '2' WHERE name = 'min_reader'\")"
    newer = later(raised, reader=2)
    place.open(newer).close()
    with pytest.raises(StoreError, match="needs reader 2, and this one is reader 1") as caught:
        place.open()
    assert caught.value.trouble is Trouble.NEWER
    place.open(replace(newer)).close()


@pytest.mark.parametrize("value", ["'soon'", "''"])
def test_a_min_reader_that_is_no_number_is_refused(place, value):
    place.open().close()
    place.change(f"UPDATE meta SET value = {value}")
    with pytest.raises(StoreError, match="expected a number"):
        place.open()


def test_somebody_elses_database_is_not_touched(place):
    place.change("CREATE TABLE recipes (title TEXT)")
    with pytest.raises(StoreError, match="recipes") as caught:
        place.open()
    assert caught.value.trouble is Trouble.CORRUPT
    assert "recipes" in str(place.tables())
    assert len(place.tables()) == 1


OLD_INSERT = (
    "INSERT INTO exchange (request_id, at, principal, route, model, deployment, status, outcome, streamed, "
    "duration_us, first_content_us, input_tokens, output_tokens, cached_tokens, estimated, bytes_in, "
    "bytes_out, attempts, note, person, team, end_user) VALUES "
    "('{0}', 1790000000000, 'app', '/v1/chat/completions', 'fast', 'box/ollama/q', 200, 'ok', FALSE, "
    "1250000, NULL, 12, 34, NULL, FALSE, 10, 20, '[]', '', 'ada', NULL, NULL) "
    "ON CONFLICT (request_id) DO NOTHING"
)
"""How the version before the ledger of money writes an exchange."""


def test_the_ledger_of_money_is_added_to_what_there_is_and_the_previous_version_writes_on(tmp_path, place):
    older = tmp_path / "scripts"
    shutil.copytree(LINEAGE.scripts, older)
    for script in (older / "versions").glob("r*.py"):
        if script.name[1:5] > "0002":
            script.unlink()
    before = Lineage(older, LINEAGE.revisions[:2], LINEAGE.reader)
    sqlite.prepare(place.state)
    if place.database == SQLITE:
        database = sqlite.File(place.state / sqlite.DATABASE, sqlite.BUSY)
    else:
        database = place.server()
    bring_up(database, before)
    database.close()
    place.change(OLD_INSERT.format("old"))
    store = place.open()
    assert [entry.cost for entry in store.entries(5)] == [0]
    store.close()
    place.change(OLD_INSERT.format("newer"))
    store = place.open()
    assert {entry.request_id: (entry.cost, entry.tags, entry.cache) for entry in store.entries(5)} == {
        "old": (0, (), ""),
        "newer": (0, (), ""),
    }
    assert store.ask(ledger.check) == []
    store.close()


@needs_postgres
def test_gateways_that_start_at_once_make_the_tables_once(tmp_path, clock, databases):
    url = databases.empty()
    stores, errors = [], []
    together = threading.Barrier(4)

    def start(number):
        together.wait()
        try:
            stores.append(Store.open(tmp_path / str(number), clock, database=url))
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    databases.drop(url)
    assert errors == []
    assert len(stores) == 4
