"""From a route to what would be tried: steps, candidates, and the reasons against the others.

`Step` and `Route` are compiled when the configuration or the catalogue changes; `sort` is what the
exchange does at the moment it needs a seat; `explain` shows the same decision without a request.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from fleetgate.domain import Capability
from fleetgate.errors import COUNTED, TABLE, FailureClass, Verdict
from fleetgate.routing import accounts, policies
from fleetgate.routing.availability import Kind, Reason, detail, reason_against

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from fleetgate.live import Deployment
    from fleetgate.routing.accounts import Pair

TRIES: Final = 2
"""Attempts per step where none are written."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One pool with its policy and limits. Times in seconds."""

    pool: str
    candidates: tuple[Deployment, ...]
    policy: str = "least_busy"
    weights: Mapping[str, float] = field(default_factory=dict)
    """deployment id -> weight, for `split`"""
    first_token: float | None = None
    answer: float | None = None
    tries: int = TRIES
    on: frozenset[FailureClass] | None = None
    """classes that lead into this step; None: all that move on"""
    only_local: bool = False
    space: str | None = None
    """the one space of embeddings of the whole route; None: that of the step's first candidate"""
    because: str = ""
    unknown: tuple[str, ...] = ()
    """pools of it that stand for nothing yet, such as a model that no engine has told of"""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """What a name stands for."""

    name: str
    origin: str
    """alias, role, deployment or pool"""
    steps: tuple[Step, ...]
    attempts: int = 3
    deadline: float | None = None
    via: tuple[str, ...] = ()
    """names passed on the way (aliases)"""
    role: str = ""
    """whose limits count: the role behind it, else the name itself"""

    @property
    def most_attempts(self) -> int:
        """Dispatched attempts of one exchange: every step is reached."""
        return max(self.attempts, len(self.steps))


@dataclass(slots=True)
class Sorted:
    """The candidates of a step at one moment."""

    ready: list[Deployment] = field(default_factory=list)
    waiting: list[Deployment] = field(default_factory=list)
    ejected: list[Deployment] = field(default_factory=list)
    refused: list[tuple[Deployment, Reason]] = field(default_factory=list)


def sort(
    step: Step,
    capability: Capability,
    now: float,
    exclude: Collection[Deployment] = (),
    objection: Callable[[Deployment], Reason | None] | None = None,
    without: Collection[Pair] = (),
) -> Sorted:
    """Who could take the request now, who soon, and who not. `objection`: what the caller's key forbids.

    `exclude` and `without`: candidates, and accounts of candidates, that were tried already.
    """
    found = Sorted()
    space = step.space or space_of((step,)) if capability is Capability.EMBED else None
    for candidate in step.candidates:
        if candidate in exclude:
            continue
        reason = objection(candidate) if objection is not None else None
        reason = (
            reason or _filter(step, candidate, space) or reason_against(candidate, capability, now, without)
        )
        if reason is None:
            found.ready.append(candidate)
            continue
        found.refused.append((candidate, reason))
        if reason.kind is Kind.WAITING:
            found.waiting.append(candidate)
        elif reason.kind is Kind.EJECTED:
            found.ejected.append(candidate)
    return found


def _filter(step: Step, candidate: Deployment, space: str | None) -> Reason | None:
    if step.only_local and not candidate.local:
        return Reason.NOT_LOCAL
    if space is not None and embedding_space(candidate) != space:
        return Reason.OTHER_SPACE
    return None


def embedding_space(candidate: Deployment) -> str:
    """What embeddings may be compared with: a declared space, the same digest, or itself alone."""
    model = candidate.model
    if model.space:
        return f"space:{model.space}"
    return f"digest:{model.digest}" if model.digest else f"deployment:{candidate.id}"


def space_of(steps: Iterable[Step]) -> str | None:
    """The space of a route is that of the first candidate that embeds, whatever is up."""
    for step in steps:
        for candidate in step.candidates:
            does = candidate.model.does
            if does is None or Capability.EMBED in does:
                return embedding_space(candidate)
    return None


def in_one_space(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps of one route: vectors must never mix, not even when a later step answers."""
    space = space_of(steps)
    return tuple(replace(step, space=space) for step in steps)


def leads_to(steps: tuple[Step, ...], after: int, failure: FailureClass | None) -> int | None:
    """Index of the next step that this failure leads to; None: there is none.

    `failure` None means that the step had no candidate left. Classes that stop lead only into a
    step that names them.
    """
    for index in range(after + 1, len(steps)):
        on = steps[index].on
        if on is None:
            if failure is None or TABLE[failure].verdict is not Verdict.STOP:
                return index
        elif (failure or FailureClass.NOTHING_AVAILABLE) in on:
            return index
    return None


def steps_after(steps: tuple[Step, ...], index: int) -> int:
    """How many later steps an ordinary failure leads into: each of them keeps one attempt in reserve."""
    return sum(step.on is None or bool(step.on & COUNTED) for step in steps[index + 1 :])


def explain(
    route: Route,
    capability: Capability,
    now: float,
    instance: str,
    objection: Callable[[Deployment], Reason | None] | None = None,
) -> dict[str, Any]:
    """The plan as data: what the API, the command line and the headers show."""
    last = route.steps[-1] if route.steps else None
    return {
        "model": route.name,
        "origin": route.origin,
        "via": list(route.via),
        "capability": capability.value,
        "attempts": route.most_attempts,
        "deadline_s": route.deadline,
        "instance": instance,
        "steps": [_explain_step(step, capability, now, objection, last=step is last) for step in route.steps],
    }


def _explain_step(
    step: Step,
    capability: Capability,
    now: float,
    objection: Callable[[Deployment], Reason | None] | None,
    *,
    last: bool,
) -> dict[str, Any]:
    found = sort(step, capability, now, objection=objection)
    forced = last and not found.ready and not found.waiting
    rows = [
        _row(candidate, now, "candidate", "", position)
        for position, candidate in enumerate(policies.order(step.policy, found.ready, step.weights, now), 1)
    ]
    for candidate, reason in found.refused:
        verdict = {Kind.WAITING: "wait", Kind.EJECTED: "ejected", Kind.HARD: "refused"}[reason.kind]
        text = detail(candidate, reason, now)
        if forced and reason.kind is Kind.EJECTED:
            verdict, text = "candidate", f"{text}; tried all the same, nothing else is left"
        rows.append(_row(candidate, now, verdict, text, None, reason.code))
    return {
        "pool": step.pool,
        "policy": step.policy,
        "because": step.because,
        "first_token_s": step.first_token,
        "answer_s": step.answer,
        "tries": step.tries,
        "on": sorted(one.value for one in step.on) if step.on is not None else None,
        "candidates": rows,
        "unknown": list(step.unknown),
    }


def _row(
    candidate: Deployment, now: float, verdict: str, text: str, position: int | None, code: str = "ok"
) -> dict[str, Any]:
    engine = candidate.engine
    return {
        "deployment": candidate.id,
        "verdict": verdict,
        "position": position,
        "reason": code,
        "text": text or _praise(candidate, now),
        "local": candidate.local,
        "in_flight": candidate.in_flight,
        "slots": engine.slots,
        "resident": candidate.resident,
        "first_content_s": round(mean, 3) if (mean := candidate.first_content.mean) is not None else None,
        "remembered": engine.remembered,
    }


def _praise(candidate: Deployment, now: float) -> str:
    """Why a candidate stands where it stands."""
    engine = candidate.engine
    words = [f"{candidate.in_flight} in flight"]
    if engine.slots is not None:
        words[0] += f", {engine.in_flight} of {engine.slots} seats of its engine"
    mean = candidate.first_content.mean
    words.append(f"first content after {mean:.2f} s" if mean is not None else "no history yet")
    if candidate.resident is not None:
        words.append("in memory" if candidate.resident else "not in memory")
    share = candidate.breaker.share(now)
    if share < 1:
        words.append(f"slow start at {share:.0%}")
    if len(engine.accounts) > 1 and (out := accounts.told(candidate, now)):
        words.append(out)
    return ", ".join(words)
