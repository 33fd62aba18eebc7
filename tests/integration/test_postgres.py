"""Gateways over PostgreSQL, with real callers: one alone, two that share, one that dies, a database away."""

from __future__ import annotations

import asyncio
import shutil
import signal
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from chaos.budget import GRANTED, READ, Sampler
from chaos.load import Wish, at_once
from sqlalchemy import select, update
from tests.support.caller import MASTER_KEY, PATIENCE
from tests.support.gateway import (
    answer,
    gateway_process,
    node,
    openai_engine,
    provider,
    running_gateway,
    settings,
)
from tests.support.postgres import needs_postgres, postgres_running
from tests.support.redis import needs_redis, redis_running
from tests.support.upstreams import respond_json, stall

from fleetgate.keys.master import PEPPER_FILE
from fleetgate.store import ledger
from fleetgate.store.postgres import Postgres
from fleetgate.store.recovery import Recovered
from fleetgate.store.retention import full_check
from fleetgate.store.schema import exchange, run

pytestmark = [pytest.mark.asyncio, needs_postgres]

PRICE = {"input": "1 USD/Mtok", "output": "2 USD/Mtok"}
COST = 3 * 1_000 + 2 * 2_000
"""nano-dollars of the usual answer: 3 tokens in, 2 out"""


@pytest.fixture
def url(databases):
    made = databases.new()
    yield made
    databases.drop(made)


def blocks(upstream, database, **more):
    """A machine of one's own and a provider that takes money, over this database."""
    paid = provider(upstream, models=[{"name": "m", "price": PRICE, "context": 4_096}])
    shared = more.pop("shared", {})
    return settings(
        gateway={"database": database, **shared},
        nodes={"box": node(upstream)},
        providers={"p": paid},
        **more,
    )


def beside(directory, first):
    """A state directory for another gateway: with what keys of the first are made with."""
    (directory / "state").mkdir(parents=True)
    shutil.copy2(first / "state" / PEPPER_FILE, directory / "state" / PEPPER_FILE)
    return directory


@asynccontextmanager
async def two_gateways(tmp_path, config):
    first = tmp_path / "first"
    first.mkdir()
    async with AsyncExitStack() as both:
        here = await both.enter_async_context(running_gateway(config, first))
        second = beside(tmp_path / "second", first)
        yield here, await both.enter_async_context(running_gateway(config, second))


def bearer(key):
    return {"authorization": f"Bearer {key}"}


async def new_key(gateway, **wanted):
    made = await gateway.post("/admin/api/keys", {"alias": "known", **wanted})
    return made.json()["secret"]


async def counters(gateway):
    await gateway.store.flush()
    return await asyncio.to_thread(gateway.store.counters)


async def sums_are_right(gateway):
    await gateway.store.flush()
    assert await full_check(gateway.store, (ledger.check,)) == []


# One


async def test_a_gateway_keeps_everything_there(tmp_path, url):
    async with openai_engine(respond_json(200, answer("hi"))) as upstream:
        config = blocks(upstream, url, limits=[{"scope": "global", "money": "1 USD"}])
        async with running_gateway(config, tmp_path) as gateway:
            key = await new_key(gateway)
            for model in ("p/m", "box/m"):
                assert (await gateway.chat(model, headers=bearer(key))).status == 200
            await gateway.store.flush()
            assert [one.cost for one in await asyncio.to_thread(gateway.store.entries, 5)] == [0, COST]
            (count,) = await counters(gateway)
            assert (count.spent, count.held) == (COST, 0)
            usage = await gateway.get("/admin/api/usage?by=model")
            assert usage.status == 200
            await sums_are_right(gateway)
        assert not list((tmp_path / "state").glob("*.db*"))
        async with running_gateway(config, tmp_path) as gateway:  # as it was left
            assert (await gateway.chat("box/m", headers=bearer(key))).status == 200
            assert len(await asyncio.to_thread(gateway.store.entries, 5)) >= 2
            assert gateway.store.recovered == Recovered()


# Two


async def test_keys_of_one_count_at_the_other_until_they_are_revoked(tmp_path, url):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as upstream,
        two_gateways(tmp_path, blocks(upstream, url)) as (here, there),
    ):
        key = await new_key(here)
        assert (await there.chat("box/m", headers=bearer(key))).status == 200
        assert (await here.post("/admin/api/keys/known/revoke", {})).status == 200
        await there.app.people.keys.poll()
        assert (await there.chat("box/m", headers=bearer(key))).status == 401
        assert (await here.chat("box/m", headers=bearer(key))).status == 401
        assert await there.count_logged("pepper_changed") == 0


async def test_another_pepper_is_told(tmp_path, url):
    async with openai_engine(respond_json(200, answer("hi"))) as upstream:
        config = blocks(upstream, url)
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
        async with (
            running_gateway(config, tmp_path / "first") as here,
            running_gateway(config, tmp_path / "second") as there,
        ):
            key = await new_key(here)
            assert (await there.chat("box/m", headers=bearer(key))).status == 401
            assert await there.count_logged("pepper_changed") == 1
            assert await here.count_logged("pepper_changed") == 0


async def test_one_budget_is_never_exceeded_by_two(tmp_path, url):
    fitting, tokens = 20, 1_000
    cost = 2_000 * tokens
    cap = fitting * cost
    usage = {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens}
    dear = {"name": "m", "price": {"input": "0 USD/Mtok", "output": "2 USD/Mtok"}, "context": 100_000}
    async with openai_engine(respond_json(200, {**answer("hi"), "usage": usage})) as upstream:
        config = settings(
            gateway={"database": url},
            providers={"p": provider(upstream, models=[dear])},
            limits=[{"scope": "global", "money": f"{cap / 1e9:f} USD"}],
        )
        reading = Postgres(url).reading

        def read():
            with reading.connect() as connection:
                return tuple(int(connection.exec_driver_sql(ask).scalar_one()) for ask in (READ, GRANTED))

        async with two_gateways(tmp_path, config) as gateways:
            with Sampler(read) as sampler:
                wishes = [Wish("p/m", MASTER_KEY, max_tokens=tokens)] * 50
                parts = await asyncio.gather(*(at_once(one.port, wishes) for one in gateways))
            reading.dispose()
            told = [one for part in parts for one in part]
            answered = [one for one in told if one.answered]
            assert refusals(told) == {(429, "limit_reached")}
            # At most a lease of each is left over: a twentieth of the whole.
            assert fitting - 2 <= len(answered) <= fitting
            assert len(upstream.requests) == len(answered)
            assert max(sampler.highest, sampler.granted) <= cap
            for one in gateways:
                await one.store.flush()
            (count,) = await counters(gateways[0])
            assert (count.spent, count.held) == (len(answered) * cost, 0)
            await sums_are_right(gateways[0])


async def test_a_gateway_that_dies_is_ended_by_the_other(tmp_path, url):
    sent = asyncio.Event()
    async with openai_engine([stall()]) as upstream:
        note = upstream.note

        def noting(request):
            note(request)
            if request.method == "POST":
                sent.set()

        upstream.note = noting
        config = blocks(upstream, url, limits=[{"scope": "global", "money": "1 USD"}])
        (tmp_path / "first").mkdir()
        async with running_gateway(config, tmp_path / "first") as here:
            directory = beside(tmp_path / "second", tmp_path / "first")
            async with gateway_process(config, directory) as there, there.asking("p/m", max_tokens=50):
                await sent.wait()
                there.signal(signal.SIGKILL)
                await there.exit_code()
            (before,) = await counters(here)
            assert (before.spent, before.held > 0) == (0, True)
            assert await here.store.recover() == Recovered()  # it may be alive for all we know
            silent = update(run).where(run.c.id != here.store.run).values(beat_at=run.c.beat_at - 60_001)
            await here.store.change(lambda line: line.execute(silent))
            await here.app._recover()
            line = await here.logged("recovered", requests=1, attempts=1)
            (entry,) = await asyncio.to_thread(here.store.entries, 5)
            assert (entry.outcome, entry.attempts[0].estimated) == ("interrupted", True)
            assert entry.cost == line["estimated_nano_usd"] > 0
            (after,) = await counters(here)
            assert (after.spent, after.held) == (entry.cost, before.held - entry.cost)
            await sums_are_right(here)


@needs_redis
async def test_rates_and_places_are_shared_over_redis(tmp_path, url):
    go_on = asyncio.Event()
    limits = [
        {"scope": {"key": "hasty"}, "requests": 20, "per": "minute"},
        {"scope": {"key": "slow"}, "parallel": 4},
    ]
    with redis_running() as redis:
        async with (
            openai_engine(respond_json(200, answer("hi"))) as quick,
            openai_engine([stall(go_on), *respond_json(200, answer("hi"))]) as slow,
        ):
            config = settings(
                gateway={"database": url, "shared_state": redis.url},
                nodes={"quick": node(quick), "slow": node(slow, slots=20)},
                limits=limits,
            )
            async with two_gateways(tmp_path, config) as gateways:
                for one in gateways:
                    one.app.shared._patience = 5.0  # a busy machine is no outage
                keys = {alias: await new_key(gateways[0], alias=alias) for alias in ("hasty", "slow")}

                def race(model, alias, each):
                    wishes = [Wish(model, keys[alias])] * each
                    return asyncio.gather(*(at_once(one.port, wishes) for one in gateways))

                told = [one for part in await race("quick/m", "hasty", 30) for one in part]
                assert refusals(told) == {(429, "limit_reached")}
                assert 18 <= len(quick.requests) <= 20  # a chunk of each may be left over
                assert sum(one.answered for one in told) == len(quick.requests)

                racing = race("slow/m", "slow", 10)
                # All are there, and whoever got no place has gone.
                await gateways[0].until(
                    lambda: (
                        sum(one.model == "slow/m" for each in gateways for one in each.entries)
                        + len(slow.requests)
                        == 20
                    )
                )
                go_on.set()
                told = [one for part in await racing for one in part]
                assert refusals(told) == {(429, "limit_reached")}
                assert 1 <= sum(one.answered for one in told) == len(slow.requests) <= 4


def refusals(told):
    return {(one.status, one.code) for one in told if not one.answered}


# The database away


def asks(gateway, key):
    """Requests with this key; keeps the ids of those that were answered."""

    async def ask(model):
        reply = await gateway.chat(model, headers=bearer(key))
        if reply.status == 200:
            ask.answered.append(reply.header("x-request-id"))
        return reply

    ask.answered = []
    return ask


async def answered_again(ask):
    """Asks until it is: nobody tells a caller that the database is back."""
    end = asyncio.get_running_loop().time() + 2 * PATIENCE
    while (reply := await ask("p/m")).status != 200:
        assert asyncio.get_running_loop().time() < end, reply.body
        await asyncio.sleep(0.02)  # else this alone keeps the machine busy


async def test_while_it_is_away_own_machines_go_on_and_nothing_is_paid_or_lost(tmp_path):
    with postgres_running(safe=False) as postgres:
        async with openai_engine(respond_json(200, answer("hi"))) as upstream:
            limits = [
                {"scope": "global", "money": "1 USD"},
                {"scope": {"key": "*"}, "requests": 1_000, "per": "day"},
            ]
            async with running_gateway(blocks(upstream, postgres.url, limits=limits), tmp_path) as gateway:
                known, stranger = asks(gateway, await new_key(gateway)), asks(gateway, "fg-nobodys-key")
                for model in ("p/m", "box/m"):
                    assert (await known(model)).status == 200
                await gateway.store.flush()
                await asyncio.to_thread(postgres.stop)
                for _ in range(3):
                    paid = await known("p/m")
                    # First the ledger says so, then keys that cannot be confirmed count for what is free.
                    assert (paid.status, paid.error["code"]) in (
                        (503, "ledger_unavailable"),
                        (503, "nothing_available"),
                    )
                    assert paid.header("retry-after") is not None
                for _ in range(10):
                    assert (await known("box/m")).status == 200
                    assert (await stranger("box/m")).status in (401, 503)
                assert (await gateway.get("/readyz")).status == 200
                await asyncio.to_thread(postgres.start)
                await answered_again(known)
                await gateway.store.flush()
                query = select(exchange.c.request_id).where(exchange.c.status == 200)
                kept = await asyncio.to_thread(gateway.store.ask, lambda each: each.scalars(query).all())
                assert sorted(kept) == sorted(known.answered)
                assert stranger.answered == []
                await sums_are_right(gateway)
