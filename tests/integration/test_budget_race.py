"""Many requests at once and a budget for a few of them: the short form of `python -m chaos budget`."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest
from chaos.budget import READ, Sampler
from chaos.load import Wish, at_once
from tests.support.caller import MASTER_KEY
from tests.support.gateway import answer, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import respond_json

from fleetgate.store import ledger
from fleetgate.store.retention import full_check

REQUESTS = 200
TOKENS = 1_000
COST = 2_000 * TOKENS
FITTING = 20
CAP = FITTING * COST
"""nano-dollars"""


@pytest.mark.asyncio
async def test_spent_and_held_are_never_above_the_budget(tmp_path):
    usage = {"prompt_tokens": 0, "completion_tokens": TOKENS, "total_tokens": TOKENS}
    price = {"input": "0 USD/Mtok", "output": "2 USD/Mtok"}
    async with openai_engine(respond_json(200, {**answer("hi"), "usage": usage})) as upstream:
        blocks = settings(
            providers={"p": provider(upstream, models=[{"name": "m", "price": price, "context": 100_000}])},
            limits=[{"scope": "global", "money": f"{CAP / 1e9:f} USD"}],
        )
        async with running_gateway(blocks, tmp_path) as gateway:
            with closing(sqlite3.connect(gateway.store.path, check_same_thread=False)) as reader:

                def read() -> tuple[int, int]:
                    return reader.execute(READ).fetchone()[0], 0

                with Sampler(read) as sampler:
                    wish = Wish("p/m", MASTER_KEY, max_tokens=TOKENS)
                    told = await at_once(gateway.port, [wish] * REQUESTS)
            answered = [one for one in told if one.answered]
            refused = {(one.status, one.code, one.should_retry) for one in told if not one.answered}
            assert len(answered) == len(upstream.requests) == FITTING
            assert refused == {(429, "limit_reached", "false")}
            assert sampler.highest <= CAP
            await gateway.store.flush()
            (count,) = await asyncio.to_thread(gateway.store.counters)
            assert (count.spent, count.held) == (CAP, 0)
            assert await full_check(gateway.store, (ledger.check,)) == []
