"""Write the known prices, src/fleetgate/prices/known.json, from the data of the package genai-prices.

    .venv/bin/python scripts/prices.py [--check]

Run it after `make lock UPGRADE=1` has brought a newer version. The form is `fleetgate.prices.known`. Amounts
are whole nano-dollars, rounded up. A price with a part that an answer
does not let us count (pages, messages, pictures among the tokens) is left out, and the model with it
stays known without a price. Fees for searches are left out too, and prices of caches that live an hour.

A set that has far fewer models than the one it replaces is refused.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from datetime import date
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from genai_prices import types
from genai_prices.data import providers

FILE: Final = Path(__file__).resolve().parent.parent / "src" / "fleetgate" / "prices" / "known.json"
PACKAGE: Final = "genai-prices"
LEAST: Final = 1_000
"""models that a set has at least"""
SHRINK: Final = 0.9
"""of the models before"""
DUST: Final = Fraction(1, 1_000)

NANO: Final = 1_000_000_000
TOKENS: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
}
TIERED: Final = ("input", "output", "cached_input", "cache_write")
OPTIONAL: Final = frozenset(
    {"web_searches_kcount", "storage_searches_kcount", "cache_write_1h_mtok", "cache_audio_read_mtok"}
)
"""fees of extras that a request has to ask for, and parts of parts that are charged at the dearer price"""
OTHER_NAMES: Final = ("openai-decisions", "github-copilot", "cursor")
"""sets that stand for no address of their own, or for subscriptions"""


def make(made: str) -> str:
    """The file's text: one line for each model, so that changes can be read."""
    lines = [
        "{",
        *(
            f"  {_json(key)}: {_json(value)},"
            for key, value in (
                ("form", 1),
                ("source", PACKAGE),
                ("version", version(PACKAGE)),
                ("made", made),
                ("licence", "MIT, see LICENSE.genai-prices"),
            )
        ),
        '  "providers": {',
    ]
    sets = [one for one in sorted(providers, key=lambda one: one.id) if one.id not in OTHER_NAMES]
    for last, one in ((one is sets[-1], one) for one in sets):
        head = {"url": one.api_pattern, "also": one.fallback_model_providers or []}
        lines.append(f'    {_json(one.id)}: {_json(head)[:-1]}, "models": [')
        rows = [_json(_model(model, free=one.id == "openrouter")) for model in one.models]
        lines += [f"      {row}," for row in rows[:-1]]
        lines += [f"      {row}" for row in rows[-1:]]
        lines.append("    ]}" + ("" if last else ","))
    return "\n".join([*lines, "  }", "}"]) + "\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(", ", ": "))


def _model(model: types.ModelInfo, *, free: bool) -> dict[str, Any]:
    """A row. `free`: an id that ends with `:free` is the provider's own word for that."""
    row: dict[str, Any] = {"id": model.id, "match": _rule(model.match)}
    if model.context_window:
        row["context"] = model.context_window
    written = model.prices
    conditional = written if isinstance(written, list) else [types.ConditionalPrice(prices=written)]
    row["prices"] = [_conditional(one) for one in conditional]
    if free and model.id.endswith(":free") and row["prices"] == [{}]:
        row["prices"] = [{"input": 0, "output": 0}]
    batch = _batch(model, conditional)
    if batch is not None:
        row["batch"] = batch
    return row


def _rule(rule: Any) -> Any:  # noqa: PLR0911  (one for each kind)
    """A text is an equal id, a list any of its rules, a map one rule by its name."""
    match rule:
        case types.ClauseEquals():
            return rule.equals.lower()
        case types.ClauseStartsWith():
            return {"starts_with": rule.starts_with.lower()}
        case types.ClauseEndsWith():
            return {"ends_with": rule.ends_with.lower()}
        case types.ClauseContains():
            return {"contains": rule.contains.lower()}
        case types.ClauseRegex():
            return {"regex": rule.regex}
        case types.ClauseOr():
            return [_rule(one) for one in rule.or_]
        case types.ClauseAnd():
            return {"and": [_rule(one) for one in rule.and_]}
    raise ValueError(f"an unknown rule: {rule!r}")


def _conditional(one: types.ConditionalPrice) -> dict[str, Any]:
    row: dict[str, Any] = {}
    match one.constraint:
        case types.StartDateConstraint(start_date=start):
            row["from"] = start.isoformat()
        case types.TimeOfDateConstraint(start_time=begin, end_time=end):
            row["hours"] = [_minute(begin), _minute(end)]
        case None:
            pass
        case other:
            raise ValueError(f"an unknown condition: {other!r}")
    return row | _price(one.prices)


def _minute(moment: Any) -> int:
    """The minute of the day in UTC."""
    if moment.tzinfo is not None and moment.utcoffset() is not None and moment.utcoffset():
        raise ValueError(f"{moment!r} is not in UTC")
    return moment.hour * 60 + moment.minute


def _price(prices: types.ModelPrice) -> dict[str, Any]:
    """The price in our own terms; empty where it has a part that cannot be counted."""
    written = {key: value for key, value in prices.__dict__.items() if value is not None}
    row: dict[str, Any] = {}
    tiers: dict[int, dict[str, int]] = {}
    hour = written.pop("audio_hours", None) or written.get("input_audio_hours")
    written.pop("input_audio_hours", None)
    if hour is not None:
        row["hour"] = _nano(hour) * 1_000_000
    for key, value in written.items():
        if key in OPTIONAL:
            continue
        name = TOKENS.get(key)
        if name is not None:
            base = value.base if isinstance(value, types.TieredPrices) else value
            row[name] = _nano(base)
            for tier in value.tiers if isinstance(value, types.TieredPrices) else ():
                if name not in TIERED:
                    raise ValueError(f"{key} has tiers")
                tiers.setdefault(tier.start, {})[name] = _nano(tier.price)
        elif key == "input_mchars":
            row["character"] = _nano(value)
        elif key == "requests_kcount":
            row["request"] = _whole(Fraction(value) * NANO / 1_000)
        elif not _same_as_whole(key, value, written):
            return {}
    return row | ({"tiers": _tiers(row, tiers)} if tiers else {})


def _same_as_whole(key: str, value: Any, written: dict[str, Any]) -> bool:
    """Whether tokens of a kind that is not counted apart cost no more than others of their direction."""
    direction = next((name for name in ("input", "output", "cache") if key.startswith(name)), "")
    whole = written.get("cache_read_mtok" if direction == "cache" else f"{direction}_mtok")
    simple = isinstance(value, Decimal) and isinstance(whole, Decimal)
    return key.endswith("_mtok") and simple and value <= whole


def _tiers(row: dict[str, Any], tiers: dict[int, dict[str, int]]) -> list[dict[str, int]]:
    """Each tier whole: what it does not change, it has from the one below."""
    before = {name: row[name] for name in TIERED if name in row}
    found = []
    for start in sorted(tiers):
        before = before | tiers[start]
        found.append({"above": start, **before})
    return found


def _batch(model: types.ModelInfo, conditional: list[types.ConditionalPrice]) -> list[int] | None:
    """What batch requests pay of everything, as a fraction; None where it is not one share of all."""
    standard = conditional[-1].prices.__dict__
    variant = next((one for one in model.price_variants or () if one.when == {"processing": "batch"}), None)
    if variant is None or len(conditional) > 1 or variant.constraint is not None:
        return None
    shares = set()
    for key, value in standard.items():
        if value is None or key in OPTIONAL:
            continue
        other = variant.prices.__dict__.get(key)
        if other is None:
            return None
        shares |= _shares(value, other)
    if len(shares) != 1:
        return None
    share = shares.pop()
    return [share.numerator, share.denominator] if share <= 1 else None


def _shares(value: Any, other: Any) -> set[Fraction]:
    pairs = [(value, other)]
    if isinstance(value, types.TieredPrices) or isinstance(other, types.TieredPrices):
        if not isinstance(value, types.TieredPrices) or not isinstance(other, types.TieredPrices):
            return {Fraction(0), Fraction(1)}  # not one share
        pairs = [(value.base, other.base)]
        pairs += [
            (a.price, b.price) for a, b in zip(value.tiers, other.tiers, strict=True) if a.start == b.start
        ]
    return {Fraction(b) / Fraction(a) for a, b in pairs if a}


def _nano(price: Decimal) -> int:
    return _whole(Fraction(price) * NANO)


def _whole(amount: Fraction) -> int:
    """Rounded up; but some amounts carry the dust of binary fractions, such as 0.18000000000000002."""
    if amount < 0:
        raise ValueError(f"{float(amount)} is less than nothing")
    nearest = round(amount)
    return nearest if abs(amount - nearest) <= DUST else math.ceil(amount)


def count(text: str) -> int:
    """Models in a file's text."""
    return sum(len(one["models"]) for one in json.loads(text)["providers"].values())


def dated(text: str) -> str:
    """When its data were taken over."""
    return json.loads(text)["made"]


def main() -> int:
    """Write the file, or say whether it is what the installed data give."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only say whether the file is up to date")
    asked = parser.parse_args()
    before = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    same = bool(before) and json.loads(before)["version"] == version(PACKAGE)
    today = date.today().isoformat()  # noqa: DTZ011
    text = make(dated(before) if same else today)
    if asked.check:
        print("up to date" if text == before else "differs")
        return int(text != before)
    if count(text) < max(LEAST, SHRINK * count(before) if before else 0):
        print(f"only {count(text)} models; not written", file=sys.stderr)
        return 1
    FILE.write_text(text, encoding="utf-8")
    print(f"{FILE.name}: {count(text)} models, {len(text) // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
