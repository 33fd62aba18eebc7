"""Limits as administrators meet them over HTTP, on a whole gateway."""

import json

import pytest
from tests.support.gateway import MASTER_KEY, node, openai_engine, running_gateway, settings
from tests.support.upstreams import respond_json

from fleetgate.http.limits import MOST_COUNTERS, _view
from fleetgate.limits import Limit, Measure, Scope, Then

pytestmark = pytest.mark.asyncio

LIMITS, KEYS = "/admin/api/limits", "/admin/api/keys"


async def ask(gateway, method, path, form=None, key=MASTER_KEY):
    body = json.dumps(form).encode() if form is not None else b""
    headers = {"host": "x", "authorization": f"Bearer {key}", "content-type": "application/json"}
    async with gateway.caller() as caller:
        await caller.ask(method, path, headers, body)
        await caller.head()
        return await caller.rest()


async def test_limits_are_made_listed_and_removed(tmp_path):
    file = [{"requests": 5, "per": "day"}]
    async with running_gateway(settings(limits=file), tmp_path) as gateway:
        made = await ask(
            gateway,
            "POST",
            LIMITS,
            {"scope": {"key": "*"}, "money": "1.5 USD", "parallel": 2, "then": "local_only"},
        )
        assert made.status == 201
        rows = {row["measure"]: row for row in made.json()["rows"]}
        assert rows.keys() == {"money", "parallel"}
        money = rows["money"]
        assert {
            name: money[name] for name in ("scope", "unit", "ceiling", "then", "origin", "overridden")
        } == {
            "scope": {"key": "*"},
            "unit": "nano_usd",
            "ceiling": 1_500_000_000,
            "then": "local_only",
            "origin": "database",
            "overridden": False,
        }
        assert money["words"] == "1.5 USD per month for each key"
        assert money["created_at"].endswith("Z")
        listed = (await ask(gateway, "GET", LIMITS)).json()["rows"]
        assert [row["origin"] for row in listed] == ["file", "database", "database"]
        assert listed[0]["words"] == "5 requests per day in all"
        assert listed[0]["created_at"] is None

        gone = await ask(gateway, "DELETE", f"{LIMITS}/{money['id']}")
        assert (gone.status, gone.json()) == (200, {"removed": money["id"]})
        assert (await ask(gateway, "DELETE", f"{LIMITS}/{money['id']}")).status == 404
        reply = await ask(gateway, "DELETE", f"{LIMITS}/{listed[0]['id']}")
        assert (reply.status, reply.error["code"]) == (409, "limit_in_file")
        assert len((await ask(gateway, "GET", LIMITS)).json()["rows"]) == 2


async def test_a_stored_limit_is_in_effect_after_a_restart_and_shown_where_the_file_has_it_too(tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        await ask(gateway, "POST", LIMITS, {"requests": 60, "scope": "global"})
    async with running_gateway(settings(limits=[{"requests": 10}]), tmp_path) as gateway:
        rows = (await ask(gateway, "GET", LIMITS)).json()["rows"]
        assert [(row["origin"], row["overridden"], row["ceiling"]) for row in rows] == [
            ("file", False, 10),
            ("database", True, 60),
        ]
        assert rows[0]["id"] == rows[1]["id"]


@pytest.mark.parametrize(
    ("form", "part"),
    [
        ({"requests": 5, "novelty": 1}, "novelty"),
        ({"scope": {"key": "nobody"}, "requests": 5}, "no key 'nobody'"),
        ({"scope": "everybody", "requests": 5}, "scope"),
        ({"requests": "many"}, "requests"),
        ({"money": "5"}, "money"),
    ],
)
async def test_a_limit_that_says_nothing_clear_is_refused(form, part, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        reply = await ask(gateway, "POST", LIMITS, form)
        assert (reply.status, part in reply.error["message"]) == (400, True)


async def test_a_key_is_made_with_its_limits(tmp_path):
    async with openai_engine(respond_json(200, {})) as one:
        house = settings(nodes={"box": node(one)})
        async with running_gateway(house, tmp_path) as gateway:
            form = {"alias": "ci", "limits": [{"requests": 60}, {"money": "2 USD", "scope": {"model": "a*"}}]}
            reply = await ask(gateway, "POST", KEYS, form)
            key_id = reply.json()["key"]["id"]
            assert reply.json()["limits"] == [
                f"60 requests per minute for key {key_id}",
                f"2 USD per month for key {key_id} and model a*",
            ]
            bad = {"alias": "two", "limits": [{"requests": 60, "scope": {"key": "ci"}}]}
            assert (await ask(gateway, "POST", KEYS, bad)).status == 400
            assert (await ask(gateway, "GET", f"{KEYS}/two")).status == 404
            assert (await ask(gateway, "POST", KEYS, {})).json()["limits"] == []

            trail = (await ask(gateway, "GET", "/admin/api/audit")).json()["rows"]
            actions = [line["action"] for line in trail]
            assert actions == ["key.create", "key.create", "limit.create", "limit.create"]
            await ask(gateway, "POST", f"{KEYS}/ci/revoke")
            assert (await ask(gateway, "GET", LIMITS)).json()["rows"] == []


async def test_of_many_counters_the_fullest_are_shown():
    limit = Limit("l1", "", Scope((("key", "*"),)), Measure.REQUESTS, 9, None, 60.0, 9, Then.REFUSE, "file")
    counters = [{"counter": f"l1@{number}", "used": number, "held": 1} for number in range(150)]
    view = _view(limit, {}, counters)
    assert [one["used"] for one in view["counters"]] == list(range(149, 149 - MOST_COUNTERS, -1))
    assert view["counters_left_out"] == 50
