import asyncio
import json

import pytest
from click.testing import CliRunner
from tests.support.gateway import MASTER_KEY, running_gateway, settings

from fleetgate.cli.main import fleetgate
from fleetgate.cli.providers import show

FREE = {"state": "free", "why": "", "until": None, "models_out": [], "remembered": False}
UNTIL = "2031-01-01T00:00:00Z"


def row(*accounts, **members):
    return {"provider": "groq", "accounts": accounts, "models": [], "rules": [], "quotas": [], **members}


def model(deployment, **members):
    known = {"price_known": False, "price": None, "removed": False, "retires": None, "retired": False}
    return {"deployment": deployment, "successor": None, **known, **members}


def test_retired_models_and_rules_are_shown_where_there_are_any(capsys):
    models = [
        model(
            "groq/old",
            price_known=True,
            price="free",
            retires="2026-01-05",
            retired=True,
            successor="groq/new",
        ),
        model("groq/soon", price_known=True, price="free", retires="2031-01-05"),
        model("groq/new", price_known=True, price="1 USD/Mtok in"),
    ]
    rules = [{"member": "seed", "deed": "left out", "count": 1200}]
    rows = [row(FREE | {"account": "groq/1"}, models=models, rules=rules)]
    show(rows)
    assert capsys.readouterr().out.splitlines()[3:] == [
        "MODEL      RETIRED            INSTEAD   PRICE",
        "groq/old   2026-01-05 (past)  groq/new  free",
        "groq/soon  2031-01-05                   free",
        "",
        "PROVIDER  MEMBER  WAS       TIMES",
        "groq      seed    left out  1,200",
    ]
    show(rows, all_models=True)
    assert "groq/new                                1 USD/Mtok in" in capsys.readouterr().out


def test_accounts_are_shown_with_what_stands_against_them(capsys):
    out = [{"model": "m", "state": "exhausted", "why": "quota_exhausted", "until": UNTIL}]
    show(
        [
            row(
                FREE | {"account": "groq/1"},
                FREE | {"account": "groq/2", "state": "limited", "models_out": out, "remembered": True},
                FREE | {"account": "groq/3", "state": "benched", "why": "key_invalid", "until": UNTIL},
            )
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "PROVIDER  ACCOUNT  STATE      MODEL  UNTIL                 WHY",
        "groq      groq/1   free",
        "groq      groq/2   exhausted  m      2031-01-01T00:00:00Z  quota_exhausted (remembered)",
        "groq      groq/3   benched           2031-01-01T00:00:00Z  key_invalid",
    ]


def test_quotas_and_unknown_prices_are_shown_where_there_are_any(capsys):
    quota = {
        "words": "100 requests per day",
        "of": "groq/1",
        "used": 40,
        "held": 2,
        "ceiling": 100,
        "unit": "requests",
    }
    money = {"words": "5 USD per day", "of": None, "used": 10**9, "held": 0, "ceiling": 5 * 10**9}
    models = [model("groq/a"), model("groq/b", price_known=True)]
    quotas = [quota | {"frees_in_s": 61.7}, quota | {"of": None, "frees_in_s": None}]
    quotas.append(money | {"unit": "nano_usd", "frees_in_s": None})
    show([row(FREE | {"account": "groq/1"}, quotas=quotas, models=models)])
    assert capsys.readouterr().out.splitlines()[3:] == [
        "PROVIDER  QUOTA                 OF      USED   CEILING  FREES IN",
        "groq      100 requests per day  groq/1  42     100      62 s",
        "groq      100 requests per day          42     100",
        "groq      5 USD per day                 1 USD  5 USD",
        "",
        "no price is known for: groq/a",
    ]


@pytest.mark.asyncio
async def test_the_command_asks_a_running_gateway(tmp_path):
    block = {
        "kind": "openai",
        "url": "http://127.0.0.1:1/v1",
        "keys": ["${ONE}", "${NONE}"],
        "models": [{"name": "m"}],
    }
    environ = {"HOME": str(tmp_path / "home"), "FLEETGATE_KEY": MASTER_KEY, "FLEETGATE_URL": None}

    async def call(gateway, *words):
        words = ["providers", *words, "--url", gateway.url]
        done = await asyncio.to_thread(CliRunner().invoke, fleetgate, words, env=environ)
        assert done.exit_code == 0, done.output
        return done

    async with running_gateway(
        settings(providers={"p": block}), tmp_path, {"ONE": "a-secret-key"}
    ) as gateway:
        told = json.loads((await call(gateway, "--json")).stdout)["rows"][0]
        assert [one["state"] for one in told["accounts"]] == ["free", "unconfigured"]
        done = await call(gateway)
        assert "p/2      unconfigured" in done.stdout
        assert "no price is known for: p/m" in done.stdout
        assert "a-secret-key" not in done.output
    async with running_gateway(settings(), tmp_path) as gateway:
        assert "No providers" in (await call(gateway)).output
