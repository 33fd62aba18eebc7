"""State directories that look as if they had been in use for long: many keys, a long ledger."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from typing import TYPE_CHECKING, Final

import msgspec

from fleetgate.domain import KeyKind
from fleetgate.keys import form, master
from fleetgate.keys.owner import digest
from fleetgate.store import rules
from fleetgate.store.database import Store
from fleetgate.store.retention import FILLED, TIDIED
from fleetgate.store.sqlite import DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DAYS: Final = 80
"""over which the exchanges of a long ledger are spread"""
KEYS_IN_LEDGER: Final = 1_000
CHUNK: Final = 500_000
HOUR_MS: Final = 3_600_000


def _now() -> float:
    """Rows are dated: reports ask for the last days."""
    return time.time()  # noqa: TID251


def prepare(state: Path) -> None:
    """A state directory with an empty database, in which today's housekeeping is done."""
    Store.open(state, _now).close()
    now = str(int(_now()))
    with _writing(state) as database:
        database.executemany("INSERT INTO meta VALUES (?, ?)", [(TIDIED, now), (FILLED, "yes")])


def add_keys(state: Path, count: int, names: Sequence[str]) -> list[str]:
    """Issues keys as the registry does, all at once. Their texts."""
    pepper, token, now = master.pepper(state), random.Random(1).randbytes, round(_now() * 1e3)
    patterns, texts, rows = msgspec.json.encode(names).decode(), [], []
    for _ in range(count):
        key_id, secret = form.mint_id(token), form.mint_secret(token)
        texts.append(form.whole(KeyKind.CALLER, key_id, secret))
        hashed = digest(pepper, secret.encode()).hex()
        rows.append((key_id, KeyKind.CALLER.value, hashed, "[]", patterns, True, now))
    with _writing(state) as database:
        database.executemany(
            "INSERT INTO access_key (id, kind, digest, tags, names, enabled, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
    return texts


def add_limits(state: Path, keys: Sequence[str]) -> None:
    """A stored limit for each of these keys, as the API makes them."""
    now = round(_now() * 1e3)
    rows = []
    for at, text in enumerate(keys):
        parts = form.parse(text.encode())
        assert parts is not None
        document = msgspec.json.encode({"scope": {"key": parts.id}, "requests": 50_000_000}).decode()
        rows.append((f"lbench{at:06x}", document, now))
    with _writing(state) as database:
        database.executemany("INSERT INTO limit_rule (id, document, created_at) VALUES (?, ?, ?)", rows)
        database.execute("INSERT INTO meta VALUES (?, '1')", (rules.EPOCH,))


_EXCHANGES: Final = """
WITH RECURSIVE one(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM one WHERE n + 1 < :last)
INSERT INTO exchange (
  request_id, at, principal, route, model, deployment, status, outcome, streamed, duration_us,
  first_content_us, input_tokens, output_tokens, estimated, bytes_in, bytes_out, attempts, note
) SELECT
  printf('req_%012x%012x', :begin + n * :length / :all, n), :begin + n * :length / :all,
  printf('bench%07d', n * 7919 % :keys), '/v1/chat/completions', 'bench-model',
  'here/openai/bench-model', 200, 'ok', n % 2, 812345, 112345, 26, 54, 0, 213, 498,
  '[{"deployment":"here/openai/bench-model","outcome":"ok","began_us":100,"ended_us":812300,'
  || '"first_content_us":112300,"usage":{"input_tokens":26,"output_tokens":54}}]', ''
FROM one
"""
_HOURLY: Final = """
INSERT INTO hourly SELECT
  at / 3600000 * 3600, principal, '', '', model, deployment, 'here', '', '',
  count(*), count(*), 0, 0, sum(input_tokens), sum(output_tokens), 0, 0, 0, 0, 0, 0, 812 * count(*)
FROM exchange WHERE at >= ? AND at < ? GROUP BY 1, principal, model, deployment
"""
_COUNTERS: Final = """
WITH RECURSIVE day(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM day WHERE n + 1 < :days),
  key(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM key WHERE k + 1 < :keys)
INSERT INTO counter SELECT printf('lbenchbench00@bench%07d', k), :begin + n * 86400, 100, 100, 0, 100
FROM day, key
"""


def add_exchanges(state: Path, count: int) -> None:
    """So many exchanges of the last weeks, the sums of their hours, and counters of their days."""
    now = round(_now() * 1e3)
    length = DAYS * 86_400_000
    begin = now - length
    with _writing(state) as database:
        for first, last in _parts(count):
            values = {"first": first, "last": last, "begin": begin, "length": length, "all": count}
            database.execute(_EXCHANGES, {**values, "keys": KEYS_IN_LEDGER})
            database.commit()
        hour = begin // HOUR_MS * HOUR_MS
        while hour < now:
            database.execute(_HOURLY, (hour, hour + 24 * HOUR_MS))
            hour += 24 * HOUR_MS
        day = begin // 86_400_000 * 86_400
        database.execute(_COUNTERS, {"days": DAYS, "keys": KEYS_IN_LEDGER, "begin": day})


def _parts(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, CHUNK):
        yield first, min(count, first + CHUNK)


@contextlib.contextmanager
def _writing(state: Path) -> Iterator[sqlite3.Connection]:
    """Quickly: what is lost with the machine is made again."""
    with contextlib.closing(sqlite3.connect(state / DATABASE)) as database:
        database.execute("PRAGMA synchronous=OFF")
        with database:
            yield database
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
