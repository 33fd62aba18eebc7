"""The glossary as frozen value types. No behaviour beyond what the value itself can answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final


class Capability(StrEnum):
    """What can be asked of a model."""

    CHAT = "chat"
    COMPLETE = "complete"
    EMBED = "embed"
    RERANK = "rerank"
    IMAGE = "image"
    EDIT = "edit"
    """a picture changed by words"""
    SPEAK = "speak"
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"
    """speech into English text"""
    MODERATE = "moderate"
    VISION = "vision"
    TOOLS = "tools"
    REASONING = "reasoning"
    SCHEMA = "schema"
    """answers that follow a JSON schema"""


SOON: Final = 60 * 86_400.0
"""Seconds before a model's retirement from which on callers are told."""
IN_TOKENS: Final = frozenset({Capability.CHAT, Capability.COMPLETE})
"""work whose answers are counted in tokens, and may be streamed"""
PASSING: Final = frozenset({Capability.SPEAK, Capability.TRANSCRIBE, Capability.TRANSLATE})
"""work whose answers may be anything: sound, text, events. They pass as they come"""
PICTURES: Final = frozenset({Capability.IMAGE, Capability.EDIT})
"""work whose answers are counted in pictures"""


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
class Retirement:
    """When a provider retires a model. `at`: Unix time at which that day begins (UTC)."""

    at: float
    successor: str = ""
    """what to use instead; empty: nobody said"""
    source: str = ""

    @property
    def day(self) -> str:
        """`2026-12-11`"""
        return datetime.fromtimestamp(self.at, UTC).date().isoformat()

    def near(self, now: float) -> bool:
        """Whether it is past, or so near that people have to know."""
        return self.at - now <= SOON

    def text(self, now: float) -> str:
        """`it is retired on 2026-12-11; use gpt-5.6-sol`"""
        when = "was retired on" if self.at <= now else "is retired on"
        return f"it {when} {self.day}" + (f"; use {self.successor}" if self.successor else "")


@dataclass(frozen=True, slots=True)
class Usage:
    """What the upstream counted; `estimated` when we had to. `None` means that nobody said.

    `input_tokens` holds the cached, written and audio tokens among them, `output_tokens` those of
    reasoning and audio: the details say which part has a price of its own.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """of the input: read from the provider's cache"""
    estimated: bool = False
    cache_write_tokens: int | None = None
    """of the input: written to the provider's cache"""
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    reasoning_tokens: int | None = None
    images: int | None = None
    milliseconds: int | None = None
    """of audio"""
    characters: int | None = None
    fees: bool = False
    """the provider ran tools of its own, which it bills apart: the cost of the tokens is not all"""


@dataclass(frozen=True, slots=True)
class Timings:
    """What an engine measured of its own work on one answer. `None`: it does not say."""

    prompt_tokens: int | None = None
    """tokens of the prompt that were read, without those that it still held"""
    prompt_seconds: float | None = None
    output_tokens: int | None = None
    decode_seconds: float | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Booking:
    """What one event changes at one lasting counter, in its own unit: nano-dollars, tokens or requests."""

    counter: str
    """id of the limit, and of whom it counts for where it counts everybody apart"""
    window: int
    """begin of the counter's window, unix seconds"""
    held: int = 0
    spent: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """An attempt that costs money, before its first byte leaves: held amounts, and what is lost in a crash.

    Amounts are nano-dollars. `entry` is the exchange as far as it is known; with the attempt in it, it is
    what the ledger says should this process die now.
    """

    request_id: str
    attempt: int
    """`Attempt.number`"""
    bound: int
    """the most it can cost"""
    expected: int
    """what it is charged where its end is never learned"""
    bookings: tuple[Booking, ...]
    """amounts to hold"""
    entry: Entry


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a reservation: what it cost, in place of what was held."""

    request_id: str
    attempt: int
    cost: int
    """nano-dollars; 0 where nothing was sent or nothing is billed"""
    released: bool
    """proven unsent, refused or free"""
    estimated: bool
    excess: int
    """nano-dollars above the bound: an `adjust` of its own"""
    bookings: tuple[Booking, ...]
    """`held` is taken back, `spent` is added"""


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
    tags: tuple[str, ...] = ()
    end_user: str | None = None
    """for whom it asks, as a trusted header says"""
    alias: str | None = None
    """what the key is called: limits may name it so"""

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
    number: int = 0
    """counts the tries of an exchange, unsent ones too: the ledger's name for it"""
    account: str | None = None
    """the provider's account it was sent with"""
    usage: Usage = field(default_factory=Usage)
    cost: int | None = 0
    """nano-dollars; None: nobody knows"""
    estimated: bool = False
    """the cost is an estimate"""
    price: str = ""
    """the prices it was charged at, in short; empty: free"""
    energy: int = 0
    """micro-watt-hours that it took on a machine of ours, as far as that is configured"""
    energy_cost: int = 0
    """nano-dollars of that energy; beside `cost`, never part of it"""
    predicted: float | None = None
    """seconds that it was predicted to take, when its seat was taken"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished exchange: the log line and the ledger's line are made of this."""

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
    cache: str = ""
    """`hit`: answered from the cache; `joined`: with the answer of an equal request; else empty"""
    tags: tuple[str, ...] = ()
    """of the key"""
    settlements: tuple[Settlement, ...] = ()
    """reservations that end with the exchange"""
    bookings: tuple[Booking, ...] = ()
    """what it adds to lasting counters beside money"""

    @property
    def cost(self) -> int:
        """Nano-dollars of all attempts whose cost is known."""
        return sum(attempt.cost or 0 for attempt in self.attempts)

    @property
    def cost_unknown(self) -> bool:
        """Whether some attempt cost what nobody knows."""
        return any(attempt.cost is None for attempt in self.attempts)
