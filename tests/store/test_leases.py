"""Grants out of counters, and bookings at leases."""

from __future__ import annotations

from sqlalchemy import select
from tests.store.ledgers import MONEY, OTHER

from fleetgate.store import leases
from fleetgate.store.leases import Change, Count, Wanted
from fleetgate.store.schema import budget_lease, counter


def ask(connection, run, place=MONEY, ceiling=1_000, least=1, most=2**62):
    (lease,) = leases.grant(connection, run, [Wanted(*place, ceiling, least, most)])
    return lease


def book(connection, run, place=MONEY, **amounts):
    leases.book(connection, run, {place: Change(**amounts)})


def stands(connection, place=MONEY):
    """granted, spent, held of the counter itself."""
    row = connection.execute(
        select(counter).where(counter.c.id == place[0], counter.c.window == place[1])
    ).one()
    return row.granted, row.spent, row.held


def test_who_asks_for_everything_is_granted_what_is_left(connection):
    assert ask(connection, "one", most=300).granted == 300
    lease = ask(connection, "two")
    assert (lease.granted, lease.total_granted) == (700, 1_000)
    assert ask(connection, "three").granted == 0


def test_a_grant_adds_to_the_lease(connection):
    ask(connection, "one", most=300)
    assert ask(connection, "one", least=200, most=200).granted == 500


def test_less_than_the_least_is_not_granted(connection):
    ask(connection, "one", most=950)
    lease = ask(connection, "two", least=51, most=100)
    assert (lease.granted, lease.total_granted) == (0, 950)
    assert ask(connection, "two", least=50, most=100).granted == 50


def test_a_ceiling_below_what_is_granted_grants_nothing(connection):
    ask(connection, "one", most=300)
    assert ask(connection, "one", ceiling=100).granted == 300


def test_several_are_answered_in_the_order_of_the_questions(connection):
    found = leases.grant(
        connection,
        "one",
        [Wanted(*MONEY, 1_000, 1, 10), Wanted(*OTHER, 1_000, 1, 20), Wanted(*MONEY, 1_000, 1, 5)],
    )
    assert [(one.counter, one.granted) for one in found] == [(MONEY[0], 15), (OTHER[0], 20), (MONEY[0], 15)]


def test_what_others_have_spent_and_hold_is_in_the_totals(connection):
    ask(connection, "one", most=300)
    book(connection, "one", held=100, spent=50)
    lease = ask(connection, "two", most=10)
    assert (lease.granted, lease.spent, lease.held) == (10, 0, 0)
    assert (lease.total_granted, lease.total_spent, lease.total_held) == (310, 50, 100)


def test_windows_of_one_counter_are_apart(connection):
    ask(connection, "one")
    assert ask(connection, "one", (MONEY[0], MONEY[1] + 86_400), most=7).granted == 7


def test_with_a_new_window_the_lease_of_the_one_before_goes_back(connection):
    later, last = (MONEY[0], MONEY[1] + 86_400), (MONEY[0], MONEY[1] + 2 * 86_400)
    ask(connection, "one")
    ask(connection, "two", OTHER)
    book(connection, "one", spent=300)
    ask(connection, "one", later, most=100)
    assert stands(connection) == (300, 300, 0)
    book(connection, "one", later, held=40)
    ask(connection, "one", last, most=10)
    assert stands(connection, later) == (100, 0, 0)  # its lease still holds something
    assert [row.window for row in connection.execute(select(budget_lease.c.window))] == [
        OTHER[1],
        later[1],
        last[1],
    ]
    book(connection, "one", later, held=-40, spent=30)
    ask(connection, "one", last, most=10)
    assert stands(connection, later) == (30, 30, 0)


def test_what_is_neither_spent_nor_held_goes_back(connection):
    ask(connection, "one")
    book(connection, "one", held=100, spent=50)
    (lease,) = leases.give_back(connection, "one", [MONEY])
    assert (lease.granted, lease.total_granted) == (150, 150)
    assert ask(connection, "two").granted == 850


def test_giving_back_what_was_never_had_changes_nothing(connection):
    (lease,) = leases.give_back(connection, "one", [MONEY])
    assert (lease.granted, lease.total_granted) == (0, 0)


def test_a_booking_without_a_lease_makes_one_and_grows_the_counter(connection):
    book(connection, "one", held=70, spent=30)
    assert stands(connection) == (100, 0, 0)
    assert ask(connection, "two").granted == 900


def test_spending_above_the_grant_grows_both(connection):
    ask(connection, "one")
    book(connection, "one", held=1_000)
    book(connection, "one", held=-1_000, spent=1_200)
    assert stands(connection) == (1_200, 0, 0)
    (lease,) = leases.give_back(connection, "one", [MONEY])
    assert lease.granted == 1_200


def test_what_the_lease_does_not_hold_is_taken_out_of_the_counter(connection):
    ask(connection, "gone", most=100)
    book(connection, "gone", held=60)
    leases.fold(connection, ["gone"])
    assert stands(connection) == (60, 0, 60)
    book(connection, "one", held=-60, spent=20)
    assert stands(connection) == (20, 0, 0)


def test_nothing_goes_below_zero(connection):
    book(connection, "one", held=-60, spent=-20, counted=-5)
    assert stands(connection) == (0, 0, 0)
    assert connection.execute(select(budget_lease)).one()[3:] == (0, 0, 0, 0)


def test_the_end_of_a_run_leaves_what_it_spent_and_holds(connection):
    ask(connection, "one", most=500)
    book(connection, "one", held=100, spent=50, counted=20)
    ask(connection, "two", most=10)
    leases.fold(connection, ["one"])
    assert stands(connection) == (160, 50, 100)
    assert connection.execute(select(counter.c.counted)).scalar_one() == 20
    assert [row.run for row in connection.execute(select(budget_lease))] == ["two"]


def test_counters_are_found_by_id_by_prefix_and_by_window(connection):
    later = (MONEY[0], MONEY[1] + 86_400)
    for place in (MONEY, later, OTHER, ("Budget:x", 0), ("budget_", 0)):
        book(connection, "one", place, spent=5)
    book(connection, "two", MONEY, held=2)
    found = leases.counts(connection, prefix="budget:")
    assert [(one.counter, one.window) for one in found] == [OTHER, MONEY, later]
    assert leases.counts(connection, ids=[MONEY[0]], window=MONEY[1]) == [Count(*MONEY, 7, 5, 2)]
    assert leases.counts(connection, ids=[]) == []
    assert len(leases.counts(connection)) == 5
    assert len(leases.counts(connection, ids=[f"x{number}" for number in range(1_200)] + ["budget_"])) == 1
