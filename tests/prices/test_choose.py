from datetime import UTC, datetime

import pytest

from fleetgate.config.money import Currency
from fleetgate.config.providers import PROVIDERS
from fleetgate.config.schema import ModelEntry, Provider
from fleetgate.prices import known
from fleetgate.prices.choose import IDS, data_id, price_for

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()


def provider(**settings):
    return Provider.model_validate(settings)


def entry(**price):
    return ModelEntry.model_validate({"id": "m", "price": price})


def test_every_provider_we_know_has_prices():
    assert set(IDS) == set(PROVIDERS)
    assert all(known._rows(there) is not None for there in IDS.values())


@pytest.mark.parametrize(
    ("name", "settings", "there"),
    [
        ("openai", {}, "openai"),
        ("gemini", {}, "google"),
        ("xai", {}, "x-ai"),
        ("work", {"kind": "anthropic"}, "anthropic"),
        ("groq", {"url": "https://proxy.example.net/v1"}, "groq"),
        ("work", {"kind": "openai", "url": "https://api.groq.com/openai/v1"}, "groq"),
        ("work", {"url": "https://api.cerebras.ai/v1"}, "cerebras"),
        ("reseller", {"kind": "openai", "url": "https://llm.example.net/v1"}, None),
        ("openai", {"url": "http://127.0.0.1:9/v1"}, None),
        ("reseller", {}, None),
    ],
)
def test_whose_prices_apply(name, settings, there):
    assert data_id(name, provider(**settings)) == there


def test_the_file_comes_first():
    own = price_for(
        "openai", provider(), entry(input="7 USD/Mtok", output="8 USD/Mtok"), "gpt-4o-mini", None, NOW
    )
    assert (own.input, own.cached_input, own.origin) == (7_000_000_000, None, "file")


def test_else_what_is_known():
    found = price_for("openai", provider(), ModelEntry(id="gpt-4o-mini"), "gpt-4o-mini", None, NOW)
    assert found == price_for("openai", provider(), None, "gpt-4o-mini", None, NOW)
    assert (found.input, found.origin) == (150_000_000, known.about().origin)


def test_else_nobody_knows():
    reseller = provider(kind="openai", url="https://llm.example.net/v1")
    assert price_for("reseller", reseller, None, "gpt-4o-mini", None, NOW) is None
    assert price_for("openai", provider(), None, "a-model-of-tomorrow", None, NOW) is None


def test_in_the_currency_of_the_file():
    euro = Currency.model_validate({"code": "EUR", "rate": "1.08 USD"})
    assert price_for("x", provider(), entry(ceiling="1 EUR"), "m", euro, NOW).ceiling == 1_080_000_000
