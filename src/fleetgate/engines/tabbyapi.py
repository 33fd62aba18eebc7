"""TabbyAPI. Facts from its source and documentation of mid-2026.

- One language model at a time, and perhaps one for embeddings beside it; loading one ends the other.
- Other names than the loaded one's are answered by it, or refused, unless it was allowed to load by
  request. So what is loaded decides what it can be asked for.
- `/health` says 503 after any past error until its restart: it is well all the same.
- Loads, and the list of all models, take an administrator's key. A load answers with a stream of its
  progress, in which a failure stands under a 200.
- Its context is what the model was loaded with, `max_seq_len`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from fleetgate.domain import Capability
from fleetgate.engines import faults
from fleetgate.engines.plain import TEXT, Plain, embeds_only, post
from fleetgate.engines.port import Ask, Reading, Reply, Resident
from fleetgate.engines.reading import (
    decode,
    error_text,
    fault,
    listed,
    not_understood,
    openai_model,
    table,
    text,
    whole,
)
from fleetgate.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEALTH: Final = Ask("/health")
CARD: Final = Ask("/v1/model", optional=True)
PROPS: Final = Ask("/props", optional=True)
MODELS: Final = Ask("/v1/models")
PERMISSION: Final = Ask("/v1/auth/permission", optional=True)
LOAD: Final = "/v1/model/load"
LOAD_EMBEDDING: Final = "/v1/model/embedding/load"
UNLOAD: Final = "/v1/model/unload"

_NONE_LOADED: Final = re.compile(r"\bno (?:embedding )?models?\b.{0,40}\bloaded\b", re.IGNORECASE)
_NO_SUCH: Final = re.compile(r"could not find the (?:embedding )?model", re.IGNORECASE)


class TabbyApi(Plain):
    """The kind `tabbyapi`."""

    name = "tabbyapi"
    ports = (5000,)
    continues = "flags"
    serves = TEXT | {Capability.EMBED}
    answers_any_name = True

    def load(
        self,
        model: str,
        keep: float | None,  # noqa: ARG002  (it keeps a model until it is told otherwise)
        does: frozenset[Capability] | None = None,
    ) -> Ask | None:
        if embeds_only(does):
            return post(LOAD_EMBEDDING, {"embedding_model_name": model, "name": model})
        return post(LOAD, {"model_name": model, "name": model})  # the field was renamed

    def unload(self, model: str, instance: str | None) -> Ask | None:  # noqa: ARG002
        return Ask(UNLOAD, "POST")  # there is only one

    def refusal(self, reply: Reply) -> str:
        if said := super().refusal(reply):
            return "" if _NONE_LOADED.search(said) else said
        for line in reply.body.splitlines():
            event = line.removeprefix(b"data:").strip()
            if b'"error"' in event and table(decode(event)).get("error"):
                return error_text(event)
        return ""

    def pulse(self) -> Sequence[Ask]:
        return (HEALTH, CARD, PROPS)

    def catalogue(self) -> Sequence[Ask]:
        return (MODELS, PERMISSION)

    def read(self, ask: Ask, reply: Reply) -> Reading:  # noqa: PLR0911  (a decision list)
        value = decode(reply.body)
        if ask.path == HEALTH.path and table(value).get("status") in ("healthy", "unhealthy"):
            return Reading(alive=True, loading=False)
        if ask.path in (CARD.path, PROPS.path) and reply.status in (400, 404, 503):
            if _NONE_LOADED.search(error_text(reply.body)):
                return Reading(resident=(), max_loaded=1)
            if ask.path == CARD.path and reply.status != 404:
                return Reading()  # not now; without this answer nothing else tells what is loaded
        if (faulty := fault(ask, reply)) is not None:
            return faulty
        if ask.path == CARD.path:
            return _read_card(ask, table(value))
        if ask.path == PROPS.path:
            defaults = table(table(value).get("default_generation_settings"))
            return Reading(
                slots_total=whole(table(value).get("total_slots")), context=whole(defaults.get("n_ctx"))
            )
        if ask.path == PERMISSION.path:
            said = text(table(value).get("permission"))
            return Reading(loadable=None if said is None else said == "admin")
        entries = listed(reply.body)
        if entries is None:
            return not_understood(ask)
        return Reading(alive=True, models=tuple(openai_model(row) for row in entries))

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
        said = error_text(body)
        if status >= 400 and _NONE_LOADED.search(said):
            return FailureClass.LOADING
        if status in (400, 404) and _NO_SUCH.search(said):
            return FailureClass.MODEL_MISSING
        return faults.classify(status, headers, body)


def _read_card(ask: Ask, value: Mapping[str, Any]) -> Reading:
    model = text(value.get("id"))
    if model is None:
        return not_understood(ask)
    parameters = table(value.get("parameters"))
    found = Resident(
        model,
        context=whole(parameters.get("max_seq_len")),
        slots=whole(parameters.get("max_batch_size")),
    )
    return Reading(resident=(found,), max_loaded=1)
