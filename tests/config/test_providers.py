"""The table of providers: what every row has, and what follows from a row."""

import dataclasses
import re
from types import MappingProxyType

import pytest

from fleetgate.config import check_fleet, providers
from fleetgate.config.load import load
from fleetgate.config.providers import CHATS, PROVIDERS, base_url, dialects_at, own_parts, row_name
from fleetgate.config.schema import Provider

EVERYBODYS = {name: row for name, row in PROVIDERS.items() if row.url}
OWN = {name: row for name, row in PROVIDERS.items() if not row.url}


def findings(tmp_path, text):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    environ = {row.key: "a-key-of-this-provider" for row in PROVIDERS.values()}
    return [one.render().partition(": ")[2] for one in load(file, environ).findings]


@pytest.mark.parametrize("name", PROVIDERS)
def test_rows_are_complete(name):
    row = PROVIDERS[name]
    assert re.fullmatch(r"[A-Z0-9_]+", row.key)
    assert bool(row.url) != bool(row.form)
    for url in (row.url or row.form, *row.dialects.values()):
        assert re.fullmatch(r"https://[\w.{}-]+(/[\w.-]+)*", url)
    assert row.serves >= CHATS
    assert row.paths.keys() <= row.serves
    assert row.dialects.keys() <= {"responses", "anthropic"}
    assert row.only.keys() <= row.dialects.keys()
    for pattern in row.only.values():
        re.compile(pattern)


def test_what_the_design_promises():
    offered = {
        dialect: {name for name, row in PROVIDERS.items() if dialect in row.dialects}
        for dialect in ("responses", "anthropic")
    }
    assert offered["responses"] == {
        *("openai", "azure", "xai", "groq", "openrouter", "fireworks", "moonshot", "minimax", "bedrock")
    }
    assert offered["anthropic"] == {
        *("deepseek", "azure", "openrouter", "fireworks", "moonshot", "minimax", "bedrock")
    }
    assert PROVIDERS["anthropic"].speaks == "anthropic"


def test_where_a_provider_is():
    assert base_url("openai", Provider()) == PROVIDERS["openai"].url
    assert base_url("work", Provider(kind="groq")) == PROVIDERS["groq"].url
    assert base_url("openai", Provider(url="http://10.0.0.1:1/v1/")) == "http://10.0.0.1:1/v1"
    assert base_url("work", Provider()) is None
    assert base_url("azure", Provider()) is None


def test_which_row_it_has():
    assert row_name("groq", Provider()) == row_name("work", Provider(kind="groq")) == "groq"
    assert row_name("work", Provider()) == row_name("openai", Provider(kind="openai", url="http://x")) == ""


@pytest.mark.parametrize(
    ("name", "url", "expected"),
    [
        ("openai", None, {"responses": "https://api.openai.com/v1"}),
        ("mistral", None, {}),
        ("deepseek", None, {"anthropic": "https://api.deepseek.com/anthropic/v1"}),
        ("xai", "https://llm.example.net/v1/", {"responses": "https://llm.example.net/v1"}),
        ("deepseek", "https://llm.example.net/v1", {}),
        (
            "azure",
            "https://house.openai.azure.com/openai/v1",
            {
                "responses": "https://house.openai.azure.com/openai/v1",
                "anthropic": "https://house.services.ai.azure.com/anthropic/v1",
            },
        ),
        ("azure", "https://llm.example.net/openai/v1", {}),
        (
            "bedrock",
            "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1",
            {
                "responses": "https://bedrock-mantle.eu-west-1.api.aws/v1",
                "anthropic": "https://bedrock-mantle.eu-west-1.api.aws/anthropic/v1",
            },
        ),
    ],
)
def test_where_other_dialects_are_spoken(name, url, expected):
    assert dialects_at(name, Provider(url=url)) == expected


def test_nothing_is_known_of_anybody():
    assert dialects_at("openai", Provider(kind="openai", url="https://llm.example.net/v1")) == {}
    assert dialects_at("work", Provider(url="https://llm.example.net/v1")) == {}
    assert own_parts("https://azure.com.example.net") is None


@pytest.mark.parametrize("name", OWN)
def test_an_address_of_ones_own_has_to_be_written(tmp_path, name):
    models = "[{id: m, price: {request: 0 USD}}]"
    text = f"providers:\n  {name}: {{key: '${{{OWN[name].key}}}', models: {models}}}\n"
    (told,) = findings(tmp_path, text)
    own = re.search(r"{(\w+)}", OWN[name].form)[1]
    assert told == (
        f"providers.{name}: everybody's address of {name} is another; "
        f"write url: {OWN[name].form} with your own {own}"
    )


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        (
            "bedrock: {url: 'https://bedrock-runtime.{region}.amazonaws.com/openai/v1'",
            "providers.bedrock.url: the address has braces in it; write your own in place of the braces",
        ),
        (
            "azure: {url: 'https://house.openai.azure.com/'",
            "providers.azure.url: the address has no path; write the whole address, such as https://{reso",
        ),
        ("gorq: {", "providers.gorq: 'gorq' is no known provider; did you mean groq?"),
    ],
)
def test_a_mistake_in_an_address_is_said(tmp_path, provider, told):
    comma = "" if provider.endswith("{") else ", "
    models = "models: [{id: m, price: {request: 0 USD}}]"
    found = findings(tmp_path, f"providers:\n  {provider}{comma}key: '${{K}}', {models}}}\n")
    assert found[0].startswith(told)


@pytest.mark.parametrize("name", [name for name, row in PROVIDERS.items() if not row.lists])
def test_without_a_list_models_have_to_be_written(tmp_path, name):
    url = PROVIDERS[name].form.replace("{resource}", "house").replace("{region}", "eu-west-1")
    more = f", url: '{url}'" if url else ""
    text = f"providers:\n  {name}: {{key: '${{{PROVIDERS[name].key}}}'{more}}}\n"
    (told,) = findings(tmp_path, text)
    assert (
        told == f"providers.{name}: {name} has no list of its models; write models: with those that you use"
    )


def test_a_new_row_is_enough(tmp_path, monkeypatch):
    row = dataclasses.replace(
        PROVIDERS["moonshot"], url="https://api.newcomer.example/v1", key="NEWCOMER_API_KEY"
    )
    rows = MappingProxyType({**PROVIDERS, "newcomer": row})
    monkeypatch.setattr(providers, "PROVIDERS", rows)
    monkeypatch.setattr(check_fleet, "PROVIDERS", rows)
    file = tmp_path / "c.yaml"
    file.write_text("providers:\n  newcomer: {key: '${NEWCOMER_API_KEY}'}\n")
    loaded = load(file, {"NEWCOMER_API_KEY": "a-key-of-the-newcomer"})
    assert loaded.findings == ()
    assert base_url("newcomer", loaded.settings.providers["newcomer"]) == row.url
