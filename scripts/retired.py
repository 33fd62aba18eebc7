"""Take over newer days of retirement into src/fleetgate/prices/retired.json.

    .venv/bin/python scripts/retired.py FILE VERSION

FILE is `model_prices_and_context_window_backup.json` out of a wheel of LiteLLM (MIT), VERSION that wheel's
version. Only facts are taken: id, provider, day. Rows from the vendors' own pages stay as they are, and so do
successors, which are written by hand: a day of the list that differs from a vendor's is shown. The form is
`fleetgate.prices.retired`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import date
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).resolve().parent.parent / "src" / "fleetgate" / "prices" / "retired.json"
LIST: Final = "litellm"
PROVIDERS: Final = {
    **{name: name for name in ("openai", "anthropic", "gemini", "mistral", "groq", "xai", "deepseek")},
    "moonshot": "moonshot",
    "minimax": "minimax",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "azure": "azure",
    "azure_ai": "azure",
    "bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "bedrock_mantle": "bedrock",
}
BY_REGION: Final = frozenset({"azure", "bedrock"})
"""their ids may have places in front, which are no part of what is asked for"""
SIZES: Final = re.compile(r"\d+-x-\d+|^(?:low|medium|high|standard|hd|max-x-max)/")
DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")

Rows = dict[str, dict[str, list[Any]]]


def listed(found: dict[str, Any]) -> Rows:
    """Provider -> model -> its row, as the list has it; the earliest day of several."""
    rows: Rows = {}
    for key, entry in sorted(found.items()):
        provider = PROVIDERS.get(entry.get("litellm_provider", "")) if isinstance(entry, dict) else None
        day = entry.get("deprecation_date") if provider else None
        model = _model(key, provider) if provider and day and DAY.fullmatch(day) else ""
        if provider and model:
            of = rows.setdefault(provider, {})
            of[model] = [min(day, of[model][0]) if model in of else day, None, LIST]
    return rows


def _model(key: str, provider: str) -> str:
    """What the provider itself calls it; empty: it is no model of its own."""
    parts = key.split("/")
    if parts[0] in PROVIDERS:
        parts = parts[1:]
    model = "/".join(parts)
    if SIZES.search(key) or SIZES.search(model) or (provider in BY_REGION and len(parts) != 1):
        return ""
    if provider == "fireworks" and not model.startswith("accounts/"):
        return f"accounts/fireworks/models/{model}"
    return model


def merged(old: Rows, new: Rows) -> Rows:
    """The newer list below what vendors say."""
    rows: Rows = {provider: dict(of) for provider, of in new.items()}
    for provider, of in old.items():
        for model, row in of.items():
            known = rows.setdefault(provider, {}).get(model)
            if row[2] != LIST:
                if known is not None and known[0] != row[0]:
                    print(
                        f"{provider}/{model}: {known[0]} in the list, {row[0]} by {row[2]}", file=sys.stderr
                    )
                rows[provider][model] = row
            elif known is not None:
                known[1] = row[1]
    return rows


def text(made: str, sources: dict[str, str], rows: Rows) -> str:
    """The file, one line for each model, so that changes can be read."""
    head = {"form": 1, "made": made, "sources": sources}
    lines = ["{"]
    for key, value in head.items():
        lines.append(f"  {json.dumps(key)}: {json.dumps(value, indent=2)},".replace("\n", "\n  "))
    of = [
        f"    {json.dumps(provider)}: {{\n"
        + ",\n".join(
            f"      {json.dumps(model)}: {json.dumps(row)}" for model, row in sorted(rows[provider].items())
        )
        + "\n    }"
        for provider in sorted(rows)
    ]
    return "\n".join([*lines, '  "providers": {', ",\n".join(of), "  }", "}"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("version")
    given = parser.parse_args()
    old = json.loads(FILE.read_text("utf-8"))
    made = date.today().isoformat()  # noqa: DTZ011  (a day for people)
    new = listed(json.loads(given.file.read_text("utf-8")))
    sources = old["sources"] | {
        LIST: f"litellm {given.version}, its list of models, deprecation_date ({made})"
    }
    rows = merged(old["providers"], new)
    FILE.write_text(text(made, sources, rows), "utf-8")
    print(f"{FILE.name}: {sum(map(len, rows.values()))} models")


if __name__ == "__main__":
    main()
