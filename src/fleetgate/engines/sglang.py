"""SGLang. Facts from its source and documentation of mid-2026.

One model per process, so what it lists is loaded. `/health` is the process; `/health_generate` runs a
token and is never asked. How busy it is stands in the metrics where they are switched on, else in
`/v1/loads`, in older versions `/get_load`. What `/server_info` tells beside (older versions repeat their
own key in it) is left where it is. Its weights can be released and resumed: that is its owner's, because
it may end what is in flight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.domain import Capability
from fleetgate.engines.plain import TEXT, Plain
from fleetgate.engines.port import Ask, Reading, Reply, Resident
from fleetgate.engines.reading import (
    count,
    decode,
    fault,
    first,
    listed,
    metrics,
    not_understood,
    rows,
    served_model,
    table,
    text,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

HEALTH: Final = Ask("/health")
MODELS: Final = Ask("/v1/models")
INFO: Final = Ask("/server_info", optional=True)
OLD_INFO: Final = Ask("/get_server_info", optional=True, unless=INFO.path)
METRICS: Final = Ask("/metrics", optional=True)
LOADS: Final = Ask("/v1/loads", optional=True, unless=METRICS.path)
OLD_LOAD: Final = Ask("/get_load", optional=True, unless=LOADS.path)

_RUNNING: Final = ("sglang:num_running_reqs", "sglang_num_running_reqs")
_WAITING: Final = ("sglang:num_queue_reqs", "sglang_num_queue_reqs")
_CACHE: Final = ("sglang:token_usage", "sglang_token_usage")


class Sglang(Plain):
    """The kind `sglang`."""

    name = "sglang"
    ports = (30000,)
    continues = "flags"
    serves = TEXT | {Capability.EMBED, Capability.RERANK}

    def pulse(self) -> Sequence[Ask]:
        return (HEALTH, METRICS, LOADS, OLD_LOAD)

    def catalogue(self) -> Sequence[Ask]:
        return (MODELS, INFO, OLD_INFO)

    def read(self, ask: Ask, reply: Reply) -> Reading:  # noqa: PLR0911  (a decision list)
        if (faulty := fault(ask, reply)) is not None:
            return faulty
        if ask.path == HEALTH.path:
            return Reading(alive=True, loading=False)
        if ask.path == METRICS.path:
            return _read_metrics(reply.body)
        value = decode(reply.body)
        if ask.path in (INFO.path, OLD_INFO.path):
            return _read_info(table(value))
        if ask.path in (LOADS.path, OLD_LOAD.path):
            return _read_loads(ask, value)
        entries = listed(reply.body)
        if entries is None:
            return not_understood(ask)
        models = tuple(served_model(row) for row in entries)
        resident = tuple(Resident(model.id, context=model.context) for model in models)
        return Reading(alive=True, models=models, resident=resident)


def _read_info(value: dict[str, Any]) -> Reading:
    return Reading(
        version=text(value.get("version")),
        slots_total=whole(value.get("max_running_requests")),
        context=whole(value.get("context_length")),
    )


def _read_metrics(body: bytes) -> Reading:
    found = metrics(body, (*_RUNNING, *_WAITING, *_CACHE))
    running, waiting = first(found, *_RUNNING), first(found, *_WAITING)
    return Reading(
        slots_busy=None if running is None else int(running),
        queue=None if waiting is None else int(waiting),
        # A fraction per replica: their sum would say nothing.
        cache_used=used if (used := first(found, *_CACHE)) is not None and used <= 1 else None,
    )


def _read_loads(ask: Ask, value: Any) -> Reading:
    """One row per replica inside it. The older form counts the waiting among all."""
    replicas = rows(table(value).get("loads") if isinstance(value, dict) else value)
    running, waiting = [], []
    for row in replicas:
        queued = count(row.get("num_waiting_reqs"))
        busy = count(row.get("num_running_reqs"))
        if busy is None and queued is not None and (both := count(row.get("num_reqs"))) is not None:
            busy = max(0, both - queued)
        running.append(busy)
        waiting.append(queued)
    if not replicas:
        return not_understood(ask)
    return Reading(slots_busy=_sum(running), queue=_sum(waiting))


def _sum(numbers: list[int | None]) -> int | None:
    """None where one of them is not known."""
    known = [one for one in numbers if one is not None]
    return sum(known) if len(known) == len(numbers) else None
