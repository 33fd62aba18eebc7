"""What a setting opens, and what is said where it cannot be."""

import sys
import time

import pytest

from fleetgate.shared.connect import CannotShare, open_shared


def opened(setting):
    return open_shared(setting, lambda work: work.close(), time.monotonic)


def test_memory_is_nothing_that_is_shared():
    assert opened("memory") is None


def test_without_its_package_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "fleetgate.shared.redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(CannotShare, match=r"fleetgate\[redis\]"):
        opened("redis://:s3cret@127.0.0.1/0")


@pytest.mark.parametrize(
    "setting", ["http://:s3cret@h/0", "redis://h:port-s3cret/0", "redis://:s3cret@[::1/0"]
)
def test_what_cannot_be_read_is_not_repeated(setting):
    with pytest.raises(CannotShare) as caught:
        opened(setting)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.asyncio
async def test_nothing_is_connected_before_it_is_asked():
    shared = opened("redis://127.0.0.1:1/0")
    assert shared is not None
    assert shared.healthy
    await shared.close()
