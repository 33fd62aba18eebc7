"""vLLM. Facts from its source and documentation of mid-2026.

`/health` stays 200 while it is saturated or asleep, so it says "alive" and nothing about room; the
metrics do. One base model per process, so what it lists is loaded; LoRA adapters are listed beside it.
`/is_sleeping` is there in its developer mode only. Putting it to sleep and waking it is its owner's:
sleep ends what is in flight, and a deep one loses the weights. `/load` counts only where that was
switched on and says 0 otherwise, so it is not asked.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetgate.domain import Capability
from fleetgate.engines.plain import Plain
from fleetgate.engines.port import Ask, Reading, Reply, Resident
from fleetgate.engines.reading import (
    decode,
    fault,
    first,
    listed,
    metrics,
    not_understood,
    served_model,
    table,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEALTH: Final = Ask("/health")
METRICS: Final = Ask("/metrics", optional=True)
MODELS: Final = Ask("/v1/models")
VERSION: Final = Ask("/version", optional=True)
SLEEPING: Final = Ask("/is_sleeping", optional=True)

_RUNNING: Final = ("vllm:num_requests_running", "vllm_num_requests_running")
_WAITING: Final = ("vllm:num_requests_waiting", "vllm_num_requests_waiting")
_CACHE: Final = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")


class Vllm(Plain):
    """The kind `vllm`."""

    name = "vllm"
    counts_messages = True
    ports = (8000,)
    continues = "flags"
    serves = frozenset(Capability) - {
        *(Capability.IMAGE, Capability.EDIT, Capability.SPEAK, Capability.MODERATE)
    }
    since: Mapping[str, tuple[int, ...]] = MappingProxyType(
        {"anthropic": (0, 11, 1), "responses": (0, 11, 1)}
    )

    def pulse(self) -> Sequence[Ask]:
        return (HEALTH, METRICS, SLEEPING)

    def catalogue(self) -> Sequence[Ask]:
        return (MODELS, VERSION)

    def read(self, ask: Ask, reply: Reply) -> Reading:  # noqa: PLR0911  (a decision list)
        if (faulty := fault(ask, reply)) is not None:
            return faulty
        if ask.path == HEALTH.path:
            return Reading(alive=True, loading=False)
        if ask.path == METRICS.path:
            return _read_metrics(reply.body)
        if ask.path == VERSION.path:
            return Reading(version=text(table(decode(reply.body)).get("version")))
        if ask.path == SLEEPING.path:
            sleeping = table(decode(reply.body)).get("is_sleeping")
            return Reading(sleeping=sleeping if isinstance(sleeping, bool) else None)
        entries = listed(reply.body)
        if entries is None:
            return not_understood(ask)
        models = tuple(served_model(row) for row in entries)
        resident = tuple(Resident(model.id, context=model.context) for model in models)
        return Reading(alive=True, models=models, resident=resident)


def _read_metrics(body: bytes) -> Reading:
    found = metrics(body, (*_RUNNING, *_WAITING, *_CACHE))
    running, waiting = first(found, *_RUNNING), first(found, *_WAITING)
    return Reading(
        # Neither name there: unknown, never idle.
        slots_busy=None if running is None else int(running),
        queue=None if waiting is None else int(waiting),
        cache_used=first(found, *_CACHE),
    )
