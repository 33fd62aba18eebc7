"""The proofs can be run, and they notice what they are there to notice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from chaos.__main__ import table
from chaos.books import Attempt, Books, Journal, Verdict, compare

ROOT = Path(__file__).parents[1]
COST = 3 * 1_000 + 2 * 2_000


def test_help_names_the_proofs():
    command = [sys.executable, "-m", "chaos", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    for proof in ("kill", "budget", "outage", "resume"):
        assert proof in done.stdout


def journal(tmp_path: Path, *whats: str) -> Journal:
    """One request, sent so often."""
    lines = [
        {"n": number, "id": "r", "what": what, "tokens": [3, 2], "at": 1.0}
        for number, what in enumerate(whats)
    ]
    path = tmp_path / "journal"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = Journal(path)
    found.read()
    return found


def settled(cost: int = COST, *, estimated: bool = False) -> Attempt:
    return Attempt(dispatched=True, settled=cost, estimated=estimated)


RELEASED = Attempt(dispatched=True, released=True)


@pytest.mark.parametrize(
    ("sent", "attempts", "broken"),
    [
        (["ok"], [settled()], []),
        (["429", "ok"], [RELEASED, settled()], []),
        (["ok"], [settled(5_000, estimated=True)], []),
        (["ok"], [settled(), RELEASED], []),
        (["ok"], [], ["missing"]),
        (["ok", "ok"], [settled()], ["missing"]),
        (["ok"], [settled(), settled()], ["doubled", "wrong"]),
        (["ok"], [settled(COST + 1)], ["wrong"]),
        (["ok"], [RELEASED], ["refunded"]),
    ],
    ids=[
        *("as sent", "refused, then answered", "an estimate", "never left"),
        *("not there", "one of two", "twice", "another cost", "given back"),
    ],
)
def test_the_journal_against_the_ledger(tmp_path, sent, attempts, broken):
    costs = {"r": sum(one.settled or 0 for one in attempts)}
    books = Books({"r": dict(enumerate(attempts))}, costs, [], [])
    verdict = Verdict()
    compare(books, journal(tmp_path, *sent), verdict)
    assert [text.partition(":")[0] for text in verdict.broken] == broken


def test_what_the_ledger_itself_finds_counts(tmp_path):
    verdict = Verdict()
    compare(Books({}, {}, [], ["a sum is wrong"]), journal(tmp_path), verdict)
    assert verdict.broken == ["findings: a sum is wrong"]


def test_a_table_of_figures_and_one_of_cases():
    assert table({"kills": 3}).splitlines()[2].split() == ["|", "kills", "|", "3", "|"]
    assert table({"locked": {"free": 1, "paid": 2}}).splitlines()[2].split()[1::2] == ["locked", "1", "2"]
