from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from fleetgate.domain import Usage
from fleetgate.store import sqlite
from fleetgate.store.database import Store
from fleetgate.store.failures import StoreError, Trouble


@pytest.fixture
def store(opened):
    store = opened(busy=0.02, gather=0)
    yield store
    store.close()


async def until(fact):
    """Waits for something another thread does; the test's own time limit is the limit."""
    while not fact():  # noqa: ASYNC110  (a thread's state has no event of the loop)
        await asyncio.sleep(0.002)


# Exchanges


@pytest.mark.asyncio
async def test_an_exchange_is_durable_after_flush(store, entry):
    told = entry(7, streamed=True, first_content=0.2, bytes_in=10, bytes_out=20, note="a note")
    store.post(told)
    await store.flush()
    assert store.entries(5) == [told]
    (row,) = store.exchanges(5)
    assert (row["duration_us"], row["first_content_us"], row["at"]) == (1_250_000, 200_000, 1_790_000_007_000)
    assert row["attempts"][0]["deployment"] == "box/ollama/qwen3:4b"


@pytest.mark.asyncio
async def test_the_latest_exchanges_come_first(store, entry):
    for number in range(200):
        store.post(entry(number))
    await store.flush()
    assert [row["request_id"] for row in store.exchanges(2)] == ["req-000199", "req-000198"]
    assert len(store.exchanges(1000)) == 200


@pytest.mark.asyncio
async def test_a_replay_adds_no_doubles(store, entry):
    for _ in range(3):
        store.post(entry(1))
        store.post(entry(2))
    await store.flush()
    assert len(store.exchanges(10)) == 2
    assert store.doubles == 4


@pytest.mark.asyncio
async def test_a_row_that_fits_no_column_is_bent_and_keeps_nobody_else_out(store, entry):
    store.post(entry(1))
    store.post(entry(2, usage=Usage(10**30), model="half \ud83d", note="also \ud83d"))
    store.post(entry(3))
    await store.flush()
    rows = {row["request_id"]: row for row in store.exchanges(10)}
    assert set(rows) == {"req-000001", "req-000002", "req-000003"}
    assert rows["req-000002"]["input_tokens"] == 2**63 - 1
    assert rows["req-000002"]["model"] == "half ?"
    assert store.dropped == 0


@pytest.mark.asyncio
async def test_what_is_no_exchange_at_all_is_counted(store, entry):
    store.post(entry(1, attempts=("nonsense",)))
    store.post(entry(2, status=None))
    store.post(entry(3))
    await store.flush()
    assert [row["request_id"] for row in store.exchanges(10)] == ["req-000003"]
    assert store.dropped == 2
    assert store.healthy


# What was learned


@pytest.mark.asyncio
async def test_what_was_learned_survives_a_restart(opened):
    store = opened()
    store.remember("catalogue", "http://10.0.0.5:11434", {"models": ["qwen3:4b"]})
    store.remember("catalogue", "http://10.0.0.6:8080", b'{"models": []}')
    store.remember("presence", "box", {"presence": "awake"})
    store.remember("presence", "box", {"presence": "asleep"})
    store.remember("presence", "gone", {"presence": "awake"})
    store.forget("presence", "gone")
    store.close()
    again = opened()
    assert again.recall("catalogue") == {
        "http://10.0.0.5:11434": {"models": ["qwen3:4b"]},
        "http://10.0.0.6:8080": {"models": []},
    }
    assert again.recall("presence") == {"box": {"presence": "asleep"}}
    assert again.recall("nothing") == {}
    again.remember("presence", "box", {"presence": "awake"})
    again.forget("catalogue", "http://10.0.0.6:8080")
    await again.flush()
    assert again.recall("presence") == {"box": {"presence": "awake"}}
    assert list(again.recall("catalogue")) == ["http://10.0.0.5:11434"]
    again.close()


def test_a_memory_that_cannot_be_read_is_left_out(opened, caplog):
    store = opened()
    store.remember("presence", "good", {"presence": "awake"})
    store.remember("presence", "bad", b"[1, 2")
    store.close()
    again = opened()
    assert list(again.recall("presence")) == ["good"]
    assert "a memory cannot be read" in caplog.text
    again.close()


def test_a_single_value_is_made_once(opened):
    store = opened()
    assert store.get_or_create("instance", lambda: "first") == "first"
    assert store.get_or_create("instance", lambda: pytest.fail("made twice")) == "first"
    store.close()
    again = opened()
    assert again.get_or_create("instance", lambda: "second") == "first"
    again.close()


# A failing database


@pytest.mark.asyncio
async def test_while_the_database_is_locked_exchanges_wait_and_nothing_is_lost(store, foreign, entry, caplog):
    with foreign() as other:
        other.lock()
        for number in range(100):
            store.post(entry(number))
        store.remember("presence", "box", {"presence": "asleep"})
        await until(lambda: not store.healthy)
        assert "lock" in store.last_error
        assert store.exchanges(1) == []
        assert store.recall("presence") == {}
        other.release()
    await store.flush()
    assert len(store.exchanges(1000)) == 100
    assert store.recall("presence") == {"box": {"presence": "asleep"}}
    assert store.healthy
    assert store.dropped == 0
    assert "the database works again" in caplog.text
    assert caplog.text.count("the database fails") == 1


@pytest.mark.asyncio
async def test_what_the_bound_does_not_hold_is_dropped_and_counted(opened, foreign, entry):
    store = opened(busy=0.01, limit=10, gather=0)
    with foreign() as other:
        other.lock()
        store.post(entry(0))
        await until(lambda: not store.healthy)
        for number in range(1, 31):
            store.post(entry(number))
        assert store.waiting == 10
        assert store.dropped == 20
        other.release()
    await store.flush()
    assert len(store.exchanges(100)) == 11
    store.close()


@pytest.mark.asyncio
async def test_a_database_that_refuses_rows_for_a_while_is_tried_again(store, foreign, entry):
    with foreign() as other:
        other.execute("ALTER TABLE exchange RENAME TO elsewhere")
        store.post(entry(1))
        await until(lambda: not store.healthy)
        other.execute("ALTER TABLE elsewhere RENAME TO exchange")
    await store.flush()
    assert len(store.exchanges(10)) == 1


@pytest.mark.asyncio
async def test_closing_while_the_database_fails_ends_and_counts_the_loss(opened, foreign, entry, caplog):
    store = opened(busy=0.01, gather=0)
    with foreign() as other:
        other.lock()
        store.post(entry(1))
        await until(lambda: not store.healthy)
        store.post(entry(2))
        waiting = asyncio.gather(store.flush(), return_exceptions=True)
        await asyncio.sleep(0)
        await asyncio.to_thread(store.close)
        (refused,) = await waiting
    assert isinstance(refused, StoreError)
    assert refused.trouble is Trouble.CLOSED
    assert store.dropped == 2
    assert "exchanges were not recorded" in caplog.text


@pytest.mark.asyncio
async def test_after_close_posts_are_counted_and_flush_is_refused(opened, entry):
    store = opened()
    store.close()
    store.close()
    store.post(entry(1))
    assert store.dropped == 1
    with pytest.raises(StoreError, match="closed"):
        await store.flush()
    with pytest.raises(StoreError):
        store.get_or_create("instance", lambda: "x")


def test_close_writes_what_is_queued(opened, entry):
    store = opened(gather=60)
    for number in range(3000):
        store.post(entry(number))
    store.close()
    again = opened()
    assert len(again.exchanges(5000)) == 3000
    again.close()


@pytest.mark.asyncio
async def test_whoever_waits_does_not_wait_for_rows_to_gather(opened, entry):
    store = opened(gather=3600)
    for number in range(2500):
        store.post(entry(number))
    await store.flush()
    assert len(store.exchanges(5000)) == 2500
    store.close()


@pytest.mark.asyncio
async def test_posts_from_many_threads_all_arrive(store, entry):
    def post(first):
        for number in range(first, first + 500):
            store.post(entry(number))

    threads = [threading.Thread(target=post, args=(first,)) for first in range(0, 2000, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    await store.flush()
    assert len(store.exchanges(5000)) == 2000


# Start


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path, clock):
    store = Store.open(tmp_path, clock)
    script = (
        "import sys, pathlib\n"
        "from fleetgate.store.database import Store\n"
        "from fleetgate.store.failures import StoreError\n"
        "try:\n"
        "    Store.open(pathlib.Path(sys.argv[1]), lambda: 1.0)\n"
        "except StoreError as error:\n"
        "    print(error.trouble, error.message)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("held ")
    assert f"process {os.getpid()}" in ran.stdout
    store.close()
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert ran.stdout == ""


def test_a_refused_start_lets_go_of_the_directory(tmp_path, clock):
    (tmp_path / sqlite.DATABASE).write_bytes(b"not a database" * 100)
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            Store.open(tmp_path, clock)
        assert caught.value.trouble is Trouble.CORRUPT


@pytest.mark.asyncio
async def test_files_are_readable_by_their_owner_only(tmp_path, clock, entry):
    directory = tmp_path / "deep" / "state"
    store = Store.open(directory, clock)
    try:
        store.post(entry(1))
        await store.flush()
        assert directory.stat().st_mode & 0o777 == 0o700
        assert {file.name: file.stat().st_mode & 0o777 for file in directory.iterdir()} == dict.fromkeys(
            ("fleetgate.db", "fleetgate.db-wal", "fleetgate.db-shm", "fleetgate.lock"), 0o600
        )
    finally:
        store.close()


def test_sqlite_is_as_safe_as_promised(tmp_path, clock):
    store = Store.open(tmp_path, clock, busy=0.02)
    with store._writer._engine.connect() as connection:
        found = {
            pragma: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
            for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    store.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 20}
    assert sqlite.BUSY == 5.0


@pytest.mark.parametrize(("version", "said"), [((3, 51, 2), 1), ((3, 51, 3), 0)])
def test_a_sqlite_that_others_could_damage_a_database_with_is_told_of(
    tmp_path, clock, caplog, monkeypatch, version, said
):
    monkeypatch.setattr(sqlite.sqlite3, "sqlite_version_info", version)
    caplog.set_level("INFO", "fleetgate.store")
    Store.open(tmp_path, clock).close()
    assert caplog.text.count("keep others away while the gateway runs") == said


@pytest.mark.parametrize("below", ["", "state"])
def test_a_file_where_the_directory_should_be_is_refused(tmp_path, clock, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a file is in its place") as caught:
        Store.open(tmp_path / "file" / below, clock)
    assert caught.value.trouble is Trouble.DIRECTORY
    assert caught.value.advice


def test_a_directory_that_cannot_be_written_is_refused(tmp_path, clock):
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("permissions do not stop this user")
        with pytest.raises(StoreError, match="cannot be written") as caught:
            Store.open(tmp_path, clock)
        assert caught.value.trouble is Trouble.DIRECTORY
    finally:
        tmp_path.chmod(0o700)


def test_a_truncated_database_is_refused(tmp_path, clock):
    Store.open(tmp_path, clock).close()
    path = tmp_path / sqlite.DATABASE
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(StoreError, match="damaged") as caught:
        Store.open(tmp_path, clock)
    assert caught.value.trouble is Trouble.CORRUPT
    assert "backup" in caught.value.advice


def test_a_disk_that_takes_no_more_is_found_at_start(tmp_path):
    script = (
        "import sys, pathlib, resource\n"
        "from fleetgate.store.database import Store\n"
        "from fleetgate.store.failures import StoreError\n"
        "Store.open(pathlib.Path(sys.argv[1]), lambda: 1.0).close()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    Store.open(pathlib.Path(sys.argv[1]), lambda: 1.0)\n"
        "except StoreError as error:\n"
        "    print(error.trouble, '|', error.message, '|', error.advice)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    trouble, message, advice = ran.stdout.split(" | ")
    assert trouble in ("database", "full")
    assert "disk" in message
    assert "state directory" in advice


def test_somebody_elses_lock_does_not_keep_start_from_working(opened, foreign, entry):
    opened().close()
    with foreign() as other:
        other.lock()
        store = opened()
        store.post(entry(1))
        other.release()
    store.close()
    assert store.dropped == 0


# A crash

WRITES = """
import asyncio, itertools, pathlib, sys, time
from fleetgate.domain import Attempt, Entry
from fleetgate.store.database import Store

async def main():
    store = Store.open(pathlib.Path(sys.argv[1]), lambda: 1.0, database=sys.argv[2], gather=0)
    numbers = itertools.count()
    while True:
        for number in itertools.islice(numbers, 37):
            store.post(Entry(f"req-{number}", 1.0, "app", "chat", "fast", 200, "ok", 1.0,
                             attempts=(Attempt("a/b/c", "ok", 0, 1),)))
        store.remember("count", "rows", {"rows": number + 1})
        await store.flush()
        print(number + 1, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 40])
def test_a_kill_loses_nothing_that_was_reported_durable(tmp_path, opened, database, foreign, acknowledged):
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, tmp_path, database], stdout=subprocess.PIPE, text=True
    ) as child:
        for _ in range(acknowledged):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().splitlines()
    promised = int(rest[-1]) if rest and rest[-1] else acknowledged * 37
    store = opened()
    try:
        found = {row["request_id"] for row in store.exchanges(1_000_000)}
        assert {f"req-{number}" for number in range(promised)} <= found
        assert store.recall("count")["rows"]["rows"] >= promised
        if database == "sqlite":
            with foreign() as other:
                assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        store.close()
