"""Models that nobody knows the price of are told of before anybody asks them."""

from fleetgate.config.load import load
from fleetgate.prices.check import unpriced

FILE = """
ledger: {unpriced: %s}
providers:
  openai: {key: sk-x, models: [{id: gpt-4o-mini}]}
  reseller:
    kind: openai
    url: "https://llm.example.net/v1"
    key: sk-y
    models: [{id: big}, {id: bigger, price: {ceiling: 0.05 USD}}]
"""


def texts(how: str) -> list[str]:
    loaded = load(FILE % how, {}, further=unpriced)
    assert loaded.settings is not None
    return [one.render() for one in loaded.findings if "costs" in one.render()]


def test_a_written_model_without_a_price_is_a_warning_at_its_place() -> None:
    (found,) = texts("refuse")
    assert found.startswith("<text>:9:14: providers.reseller.models[0]: nobody knows what reseller/big costs")
    assert "price" in found.partition(";")[2]


def test_it_is_none_where_such_models_are_let_through() -> None:
    assert texts("let_through") == []
