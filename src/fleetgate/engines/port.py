"""The engine port: describe requests, read answers. No I/O, no clock, no state.

One module per engine kind implements it; `probes.py` performs the requests. A signal that an
engine does not have (501, or 404 on an optional path) is *unknown*: it is not polled again, and
it is never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetgate.domain import Capability, Model
    from fleetgate.errors import FailureClass


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that costs nothing and, but for those of `load`, loads nothing. `path` is below the root."""

    path: str
    method: str = "GET"
    body: bytes = b""
    optional: bool = False
    """an engine without it is still healthy"""
    stirs: bool = False
    """keeps an idle engine awake, or wakes it: ask only while it is at work for us anyway"""
    unless: str = ""
    """path of a better ask: this one is for engines that do not have that"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for an `Ask`. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that is in memory. `None` is unknown."""

    id: str
    context: int | None = None
    vram_fraction: float | None = None
    expires_at: str | None = None
    """RFC 3339; a time centuries away means for ever"""
    instance: str | None = None
    """what the engine calls this copy, where unloading needs that"""
    slots: int | None = None
    """requests that this copy answers at once"""
    size: int | None = None
    """bytes of memory that it takes"""


@dataclass(frozen=True, slots=True)
class Load:
    """A model that is being loaded, or could not be."""

    id: str
    progress: float | None = None
    """0 to 1"""
    failed: str = ""
    """why it is not loaded, in words; empty: it is under way"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reply taught. Everything that it did not speak of stays `None`."""

    alive: bool | None = None
    loading: bool | None = None
    sleeping: bool | None = None
    """its weights are out of memory until the next request: cold, not faulty"""
    failure: FailureClass | None = None
    """set when the reply shows a fault (key_invalid, server_error, garbage, absent_feature)"""
    models: tuple[Model, ...] | None = None
    resident: tuple[Resident, ...] | None = None
    loads: tuple[Load, ...] | None = None
    max_loaded: int | None = None
    """models that it keeps in memory at once"""
    loadable: bool | None = None
    """whether it can be told what to load, at this address and with this key; None: as the kind says"""
    slots_total: int | None = None
    slots_busy: int | None = None
    queue: int | None = None
    cache_used: float | None = None
    """fraction of the memory for running sequences that is taken"""
    context: int | None = None
    version: str | None = None
    note: str = ""


class EngineKind(Protocol):
    """One kind of engine."""

    @property
    def name(self) -> str: ...

    @property
    def ports(self) -> tuple[int, ...]:
        """where it usually listens, the default first"""
        ...

    @property
    def load_dies_with_caller(self) -> bool:
        """whether a request that is taken back while it loads a model takes the load with it"""
        ...

    @property
    def slots_assumed(self) -> int | None:
        """requests that each of its models usually answers at once, where the engine does not say"""
        ...

    @property
    def answers_any_name(self) -> bool:
        """whether it lists models that are not in memory, and answers for them with the one that is"""
        ...

    @property
    def continues(self) -> Literal["", "flags", "assistant", "prefix"]:
        """how it is told to go on with an answer in its text (`dialects.continuing`); empty: it cannot, or
        it is not known"""
        ...

    @property
    def counts_messages(self) -> bool:
        """whether it counts the tokens of a request of Anthropic's dialect, where it speaks that"""
        ...

    @property
    def speaks(self) -> Literal["openai", "anthropic"]:
        """the dialect of its paths"""
        ...

    def also_speaks(self, version: str | None) -> Mapping[str, str]:
        """dialects that engines of this version speak beside their own, with the path of each below the
        root; nothing is promised for a version that is not known"""
        ...

    def headers(self, key: str | None) -> tuple[tuple[str, str], ...]:
        """what goes with every request: how it is told the key, where there is one"""
        ...

    def normal_id(self, model: str) -> str:
        """the one spelling of a model's id, so that written, listed and loaded ones compare equal"""
        ...

    def path(self, capability: Capability) -> str | None:
        """the path that serves this kind of work in its dialect, below the root; None: it does not"""
        ...

    @property
    def infill(self) -> str | None:
        """the path of its own call that fills a gap in a text, below the root, where its completion call
        ignores `suffix`; None: there is none"""
        ...

    def load(self, model: str, keep: float | None, does: frozenset[Capability] | None = None) -> Ask | None:
        """what has it load a model and answers when that is done, or at once where a reading tells the
        rest; None: it is not to be told, because it loads by itself or because it does not say what is
        loaded. `keep`: seconds to keep it in memory once it is idle, negative: for ever, None: the
        engine's own time. `does`: what the model is for, where that is known"""
        ...

    def refusal(self, reply: Reply) -> str:
        """why a `load` or `unload` came to nothing, as its answer says; empty: it was done, or is under
        way"""
        ...

    def unload(self, model: str, instance: str | None) -> Ask | None:
        """what has it throw a model out of memory; None: it cannot be told"""
        ...

    def tells_of_load(self, chunk: Mapping[str, Any]) -> bool:
        """whether a piece of a stream tells of a load only, in the place where an answer stands"""
        ...

    def pulse(self) -> Sequence[Ask]:
        """asked at every probe: is it alive, what is loaded, how busy is it"""
        ...

    def catalogue(self) -> Sequence[Ask]:
        """asked every 60 s and on recovery: what does it have"""
        ...

    def read(self, ask: Ask, reply: Reply) -> Reading:
        """what a reply to one of the asks above says"""
        ...

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
        """the failure class of an error answer (status >= 400) to live traffic"""
        ...
