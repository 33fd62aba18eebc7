from datetime import UTC, datetime

import pytest

from fleetgate.engines.meters import METERS, USUAL, Empty, Meter, empty

NOW = 1_800_000_000.0
LATER = datetime.fromtimestamp(NOW + 90, UTC).isoformat().replace("+00:00", "Z")


def heard(headers, meters=USUAL):
    return empty(headers.get, meters, NOW)


def requests(reset, left="0"):
    return {"x-ratelimit-remaining-requests": left, "x-ratelimit-reset-requests": reset}


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("7.66s", 7.66),
        ("1m30s", 90.0),
        ("20ms", 0.02),
        ("60", 60.0),
        ("2.5", 2.5),
        (str(int(NOW) + 90), 90.0),
        (str(int(NOW + 90) * 1000), 90.0),
        (LATER, 90.0),
    ],
)
def test_resets_come_in_many_forms(reset, seconds):
    assert heard(requests(reset)) == Empty(seconds, quota=False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        requests("60", left="1"),
        requests("60", left="-1"),
        requests("60", left="none"),
        requests("soon"),
        requests(""),
        requests("0"),
        requests("-5"),
        requests("nan"),
        requests("1e9"),
        requests("2026-01-01"),
        requests("2020-01-01T00:00:00Z"),
        requests(str(86_400 * 41)),
        {"x-ratelimit-remaining-requests": "0"},
        {"x-ratelimit-reset-requests": "60"},
    ],
)
def test_what_says_nothing_that_can_be_used(headers):
    assert heard(headers) is None


def test_a_reset_that_is_far_away_is_a_quotas_unless_the_limit_is_per_minute():
    far = requests("2h")
    assert heard(far) == Empty(7200.0, quota=True)
    assert heard(far, METERS["groq"]) == Empty(7200.0, quota=True)
    assert heard(far, METERS["openai"]) == Empty(300.0, quota=False)


def test_the_limit_that_lasts_longest_counts():
    both = requests("5s") | {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}
    assert heard(both) == Empty(360.0, quota=True)
    assert heard(both | requests("5s", left="3")) == Empty(360.0, quota=True)


def test_every_provider_has_its_own_names():
    name = "anthropic-ratelimit-input-tokens"
    told = {f"{name}-remaining": "0", f"{name}-reset": LATER}
    assert heard(told, METERS["anthropic"]) == Empty(90.0, quota=False)
    assert heard(told) is None
    assert all(isinstance(one, Meter) and one.remaining.islower() for row in METERS.values() for one in row)
