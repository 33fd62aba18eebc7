"""Whether a deployment could take a request now, and if not, why. Pure.

Reasons come in four kinds. *Hard* ones never bend. *Ejected* ones (a breaker is open, the machine
is missing) give way for the last step of a plan: the last candidate is never ejected, because a
try is better than a certain refusal. *Waiting* ones end by themselves soon: a seat frees, a load
ends. *Cold* ones end when somebody wants it: a model is loaded, a machine is switched on. They are a
cost, never a failure.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from fleetgate.domain import Capability, Power, Presence, State
from fleetgate.health import Phase
from fleetgate.placement import may_wake
from fleetgate.routing import accounts
from fleetgate.routing.accounts import Standing

if TYPE_CHECKING:
    from collections.abc import Collection

    from fleetgate.forecast.task import Task
    from fleetgate.live import Deployment, Node


SURELY: Final = 0.6
"""Share of the usual tokens that a prompt of its size has at least."""


class Kind(Enum):
    HARD = auto()
    EJECTED = auto()
    WAITING = auto()
    COLD = auto()


class Reason(Enum):
    """Why a candidate is not taken. The value is the stable code that users see."""

    UNCONFIGURED = ("unconfigured", Kind.HARD, "its key is missing")
    PLANNED = ("planned", Kind.HARD, "its node is planned and not there yet")
    MAINTENANCE = ("maintenance", Kind.HARD, "its node is in maintenance")
    ASLEEP = ("asleep", Kind.HARD, "its node is off, which is normal for it")
    YIELDED = ("yielded", Kind.HARD, "its owner uses the machine at the moment")
    TOO_LONG = ("too_long", Kind.HARD, "the prompt is longer than what fits into it")
    NO_ROOM = ("no_room", Kind.HARD, "pinned models leave no room for it in memory")
    BENCHED = ("benched", Kind.HARD, "its key is refused by the upstream")
    LIMITED = ("limited", Kind.HARD, "the provider's limit is reached")
    NOT_LOADED = (
        "not_loaded",
        Kind.HARD,
        "another model is in its place and would answer in its name: only an administrator's key may load it",
    )
    REMOVED = ("removed", Kind.HARD, "the engine does not have the model (any more)")
    NOT_CAPABLE = ("not_capable", Kind.HARD, "it cannot do what the request asks for")
    ADDRESSES = (
        "addresses",
        Kind.HARD,
        "addresses of pictures are not handed to engines of one's own: send the pictures as data",
    )
    OTHER_DIALECT = (
        "other_dialect",
        Kind.HARD,
        "the request can only be passed on as it is, and this one does not speak its dialect",
    )
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
    TIGHT = ("tight", Kind.EJECTED, "the prompt may be longer than what fits into it")
    LOADING = ("loading", Kind.WAITING, "the model is being loaded")
    BUSY = ("busy", Kind.WAITING, "its engine is full, or another model waits for its place")
    NO_SEAT = ("no_seat", Kind.WAITING, "all its seats are taken")
    COLD = ("cold", Kind.COLD, "it is not in memory: it is loaded before it is asked")
    WAKEABLE = ("wakeable", Kind.COLD, "its machine is off: it is switched on when that is worth it")
    WAKING = ("waking", Kind.COLD, "its machine is being switched on")

    def __init__(self, code: str, kind: Kind, text: str) -> None:
        self.code = code
        self.kind = kind
        self.text = text


def sound(candidate: Deployment, task: Task, now: float) -> bool:
    """Whether it could take the request at once, by one look at the usual case.

    False means that nobody knows yet: `reason_against` looks closely. This is what most candidates of most
    requests meet, so it reads plain attributes only.
    """
    engine = candidate.engine
    node = engine.node
    accounts = engine.accounts
    account = accounts[0]
    needs = task.needs
    slots = engine.slots_written or engine.slots_total
    return (
        candidate.can & needs == needs
        and candidate.resident is not False
        and not candidate.removed
        and candidate.price is not None
        and candidate.breaker.open_until is None
        and engine.breaker.open_until is None
        and candidate.busy_until <= now
        and not engine.loading
        and node.presence is Presence.AWAKE
        and not node.planned
        and node.maintenance is None
        and node.yielded_until is None
        and (not slots or engine.in_flight < slots)
        and len(accounts) == 1
        and account.configured
        and account.benched_until <= now
        and not account.models_out
        and (candidate.context is None or fits(candidate, task))
    )


def reason_against(
    candidate: Deployment, task: Task, now: float, without: Collection[accounts.Pair] = ()
) -> Reason | None:
    """The first reason against `candidate`, or None when it can be taken.

    `without`: accounts that do not count as its own this time.
    """
    hard = _hard(candidate, task, now)
    if hard is not None:
        return hard
    standing = accounts.worst(candidate, now, without)
    if standing is not Standing.FREE:
        return _BY_STANDING[standing]
    return (
        _off(candidate.engine.node)
        or _ejected(candidate, now)
        or (None if fits(candidate, task) else Reason.TIGHT)
        or _waiting(candidate, candidate.engine.loading, now)
    )


def fits(candidate: Deployment, task: Task) -> bool:
    """Whether the prompt fits, as far as can be told before anybody counted it."""
    context = candidate.context
    return context is None or task.prompt * candidate.speed.ratio <= context


def may_fit(candidate: Deployment, task: Task) -> bool:
    """Whether it is not surely too long: some texts have far fewer tokens than usual."""
    context = candidate.context
    return context is None or task.prompt * candidate.speed.ratio * SURELY <= context


def can(candidate: Deployment, task: Task) -> bool:
    """Whether it has all capabilities that are asked for, or may have them."""
    return candidate.can & task.needs == task.needs


def _hard(candidate: Deployment, task: Task, now: float) -> Reason | None:  # noqa: PLR0911  (a decision list)
    engine = candidate.engine
    node = engine.node
    if not engine.configured:
        return Reason.UNCONFIGURED
    if candidate.removed:
        return Reason.REMOVED
    if candidate.price is None:
        return Reason.UNPRICED
    if not can(candidate, task):
        return Reason.NOT_CAPABLE
    if _would_be_another(candidate, task):
        return Reason.NOT_LOADED
    if not may_fit(candidate, task):
        return Reason.TOO_LONG
    if node.planned:
        return Reason.PLANNED
    if node.maintenance is not None:
        return Reason.MAINTENANCE
    if node.yielded_until is not None and node.yielded_until > now:
        return Reason.YIELDED
    if node.presence is Presence.ASLEEP and not may_wake(node, now):
        return Reason.ASLEEP
    return None


def _would_be_another(candidate: Deployment, task: Task) -> bool:
    """Whether its engine would answer with another model, and cannot be told to load this one.

    Embeddings have a place of their own there, of which nothing is known.
    """
    if candidate.resident is not False or candidate.loadable or not candidate.engine.kind.answers_any_name:
        return False
    return task.capability is not Capability.EMBED


def _off(node: Node) -> Reason | None:
    if node.presence is Presence.WAKING:
        return Reason.WAKING
    return Reason.WAKEABLE if node.presence is Presence.ASLEEP else None


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
    if is_cold(candidate):
        return Reason.COLD
    return None if has_seat(candidate) else Reason.NO_SEAT


def is_cold(candidate: Deployment) -> bool:
    """Whether it has to be loaded first. What loads by itself, or does not say, is asked as it is."""
    return candidate.loadable and candidate.resident is False


def has_seat(candidate: Deployment) -> bool:
    """Whether its engine has a free place, as far as that is known."""
    slots = candidate.engine.slots
    return slots is None or candidate.engine.in_flight < slots


def state_of(candidate: Deployment, reason: Reason | None) -> State:
    """The state of a deployment, in the glossary's words; `reason` is what stands against it now."""
    alive = candidate.engine.alive
    if reason is None:
        return State.READY if alive else State.UNKNOWN
    return _STATES.get(reason, State.DOWN if alive is False else State.READY)


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
    Reason.WAKEABLE: State.DOWN,
    Reason.WAKING: State.DOWN,
    Reason.YIELDED: State.DOWN,
    Reason.REMOVED: State.DOWN,
    Reason.NOT_LOADED: State.DOWN,
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
    elif reason in (Reason.ASLEEP, Reason.WAKEABLE):
        text = f"{text}{_woken(engine.node)}"
    elif reason is Reason.YIELDED and engine.node.yielded_why:
        text = f"{text}: {engine.node.yielded_why}"
    elif reason in (Reason.TOO_LONG, Reason.TIGHT):
        text = f"{text} ({candidate.context} tokens)"
    elif reason is Reason.COLD:
        text = _cold(candidate, now)
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


def _cold(candidate: Deployment, now: float) -> str:
    engine = candidate.engine
    if candidate.load_began is not None:
        return f"it is being loaded, since {now - candidate.load_began:.0f} s"
    if engine.breaker.phase(now) is Phase.TRIAL_DUE:
        return f"its engine was down{f' ({engine.why})' if engine.why else ''}: a trial is due, with a load"
    return Reason.COLD.text


def remark(candidate: Deployment, reason: Reason | None, now: float) -> str:
    """The same for lists, where nobody asks for anything: being merely not in memory needs no word."""
    if reason is None:
        return ""
    if reason is Reason.NOT_CAPABLE:
        does = ", ".join(sorted(one.value for one in candidate.model.does or ()))
        return f"what it does ({does}) is not asked of {candidate.engine.kind.name}"
    text = detail(candidate, reason, now)
    return "" if text == Reason.COLD.text else text


def _woken(node: Node) -> str:
    """What is known about switching a machine on."""
    if node.wake_failed is not None:
        return "; the last attempt to switch it on came to nothing"
    took = node.woken.p75()
    return f"; it usually takes {took:.0f} s" if took is not None and node.wakes else ""
