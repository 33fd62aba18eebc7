"""Whether a deployment could take a request now, and if not, why. Pure.

Reasons come in three kinds. *Hard* ones never bend. *Ejected* ones (a breaker is open, the machine
is missing) give way for the last step of a plan: the last candidate is never ejected, because a
try is better than a certain refusal. *Waiting* ones end by themselves soon: a seat frees, a load
ends.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from fleetgate.domain import Capability, Power, Presence, State
from fleetgate.health import Phase
from fleetgate.routing import accounts
from fleetgate.routing.accounts import Standing

if TYPE_CHECKING:
    from collections.abc import Collection

    from fleetgate.live import Deployment


class Kind(Enum):
    HARD = auto()
    EJECTED = auto()
    WAITING = auto()


class Reason(Enum):
    """Why a candidate is not taken. The value is the stable code that users see."""

    UNCONFIGURED = ("unconfigured", Kind.HARD, "its key is missing")
    PLANNED = ("planned", Kind.HARD, "its node is planned and not there yet")
    MAINTENANCE = ("maintenance", Kind.HARD, "its node is in maintenance")
    ASLEEP = ("asleep", Kind.HARD, "its node is off, which is normal for it")
    BENCHED = ("benched", Kind.HARD, "its key is refused by the upstream")
    LIMITED = ("limited", Kind.HARD, "the provider's limit is reached")
    REMOVED = ("removed", Kind.HARD, "the engine does not have the model (any more)")
    NOT_CAPABLE = ("not_capable", Kind.HARD, "it cannot do this kind of work")
    OTHER_SPACE = ("other_space", Kind.HARD, "its embeddings are not proven to be of the same space")
    NOT_LOCAL = ("not_local", Kind.HARD, "only own machines are allowed here")
    NOT_ALLOWED = ("not_allowed", Kind.HARD, "the key may not use it")
    UNCONFIRMED = (
        "unconfirmed",
        Kind.HARD,
        "the key cannot be confirmed while the database is down: only own machines",
    )
    OVER_LIMIT = ("over_limit", Kind.HARD, "a limit is reached that leaves only own machines")
    QUOTA = ("quota", Kind.HARD, "the provider's quota is used up until its reset")
    UNPRICED = ("unpriced", Kind.HARD, "nobody knows what it costs: write a `price` for it, or a ceiling")
    PAID_OFF = ("paid_off", Kind.HARD, "everything that costs money is switched off (`fleetgate budget`)")
    COOLING = ("cooling", Kind.EJECTED, "it failed and is cooling")
    ENGINE_DOWN = ("engine_down", Kind.EJECTED, "its engine refuses connections or failed")
    MISSING = ("missing", Kind.EJECTED, "its node should be on and does not answer")
    LOADING = ("loading", Kind.WAITING, "the model is being loaded")
    BUSY = ("busy", Kind.WAITING, "the engine said that it is full")
    NO_SEAT = ("no_seat", Kind.WAITING, "all its seats are taken")

    def __init__(self, code: str, kind: Kind, text: str) -> None:
        self.code = code
        self.kind = kind
        self.text = text


def reason_against(
    candidate: Deployment, capability: Capability, now: float, without: Collection[accounts.Pair] = ()
) -> Reason | None:
    """The first reason against `candidate`, or None when it can be taken.

    `without`: accounts that do not count as its own this time.
    """
    hard = _hard(candidate, capability)
    if hard is not None:
        return hard
    standing = accounts.worst(candidate, now, without)
    if standing is not Standing.FREE:
        return _BY_STANDING[standing]
    return _ejected(candidate, now) or _waiting(candidate, candidate.engine.loading, now)


def _hard(candidate: Deployment, capability: Capability) -> Reason | None:  # noqa: PLR0911  (a decision list)
    engine = candidate.engine
    node = engine.node
    does = candidate.model.does
    if not engine.configured:
        return Reason.UNCONFIGURED
    if candidate.removed:
        return Reason.REMOVED
    if candidate.price is None:
        return Reason.UNPRICED
    if does is not None and capability not in does:
        return Reason.NOT_CAPABLE
    if engine.kind.path(capability) is None:
        return Reason.NOT_CAPABLE
    if node.planned:
        return Reason.PLANNED
    if node.maintenance is not None:
        return Reason.MAINTENANCE
    if node.presence is Presence.ASLEEP:
        return Reason.ASLEEP
    return None


_BY_STANDING: Final = {
    Standing.FREE: None,
    Standing.LIMITED: Reason.LIMITED,
    Standing.EXHAUSTED: Reason.LIMITED,
    Standing.FORBIDDEN: Reason.BENCHED,
    Standing.BENCHED: Reason.BENCHED,
    Standing.UNCONFIGURED: Reason.UNCONFIGURED,
}


def _ejected(candidate: Deployment, now: float) -> Reason | None:
    engine = candidate.engine
    if engine.node.presence is Presence.MISSING and not engine.breaker.allows(now):
        return Reason.MISSING
    if not engine.breaker.allows(now):
        return Reason.ENGINE_DOWN
    if not candidate.breaker.allows(now):
        return Reason.COOLING
    return None


def _waiting(candidate: Deployment, engine_loading: bool, now: float) -> Reason | None:  # noqa: FBT001
    if engine_loading:
        return Reason.LOADING
    if candidate.busy_until > now:
        return Reason.LOADING if candidate.loading else Reason.BUSY
    return None if has_seat(candidate) else Reason.NO_SEAT


def has_seat(candidate: Deployment) -> bool:
    """Whether its engine has a free place, as far as that is known."""
    slots = candidate.engine.slots
    return slots is None or candidate.engine.in_flight < slots


def state_of(candidate: Deployment, reason: Reason | None) -> State:
    """The state of a deployment, in the glossary's words; `reason` is what stands against it now."""
    if reason is not None:
        return _STATES.get(reason, State.READY)
    return State.READY if candidate.engine.alive else State.UNKNOWN


_STATES: Final = {
    Reason.UNCONFIGURED: State.UNCONFIGURED,
    Reason.LOADING: State.LOADING,
    Reason.COOLING: State.COOLING,
    Reason.BENCHED: State.COOLING,
    Reason.LIMITED: State.COOLING,
    Reason.QUOTA: State.COOLING,
    Reason.PLANNED: State.DOWN,
    Reason.MAINTENANCE: State.DOWN,
    Reason.ASLEEP: State.DOWN,
    Reason.REMOVED: State.DOWN,
    Reason.ENGINE_DOWN: State.DOWN,
    Reason.MISSING: State.DOWN,
}
"""Whoever is only busy, or asked for the wrong thing, is ready."""


def detail(candidate: Deployment, reason: Reason, now: float) -> str:
    """The reason in words, with what is known about it."""
    engine = candidate.engine
    why = candidate.why or engine.why
    text = reason.text
    if reason is Reason.ASLEEP and engine.node.power is Power.MANUAL:
        text = f"{text}; switch {engine.node.name} on to use it"
    elif reason is Reason.MAINTENANCE and engine.node.maintenance:
        text = f"{text}: {engine.node.maintenance}"
    elif reason in (Reason.BENCHED, Reason.LIMITED) and (who := accounts.told(candidate, now)):
        text = f"{text} ({who})"
    elif reason in (Reason.COOLING, Reason.ENGINE_DOWN, Reason.MISSING):
        breaker = engine.breaker if reason is not Reason.COOLING else candidate.breaker
        wait = breaker.opens_again_in(now)
        text = f"{text}{f' ({why})' if why else ''}"
        if breaker.phase(now) is Phase.TRIAL:
            text = f"{text}; a trial is running"
        elif wait:
            text = f"{text}; next trial in {wait:.0f} s"
    elif reason is Reason.NO_SEAT:
        text = f"{text} ({engine.in_flight} of {engine.slots})"
    return text
