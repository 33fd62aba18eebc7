"""What only PostgreSQL can do: several gateways at once, being away, falling silent, letting nobody in."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading

import pytest
from tests.keys.house import ADA, Clock, built
from tests.support.postgres import LOCKED_OUT, needs_postgres, postgres_running

from fleetgate.errors import Refused
from fleetgate.store import access
from fleetgate.store.database import Store
from fleetgate.store.failures import StoreError, Trouble

pytestmark = needs_postgres


@pytest.fixture
def url(databases):
    made = databases.new()
    yield made
    databases.drop(made)


@pytest.fixture
def gateways(tmp_path, url):
    """Stores of gateways on one database, each with a state directory of its own."""
    opened = []

    def make(**changes) -> Store:
        directory = tmp_path / f"gateway-{len(opened)}"
        values = {"database": url, "gather": 0, **changes}
        opened.append(Store.open(directory, lambda: 1_790_000_000.0, **values))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture(scope="module")
def own():
    """A cluster that may be stopped and frozen."""
    with postgres_running(safe=False) as cluster:
        yield cluster


async def until(fact):
    while not fact():  # noqa: ASYNC110  (a thread's state has no event of the loop)
        await asyncio.sleep(0.002)


async def failed(doing) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await doing
    return caught.value


def sql(statement):
    return lambda connection: connection.exec_driver_sql(statement)


def scalar(statement):
    return lambda connection: connection.exec_driver_sql(statement).scalar()


# Several gateways


@pytest.mark.asyncio
async def test_what_one_gateway_changes_at_keys_the_other_knows_after_one_poll(tmp_path, gateways):
    clock, one, two = Clock(), gateways(), gateways()
    here = built(one, clock)
    (two.directory / "keys.pepper").write_bytes((one.directory / "keys.pepper").read_bytes())
    there = built(two, clock)
    key_id, key = await here.make(alias="laptop")
    assert (await there.who(key)).id == key_id
    await here.registry.revoke(ADA, key_id)
    assert await there.who(key) is not None
    await there.keys.poll()
    assert await there.who(key) is None
    await there.make(alias="laptop")
    assert [row.action for row in await here.registry.trail(9, None)] == [
        *("key.create", "key.revoke", "key.create")
    ]


@pytest.mark.asyncio
async def test_no_change_to_keys_is_lost_in_a_race(gateways):
    stores = [gateways() for _ in range(3)]
    changes = [store.change(access.next_epoch) for _ in range(20) for store in stores]
    numbers = await asyncio.gather(*changes)
    assert sorted(numbers) == list(range(1, 61))
    assert [store.ask(access.epoch) for store in stores] == [60] * 3


@pytest.mark.asyncio
async def test_two_gateways_give_an_alias_once(gateways):
    houses = [built(gateways(), Clock()) for _ in range(2)]
    for number in range(8):
        made = await asyncio.gather(
            *(house.make(alias=f"key-{number}") for house in houses), return_exceptions=True
        )
        (refused,) = [one for one in made if isinstance(one, BaseException)]
        assert isinstance(refused, Refused)
        assert refused.status == 409


def test_a_single_value_is_made_once_by_whoever_is_first(gateways):
    stores = [gateways() for _ in range(3)]
    together, found = threading.Barrier(3), []

    def take(number):
        together.wait()
        found.append(stores[number].get_or_create("instance", lambda: str(number)))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


@pytest.mark.asyncio
async def test_exchanges_of_both_are_in_one_ledger(gateways, entry):
    one, two = gateways(), gateways()
    for number in range(200):
        (one, two)[number % 2].post(entry(number))
        two.post(entry(0))
    await asyncio.gather(one.flush(), two.flush())
    assert len(one.exchanges(1000)) == len(two.exchanges(1000)) == 200
    assert one.doubles + two.doubles == 200


def test_one_directory_is_still_one_gateways(tmp_path, gateways, url):
    store = gateways()
    with pytest.raises(StoreError) as caught:
        Store.open(store.directory, lambda: 1.0, database=url)
    assert caught.value.trouble is Trouble.HELD


@pytest.mark.asyncio
@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
async def test_a_change_that_another_gateway_was_in_the_way_of_is_made_again(gateways, state):
    store, runs = gateways(), []

    def act(connection):
        runs.append(1)
        if len(runs) == 1:
            connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")
        return "done"

    assert await store.change(act) == "done"
    assert len(runs) == 2


# Connections


@pytest.mark.asyncio
async def test_nothing_stays_behind_on_a_connection(gateways, entry):
    store = gateways()
    for number in range(30):
        store.post(entry(number))
        await store.flush()
    within = await store.change(
        lambda connection: [
            connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("lock_timeout", "statement_timeout", "synchronous_commit", "transaction_isolation")
        ]
    )
    assert within == ["500ms", "10s", "on", "read committed"]
    assert store.ask(scalar("SHOW transaction_isolation")) == "repeatable read"
    line = store._writer._connection.connection.driver_connection
    assert line.execute("SHOW lock_timeout").fetchone() == ("0",)
    assert line.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


@pytest.mark.asyncio
async def test_readers_cannot_write_and_see_one_instant(gateways):
    store = gateways()
    with pytest.raises(StoreError, match="read-only"):
        store.ask(sql("INSERT INTO meta VALUES ('a', 'b')"))
    with store._reading.connect() as connection:
        count = "SELECT count(*) FROM meta WHERE name = 'a'"
        assert connection.exec_driver_sql(count).scalar() == 0
        await store.change(sql("INSERT INTO meta VALUES ('a', 'b')"))
        assert connection.exec_driver_sql(count).scalar() == 0
    assert store.ask(scalar(count)) == 1


@pytest.mark.asyncio
async def test_text_that_postgresql_does_not_take_is_made_fit(gateways, entry):
    store = gateways()
    store.post(entry(1, model="a\0b \ud83d", note="\0"))
    store.remember("presence", "half \ud83d", {"a": 1})
    await store.flush()
    assert [row["model"] for row in store.exchanges(9)] == ["a\ufffdb ?"]
    assert store.recall("presence") == {"half ?": {"a": 1}}
    assert store.ask(lambda connection: access.key_called(connection, "x\0")) is None
    assert store.dropped == 0


@pytest.mark.asyncio
async def test_lost_connections_are_noticed_by_nobody(gateways, databases, entry):
    """As after a restart of PostgreSQL, or when a pooler closes what is idle."""
    store = gateways()
    await store.change(access.next_epoch)
    assert store.ask(access.epoch) == 1
    end = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    name = store.title.rpartition("/")[2]
    databases.cluster.execute(end, database=name)
    assert store.ask(access.epoch) == 1
    assert await store.change(access.next_epoch) == 2
    databases.cluster.execute(end, database=name)
    store.post(entry(1))
    await store.flush()
    assert len(store.exchanges(9)) == 1


@pytest.mark.asyncio
async def test_when_the_connection_ends_at_commit_the_outcome_is_unknown(gateways, databases):
    store = gateways()

    def act(connection):
        connection.exec_driver_sql("INSERT INTO meta VALUES ('a', 'b')")
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        databases.cluster.execute(f"SELECT pg_terminate_backend({pid}, 5000)")

    error = await failed(store.change(act))
    assert error.unknown
    assert error.trouble is Trouble.DOWN
    assert "whether it was changed is unknown" in error.message
    assert store.ask(scalar("SELECT count(*) FROM meta WHERE name = 'a'")) == 0


# Away, and back


@pytest.mark.asyncio
async def test_while_it_is_down_exchanges_wait_and_nothing_is_lost(tmp_path, own, entry, caplog):
    store = Store.open(tmp_path, lambda: 1.0, database=own.url, gather=0)
    try:
        await store.change(access.next_epoch)
        own.stop()
        for number in range(50):
            store.post(entry(number))
        await until(lambda: not store.healthy)
        error = await failed(store.change(access.next_epoch, 0.05))
        assert "nothing was changed" in error.message
        assert not error.unknown
        with pytest.raises(StoreError) as caught:
            store.ask(access.epoch)
        assert caught.value.trouble is Trouble.DOWN
        own.start()
        await store.flush()
        assert store.healthy
        assert len(store.exchanges(100)) == 50
        assert store.ask(access.epoch) == 1
        assert store.dropped == 0
        assert "the database works again" in caplog.text
    finally:
        if own.process is None:
            own.start()
        store.close()


@pytest.mark.asyncio
async def test_while_it_is_silent_nobody_waits_for_ever(tmp_path, own, entry, monkeypatch):
    from fleetgate.store import postgres

    monkeypatch.setattr(postgres, "READING", 0.1)
    monkeypatch.setattr(postgres, "WRITING", 0.1)
    monkeypatch.setattr(postgres, "GRACE", 0.1)
    store = Store.open(tmp_path, lambda: 1.0, database=f"{own.url}?connect_timeout=1", gather=0)
    try:
        store.ask(access.epoch)
        own.freeze()
        store.post(entry(100))
        await until(lambda: not store.healthy)
        error = await failed(store.change(access.next_epoch, 0.05))
        assert "nothing was changed" in error.message
        assert not error.unknown
        with pytest.raises(StoreError) as caught:
            await asyncio.to_thread(store.ask, access.epoch)
        assert caught.value.trouble is Trouble.DOWN
        own.thaw()
        await store.flush()
        assert [row["request_id"] for row in store.exchanges(1)] == ["req-000100"]
    finally:
        own.thaw()
        store.close()


# Start


def refused(directory, url) -> StoreError:
    with pytest.raises(StoreError) as caught:
        Store.open(directory, lambda: 1.0, database=url)
    assert caught.value.advice
    return caught.value


def test_nobody_there(tmp_path):
    error = refused(tmp_path, "postgresql://ada:hidden-word@127.0.0.1:1/fleetgate")
    assert error.trouble is Trouble.DOWN
    assert error.message.startswith("postgresql://ada@127.0.0.1:1/fleetgate: it cannot be reached: ")
    assert "hidden-word" not in str(error) + error.advice
    assert refused(tmp_path, "postgresql://ada@nowhere.invalid/fleetgate").trouble is Trouble.DOWN


def test_not_let_in(tmp_path, databases):
    cluster = databases.cluster
    cluster.execute(
        f"DROP ROLE IF EXISTS {LOCKED_OUT}", f"CREATE ROLE {LOCKED_OUT} LOGIN PASSWORD 'right-word'"
    )
    wrong = cluster.at("postgres", f"{LOCKED_OUT}:wrong-word")
    error = refused(tmp_path, wrong)
    assert error.trouble is Trouble.LOGIN
    assert "wrong-word" not in str(error) + error.advice
    assert refused(tmp_path, cluster.at("postgres", LOCKED_OUT)).trouble is Trouble.LOGIN
    assert refused(tmp_path, cluster.at("postgres", "stranger")).trouble is Trouble.LOGIN


def test_a_database_that_is_missing_or_not_ours(tmp_path, databases):
    cluster = databases.cluster
    error = refused(tmp_path, cluster.at("nowhere"))
    assert (error.trouble, "Create it" in error.advice) == (Trouble.SETUP, True)
    cluster.execute("CREATE ROLE plain LOGIN")
    url = databases.empty()
    assert refused(tmp_path, url.replace("//postgres@", "//plain@")).trouble is Trouble.SETUP
    databases.drop(url)
    cluster.execute("DROP ROLE plain")


def test_a_database_of_another_encoding_is_refused(tmp_path, databases):
    databases.cluster.execute("CREATE DATABASE odd ENCODING 'SQL_ASCII' TEMPLATE template0")
    error = refused(tmp_path, databases.cluster.at("odd"))
    assert (error.trouble, "SQL_ASCII" in error.message) == (Trouble.SETUP, True)
    databases.cluster.execute("DROP DATABASE odd WITH (FORCE)")


def test_a_database_that_is_read_only_is_found_at_start(tmp_path, url, databases):
    name = url.partition("?")[0].rpartition("/")[2]
    databases.cluster.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    error = refused(tmp_path, url)
    assert "it is read-only" in error.message
    assert "standby" in error.advice


def test_an_address_that_libpq_does_not_understand_shows_nothing_of_itself(tmp_path):
    error = refused(tmp_path, "postgresql://ada:hidden-word@h/d?no_such_option=1")
    assert error.trouble is Trouble.SETUP
    assert "hidden-word" not in str(error) + repr(error.__cause__)


def test_without_its_driver_the_way_to_get_it_is_told(tmp_path):
    script = (
        "import sys, pathlib\n"
        "sys.modules['psycopg'] = None\n"
        "from fleetgate.store.database import Store\n"
        "from fleetgate.store.failures import StoreError\n"
        "try:\n"
        "    Store.open(pathlib.Path(sys.argv[1]), lambda: 1.0, database='postgresql://u@h/d')\n"
        "except StoreError as error:\n"
        "    print(error.trouble, '|', error.message, '|', error.advice)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    trouble, message, advice = ran.stdout.split(" | ")
    assert trouble == "setup"
    assert "driver" in message
    assert "fleetgate[postgres]" in advice


@pytest.mark.asyncio
async def test_no_row_and_no_password_is_in_what_failures_say(gateways, entry, caplog):
    store = gateways()
    caplog.set_level(logging.DEBUG)
    private = "INSERT INTO exchange (request_id, note) VALUES ('req', 'hidden words')"
    error = await failed(store.change(sql(private)))
    assert "hidden words" not in error.message + str(store.last_error) + caplog.text
    assert "null value" in error.message
