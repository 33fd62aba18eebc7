"""Error answers of every provider of the table, and the failure class of each."""

import pytest
from tests.engines.provider_errors import SAID

from fleetgate.config.providers import PROVIDERS
from fleetgate.engines import hints
from fleetgate.engines.anthropic import Anthropic
from fleetgate.engines.meters import HINTS
from fleetgate.engines.provided import Provided
from fleetgate.errors import FailureClass as F

NOW = 1_800_000_000.0
CASES = [
    pytest.param(name, said, id=f"{name}-{at}-{said.status}-{said.means.value}")
    for name, several in SAID.items()
    for at, said in enumerate(several)
]


def kind(name):
    row = PROVIDERS[name]
    if row.speaks == "anthropic":
        return Anthropic()
    return Provided(name, serves=row.serves, paths=row.paths, auth=row.auth, lists=row.lists)


@pytest.mark.parametrize(("name", "said"), CASES)
def test_what_an_answer_means(name, said):
    assert kind(name).classify(said.status, said.headers, said.raw) is said.means


@pytest.mark.parametrize(("name", "said"), [case for case in CASES if case.values[1].hint is not None])
def test_when_it_may_be_asked_again(name, said):
    told = hints.reset(said.headers, NOW, body=said.raw, also=HINTS.get(name, ()))
    assert told == pytest.approx(said.hint)


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_is_here_with_what_matters(name):
    usual = {F.KEY_INVALID, F.KEY_FORBIDDEN, F.RATE_LIMITED, F.MODEL_MISSING, F.CONTEXT_TOO_LONG}
    assert {said.means for said in SAID[name]} >= usual


def test_their_words_are_found():
    for several in SAID.values():
        for said in several:
            words = hints.error_text(said.raw)
            assert words
            assert not words.startswith("{"), words
