"""The ledger by the verbs of the store: durable before it leaves, settled once, whatever happens."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from tests.store.ledgers import MONEY, OTHER, REQUESTS, reservation, sent, settlement, told

from fleetgate.domain import Booking
from fleetgate.store import ledger
from fleetgate.store.database import SQLITE
from fleetgate.store.events import read
from fleetgate.store.failures import StoreError
from fleetgate.store.leases import Count, Wanted
from fleetgate.store.recovery import Recovered
from fleetgate.store.schema import budget_lease, counter, exchange, hourly, money_event, open_request, run

pytestmark = pytest.mark.asyncio


@pytest.fixture
def store(opened):
    store = opened(busy=0.02, gather=0)
    yield store
    store.close()


async def until(fact):
    """Waits for something another thread does; the test's own time limit is the limit."""
    while not fact():  # noqa: ASYNC110  (a thread's state has no event of the loop)
        await asyncio.sleep(0.002)


def count(store, table):
    return store.ask(lambda connection: connection.execute(select(func.count()).select_from(table)).scalar())


def events(store, number=1):
    found = store.ask(lambda connection: list(read(connection, [f"req-{number:06}"])))
    return sorted((event.attempt, event.kind, event.seq, event.amount, event.estimated) for event in found)


def check(store):
    assert store.ask(ledger.check) == []


# One attempt


async def test_a_dispatch_is_durable_when_it_returns(store, foreign):
    one = reservation(1, bound=100, expected=40, places=(MONEY, OTHER), requests=(REQUESTS,))
    await store.dispatch(one)
    with foreign() as other:
        assert other.execute("SELECT kind, amount, expected FROM money_event ORDER BY kind").fetchall() == [
            ("dispatch", 0, 40),
            ("reserve", 100, 40),
        ]
        assert other.execute("SELECT request_id, run FROM open_request").fetchall() == [
            ("req-000001", store.run)
        ]
        assert other.execute("SELECT run, counter, held FROM budget_lease ORDER BY counter").fetchall() == [
            (store.run, OTHER[0], 100),
            (store.run, MONEY[0], 100),
            (store.run, REQUESTS[0], 1),
        ]
    check(store)


async def test_the_end_of_an_exchange_is_all_of_it_at_once(store):
    one = reservation(1, requests=(REQUESTS,))
    await store.dispatch(one)
    store.post(told(1, sent(0, 70), settlements=(settlement(one, 70),)))
    await store.flush()
    assert store.counters() == [Count(*MONEY, 100, 70, 0), Count(*REQUESTS, 1, 1, 0)]
    assert events(store)[-1] == (0, "settle", 0, 70, False)
    assert (count(store, exchange), count(store, hourly), count(store, open_request)) == (1, 1, 0)
    (entry,) = store.entries(1)
    assert entry.cost == 70
    check(store)


async def test_a_settlement_may_come_at_once_and_again_with_its_exchange(store):
    one, two = reservation(1, 0), reservation(1, 1)
    await store.dispatch(one)
    store.settle(settlement(one, 30, estimated=True))
    await store.dispatch(two)
    ends = (settlement(one, 30, estimated=True), settlement(two, 70))
    for end in ends:
        store.settle(end)
    store.post(told(1, sent(0, 30), sent(1, 70), settlements=ends))
    for end in ends:
        store.settle(end)
    await store.flush()
    assert store.counters() == [Count(*MONEY, 130, 100, 0)]
    assert [event for event in events(store) if event[1] == "settle"] == [
        (0, "settle", 0, 30, True),
        (1, "settle", 0, 70, False),
    ]
    check(store)


async def test_what_was_not_sent_is_released(store):
    one = reservation(1)
    await store.dispatch(one)
    store.settle(settlement(one, 0, released=True))
    await store.flush()
    assert store.counters() == [Count(*MONEY, 100, 0, 0)]
    assert (0, "release", 0, 0, False) in events(store)
    assert count(store, open_request) == 1  # the exchange goes on


async def test_what_is_above_the_bound_is_an_adjustment_of_its_own(store):
    await store.grant(Wanted(*MONEY, 1_000, 1, 2**62))
    first, one = reservation(1, bound=900), reservation(2, bound=100)
    await store.dispatch(first)
    await store.dispatch(one)
    store.settle(settlement(one, 130))
    await store.flush()
    assert store.adjusted == 1
    assert events(store, 2)[:1] == [(0, "adjust", 1, 30, False)]
    assert (0, "settle", 0, 100, False) in events(store, 2)
    assert store.counters() == [Count(*MONEY, granted=1_030, spent=130, held=900)]
    check(store)


async def test_an_exchange_without_cost_counts_at_its_counters_once(store):
    for _ in range(3):
        store.post(told(1, bookings=(Booking(*REQUESTS, spent=1),)))
        store.post(told(2, bookings=(Booking(*REQUESTS, spent=1),)))
    await store.flush()
    assert store.counters() == [Count(*REQUESTS, 2, 2, 0)]
    assert store.doubles == 4
    assert count(store, money_event) == 0
    check(store)


async def test_many_attempts_at_once_are_few_commits(store, foreign):
    await store.grant(Wanted(*MONEY, 10**6, 1, 2**62))
    with foreign() as other:
        other.lock()
        waiting = asyncio.gather(*(store.dispatch(reservation(number)) for number in range(500)))
        await asyncio.sleep(0)
        before = store._writer.commits
        other.release()
    await waiting
    assert store._writer.commits - before <= 3
    assert count(store, open_request) == 500
    assert store.counters() == [Count(*MONEY, 10**6, 0, 50_000)]
    check(store)


# Failure


async def test_an_attempt_that_waits_too_long_is_refused_and_never_counts(store, foreign):
    with foreign() as other:
        other.lock()
        with pytest.raises(StoreError, match="did not answer"):
            await store.dispatch(reservation(1), patience=0.01)
        other.release()
    await store.flush()
    assert [one.held for one in store.counters()] in ([], [0])
    check(store)


async def test_an_attempt_that_became_durable_too_late_is_released(store):
    """Its caller was told that it is not durable, and has sent nothing."""
    late = asyncio.ensure_future(store.dispatch(reservation(1)))  # noqa: TID251  (the test waits for it)
    await asyncio.sleep(0)
    while not events(store):  # the loop stands still meanwhile: nobody hears that it is durable
        pass
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    await store.flush()
    assert store.counters() == [Count(*MONEY, 100, 0, 0)]
    assert (0, "release", 0, 0, False) in events(store)
    check(store)


async def test_while_the_database_fails_an_attempt_is_refused_quickly_and_settlements_wait(opened, foreign):
    store = opened(busy=0.01, gather=0, limit=4)
    one, two = reservation(1), reservation(2)
    await store.dispatch(one)
    await store.dispatch(two)
    with foreign() as other:
        other.lock()
        store.post(told(100))
        await until(lambda: not store.healthy)
        with pytest.raises(StoreError):
            await store.dispatch(reservation(3))
        for number in range(4, 30):
            store.post(told(number))
        store.settle(settlement(one, 70))
        store.post(told(2, settlements=(settlement(two, 30),)))
        assert store.dropped > 0
        with pytest.raises(StoreError, match="too much waits"):
            await store.dispatch(reservation(4))
        other.release()
    await store.flush()
    assert store.counters() == [Count(*MONEY, 200, 100, 0)]
    check(store)
    store.close()


async def test_a_settlement_that_fits_no_column_is_bent_and_keeps_nobody_else_out(store):
    one, two = reservation(1), reservation(2)
    await store.dispatch(one)
    await store.dispatch(two)
    store.settle(settlement(one, 10**30))
    store.settle(settlement(two, 20))
    store.post(told(3))
    await store.flush()
    assert count(store, exchange) == 1
    assert (0, "settle", 0, 20, False) in events(store, 2)
    assert store.healthy


async def test_a_dispatch_that_fits_no_column_is_refused_alone(store):
    outcomes = await asyncio.gather(
        store.dispatch(reservation(1)),
        store.dispatch(reservation(2, bound=10**30)),
        store.dispatch(reservation(3)),
        return_exceptions=True,
    )
    assert [type(one) for one in outcomes] == [type(None), StoreError, type(None)]
    assert events(store, 2) == []


async def test_after_close_nothing_is_dispatched(opened):
    store = opened()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.dispatch(reservation(1))


# Leases


async def test_grants_are_kept_until_they_are_given_back(store):
    lease = await store.grant(Wanted(*MONEY, 1_000, 1, 2**62))
    assert (lease.granted, lease.total_granted) == (1_000, 1_000)
    assert await store.grants([]) == []
    await store.dispatch(reservation(1))
    (lease,) = await store.give_back([MONEY])
    assert (lease.granted, lease.held) == (100, 100)
    assert store.counters(prefix="budget:") == [Count(*MONEY, 100, 0, 100)]
    assert store.counters(["nobody's"]) == []
    check(store)


async def test_an_ordered_end_gives_everything_back(opened, foreign):
    store = opened()
    await store.grant(Wanted(*MONEY, 1_000, 1, 2**62))
    one = reservation(1)
    await store.dispatch(one)
    store.post(told(1, settlements=(settlement(one, 70),)))
    store.close()
    with foreign() as other:
        assert other.execute("SELECT granted, spent, held FROM counter").fetchall() == [(70, 70, 0)]
        assert other.execute("SELECT count(*) FROM budget_lease").fetchone() == (0,)
        assert other.execute("SELECT count(*) FROM run").fetchone() == (0,)


# Death

SENDS_AND_DIES = """
import asyncio, os, pathlib, sys
sys.path.insert(0, sys.argv[2])
from tests.store.ledgers import reservation
from fleetgate.store.database import Store

async def main():
    store = Store.open(pathlib.Path(sys.argv[1]), lambda: 1_790_000_000.0, database=sys.argv[3])
    await asyncio.gather(*(store.dispatch(reservation(number)) for number in range(1, 21)))
    os._exit(9)

asyncio.run(main())
"""


async def test_whatever_was_dispatched_is_there_after_a_death_and_is_charged_once(
    tmp_path, opened, foreign, database
):
    root = str(Path(__file__).parents[2])
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", SENDS_AND_DIES, str(tmp_path), root, database], check=False
    )
    assert died.returncode == 9
    if database != SQLITE:
        with foreign() as other:
            other.execute("UPDATE run SET beat_at = 0")
    store = opened()
    assert store.recovered == Recovered(20, 20, 800)
    assert store.counters() == [Count(*MONEY, granted=2_000, spent=800, held=1_200)]
    assert {entry.outcome for entry in store.entries(100)} == {"interrupted"}
    assert count(store, exchange) == 20
    check(store)
    assert await store.recover() == Recovered()
    store.close()
    again = opened()
    assert again.recovered == Recovered()
    again.close()


async def test_runs_have_names_of_their_own(opened):
    names = set()
    for _ in range(3):
        store = opened()
        names.add(store.run)
        assert list(store.ask(lambda connection: list(connection.execute(select(run.c.id))))) == [
            (store.run,)
        ]
        store.close()
    assert len(names) == 3


async def test_a_beat_writes_where_others_may_look_for_it(store, database):
    before = store._writer.commits
    store.beat()
    await store.flush()
    assert store._writer.commits == before + (database != SQLITE)


# The whole


async def test_a_full_check_finds_what_does_not_fit(store):
    one = reservation(1)
    await store.dispatch(one)
    check(store)
    for change, finding in [
        (update(budget_lease).values(held=99), "held 99, where its events say 0 and 100"),
        (update(counter).values(granted=99), "granted 99, where its parts are 100"),
        (update(budget_lease).values(granted=50), "more than it is granted"),
        (open_request.delete(), "attempt 0: has no end"),
        (money_event.delete().where(money_event.c.kind == "reserve"), "its events say 0 and 0"),
    ]:

        class Undo(Exception):
            pass

        def look(connection, change=change):
            connection.execute(change)
            raise Undo(ledger.check(connection))

        with pytest.raises(Undo) as caught:
            await store.change(look)
        assert any(finding in line for line in caught.value.args[0]), caught.value.args
    check(store)


async def test_what_is_carried_keeps_all_sums(store):
    await store.grant(Wanted(*MONEY, 10_000, 1, 2**62))
    for number in range(1, 6):
        one = reservation(number, places=(MONEY, OTHER))
        await store.dispatch(one)
        if number < 5:
            store.post(told(number, settlements=(settlement(one, 10 * number),)))
    await store.flush()
    before = store.counters()
    later = 1_900_000_000_000
    assert await store.change(lambda connection: ledger.carry(connection, 1)) == 0
    assert await store.change(lambda connection: ledger.carry(connection, later)) == 12
    assert store.counters() == before
    assert count(store, money_event) == 4  # one carry for each counter, and the open attempt
    check(store)
    assert await store.change(lambda connection: ledger.carry(connection, later)) == 0
    store.post(told(5, settlements=(settlement(reservation(5, places=(MONEY, OTHER)), 50),)))
    await store.flush()
    assert await store.change(lambda connection: ledger.carry(connection, later)) == 3
    assert count(store, money_event) == 2
    check(store)


async def test_a_carry_goes_with_its_counter(store):
    one = reservation(1)
    await store.dispatch(one)
    store.post(told(1, settlements=(settlement(one, 10),)))
    await store.flush()

    def forget(connection):
        ledger.carry(connection, 1_900_000_000_000)
        connection.execute(budget_lease.delete())
        connection.execute(counter.delete())
        findings = ledger.check(connection)
        ledger.carry(connection, 1_900_000_000_000)
        return findings

    assert await store.change(forget) == []
    assert count(store, money_event) == 0
    check(store)
