"""Text Generation Inference, which has been in maintenance since early 2026. Facts from its documentation.

One model per process, always loaded. It answers at most `max_concurrent_requests` at once and refuses
more with 429: that is full, not a provider's rate limit. What fits is `max_total_tokens` together, and of
that at most `max_input_tokens` of prompt.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from fleetgate.domain import Model
from fleetgate.engines import faults
from fleetgate.engines.plain import TEXT, Plain
from fleetgate.engines.port import Ask, Reading, Reply, Resident
from fleetgate.engines.reading import (
    decode,
    error_text,
    fault,
    metrics,
    not_understood,
    table,
    text,
    whole,
)
from fleetgate.errors import FailureClass
from fleetgate.units import params_in_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEALTH: Final = Ask("/health")
INFO: Final = Ask("/info")
METRICS: Final = Ask("/metrics", optional=True)

_QUEUE: Final = "tgi_queue_size"
_BATCH: Final = "tgi_batch_current_size"
_TOO_LONG: Final = re.compile(r"must have less than \d+ tokens|must be (?:<=|less than) ?\d+", re.IGNORECASE)


class Tgi(Plain):
    """The kind `tgi`."""

    name = "tgi"
    ports = (3000,)
    continues = "assistant"
    serves = TEXT

    def pulse(self) -> Sequence[Ask]:
        return (HEALTH, METRICS)

    def catalogue(self) -> Sequence[Ask]:
        return (INFO,)

    def read(self, ask: Ask, reply: Reply) -> Reading:
        if (faulty := fault(ask, reply)) is not None:
            return faulty
        if ask.path == HEALTH.path:
            return Reading(alive=True, loading=False)
        if ask.path == METRICS.path:
            found = metrics(reply.body, (_QUEUE, _BATCH))
            busy, queue = found.get(_BATCH), found.get(_QUEUE)
            return Reading(
                slots_busy=None if busy is None else int(busy), queue=None if queue is None else int(queue)
            )
        return _read_info(ask, table(decode(reply.body)))

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
        if status == 429:
            return FailureClass.FULL
        if status == 424:  # generation failed, which is no fault of the request
            return FailureClass.SERVER_ERROR
        if status == 422 and _TOO_LONG.search(error_text(body)):
            return FailureClass.CONTEXT_TOO_LONG
        return faults.classify(status, headers, body)


def _read_info(ask: Ask, value: dict[str, Any]) -> Reading:
    model = text(value.get("model_id"))
    if model is None:
        return not_understood(ask)
    context, prompt = whole(value.get("max_total_tokens")), whole(value.get("max_input_tokens"))
    found = Model(
        id=model,
        name=model,
        context=context,
        params=params_in_name(model),
        note=f"prompts of at most {prompt} tokens" if prompt else "",
    )
    return Reading(
        alive=True,
        models=(found,),
        resident=(Resident(model, context=context),),
        slots_total=whole(value.get("max_concurrent_requests")),
        version=text(value.get("version")),
    )
