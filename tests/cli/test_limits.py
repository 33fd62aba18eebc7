import asyncio
import json

import pytest
from click.testing import CliRunner
from tests.support.gateway import MASTER_KEY, running_gateway, settings

from fleetgate.cli.limits import _print, budget_entry, limit_entry
from fleetgate.cli.main import fleetgate


@pytest.fixture
def call(tmp_path):
    """A command that asks this gateway, in a thread: the gateway lives in this loop."""
    environ = {"HOME": str(tmp_path / "home"), "FLEETGATE_KEY": MASTER_KEY, "FLEETGATE_URL": None}

    async def run(gateway, *words, code=0):
        words = [*words, "--url", gateway.url]
        done = await asyncio.to_thread(CliRunner().invoke, fleetgate, words, env=environ)
        assert done.exit_code == code, done.output
        return done

    return run


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("60 requests per minute", {"requests": 60, "per": "minute"}),
        ("1 request per second", {"requests": 1, "per": "second"}),
        ("1,000,000 tokens per day", {"tokens": 1_000_000, "per": "day"}),
        ("5_000 input tokens", {"input_tokens": 5_000}),
        ("9 output tokens in any 5h", {"output_tokens": 9, "per": "5h"}),
        (" 2 requests at a time ", {"parallel": 2}),
    ],
)
def test_limits_as_people_write_them(text, entry):
    assert limit_entry(text) == entry


@pytest.mark.parametrize(
    "text", ["", "60", "requests per minute", "60 tests per minute", "2 tokens at a time", "1 request a day"]
)
def test_what_is_no_limit(text):
    with pytest.raises(ValueError, match="requests"):
        limit_entry(text)


def test_budgets_as_people_write_them():
    assert budget_entry("10 USD") == {"money": "10 USD"}
    assert budget_entry("0.5 EUR per day") == {"money": "0.5 EUR", "per": "day"}
    for text in ("", "10", "ten dollars per day", "per day"):
        with pytest.raises(ValueError, match="write"):
            budget_entry(text)


@pytest.mark.asyncio
async def test_limits_from_their_making_to_their_end(call, tmp_path):
    async with running_gateway(settings(limits=[{"requests": 5, "per": "day"}]), tmp_path) as gateway:
        done = await call(
            gateway,
            *("limits", "add", "--scope", "role=*", "--scope", "key=*", "--requests", "60", "--per", "hour"),
            *("--money", "2 USD", "--then", "warn", "--name", "mild", "--zone", "Europe/Berlin"),
        )
        lines = sorted(done.stdout.splitlines(), key=lambda line: line.partition("  ")[2])
        assert [line.partition("  ")[2] for line in lines] == [
            "mild: 2 USD per hour for each key and each role",
            "mild: 60 requests per hour for each key and each role",
        ]
        first = lines[0].partition(" ")[0]
        shown = (await call(gateway, "limits")).stdout.splitlines()
        assert shown[0].split() == ["ID", "LIMIT", "OF", "USED", "CEILING", "FREES", "AT"]
        assert shown[1].split()[1:] == ["5", "requests", "per", "day", "in", "all", "-", "0", "5", "-"]
        (row,) = [line for line in shown if line.startswith(first)]
        assert row.endswith("2 USD    -         added, warn")
        document = json.loads((await call(gateway, "limits", "--json")).stdout)
        assert len(document["rows"]) == 3
        assert (await call(gateway, "limits", "remove", first)).stdout == f"removed the limit {first}\n"
        assert "no limit" in (await call(gateway, "limits", "remove", first, code=1)).stderr
        file_id = shown[1].split()[0]
        assert "written in the file" in (await call(gateway, "limits", "remove", file_id, code=1)).stderr
        made = await call(gateway, "limits", "add", "--parallel", "3", "--json")
        assert json.loads(made.stdout)["rows"][0]["ceiling"] == 3


@pytest.mark.asyncio
async def test_there_may_be_none_and_some_say_nothing(call, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        assert "no limits" in (await call(gateway, "limits")).stderr
        for words, part in (
            ((), "Say what is bounded"),
            (("--requests", "1", "--scope", "ci"), "is no scope"),
            (("--requests", "1", "--scope", "person=ci"), "is no scope"),
            (("--requests", "1", "--scope", "key=a", "--scope", "key=b"), "Two scopes"),
        ):
            assert part in (await call(gateway, "limits", "add", *words, code=2)).stderr


@pytest.mark.asyncio
async def test_a_key_with_limits(call, tmp_path):
    async with running_gateway(settings(), tmp_path) as gateway:
        done = await call(
            gateway,
            *("keys", "create", "--alias", "ci", "--limit", "60 requests per minute"),
            *("--limit", "2 requests at a time", "--budget", "10 USD per month"),
        )
        assert done.stdout.startswith("fg_caller_")
        key_id = done.stdout.split("_")[2]
        for text in ("60 requests per minute", "2 requests at a time", "10 USD per month"):
            assert f"limit            {text} for key {key_id}" in done.stderr
        done = await call(gateway, "keys", "create", "--limit", "a lot", code=2)
        assert "is no limit" in done.stderr


def test_how_far_limits_are_used(capsys):
    row = {"id": "l1", "name": "", "words": "1 USD per day for each key", "unit": "nano_usd"}
    row |= {
        "ceiling": 10**9,
        "then": "local_only",
        "origin": "quota",
        "overridden": True,
        "counters_left_out": 7,
    }
    counter = {"of": "ci", "used": 2 * 10**8, "held": 10**8, "frees_at": "2026-03-05T00:00:00Z"}
    usd = {"code": "USD", "rate": 10**9}
    _print([{**row, "counters": [counter, {**counter, "of": None, "used": 0, "held": 0}]}], usd)
    head, first, second, third = capsys.readouterr().out.splitlines()
    end = "quota, local only, overridden by the file"
    assert head.split()[-2:] == ["FREES", "AT"]
    assert first.endswith(end)
    assert " ci " in first
    assert "0.3 USD" in first
    assert "2026-03-05T00:00:00Z" in first
    assert "2026" not in second
    assert "and 7 less used" in third
