"""Seats and waiting rooms: who gets a free place on a deployment, and who waits for one.

A candidate is chosen and its seat taken without an `await` in between. There is one room per step;
a freed seat goes to the next waiter, fairly between principals, so that one key cannot own the
queue. Rooms are bounded, and a waiter leaves when nothing it waits for is left.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetgate.routing import accounts, policies
from fleetgate.routing.availability import Reason, has_seat
from fleetgate.routing.plan import Sorted, Step, sort

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from fleetgate.domain import Capability
    from fleetgate.live import Account, Deployment, Engine

ROOM_PER_SLOT: Final = 2
ROOM_UNKNOWN_SLOTS: Final = 16
LOAD_LIMIT: Final = 300.0
LOAD_LIMIT_PER_GIB: Final = 20.0
ORPHAN_LIMIT: Final = 30.0
"""Seconds after which a seat is free again whatever the engine says."""


class NoCandidate(Exception):
    """Nothing of this step can be had, now or soon."""

    def __init__(self, found: Sorted) -> None:
        super().__init__("no candidate")
        self.found = found


class RoomFull(Exception):
    """Too many wait for this step already."""


class WaitOver(Exception):
    """No seat came free in time."""


class Drained(Exception):
    """The gateway is stopping: whoever still waits is sent away."""


class Lease:
    """Holding a seat, and the account it is used with. Released once, however often `release` is called."""

    __slots__ = ("_seats", "account", "deployment")

    def __init__(self, deployment: Deployment, account: Account, seats: Seats) -> None:
        self.deployment = deployment
        self.account = account
        self._seats: Seats | None = seats

    def release(self, *, orphaned: bool = False) -> None:
        """Give the seat back. `orphaned`: nobody waits any more, but the engine may still be at work."""
        seats, self._seats = self._seats, None
        if seats is not None:
            self.account.in_flight -= 1
            seats.free(self.deployment, orphaned=orphaned)

    def give_back(self) -> None:
        """Release it unused: a trial that never began must not keep its breaker waiting for an outcome."""
        self.deployment.breaker.abandon()
        self.deployment.engine.breaker.abandon()
        self.release()


@dataclass(slots=True, eq=False)
class Wish:
    """What a seat is wanted for. `last`: no later step exists, so ejected candidates are tried too."""

    step: Step
    capability: Capability
    principal: str
    exclude: frozenset[Deployment] = frozenset()
    last: bool = True
    may_use: Callable[[Deployment], bool] | None = None
    waited: float = 0.0
    """seconds this step has waited already"""
    objection: Callable[[Deployment], Reason | None] | None = None
    """what the caller's key has against a candidate"""
    without: frozenset[accounts.Pair] = frozenset()
    """accounts of candidates that are left out"""


@dataclass(slots=True, eq=False)
class _Waiter:
    wish: Wish
    granted: asyncio.Future[Lease]


class _Room:
    """The waiters of one step, by principal, in turn."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[_Waiter]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def add(self, waiter: _Waiter) -> None:
        self._lines.setdefault(waiter.wish.principal, deque()).append(waiter)

    def remove(self, waiter: _Waiter) -> None:
        line = self._lines.get(waiter.wish.principal)
        if line is not None and waiter in line:
            line.remove(waiter)
            if not line:
                del self._lines[waiter.wish.principal]

    def served(self, principal: str) -> None:
        """This principal had its turn."""
        if principal in self._lines:
            self._lines.move_to_end(principal)

    def in_turn(self) -> list[_Waiter]:
        """Everybody, one of each principal before the second of any."""
        lines = [list(line) for line in self._lines.values()]
        depth = max((len(line) for line in lines), default=0)
        return [line[row] for row in range(depth) for line in lines if row < len(line)]


class Seats:
    """Hands out leases. Owned by the fleet."""

    def __init__(
        self,
        clock: Callable[[], float],
        random: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
        look_wanted: Callable[[Engine], None] = lambda _engine: None,
    ) -> None:
        """`look_wanted`: this engine should be asked soon how busy it is."""
        self._clock = clock
        self._random = random
        self._call_later = call_later
        self._look_wanted = look_wanted
        self._turns: Counter[str] = Counter()
        self._rooms: dict[tuple[str, ...], _Room] = {}
        self._wake_at: float | None = None

    @property
    def waiting(self) -> int:
        return sum(len(room) for room in self._rooms.values())

    async def seat(self, wish: Wish, limit: float) -> Lease:
        """A lease on a candidate of the step, after a wait of at most `limit` seconds.

        Raises NoCandidate, RoomFull, WaitOver or Drained. Whoever is cancelled while it waits leaves
        nothing behind.
        """
        lease = self._take(wish) if not self._rooms else self._take_in_turn(wish)
        if lease is not None:
            return lease
        return await self._wait(wish, limit)

    def free(self, deployment: Deployment, *, orphaned: bool = False) -> None:
        """A lease ended. The seat of an orphan stays taken until the engine says that it is idle."""
        engine = deployment.engine
        deployment.in_flight -= 1
        if orphaned and engine.slots_busy is not None:
            engine.orphans.append(self._clock() + ORPHAN_LIMIT)
            self._call_later(ORPHAN_LIMIT + 0.001, lambda: self.settle_orphans(engine))
            self._look_wanted(engine)
            return
        engine.in_flight -= 1
        if self._rooms:
            self.changed()

    def settle_orphans(self, engine: Engine, busy: int | None = None) -> None:
        """Free the seats of orphans that are over: those past their limit, and all but the `busy` ones
        that the engine speaks of and no lease of ours explains."""
        now = self._clock()
        before = len(engine.orphans)
        engine.orphans = [until for until in engine.orphans if until > now]
        if busy is not None:
            unexplained = max(0, busy - (engine.in_flight - before))
            engine.orphans = engine.orphans[max(0, len(engine.orphans) - unexplained) :]
        engine.in_flight -= before - len(engine.orphans)
        if len(engine.orphans) < before and self._rooms:
            self.changed()

    def changed(self) -> None:
        """Something about a deployment changed: see whether somebody who waits can be served."""
        for key in list(self._rooms):
            self._serve(key)
        self._set_alarm()

    def drain(self) -> None:
        """Send away everybody who waits."""
        for room in self._rooms.values():
            for waiter in room.in_turn():
                if not waiter.granted.done():
                    waiter.granted.set_exception(Drained())
        self._rooms.clear()

    def _serve(self, key: tuple[str, ...]) -> None:
        """Whoever of one room can be served now."""
        room = self._rooms[key]
        for waiter in room.in_turn():
            if not waiter.granted.done():
                self._try_to_grant(room, waiter)
        if not len(room):
            del self._rooms[key]

    def _try_to_grant(self, room: _Room, waiter: _Waiter) -> None:
        try:
            lease = self._take(waiter.wish)
        except NoCandidate as nothing:
            waiter.granted.set_exception(nothing)
        else:
            if lease is None:
                return
            waiter.granted.set_result(lease)
            room.served(waiter.wish.principal)
        room.remove(waiter)

    def _take_in_turn(self, wish: Wish) -> Lease | None:
        """Nobody overtakes: where others already wait for this step, newcomers queue behind them."""
        room = self._rooms.get(_key(wish.step))
        return None if room else self._take(wish)

    def _take(self, wish: Wish) -> Lease | None:
        """Choose and take, in one go. None: wait. Raises NoCandidate."""
        now = self._clock()
        found = sort(wish.step, wish.capability, now, wish.exclude, wish.objection, wish.without)
        choice = self._choose(wish, found.ready, now)
        if choice is None and _usable(wish, found.waiting):
            return None
        if choice is None and wish.last:
            choice = self._choose(wish, [one for one in found.ejected if has_seat(one)], now)
            if choice is None and _usable(wish, found.ejected):
                return None  # all are tried by others at this moment
        if choice is None:
            raise NoCandidate(found)
        return self._lease(choice, wish, now)

    def _lease(self, choice: Deployment, wish: Wish, now: float) -> Lease:
        account = accounts.take(choice, now, wish.without)
        engine = choice.engine
        choice.in_flight += 1
        engine.in_flight += 1
        account.in_flight += 1
        if len(engine.accounts) > 1:
            account.used = 1 + max(one.used for one in engine.accounts)
        choice.breaker.begin(now)
        engine.breaker.begin(now)
        return Lease(choice, account, self)

    def _choose(self, wish: Wish, candidates: list[Deployment], now: float) -> Deployment | None:
        candidates = _usable(wish, candidates)
        if not candidates:
            return None
        step = wish.step
        self._turns[step.pool] += 1  # one for all would turn in step with traffic that alternates
        turn = self._turns[step.pool]
        return policies.pick(step.policy, candidates, step.weights, now=now, turn=turn, random=self._random)

    async def _wait(self, wish: Wish, limit: float) -> Lease:
        key = _key(wish.step)
        room = self._rooms.setdefault(key, _Room())
        if len(room) >= _capacity(wish.step.candidates):
            raise RoomFull
        waiter = _Waiter(wish, asyncio.get_running_loop().create_future())
        room.add(waiter)
        self._serve(key)  # those before it may wait for what it does not need
        self._set_alarm()
        lease: Lease | None = None
        try:
            async with asyncio.timeout(self._limit(wish, limit)):
                lease = await waiter.granted
            return lease
        except TimeoutError:
            raise WaitOver from None
        finally:
            self._leave(key, waiter, received=lease is not None)

    def _leave(self, key: tuple[str, ...], waiter: _Waiter, *, received: bool) -> None:
        granted = waiter.granted
        room = self._rooms.get(key)
        if room is not None:
            room.remove(waiter)
            if not len(room):
                del self._rooms[key]
        if not granted.done():
            granted.cancel()
        elif not received and not granted.cancelled() and granted.exception() is None:
            granted.result().give_back()  # the grant crossed with the timeout or the cancellation

    def _limit(self, wish: Wish, limit: float) -> float:
        """A load of the only hope may take its own time; a seat may not."""
        limit = max(0.0, limit - wish.waited)
        if not wish.last:
            return limit
        now = self._clock()
        found = sort(wish.step, wish.capability, now, wish.exclude, wish.objection, wish.without)
        loads = [one for one, reason in found.refused if reason is Reason.LOADING]
        if not loads:
            return limit
        gib = max((one.model.size or 0) for one in loads) / 2**30
        return max(limit, LOAD_LIMIT + LOAD_LIMIT_PER_GIB * gib - wish.waited)

    def _set_alarm(self) -> None:
        """Look again when the first `busy_until` of anybody waited for has passed."""
        now = self._clock()
        times = [
            candidate.busy_until
            for room in self._rooms.values()
            for waiter in room.in_turn()
            for candidate in waiter.wish.step.candidates
            if candidate.busy_until > now
        ]
        if not times:
            return
        at = min(times)
        if self._wake_at is not None and now < self._wake_at <= at:
            return
        self._wake_at = at
        self._call_later(at - now + 0.001, self._alarm)

    def _alarm(self) -> None:
        self._wake_at = None
        if self._rooms:
            self.changed()


def _usable(wish: Wish, candidates: list[Deployment]) -> list[Deployment]:
    return candidates if wish.may_use is None else [one for one in candidates if wish.may_use(one)]


def _key(step: Step) -> tuple[str, ...]:
    return tuple(candidate.id for candidate in step.candidates)


def _capacity(candidates: Collection[Deployment]) -> int:
    """Two waiters per slot; a fixed number where slots are unknown."""
    engines = {one.engine.id: one.engine.slots for one in candidates}
    return sum(slots * ROOM_PER_SLOT if slots else ROOM_UNKNOWN_SLOTS for slots in engines.values())
