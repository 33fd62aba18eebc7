"""When an answer would be complete: wake + load + wait + prefill + decode, for one candidate. Pure.

Read for every candidate of every request, so it takes plain attributes of live records and builds
nothing but its answer. What is unknown counts with its prior (`forecast`), never as zero.

`wait` follows the engine's seats: as many rounds of the mean answer as stand before a free one. Who is
there already are those that we have in flight, and those of others: what the engine last said, without
ours at that time. So a burst between two probes is seen at once, and its end too. Where a seat is free,
it is the reading of prompts that were sent there shortly before: reading one takes all that an engine
can do, so they are read one after the other, while answers go on side by side. (Of providers that is
not true.)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from fleetgate.domain import Capability, Presence
from fleetgate.forecast.durations import WAKE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.forecast.lengths import Lengths
    from fleetgate.forecast.task import Task
    from fleetgate.live import Deployment, Engine

LOADING_LEFT: Final = 1.0
"""Seconds that are at least left of a wake or a load under way, however long it has taken."""
SERVICE: Final = 10.0
"""Seconds of an answer where no answer was seen yet."""
UNIT: Final[Mapping[Capability, float]] = {
    Capability.EMBED: 0.05,
    Capability.RERANK: 0.05,
    Capability.IMAGE: 30.0,
    Capability.EDIT: 30.0,
    Capability.SPEAK: 0.02,
    Capability.TRANSCRIBE: 0.2,
    Capability.TRANSLATE: 0.2,
    Capability.MODERATE: 0.1,
}
"""Seconds per unit of what is not counted in tokens, where nothing is known: an input, an image, a letter to
speak, a second of sound, a text to look at."""


class Forecast(NamedTuple):
    """The terms, in seconds. `hit`: share of the prompt that need not be read again; `output`: tokens."""

    wake: float
    load: float
    wait: float
    prefill: float
    decode: float
    hit: float
    output: float

    @property
    def total(self) -> float:
        return self.wake + self.load + self.wait + self.prefill + self.decode


def terms(
    candidate: Deployment, task: Task, now: float, output: float, hit: float
) -> tuple[float, float, float, float, float]:
    """Wake, load, wait, prefill, decode: the same as `forecast`, for whoever only needs their sum."""
    engine = candidate.engine
    speed = candidate.speed
    wake = load = wait = 0.0
    if engine.node.presence is not Presence.AWAKE:
        wake = wake_left(engine, now)
    if candidate.resident is False or candidate.load_began is not None:
        load = load_left(candidate, now)
    slots = engine.slots_written or engine.slots_total
    busy = before = engine.in_flight + engine.foreign
    if not slots and engine.slots_assumed:
        slots, before = engine.slots_assumed, candidate.in_flight
    if slots and before >= slots:
        wait = math.ceil((before - slots + 1) / slots) * (speed.service or SERVICE)
        if engine.ends:  # the answers under way may be longer than the mean one
            wait = max(wait, min(engine.ends) - now)
        busy = slots - 1
    elif engine.in_flight and engine.reads_until > now and engine.node.local:
        wait = engine.reads_until - now
    if not output and task.capability in UNIT:
        unit = UNIT[task.capability] if speed.unit is None else speed.unit
        return wake, load, wait, 0.0, speed.unit_overhead + unit * task.units
    tokens = task.prompt * speed.ratio + speed.base
    prefill = speed.overhead + (tokens * (1.0 - hit) / speed.prefill if tokens > 0.0 else 0.0)
    return wake, load, wait, prefill, output / speed.decode_at(busy + 1)


def forecast(candidate: Deployment, task: Task, now: float, output: float, hit: float = 0.0) -> Forecast:
    """`output`: tokens of the answer; `hit`: share of the prompt that the engine still holds."""
    return Forecast(*terms(candidate, task, now, output, hit), hit, output)


def wake_left(engine: Engine, now: float) -> float:
    """Seconds until its machine answers; 0.0 where nobody knows whether it is on."""
    node = engine.node
    if node.presence is Presence.ASLEEP:
        return node.woken.p75() or WAKE
    if node.presence is Presence.WAKING:
        since = node.waking_since if node.waking_since is not None else now
        return max(LOADING_LEFT, (node.woken.p75() or WAKE) - (now - since))
    return 0.0


def load_left(candidate: Deployment, now: float) -> float:
    """Seconds until the model is in memory, and what that costs others whose place it takes."""
    learned = candidate.speed.load
    takes = candidate.load_guess if learned is None else learned
    if candidate.load_began is None:
        return takes + candidate.displaces
    passed = now - candidate.load_began
    if candidate.progress:
        return max(LOADING_LEFT, passed / candidate.progress - passed)
    return max(LOADING_LEFT, takes - passed)


def expected_output(candidate: Deployment, task: Task, lengths: Lengths) -> float:
    """Tokens of all answers that are asked for; 0.0 for work that is not counted in tokens."""
    if task.capability in UNIT:
        return 0.0
    one = lengths.expected(candidate.model.name, task.principal, task.longest)
    return one * task.choices
