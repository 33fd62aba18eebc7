"""What is old goes, in small steps; sums stay what they were."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import delete, func, insert, select, update

from fleetgate.store import access, hourly, ledger, retention, usage
from fleetgate.store.database import Store
from fleetgate.store.failures import StoreError, Trouble
from fleetgate.store.retention import Ages, Duties, Pauses
from fleetgate.store.schema import audit, budget_lease, counter, exchange, meta, money_event
from fleetgate.store.schema import hourly as table
from fleetgate.store.usage import Question

pytestmark = pytest.mark.asyncio

DAY = 86_400
NOW = 1_790_000_000
AGES = Ages(10 * DAY, 20 * DAY)


@pytest.fixture
def store(tmp_path, database):
    store = Store.open(tmp_path, lambda: float(NOW), database=database)
    yield store
    store.close()


async def at_once(_seconds):
    await asyncio.sleep(0)


PAUSES = Pauses(breath=0.0, sleep=at_once)


DUTIES = Duties()


def count(store, which):
    return store.ask(lambda connection: connection.execute(select(func.count()).select_from(which)).scalar())


def sums(store):
    question = Question(("key", "model", "deployment", "day"), 0, NOW + DAY)
    return store.ask(lambda connection: usage.report(connection, question))


async def fill(store, entry, number=60):
    """An entry a day, newest first."""
    for days in range(number):
        store.post(entry(days, at=float(NOW - days * DAY)))
    await store.flush()


async def test_entries_go_and_their_sums_stay(store, entry):
    await fill(store, entry)
    before = sums(store)
    assert before.total["requests"] == 60
    gone = await retention.tidy(store, AGES, DUTIES, NOW, PAUSES)
    assert gone == {"events": 0, "entries": 49, "audit_lines": 0, "counters": 0}
    assert count(store, exchange) == 11
    assert sums(store) == before
    assert await retention.full_check(store, pauses=PAUSES) == []
    again = await retention.tidy(store, AGES, DUTIES, NOW, PAUSES)
    assert not any(again.values())


async def test_an_hour_is_kept_or_goes_as_a_whole(store, entry):
    edge = NOW - 10 * DAY
    hour = edge // 3_600 * 3_600
    for number, at in enumerate((hour - 1, hour, edge - 1, edge + 1)):
        store.post(entry(number, at=float(at)))
    await store.flush()
    gone = await retention.tidy(store, AGES, DUTIES, NOW, PAUSES)
    assert gone["entries"] == 1
    assert store.ask(hourly.kept_from) == hour
    assert store.ask(hourly.verify) == []


async def test_many_rows_go_in_small_steps_between_which_others_write(store, entry):
    steps = []

    async def sleep(seconds):
        if seconds == retention.BETWEEN:
            steps.append(count(store, exchange))
            store.post(entry(10**6 + len(steps), at=float(NOW)))
            await store.flush()

    for number in range(1_300):
        store.post(entry(number, at=float(NOW - 30 * DAY)))
    await store.flush()
    gone = await retention.tidy(store, AGES, DUTIES, NOW, Pauses(sleep=sleep))
    assert gone["entries"] == 1_300
    assert steps == [800, 301]
    assert count(store, exchange) == 2


async def test_keeping_longer_again_brings_nothing_back_and_is_no_mistake(store, entry):
    await fill(store, entry)
    await retention.tidy(store, AGES, DUTIES, NOW, PAUSES)
    kept = store.ask(hourly.kept_from)
    await retention.tidy(store, Ages(30 * DAY, DAY), DUTIES, NOW, PAUSES)
    assert store.ask(hourly.kept_from) == kept
    assert store.ask(hourly.verify) == []


async def test_old_lines_of_the_trail_go(store):
    def write(connection):
        for days in range(40):
            at = (NOW - days * DAY) * 1_000
            access.note(connection, access.AuditRow(at, "master", "x", "y", None, None, "", ""))

    await store.change(write)
    gone = await retention.tidy(store, AGES, DUTIES, NOW, PAUSES)
    assert gone["audit_lines"] == 19
    assert count(store, audit) == 21


async def test_counters_go_long_after_their_window_unless_somebody_holds_a_part(store):
    def write(connection):
        named = ("run", "counter", "id", "window")
        amounts = {column.name: 0 for column in (*counter.c, *budget_lease.c) if column.name not in named}
        windows = [NOW - days * DAY for days in (1, 30, 70, 80, 90, 100)]
        connection.execute(insert(counter), [{"id": "a", "window": at, **amounts} for at in windows])
        lease = {"run": "r", "counter": "a", "window": NOW - 90 * DAY, **amounts}
        connection.execute(insert(budget_lease), [lease])

    await store.change(write)
    gone = await retention.tidy(store, AGES, DUTIES, NOW, PAUSES)
    assert gone["counters"] == 2
    left = store.ask(lambda connection: connection.execute(select(counter.c.window)).scalars().all())
    assert {(NOW - at) // DAY for at in left} == {1, 30, 70, 90}


def event(days, kind="settle"):
    return {
        "request_id": f"r{days}",
        "attempt": 0,
        "kind": kind,
        "seq": 0,
        "at": round((NOW - days * DAY) * 1_000),
        "run": "",
        "amount": 1,
        "expected": 1,
        "estimated": False,
        "bookings": "[]",
    }


async def test_money_is_carried_forward_in_small_steps_before_its_entries_go(store, entry):
    told = []

    def carry(connection, before):
        entries = connection.execute(select(func.count()).select_from(exchange)).scalar()
        told.append((before, entries))
        return ledger.carry(connection, before)

    rows = [event(days) for days in (*range(15), 12.001)]
    await store.change(lambda connection: connection.execute(insert(money_event), rows))
    await fill(store, entry, 15)
    gone = await retention.tidy(store, AGES, Duties(carry), NOW, PAUSES)
    edge = (NOW - 10 * DAY) // 3_600 * 3_600
    assert gone["events"] == 5
    assert [before for before, _ in told] == sorted({before for before, _ in told})
    assert told[-1][0] <= edge * 1_000
    assert len(told) == 4  # one for each ten minutes with events
    assert {entries for _, entries in told} == {15}
    assert count(store, exchange) == 11


async def test_sums_of_older_entries_are_made_once(store, entry):
    await fill(store, entry, 30)
    before = sums(store)
    await store.change(lambda connection: connection.execute(delete(table)))
    assert await retention.full_check(store, pauses=PAUSES) != []
    await retention.fill(store, PAUSES)
    assert sums(store) == before
    await store.change(lambda connection: connection.execute(update(table).values(requests=2)))
    await retention.fill(store, PAUSES)
    assert len(await retention.full_check(store, pauses=PAUSES)) == 30
    await retention.refill(store, PAUSES)
    assert sums(store) == before


class House:
    """keep_tidy with a clock of ours, each of whose long sleeps ends when the test says so."""

    def __init__(self, store, checks=()):
        self.now = float(NOW)
        self.events = []
        self.wake = asyncio.Event()
        self.asleep = asyncio.Event()
        duties = Duties(checks=checks)
        self.task = asyncio.get_running_loop().create_task(
            retention.keep_tidy(
                store,
                lambda: AGES,
                lambda: self.now,
                self.report,
                duties,
                Pauses(breath=0.0, sleep=self.sleep),
            )
        )

    def report(self, event, level="info", **values):
        self.events.append((event, level, values))

    async def sleep(self, seconds):
        if seconds == retention.BETWEEN:
            return
        self.asleep.set()
        await self.wake.wait()
        self.wake.clear()

    async def round(self, seconds):
        """What is reported until it sleeps again, after this time."""
        async with asyncio.timeout(10):
            await self.asleep.wait()
            self.asleep.clear()
            self.now += seconds
            self.events = []
            self.wake.set()
            await self.asleep.wait()
        return self.events

    async def close(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_it_is_done_soon_after_the_start_and_once_a_day(store, entry):
    await fill(store, entry, 12)
    house = House(store)
    first = await house.round(60)
    assert first == [
        ("tidied", "info", {"events": 0, "entries": 1, "audit_lines": 0, "counters": 0}),
        ("sums_checked", "info", {"wrong": 0, "findings": []}),
    ]
    for _ in range(23):
        assert await house.round(3_600) == []
    assert [event for event, *_ in await house.round(3_600)] == ["tidied", "sums_checked"]
    await house.close()
    again = House(store)
    again.now = house.now + 100
    assert await again.round(60) == []  # another gateway, or this one after a restart
    await again.close()


async def test_what_is_wrong_is_an_error_in_the_log(store, entry):
    await fill(store, entry, 2)
    await store.change(lambda connection: connection.execute(update(table).values(cost=3)))
    await store.change(lambda connection: retention._keep(connection, retention.FILLED, "yes"))
    house = House(store, (lambda _: ["a counter is wrong"],))
    ((name, level, values),) = await house.round(60)
    assert (name, level, values["wrong"]) == ("sums_checked", "error", 3)
    assert values["findings"][-1] == "a counter is wrong"
    await house.close()


async def test_after_a_failure_it_is_tried_again_within_the_hour(store, entry):
    await fill(store, entry, 12)
    broken = [StoreError(Trouble.FULL, "the disk is full")]

    def check(_):
        if broken:
            raise broken.pop()
        return []

    house = House(store, (check,))
    assert (await house.round(60))[-1] == ("tidying_failed", "warning", {"text": "the disk is full"})
    assert (await house.round(3_600))[-1][0] == "sums_checked"
    assert await house.round(3_600) == []
    await house.close()


async def test_a_clock_that_was_wrong_does_not_put_it_off_for_ever(store):
    house = House(store)
    house.now += 1000 * DAY
    await house.round(0)
    house.now -= 1000 * DAY
    assert [event for event, *_ in await house.round(0)] == ["sums_checked"]
    assert count(store, meta) >= 2
    await house.close()


async def test_hours_that_were_found_right_are_not_read_again_every_day(store, entry):
    await fill(store, entry, 2)
    await store.change(lambda connection: retention._keep(connection, retention.FILLED, "yes"))
    house = House(store)
    for seconds in (60, 2 * DAY):
        assert (await house.round(seconds))[-1] == ("sums_checked", "info", {"wrong": 0, "findings": []})
    await store.change(lambda connection: connection.execute(update(table).values(cost=3)))
    assert (await house.round(2 * DAY))[-1][2]["wrong"] == 0
    assert len(await retention.full_check(store, pauses=PAUSES)) == 2  # whoever asks gets all of it
    await house.close()
