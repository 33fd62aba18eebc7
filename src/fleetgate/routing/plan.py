"""From a route to what would be tried: steps, candidates, and the reasons against the others.

`Step` and `Route` are compiled when the configuration or the catalogue changes; `sort` is what the
exchange does at the moment it needs a seat; `explain` shows the same decision without a request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from fleetgate import placement
from fleetgate.domain import Capability
from fleetgate.errors import COUNTED, TABLE, FailureClass, Verdict
from fleetgate.routing import accounts, continuation, policies
from fleetgate.routing.availability import Kind, Reason, detail, has_seat, reason_against, sound
from fleetgate.routing.scoring import PREDICTING, USUAL, Question, Scored, Weights, best_of, ranked, score

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from fleetgate.forecast.task import Task
    from fleetgate.live import Deployment
    from fleetgate.routing.accounts import Pair
    from fleetgate.routing.continuation import Resume
    from fleetgate.routing.prediction import Forecast

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
    best: Weights = USUAL
    """weights of the policy `best`"""
    wait_for_wake: bool = False
    """while a machine of choice is being switched on, the request waits for it"""
    because: str = ""
    unknown: tuple[str, ...] = ()
    """pools of it that stand for nothing yet, such as a model that no engine has told of"""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """What a name stands for."""

    name: str
    origin: str
    """alias, role, deployment, generated or pool"""
    steps: tuple[Step, ...]
    attempts: int = 3
    deadline: float | None = None
    via: tuple[str, ...] = ()
    """names passed on the way (aliases)"""
    role: str = ""
    """whose limits count: the role behind it, else the name itself"""
    resume: Resume = ""
    """how an answer that broke off goes on elsewhere; empty: it does not"""

    @property
    def most_attempts(self) -> int:
        """Dispatched attempts of one exchange: every step is reached."""
        return max(self.attempts, len(self.steps))


@dataclass(slots=True)
class Sorted:
    """The candidates of a step at one moment."""

    ready: list[Deployment]
    refused: list[tuple[Deployment, Reason]] = field(default_factory=list)
    """all others, those of the other lists among them"""
    waiting: list[Deployment] = field(default_factory=list)
    """A seat frees, or a load ends, by itself."""
    ejected: list[Deployment] = field(default_factory=list)
    cold: list[Deployment] = field(default_factory=list)
    """It would have to be loaded or its machine switched on."""

    def add(self, candidate: Deployment, reason: Reason) -> None:
        """Something stands against it."""
        self.refused.append((candidate, reason))
        kind = reason.kind
        if kind is Kind.WAITING:
            self.waiting.append(candidate)
        elif kind is Kind.EJECTED:
            self.ejected.append(candidate)
        elif kind is Kind.COLD:
            self.cold.append(candidate)

    def only(self, usable: Callable[[Deployment], bool]) -> Sorted:
        """Without candidates that are no use."""
        lists = (self.ready, self.waiting, self.ejected, self.cold)
        ready, waiting, ejected, cold = ([one for one in these if usable(one)] for these in lists)
        return Sorted(ready, self.refused, waiting, ejected, cold)

    def refuse(self, candidate: Deployment, reason: Reason) -> None:
        """A closer look found something against one of them."""
        for these in (self.ready, self.waiting, self.ejected, self.cold):
            if candidate in these:
                these.remove(candidate)
        self.refused = [(one, reason if one is candidate else before) for one, before in self.refused]


def sort(
    step: Step,
    task: Task,
    now: float,
    exclude: Collection[Deployment] = (),
    objection: Callable[[Deployment], Reason | None] | None = None,
    without: Collection[Pair] = (),
) -> Sorted:
    """Who could take the request now, who soon, and who not. `objection`: what the caller's key forbids.

    `exclude` and `without`: candidates, and accounts of candidates, that were tried already.
    """
    ready: list[Deployment] = []
    found = Sorted(ready)
    space = step.space or space_of((step,)) if task.capability is Capability.EMBED else None
    filtered = step.only_local or space is not None
    for candidate in step.candidates:
        if exclude and candidate in exclude:
            continue
        reason = objection(candidate) if objection is not None else None
        if reason is None and filtered:
            reason = _filter(step, candidate, space)
        if reason is None:
            if not without and sound(candidate, task, now):
                ready.append(candidate)
                continue
            reason = reason_against(candidate, task, now, without)
            if reason is None:
                ready.append(candidate)
                continue
        found.add(candidate, reason)
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


Asking = Callable[[Step], Question]
"""What is asked of the candidates of a step: the task, what was learned, and who holds what"""


def explain(
    route: Route,
    task: Task,
    now: float,
    instance: str,
    objection: Callable[[Deployment], Reason | None] | None = None,
    asking: Asking | None = None,
) -> dict[str, Any]:
    """The plan as data: what the API, the command line and the headers show. Without `asking` nothing is
    predicted."""
    last = route.steps[-1] if route.steps else None
    steps = [
        _explain_step(step, task, now, objection, asking(step) if asking is not None else None, step is last)
        for step in route.steps
    ]
    _add_resume(route, steps)
    return {
        "model": route.name,
        "origin": route.origin,
        "via": list(route.via),
        "capability": task.capability.value,
        "attempts": route.most_attempts,
        "deadline_s": route.deadline,
        "resume": route.resume or None,
        "instance": instance,
        "steps": steps,
    }


def _add_resume(route: Route, steps: list[dict[str, Any]]) -> None:
    """To each candidate: who could go on with its answer; None where the route does not ask for it."""
    everybody = {one.id: one for step in route.steps for one in step.candidates}
    for row in (row for step in steps for row in step["candidates"]):
        first = everybody[row["deployment"]]
        if not route.resume:
            row["goes_on"] = None
            continue
        if reason := continuation.begins(route.resume, first):
            row["goes_on"] = {"why_not": reason, "by": [], "not_by": {}}
            continue
        can, cannot = continuation.followers(route.resume, first, everybody.values())
        row["goes_on"] = {
            "why_not": "" if can else "nobody else could",
            "by": [one.id for one in can],
            "not_by": {one.id: why for one, why in cannot},
        }


def _explain_step(
    step: Step,
    task: Task,
    now: float,
    objection: Callable[[Deployment], Reason | None] | None,
    ask: Question | None,
    last: bool,  # noqa: FBT001
) -> dict[str, Any]:
    found = sort(step, task, now, objection=objection)
    if ask is not None and ask.fit is not None:
        _leave_out_what_has_no_room(found, ask.fit)
    forced = last and not found.ready and not found.waiting and not found.cold
    reasons = dict(found.refused)
    standing = _in_order(step, found, ask, now)
    rows = []
    for position, candidate in enumerate(standing, 1):
        reason = reasons.get(candidate)
        if reason is None:
            rows.append(_row(candidate, now, ask, "candidate", position))
        else:
            verdict = _verdict(reason)
            rows.append(_row(candidate, now, ask, verdict, position, reason))
    for candidate, reason in found.refused:
        if candidate in standing:
            continue
        verdict = _verdict(reason)
        row = _row(candidate, now, ask, verdict, None, reason)
        if forced and reason.kind is Kind.EJECTED:
            row["verdict"] = "candidate"
            row["text"] += "; tried all the same, nothing else is left"
        rows.append(row)
    return {
        "pool": step.pool,
        "policy": step.policy,
        "weights": _weights(step),
        "because": step.because,
        "first_token_s": step.first_token,
        "answer_s": step.answer,
        "tries": step.tries,
        "on": sorted(one.value for one in step.on) if step.on is not None else None,
        "while_waking": "wait" if step.wait_for_wake else "elsewhere",
        "candidates": rows,
        "unknown": list(step.unknown),
    }


def _leave_out_what_has_no_room(found: Sorted, fit: Callable[[Deployment], placement.Fit]) -> None:
    for one in list(found.cold):
        if one.load_began is None and fit(one).verdict is placement.Verdict.PINNED:
            found.refuse(one, Reason.NO_ROOM)


def _in_order(step: Step, found: Sorted, ask: Question | None, now: float) -> list[Deployment]:
    """Whoever could answer, now or soon, the likeliest first."""
    if step.policy in PREDICTING and ask is not None:
        full = [one for one in found.waiting if not has_seat(one)]
        options = ranked([*found.ready, *full, *found.cold], ask, now)
        if not options:
            return options
        first = best_of(options, ask, now)  # near scores are ties, and conversations stay
        return [first, *(one for one in options if one is not first)]
    ready = policies.order(step.policy, found.ready, step.weights, now)
    return [*ready, *(ranked(found.cold, ask, now) if ask is not None else found.cold)]


def _verdict(reason: Reason) -> str:
    """What happens with it, in a word."""
    if reason in (Reason.WAKEABLE, Reason.WAKING):
        return "wake"
    return _VERDICTS[reason.kind]


_VERDICTS: Final = {Kind.WAITING: "wait", Kind.EJECTED: "ejected", Kind.HARD: "refused", Kind.COLD: "load"}


def _weights(step: Step) -> dict[str, float] | None:
    if step.policy == "best":
        return {"speed": step.best.speed, "quality": step.best.quality, "cost": step.best.cost}
    return dict(step.weights) or None


def _row(
    candidate: Deployment,
    now: float,
    ask: Question | None,
    verdict: str,
    position: int | None,
    reason: Reason | None = None,
) -> dict[str, Any]:
    engine = candidate.engine
    scored = score(candidate, ask, now) if ask is not None and position is not None else None
    return {
        "deployment": candidate.id,
        "verdict": verdict,
        "position": position,
        "reason": "ok" if reason is None else reason.code,
        "text": _praise(candidate, now) if reason is None else detail(candidate, reason, now),
        "local": candidate.local,
        "in_flight": candidate.in_flight,
        "slots": engine.slots,
        "resident": candidate.resident,
        "first_content_s": round(mean, 3) if (mean := candidate.first_content.mean) is not None else None,
        "remembered": engine.remembered,
        "dialects": sorted({engine.kind.speaks, *candidate.ways}),
        "forecast": forecast_row(scored.forecast) if scored is not None else None,
        "score": _score_row(scored),
    }


def forecast_row(told: Forecast) -> dict[str, float]:
    """The terms of the predicted completion."""
    return {
        "wake_s": round(told.wake, 3),
        "load_s": round(told.load, 3),
        "wait_s": round(told.wait, 3),
        "prefill_s": round(told.prefill, 3),
        "decode_s": round(told.decode, 3),
        "total_s": round(told.total, 3),
        "hit": round(told.hit, 3),
        "output_tokens": round(told.output, 1),
    }


def _score_row(scored: Scored | None) -> dict[str, float] | None:
    """The terms of its score, each between 0 and 1."""
    if scored is None:
        return None
    return {
        "score": round(scored.score, 4),
        "speed": round(scored.speed, 4),
        "quality": round(scored.quality, 4),
        "cost": round(scored.cost, 4),
        "usd": round(scored.usd, 9),
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


def plan_in_short(step: Step, predicted: Forecast) -> bytes:
    """The plan as one header: the policy, among how many, and the terms that are not zero, in seconds."""
    told = b"policy=%b, candidates=%d, seconds=%.2f" % (
        step.policy.encode(),
        len(step.candidates),
        predicted.total,
    )
    if predicted.wake:
        told += b", wake=%.2f" % predicted.wake
    if predicted.load:
        told += b", load=%.2f" % predicted.load
    if predicted.wait:
        told += b", wait=%.2f" % predicted.wait
    return told + b", prefill=%.2f, decode=%.2f" % (predicted.prefill, predicted.decode)
