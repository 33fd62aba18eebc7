import pytest
from tests.support.redis import BINARY, redis_running


@pytest.fixture(scope="package")
def redis_of_all():
    if BINARY is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    with redis_running() as redis:
        yield redis


@pytest.fixture
def redis(redis_of_all):
    """A running Redis with nothing in it."""
    redis_of_all.flush()
    return redis_of_all
