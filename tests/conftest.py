"""What tests of several packages share: one PostgreSQL for all of a process, and no clock for examples."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from fleetgate.store.database import SQLITE
from tests.support.postgres import EITHER, Databases, postgres_running

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long an example takes says something about who else uses the machine, and nothing about us.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Whoever starts the suite in the background of a shell has it ignore interrupts, and programs that tests
# start would inherit that: then nobody could tell whether Ctrl-C ends them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Databases of PostgreSQL, in a cluster that starts when the first test asks for one."""
    with postgres_running(safe=False) as cluster:
        yield Databases(cluster)


@pytest.fixture(params=EITHER)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """What `Store.open` takes: SQLite, and a database of PostgreSQL that is this test's alone."""
    if request.param == "sqlite":
        yield SQLITE
        return
    made = request.getfixturevalue("databases")
    url = made.new()
    yield url
    made.drop(url)


@pytest.fixture(params=EITHER)
def empty_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same, without tables."""
    if request.param == "sqlite":
        yield SQLITE
        return
    made = request.getfixturevalue("databases")
    url = made.empty()
    yield url
    made.drop(url)
