"""The live tables: what nodes, engines and deployments are like now.

Plain records without behaviour. `fleet` owns them and is the only one that changes them; decisions
(`routing`, `forecast`) read them together with `now`. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fleetgate.domain import Model, Power, Presence
from fleetgate.forecast import FirstContent
from fleetgate.health import Breaker, Rules
from fleetgate.pricing import FREE, Price

if TYPE_CHECKING:
    from fleetgate.engines.meters import Meter
    from fleetgate.engines.port import EngineKind
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
    meters: tuple[Meter, ...] = ()
    """where the heads of its answers tell what is left of a limit; engines of our own have none"""
    transport: Literal["auto", "general", "lean"] = "auto"
    listed: bool = False
    """its models are written in the file"""
    every: float = 5.0
    """pace of probes"""
    breaker: Breaker = field(default_factory=Breaker)
    alive: bool | None = None
    loading: bool = False
    why: str = ""
    """the last fault, in words"""
    version: str | None = None
    slots_written: int | None = None
    slots_total: int | None = None
    slots_busy: int | None = None
    queue: int | None = None
    discovered: tuple[Model, ...] | None = None
    remembered: bool = False
    """the catalogue is from before a restart"""
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

    def path(self, path: str) -> str:
        """Where one of the kind's own paths lies at this address."""
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

    @property
    def local(self) -> bool:
        return self.engine.node.local and not self.model.remote
