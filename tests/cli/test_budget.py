"""`fleetgate budget` as a person uses it."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner
from tests.support.caller import MASTER_KEY
from tests.support.gateway import answer, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import respond_json

from fleetgate.cli.main import fleetgate

pytestmark = pytest.mark.asyncio


async def said(gateway, *words):
    environ = {"FLEETGATE_KEY": MASTER_KEY, "FLEETGATE_URL": gateway.url}
    done = await asyncio.to_thread(CliRunner().invoke, fleetgate, ["budget", *words], env=environ)
    assert done.exit_code == 0, done.output
    return done.output


async def test_what_is_spent_and_left_in_the_own_currency(tmp_path):
    price = {"input": "1 EUR/Mtok", "output": "1 EUR/Mtok"}
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        blocks = settings(
            currency={"code": "EUR", "rate": "2 USD"},
            providers={"p": provider(a, models=[{"name": "m", "price": price}])},
            limits=[{"name": "house", "scope": "global", "money": "10 EUR", "then": "local_only"}],
        )
        async with running_gateway(blocks, tmp_path) as g:
            assert (await g.chat("m")).status == 200
            head, line = (await said(g)).splitlines()
            assert head.split() == ["BUDGET", "OF", "SPENT", "HELD", "CEILING", "LEFT", "UNTIL", "THEN"]
            assert line.startswith("house: 10 EUR per month in all  -   0")
            assert "10 EUR" in line
            assert line.endswith("local only")
            document = json.loads(await said(g, "--json"))
            assert document["rows"][0]["spent_nano_usd"] == 10_000


async def test_the_switch_and_the_check(tmp_path):
    async with running_gateway(settings(), tmp_path) as g:
        assert "There are no budgets" in await said(g)
        assert "off" in await said(g, "pause", "--why", "enough")
        assert "PAID MODELS ARE OFF" in await said(g)
        assert "by master: enough" in await said(g)
        assert "on" in await said(g, "resume")
        assert "every counter" in await said(g, "check")
