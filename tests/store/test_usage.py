"""Reports of use out of the sums by hour."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete, insert

from fleetgate.domain import Attempt, Usage
from fleetgate.store import hourly, usage
from fleetgate.store.rows import COLUMNS, values_of
from fleetgate.store.schema import access_key, exchange
from fleetgate.store.schema import hourly as table
from fleetgate.store.usage import Question

BOX, DESK, CLOUD = "box/ollama/small", "desk/vllm/small", "cloud/big"
BERLIN = ZoneInfo("Europe/Berlin")


def at(text, zone=UTC):
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def ok(deployment, tokens=(1, 2), **members):
    return Attempt(deployment, "ok", 0.0, 1.0, usage=Usage(*tokens), **members)


def failed(deployment, **members):
    return Attempt(deployment, "server_error", 0.0, 0.5, **members)


def ask(connection, *by, since="2026-11-01", until="2026-12-01", zone=UTC, limit=1_000, **filters):
    question = Question(by, int(at(since, zone)), int(at(until, zone)), zone, filters, limit)
    return usage.report(connection, question)


def short(report, *names):
    return [tuple(row[name] for name in names) for row in report.rows]


@pytest.fixture
def november(connection, entry):
    """Three keys on two days: an answer, one after a failure elsewhere, one from the cache, a refusal."""
    told = [
        entry(1, at=at("2026-11-03T10:00"), attempts=(ok(BOX),), deployment=BOX, principal="k1", user="anna"),
        entry(
            2,
            at=at("2026-11-03T10:30"),
            attempts=(failed(BOX), ok(CLOUD, (100, 50), cost=7_000, account="cloud/1")),
            deployment=CLOUD,
            principal="k2",
            model="large",
            team="home",
        ),
        entry(
            3,
            at=at("2026-11-04T23:59"),
            attempts=(ok(CLOUD, (10, 5), cost=None, account="cloud/2", estimated=True),),
            deployment=CLOUD,
            principal="k2",
            model="large",
            team="home",
        ),
        entry(4, at=at("2026-11-04T12:00"), attempts=(), deployment=None, cache="hit", principal="k1"),
        entry(5, at=at("2026-11-04T12:00"), attempts=(), deployment=None, outcome="limit_reached"),
    ]
    hourly.add(connection, told)
    key = {"kind": "caller", "digest": "", "tags": "[]", "names": "[]", "enabled": True, "created_at": 0}
    connection.execute(insert(access_key).values(id="k1", alias="laptop", **key))


def test_by_key_an_exchange_counts_once(november, connection):
    report = ask(connection, "key")
    assert list(report.rows[0]) == ["key", "alias", *usage.SHOWN]
    assert short(report, "key", "alias", "requests", "attempts", "cost_nano_usd") == [
        ("k2", "", 2, 3, 7_000),
        ("k1", "laptop", 2, 1, 0),
        ("app", "", 1, 0, 0),
    ]
    assert short(report, "input_tokens", "cost_unknown_requests", "estimated_requests") == [
        (110, 1, 1),
        (1, 0, 0),
        (0, 0, 0),
    ]
    assert report.total == {
        **{name: sum(row[name] for row in report.rows) for name in usage.SHOWN},
    }
    assert not report.more


def test_by_deployment_every_attempt_that_was_sent_there_counts(november, connection):
    report = ask(connection, "deployment")
    assert short(report, "deployment", "requests", "attempts", "failures", "cache_hits") == [
        (CLOUD, 2, 2, 0, 0),
        (BOX, 2, 2, 1, 0),
        ("", 0, 0, 0, 1),
    ]
    assert report.total["requests"] == 4
    assert short(ask(connection, "provider", "account"), "provider", "account", "requests") == [
        ("cloud", "cloud/1", 1),
        ("", "", 2),
        ("cloud", "cloud/2", 1),
    ]
    assert short(ask(connection, "node"), "node", "requests") == [("", 2), ("box", 2)]
    assert short(ask(connection, "day", node="box"), "day", "requests") == [("2026-11-03", 2)]


@pytest.mark.parametrize(
    ("filters", "requests"),
    [
        ({"key": "k1"}, 2),
        ({"key": "laptop"}, 2),
        ({"key": "nobody"}, 0),
        ({"user": "anna"}, 1),
        ({"team": "home", "model": "large"}, 2),
        ({"user": ""}, 4),
        ({"account": "cloud/2"}, 1),
    ],
)
def test_of_one_alone(november, connection, filters, requests):
    report = ask(connection, **filters)
    assert sum(row["requests"] for row in report.rows) == report.total["requests"] == requests


def test_nothing_to_tell_apart_is_one_row_and_nothing_used_is_none(november, connection):
    assert short(ask(connection), "requests", "cost_nano_usd") == [(5, 7_000)]
    report = ask(connection, since="2025-01-01", until="2025-02-01")
    assert (report.rows, report.total["requests"]) == ([], 0)


def test_what_came_from_the_cache_apart(november, connection):
    assert short(ask(connection, "key", "cache"), "key", "cache", "requests", "attempts", "cache_hits") == [
        ("k2", "", 2, 3, 0),
        ("k1", "", 1, 1, 0),
        ("k1", "hit", 1, 0, 1),
        ("app", "", 1, 0, 0),
    ]


def test_days_and_months_are_local(november, connection):
    assert short(ask(connection, "day"), "day", "requests") == [("2026-11-03", 2), ("2026-11-04", 3)]
    report = ask(connection, "day", "model", zone=BERLIN)
    assert short(report, "day", "model", "requests") == [
        ("2026-11-03", "large", 1),
        ("2026-11-03", "fast", 1),
        ("2026-11-04", "fast", 2),
        ("2026-11-05", "large", 1),
    ]
    assert short(ask(connection, "hour", zone=BERLIN), "hour", "requests")[0] == ("2026-11-03T11:00+01:00", 2)
    assert short(ask(connection, "month"), "month", "requests") == [("2026-11", 5)]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)  # what is asked here is arithmetic
@pytest.mark.parametrize(
    "zone",
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"],
)
def test_every_hour_of_two_years_stands_in_its_day_and_month(connection, entry, zone):
    begin, here = int(at("2011-06-01")), ZoneInfo(zone)
    hours = range(begin, begin + 2 * 365 * 86_400, 3_600)
    empty = {**dict.fromkeys(hourly.PLACE, ""), **dict.fromkeys(hourly.AMOUNTS, 0), "requests": 1}
    connection.execute(insert(table), [{**empty, "hour": hour} for hour in hours])
    days, months = {}, {}
    for hour in hours:
        local = datetime.fromtimestamp(hour, here)
        for found, name in ((days, f"{local:%Y-%m-%d}"), (months, f"{local:%Y-%m}")):
            found[name] = found.get(name, 0) + 1
    span = {"since": "2011-01-01", "until": "2014-01-01", "zone": here}
    assert dict(short(ask(connection, "day", **span), "day", "requests")) == days
    assert dict(short(ask(connection, "month", **span), "month", "requests")) == months


def test_an_hour_that_began_before_is_part_of_it(november, connection):
    assert ask(connection, since="2026-11-03T10:20").total["requests"] == 5
    assert ask(connection, since="2026-11-03T11:00").total["requests"] == 3
    assert ask(connection, until="2026-11-03T10:01").total["requests"] == 2
    assert ask(connection, until="2026-11-03T10:00").total["requests"] == 0


def test_rows_are_bounded_and_the_total_is_not(connection, entry):
    hourly.add(connection, [entry(n, at=at("2026-11-03"), principal=f"k{n}") for n in range(30)])
    report = ask(connection, "key", limit=10)
    assert (len(report.rows), report.more, report.total["requests"]) == (10, True, 30)
    report = ask(connection, "key", limit=30)
    assert (len(report.rows), report.more) == (30, False)


def test_energy_is_in_watt_hours(connection, entry):
    tries = (ok(BOX, energy=1_500_000, energy_cost=450),)
    hourly.add(connection, [entry(1, at=at("2026-11-03"), attempts=tries)])
    assert short(ask(connection), "energy_wh", "energy_cost_nano_usd") == [(1.5, 450)]


def test_a_report_reads_no_entry(connection, entry):
    """What it takes depends on the sums alone: the entries may be gone."""
    chance = random.Random(1)
    places = [(f"k{n % 20}", f"m{n % 5}", f"box/ollama/m{n % 5}") for n in range(100)]
    begin = int(at("2026-11-01"))
    empty = {**dict.fromkeys(hourly.PLACE, ""), **dict.fromkeys(hourly.AMOUNTS, 0)}
    rows = [
        {**empty, "hour": begin + 3_600 * hour, "key": key, "model": model, "deployment": deployment}
        | {"attempts": 1, "requests": 1, "cost": chance.randrange(10**6)}
        for hour in range(200)
        for key, model, deployment in set(places)
    ]
    connection.execute(insert(table), rows)
    exchange.drop(connection)
    assert ask(connection, "key", "day").total["cost_nano_usd"] == sum(row["cost"] for row in rows)


def test_the_latest_entries_page_by_page(connection, entry):
    told = [entry(n, at=1_790_000_000.0 + n // 3) for n in range(10)]
    rows = [dict(zip(COLUMNS, values_of(one, str), strict=True)) for one in told]
    connection.execute(insert(exchange), rows)
    first = usage.entries(connection, 4)
    assert first == told[:5:-1]
    second = usage.entries(connection, 4, first[-1].request_id)
    assert second == told[5:1:-1]
    assert usage.entries(connection, 4, "nobody") == []
    connection.execute(delete(exchange))
    assert usage.entries(connection, 4) == []
