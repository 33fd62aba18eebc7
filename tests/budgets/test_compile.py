import pytest

from fleetgate.budgets.compile import DATABASE, FILE, of_entry
from fleetgate.budgets.compile import compile as compile_limits
from fleetgate.config.load import load
from fleetgate.config.money import Limit as Entry
from fleetgate.limits import QUOTA, Measure, Scope, Then
from fleetgate.windows import Calendar, Unit


def compiled(text):
    loaded = load(text, {"K": "gsk_0123456789abcdef"})
    assert loaded.settings is not None, loaded.findings
    return compile_limits(loaded.settings)


def one(text):
    (limit,) = compiled(f"limits: [{text}]")
    return limit


def test_each_measure_of_an_entry_is_a_limit_of_its_own():
    requests, tokens, parallel, money = compiled(
        "limits: [{scope: {model: 'a*', key: ci}, requests: 60, tokens: 9, parallel: 4, money: 5 USD,"
        " then: warn, name: night}]"
    )
    assert {one.name for one in (requests, tokens, parallel, money)} == {"night"}
    assert {one.scope for one in (requests, tokens, parallel, money)} == {
        Scope((("key", "ci"), ("model", "a*")))
    }
    assert {(one.then, one.origin) for one in (requests, money)} == {(Then.WARN, FILE)}
    assert (requests.measure, requests.ceiling, requests.period, requests.burst) == ("requests", 60, 60.0, 60)
    assert (tokens.measure, tokens.ceiling, tokens.calendar) == (Measure.TOKENS, 9, None)
    assert (parallel.ceiling, parallel.period, parallel.burst, parallel.calendar) == (4, None, None, None)
    assert (money.ceiling, money.calendar, money.burst) == (5 * 10**9, Calendar(Unit.MONTH), None)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("requests: 1", 60.0),
        ("requests: 1, per: second", 1.0),
        ("requests: 1, per: hour", 3_600.0),
        ("requests: 1, per: day", Calendar(Unit.DAY)),
        ("requests: 1, per: day, window: rolling", 86_400.0),
        ("requests: 1, per: month, zone: Europe/Berlin", Calendar(Unit.MONTH, "Europe/Berlin")),
        ("requests: 1, per: 5h", 18_000.0),
        ("requests: 1, per: 1d", 86_400.0),
        ("requests: 1, per: minute, window: calendar, zone: Asia/Kolkata", Calendar(Unit.MINUTE)),
        ("requests: 1, per: hour, reset: '07:30'", Calendar(Unit.HOUR, minute=30)),
        (
            "tokens: 1, per: day, reset: '07:05 America/Los_Angeles'",
            Calendar(Unit.DAY, "America/Los_Angeles", 7, 5),
        ),
        ("tokens: 1, per: day, reset: '00:00', zone: Asia/Tokyo", Calendar(Unit.DAY, "Asia/Tokyo")),
        ("money: 1 USD, per: hour", Calendar(Unit.HOUR)),
    ],
)
def test_windows(text, window):
    limit = one(f"{{{text}}}")
    assert (limit.calendar or limit.period) == window
    assert limit.scope == Scope()


def test_what_may_come_at_once():
    assert [one(f"{{requests: 60{more}}}").at_once for more in ("", ", burst: 5", ", burst: 90")] == [
        60,
        5,
        90,
    ]
    assert [one(f"{{requests: 60{more}}}").rate for more in ("", ", burst: 5", ", burst: 90")] == [60, 60, 60]
    assert one("{requests: 60, burst: 5}").largest == 5
    assert one("{requests: 0, burst: 5}").at_once == 0


def test_money_in_another_currency_is_rounded_down():
    text = "limits: [{money: 0.000000001 EUR}, {money: 100 EUR, per: day}]\n"
    text += "currency: {code: EUR, rate: 1.08 USD}"
    assert [limit.ceiling for limit in compiled(text)] == [1, 108 * 10**9]
    with pytest.raises(ValueError, match="nobody said what one CHF is worth"):
        of_entry(Entry.model_validate({"money": "1 CHF"}), None)


def test_ids_stay_when_a_ceiling_changes_and_are_the_same_over_the_api():
    text = "scope: {key: ci}, per: day"
    low, high = one(f"{{{text}, requests: 10}}"), one(f"{{{text}, requests: 20, then: warn}}")
    (stored,) = of_entry(
        Entry.model_validate({"scope": {"key": "ci"}, "per": "day", "requests": 7}), None, origin=DATABASE
    )
    assert low.id == high.id == stored.id
    assert stored.origin == DATABASE
    assert one(f"{{{text}, requests: 10, name: x}}").id != low.id


def test_a_limit_that_warns_below_one_that_refuses():
    warns, refuses, other = compiled(
        "limits: [{money: 80 USD, then: warn}, {money: 100 USD}, {money: 1 USD, per: day}]"
    )
    assert refuses.id == f"{warns.id}-2"
    assert other.id not in (warns.id, refuses.id)


def quotas(text):
    return compiled(
        f"providers: {{groq: {{kind: groq, key: '${{K}}', models: [{{name: x}}], limits: [{text}]}}}}"
    )


def test_a_quota_counts_for_the_provider_as_a_whole():
    (limit,) = quotas("{requests: 30}")
    assert (limit.scope, limit.origin, limit.then) == (Scope((("provider", "groq"),)), QUOTA, Then.REFUSE)
    assert (limit.ceiling, limit.burst, limit.rate, limit.at_once, limit.largest) == (30, 3, 27, 3, 30)
    assert limit.words == "30 requests per minute for provider groq"
    (ours,) = compiled(
        "limits: [{requests: 30, scope: {provider: groq}}]\n"
        "providers: {groq: {kind: groq, key: '${K}', models: [{name: x}]}}"
    )
    assert ours.id != limit.id


def test_quotas_for_each_key_and_each_model():
    (by_key,) = quotas("{requests: 1000, per: day, per_key: true, reset: '00:00 America/Los_Angeles'}")
    subject = {"provider": "groq", "account": "groq/2", "model": "llama-3"}
    assert by_key.scope.matches(subject)
    assert not by_key.scope.matches({**subject, "provider": "other", "account": "other/2"})
    assert by_key.counter(subject) == f"{by_key.id}@groq/2"
    assert (by_key.burst, by_key.calendar) == (None, Calendar(Unit.DAY, "America/Los_Angeles"))

    limits = quotas("{tokens: 6000, models: [llama-3, 'qwen*', '*'], per_key: true}")
    assert [limit.counter(subject).partition("@")[2] for limit in limits] == [
        "groq/2",
        "groq/2,llama-3",
        "groq/2,llama-3",
    ]
    assert [limit.scope.matches(subject) for limit in limits] == [True, False, True]
    assert len({limit.id for limit in limits}) == 3


def test_a_quota_is_spread_over_calendar_windows_only():
    day, minute = quotas("{requests: 1000, per: day, spread: true}, {requests: 10, spread: true}")
    assert (day.spread, minute.spread) == (True, False)


@pytest.mark.parametrize(
    ("ceiling", "burst", "rate"), [(1, 1, 1), (2, 1, 1), (9, 1, 8), (100, 10, 90), (0, 0, 1)]
)
def test_small_quotas(ceiling, burst, rate):
    (limit,) = quotas(f"{{requests: {ceiling}}}")
    assert (limit.at_once, limit.rate) == (burst, rate)
    (written,) = quotas(f"{{requests: {ceiling}, burst: 50}}")
    assert written.at_once <= ceiling
