"""The owners of living state, each built out of the settings and of those it stands on.

One function per owner, in the order in which they are built. Nothing here runs anything.
"""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleetgate import __version__
from fleetgate.budgets.owner import Budgets, Means
from fleetgate.budgets.rules import Means as RuleMeans
from fleetgate.budgets.rules import Rules
from fleetgate.budgets.switch import Switch
from fleetgate.cache.owner import Cache
from fleetgate.engines.kinds import KINDS
from fleetgate.fleet.fleet import Fleet
from fleetgate.gateway.gateway import Gateway
from fleetgate.http.throttle import Throttle
from fleetgate.keys.master import PEPPER_FILE, pepper
from fleetgate.keys.owner import Issued, Keys, digest
from fleetgate.keys.people import People
from fleetgate.keys.registry import Registry
from fleetgate.keys.ring import Ring
from fleetgate.keys.tailscale import Tailscale
from fleetgate.probes.knock import Knocks
from fleetgate.probes.moved import Whereabouts
from fleetgate.probes.probes import Probes, Ways
from fleetgate.reconcile import frame as reconciling
from fleetgate.reconcile.reconciler import Reconciler
from fleetgate.shared.connect import open_shared
from fleetgate.store import access

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from fleetgate.config.schema import Settings
    from fleetgate.domain import Entry
    from fleetgate.shared.port import SharedState
    from fleetgate.store.database import Store
    from fleetgate.telemetry import Redactor
    from fleetgate.upstream.transports import Transports


@dataclass(frozen=True, slots=True)
class Frame:
    """What every owner is built on."""

    loop: asyncio.AbstractEventLoop
    store: Store
    redactor: Redactor
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    report: Callable[..., None]
    record: Callable[[Entry], None]
    settings: Callable[[], Settings]
    """those in effect"""
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time  # noqa: TID251  (dates rows; money and quotas know the time of day)
    random: Callable[[], float] = random.Random().random  # noqa: S311  (spreads load; hides nothing)


@dataclass(frozen=True, slots=True)
class Persons:
    """Who asks."""

    keys: Keys
    registry: Registry
    people: People
    throttle: Throttle
    tailscale: Tailscale


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be asked."""

    budgets: Budgets
    rules: Rules
    switch: Switch
    alone: bool
    """no other gateway uses the database"""


def people(frame: Frame, master: str) -> Persons:
    """Keys, users, teams. Reads the counter of changes."""
    store = frame.store
    seasoning = pepper(store.directory)
    mark = digest(seasoning, b"which pepper").hex()[:16]
    if store.get_or_create("pepper", lambda: mark) != mark:
        text = f"{PEPPER_FILE} is not the one that keys were made with: they do not count until it is back"
        frame.report("pepper_changed", "error", text=text)
    ring = Ring()
    issued = Issued(store, seasoning, ring, frame.clock, frame.wall)
    keys = Keys(master, issued)
    ring.confirm(store.ask(access.epoch), frame.clock())
    persons = People(issued)
    return Persons(
        keys,
        Registry(issued, secrets.token_bytes),
        persons,
        Throttle(frame.clock, frame.report),
        Tailscale(keys, persons, frame.clock),
    )


def shared(frame: Frame) -> SharedState | None:
    """None: this gateway shares nothing. Raises CannotShare."""
    where = frame.settings().gateway.shared_state
    frame.redactor.add(where.password)
    return open_shared(where.reveal(), frame.spawn, frame.clock)


def fleet(frame: Frame) -> Fleet:
    return Fleet(
        KINDS,
        clock=frame.clock,
        wall=frame.wall,
        random=frame.random,
        call_later=frame.loop.call_later,
        report=frame.report,
        remember=frame.store.remember,
    )


def bounds(frame: Frame, state: SharedState | None) -> Bounds:
    """Limits and budgets. Reads the stored limits and the switch."""
    store = frame.store
    alone = frame.settings().gateway.database.reveal() == "sqlite"
    budgets = Budgets(Means(store, frame.clock, frame.wall, frame.report, state, alone))
    rules = Rules(RuleMeans(store, frame.wall, frame.settings, frame.report))
    switch = Switch(store, budgets, frame.wall)
    rules.read_now()
    switch.read_now()
    return Bounds(budgets, rules, switch, alone)


def gateway(frame: Frame, machines: Fleet, budgets: Budgets, transports: Transports) -> Gateway:
    store = frame.store
    return Gateway(
        settings=frame.settings(),
        fleet=machines,
        instance=store.get_or_create("instance", lambda: secrets.token_hex(8)),
        version=__version__,
        loop=frame.loop,
        spawn=frame.spawn,
        transport_for=lambda one: transports.choose(one.engine.transport),
        record=frame.record,
        clock=frame.clock,
        wall=frame.wall,
        random=frame.random,
        scrub=frame.redactor.text,
        budgets=budgets,
        store=store,
        media=transports.media,
    )


def probes(frame: Frame, machines: Fleet, of: Gateway, transports: Transports) -> Probes:
    tailnet = Whereabouts(lambda: _tailnet_socket(frame.settings()), frame.clock, frame.report)
    knocks = Knocks(machines, transports.dialler.knock, tailnet)
    return Probes(
        machines,
        instance=of.instance,
        ways=Ways(lambda one: transports.choose(one.transport), knocks.at),
        clock=frame.clock,
        random=frame.random,
        spawn=frame.spawn,
        report=frame.report,
        scrub=frame.redactor.text,
    )


def reconciler(frame: Frame, machines: Fleet, transports: Transports) -> Reconciler:
    return Reconciler(
        reconciling.Frame(
            machines,
            frame.settings,
            transport_for=lambda one: transports.choose(one.transport),
            outside=transports.choose(),
            clock=frame.clock,
            spawn=frame.spawn,
            report=frame.report,
            scrub=frame.redactor.text,
        )
    )


def _tailnet_socket(settings: Settings) -> str | None:
    written = settings.gateway.tailscale
    return written.whois if written is not None else None


def cache(frame: Frame, state: SharedState | None) -> Cache:
    return Cache(clock=frame.clock, wall=frame.wall, spawn=frame.spawn, shared=state)
