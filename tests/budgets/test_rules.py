"""Limits made over the API, on a real database: two gateways, a file that wins, rows nobody can read."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, update
from tests.keys.house import ADA, House, house

from fleetgate.budgets.rules import Means, Rules
from fleetgate.config.load import load
from fleetgate.domain import KeyKind
from fleetgate.errors import Refused
from fleetgate.limits import Measure
from fleetgate.store.schema import limit_rule
from fleetgate.windows import Unit

if TYPE_CHECKING:
    from pathlib import Path

    from fleetgate.config.schema import Settings

pytestmark = pytest.mark.asyncio
DOLLARS = 10**9


def settings_of(text: str) -> Settings:
    loaded = load(text, {"K": "gsk_0123456789abcdef"})
    assert loaded.settings is not None, loaded.findings
    return loaded.settings


@dataclass
class Gateway:
    """What one gateway has for stored limits."""

    house: House
    settings: Settings
    reports: list = field(default_factory=list)
    changes: list = field(default_factory=list)

    def __post_init__(self) -> None:
        house = self.house
        means = Means(house.store, lambda: house.clock.unix, lambda: self.settings, self.report)
        self.rules = Rules(means)
        self.rules.on_change = lambda: self.changes.append(self.words())
        self.rules.read_now()

    def report(self, event: str, level: str, **values: object) -> None:
        self.reports.append((event, level, values))

    def words(self) -> list[str]:
        return [limit.words for limit in self.rules.limits(self.settings)]


@pytest.fixture
def gateway(database):
    """Makes one, in the database of the test."""

    @asynccontextmanager
    async def make(directory: Path, text: str = ""):
        async with house(directory, database) as built:
            yield Gateway(built, settings_of(text))

    return make


async def refused(doing) -> Refused:
    with pytest.raises(Refused) as caught:
        await doing
    return caught.value


async def test_each_measure_is_a_limit_that_is_listed_and_removed_by_its_id(gateway, tmp_path):
    async with gateway(tmp_path) as here:
        requests, money = await here.rules.create(ADA, {"requests": 60, "money": "10 USD", "name": "house"})
        found = {limit.id: limit for limit in here.rules.limits(here.settings)}
        assert found[requests].words == "60 requests per minute in all"
        assert found[money].words == "10 USD per month in all"
        assert {(limit.origin, limit.name) for limit in found.values()} == {("database", "house")}
        assert here.rules.created_at().keys() == found.keys()
        await here.rules.remove(ADA, requests)
        assert here.words() == ["10 USD per month in all"]
        assert [len(words) for words in here.changes] == [0, 2, 1]
        trail = await here.house.registry.trail(10, None)
        assert [(line.action, line.subject, line.who) for line in trail] == [
            ("limit.remove", f"limit {requests}", "ada"),
            ("limit.create", f"limit {money}", "ada"),
            ("limit.create", f"limit {requests}", "ada"),
        ]
        assert trail[0].before == {"id": requests, "name": "house", "requests": 60, "scope": {}}
        assert trail[1].after == {"id": money, "name": "house", "money": "10 USD", "scope": {}}


async def test_another_gateway_notices_at_its_next_look(gateway, tmp_path):
    async with gateway(tmp_path) as here:
        there = Gateway(here.house, here.settings)
        (first,) = await here.rules.create(ADA, {"parallel": 4})
        assert there.words() == []
        await there.rules.poll()
        assert there.words() == ["4 requests at a time in all"]
        await there.rules.poll()
        assert len(there.changes) == 2  # at start, and once for the change
        await there.rules.remove(ADA, first)
        await here.rules.poll()
        assert here.words() == []
        assert Gateway(here.house, here.settings).words() == []


async def test_the_file_wins(gateway, tmp_path):
    async with gateway(tmp_path) as here:
        (stored,) = await here.rules.create(ADA, {"requests": 60})
        before = here.settings
        here.settings = settings_of("limits: [{requests: 10}, {requests: 20}]")
        assert here.words() == ["10 requests per minute in all", "20 requests per minute in all"]
        assert [limit.ceiling for limit in here.rules.overridden(here.settings)] == [60]
        assert here.rules.overridden(before) == ()
        problem = await refused(here.rules.create(ADA, {"requests": 30}))
        assert (problem.status, problem.code) == (409, "limit_exists")
        assert "the file has this limit" in problem.message
        await here.rules.create(ADA, {"requests": 30, "name": "mine"})
        await here.rules.remove(ADA, stored)  # the stored one goes, the file's stays
        problem = await refused(here.rules.remove(ADA, stored))
        assert (problem.status, problem.code) == (409, "limit_in_file")
        assert len(here.words()) == 3


async def test_one_limit_is_not_made_twice_and_nothing_is_made_by_halves(gateway, tmp_path):
    async with gateway(tmp_path) as here:
        await here.rules.create(ADA, {"requests": 60})
        problem = await refused(here.rules.create(ADA, {"tokens": 5, "requests": 70}))
        assert (problem.status, problem.code) == (409, "limit_exists")
        assert here.words() == ["60 requests per minute in all"]
        await here.rules.poll()
        assert here.words() == ["60 requests per minute in all"]
        problem = await refused(here.rules.remove(ADA, "l0"))
        assert (problem.status, problem.code) == (404, "limit_not_found")


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({}, "it bounds nothing"),
        ({"requests": -1}, "`requests`"),
        ({"requests": 1, "per": "week"}, "`per`"),
        ({"requests": 1, "then": "explode"}, "`then`"),
        ({"requests": 1, "more": 1}, "`more`"),
        ({"money": "10"}, "`money`"),
        ({"money": "10 EUR"}, "what one EUR is worth"),
        ({"money": "1 USD", "window": "rolling"}, "calendar windows"),
        ({"requests": 1, "scope": {"person": "x"}}, "`scope.person"),
        ({"requests": 1, "scope": {"key": "ci"}}, "there is no key 'ci'"),
        ({"requests": 1, "scope": {"user": "anna"}}, "there is no user 'anna'"),
        ({"requests": 1, "scope": {"team": "x"}}, "there is no team 'x'"),
        ({"requests": 1, "scope": {"provider": "grok"}}, "no provider is called grok"),
        ({"requests": 1, "scope": {"role": "chatt"}}, "no role is called chatt"),
        ({"requests": 1, "scope": {"key": "*", "user": "*", "model": "*"}}, "`scope`"),
    ],
)
async def test_what_cannot_be_a_limit_is_refused(document, part, gateway, tmp_path):
    text = "providers: {groq: {kind: groq, key: '${K}', models: [{name: x}]}}\nroles: {chat: {use: [x]}}"
    async with gateway(tmp_path, text) as here:
        problem = await refused(here.rules.create(ADA, document))
        assert problem.status == 400
        assert part in problem.message
        assert here.words() == []


async def test_keys_stand_in_scopes_by_their_ids_so_that_a_new_alias_changes_nothing(gateway, tmp_path):
    async with gateway(tmp_path) as here:
        key_id, _ = await here.house.make(alias="ci")
        await here.house.people.create_user(ADA, "anna", None, "")
        await here.rules.create(ADA, {"requests": 1, "scope": {"key": "ci"}})
        for name in ("c*", "*", "master", "anonymous"):
            await here.rules.create(ADA, {"requests": 1, "scope": {"key": name, "user": "a*"}})
        await here.rules.create(ADA, {"requests": 1, "scope": {"user": "anna"}})
        scopes = [dict(limit.scope.parts) for limit in here.rules.limits(here.settings)]
        assert sorted(scope.get("key", "") for scope in scopes) == sorted(
            [key_id, "c*", "*", "master", "anonymous", ""]
        )
        await here.house.registry.revoke(ADA, "ci")
        problem = await refused(here.rules.create(ADA, {"tokens": 1, "scope": {"key": key_id}}))
        assert problem.code == "key_not_found"


async def test_limits_of_a_new_key_are_made_with_it_or_not_at_all(gateway, tmp_path):
    async with gateway(tmp_path) as here:
        registry, rules = here.house.registry, here.rules
        adding = rules.prepared(
            ADA, [{"requests": 6}, {"money": "1 USD", "scope": {"model": "a*"}}], for_key=True
        )
        row, _ = await registry.create(ADA, KeyKind.CALLER, {"alias": "ci"}, adding.write)
        assert await rules.words_of(row.id) == [
            f"6 requests per minute for key {row.id}",
            f"1 USD per month for key {row.id} and model a*",
        ]
        twice = rules.prepared(ADA, [{"requests": 6}, {"requests": 7}], for_key=True)
        await refused(registry.create(ADA, KeyKind.CALLER, {"alias": "two"}, twice.write))
        await refused(registry.show("two"))
        for scope in ({"key": "ci"}, {"user": "*", "model": "*"}):
            with pytest.raises(Refused, match="names no key"):
                rules.prepared(ADA, [{"requests": 6, "scope": scope}], for_key=True)
        with pytest.raises(Refused, match="at most 20"):
            rules.prepared(ADA, [{"requests": 6}] * 21, for_key=True)

        await rules.create(ADA, {"requests": 9, "scope": {"key": "*"}})
        await registry.revoke(ADA, "ci", rules.removing(ADA))
        await rules.poll()
        assert here.words() == ["9 requests per minute for each key"]


async def test_a_budget_whose_currency_went_out_of_the_file_lets_nothing_through(gateway, tmp_path):
    async with gateway(tmp_path, "currency: {code: EUR, rate: 1.5 USD}") as here:
        await here.rules.create(ADA, {"money": "10 EUR", "per": "day"})
        (limit,) = here.rules.limits(here.settings)
        assert (limit.ceiling, limit.calendar.unit) == (15 * DOLLARS, Unit.DAY)
        (limit,) = here.rules.limits(settings_of(""))
        assert (limit.ceiling, limit.measure) == (0, Measure.MONEY)
        assert here.reports[-1][0] == "limit_without_currency"


async def test_a_row_that_nobody_can_read_is_told_once_and_the_others_count(gateway, tmp_path):
    async with gateway(tmp_path) as here:
        await here.rules.create(ADA, {"requests": 1})
        row = {"id": "lnew", "document": '{"requests": 5, "novelty": 1}', "created_at": 0}
        await here.house.store.change(lambda connection: connection.execute(insert(limit_rule).values(row)))
        (second,) = await here.rules.create(ADA, {"tokens": 1})
        await here.rules.remove(ADA, second)
        assert here.words() == ["1 request per minute in all"]
        assert [event for event, _, _ in here.reports] == ["limit_unreadable"]
        await here.rules.remove(ADA, "lnew")  # it can still be taken away


async def test_without_the_database_limits_stay_as_they_were_and_changes_are_refused(gateway, tmp_path):
    async with gateway(tmp_path) as here:
        await here.rules.create(ADA, {"requests": 1})
        await here.house.store.change(
            lambda connection: connection.execute(update(limit_rule).values(created_at=0))
        )
        here.house.break_reading()
        await here.rules.poll()
        assert here.words() == ["1 request per minute in all"]
        here.house.mend()
        here.house.store.close()
        problem = await refused(here.rules.create(ADA, {"tokens": 1}))
        assert problem.status == 503
