"""Draws of two gateways against the rate, in real time."""

import asyncio
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.redis import sharing

from fleetgate.shared.port import Rate


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    ceiling=st.integers(1, 5000),
    burst=st.integers(1, 200),
    turns=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.integers(1, 50), st.integers(0, 50)), max_size=40
    ),
)
def test_two_holders_together_never_get_more_than_the_rate(redis_of_all, seed, ceiling, burst, turns):
    rate = Rate(ceiling, 1.0, burst)

    async def play():
        async with sharing(redis_of_all.url) as one, sharing(redis_of_all.url) as other:
            bucket, held, began = f"{seed}-{time.monotonic_ns()}", 0, time.monotonic()
            for first, giving, least, more in turns:
                state = one if first else other
                if giving:
                    units = min(held, least)
                    await state.give_back(bucket, rate, units)
                    held -= units
                else:
                    held += (await state.draw(bucket, rate, least=least, most=least + more)).units
                assert held <= burst + ceiling * (time.monotonic() - began) + 1

    asyncio.run(play())
