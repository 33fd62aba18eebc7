"""The gateway's parts as stages are measured with: real ones, in this process, without sockets."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from bench.parts import ANSWER, MODEL, PATH, QUESTION
from fleetgate.budgets.compile import compile as compile_limits
from fleetgate.budgets.owner import Budgets, Means
from fleetgate.config.schema import Settings
from fleetgate.domain import Attempt, Entry, KeyKind, Usage
from fleetgate.engines.kinds import KINDS
from fleetgate.engines.port import Reading
from fleetgate.fleet.fleet import Fleet
from fleetgate.gateway.gateway import Gateway
from fleetgate.keys import form
from fleetgate.keys.owner import Issued, Keys, digest
from fleetgate.keys.ring import Ring, known_of
from fleetgate.store.access import KeyRow
from fleetgate.upstream.media import Media

if TYPE_CHECKING:
    from fleetgate.store.database import Store
    from fleetgate.upstream.port import UpstreamRequest

NOW: Final = 1_800_000_000.0
BODY: Final = QUESTION.encode()
REPLY: Final = ANSWER.encode()
KEY_ID: Final = "0123456789ab"
KEY: Final = form.whole(KeyKind.CALLER, KEY_ID, "s" * form.SECRET_LENGTH)
LIMITS: Final[tuple[dict[str, Any], ...]] = (
    {"scope": {"key": "*"}, "requests": 100_000_000},
    {"scope": {"key": "*"}, "tokens": 100_000_000_000},
    {"scope": {"key": "*"}, "requests": 100_000_000, "per": "day"},
    {"scope": "global", "parallel": 1_000},
    {"scope": {"role": MODEL}, "requests": 100_000_000},
    {"scope": "global", "money": "100000 USD"},
)
"""What a careful operator sets, and nobody reaches here: four kinds of windows, five of them asked of
every request."""

Make = Callable[[], Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Trial:
    """A stage that can be measured."""

    name: str
    make: Make


def done(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as result:
        return result.value
    raise AssertionError("it waits for something")


def ignore(*_arguments: object, **_values: object) -> None:
    """Nobody listens."""


async def send(_message: Any) -> None:
    """A caller who takes everything."""


def settings(deployments: int, in_pool: int, limits: tuple[dict[str, Any], ...] = ()) -> Settings:
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
    tree = {
        "gateway": {"auth": "open"},
        "nodes": {"here": {"address": "127.0.0.1", "engines": engines}},
        "limits": limits,
    }
    return Settings.model_validate_json(json.dumps(tree))


def make_fleet(deployments: int = 10, in_pool: int = 1) -> Fleet:
    """Its engines have answered their first probe."""
    fleet = Fleet(
        KINDS,
        clock=time.monotonic,
        wall=lambda: NOW,
        random=random.Random(1).random,
        call_later=lambda _seconds, _call: None,
        report=ignore,
        remember=ignore,
    )
    fleet.configure(settings(deployments, in_pool))
    for engine in fleet.engines.values():
        fleet.read(engine, Reading(alive=True, slots_total=8))
    return fleet


def make_budgets(limits: tuple[dict[str, Any], ...] = (), store: Store | None = None) -> Budgets:
    """Without a store no lasting limit can be asked."""
    means = Means(cast("Store", store), time.monotonic, lambda: NOW, ignore)
    budgets = Budgets(means)
    budgets.configure(compile_limits(settings(1, 1, limits)))
    return budgets


def make_keys(names: tuple[str, ...] = (f"{MODEL[:-1]}*",)) -> Keys:
    """One issued key, which memory has."""
    pepper, ring = b"pepper", Ring()
    parts = form.parse(KEY.encode())
    assert parts is not None
    hashed = digest(pepper, parts.secret).hex()
    row = KeyRow(KEY_ID, KeyKind.CALLER.value, hashed, 0, alias="bench", names=names)
    ring.confirm(0, 0.0)
    ring.took(KEY_ID, known_of(row, None), 0, 0.0)
    issued = Issued(cast("Store", None), pepper, ring, lambda: 0.0, lambda: NOW)
    return Keys("a-key-that-nobody-presents", issued)


def scope(key: str = "nothing-in-particular") -> dict[str, Any]:
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
            (b"authorization", b"Bearer " + key.encode()),
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


class Caller:
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


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a gateway stands on, where it answers."""

    spawn: Any = None
    loop: Any = None
    record: Any = ignore
    store: Store | None = None


def make_gateway(
    fleet: Fleet, around: Surroundings | None = None, limits: tuple[dict[str, Any], ...] = ()
) -> Gateway:
    around, transport = around or Surroundings(), _Transport()
    return Gateway(
        settings=settings(1, 1),
        fleet=fleet,
        instance="0123456789abcdef",
        version="bench",
        loop=around.loop,
        spawn=around.spawn,
        transport_for=lambda _one: transport,
        record=around.record,
        clock=time.monotonic,
        wall=lambda: NOW,
        random=random.Random(1).random,
        scrub=str,
        budgets=make_budgets(limits, around.store),
        store=cast("Store", around.store),
        media=Media(),
    )


def entry(number: int = 0) -> Entry:
    """An exchange as most are."""
    name = f"here/engine-0/{MODEL}"
    usage = Usage(26, 54)
    return Entry(
        f"req_{number:024x}",
        NOW + number / 1_000,
        "anonymous",
        PATH,
        MODEL,
        200,
        "ok",
        0.0123,
        deployment=name,
        first_content=0.0121,
        usage=usage,
        attempts=(Attempt(name, "ok", 0.0001, 0.0122, first_content=0.012, usage=usage),),
        bytes_in=len(BODY),
        bytes_out=len(REPLY),
    )
