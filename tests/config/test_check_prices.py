import pytest

from fleetgate.config.load import load


def findings(price, *, does="chat", extra=""):
    text = f"""\
providers:
  house:
    kind: openai
    url: https://llm.example.net/v1
    models:
      - {{name: m, does: [{does}], price: {price}}}
{extra}"""
    return [
        f"{one.severity} {one.line}:{one.column} {one.path.removeprefix('providers.house.models[0].')}: "
        f"{one.message}; {one.hint}"
        for one in load(text, {}).findings
    ]


@pytest.mark.parametrize(
    "price",
    [
        "{input: 1 USD/Mtok, output: 2 USD/ktok}",
        "{input: 1 USD/Mtok, output: 2 USD/Mtok, tiers: [{above: 200000, input: 2 USD/Mtok}], batch: 50%}",
        "{ceiling: 0.5 USD}",
        "{input: 1 USD/Mtok, ceiling: 0.5 USD}",
        "{image: 0.04 USD/image}",
        "{second: 0.006 USD/min}",
        "{second: 0.111 USD/h}",
        "{second: 0.0001 USD/s, character: 15 USD/Mchar, request: 0.01 USD}",
    ],
)
def test_prices_that_are_fine(price):
    assert findings(price) == []


@pytest.mark.parametrize(
    ("price", "found"),
    [
        (
            "{input: 1 USD/image, output: 2 USD/Mtok}",
            (
                "error 6:48 price.input: '1 USD/image' is the price of something else; "
                "write one such as 1.5 USD/Mtok"
            ),
        ),
        (
            "{image: 1 USD/Mtok}",
            "price.image: '1 USD/Mtok' is the price of something else; write one such as 0.04",
        ),
        ("{second: 1 USD/Mchar}", "price.second: '1 USD/Mchar' is the price of something else"),
        ("{character: 1 USD/s}", "price.character: '1 USD/s' is the price of something else"),
        ("{cached_input: 1 USD/min}", "price.cached_input: '1 USD/min' is the price of something else"),
        (
            "{input: 1 USD/Mtok, output: 1 USD/Mtok, tiers: [{above: 9, output: 1 USD/s}]}",
            "price.tiers[0].output: '1 USD/s' is the price of something else",
        ),
        ("{input: 1 USD/mile}", "price.input: unknown unit 'mile'"),
        ("{input: 1.5}", "price.input: 1.5 has no unit"),
        ("{}", "price: it states no price"),
        ("{batch: 50%}", "price: it states no price"),
        ("{request: 1 USD, batch: 150%}", "price.batch: is not at most 1"),
        (
            "{input: 1 USD/Mtok, output: 1 USD/Mtok, tiers: [{above: 9}, {above: 9}]}",
            "price.tiers[1]: a second tier above 9 tokens",
        ),
        ("{input: 1 USD/Mtok}", "warning 6:40 price: output has no price; add output, or a ceiling"),
        ("{output: 1 USD/Mtok}", "price: input has no price"),
        (
            "{input: 1 EUR/Mtok, output: 1 USD/Mtok}",
            "error 6:48 price.input: nobody says what one EUR is worth; write USD, or currency: {code: EUR",
        ),
    ],
)
def test_prices_with_something_wrong(price, found):
    (only,) = findings(price)
    assert found in only


def test_prices_of_providers_and_of_own_machines_are_checked_too():
    text = """\
providers: {house: {kind: openai, url: "https://llm.example.net/v1", price: {input: 1 USD/Mtok}}}
nodes: {box: {engines: [{kind: vllm, models: [{id: m, price: {input: 1 USD/Mtok}}]}]}}
"""
    assert [one.path for one in load(text, {}).findings if "output has no price" in one.message] == [
        "providers.house.price",
        "nodes.box.engines[0].models[0].price",
    ]


def test_embeddings_need_no_price_of_output():
    assert findings("{input: 1 USD/Mtok}", does="embed") == []


def test_another_currency_needs_what_it_is_worth():
    price = "{input: 1 EUR/Mtok, output: 1 USD/Mtok, request: 0.01 EUR}"
    assert findings(price, extra="currency: {code: EUR, rate: 1.08 USD}") == []
    for rate in ("1.08 EUR", "0 USD"):
        (found,) = findings("{ceiling: 1 USD}", extra=f"currency: {{code: EUR, rate: {rate}}}")
        assert "currency: the rate says what one of it is worth in dollars" in found
    (found,) = findings("{ceiling: 1 USD}", extra="currency: {code: USD, rate: 2 USD}")
    assert "a dollar is worth 1 USD" in found


@pytest.mark.parametrize(
    ("energy", "found"),
    [
        ("{price: 0.30 USD/kWh, hours: {22:00-06:00: 0.2 USD/kWh, 06:00-07:30: 0.1 USD}}", None),
        ("{price: 0.30 USD/kWh, zone: Europe/Berlin}", None),
        ("{price: 0.30 USD, hours: {00:00-24:00: 0.2 USD}}", None),
        ("{price: 0.30 USD/h}", "energy.price: '0.30 USD/h' cannot be read"),
        (
            "{price: 1 USD, hours: {night: 0.2 USD}}",
            "'night' is no time of day; write one such as 22:00-06:00",
        ),
        ("{price: 1 USD, hours: {06:00-06:00: 0.2 USD}}", "'06:00-06:00' is no time of day"),
        ("{price: 1 USD, hours: {06:00-24:30: 0.2 USD}}", "'06:00-24:30' is no time of day"),
        (
            "{price: 1 USD, hours: {22:00-06:00: 0.2 USD, 05:00-07:00: 0.1 USD}}",
            "energy: the hours 22:00-06:00 and 05:00-07:00 overlap; let one end where the other begins",
        ),
        ("{price: 1 USD, zone: Mars/Olympus}", "energy.zone: 'Mars/Olympus' is no time zone"),
    ],
)
def test_electricity(energy, found):
    said = findings("{ceiling: 1 USD}", extra=f"energy: {energy}")
    assert said == [] if found is None else found in " ".join(said)
