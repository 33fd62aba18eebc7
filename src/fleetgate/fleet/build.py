"""From settings to live records: where engines are, and what they are said to offer. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from fleetgate.config import providers
from fleetgate.config.checks import is_usable
from fleetgate.config.names import bare_host, engine_names, model_id, model_name
from fleetgate.domain import Model, Power
from fleetgate.engines.kinds import OF_PROVIDERS
from fleetgate.engines.meters import HINTS, METERS, USUAL
from fleetgate.engines.provided import Provided
from fleetgate.engines.terms import terms_of_engine, terms_of_provider
from fleetgate.engines.versions import DIALECT_PATHS
from fleetgate.fleet.written_rules import written_rules
from fleetgate.live import Way
from fleetgate.prices import retired
from fleetgate.prices.choose import price_for
from fleetgate.pricing import FREE, Price, price_of
from fleetgate.upstream.port import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fleetgate.config.money import Currency
    from fleetgate.config.schema import Engine as EngineSettings
    from fleetgate.config.schema import Health, ModelEntry, Node, Provider, Settings
    from fleetgate.config.secrets import Secret
    from fleetgate.domain import Retirement
    from fleetgate.engines.meters import Meter
    from fleetgate.engines.port import EngineKind
    from fleetgate.engines.terms import Terms
    from fleetgate.live import Engine as LiveEngine
    from fleetgate.live import Node as LiveNode

LET_THROUGH: Final = Price(ceiling=0, origin="unpriced")
"""Nobody knows, and it is asked all the same: the cost stays unknown, and no budget holds anything."""
CONNECT_LAN: Final = 2.0
CONNECT_OVERLAY: Final = 3.0
CONNECT_CLOUD: Final = 5.0
IDLE_LAN: Final = 4.0
IDLE_TLS: Final = 55.0


def _never(_model: str) -> None:
    """Engines of one's own retire nothing."""


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """One key as written; `key` is None where none is needed, or where it is not there."""

    id: str
    key: str | None = field(repr=False)
    configured: bool = True


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """Everything the file says about one engine, resolved."""

    id: str
    node: str
    kind: str
    """the name of its kind, or of the row of a known provider"""
    target: Target
    root: str
    versioned: bool
    accounts: tuple[AccountPlan, ...]
    health: Health
    models: tuple[Model, ...] | None
    slots: int | None
    transport: Literal["auto", "general", "lean"]
    local: bool
    prefix: str
    """what deployment ids begin with: `node/engine`, or the provider's name"""
    price: Callable[[Model, float], Price | None] = field(repr=False, compare=False)
    """of a model of it at a unix time; None: nobody knows"""
    terms: Callable[[str], Terms | None] = field(repr=False, compare=False)
    """what a model of it, by its id, does not take of a request; None: it takes everything"""
    provided: EngineKind | None = None
    """the kind of a known provider, made of its row"""
    meters: tuple[Meter, ...] = ()
    hints: tuple[str, ...] = ()
    """further headers that say when to come back"""
    retires: Callable[[str], Retirement | None] = field(default=_never, repr=False, compare=False)
    """when its provider retires a model, by its id"""
    max_loaded: int | None = None
    preload: tuple[str, ...] = ()
    pin: tuple[str, ...] = ()
    keep_alive: float | None = None
    memory: int | None = None
    bandwidth: int | None = None
    fetches_media: bool = False
    dialects: frozenset[str] | None = None
    """those it speaks beside that of its kind, as written"""
    ways: Mapping[str, Way] = field(default_factory=dict)
    """where a provider is known to speak them"""


def plans(settings: Settings, kinds: Mapping[str, EngineKind]) -> Iterator[EnginePlan]:
    """One plan per engine and provider. Planned nodes have none: nothing there is ever probed."""
    for name, node in settings.nodes.items():
        if not node.planned:
            yield from _engines_of(name, node, settings, kinds)
    for name, provider in settings.providers.items():
        plan = _provider(name, provider, settings)
        if plan is not None:
            yield plan


def power_of(settings: Settings, node: str) -> Power:
    """A provider counts as always on."""
    written = settings.nodes.get(node)
    return written.power if written is not None else Power.ALWAYS


def fill_node(node: LiveNode, written: Node | None) -> None:
    """What the file says about waking and memory, put into the live record."""
    wake = written.wake if written is not None else None
    node.wakes = written is not None and written.power is Power.ON_DEMAND and wake is not None
    node.wake_within = wake.within if wake is not None else node.wake_within
    node.memory = written.memory if written is not None else None
    node.bandwidth = written.bandwidth if written is not None else None
    hosts = tuple(map(bare_host, written.address)) if written is not None else ()
    if hosts != node.hosts:
        node.moved_to = None  # the file knows better now
    node.hosts = hosts


def follow(engine: LiveEngine) -> None:
    """Where its machine was found at another address than the written ones, that one comes first."""
    node, written = engine.node, engine.written
    if node.moved_to is None or written.hosts != node.hosts or written.tls:
        return
    hosts = (node.moved_to, *written.hosts)
    engine.moved_from = written
    engine.target = replace(written, hosts=hosts, connect_timeout=_connect_timeout(hosts))


def fill_engine(engine: LiveEngine, plan: EnginePlan) -> None:
    """What the file says about the memory of an engine, and its kind about its seats, put into the live
    record."""
    if plan.max_loaded is not None or engine.max_loaded_written is not None:
        engine.max_loaded = plan.max_loaded
    engine.max_loaded_written = plan.max_loaded
    engine.slots_assumed = engine.kind.slots_assumed
    engine.preload, engine.pin, engine.keep_alive = plan.preload, plan.pin, plan.keep_alive
    engine.memory, engine.bandwidth = plan.memory, plan.bandwidth
    engine.fetches_media = plan.fetches_media
    engine.ways_written = plan.dialects is not None or not plan.local
    if engine.ways_written:
        engine.ways = _ways(plan)
    else:
        learn_ways(engine)


def learn_ways(engine: LiveEngine) -> None:
    """Which dialects an engine of one's own speaks follows from its version, where the file does not say."""
    if not engine.ways_written:
        spoken = engine.kind.also_speaks(engine.version)
        engine.ways = {name: Way(engine.path(path)) for name, path in spoken.items()}


def _ways(plan: EnginePlan) -> Mapping[str, Way]:
    """Dialects as written, at its own address; else where the provider is known to speak them."""
    if plan.dialects is None:
        return plan.ways
    here = {name: _way(plan.target, plan.root, plan.versioned, name) for name in plan.dialects}
    return {name: plan.ways.get(name) or replace(way, signed=not plan.local) for name, way in here.items()}


def _way(target: Target, root: str, versioned: bool, dialect: str) -> Way:  # noqa: FBT001
    path = DIALECT_PATHS[dialect]
    return Way(root + (path if versioned else path.removeprefix("/v1")), target)


def _known_ways(name: str, provider: Provider) -> dict[str, Way]:
    """Where a provider is known to speak other dialects than that of its row."""
    row = providers.known(name, provider)
    if row is None:
        return {}
    found = providers.dialects_at(name, provider)
    if row.speaks == "anthropic":
        found["anthropic"] = provider.url or row.url
    ways = {}
    written = (provider.url or "").rstrip("/")
    for dialect, url in found.items():
        exact = url.rstrip("/") != written  # as written, it is read as the provider's own address is
        target, root, versioned = read_url(url, provider.ca, cloud=True, exact=exact)
        way = _way(target, root, versioned, dialect)
        ways[dialect] = replace(way, signed=True, only=row.only.get(dialect, ""))
    return ways


def _engines_of(
    name: str, node: Node, settings: Settings, kinds: Mapping[str, EngineKind]
) -> Iterator[EnginePlan]:
    for engine, engine_name in zip(node.engines, engine_names(node), strict=True):
        kind = kinds[engine.kind]
        if engine.url:
            target, root, versioned = read_url(engine.url, engine.ca)
        else:
            hosts = tuple(map(bare_host, node.address))
            target = Target(
                hosts=hosts,
                port=engine.port or kind.ports[0],
                connect_timeout=_connect_timeout(hosts),
                idle_expiry=IDLE_LAN,
            )
            root, versioned = "", True
        yield EnginePlan(
            id=f"{name}/{engine_name}",
            node=name,
            kind=engine.kind,
            target=target,
            root=root,
            versioned=versioned,
            accounts=(_account(f"{name}/{engine_name}", engine.key),),
            health=engine.health or settings.health,
            models=read_models(engine.models),
            slots=engine.slots,
            transport=engine.transport,
            local=True,
            prefix=f"{name}/{engine_name}",
            price=partial(_own_price, engine, settings.currency),
            terms=partial(terms_of_engine, engine.kind, written=written_rules(engine.rules)),
            max_loaded=engine.max_loaded,
            preload=engine.preload,
            pin=engine.pin,
            keep_alive=engine.keep_alive,
            memory=engine.memory or node.memory,
            bandwidth=engine.bandwidth or node.bandwidth,
            fetches_media=engine.fetches_media,
            dialects=engine.dialects,
        )


def _provider(name: str, provider: Provider, settings: Settings) -> EnginePlan | None:
    url = providers.base_url(name, provider)
    if url is None:
        return None
    target, root, versioned = read_url(url, provider.ca, cloud=True, exact=provider.url is None)
    provided = _provided(name, provider)
    keys = provider.keys or ((provider.key,) if provider.key is not None else ())
    if keys:
        accounts = tuple(_account(f"{name}/{place}", key) for place, key in enumerate(keys, 1))
    else:  # at an address of its own it may do without
        accounts = (AccountPlan(f"{name}/1", None, configured=bool(provider.url)),)
    return EnginePlan(
        id=name,
        node=name,
        kind=provided.name if provided is not None else "openai",
        provided=provided,
        target=target,
        root=root,
        versioned=versioned,
        accounts=accounts,
        health=provider.health or settings.health,
        models=read_models(provider.models),
        slots=None,
        transport="auto",
        local=False,
        prefix=name,
        price=partial(_provider_price, name, provider, settings),
        terms=partial(
            terms_of_provider,
            "" if _is_anybody(provider) else provider.kind or name,
            written=written_rules(provider.rules),
        ),
        meters=_meters(name, provider),
        hints=() if _is_anybody(provider) else HINTS.get(provider.kind or name, ()),
        retires=partial(retired.lookup, providers.row_name(name, provider)),
        dialects=provider.dialects,
        ways=_known_ways(name, provider),
    )


def _provided(name: str, provider: Provider) -> EngineKind | None:
    """The kind of a known provider; None: nothing is known but that it speaks OpenAI's dialect."""
    row = None if _is_anybody(provider) else providers.known(name, provider)
    if row is None:
        return None
    called = provider.kind or name
    if row.speaks in OF_PROVIDERS:
        return OF_PROVIDERS[row.speaks]
    return Provided(called, serves=row.serves, paths=row.paths, auth=row.auth, lists=row.lists)


def _own_price(engine: EngineSettings, currency: Currency | None, model: Model, _when: float) -> Price | None:
    """Own machines are free, unless the file says otherwise."""
    entry = _entry(engine.models, model)
    return FREE if entry is None or entry.price is None else price_of(entry.price, currency)


def _provider_price(
    name: str, provider: Provider, settings: Settings, model: Model, when: float
) -> Price | None:
    """The file's, else the known one, else what the provider or the whole file has for such models."""
    currency = settings.currency
    known = price_for(name, provider, _entry(provider.models, model), model.id, currency, when)
    if known is None and provider.price is not None:
        return price_of(provider.price, currency)
    if known is None and settings.ledger.unpriced == "let_through":
        return LET_THROUGH
    return known


def _entry(entries: tuple[ModelEntry, ...] | None, model: Model) -> ModelEntry | None:
    return next((entry for entry in entries or () if model_name(entry) == model.name), None)


def _meters(name: str, provider: Provider) -> tuple[Meter, ...]:
    return USUAL if _is_anybody(provider) else METERS.get(provider.kind or name, USUAL)


def _is_anybody(provider: Provider) -> bool:
    """What is written as `kind: openai` with a `url` may be anybody."""
    return provider.kind == "openai" and bool(provider.url)


def read_url(
    url: str, ca: str | None, *, cloud: bool = False, exact: bool = False
) -> tuple[Target, str, bool]:
    """Address, path prefix, and whether the kind's own `/v1` belongs behind the prefix.

    `…/v1` and an address without a path take the usual paths; any other path is where OpenAI's paths
    begin (`…/v1beta/openai`). `exact`: take even an empty path as written.
    """
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host = parts.hostname or ""
    target = Target(
        hosts=(host,),
        port=parts.port or (443 if tls else 80),
        tls=tls,
        ca=ca,
        connect_timeout=CONNECT_CLOUD if cloud or tls else _connect_timeout((host,)),
        idle_expiry=IDLE_TLS if tls else IDLE_LAN,
    )
    path = parts.path.rstrip("/")
    if path.endswith("/v1"):
        return target, path.removesuffix("/v1"), True
    return target, path, not path and not exact


def read_models(entries: tuple[ModelEntry, ...] | None) -> tuple[Model, ...] | None:
    """Written model entries as values; None where none are written: they are discovered."""
    if entries is None:
        return None
    return tuple(
        Model(
            id=model_id(entry),
            name=model_name(entry),
            aliases=entry.aliases,
            does=entry.does,
            context=entry.context,
            params=entry.params,
            quality=entry.quality,
            dimensions=entry.dimensions,
            space=entry.space,
            size=entry.size,
            note=entry.note,
        )
        for entry in entries
    )


def _account(account_id: str, key: Secret | None) -> AccountPlan:
    if key is None:
        return AccountPlan(account_id, None)
    return AccountPlan(account_id, key.reveal() if key.resolved else None, is_usable(key))


def _connect_timeout(hosts: tuple[str, ...]) -> float:
    """Overlay networks (100.64.0.0/10 and `.ts.net` names) need longer for the first packet."""
    overlay = any(host.startswith("100.") or host.endswith(".ts.net") for host in hosts)
    return CONNECT_OVERLAY if overlay else CONNECT_LAN
