"""What a start finds of runs that are over."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update
from tests.store.ledgers import MONEY, REQUESTS, pen, reservation, settlement, successor, told

from fleetgate.domain import Booking
from fleetgate.store import leases, ledger
from fleetgate.store.events import read
from fleetgate.store.hourly import hours, verify_hour
from fleetgate.store.leases import Count, Wanted
from fleetgate.store.recovery import Recovered
from fleetgate.store.rows import entry_of
from fleetgate.store.schema import budget_lease, exchange, open_request, run


def rows(engine, table):
    with engine.connect() as connection, connection.begin():
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def counts(engine):
    with engine.connect() as connection, connection.begin():
        assert ledger.check(connection) == []
        assert [text for hour in list(hours(connection)) for text in verify_hour(connection, hour)] == []
        return {one.counter: one for one in leases.counts(connection)}


def grant(gateway, most):
    gateway.transact(lambda connection: gateway.ledger.grants(connection, [Wanted(*MONEY, 1_000, 1, most)]))


def test_a_first_start_finds_nothing(engine):
    first = pen(engine, "first")
    assert first.ledger.recovered == Recovered()
    assert [row["id"] for row in rows(engine, run)] == ["first"]


def test_an_attempt_without_an_end_is_charged_what_was_expected_and_the_rest_stays_held(engine):
    first = pen(engine, "first")
    grant(first, 500)
    first.write(first.work([reservation(1, bound=100, expected=40, requests=[REQUESTS])]))
    second = successor(engine, "second")
    assert second.ledger.recovered == Recovered(1, 1, 40)
    assert counts(engine) == {
        MONEY[0]: Count(*MONEY, granted=100, spent=40, held=60),
        REQUESTS[0]: Count(*REQUESTS, granted=1, spent=1, held=0),
    }
    assert rows(engine, open_request) == rows(engine, budget_lease) == []
    assert [row["id"] for row in rows(engine, run)] == ["second"]
    (entry,) = map(entry_of, rows(engine, exchange))
    assert (entry.outcome, entry.cost, entry.attempts[0].estimated) == ("interrupted", 40, True)


def test_an_attempt_that_was_settled_before_keeps_what_it_cost(engine):
    first = pen(engine, "first")
    one = reservation(1, 0, bound=100, expected=40)
    first.write(first.work([one]))
    # The document was written when the first attempt was still open.
    first.write(first.work(settlements=[settlement(one, 130)]))
    successor(engine, "second")
    (entry,) = map(entry_of, rows(engine, exchange))
    assert entry.cost == 130
    assert counts(engine)[MONEY[0]] == Count(*MONEY, 130, 130, 0)


def test_of_several_attempts_only_the_open_one_is_estimated(engine):
    first = pen(engine, "first")
    one = reservation(1, 0, bound=100, expected=40)
    two = reservation(1, 1, bound=200, expected=90)
    first.write(first.work([one]))
    first.write(first.work([two], [settlement(one, 0, released=True)]))
    second = successor(engine, "second")
    assert second.ledger.recovered == Recovered(1, 1, 90)
    assert counts(engine)[MONEY[0]] == Count(*MONEY, 200, 90, 110)


def test_a_closed_request_is_left_alone(engine):
    first = pen(engine, "first")
    one = reservation(1)
    first.write(first.work([one]))
    first.write(first.work(entries=[told(1, settlements=(settlement(one, 55),))]))
    second = successor(engine, "second")
    assert second.ledger.recovered == Recovered()
    assert counts(engine)[MONEY[0]] == Count(*MONEY, 55, 55, 0)


@pytest.mark.parametrize("document", ["", "{", "[1]", "{}", '{"at": "x"}'])
def test_a_document_that_cannot_be_read_costs_only_what_it_said(engine, document):
    first = pen(engine, "first")
    first.write(first.work([reservation(1)]))
    with engine.connect() as connection, connection.begin():
        connection.execute(update(open_request).values(document=document))
    successor(engine, "second")
    (entry,) = map(entry_of, rows(engine, exchange))
    assert (entry.request_id, entry.outcome, entry.cost) == ("req-000001", "interrupted", 40)
    assert counts(engine)[MONEY[0]].spent == 40


def test_recovery_happens_once(engine):
    first = pen(engine, "first")
    first.write(first.work([reservation(1)]))
    second = successor(engine, "second")
    before = counts(engine)
    assert second.transact(second.ledger.recover) == Recovered()
    assert successor(engine, "third").ledger.recovered == Recovered()
    assert counts(engine) == before


@pytest.mark.parametrize(
    ("cost", "released", "amount", "stands"),
    [(70, False, 30, (70, 70, 0)), (0, True, -40, (0, 0, 0)), (40, False, 0, (40, 40, 0))],
)
def test_an_end_that_comes_after_that_adds_the_difference(engine, cost, released, amount, stands):
    first = pen(engine, "first")
    one = reservation(1, bound=100, expected=40)
    first.write(first.work([one]))
    second = successor(engine, "second")
    late = settlement(one, cost, released=released)
    for _ in range(3):
        second.write(second.work(settlements=[late]))
    assert counts(engine)[MONEY[0]] == Count(*MONEY, *stands)
    with engine.connect() as connection, connection.begin():
        (adjust,) = [event for event in read(connection, [one.request_id]) if event.kind == "adjust"]
    assert (adjust.amount, adjust.run, adjust.seq) == (amount, "second", 2)


def test_a_run_that_was_thought_dead_begins_anew_without_its_leases(engine):
    first = pen(engine, "first")
    grant(first, 500)
    one, two = reservation(1), reservation(2)
    first.write(first.work([one]))
    successor(engine, "second")
    # It comes back: its own end is the truth, and nothing leaves on the strength of leases it has lost.
    written = first.write(first.work([two], [settlement(one, 70)]))
    assert [waiting.reservation for waiting in written.refused] == [two]
    assert first.ledger.lost == 1
    assert counts(engine)[MONEY[0]] == Count(*MONEY, 70, 70, 0)
    assert {row["id"] for row in rows(engine, run)} == {"first", "second"}
    grant(first, 200)
    assert first.write(first.work([two])).refused == []
    assert counts(engine)[MONEY[0]] == Count(*MONEY, 270, 70, 100)


def test_an_ordered_end_leaves_nothing_behind(engine):
    first = pen(engine, "first")
    grant(first, 500)
    one = reservation(1)
    first.write(first.work([one]))
    first.write(
        first.work(
            entries=[told(1, settlements=(settlement(one, 55),), bookings=(Booking(*REQUESTS, spent=1),))]
        )
    )
    first.transact(first.ledger.leave)
    assert rows(engine, run) == rows(engine, budget_lease) == []
    assert counts(engine) == {
        MONEY[0]: Count(*MONEY, 55, 55, 0),
        REQUESTS[0]: Count(*REQUESTS, 1, 1, 0),
    }


def test_an_ordered_end_with_something_open_keeps_what_that_holds(engine):
    first = pen(engine, "first")
    grant(first, 500)
    first.write(first.work([reservation(1)]))
    first.transact(first.ledger.leave)
    assert [(row["granted"], row["held"]) for row in rows(engine, budget_lease)] == [(100, 100)]
    assert successor(engine, "second").ledger.recovered == Recovered(1, 1, 40)
