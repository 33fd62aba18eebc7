"""The live tables: what nodes, engines and deployments are like now.

Plain records without behaviour. `fleet` owns them and is the only one that changes them; decisions
(`routing`, `forecast`) read them together with `now`. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fleetgate.domain import Model, Power, Presence, Retirement
from fleetgate.forecast.durations import Durations
from fleetgate.forecast.first_content import FirstContent
from fleetgate.forecast.speed import Speed
from fleetgate.forecast.task import EVERYTHING
from fleetgate.health import Breaker, Rules
from fleetgate.pricing import FREE, Price

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.engines.meters import Meter
    from fleetgate.engines.port import EngineKind
    from fleetgate.engines.terms import Terms
    from fleetgate.upstream.port import Target


@dataclass(slots=True, eq=False)
class Node:
    """A machine. A provider counts as one that is always on."""

    name: str
    power: Power
    presence: Presence = Presence.UNKNOWN
    planned: bool = False
    maintenance: str | None = None
    local: bool = True
    """False: a provider"""
    since: float = 0.0
    """when the presence last changed"""
    remembered: bool = False
    """the presence is from before a restart"""
    wakes: bool = False
    """it may be switched on, and something is written that does it"""
    wake_within: float = 180.0
    """seconds after which a wake has failed"""
    waking_since: float | None = None
    wake_failed: float | None = None
    """when the last wake came to nothing; None: it did not"""
    wake_pause: float = 0.0
    """seconds after that in which none is tried again"""
    woken: Durations = field(default_factory=Durations)
    """seconds from the first packet to the first answer of an engine"""
    yielded_until: float | None = None
    """its owner uses it until then, by the monotonic clock (inf: until told); None: it takes requests"""
    yielded_why: str = ""
    memory: int | None = None
    """bytes for models"""
    bandwidth: int | None = None
    """bytes per second of that memory"""
    hosts: tuple[str, ...] = ()
    """its addresses as written"""
    moved_to: str | None = None
    """where it was found by its name when the written addresses led nowhere"""


@dataclass(slots=True, eq=False)
class Account:
    """One credential at one provider, or the key of an engine. Who needs no key has one without headers."""

    id: str
    """`provider/1` and so on, by its place in the file; the engine's own id for its one key"""
    headers: tuple[tuple[str, str], ...] = ()
    """authentication, built once"""
    mark: str = ""
    """tells a changed key; nothing of the key can be read from it"""
    configured: bool = True
    benched_until: float = 0.0
    why: str = ""
    models_out: dict[str, tuple[float, str]] = field(default_factory=dict)
    """model id -> (until, failure class): limits of one account on one model"""
    limited_at: float = -1e9
    """when a limit of it was last met"""
    in_flight: int = 0
    used: int = 0
    """its place in the order of use among the accounts of one engine"""
    remembered: bool = False
    """some of its state is from before a restart"""


@dataclass(frozen=True, slots=True)
class Way:
    """Where an upstream speaks another dialect than that of its kind."""

    path: str
    target: Target | None = None
    """None: the engine's own"""
    signed: bool = False
    """it is a provider, which takes thoughts of earlier answers back only with its own signature"""
    only: str = ""
    """pattern of the models that have it; empty: all"""


@dataclass(slots=True, eq=False)
class Engine:
    """One running engine at one address, or a provider's address."""

    id: str
    """`node/engine`, or the provider's name"""
    node: Node
    kind: EngineKind
    target: Target
    root: str
    """path prefix before the kind's own paths, such as `/openai`"""
    versioned: bool
    """False: `root` already ends where OpenAI's paths begin, so their `/v1` is left out"""
    accounts: tuple[Account, ...]
    """at least one"""
    rules: Rules
    hints: tuple[str, ...] = ()
    """further headers of refusals that say when to come back"""
    applied: Counter[tuple[str, str]] = field(default_factory=Counter)
    """rules that fired since the start: (member, deed) -> how often"""
    meters: tuple[Meter, ...] = ()
    """where the heads of its answers tell what is left of a limit; engines of our own have none"""
    transport: Literal["auto", "general", "lean"] = "auto"
    moved_from: Target | None = None
    """the address as written, where the machine was found at another one"""
    listed: bool = False
    """its models are written in the file"""
    every: float = 5.0
    """pace of probes"""
    breaker: Breaker = field(default_factory=Breaker)
    ways: Mapping[str, Way] = field(default_factory=dict)
    """other dialects that it speaks, by their names"""
    fetches_media: bool = False
    """addresses are handed to it"""
    ways_written: bool = False
    """the file says which; else its version does"""
    alive: bool | None = None
    loading: bool = False
    why: str = ""
    """the last fault, in words"""
    version: str | None = None
    slots_written: int | None = None
    slots_total: int | None = None
    slots_assumed: int | None = None
    """what each model of such engines answers at once where they do not say; only for predictions"""
    slots_busy: int | None = None
    queue: int | None = None
    discovered: tuple[Model, ...] | None = None
    remembered: bool = False
    """the catalogue is from before a restart"""
    foreign: int = 0
    """requests there that are not ours, as far as its last word about its seats and queue tells"""
    reads_until: float = -1e9
    """when the prompts that were sent there will have been read, as predicted: they are read one after
    the other"""
    ends: list[float] = field(default_factory=list)
    """when each of our requests there will be over, as predicted when it was sent"""
    busy_read: float = -1e9
    """when it last said how busy it is"""
    resident_read: float = -1e9
    """when it last said which models are in memory"""
    memory: int | None = None
    """bytes for models: its own, else its node's"""
    bandwidth: int | None = None
    """bytes per second of that memory"""
    max_loaded: int | None = None
    """models that it keeps in memory at once, as written or as it says"""
    max_loaded_written: int | None = None
    loadable: bool | None = None
    """whether it can be told what to load, as it says; None: as its kind says"""
    preload: tuple[str, ...] = ()
    pin: tuple[str, ...] = ()
    keep_alive: float | None = None
    """seconds that it is told to keep what we had it load; negative: for ever; None: its own time"""
    deployments: dict[str, Deployment] = field(default_factory=dict)
    """by their ids; two names may stand for one model of the engine"""
    in_flight: int = 0
    orphans: list[float] = field(default_factory=list)
    """seats whose callers left while the engine may still be at work, counted in `in_flight`: when each
    is given up at the latest"""

    @property
    def account(self) -> Account:
        """The first, which is the only one of an engine."""
        return self.accounts[0]

    @property
    def configured(self) -> bool:
        """Whether some key of it can be used."""
        return any(account.configured for account in self.accounts)

    @property
    def written(self) -> Target:
        """Its address as written; `target` is where it is."""
        return self.moved_from or self.target

    def path(self, path: str) -> str:
        """Where one of the kind's own paths lies here; two slashes begin one of the host itself."""
        if path.startswith("//"):
            return path[1:]
        return self.root + (path if self.versioned else path.removeprefix("/v1"))

    @property
    def slots(self) -> int | None:
        """Requests answered at once: as written, else as the engine says, else unknown."""
        return self.slots_written if self.slots_written is not None else self.slots_total


@dataclass(slots=True, eq=False)
class Deployment:
    """One model served by one engine or provider: what is chosen, leased and cooled."""

    id: str
    engine: Engine
    model: Model
    rules: Rules
    breaker: Breaker = field(default_factory=Breaker)
    first_content: FirstContent = field(default_factory=FirstContent)
    in_flight: int = 0
    busy_until: float = 0.0
    loading: bool = False
    removed: bool = False
    resident: bool | None = None
    context: int | None = None
    """tokens that fit: written, else as loaded, else learned; None: unknown"""
    why: str = ""
    blamed_at: float = -1e9
    price: Price | None = FREE
    """what an attempt costs; None: nobody knows"""
    loadable: bool = False
    """the engine can be told to load it, and says what is loaded: it is never asked before that"""
    can: int = EVERYTHING
    """bits of the capabilities it has, or may have: see `forecast.task`"""
    quality: float = 0.5
    """0 to 1, for the policy `best`"""
    speed: Speed = field(default_factory=Speed)
    vram_fraction: float | None = None
    """share of the loaded model that is in the GPU's memory"""
    expires: float | None = None
    """when the engine throws it out of memory, by the monotonic clock; inf: never; None: not known"""
    instance: str | None = None
    """what the engine calls the loaded copy, where that is not the model's id"""
    footprint: int | None = None
    """bytes of memory that it takes when it is loaded, as the engine said last"""
    load_began: float | None = None
    """since when it is being loaded for us"""
    progress: float | None = None
    """0 to 1 of the load under way, where the engine says"""
    guessed: bool = False
    """something tells how fast it should be: its size, and the bandwidth of its memory"""
    load_guess: float = 20.0
    """seconds that a load is taken to need while none was seen"""
    displaces: float = 0.0
    """seconds that loading it now would cost others whose place it takes"""
    used_at: float = -1e9
    """when an attempt was last sent there"""
    learned_at: float = -1e9
    """when an answer last taught its speed"""
    retires: Retirement | None = None
    """when its provider retires the model"""
    retirement_told: bool = False
    """the log has it"""
    terms: Terms | None = None
    """what it does not take of a request; None: it takes everything"""
    generated: tuple[str, ...] = ()
    """its names by `naming`"""

    @property
    def ways(self) -> Mapping[str, Way]:
        """Other dialects than that of its engine's kind in which it can be asked."""
        ways = self.engine.ways
        if not any(way.only for way in ways.values()):
            return ways
        return {name: way for name, way in ways.items() if not way.only or re.search(way.only, self.model.id)}

    @property
    def local(self) -> bool:
        return self.engine.node.local and not self.model.remote
