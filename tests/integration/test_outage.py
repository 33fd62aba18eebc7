"""The database away while requests come: the short form of `python -m chaos outage`."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import select
from tests.support.caller import PATIENCE
from tests.support.gateway import answer, node, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import respond_json

from fleetgate.store import ledger
from fleetgate.store.retention import full_check
from fleetgate.store.schema import exchange

PRICE = {"input": "1 USD/Mtok", "output": "2 USD/Mtok"}


@contextmanager
def locked(path):
    """Another program holds the lock for writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full(_path):
    """No file can grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def asks(gateway, key):
    """Requests with this key; keeps the ids of those that were answered."""

    async def ask(model):
        reply = await gateway.chat(model, headers={"authorization": f"Bearer {key}"})
        if reply.status == 200:
            ask.answered.append(reply.header("x-request-id"))
        return reply

    ask.answered = []
    return ask


async def answered_again(ask):
    async with asyncio.timeout(2 * PATIENCE):
        while (await ask("p/m")).status != 200:
            pass


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [locked, full])
async def test_own_machines_go_on_and_nothing_is_paid_or_lost(tmp_path, fault):
    async with openai_engine(respond_json(200, answer("hi"))) as upstream:
        blocks = settings(
            nodes={"box": node(upstream)},
            providers={"p": provider(upstream, models=[{"name": "m", "price": PRICE, "context": 4_096}])},
            limits=[
                {"scope": "global", "money": "1 USD"},
                {"scope": {"key": "*"}, "requests": 1_000, "per": "day"},
            ],
        )
        async with running_gateway(blocks, tmp_path) as gateway:
            made = await gateway.post("/admin/api/keys", {"alias": "known"})
            known, stranger = asks(gateway, made.json()["secret"]), asks(gateway, "fg-nobodys-key")
            for model in ("p/m", "box/m"):
                assert (await known(model)).status == 200
            await gateway.store.flush()
            with fault(gateway.store.path):
                paid = await known("p/m")
                assert (paid.status, paid.error["code"]) == (503, "ledger_unavailable")
                assert paid.header("retry-after") is not None
                for _ in range(10):
                    assert (await known("box/m")).status == 200
                    assert (await stranger("box/m")).status in (401, 503)
                assert (await gateway.get("/readyz")).status == 200
            await answered_again(known)
            await gateway.store.flush()
            query = select(exchange.c.request_id).where(exchange.c.status == 200)
            kept = await asyncio.to_thread(gateway.store.ask, lambda each: each.scalars(query).all())
            assert sorted(kept) == sorted(known.answered)
            assert stranger.answered == []
            assert await full_check(gateway.store, (ledger.check,)) == []
