"""Redis that is away, frozen, emptied, guarded by a password, behind TLS; and that comes back."""

import asyncio
import ssl
import time

import pytest
import trustme
from tests.support.live import Clock
from tests.support.redis import needs_redis, redis_running, sharing

from fleetgate.shared.fuse import FAILS, OPEN_FOR
from fleetgate.shared.port import PATIENCE, Rate, SharedDown
from fleetgate.shared.scripts import DRAW

pytestmark = [pytest.mark.asyncio, needs_redis]
RATE = Rate(100, 3600.0, 100)


@pytest.fixture
def own():
    """A Redis that a test may stop."""
    with redis_running() as redis:
        yield redis


async def fail(shared, times=1):
    for _ in range(times):
        with pytest.raises(SharedDown) as caught:
            await shared.draw("b", RATE, least=1, most=1)
    return str(caught.value)


async def until_answered(shared, clock):
    """A trial may come too early: Redis or the connection to it is still on its way."""
    async with asyncio.timeout(10):
        while True:
            clock.pass_(OPEN_FOR)
            try:
                return await shared.draw("b", RATE, least=1, most=10)
            except SharedDown:
                await asyncio.sleep(0.001)


async def test_down_at_the_start_then_there(own):
    clock = Clock()
    own.kill()
    async with sharing(own.url, clock) as shared:
        assert shared.healthy
        why = await fail(shared, FAILS)
        assert why.startswith(f"Redis at 127.0.0.1:{own.port}: ")
        assert "refused" in why.lower() or "Connect call failed" in why
        assert not shared.healthy
        own.start()
        assert await fail(shared) == shared.why  # at once: nothing is even tried
        assert (await until_answered(shared, clock)).units == 10
        assert shared.healthy
        assert shared.why == ""


async def test_frozen_it_costs_each_call_the_patience_and_then_nothing(own):
    clock = Clock()
    async with sharing(own.url, clock) as shared:
        await shared.put("k", b"v", 60)
        own.freeze()
        shared._patience = PATIENCE
        asked = [shared.get("k") for _ in range(40)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(one) for one in found} == {SharedDown}
        assert str(found[0]).endswith("no answer within 50 ms")
        sent = shared._lines._used, len(shared._lines._dials)
        for _ in range(1000):
            await fail(shared)
        assert (shared._lines._used, len(shared._lines._dials)) == sent
        clock.pass_(OPEN_FOR)
        trials = [shared.get("k") for _ in range(10)]
        found = await asyncio.gather(*trials, return_exceptions=True)
        assert sum("no answer" in str(one) for one in found) == 10  # one tried, nine repeat its reason
        own.thaw()
        shared._patience = 5.0
        await until_answered(shared, clock)
        assert await shared.get("k") == b"v"


async def test_a_late_answer_is_not_taken_for_that_of_the_next_call(own):
    clock = Clock()
    async with sharing(own.url, clock) as shared:
        await shared.put("a", b"of a", 60)
        await shared.put("b", b"of b", 60)
        own.freeze()
        shared._patience = PATIENCE
        with pytest.raises(SharedDown):
            await shared.get("a")
        own.thaw()
        shared._patience = 5.0
        await until_answered(shared, clock)
        assert await asyncio.gather(*[shared.get(key) for key in "abab"]) == [b"of a", b"of b"] * 2


async def test_a_caller_who_leaves_breaks_nothing(own):
    async with sharing(own.url) as shared:
        for _ in range(50):
            work = asyncio.get_running_loop().create_task(shared.get("k"))
            await asyncio.sleep(0)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        await shared.put("k", b"v", 60)
        assert await shared.get("k") == b"v"
        assert shared._lines._used == 0


async def test_restarted_it_is_used_again_without_a_single_failure(own):
    async with sharing(own.url) as shared:
        await asyncio.gather(*[shared.get(f"k{i}") for i in range(30)])
        assert 1 <= len(shared._lines._idle) <= 16
        await asyncio.to_thread(own.kill)
        await asyncio.to_thread(own.start)
        # connections that were closed are seen to be, and the scripts are loaded again
        assert (await shared.draw("b", RATE, least=1, most=10)).units == 10
        assert await shared.get("k1") is None


async def test_flushed_it_loads_its_scripts_again(own):
    async with sharing(own.url) as shared:
        assert (await shared.draw("b", RATE, least=100, most=100)).units == 100
        own.flush()
        assert (await shared.draw("b", RATE, least=1, most=100)).units == 100
        assert await shared.places("r", "a", capacity=1, wanted=1, ttl=60) == 1


async def test_full_it_is_down_and_says_so(own):
    own.command("CONFIG", "SET", "maxmemory", "1")
    async with sharing(own.url) as shared:
        assert "maxmemory" in await fail(shared)


async def test_a_password_opens_it_and_is_never_told():
    with redis_running("s3cret-of-redis") as redis:
        async with sharing(redis.url) as shared:
            assert (await shared.draw("b", RATE, least=1, most=1)).units == 1
        for url in (redis.url.replace("s3cret", "wrong-s3cret"), redis.url.replace(":s3cret-of-redis@", "")):
            async with sharing(url) as shared:
                why = await fail(shared, FAILS)
                assert "s3cret" not in why + repr(shared) + repr(vars(shared._lines))
                assert "assword" in why or "uthentication" in why


async def test_a_database_that_is_not_there_is_told():
    with redis_running() as redis:
        async with sharing(redis.url.removesuffix("0") + "99") as shared:
            assert "out of range" in await fail(shared)


async def test_over_a_unix_socket(own):
    async with sharing(own.unix_url) as shared:
        await shared.put("k", b"v", 60)
        assert await shared.get("k") == b"v"


async def test_over_tls_with_an_authority_of_its_own(tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    for name, ca in (("ca", authority), ("stranger", stranger)):
        ca.cert_pem.write_to_path(tmp_path / f"{name}.pem")
    with ssl_front(tmp_path) as front, redis_running("s3cret-of-redis") as redis:
        async with front(redis.port) as port:
            url = f"rediss://:s3cret-of-redis@localhost:{port}/0?ssl_ca_certs={tmp_path}/"
            async with sharing(f"{url}ca.pem") as shared:
                await until_reached(shared)
                assert len({id(line.ssl_context) for line in shared._lines._idle}) == 1
            async with sharing(f"{url}stranger.pem") as shared:
                why = await fail(shared)
                assert "certificate" in why.lower() or "no answer" in why


async def until_reached(shared):
    async with asyncio.timeout(10):
        while True:
            try:
                await shared.put("k", b"v", 60)
            except SharedDown:
                await asyncio.sleep(0.001)
            else:
                break
    assert await shared.get("k") == b"v"


def ssl_front(directory):
    """Debian's Redis speaks TLS only where it was built so; a TLS end in front of it is the same to us."""
    import contextlib

    @contextlib.asynccontextmanager
    async def front(port):
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        made.load_cert_chain(directory / "cert.pem", directory / "key.pem")
        open_ones = []

        async def pass_on(reader, writer):
            async def pump(source, sink):
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            inner = await asyncio.open_connection("127.0.0.1", port)
            open_ones.extend((writer, inner[1]))
            await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer), return_exceptions=True)

        listening = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=made)
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            listening.close()
            for writer in open_ones:
                writer.close()
            await asyncio.gather(*[one.wait_closed() for one in open_ones], return_exceptions=True)

    return contextlib.nullcontext(front)


async def test_only_a_few_commands_are_used(own):
    async with sharing(own.url) as shared:
        await shared.draw("b", RATE, least=1, most=1)
        await shared.give_back("b", RATE, 1)
        await shared.places("r", "h", capacity=1, wanted=1, ttl=1)
        await shared.put("k", b"v", 60)
        await shared.get("k")
        await shared.flush("k")
    used = own.text("INFO", "commandstats")
    ours = {line.partition(":")[0] for line in used.split() if line.startswith("cmdstat_")}
    within = {"time", "set", "get", "hgetall", "hset", "hdel", "pexpire"}
    harness = {"ping", "info", "flushall"}
    asked = {"get", "set", "evalsha", "script|load", "scan", "unlink"}
    assert {name.removeprefix("cmdstat_") for name in ours} <= within | asked | harness


async def test_what_is_left_in_it_expires(own):
    async with sharing(own.url) as shared:
        await shared.draw("b", RATE, least=50, most=50)
        await shared.places("r", "h", capacity=1, wanted=1, ttl=60)
    (rate,) = own.numbers("PTTL", "fleetgate:rate:b")
    assert 1_790_000 < rate <= 1_801_000
    (room,) = own.numbers("PTTL", "fleetgate:room:r")
    assert 50_000 < room <= 61_000


async def test_the_cost_of_a_draw_is_told(own, record_property):
    async with sharing(own.url) as shared:
        many = Rate(10**9, 1.0, 10**9)
        await shared.draw("b", many, least=1, most=1)
        began, count = time.process_time(), 500
        for _ in range(count):
            await shared.draw("b", many, least=1, most=1)
        record_property("draw_us", round((time.process_time() - began) / count * 1e6))
    assert DRAW.sha.isalnum()
