"""Random histories of the ledger: crashes, retries, doubled batches, late ends, retention."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select, update
from tests.store.ledgers import (
    MONEY,
    OTHER,
    REQUESTS,
    Ticks,
    emptied,
    memory_engine,
    pen,
    reservation,
    sent,
    told,
)
from tests.store.ledgers import settlement as settlement_of
from tests.support.postgres import needs_postgres

from fleetgate.domain import Booking, Reservation
from fleetgate.store import leases, ledger
from fleetgate.store.batch import Work
from fleetgate.store.leases import Wanted
from fleetgate.store.schema import exchange, hourly, money_event, open_request, run

CEILING = {MONEY: 1_000, OTHER: 1_500, REQUESTS: 40}


@dataclass
class Try:
    """An attempt as it should stand in the ledger."""

    of: Reservation
    gateway: object
    durable: bool = False
    ended: bool = False
    recovered: bool = False
    late: bool = False
    carried: bool = False
    cost: int | None = None
    """of the settlement that was made of it, once and for all"""
    released: bool = False
    amounts: dict = field(default_factory=dict)
    """place → held, spent"""

    @property
    def settlement(self):
        return settlement_of(self.of, self.cost, released=self.released)


@dataclass
class Request:
    number: int
    gateway: object
    tries: list[Try] = field(default_factory=list)
    recorded: bool = False
    posted: bool = False

    @property
    def open(self) -> bool:
        return not self.posted


class Histories(RuleBasedStateMachine):
    """The history of a ledger on SQLite: one gateway at a time."""

    most_alive = 1

    def __init__(self) -> None:
        super().__init__()
        self.engine = self.make_engine()
        self.clock = Ticks()
        self.requests: list[Request] = []
        self.gateways = []
        self.runs = 0
        self.extra = dict.fromkeys(CEILING, 0)
        self.counted = dict.fromkeys(CEILING, 0)

    def make_engine(self):
        return memory_engine()

    def teardown(self) -> None:
        self.engine.dispose()

    @initialize()
    def begin(self) -> None:
        for _ in range(self.most_alive):
            self.start()

    def start(self):
        self.runs += 1
        gateway = pen(self.engine, f"run-{self.runs}", self.clock)
        gateway.queue = Work()
        gateway.waiting = []
        gateway.alive = True
        self.gateways.append(gateway)
        self._recovered(lambda owner: owner is not gateway and not owner.alive)
        return gateway

    # What gateways do

    @rule(data=st.data(), amount=st.integers(2, 300), share=st.integers(0, 10), both=st.booleans())
    def dispatch(self, data, amount, share, both) -> None:
        """Asks for what is missing, and sends if it is given."""
        gateway = self._gateway(data)
        mine = [one for one in self.requests if one.open and one.gateway is gateway]
        request = data.draw(st.sampled_from([None, *mine]), "request")
        if request is None:
            request = Request(len(self.requests), gateway)
            self.requests.append(request)
        places = (MONEY, OTHER) if both else (MONEY,)
        made = reservation(
            request.number,
            len(request.tries),
            bound=amount,
            expected=amount * share // 10,
            places=places,
            requests=(REQUESTS,),
        )
        if not self._room(gateway, made):
            return
        one = Try(made, gateway)
        request.tries.append(one)
        gateway.queue.dispatches.extend(gateway.work([made]).dispatches)
        gateway.waiting.append(("dispatch", one))

    def _room(self, gateway, made) -> bool:
        """As the owner of budgets asks: out of the lease, less what is on its way."""
        wanted = []
        rows = gateway.leases()
        for booking in made.bookings:
            place = (booking.counter, booking.window)
            row = rows.get(place, {"granted": 0, "spent": 0, "held": 0})
            under_way = sum(
                other.held
                for what, one in gateway.waiting
                if what == "dispatch"
                for other in one.of.bookings
                if (other.counter, other.window) == place
            )
            least = booking.held - (row["granted"] - row["spent"] - row["held"] - under_way)
            if least > 0:
                wanted.append(Wanted(*place, CEILING[place], least, max(least, self._most(place))))
        if not wanted:
            return True
        given = gateway.transact(lambda connection: gateway.ledger.grants(connection, wanted))
        return all(
            lease.granted - rows.get((lease.counter, lease.window), {"granted": 0})["granted"] >= one.least
            for lease, one in zip(given, wanted, strict=True)
        )

    def _most(self, place) -> int:
        return 2**62 if self.most_alive == 1 else CEILING[place] // 20

    @rule(data=st.data(), cost=st.integers(0, 400), end=st.sampled_from(["paid", "released", "again"]))
    def settle(self, data, cost, end) -> None:
        """At once, or again: also by a gateway that was thought dead, and after its request is over."""
        durable = [one for request in self.requests for one in request.tries if one.durable]
        if not durable:
            return
        one = data.draw(st.sampled_from(durable), "attempt")
        if one.cost is None:
            one.cost, one.released = (0, True) if end == "released" else (cost, False)
        gateway = self._owner(one.gateway, data)
        gateway.queue.settlements.append(one.settlement)
        gateway.waiting.append(("settle", one))

    @rule(data=st.data(), cost=st.integers(0, 400), requests=st.integers(0, 2))
    def finish(self, data, cost, requests) -> None:
        """The line of the exchange, with all its settlements, whether they were posted before or not."""
        left = [one for one in self.requests if one.open]
        if not left:
            return
        request = data.draw(st.sampled_from(left), "request")
        if any(not one.durable for one in request.tries if one.gateway.alive):
            return  # whoever waits for a dispatch is not over
        request.posted = True
        tries = [one for one in request.tries if one.durable]
        for one in tries:
            if one.cost is None:
                one.cost, one.released = cost, False
        bookings = (Booking(*REQUESTS, spent=requests),) if requests else ()
        entry = told(
            request.number,
            *(sent(one.of.attempt, one.cost) for one in tries),
            settlements=tuple(one.settlement for one in tries),
            bookings=bookings,
        )
        gateway = self._owner(request.gateway, data)
        more = gateway.work(entries=[entry])
        gateway.queue.entries += more.entries
        gateway.queue.rows += more.rows
        gateway.waiting.append(("entry", (request, requests)))

    @rule(data=st.data(), requests=st.integers(0, 2))
    def free(self, data, requests) -> None:
        """An exchange that costs nothing."""
        gateway = self._gateway(data)
        request = Request(len(self.requests), gateway, posted=True)
        self.requests.append(request)
        bookings = (Booking(*REQUESTS, spent=requests),) if requests else ()
        more = gateway.work(entries=[told(request.number, bookings=bookings)])
        gateway.queue.entries += more.entries
        gateway.queue.rows += more.rows
        gateway.waiting.append(("entry", (request, requests)))

    @rule(data=st.data(), mode=st.sampled_from(["well", "twice", "taken_back", "well"]))
    def write(self, data, mode) -> None:
        """The writer's batch. A commit whose outcome is unknown is written again."""
        gateway = self._gateway(data)
        if mode == "taken_back":
            self._fail(gateway)
        written = gateway.write(gateway.queue, remember=mode != "twice")
        self._committed(gateway, written)
        if mode == "twice":
            again = gateway.write(gateway.queue)
            assert again.exchanges == 0
            assert again.adjusted == 0
        gateway.queue, gateway.waiting = Work(), []

    def _fail(self, gateway) -> None:
        class Failed(Exception):
            pass

        def act(connection):
            gateway.ledger.write(connection, gateway.queue, exact=True)
            raise Failed

        try:
            gateway.transact(act)
        except Failed:
            return

    @rule(data=st.data(), written=st.booleans())
    def crash(self, data, written) -> None:
        """The queue is lost, before or after it was committed."""
        gateway = self._gateway(data)
        if written:
            self._committed(gateway, gateway.write(gateway.queue, remember=False))
        self._end(gateway)
        self.start()

    @rule(data=st.data())
    def stop(self, data) -> None:
        gateway = self._gateway(data)
        self.write_all(gateway)
        gateway.transact(gateway.ledger.leave)
        self._end(gateway)
        self.start()

    def write_all(self, gateway) -> None:
        self._committed(gateway, gateway.write(gateway.queue))
        gateway.queue, gateway.waiting = Work(), []

    def _end(self, gateway) -> None:
        gateway.alive = False
        gateway.queue, gateway.waiting = Work(), []
        self.gateways.remove(gateway)
        with self.engine.connect() as connection, connection.begin():
            connection.execute(update(run).where(run.c.id == gateway.ledger.run).values(beat_at=0))

    @rule(data=st.data())
    def recover_again(self, data) -> None:
        """There is nothing left to recover."""
        gateway = self._gateway(data)
        found = gateway.transact(gateway.ledger.recover)
        assert (found.requests, found.attempts, found.estimated_cost) == (0, 0, 0)

    @rule(data=st.data())
    def give_back(self, data) -> None:
        gateway = self._gateway(data)
        if any(what == "dispatch" for what, _ in gateway.waiting):
            return
        for lease in gateway.transact(lambda connection: gateway.ledger.give_back(connection, [MONEY])):
            assert lease.granted == lease.spent + lease.held

    @rule()
    def tidy(self) -> None:
        """Retention: what is closed is carried."""
        before = 4_000_000_000_000
        with self.engine.connect() as connection, connection.begin():
            ledger.carry(connection, before)
            left = set(connection.execute(select(money_event.c.request_id)).scalars())
            still_open = set(connection.execute(select(open_request.c.request_id)).scalars())
        for request in self.requests:
            name = f"req-{request.number:06}"
            assert (name in left) <= (name in still_open)
            for one in request.tries:
                one.carried = one.carried or (one.durable and name not in left)

    # What that comes to

    def _committed(self, gateway, written) -> None:
        refused = [one.reservation for one in written.refused]
        for kind in ("dispatch", "settle", "entry"):
            for what, one in gateway.waiting:
                if what == kind and not (what == "dispatch" and one.of in refused):
                    getattr(self, f"_{kind}ed")(one)

    def _dispatched(self, one) -> None:
        if not one.durable:
            one.durable = True
            one.amounts = {(b.counter, b.window): (b.held, 0) for b in one.of.bookings}

    def _settleed(self, one) -> None:
        if one.carried or one.late or (one.ended and not one.recovered):
            return
        one.late, one.ended = one.recovered, True
        for booking in one.settlement.bookings:
            place = (booking.counter, booking.window)
            one.amounts[place] = (0, booking.spent)
            self.extra[place] += max(0, booking.spent - booking.held)

    def _entryed(self, pair) -> None:
        request, requests = pair
        for one in request.tries:
            if one.durable and one.cost is not None:
                self._settleed(one)
        if not request.recorded:
            request.recorded = True
            self.counted[REQUESTS] += requests
            self.extra[REQUESTS] += requests

    def _recovered(self, dead) -> None:
        for request in self.requests:
            if not dead(request.gateway) or request.recorded:
                continue
            if any(one.durable for one in request.tries):
                request.recorded = True
            for one in request.tries:
                if one.durable and not one.ended:
                    one.ended = one.recovered = True
                    for booking in one.of.bookings:
                        money = booking.counter.startswith("budget")
                        spent = min(one.of.expected, booking.held) if money else booking.held
                        place = (booking.counter, booking.window)
                        one.amounts[place] = (booking.held - spent, spent)

    @invariant()
    def every_attempt_is_charged_once(self) -> None:
        ends = select(money_event.c.request_id, money_event.c.attempt, func.sum(money_event.c.amount))
        ends = ends.where(money_event.c.kind.in_(("settle", "release", "adjust")))
        grouped = ends.group_by(money_event.c.request_id, money_event.c.attempt)
        with self.engine.connect() as connection, connection.begin():
            charged = {(row[0], row[1]): row[2] for row in connection.execute(grouped)}
        tries = [one for request in self.requests for one in request.tries if not one.carried]
        assert charged == {
            (one.of.request_id, one.of.attempt): one.amounts[MONEY][1] for one in tries if one.ended
        }

    def _gateway(self, data):
        return data.draw(st.sampled_from(self.gateways), "gateway")

    def _owner(self, gateway, data):
        return gateway if gateway.alive else self._gateway(data)

    @invariant()
    def every_sum_is_right(self) -> None:
        with self.engine.connect() as connection, connection.begin():
            assert ledger.check(connection) == []
            totals = {(one.counter, one.window): one for one in leases.counts(connection)}
            rows = connection.execute(select(func.count()).select_from(exchange)).scalar_one()
            summed = connection.execute(select(func.sum(hourly.c.requests))).scalar() or 0
        assert rows == summed == sum(request.recorded for request in self.requests)
        for place, ceiling in CEILING.items():
            tries = [one.amounts.get(place, (0, 0)) for request in self.requests for one in request.tries]
            held, spent = (sum(amounts) for amounts in zip(*tries, strict=True)) if tries else (0, 0)
            found = totals.get(place)
            stands = (found.held, found.spent) if found else (0, 0)
            assert stands == (held, spent + self.counted[place])
            if found:
                assert found.granted <= ceiling + self.extra[place]
                assert min(found.held, found.spent) >= 0


class SharedHistories(Histories):
    """The history of one on PostgreSQL: two gateways, and each may be taken for dead while it lives."""

    most_alive = 2
    url = ""

    def make_engine(self):
        return emptied(self.url)

    @rule(data=st.data(), hoards=st.booleans())
    def silence(self, data, hoards) -> None:
        """A gateway is not heard of for a while: the other one ends what it had open."""
        silent = self._gateway(data)
        (other,) = [one for one in self.gateways if one is not silent]
        with self.engine.connect() as connection, connection.begin():
            connection.execute(update(run).where(run.c.id == silent.ledger.run).values(beat_at=0))
        other.transact(other.ledger.recover)
        self._recovered(lambda owner: owner is silent)
        if hoards:
            wanted = [Wanted(*place, ceiling, 1, 2**62) for place, ceiling in CEILING.items()]
            other.transact(lambda connection: other.ledger.grants(connection, wanted))


RULES = {"deadline": None, "suppress_health_check": list(HealthCheck)}
Histories.TestCase.settings = settings(max_examples=40, stateful_step_count=40, **RULES)
TestHistories = Histories.TestCase


@needs_postgres
def test_histories_of_two_gateways(databases):
    machine = type("Machine", (SharedHistories,), {"url": databases.kept})
    run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=30, **RULES))
