"""The benchmark can be run, and its stages still fit the parts they measure. Nothing is timed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench import costs, stages, state, table
from bench.load import Asked, _read_wrk

from fleetgate.config.schema import Settings
from fleetgate.keys import form
from fleetgate.keys.master import pepper
from fleetgate.keys.owner import digest
from fleetgate.store import access, hourly, rules
from fleetgate.store.database import Store

ROOT = Path(__file__).parents[1]


def test_help_names_the_parts():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    for part in ("requests", "streams", "leaving", "stages", "costs", "start"):
        assert part in done.stdout


@pytest.mark.parametrize("trial", stages.trials(), ids=lambda trial: trial.name)
def test_each_stage_runs(trial):
    trial.make()()


def test_a_table_shows_ratios_and_differences():
    text = table.render(
        [("Title", [table.Row("a", "µs", 30.0, 10.0), table.Row("b", "ms", 1.5, 1.0, plus=True)])]
    )
    assert "3.00 x" in text
    assert "+0.50" in text


def test_what_wrk_says_is_understood():
    said = """
  Latency Distribution
     50%    4.01ms
     99%    1.20s
  17001 requests in 2.10s, 12.34MB read
  Non-2xx or 3xx responses: 3
"""
    assert _read_wrk(said) == Asked(17001, 3, 2.1, 4.01, 1200.0)


def test_a_prepared_state_is_one_that_the_gateway_takes(tmp_path):
    state.prepare(tmp_path)
    texts = state.add_keys(tmp_path, 3, ["bench-*"])
    state.add_limits(tmp_path, texts[:2])
    state.add_exchanges(tmp_path, 3_000)
    seasoning = pepper(tmp_path)
    store = Store.open(tmp_path, lambda: 1_800_000_000.0)
    try:
        for text in texts:
            parts = form.parse(text.encode())
            row, _ = store.ask(lambda connection, key=parts.id: access.key_and_team(connection, key))
            assert row.digest == digest(seasoning, parts.secret).hex()
        assert len(store.ask(rules.rules)) == 2
        assert store.ask(rules.epoch) == 1
        assert store.ask(hourly.verify) == []
        assert len(store.exchanges(5_000)) == 3_000
    finally:
        store.close()


def test_each_setup_of_the_costs_is_a_configuration():
    found = costs.setups(costs.QUICK, 9_000)
    for one in found:
        nodes = {"here": {"address": "127.0.0.1", "engines": [{"kind": "openai", "port": 9_000}]}}
        settings = Settings.model_validate_json(json.dumps({"nodes": nodes, **one.blocks}))
        assert len(settings.limits) in {0, 6}
    assert found[0].against is None
