"""The benchmark can be run, and its stages still fit the parts they measure. Nothing is timed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench import stages, table
from bench.load import Asked, _read_wrk

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
