"""What each stage of an exchange costs, in process and without sockets.

Each stage is made by one function that builds what it needs from the real parts and returns a call.
Calls that wait for nothing are coroutines that end at their first step, so no event loop is in
between. The last rows are a whole exchange from the surface to its record, over a transport that has
the answer at hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from bench.parts import ANSWER, MODEL, PATH, QUESTION
from bench.upstream import DATED_CHUNK
from fleetgate import sse
from fleetgate.config.schema import Settings
from fleetgate.dialects import openai
from fleetgate.domain import Attempt, Capability, Entry, Usage
from fleetgate.engines.kinds import KINDS
from fleetgate.fleet.fleet import Fleet
from fleetgate.fleet.seats import Wish
from fleetgate.gateway import body as bodies
from fleetgate.gateway.gateway import Gateway
from fleetgate.http import inference
from fleetgate.http.call import Call
from fleetgate.http.door import Door, read_head, read_headers
from fleetgate.http.surface import Surface
from fleetgate.keys.owner import Keys
from fleetgate.routing import policies
from fleetgate.routing.plan import sort
from fleetgate.store.database import Store
from fleetgate.store.rows import values_of
from fleetgate.telemetry import configure, json_line

if TYPE_CHECKING:
    from fleetgate.telemetry import Telemetry
    from fleetgate.upstream.port import UpstreamRequest

ROUNDS: Final = 5
AIM: Final = 0.02
"""Seconds that one round of a stage takes."""
MOST_CALLS: Final = 20_000
ENTRIES: Final = 2_000
"""Entries that are recorded at once where the writing threads are measured; their queues hold more."""

BODY: Final = QUESTION.encode()
REPLY: Final = ANSWER.encode()

Make = Callable[[], Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Stage:
    """One row: microseconds per call, the best of several rounds."""

    name: str
    us: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A stage that can be measured."""

    name: str
    make: Make


def trials() -> list[Trial]:
    """All stages without sockets, threads and loop, in the order in which a request meets them."""
    found = [
        Trial("0 head: row, address, key, loop", _head),
        Trial("1 body: read and top level", _body),
        Trial("2 resolve", _resolve),
    ]
    for candidates, configured in ((1, 10), (8, 10), (8, 1000), (32, 1000)):
        name = f"5 sort and pick: {candidates} of {configured} deployments"
        found.append(Trial(name, partial(_choose, candidates, configured)))
    return [
        *found,
        Trial("6 seat and release", _seat),
        Trial("8 attempt: encode the body", _encode),
        Trial("8 attempt: read a whole answer", _read_answer),
        Trial("9 relay: cut and look at one frame", _frame),
        Trial("10 settle: its row (writer thread)", partial(_on_entry, partial(values_of, scrub=str))),
        Trial("10 settle: its line (log thread)", partial(_on_entry, json_line)),
    ]


def measure(*, quick: bool = False) -> list[Stage]:
    """All of it."""
    rounds = 2 if quick else ROUNDS
    found = [Stage(one.name, best(one.make(), rounds)) for one in trials()]
    with _records() as (store, telemetry):
        found += _recorded(store, telemetry, rounds)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found.append(runner.run(_exchange(store, telemetry, rounds)))
    return found


def best(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Microseconds of one call: the quickest of several rounds."""
    count = 1
    while (took := _round(call, count)) < AIM / 4 and count < MOST_CALLS:
        count *= 2
    count = max(1, min(MOST_CALLS, round(count * AIM / max(took, 1e-9))))
    return min(_round(call, count) for _ in range(rounds)) / count * 1e6


def _round(call: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - began


def done(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as result:
        return result.value
    raise AssertionError("it waits for something")


# -- the parts -----------------------------------------------------------------------------------


def settings(deployments: int, in_pool: int) -> Settings:
    """`deployments` of them, `in_pool` of which bear the model that is asked for."""
    engines = [
        {
            "name": f"engine-{number}",
            "kind": "openai",
            "port": 9000 + number,
            "models": [{"id": MODEL if number < in_pool else f"other-{number}"}],
        }
        for number in range(deployments)
    ]
    tree = {"gateway": {"auth": "open"}, "nodes": {"here": {"address": "127.0.0.1", "engines": engines}}}
    return Settings.model_validate_json(json.dumps(tree))


def make_fleet(deployments: int = 10, in_pool: int = 1) -> Fleet:
    fleet = Fleet(
        KINDS,
        clock=time.monotonic,
        wall=lambda: NOW,
        random=random.Random(1).random,
        call_later=lambda _seconds, _call: None,
        report=_ignore,
        remember=_ignore,
    )
    fleet.configure(settings(deployments, in_pool))
    return fleet


def _ignore(*_arguments: object, **_values: object) -> None:
    """Nobody listens."""


async def _send(_message: Any) -> None:
    """A caller who takes everything."""


def _scope() -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": PATH,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 4000),
        "headers": [
            (b"host", b"127.0.0.1:4000"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(BODY)),
            (b"authorization", b"Bearer nothing-in-particular"),
            (b"user-agent", b"bench"),
        ],
    }


class _Answer:
    """An answer that has arrived."""

    status = 200
    reused = True

    def __init__(self) -> None:
        self._left = REPLY

    def header(self, name: str) -> str | None:
        return "application/json" if name == "content-type" else None

    async def read(self) -> bytes:
        left, self._left = self._left, b""
        return left

    def abort(self) -> None:
        """Nothing is open."""


class _Transport:
    """Has every answer at hand, one turn of the loop later."""

    async def open(self, _request: UpstreamRequest) -> _Answer:
        await asyncio.sleep(0)
        return _Answer()

    async def close(self) -> None:
        """Nothing is open."""


class _Caller:
    """Sends one request and stays until its answer is complete."""

    def __init__(self) -> None:
        self._asked = False
        self._over = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": BODY, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body" and not message["more_body"]:
            self._over.set()


def make_gateway(fleet: Fleet, spawn: Any = None, loop: Any = None, record: Any = _ignore) -> Gateway:
    transport = _Transport()
    return Gateway(
        settings=settings(1, 1),
        fleet=fleet,
        instance="0123456789abcdef",
        version="bench",
        loop=loop,
        spawn=spawn,
        transport_for=lambda _one: transport,
        record=record,
        clock=time.monotonic,
        wall=lambda: 1_800_000_000.0,
        random=random.Random(1).random,
        scrub=str,
    )


def entry(number: int = 0) -> Entry:
    """An exchange as most are."""
    name = f"here/engine-0/{MODEL}"
    return Entry(
        f"req_{number:024x}",
        1_800_000_000.0 + number,
        "anonymous",
        PATH,
        MODEL,
        200,
        "ok",
        0.0123,
        deployment=name,
        first_content=0.0121,
        usage=Usage(26, 54),
        attempts=(Attempt(name, "ok", 0.0001, 0.0122, first_content=0.012),),
        bytes_in=len(BODY),
        bytes_out=len(REPLY),
    )


# -- the stages ------------------------------------------------------------------------------------


def _head() -> Callable[[], object]:
    gateway = make_gateway(make_fleet())
    surface = Surface(gateway, inference.rows(), _ignore)
    door = Door(settings(1, 1).gateway, Keys("a-key-that-nobody-presents"))
    scope = _scope()

    def head() -> object:
        call = Call(gateway, scope, _send, _send, "req_0")  # type: ignore[arg-type]
        door.admit_address(call)
        read_headers(call)
        found = surface.table.find(PATH)
        assert found is not None
        door.admit(call, found[0]["POST"])
        return read_head(call, gateway.instance)

    return head


def _body() -> Callable[[], object]:
    budget = bodies.BodyBudget()
    message = {"type": "http.request", "body": BODY, "more_body": False}

    async def receive() -> dict[str, Any]:
        return message

    def body() -> None:
        raw, _held = done(bodies.read(receive, 1 << 20, len(BODY), budget))
        bodies.parse(raw, budget).close()

    return body


def _resolve() -> Callable[[], object]:
    names = make_fleet().names
    assert names is not None
    return lambda: names.resolve(MODEL)


def _choose(candidates: int, configured: int) -> Callable[[], object]:
    names = make_fleet(configured, candidates).names
    assert names is not None
    route = names.resolve(MODEL)
    assert route is not None
    step = route.steps[0]
    assert len(step.candidates) == candidates

    def choose() -> object:
        found = sort(step, Capability.CHAT, 100.0)
        return policies.pick(step.policy, found.ready, step.weights, now=100.0, turn=1, random=random.random)

    return choose


def _seat() -> Callable[[], object]:
    fleet = make_fleet(10, 8)
    names = fleet.names
    assert names is not None
    route = names.resolve(MODEL)
    assert route is not None
    wish = Wish(route.steps[0], Capability.CHAT, "anonymous")
    return lambda: done(fleet.seat(wish, 30.0)).release()


def _encode() -> Callable[[], object]:
    body = bodies.parse(BODY, bodies.BodyBudget())
    return lambda: body.encode(MODEL, stream=False)


def _read_answer() -> Callable[[], object]:
    return lambda: openai.read_answer(REPLY)


def _frame() -> Callable[[], object]:
    cutter, reader = sse.Cutter(), openai.Stream(strip_usage=True)
    piece = DATED_CHUNK % 123_456_789

    def frame() -> None:
        for one in cutter.feed(piece):
            reader.look(one)

    return frame


def _on_entry(what: Callable[[Entry], object]) -> Callable[[], object]:
    one = entry()
    return lambda: what(one)


# -- with threads and a loop -----------------------------------------------------------------------


@contextlib.contextmanager
def _records() -> Iterator[tuple[Store, Telemetry]]:
    """A database and a log as the gateway has them, in a directory of their own."""
    with tempfile.TemporaryDirectory(prefix="fleetgate-bench-") as place, io.StringIO() as stream:
        telemetry = configure(stream, clock=lambda: 1_800_000_000.0, form="json")
        store = Store.open(Path(place), lambda: 1_800_000_000.0, scrub=telemetry.redactor.text)
        try:
            yield store, telemetry
        finally:
            store.close()
            telemetry.close()


def _recorded(store: Store, telemetry: Telemetry, rounds: int) -> list[Stage]:
    """What posting costs the loop, and what all threads together need until it is written."""
    posted, spent = [], []
    for number in range(rounds):
        entries = [entry(number * ENTRIES + one) for one in range(ENTRIES)]
        began, busy = time.perf_counter(), time.process_time()
        for one in entries:
            store.post(one)
            telemetry.record(one)
        posted.append(time.perf_counter() - began)
        asyncio.run(store.flush())
        telemetry.flush()
        spent.append(time.process_time() - busy)
    return [
        Stage("10 settle: post row and line", min(posted) / ENTRIES * 1e6),
        Stage("10 settle: all threads until both are written", min(spent) / ENTRIES * 1e6),
    ]


async def _exchange(store: Store, telemetry: Telemetry, rounds: int) -> Stage:
    """A whole exchange, from the surface to its record."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def record(one: Entry) -> None:
        store.post(one)
        telemetry.record(one)

    gateway = make_gateway(make_fleet(), spawn, loop, record)
    surface = Surface(gateway, inference.rows(), _ignore)
    surface.configure(Door(settings(1, 1).gateway, Keys("a-key-that-nobody-presents")), "")
    count = 200
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(count):
            caller = _Caller()
            await spawn(surface(_scope(), caller.receive, caller.send))
        took.append(time.perf_counter() - began)
        await store.flush()
    return Stage("0 to 10: a whole exchange without sockets", min(took) / count * 1e6)
