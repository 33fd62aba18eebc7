"""The glossary as frozen value types. No behaviour beyond what the value itself can answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Capability(StrEnum):
    """What can be asked of a model."""

    CHAT = "chat"
    COMPLETE = "complete"
    EMBED = "embed"
    RERANK = "rerank"
    IMAGE = "image"
    SPEAK = "speak"
    TRANSCRIBE = "transcribe"
    VISION = "vision"
    TOOLS = "tools"
    REASONING = "reasoning"


class Power(StrEnum):
    """How a node is switched: decides whether its absence is a fault."""

    ALWAYS = "always"
    ON_DEMAND = "on_demand"
    MANUAL = "manual"


class Presence(StrEnum):
    """Whether a node is there."""

    UNKNOWN = "unknown"
    AWAKE = "awake"
    WAKING = "waking"
    ASLEEP = "asleep"
    MISSING = "missing"


class State(StrEnum):
    """The state of a deployment."""

    UNKNOWN = "unknown"
    LOADING = "loading"
    READY = "ready"
    COOLING = "cooling"
    DOWN = "down"
    UNCONFIGURED = "unconfigured"


@dataclass(frozen=True, slots=True)
class Model:
    """A model as one engine or provider offers it.

    `id` is what the engine calls it, `name` what we call it. `None` means unknown, never zero or no.
    """

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    does: frozenset[Capability] | None = None
    context: int | None = None
    """tokens that fit, as served"""
    params: float | None = None
    """parameters in billions"""
    quality: float | None = None
    dimensions: int | None = None
    space: str | None = None
    """embeddings of the same space may stand in for each other"""
    digest: str | None = None
    size: int | None = None
    """bytes of the weights"""
    quantisation: str | None = None
    family: str | None = None
    remote: bool = False
    """a cloud model behind a local address"""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the upstream counted them; `estimated` when we had to."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    estimated: bool = False


class KeyKind(StrEnum):
    """What a key is for."""

    CALLER = "caller"
    """asks models"""
    VIEWER = "viewer"
    """reads the admin API and changes nothing"""
    ADMIN = "admin"
    """everything"""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a key, and the user and the team it belongs to."""

    id: str
    kind: KeyKind = KeyKind.CALLER
    user: str | None = None
    team: str | None = None
    names: tuple[str, ...] = ()
    """patterns of the names it may ask for; empty: every name"""
    only_local: bool = False
    """its key could not be confirmed lately: nothing that costs money"""

    @property
    def admin(self) -> bool:
        return self.kind is KeyKind.ADMIN


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one deployment, as it is recorded. Times are seconds since the exchange began."""

    deployment: str
    outcome: str
    """`ok`, or the failure class"""
    began: float
    ended: float
    step: int = 0
    dispatched: bool = True
    status: int | None = None
    first_content: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished exchange: the log line and the ledger row are made of this."""

    request_id: str
    at: float
    """unix time of its begin"""
    principal: str
    route: str
    model: str
    status: int
    outcome: str
    """`ok`, a failure class, or the code of a refusal"""
    duration: float
    deployment: str | None = None
    streamed: bool = False
    first_content: float | None = None
    usage: Usage = field(default_factory=Usage)
    attempts: tuple[Attempt, ...] = ()
    bytes_in: int = 0
    bytes_out: int = 0
    note: str = ""
    user: str | None = None
    """whose key it was"""
    team: str | None = None
    end_user: str | None = None
    """for whom the caller asked, in its own words"""
