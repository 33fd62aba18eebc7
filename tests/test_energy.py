from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.config import money
from fleetgate.energy import energy, energy_cost, tariff_of

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = {"price": "0.30 USD/kWh", "hours": {"22:00-06:00": "0.20 USD/kWh"}, "zone": "Europe/Berlin"}


def tariff(currency=None, **settings):
    return tariff_of(money.EnergyPrice.model_validate(settings), currency)


@pytest.mark.parametrize(
    ("busy", "idle", "seconds", "in_flight", "micro_watt_hours"),
    [
        (450, 0, 3_600, 1, 450_000_000),
        (450, 60, 3_600, 1, 390_000_000),
        (450, 60, 3_600, 3, 130_000_000),
        (450, 60, 1, 1, 108_334),
        (0.001, 0, 0.0036, 1, 1),
        (450, 60, 0, 1, 0),
        (450, 60, -1, 1, 0),
        (60, 450, 10, 1, 0),
        (450, 60, 3_600, 0, 390_000_000),
    ],
)
def test_an_attempt_took_what_it_added_shared_with_the_others(
    busy, idle, seconds, in_flight, micro_watt_hours
):
    assert energy(busy, idle, seconds, in_flight) == micro_watt_hours


@given(st.floats(0, 5_000), st.floats(0, 5_000), st.floats(0, 100_000), st.integers(1, 64))
def test_shares_are_never_less_than_the_whole(busy, idle, seconds, in_flight):
    alone, share = energy(busy, idle, seconds, 1), energy(busy, idle, seconds, in_flight)
    assert 0 <= alone <= share * in_flight < alone + in_flight + 1


def test_what_it_costs():
    flat = tariff(price="0.30 USD/kWh")
    assert energy_cost(1_000_000_000, flat, 0.0) == 300_000_000
    assert energy_cost(450_000_000, flat, 0.0) == 135_000_000
    assert energy_cost(1, flat, 0.0) == 1
    assert energy_cost(0, flat, 0.0) == 0


def test_in_another_currency():
    euro = money.Currency.model_validate({"code": "EUR", "rate": "1.08 USD"})
    found = tariff(euro, price="0.30 EUR/kWh", hours={"00:00-24:00": "0.20 EUR"})
    assert (found.price, found.at(0.0)) == (324_000_000, 216_000_000)
    with pytest.raises(ValueError, match="no rate is known for EUR"):
        tariff(price="0.30 EUR/kWh")


@pytest.mark.parametrize(
    ("local", "nano"),
    [
        (datetime(2026, 6, 1, 21, 59, 59, tzinfo=BERLIN), 300_000_000),
        (datetime(2026, 6, 1, 22, 0, tzinfo=BERLIN), 200_000_000),
        (datetime(2026, 6, 1, 23, 59, tzinfo=BERLIN), 200_000_000),
        (datetime(2026, 6, 2, 0, 0, tzinfo=BERLIN), 200_000_000),
        (datetime(2026, 6, 2, 5, 59, 59, tzinfo=BERLIN), 200_000_000),
        (datetime(2026, 6, 2, 6, 0, tzinfo=BERLIN), 300_000_000),
        # summer time ends and begins in the night: the clock on the wall counts
        (datetime(2026, 10, 25, 3, 59, tzinfo=UTC), 200_000_000),
        (datetime(2026, 10, 25, 4, 59, tzinfo=UTC), 200_000_000),
        (datetime(2026, 10, 25, 5, 0, tzinfo=UTC), 300_000_000),
        (datetime(2026, 3, 29, 3, 59, tzinfo=UTC), 200_000_000),
        (datetime(2026, 3, 29, 4, 0, tzinfo=UTC), 300_000_000),
    ],
)
def test_the_price_by_the_hour_passes_midnight_and_the_change_of_the_clocks(local, nano):
    assert tariff(**NIGHT).at(local.timestamp()) == nano


def test_an_hour_that_comes_twice_has_its_price_twice():
    twice = tariff(price="0.30 USD", hours={"02:00-03:00": "0.10 USD"}, zone="Europe/Berlin")
    begin = datetime(2026, 10, 25, 0, 0, tzinfo=UTC).timestamp()
    assert [twice.at(begin + hour * 3_600) for hour in range(-1, 3)] == [
        300_000_000,
        *[100_000_000] * 2,
        300_000_000,
    ]
    begin = datetime(2026, 3, 29, 0, 0, tzinfo=UTC).timestamp()
    assert {twice.at(begin + minute * 60) for minute in range(180)} == {300_000_000}
