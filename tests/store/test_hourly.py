"""The sums by hour are exactly what their entries are, whatever comes in whichever batches."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, delete, insert, select, update

from fleetgate.domain import Attempt, Entry, Usage
from fleetgate.store import hourly
from fleetgate.store.adding import add_new
from fleetgate.store.database import Store
from fleetgate.store.rows import bent, values_of
from fleetgate.store.schema import exchange, meta, metadata
from fleetgate.store.schema import hourly as table

HOUR = 1_790_000_000 // 3_600 * 3_600


def take(connection, batch):
    """What the writer does with a batch: rows that are new, and their sums, in one transaction."""
    fitting = [bent(entry) for entry in batch]
    new = [entry for entry in fitting if add_new(connection, exchange, [values_of(entry, str)])]
    hourly.add(connection, new)


def stored(connection):
    rows = connection.execute(select(table)).mappings().all()
    return {tuple(row[name] for name in hourly.PLACE): dict(row) for row in rows}


def only(connection):
    (row,) = stored(connection).values()
    return row


BOX, CLOUD = "box/ollama/qwen3:4b", "cloud/big/model"


def ok(deployment=BOX, **members):
    return Attempt(deployment, "ok", 0.0, 1.5, status=200, **members)


def failed(deployment=BOX, **members):
    return Attempt(deployment, "server_error", 0.0, 0.25, status=500, **members)


# Where things count


def test_each_attempt_counts_where_it_was_sent_and_the_exchange_where_it_was_answered(connection, entry):
    tries = (
        failed(usage=Usage(5, 0), energy=70, energy_cost=3, number=0),
        ok(
            CLOUD,
            account="cloud/2",
            usage=Usage(10, 20, 4, estimated=True),
            cost=900,
            estimated=True,
            number=1,
        ),
    )
    take(connection, [entry(1, deployment=CLOUD, attempts=tries, user="anna", team="home")])
    rows = {row["deployment"]: row for row in stored(connection).values()}
    box, cloud = rows[BOX], rows[CLOUD]
    who = ("app", "anna", "home", "fast")
    assert (box["hour"], box["key"], box["person"], box["team"], box["model"]) == (HOUR, *who)
    assert (box["node"], box["provider"], box["account"]) == ("box", "", "")
    assert (cloud["node"], cloud["provider"], cloud["account"]) == ("", "cloud", "cloud/2")
    assert (box["requests"], box["attempts"], box["failures"]) == (0, 1, 1)
    assert (cloud["requests"], cloud["attempts"], cloud["failures"]) == (1, 1, 0)
    assert (box["input_tokens"], box["output_tokens"], box["cached_tokens"]) == (5, 0, 0)
    assert (cloud["input_tokens"], cloud["output_tokens"], cloud["cached_tokens"]) == (10, 20, 4)
    assert (box["cost"], box["energy"], box["energy_cost"], box["duration_ms"]) == (0, 70, 3, 250)
    assert (cloud["cost"], cloud["estimated"], cloud["cost_unknown"], cloud["duration_ms"]) == (
        900,
        1,
        0,
        1500,
    )


@pytest.mark.parametrize(
    ("deployment", "account", "where"),
    [
        (BOX, None, ("box", "", "")),
        (BOX, "box/ollama", ("box", "", "")),
        (CLOUD, "cloud/1", ("", "cloud", "cloud/1")),
        (CLOUD, "cloud", ("", "cloud", "cloud")),
        ("cloud/1x", "cloud/1", ("", "cloud", "cloud/1")),
    ],
)
def test_own_machines_and_providers_are_told_apart(connection, entry, deployment, account, where):
    take(connection, [entry(1, deployment=deployment, attempts=(ok(deployment, account=account),))])
    row = only(connection)
    assert (row["node"], row["provider"], row["account"]) == where


def test_an_attempt_that_was_never_sent_is_none_but_the_exchange_is_one(connection, entry):
    unsent = Attempt(BOX, "unsent_refused", 0.0, 0.1, dispatched=False)
    take(connection, [entry(1, deployment=None, attempts=(unsent,), outcome="unsent_refused", usage=Usage())])
    row = only(connection)
    assert (row["deployment"], row["requests"], row["attempts"], row["failures"]) == (BOX, 1, 0, 0)


def test_a_refusal_stands_nowhere_and_an_invented_name_is_no_model(connection, entry):
    nothing = {"deployment": None, "attempts": (), "usage": Usage()}
    invented = {"outcome": "model_not_found", "model": "x' OR 1=1", "status": 404}
    take(connection, [entry(1, outcome="limit_reached", **nothing), entry(2, **nothing, **invented)])
    assert {(row["deployment"], row["model"], row["requests"]) for row in stored(connection).values()} == {
        ("", "fast", 1),
        ("", "", 1),
    }


def test_an_answer_from_the_cache_has_no_tokens(connection, entry):
    take(
        connection,
        [entry(n, cache=how, deployment=None, attempts=()) for n, how in ((1, "hit"), (2, "joined"))],
    )
    row = only(connection)
    assert (row["requests"], row["cache_hits"], row["attempts"]) == (2, 2, 0)
    assert (row["input_tokens"], row["output_tokens"]) == (0, 0)


def test_a_price_that_nobody_knows_is_counted_and_not_zero(connection, entry):
    tries = (failed(CLOUD, account="cloud/1", cost=None), ok(CLOUD, account="cloud/1", cost=5))
    take(connection, [entry(1, deployment=CLOUD, attempts=tries)])
    row = only(connection)
    assert (row["cost"], row["cost_unknown"], row["attempts"], row["requests"]) == (5, 1, 2, 1)


@pytest.mark.parametrize(
    ("tries", "at"),
    [
        ((ok(CLOUD), failed()), CLOUD),
        ((failed(CLOUD), failed()), BOX),
        ((failed(), ok(CLOUD), ok("desk/vllm/x")), "desk/vllm/x"),
    ],
)
def test_tokens_that_only_the_exchange_knows_stand_at_the_attempt_that_went_well(
    connection, entry, tries, at
):
    take(connection, [entry(1, attempts=tries, usage=Usage(12, 34))])
    assert {
        row["deployment"]: row["input_tokens"] for row in stored(connection).values() if row["attempts"]
    } == {one.deployment: 12 if one.deployment == at else 0 for one in tries}


def test_tokens_of_attempts_are_not_counted_again_as_those_of_the_exchange(connection, entry):
    take(connection, [entry(1, attempts=(failed(usage=Usage(3, 0)), ok()), usage=Usage(12, 34))])
    row = only(connection)
    assert (row["input_tokens"], row["output_tokens"]) == (3, 0)


def test_absurd_figures_end_somewhere(connection, entry):
    absurd = ok(usage=Usage(10**30, -5), cost=2**63 - 1)
    take(connection, [entry(n, attempts=(absurd,)) for n in range(3)])
    take(connection, [entry(9, attempts=(absurd,))])
    row = only(connection)
    assert (row["input_tokens"], row["output_tokens"], row["cost"]) == (hourly.MOST, 0, hourly.MOST)
    assert hourly.verify(connection) == []


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e300, -1e300, 9e12])
def test_an_absurd_time_stops_nothing(connection, entry, at):
    hourly.add(connection, [entry(1, at=at), entry(2)])
    assert sum(row["requests"] for row in stored(connection).values()) == 2


def test_text_that_no_database_takes_is_made_fit(connection, entry):
    take(connection, [entry(1, model="half \ud83d and \0")])
    assert only(connection)["model"] == "half ? and \ufffd"


# Exactness

names = st.sampled_from(["a", "b", "ü"])
deployments = st.sampled_from([BOX, CLOUD, "desk/vllm/x"])
counts = st.none() | st.integers(0, 10**7)
usages = st.builds(Usage, counts, counts, counts, estimated=st.booleans())
attempts = st.builds(
    Attempt,
    deployment=deployments,
    outcome=st.sampled_from(["ok", "server_error", "caller_gone"]),
    began=st.integers(0, 10**6).map(lambda n: n / 1e6),
    ended=st.integers(10**6, 10**8).map(lambda n: n / 1e6),
    dispatched=st.booleans(),
    usage=usages,
    cost=st.none() | st.integers(0, 10**12),
    estimated=st.booleans(),
    energy=st.integers(0, 10**9),
    energy_cost=st.integers(0, 10**9),
).map(lambda one: replace(one, account="cloud/1" if one.deployment == CLOUD else None))
entries = st.builds(
    Entry,
    request_id=st.integers(0, 40).map(str),
    at=st.integers(HOUR * 1_000, (HOUR + 3 * 3_600) * 1_000).map(lambda ms: ms / 1e3),
    principal=names,
    route=st.just("/v1/chat/completions"),
    model=names,
    status=st.just(200),
    outcome=st.sampled_from(["ok", "server_error"]),
    duration=st.just(1.0),
    deployment=st.none() | deployments,
    usage=usages,
    attempts=st.lists(attempts, max_size=3).map(tuple),
    user=st.none() | names,
    team=st.none() | names,
    cache=st.sampled_from(["", "", "hit"]),
)


def counted(found):
    """The sums, computed in another way: one figure after the other, for each place."""
    sums = defaultdict(lambda: defaultdict(int))
    for entry in found:
        hour = int(entry.at) - int(entry.at) % 3_600
        head = (hour, entry.principal, entry.user or "", entry.team or "", entry.model)

        def place(deployment, account, head=head):
            first = (deployment or "").split("/")[0]
            who = ("", first, account) if account else (first, "", "")
            return (*head, deployment or "", *who)

        sent = [one for one in entry.attempts if one.dispatched]
        silent = all(one.usage == Usage() for one in sent)
        good = [n for n, one in enumerate(sent) if one.outcome == "ok"] or [len(sent) - 1]
        for number, one in enumerate(sent):
            used = one.usage
            if silent and not entry.cache and number == good[-1]:
                used = entry.usage
            row = sums[place(one.deployment, one.account)]
            row["attempts"] += 1
            row["failures"] += one.outcome != "ok"
            row["input_tokens"] += used.input_tokens or 0
            row["output_tokens"] += used.output_tokens or 0
            row["cached_tokens"] += used.cached_tokens or 0
            row["cost"] += one.cost or 0
            row["cost_unknown"] += one.cost is None
            row["estimated"] += one.estimated or used.estimated
            row["energy"] += one.energy
            row["energy_cost"] += one.energy_cost
            row["duration_ms"] += (round(one.ended * 1e6) - round(one.began * 1e6)) // 1000
        fitting = [one for one in entry.attempts if entry.deployment in (None, one.deployment)]
        answered = (fitting[-1].deployment, fitting[-1].account) if fitting else (entry.deployment, None)
        sums[place(*answered)]["requests"] += 1
        sums[place(*answered)]["cache_hits"] += bool(entry.cache)
    return {
        at: {
            **dict(zip(hourly.PLACE, at, strict=True)),
            **{name: int(row[name]) for name in hourly.AMOUNTS},
        }
        for at, row in sums.items()
    }


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(entries, max_size=12), max_size=5))
def test_sums_are_what_the_entries_are(batches):
    engine = create_engine("sqlite://")
    with closing(engine.connect()) as connection:
        metadata.create_all(connection)
        first = {}
        for batch in batches:
            take(connection, batch)
            for entry in batch:
                first.setdefault(entry.request_id, entry)
        assert stored(connection) == counted(first.values())
        assert hourly.verify(connection) == []
        for hour in list(hourly.hours(connection)):
            hourly.rebuild(connection, hour)
        assert stored(connection) == counted(first.values())
    engine.dispose()


def test_many_places_in_one_batch(connection, entry):
    """More rows than any one statement takes, in an order that is not theirs."""
    batch = [entry(n, principal=f"key{n * 7 % 83}") for n in range(200)]
    take(connection, batch)
    take(connection, batch)
    assert len(stored(connection)) == 83
    assert sum(row["requests"] for row in stored(connection).values()) == 200


# The check


def test_the_check_names_what_is_wrong(connection, entry):
    take(connection, [entry(n) for n in range(5)])
    assert hourly.verify(connection) == []
    connection.execute(update(table).values(cost=7))
    (finding,) = hourly.verify(connection)
    assert "cost 7 where the entries say 0" in finding
    assert "2026-09-21 14:00 UTC" in finding
    assert BOX in finding
    connection.execute(delete(table))
    (finding,) = hourly.verify(connection)
    assert "requests 0 where the entries say 5" in finding
    hourly.rebuild(connection, HOUR)
    assert hourly.verify(connection) == []
    connection.execute(delete(exchange))
    (finding,) = hourly.verify(connection)
    assert "requests 5 where the entries say 0" in finding


def test_hours_whose_entries_are_gone_are_neither_checked_nor_made_again(connection, entry):
    take(connection, [entry(1), entry(2, at=HOUR + 3_600.0)])
    connection.execute(delete(exchange).where(exchange.c.at < (HOUR + 3_600) * 1_000))
    assert hourly.verify(connection) != []
    connection.execute(insert(meta).values(name=hourly.KEPT_FROM, value=str(HOUR + 3_600)))
    assert hourly.verify(connection) == hourly.verify_hour(connection, HOUR) == []
    with pytest.raises(ValueError, match="not kept any more"):
        hourly.rebuild(connection, HOUR)
    assert len(stored(connection)) == 2


def test_entries_that_come_while_an_hour_is_checked_are_no_mistake(connection, entry):
    take(connection, [entry(n) for n in range(600)])
    more = iter([[entry(n)] for n in range(600, 603)])

    def meanwhile():
        take(connection, next(more, []))

    assert hourly.verify_hour(connection, HOUR, meanwhile) == []


def test_of_very_many_mistakes_the_first_are_told(connection, entry):
    take(connection, [entry(n, principal=f"key{n}") for n in range(99)])
    connection.execute(update(table).values(cost=7))
    assert hourly.verify(connection)[-1] == "there is more"


@pytest.mark.asyncio
async def test_the_writer_counts_each_exchange_once_however_often_it_comes(tmp_path, entry):
    store = Store.open(tmp_path, lambda: 1_790_000_000.0)
    for _ in range(3):
        for number in range(20):
            store.post(entry(number))
        await store.flush()
    store.post(entry(20, model="half \ud83d", usage=Usage(10**30)))
    await store.flush()
    store.close()
    again = Store.open(tmp_path, lambda: 1_790_000_000.0)
    rows = again.ask(stored)
    assert sum(row["requests"] for row in rows.values()) == 21
    assert again.ask(hourly.verify) == []
    again.close()
