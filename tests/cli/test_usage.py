import asyncio
import csv
import io
import json

import pytest
from click.testing import CliRunner
from tests.support.gateway import MASTER_KEY, running_gateway, settings

from fleetgate.cli.main import fleetgate
from fleetgate.cli.usage import BY, OF
from fleetgate.domain import Attempt, Entry, Usage
from fleetgate.store import usage

pytestmark = pytest.mark.asyncio


@pytest.fixture
def call(tmp_path):
    """A command that asks this gateway, in a thread: the gateway lives in this loop."""
    unset = ("FLEETGATE_URL", "FLEETGATE_KEY", "FLEETGATE_MASTER_KEY", "FLEETGATE_CONFIG", "XDG_CONFIG_HOME",
             "XDG_STATE_HOME", "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "FORCE_COLOR")  # fmt: skip
    environ = {**dict.fromkeys(unset), "HOME": str(tmp_path / "home"), "FLEETGATE_KEY": MASTER_KEY}

    async def run(gateway, *words, code=0):
        given = [*words, "--url", gateway.url]
        done = await asyncio.to_thread(CliRunner().invoke, fleetgate, given, env=environ)
        assert done.exit_code == code, done.output
        return done

    return run


def entry(number, at, deployment="box/ollama/small", **members):
    account = "cloud/1" if deployment.startswith("cloud") else None
    attempt = Attempt(
        deployment, "ok", 0.0, 1.0, usage=Usage(1_000, 200, None), account=account, number=0, **members
    )
    return Entry(
        f"r{number}",
        at,
        "k1",
        "/v1/chat/completions",
        "chat",
        200,
        "ok",
        1.0,
        deployment=deployment,
        attempts=(attempt,),
        user="anna",
    )


async def used(gateway):
    now = gateway.app.gateway.wall()
    for number in range(3):
        gateway.store.post(entry(number, now, energy=500_000, energy_cost=150_000))
    gateway.store.post(entry(3, now, "cloud/big", cost=2_160_000_000, estimated=True))
    gateway.store.post(entry(4, now, "cloud/big", cost=None))
    gateway.store.post(entry(5, now - 10 * 86_400))
    await gateway.store.flush()


async def test_a_table_with_what_it_cost_and_what_nobody_knows(call, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        await used(gateway)
        done = await call(gateway, "usage", "--since", "7d")
        head, *lines = [line.split() for line in done.stdout.splitlines()]
        assert head == [
            *("KEY", "MODEL", "DEPLOYMENT", "REQUESTS", "FAILED", "INPUT", "OUTPUT", "COST"),
            *("ENERGY", "ITS", "COST"),
        ]
        assert lines == [
            [*("k1", "chat", "cloud/big", "2", "0", "2,000", "400", "2.16", "USD", "+1", "unknown"),
             *("(1", "estimated)", "0.000", "Wh", "0", "USD")],
            [*("k1", "chat", "box/ollama/small", "3", "0", "3,000", "600", "0", "USD"),
             *("1.500", "Wh", "0.00045", "USD")],
            [*("total", "5", "0", "5,000", "1,000", "2.16", "USD", "+1", "unknown", "(1", "estimated)"),
             *("1.500", "Wh", "0.00045", "USD")],
        ]  # fmt: skip
        assert "from 20" in done.stderr


async def test_amounts_in_the_currency_of_the_house(call, tmp_path):
    house = settings(currency={"code": "EUR", "rate": "1.08 USD"})
    async with running_gateway(house, tmp_path) as gateway:
        await used(gateway)
        assert "2 EUR +1 unknown (1 estimated)" in (await call(gateway, "usage", "--by", "user")).stdout


async def test_the_same_for_programs(call, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        await used(gateway)
        words = ("usage", "--by", "day", "--by", "provider", "--model", "chat", "--since", "7d")
        document = json.loads((await call(gateway, *words, "--json")).stdout)
        assert [(row["provider"], row["requests"]) for row in document["rows"]] == [("cloud", 2), ("", 3)]
        assert document["total"]["cost_nano_usd"] == 2_160_000_000
        found = list(csv.DictReader(io.StringIO((await call(gateway, *words, "--csv")).stdout)))
        assert [{name: str(value) for name, value in row.items()} for row in document["rows"]] == found


async def test_of_one_alone_and_not_more_rows_than_wanted(call, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        await used(gateway)
        done = await call(gateway, "usage", "--by", "deployment", "--node", "box")
        assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [["box/ollama/small", "4"]]
        done = await call(gateway, "usage", "--by", "deployment", "--limit", "1")
        assert "the first 1 rows" in done.stderr
        assert done.stdout.splitlines()[-1].split()[0] == "cloud/big"
        done = await call(gateway, "usage", "--user", "nobody")
        assert done.stdout == ""
        assert "nothing was used from" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--by", "colour"), "nothing is summed by 'colour'"),
        (("--since", "soon"), "`since` is no time"),
        (("--zone", "Mars"), "no time zone"),
    ],
)
async def test_what_is_misunderstood_says_why(call, words, said, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        assert said in (await call(gateway, "usage", *words, code=1)).stderr


async def test_the_command_knows_what_the_gateway_knows():
    assert (set(BY), set(OF)) == (set(usage.BY), set(usage.PLACES))
