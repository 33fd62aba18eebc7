"""The cache in front of a shared state: bounded values, and a state that does not answer is a miss."""

import asyncio

import pytest

from fleetgate.cache.owner import PREFIX, Cache
from fleetgate.cache.stored import Stored, encode
from fleetgate.config.money import Cache as Settings
from fleetgate.shared.port import SharedDown

pytestmark = pytest.mark.asyncio


def begin(work):
    return asyncio.get_running_loop().create_task(work)


class Shared:
    """A shared state as far as the cache asks for it."""

    def __init__(self):
        self.values = {}
        self.healthy = True

    def _ask(self):
        if not self.healthy:
            raise SharedDown("it is gone")

    async def get(self, key):
        self._ask()
        return self.values.get(key)

    async def put(self, key, value, ttl):
        self._ask()
        self.values[key] = value
        self.ttl = ttl

    async def flush(self, prefix):
        self._ask()
        gone = [key for key in self.values if key.startswith(prefix)]
        for key in gone:
            del self.values[key]
        return len(gone)


def stored(size=10, ttl=60.0):
    return Stored(at=0.0, ttl=ttl, deployment="d", weights="", streamed=False, body=b"x" * size)


def made(shared=None, **settings):
    tasks = []

    def spawn(work):
        tasks.append(begin(work))
        return tasks[-1]

    cache = Cache(clock=lambda: 0.0, wall=lambda: 0.0, spawn=spawn, shared=shared)
    cache.configure(Settings(**settings))
    return cache, tasks


async def test_values_of_the_shared_state():
    shared = Shared()
    cache, tasks = made(shared, largest="1KiB")
    assert cache.remote
    cache.keep("a:1", stored(), 0)
    cache.keep("b:1", stored(), 0)
    cache.keep("b:2", stored(2_000), 0)
    await asyncio.gather(*tasks)
    assert shared.values == {PREFIX + "a:1": encode(stored()), PREFIX + "b:1": encode(stored())}
    assert shared.ttl == 60.0
    assert cache.get("a:1") is None
    assert await cache.fetch("a:1") == stored()
    assert await cache.fetch("c:1") is None
    assert (cache.counts.kept, cache.counts.too_large) == (2, 1)
    assert await cache.flush("a") == 1
    assert list(shared.values) == [PREFIX + "b:1"]
    figures = cache.figures()
    assert (figures["where"], figures["entries"], figures["bytes"]) == ("shared", None, None)


async def test_a_shared_state_that_is_gone():
    shared = Shared()
    cache, tasks = made(shared)
    shared.healthy = False
    cache.keep("a:1", stored(), 0)
    await asyncio.gather(*tasks)
    assert await cache.fetch("a:1") is None
    assert await cache.flush() is None
    assert cache.counts.failed == 3
    assert cache.figures()["shared_healthy"] is False


async def test_foreign_values_are_a_miss():
    shared = Shared()
    cache, _ = made(shared)
    shared.values[PREFIX + "a:1"] = b"something else"
    assert await cache.fetch("a:1") is None


async def test_in_this_process():
    cache, _ = made()
    assert not cache.remote
    cache.keep("a:1", stored(), 0)
    assert cache.get("a:1") == stored()
    assert await cache.fetch("a:1") is None
    assert await cache.flush("b") == 0
    assert await cache.flush("a") == 1
    cache.keep("a:1", stored(), 0)  # asked for before the flush
    assert cache.get("a:1") is None
    cache.keep("a:1", stored(ttl=0.0), cache.generation)
    assert cache.get("a:1") is None
    cache.keep("a:1", stored(), cache.generation)
    assert cache.configure(None) is None
    assert cache.get("a:1") is None
    assert await cache.flush() == 0
    cache.keep("a:1", stored(), cache.generation)
    assert cache.figures()["enabled"] is False


async def test_what_is_on_its_way_has_a_bound_too():
    cache, _ = made(size="4KiB")
    assert cache.take_room(1_000)
    assert not cache.take_room(100)
    cache.give_room(500)
    assert cache.take_room(100)
    cache.configure(None)
    assert not cache.take_room(1)


@pytest.mark.parametrize(
    ("names", "covered", "others"),
    [
        ((), ["", "m", "a/b"], []),
        (("m",), ["m"], ["mm", "M", ""]),
        (("chat-*", "!chat-private"), ["chat-", "chat-x"], ["chat-private", "chat"]),
        (("!openai/*",), ["m"], ["openai/x"]),
        (("a.b",), ["a.b"], ["axb"]),
    ],
)
async def test_names(names, covered, others):
    cache, _ = made(names=names)
    assert [name for name in (*covered, *others) if cache.covers(name)] == covered
    cache.configure(Settings(names=("other",)))
    assert cache.covers("other")
    assert not cache.covers("m")
