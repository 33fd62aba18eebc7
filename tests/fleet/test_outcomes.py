import pytest
from tests.support.live import Told, deployment, engine

from fleetgate.domain import Power, Presence
from fleetgate.errors import COUNTED, AttemptFailed, FailureClass
from fleetgate.fleet.outcomes import Outcomes
from fleetgate.health import Phase, Rules

F = FailureClass
NOW = 1000.0


class House:
    def __init__(self):
        self.told = Told()
        self.wanted = []
        self.outcomes = Outcomes(lambda: 1.0, self.told, self.wanted.append)

    def fail(self, one, failure, text="boom", now=NOW, account=None, **hints):
        error = AttemptFailed(failure, text, **hints)
        self.outcomes.failed(one, error, now, account or one.engine.account)


@pytest.fixture
def house():
    return House()


@pytest.mark.parametrize("failure", sorted(COUNTED))
def test_counted_failures_cool_the_deployment_after_three_and_leave_its_engine_alone(house, failure):
    one = deployment()
    for _ in range(3):
        assert one.breaker.allows(NOW)
        house.fail(one, failure)
    assert not one.breaker.allows(NOW)
    assert one.engine.breaker.allows(NOW)
    assert house.told.events == ["deployment_cooling"]
    assert one.why == f"{failure}: boom"


INNOCENT = [
    F.STALE_CONNECTION,
    F.CONTEXT_TOO_LONG,
    F.REFUSED_CONTENT,
    F.BAD_REQUEST,
    F.CALLER_GONE,
    F.DEADLINE,
    F.LIMIT_REACHED,
    F.NOTHING_AVAILABLE,
    F.ABSENT_FEATURE,
]


@pytest.mark.parametrize("failure", INNOCENT)
def test_what_blames_nobody_changes_nothing(house, failure):
    one = deployment()
    for _ in range(10):
        house.fail(one, failure)
    assert one.breaker.allows(NOW)
    assert one.breaker.fails_in_row == 0
    assert one.engine.breaker.allows(NOW)
    assert one.busy_until == 0.0
    assert house.told.events == []


def test_a_refused_connection_opens_the_engine_at_once_and_proves_that_the_machine_is_on(house):
    one = deployment()
    one.engine.node.presence = Presence.ASLEEP
    house.fail(one, F.UNSENT_REFUSED)
    assert not one.engine.breaker.allows(NOW)
    assert one.breaker.allows(NOW)
    assert one.engine.node.presence is Presence.AWAKE
    assert one.engine.alive is False
    house.fail(one, F.UNSENT_REFUSED)
    assert house.told.events.count("engine_down") == 1


def test_a_machine_that_should_be_on_and_is_not_is_missing(house):
    one = deployment(at=engine(power=Power.ALWAYS))
    house.fail(one, F.UNSENT_UNREACHABLE)
    assert one.engine.node.presence is Presence.MISSING
    assert not one.engine.breaker.allows(NOW)
    assert [(event, values["level"]) for event, values in house.told.lines] == [("node_presence", "warning")]


@pytest.mark.parametrize("power", [Power.MANUAL, Power.ON_DEMAND])
def test_a_machine_that_may_be_off_sleeps_and_nothing_is_counted(house, power):
    one = deployment(at=engine(power=power))
    for _ in range(5):
        house.fail(one, F.UNSENT_UNREACHABLE)
    assert one.engine.node.presence is Presence.ASLEEP
    assert one.engine.breaker.allows(NOW)
    assert [(event, values["level"]) for event, values in house.told.lines] == [("node_presence", "info")]


def test_a_bad_certificate_benches_the_engine_and_is_said_once(house):
    one = deployment()
    for _ in range(3):
        house.fail(one, F.TLS_FAILED)
    assert one.engine.breaker.opens_again_in(NOW) == 300.0
    assert house.told.events == ["tls_failed"]


@pytest.mark.parametrize(("hint", "wait"), [(None, 1.0), (3.0, 3.0), (1000.0, 10.0)])
def test_a_full_or_loading_engine_is_busy_for_a_moment(house, hint, wait):
    for failure, loads in ((F.FULL, False), (F.LOADING, True)):
        one = deployment()
        house.fail(one, failure, retry_after=hint)
        assert one.busy_until == NOW + wait
        assert one.loading is loads
        assert one.breaker.fails_in_row == 0


def test_a_missing_model_is_removed_and_the_catalogue_wanted(house):
    one = deployment()
    house.fail(one, F.MODEL_MISSING, "no such model")
    assert one.removed
    assert house.wanted == [one.engine]


@pytest.mark.parametrize(("hint", "wait"), [(None, 5.0), (7.0, 7.0), (1e9, 300.0)])
def test_a_rate_limit_is_of_one_account_and_one_model(house, hint, wait):
    cloud = engine("cloud", local=False)
    one, other = deployment("a", cloud), deployment("b", cloud)
    house.fail(one, F.RATE_LIMITED, retry_after=hint)
    assert cloud.account.models_out == {"a": (NOW + wait, "rate_limited")}
    assert one.breaker.fails_in_row == other.breaker.fails_in_row == 0


@pytest.mark.parametrize(("hint", "wait"), [(None, 3600.0), (7200.0, 7200.0), (1e9, 86_400.0)])
def test_a_used_up_quota_is_out_until_its_reset(house, hint, wait):
    one = deployment()
    house.fail(one, F.QUOTA_EXHAUSTED, retry_after=hint)
    assert one.engine.account.models_out["m"] == (NOW + wait, "quota_exhausted")


def test_a_forbidden_model_is_out_for_half_an_hour(house):
    one = deployment()
    house.fail(one, F.KEY_FORBIDDEN)
    assert one.engine.account.models_out["m"] == (NOW + 1800, "key_forbidden")
    assert one.engine.account.benched_until == 0.0


@pytest.mark.parametrize("failure", [F.KEY_INVALID, F.KEY_UNFUNDED])
def test_a_refused_key_benches_its_account_and_is_said_once_without_the_upstreams_words(house, failure):
    one = deployment()
    for _ in range(3):
        house.fail(one, failure, "your key sk-123 is wrong")
    assert one.engine.account.benched_until == NOW + 1800
    assert house.told.events == ["key_refused"]
    assert "sk-123" not in str(house.told.lines) + one.engine.account.why


def test_blame_at_two_models_of_one_engine_within_ten_seconds_opens_the_engine(house):
    box = engine()
    one, other = deployment("a", box), deployment("b", box)
    house.fail(one, F.SERVER_ERROR)
    house.fail(one, F.SERVER_ERROR)
    assert box.breaker.allows(NOW)
    house.fail(other, F.SERVER_ERROR, now=NOW + 10)
    assert not box.breaker.allows(NOW + 10)
    assert house.told.events == ["engine_down"]


def test_blame_further_apart_is_of_each_alone(house):
    box = engine()
    one, other = deployment("a", box), deployment("b", box)
    house.fail(one, F.SERVER_ERROR)
    house.fail(other, F.SERVER_ERROR, now=NOW + 10.5)
    assert box.breaker.allows(NOW + 10.5)


def test_a_recovered_engine_is_not_opened_again_by_what_opened_it_before(house):
    """Blame outlived the recovery: one more failure of one model and the engine was out again."""
    box = engine()
    one, other = deployment("a", box), deployment("b", box)
    house.fail(one, F.SERVER_ERROR)
    house.fail(other, F.SERVER_ERROR)
    box.breaker.begin(NOW + 5)
    house.outcomes.succeeded(one, NOW + 5)
    house.fail(one, F.SERVER_ERROR, now=NOW + 6)
    assert box.breaker.allows(NOW + 6)
    assert house.told.events.count("engine_down") == 1


def both_on_trial(one, now):
    for breaker in (one.breaker, one.engine.breaker):
        breaker.open(now - 10, Rules(), lambda: 1.0)
        breaker.begin(now)


def phases(one):
    return one.breaker.phase(NOW), one.engine.breaker.phase(NOW)


def test_a_trial_at_both_breakers_that_passes_closes_both(house):
    one = deployment()
    both_on_trial(one, NOW)
    house.outcomes.succeeded(one, NOW)
    assert phases(one) == (Phase.CLOSED, Phase.CLOSED)
    assert house.told.events == ["deployment_recovered", "engine_recovered", "node_presence"]


def test_a_trial_at_both_breakers_that_fails_opens_the_deployment_and_leaves_the_engine_to_the_next(house):
    one = deployment()
    both_on_trial(one, NOW)
    house.fail(one, F.SERVER_ERROR)
    assert phases(one) == (Phase.OPEN, Phase.TRIAL_DUE)
    assert one.breaker.opens_again_in(NOW) == 10.0


def test_a_trial_that_is_refused_opens_the_engine_and_leaves_the_deployment_to_the_next(house):
    one = deployment()
    both_on_trial(one, NOW)
    house.fail(one, F.UNSENT_REFUSED)
    assert phases(one) == (Phase.TRIAL_DUE, Phase.OPEN)


@pytest.mark.parametrize("failure", [one for one in F if one not in COUNTED])
def test_no_outcome_leaves_a_breaker_in_its_trial(house, failure):
    one = deployment()
    both_on_trial(one, NOW)
    house.fail(one, failure)
    assert Phase.TRIAL not in phases(one)


def test_an_aborted_trial_leaves_both_to_the_next(house):
    one = deployment()
    both_on_trial(one, NOW)
    house.outcomes.untold(one)
    assert phases(one) == (Phase.TRIAL_DUE, Phase.TRIAL_DUE)


def test_a_success_clears_what_stood_against_it(house):
    one = deployment()
    one.removed = one.loading = one.engine.loading = True
    one.why = "boom"
    one.engine.node.presence = Presence.UNKNOWN
    one.engine.node.remembered = True
    house.outcomes.succeeded(one, NOW)
    assert (one.removed, one.loading, one.engine.loading, one.why) == (False, False, False, "")
    assert (one.engine.alive, one.engine.node.presence, one.engine.node.remembered) == (
        True,
        Presence.AWAKE,
        False,
    )


def test_one_failed_health_check_is_no_verdict_and_three_are(house):
    box = engine()
    for _ in range(2):
        house.outcomes.unwell(box, "no answer within 2 s", NOW)
    assert box.breaker.allows(NOW)
    house.outcomes.unwell(box, "no answer within 2 s", NOW)
    assert not box.breaker.allows(NOW)
    assert box.alive is False
    assert house.told.events == ["engine_down"]
