from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from tests.store.ledgers import emptied, memory_engine
from tests.support.postgres import EITHER

from fleetgate.domain import Attempt, Entry, Usage
from fleetgate.store.database import SQLITE, Store
from fleetgate.store.sqlite import DATABASE


@pytest.fixture
def clock():
    """Unix time that moves on by a second per reading."""
    seconds = itertools.count(1_790_000_000)
    return lambda: float(next(seconds))


@pytest.fixture
def entry():
    def make(number: int = 0, **changes) -> Entry:
        values = {
            "request_id": f"req-{number:06}",
            "at": 1_790_000_000.0 + number,
            "principal": "app",
            "route": "/v1/chat/completions",
            "model": "fast",
            "status": 200,
            "outcome": "ok",
            "duration": 1.25,
            "deployment": "box/ollama/qwen3:4b",
            "usage": Usage(12, 34, None),
            "attempts": (Attempt("box/ollama/qwen3:4b", "ok", 0.001, 1.2, status=200, first_content=0.2),),
            **changes,
        }
        return Entry(**values)

    return make


@pytest.fixture
def opened(tmp_path, clock, database):
    """Opens the test's database, as often as it likes."""

    def make(**changes) -> Store:
        return Store.open(tmp_path, clock, **{"database": database, **changes})

    return make


@pytest.fixture(params=EITHER)
def engine(request):
    """Our tables, empty: what is tested is what is written, not how it lasts."""
    if request.param == "sqlite":
        made = memory_engine()
    else:
        made = emptied(request.getfixturevalue("databases").kept)
    yield made
    made.dispose()


@pytest.fixture
def connection(engine):
    """A transaction on them, taken back at its end."""
    with engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


@dataclass
class Other:
    """Another program's connection to the database."""

    line: Any

    def execute(self, statement: str) -> Any:
        return self.line.execute(statement)

    def lock(self) -> None:
        """From now on everybody may read and nobody else write."""
        if isinstance(self.line, sqlite3.Connection):
            self.execute("BEGIN IMMEDIATE")
        else:
            self.execute("BEGIN")
            self.execute("LOCK TABLE meta, learned, exchange, run IN EXCLUSIVE MODE")

    def release(self) -> None:
        self.execute("COMMIT")


@pytest.fixture
def foreign(tmp_path, database):
    """Opens such connections."""

    @contextmanager
    def connect(directory=tmp_path):
        if database == SQLITE:
            line = sqlite3.connect(directory / DATABASE, isolation_level=None)
        else:
            import psycopg

            line = psycopg.connect(database, autocommit=True)
        with closing(line):
            yield Other(line)

    return connect
