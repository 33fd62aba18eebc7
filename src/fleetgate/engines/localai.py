"""LocalAI. Facts from its source and documentation of mid-2026.

- What is loaded stands in `/system`, which takes an administrator's key; without one its imitation of
  Ollama tells the same, and it cannot be told to load.
- It evicts by itself: idle and busy watchdogs, groups, a budget of memory.
- Pictures are changed at a path of its own, and it does not translate speech.
- Any request that names a model loads it. In a cluster such a request is answered after 60 s with 503,
  `Retry-After` and `loading`, while the load goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.domain import Capability, Model
from fleetgate.engines.plain import Plain, post
from fleetgate.engines.port import Ask, Reading, Reply, Resident
from fleetgate.engines.reading import (
    decode,
    fault,
    listed,
    not_understood,
    openai_model,
    rows,
    table,
    text,
    whole,
)
from fleetgate.errors import FailureClass
from fleetgate.units import params_in_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

READY: Final = Ask("/readyz")
SYSTEM: Final = Ask("/system", optional=True)
LOADED: Final = Ask("/api/ps", optional=True, unless=SYSTEM.path)
OFFERED: Final = Ask("/v1/models/capabilities", optional=True)
MODELS: Final = Ask("/v1/models", unless=OFFERED.path)
VERSION: Final = Ask("/version", optional=True)
LOAD: Final = "/backend/load"
UNLOAD: Final = "/backend/shutdown"

_WORDS: Final = (
    ("chat", (Capability.CHAT, Capability.TOOLS, Capability.REASONING)),
    ("completion", (Capability.COMPLETE,)),
    ("vision", (Capability.VISION,)),
    ("embeddings", (Capability.EMBED,)),
    ("rerank", (Capability.RERANK,)),
    ("image", (Capability.IMAGE,)),
    ("tts", (Capability.SPEAK,)),
    ("transcript", (Capability.TRANSCRIBE,)),
)


class LocalAi(Plain):
    """The kind `localai`."""

    name = "localai"
    ports = (8080,)
    serves = Plain.serves - {Capability.EDIT, Capability.TRANSLATE}

    def normal_id(self, model: str) -> str:
        return model.removesuffix(":latest")  # as its imitation of Ollama may call it

    def load(
        self,
        model: str,
        keep: float | None,  # noqa: ARG002  (its watchdogs have their own times)
        does: frozenset[Capability] | None = None,  # noqa: ARG002
    ) -> Ask | None:
        return post(LOAD, {"model": model})

    def unload(self, model: str, instance: str | None) -> Ask | None:  # noqa: ARG002
        return post(UNLOAD, {"model": model})

    def pulse(self) -> Sequence[Ask]:
        return (READY, SYSTEM, LOADED)

    def catalogue(self) -> Sequence[Ask]:
        return (OFFERED, MODELS, VERSION)

    def read(self, ask: Ask, reply: Reply) -> Reading:  # noqa: PLR0911  (a decision list)
        if ask.path == SYSTEM.path and reply.status in (401, 403):
            return Reading(failure=FailureClass.ABSENT_FEATURE)  # not for this key, which is no fault of it
        if (faulty := fault(ask, reply)) is not None:
            return faulty
        if ask.path == READY.path:
            return Reading(alive=True, loading=False)
        value = decode(reply.body)
        if ask.path == SYSTEM.path:
            return _read_system(ask, table(value))
        if ask.path == LOADED.path:
            return _read_loaded(ask, table(value))
        if ask.path == VERSION.path:
            return Reading(version=text(table(value).get("version")))
        entries = listed(reply.body)
        if entries is None:
            return not_understood(ask)
        offered = ask.path == OFFERED.path
        return Reading(
            alive=True, models=tuple(_model(row) if offered else openai_model(row) for row in entries)
        )


def _read_system(ask: Ask, value: Mapping[str, Any]) -> Reading:
    if not isinstance(value.get("loaded_models", []), list):
        return not_understood(ask)
    if "loaded_models" not in value and "backends" not in value:
        return not_understood(ask)
    found = (text(row.get("id")) for row in rows(value.get("loaded_models")))
    return Reading(resident=tuple(Resident(model) for model in found if model), loadable=True)


def _read_loaded(ask: Ask, value: Mapping[str, Any]) -> Reading:
    if not isinstance(value.get("models", ""), list | None):
        return not_understood(ask)
    found = ((text(row.get("model")) or text(row.get("name")), row) for row in rows(value.get("models")))
    # Its sizes and times are there for the form only.
    return Reading(
        resident=tuple(Resident(model.removesuffix(":latest")) for model, _ in found if model), loadable=False
    )


def _model(row: Mapping[str, Any]) -> Model:
    model = str(row["id"])
    return Model(
        id=model,
        name=model,
        does=_does(row.get("capabilities")),
        context=whole(row.get("context_size")),
        params=params_in_name(model),
    )


def _does(said: Any) -> frozenset[Capability] | None:
    if not isinstance(said, list):
        return None
    words = {word.lower().removeprefix("flag_") for word in said if isinstance(word, str)}
    return frozenset(one for word, what in _WORDS if word in words for one in what) or None
