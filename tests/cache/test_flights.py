"""Single flight: who leads, who waits, and what happens when either leaves."""

import asyncio

import pytest

from fleetgate.cache.flights import MOST_LEADERS, Flights, Turn
from fleetgate.cache.stored import Stored

pytestmark = pytest.mark.asyncio
ANSWER = Stored(at=0.0, ttl=1.0, deployment="d", weights="", streamed=False, body=b"{}")


def begin(work):
    return asyncio.get_running_loop().create_task(work)


def joining(flights, flight, count):
    return [begin(flights.join(flight)) for _ in range(count)]


async def turn():
    for _ in range(3):
        await asyncio.sleep(0)


async def test_all_who_wait_get_the_answer():
    flights = Flights()
    flight = flights.lead("k")
    assert flights.find("k") is flight
    waiting = joining(flights, flight, 3)
    await turn()
    flights.landed(flight, ANSWER)
    assert await asyncio.gather(*waiting) == [ANSWER] * 3
    assert (flights.find("k"), len(flights)) == (None, 0)


async def test_a_failure_makes_the_next_one_lead_and_the_rest_wait_on():
    flights = Flights()
    flight = flights.lead("k")
    waiting = joining(flights, flight, 3)
    await turn()
    flights.failed(flight)
    assert await waiting[0] is Turn.LEAD
    assert flights.find("k") is flight
    late = joining(flights, flight, 1)
    await turn()
    flights.landed(flight, ANSWER)
    assert await asyncio.gather(*waiting[1:], *late) == [ANSWER] * 3


async def test_after_too_many_failures_everybody_goes_alone():
    flights = Flights()
    flight = flights.lead("k")
    waiting = joining(flights, flight, MOST_LEADERS + 1)
    await turn()
    for _ in range(MOST_LEADERS):
        flights.failed(flight)
    assert await asyncio.gather(*waiting) == [Turn.LEAD] * (MOST_LEADERS - 1) + [Turn.ALONE] * 2
    assert len(flights) == 0


async def test_a_failure_with_nobody_waiting_ends_it():
    flights = Flights()
    flights.failed(flights.lead("k"))
    assert len(flights) == 0


async def test_the_end_of_an_old_flight_leaves_a_new_one_alone():
    flights = Flights()
    old = flights.lead("k")
    flights.landed(old, ANSWER)
    new = flights.lead("k")
    flights.failed(old)
    assert flights.find("k") is new


async def test_the_last_who_leaves_tells():
    flights, told = Flights(), []
    flight = flights.lead("k")
    waiting = joining(flights, flight, 2)
    await turn()
    flight.deserted = lambda: told.append("deserted")
    waiting[0].cancel()
    await turn()
    assert not told
    waiting[1].cancel()
    await turn()
    assert told == ["deserted"]
    assert all(one.cancelled() for one in waiting)


async def test_who_leaves_in_the_moment_of_being_chosen_hands_on():
    flights = Flights()
    flight = flights.lead("k")
    waiting = joining(flights, flight, 2)
    await turn()
    flights.failed(flight)
    waiting[0].cancel()  # its result is set, and it has not run since
    assert await waiting[1] is Turn.LEAD
    assert waiting[0].cancelled()


async def test_who_leaves_in_the_moment_of_the_answer_harms_nobody():
    flights = Flights()
    flight = flights.lead("k")
    waiting = joining(flights, flight, 2)
    await turn()
    flights.landed(flight, ANSWER)
    waiting[0].cancel()
    assert await waiting[1] is ANSWER
    assert len(flights) == 0


async def test_who_left_is_not_chosen():
    flights = Flights()
    flight = flights.lead("k")
    waiting = joining(flights, flight, 2)
    await turn()
    waiting[0].cancel()  # its future is cancelled now, and taken out when it runs
    flights.failed(flight)
    assert await waiting[1] is Turn.LEAD
    assert waiting[0].cancelled()
