"""Models that providers retire: the data, and what is made of them."""

import re
from datetime import UTC, datetime

import pytest

from fleetgate.config.load import load
from fleetgate.config.providers import PROVIDERS
from fleetgate.domain import SOON, Retirement
from fleetgate.litellm_config import convert
from fleetgate.prices import retired
from fleetgate.prices.check import of_models, retiring

DAY = 86_400.0


def unix(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOW = unix("2026-11-21")


def test_every_row_is_of_a_known_provider_and_whole():
    rows = list(retired.every())
    assert len(rows) > 300
    assert {provider for provider, _, _ in rows} <= PROVIDERS.keys()
    for provider, model, found in rows:
        assert re.fullmatch(r"\S+", model), model
        assert unix("2023-01-01") < found.at < unix("2030-01-01")
        assert found.source
        after = retired.lookup(provider, found.successor) if found.successor else None
        assert after is None or after.at > found.at, (
            f"{model} leads to {found.successor}, which is gone before"
        )


def test_a_model_is_found_by_its_id():
    found = retired.lookup("openai", "gpt-4")
    assert (found.day, found.successor) == ("2026-10-23", "gpt-5.6-sol")
    assert retired.lookup("openai", "GPT-4") == found
    assert retired.lookup("gemini", "models/gemini-2.0-flash") == retired.lookup("gemini", "gemini-2.0-flash")
    assert retired.lookup("openai", "ft:gpt-4o-2024-08-06:house::abc").day == "2027-01-14"
    assert retired.lookup("together", "qwen/qwen3-vl-8b-instruct") is not None
    assert retired.lookup("openai", "gpt-4-of-our-own") is None
    assert retired.lookup("somebody", "gpt-4") is None
    assert retired.lookup("", "gpt-4") is None


def test_a_successor_that_went_before_leads_on():
    assert retired.lookup("groq", "llama-3.3-70b-versatile").successor == "openai/gpt-oss-120b"
    assert retired.lookup("openai", "gpt-3.5-turbo-0613").successor == "gpt-3.5-turbo", (
        "it was there for longer"
    )


def test_words():
    one = Retirement(unix("2026-12-11"), "gpt-5.6-sol")
    assert one.text(NOW) == "it is retired on 2026-12-11; use gpt-5.6-sol"
    assert one.text(one.at) == "it was retired on 2026-12-11; use gpt-5.6-sol"
    assert Retirement(one.at).text(NOW) == "it is retired on 2026-12-11"
    assert one.near(one.at - SOON)
    assert not one.near(one.at - SOON - 1)


FILE = """
providers:
  openai: {key: "${K}", models: [{id: gpt-5, price: {request: 0 USD}}, {id: gpt-5.1}, {id: gpt-9}]}
  anthropic: {key: "${K}"}
  reseller:
    {kind: openai, url: "https://llm.example.net/v1", key: "${K}", models: [{id: gpt-4}]}
aliases: {old: claude-3-opus-20240229}
roles:
  r: {use: [anthropic/claude-2.1, anthropic/claude-new, openai/gpt-5]}
"""


def findings(tmp_path, text, when=NOW, name="c.yaml"):
    file = tmp_path / name
    file.write_text(text)
    loaded = load(file, {"K": "a-key-of-this-house"}, convert=convert, further=of_models(lambda: when))
    return [
        (one.severity, one.render().partition(".yaml:")[2])
        for one in loaded.findings
        if "retired on" in one.message
    ]


def test_check_warns_with_place_day_and_successor(tmp_path):
    told = {re.sub(r"^[\d:]+: ", "", text): severity for severity, text in findings(tmp_path, FILE)}
    assert told == {
        "providers.openai.models[0]: openai/gpt-5 will be retired on 2026-12-11; use gpt-5.6-sol": "warning",
        "providers.openai.models[1]: openai/gpt-5.1 will be retired on 2027-04-01; "
        "choose another from its provider's list": "note",
        "roles.r.use[0]: anthropic/claude-2.1 was retired on 2025-07-21; use claude-sonnet-4-6": "warning",
        "aliases.old: claude-3-opus-20240229 was retired on 2026-01-05; use claude-opus-4-8": "warning",
    }
    assert findings(tmp_path, FILE)[0][1].startswith("3:34: ")


def test_it_depends_on_the_day(tmp_path):
    severities = [severity for severity, _ in findings(tmp_path, FILE, when=unix("2025-01-01"))]
    assert severities == ["note"] * 4


def test_a_file_of_litellm_is_warned_of_too(tmp_path):
    text = (
        "model_list:\n  - {model_name: chat, litellm_params: {model: openai/gpt-4, api_key: os.environ/K}}\n"
    )
    ((severity, told),) = findings(tmp_path, text)
    assert severity == "warning"
    assert told.startswith("2:")
    assert told.endswith("openai/gpt-4 was retired on 2026-10-23; use gpt-5.6-sol")


def test_nothing_is_said_of_others(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("nodes: {box: {engines: [{kind: ollama, models: [{name: gpt-4}]}]}}\n")
    loaded = load(file, {})
    assert list(retiring(loaded.settings, loaded.document.positions, NOW)) == []


@pytest.mark.parametrize("form", [0, 2])
def test_another_form_is_refused(tmp_path, monkeypatch, form):
    file = tmp_path / "retired.json"
    file.write_text(f'{{"form": {form}, "made": "2026-11-21", "sources": {{}}, "providers": {{}}}}')
    monkeypatch.setattr(retired, "FILE", file)
    retired._file.cache_clear()
    with pytest.raises(ValueError, match=r"retired.json has form"):
        retired.lookup("openai", "m")
    retired._file.cache_clear()
