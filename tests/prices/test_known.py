"""The known prices: that the file is what the script makes of its source, and how models are found in it."""

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from genai_prices import types
from genai_prices.data import providers
from genai_prices.data_snapshot import get_snapshot
from scripts import prices as script

from fleetgate.domain import Usage
from fleetgate.prices import known
from fleetgate.pricing import cost

TEXT = script.FILE.read_text(encoding="utf-8")
FILE = json.loads(TEXT)
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def at(*moment):
    return datetime(*moment, tzinfo=UTC).timestamp()


# --- the file -----------------------------------------------------------------------------------------


def test_the_script_gives_the_file():
    assert script.make(script.dated(TEXT)) == TEXT, "run scripts/prices.py"


def test_the_file_says_where_it_is_from():
    about = known.about()
    assert (about.source, about.version) == ("genai-prices", FILE["version"])
    assert about.origin == f"genai-prices {about.version} ({about.made})"
    made = datetime.combine(about.made, datetime.min.time(), UTC).timestamp()
    assert [about.age(made + days * 86_400) for days in (-1, 0, 0.9, 1, 400)] == [0, 0, 0, 1, 400]
    assert "Permission is hereby granted" in known.FILE.with_name("LICENSE.genai-prices").read_text()


def test_the_file_is_whole():
    assert script.count(TEXT) >= script.LEAST
    assert {"openai", "anthropic", "google", "mistral", "groq", "x-ai", "openrouter"} <= FILE[
        "providers"
    ].keys()
    for provider, rows in FILE["providers"].items():
        assert known._rows(provider) is not None  # its form is checked as it is read
        assert re.compile(rows["url"])
        for other in rows["also"]:
            assert other in FILE["providers"]


def test_amounts_are_whole_and_believable():
    for rows in FILE["providers"].values():
        for model in rows["models"]:
            for price in model["prices"]:
                for key, value in price.items():
                    if key in {"from", "hours", "tiers"}:
                        continue
                    assert type(value) is int
                    assert 0 <= value <= 10**16, (model["id"], key)
            for tier in (tier for price in model["prices"] for tier in price.get("tiers", ())):
                assert all(type(value) is int for value in tier.values())


def test_a_smaller_set_is_not_written(tmp_path, monkeypatch, capsys):
    file = tmp_path / "known.json"
    file.write_text(TEXT)
    monkeypatch.setattr(script, "FILE", file)
    monkeypatch.setattr(script, "providers", providers[:3])
    monkeypatch.setattr("sys.argv", ["prices.py"])
    assert script.main() == 1
    assert file.read_text() == TEXT
    assert "not written" in capsys.readouterr().err


def test_another_form_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "known.json"
    file.write_text(TEXT.replace('"form": 1', '"form": 2'))
    monkeypatch.setattr(known, "FILE", file)
    with pytest.raises(ValueError, match=r"known.json has form 2, not 1"):
        known.about()


# --- models -------------------------------------------------------------------------------------------


def test_every_model_is_found_as_the_source_finds_it():
    source = get_snapshot()
    for provider in providers:
        if provider.id not in FILE["providers"]:
            continue
        for model in provider.models:
            for text in (model.id, model.id.upper(), f"{model.id}-20251211"):
                try:
                    expected = source.find_provider_model(text, None, provider.id, None)[1].id
                except LookupError:
                    expected = None
                found = known._model(provider.id, text)
                assert (found[0].id if found else None) == expected, (provider.id, text)


def test_costs_are_what_the_source_says():
    """For prices of tokens without tiers by what it calls them: to the nano-dollar, rounded up."""
    when = NOON
    for provider in providers:
        if provider.id not in FILE["providers"]:
            continue
        for model in provider.models:
            price = known.lookup(provider.id, model.id, when.timestamp())
            if price is None or not price.by_tokens or price.input is None or price.output is None:
                continue
            if known._model(provider.id, model.id)[0].id != model.id:
                continue
            usage = types.Usage(input_tokens=300_000, output_tokens=7)
            told = model.calc_price(usage, provider, genai_request_timestamp=when).total_price
            ours = cost(price, Usage(300_000, 7))
            assert abs(Decimal(ours) - told * 10**9) <= 1, (provider.id, model.id)


@pytest.mark.parametrize(
    ("provider", "model", "input_usd"),
    [
        ("openai", "gpt-4o-mini", "0.15"),
        ("openai", "GPT-4o-mini", "0.15"),
        ("google", "models/gemini-2.5-flash", "0.3"),
        ("openrouter", "openai/gpt-oss-20b:free", "0"),
        ("azure", "gpt-4o-mini", "0.15"),
        ("openai", "a-model-of-tomorrow", None),
        ("openai", "", None),
        ("nobody", "gpt-4o-mini", None),
        # known, but not what an answer lets us count
        ("mistral", "mistral-ocr-latest", None),
        ("openai", "gpt-image-1", None),
    ],
)
def test_lookups(provider, model, input_usd):
    found = known.lookup(provider, model, NOON.timestamp())
    if input_usd is None:
        assert found is None
    else:
        assert found.input == int(Decimal(input_usd) * 10**9)
        assert found.origin == known.about().origin


def test_context_lengths():
    assert known.context_length("openai", "gpt-4o-mini") == 128_000
    assert known.context_length("openai", "a-model-of-tomorrow") is None


def test_addresses():
    assert known.provider_at("https://api.groq.com/openai/v1") == "groq"
    assert known.provider_at("https://openrouter.ai/api/v1") == "openrouter"
    assert known.provider_at("https://llm.example.net/v1") is None
    assert known.provider_at("http://127.0.0.1:9/api.openai.com") is None


# --- rules and conditions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "fitting", "others"),
    [
        ("a-1", ["a-1"], ["a-12", "b"]),
        ({"starts_with": "a-"}, ["a-", "a-1"], ["ba-1"]),
        ({"ends_with": "-1"}, ["a-1"], ["a-12"]),
        ({"contains": "a"}, ["bab"], ["bb"]),
        ({"regex": "^a.$"}, ["ab"], ["abc"]),
        (["a", {"starts_with": "b"}], ["a", "bc"], ["ac"]),
        ({"and": [{"starts_with": "a"}, {"ends_with": "z"}]}, ["az"], ["ay", "bz"]),
        ([["a"], ["b"]], ["b"], ["c"]),
    ],
)
def test_rules(rule, fitting, others):
    rows = known._Rows(known._Provider("", (known._Model("m", rule, ()),)), "")
    assert all(rows.find(text) is not None for text in fitting)
    assert all(rows.find(text) is None for text in others)


def test_an_unknown_rule_is_an_error():
    rows = known._Rows(known._Provider("", (known._Model("m", {"sounds_like": "a"}, ()),)), "")
    with pytest.raises(ValueError, match="unknown rule 'sounds_like'"):
        rows.find("a")


def test_the_first_rule_that_fits_counts():
    models = (
        known._Model("first", {"starts_with": "a-1"}, ()),
        known._Model("second", "a-1", ()),
        known._Model("third", ["b", {"contains": "c"}], ()),
        known._Model("fourth", "b", ()),
    )
    rows = known._Rows(known._Provider("", models), "")
    assert [rows.find(text).id for text in ("a-1", "b", "xcx")] == ["first", "third", "third"]


def one_of(monkeypatch, *prices):
    rows = known._Rows(known._Provider("", (known._Model("m", "m", prices, batch=(1, 2)),)), "somebody")
    monkeypatch.setattr(known, "_rows", lambda provider: rows if provider == "x" else None)
    return lambda *moment: known.lookup("x", "m", at(*moment))


def test_a_price_that_begins_on_a_day(monkeypatch):
    price = one_of(
        monkeypatch, known._Price(input=1, output=1), known._Price(from_=date(2026, 3, 1), input=2, output=2)
    )
    before, after = price(2026, 2, 28, 23, 59), price(2026, 3, 1)
    assert (before.input, before.until) == (1, at(2026, 3, 1))
    assert (after.input, after.until, after.batch) == (2, None, (1, 2))


def test_a_price_by_the_hour(monkeypatch):
    price = one_of(
        monkeypatch,
        known._Price(input=2, output=2),
        known._Price(hours=(16 * 60 + 30, 30), input=1, output=1),
    )
    day, night, morning = price(2026, 3, 1, 12), price(2026, 3, 1, 16, 30), price(2026, 3, 2, 0, 29, 59)
    assert (day.input, day.until) == (2, at(2026, 3, 1, 16, 30))
    assert (night.input, night.until) == (1, at(2026, 3, 2, 0, 30))
    assert (morning.input, morning.until) == (1, at(2026, 3, 2, 0, 30))
    assert price(2026, 3, 2, 0, 30).input == 2


def test_a_price_that_is_not_there(monkeypatch):
    assert one_of(monkeypatch, known._Price())(2026, 1, 1) is None
    assert (
        one_of(monkeypatch, known._Price(), known._Price(from_=date(2026, 3, 1), input=2, output=2))(
            2026, 1, 1
        )
        is None
    )
