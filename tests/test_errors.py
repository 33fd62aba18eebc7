import pytest

from fleetgate.errors import (
    COUNTED,
    MAX_UPSTREAM_TEXT,
    TABLE,
    AttemptFailed,
    Blame,
    FailureClass,
    Refused,
    Source,
    Verdict,
)

F = FailureClass


def test_every_class_has_one_row():
    assert set(TABLE) == set(FailureClass)


# Blame, verdict and status of the failure table, as it was decided: a change here is a change of contract.
CONTRACT = {
    F.UNSENT_REFUSED: (Blame.ENGINE, Verdict.NEXT, 503),
    F.UNSENT_UNREACHABLE: (Blame.NODE, Verdict.NEXT, 503),
    F.TLS_FAILED: (Blame.ENGINE, Verdict.NEXT, 502),
    F.LOADING: (Blame.DEPLOYMENT, Verdict.WAIT, 503),
    F.FULL: (Blame.DEPLOYMENT, Verdict.WAIT, 503),
    F.MODEL_MISSING: (Blame.DEPLOYMENT, Verdict.NEXT, 404),
    F.RATE_LIMITED: (Blame.ACCOUNT_MODEL, Verdict.NEXT, 429),
    F.QUOTA_EXHAUSTED: (Blame.ACCOUNT_MODEL, Verdict.NEXT, 429),
    F.KEY_INVALID: (Blame.ACCOUNT, Verdict.NEXT, 502),
    F.KEY_UNFUNDED: (Blame.ACCOUNT, Verdict.NEXT, 502),
    F.KEY_FORBIDDEN: (Blame.ACCOUNT_MODEL, Verdict.NEXT, 502),
    F.SERVER_ERROR: (Blame.DEPLOYMENT, Verdict.NEXT, 502),
    F.FIRST_TOKEN_TIMEOUT: (Blame.DEPLOYMENT, Verdict.NEXT, 504),
    F.CUT_SHORT: (Blame.DEPLOYMENT, Verdict.NEXT, 502),
    F.GARBAGE: (Blame.DEPLOYMENT, Verdict.NEXT, 502),
    F.STREAM_BROKEN: (Blame.DEPLOYMENT, Verdict.STOP, None),
    F.CONTEXT_TOO_LONG: (Blame.NONE, Verdict.NEXT, None),
    F.REFUSED_CONTENT: (Blame.NONE, Verdict.STOP, None),
    F.BAD_REQUEST: (Blame.NONE, Verdict.STOP, None),
    F.CALLER_GONE: (Blame.NONE, Verdict.STOP, 499),
    F.DEADLINE: (Blame.NONE, Verdict.STOP, 504),
    F.LIMIT_REACHED: (Blame.NONE, Verdict.STOP, 429),
    F.NOTHING_AVAILABLE: (Blame.NONE, Verdict.STOP, 503),
}


@pytest.mark.parametrize("failure", CONTRACT)
def test_rows_say_what_was_decided(failure):
    row = TABLE[failure]
    assert (row.blame, row.verdict, row.status) == CONTRACT[failure]


def test_only_four_classes_are_proven_unsent():
    unsent = {failure for failure, row in TABLE.items() if not row.dispatched}
    assert unsent == {F.UNSENT_REFUSED, F.UNSENT_UNREACHABLE, F.TLS_FAILED, F.ABSENT_FEATURE}


def test_what_moves_a_breaker_blames_the_deployment():
    assert {TABLE[failure].blame for failure in COUNTED} == {Blame.DEPLOYMENT}
    assert all("streak" in TABLE[failure].effect for failure in COUNTED)


@pytest.mark.parametrize("failure", [one for one, row in TABLE.items() if row.status in (429, 503)])
def test_answers_that_say_come_back_say_when(failure):
    assert TABLE[failure].retry_after


@pytest.mark.parametrize(
    "failure", [one for one, row in TABLE.items() if one not in (F.CALLER_GONE, F.ABSENT_FEATURE)]
)
def test_callers_are_told_what_to_do(failure):
    assert TABLE[failure].to_caller.endswith(".")


def test_an_upstreams_own_text_is_cut():
    failed = AttemptFailed(F.SERVER_ERROR, "x" * 10_000, status=500)
    assert len(failed.text) == MAX_UPSTREAM_TEXT
    assert failed.row is TABLE[F.SERVER_ERROR]


def test_a_failure_without_text_says_its_class():
    assert str(AttemptFailed(F.CUT_SHORT)) == "cut_short"
    assert str(AttemptFailed(F.CUT_SHORT, "gone")) == "cut_short: gone"


def test_a_refusal_blames_the_caller_unless_it_says_otherwise():
    refused = Refused(400, "malformed", "no")
    assert (refused.source, refused.terminal, refused.failure) == (Source.CALLER, False, None)
    assert str(refused) == "no"
