import pytest

from fleetgate.config.load import load

MODEL = "{name: m, price: {input: 1 %s/Mtok, output: 2 USD/Mtok, tiers: [{above: 9, output: 2 %s/Mtok}]}}"
HOUSE = """
nodes: {box: {address: box, engines: [{kind: ollama, models: [{name: m}]}]}}
providers: {groq: {kind: groq, keys: ["${K}"], models: [{name: x}]}}
roles: {chat: {use: [m]}}
aliases: {talk: chat}
"""


def findings(text):
    found = load(HOUSE + text, {"K": "gsk_0123456789abcdef"}).findings
    return [f"{one.severity} {one.path}: {one.message}; {one.hint}" for one in found]


@pytest.mark.parametrize(
    "text",
    [
        "limits: [{money: 10 USD}]",
        "limits: [{money: 10 EUR, scope: {role: chat}}]\ncurrency: {code: EUR, rate: 1.08 USD}",
        "limits: [{requests: 1, scope: {role: talk, node: box}}, {requests: 1, scope: {provider: 'g*'}}]",
        "limits: [{requests: 1, scope: {account: 'groq/*'}}, {requests: 1, scope: {account: '*'}}]",
        "limits: [{requests: 1, scope: {key: anybody, model: anything}}]",
        "energy: {price: 0.30 EUR}\ncurrency: {code: EUR, rate: 1.08 USD}",
    ],
)
def test_nothing_to_say(text):
    assert findings(text) == []


def test_amounts_in_a_currency_that_is_worth_nothing_known():
    text = (
        "limits: [{money: 10 USD}, {money: 10 EUR}]\nenergy: {price: 1 USD, hours: {22:00-06:00: 0.2 CHF}}\n"
    )
    first, second = findings(text + "currency: {code: GBP, rate: 1.3 USD}")
    assert first.startswith(
        "error limits[1].money: nobody says what one EUR is worth; write USD, or currency"
    )
    assert second.startswith("error energy.hours.22:00-06:00: nobody says what one CHF is worth; write USD")


def test_shares_of_budgets_are_told_of_and_nothing_else_is_yet():
    budgets = "{when: budget, at: 80%}, {when: budget, at: most}, {when: budget}"
    assert findings(f"alerts: [{budgets}, {{when: node_missing}}]") == [
        "error alerts[1]: 'most' is no share of a budget; write one such as at: 80%",
        "error alerts[2]: None is no share of a budget; write one such as at: 80%",
        "note alerts[3]: not yet in effect; it is accepted and ignored",
    ]


def test_prices_too():
    text = HOUSE.replace("{name: x}", MODEL % ("EUR", "EUR"))
    assert [one.path for one in load(text, {"K": "gsk_0123456789abcdef"}).findings] == [
        "providers.groq.models[0].price.input",
        "providers.groq.models[0].price.tiers[0].output",
    ]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("provider: grok", "error limits[0].scope.provider: no provider is called grok; did you mean groq?"),
        ("account: openai/1", "error limits[0].scope.account: no provider is called openai; name a provider"),
        ("node: bax", "error limits[0].scope.node: no node is called bax; did you mean box?"),
        ("role: chatt", "warning limits[0].scope.role: no role is called chatt; did you mean chat?"),
    ],
)
def test_a_limit_for_what_does_not_exist(scope, expected):
    (found,) = findings(f"limits: [{{requests: 1, scope: {{{scope}}}}}]")
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("limit", "part"),
    [
        ("money: 1 USD, per: 5h", "a calendar has no windows of 5h"),
        ("requests: 1, per: 5h, window: calendar", "a calendar has no windows of 5h"),
        ("requests: 1, per: 5h, reset: '00:00'", "a calendar has no windows of 5h"),
        ("requests: 1, per: day, window: rolling, reset: '00:00'", "a rolling window has no `reset`"),
        ("requests: 1, per: minute, reset: '00:00'", "a minute has no `reset`"),
        ("requests: 1, per: day, reset: '00:00 Europe/Berlin', zone: UTC", "different time zones"),
        ("requests: 1, per: day, reset: '00:00 Mars/Olympus'", "is no time zone"),
        ("requests: 1, per: day, reset: '24:00'", "is not a time of day"),
        ("money: 1 USD, window: rolling", "money and months have calendar windows"),
        ("per: day", "it bounds nothing"),
    ],
)
def test_windows_that_cannot_be(limit, part):
    (found,) = findings(f"limits: [{{{limit}}}]")
    assert part in found
