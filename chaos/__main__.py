"""`python -m chaos`: kill, budget, outage, resume; prints figures. Exit code 1 where a promise was broken."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.rig import Missing

from chaos import budget, kill, outage, resume

if TYPE_CHECKING:
    from chaos.books import Verdict

KILLS: Final = 50
TRIALS: Final = 100
SECONDS: Final = 20.0
QUICK: Final = 5
SHOWN: Final = 20
BROKEN: Final = 1
UNFIT: Final = 3
"""exit code where this machine lacks what a proof needs"""


def main() -> None:
    parser = _parser()
    asked = parser.parse_args()
    unknown = sorted(set(asked.proofs) - set(_PROOFS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(_PROOFS)}")
    seed = asked.seed if asked.seed is not None else time.time_ns() % 1_000_000
    print(f"seed {seed}", file=sys.stderr, flush=True)
    document: dict[str, Any] = {"machine": machine(), "seed": seed}
    code = 0
    for proof in asked.proofs or list(_PROOFS):
        with tempfile.TemporaryDirectory(prefix="fleetgate-chaos-") as place:
            try:
                outcome = _PROOFS[proof](Path(place), seed, asked)
            except Missing as why:
                print(f"{proof} cannot be run here: {why}", file=sys.stderr)
                code = code or UNFIT
                continue
        missing = getattr(outcome, "missing", [])
        code = BROKEN if outcome.verdict.broken else code
        document[proof] = {
            "figures": outcome.figures(),
            "broken": outcome.verdict.broken,
            "missing": missing,
        }
        if not asked.json:
            _tell(proof, outcome.figures(), outcome.verdict, missing)
    if asked.json:
        print(json.dumps(document, indent=2))
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chaos", description="What Fleetgate promises under faults, shown with real processes."
    )
    parser.add_argument(
        "proofs", nargs="*", metavar="PROOF", help="kill, budget, outage, resume; default: all"
    )
    parser.add_argument("--times", type=int, metavar="N", help=f"kills; default {KILLS}, of resume {TRIALS}")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help=f"length of an outage; default {SECONDS:g}"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the same faults again; default: by the clock")
    parser.add_argument("--two", action="store_true", help="budget: two gateways over PostgreSQL and Redis")
    parser.add_argument("--only", metavar="TEXT", default="", help="outage: those with this in their name")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter")
    parser.add_argument("--json", action="store_true", help="figures as JSON instead of a table")
    return parser


def _kill(place: Path, seed: int, asked: argparse.Namespace) -> kill.Outcome:
    return kill.run(place, asked.times or (QUICK if asked.quick else KILLS), seed)


def _budget(place: Path, seed: int, asked: argparse.Namespace) -> budget.Outcome:
    return budget.run(place, seed, two=asked.two)


def _outage(place: Path, seed: int, asked: argparse.Namespace) -> outage.Outcome:
    cases = tuple(one for one in outage.CASES if asked.only in one.name)
    return outage.run(place, seed, asked.seconds or (QUICK if asked.quick else SECONDS), cases)


def _resume(place: Path, seed: int, asked: argparse.Namespace) -> resume.Outcome:
    return resume.run(place, asked.times or (QUICK if asked.quick else TRIALS), seed)


_PROOFS: Final[dict[str, Any]] = {"kill": _kill, "budget": _budget, "outage": _outage, "resume": _resume}


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def _tell(proof: str, figures: dict[str, Any], verdict: Verdict, missing: list[str]) -> None:
    print(f"{proof}: {machine()}\n\n{table(figures)}\n")
    for why in missing:
        print(f"not run: {why}")
    for text in verdict.broken[:SHOWN]:
        print(f"broken: {text}")
    if len(verdict.broken) > SHOWN:
        print(f"and {len(verdict.broken) - SHOWN} more")


def table(figures: dict[str, Any]) -> str:
    """One column of figures, or one for each case."""
    if not any(isinstance(value, dict) for value in figures.values()):
        rows = [("", ""), *((name, str(value)) for name, value in figures.items())]
        return _rows(rows)
    names = list(next(iter(figures.values())))
    heads = [("", *names)]
    return _rows(
        [*heads, *((case, *(str(values[name]) for name in names)) for case, values in figures.items())]
    )


def _rows(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    rule = [("-" * width) if at == 0 else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    return "\n".join([lines[0], "| " + " | ".join(rule) + " |", *lines[1:]])


if __name__ == "__main__":
    main()
