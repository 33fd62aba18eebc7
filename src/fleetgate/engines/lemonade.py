"""Lemonade. Facts from its documentation of mid-2026.

`/v1/health` tells which models are loaded, with what, and for how many of each type there is room: one
number would not say that, so it is left to the engine itself to make room. A load by name would download
a model that is not there, so only what it lists is ever asked for. Unloading without a name would empty
it. Some of its models are a cloud's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.domain import Capability, Model
from fleetgate.engines import llamacpp
from fleetgate.engines.plain import Plain, post
from fleetgate.engines.port import Ask, Reading, Reply, Resident
from fleetgate.engines.reading import (
    decode,
    error_text,
    fault,
    listed,
    not_understood,
    option,
    rows,
    table,
    text,
    whole,
)
from fleetgate.units import params_in_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetgate.errors import FailureClass

HEALTH: Final = Ask("/v1/health")
MODELS: Final = Ask("/v1/models")
LOAD: Final = "/v1/load"
UNLOAD: Final = "/v1/unload"

_GB: Final = 10**9
_SPECIAL: Final = (
    ("embeddings", Capability.EMBED),
    ("reranking", Capability.RERANK),
    ("image", Capability.IMAGE),
    ("image", Capability.EDIT),
    ("tts", Capability.SPEAK),
    ("transcription", Capability.TRANSCRIBE),
    ("audio", Capability.TRANSCRIBE),
)
"""labels of models that are for one thing"""
_EXTRA: Final = (
    ("vision", Capability.VISION),
    ("tool-calling", Capability.TOOLS),
    ("reasoning", Capability.REASONING),
)


class Lemonade(Plain):
    """The kind `lemonade`."""

    name = "lemonade"
    ports = (13305, 8000)
    serves = Plain.serves - {Capability.TRANSLATE, Capability.MODERATE}

    def path(self, capability: Capability) -> str | None:
        return "/v1/reranking" if capability is Capability.RERANK else super().path(capability)

    def load(
        self,
        model: str,
        keep: float | None,
        does: frozenset[Capability] | None = None,  # noqa: ARG002
    ) -> Ask | None:
        # It knows no times, only pins.
        return post(
            LOAD, {"model_name": model, **({"pinned": True} if keep is not None and keep < 0 else {})}
        )

    def unload(self, model: str, instance: str | None) -> Ask | None:  # noqa: ARG002
        return post(UNLOAD, {"model_name": model})

    def refusal(self, reply: Reply) -> str:
        if said := super().refusal(reply):
            return said
        return error_text(reply.body) if table(decode(reply.body)).get("status") == "error" else ""

    def pulse(self) -> Sequence[Ask]:
        return (HEALTH,)

    def catalogue(self) -> Sequence[Ask]:
        return (MODELS,)

    def read(self, ask: Ask, reply: Reply) -> Reading:
        if (faulty := fault(ask, reply)) is not None:
            return faulty
        if ask.path == HEALTH.path:
            return _read_health(ask, table(decode(reply.body)))
        entries = listed(reply.body)
        if entries is None:
            return not_understood(ask)
        # An entry may be known without being there: asking for it would download it.
        return Reading(
            alive=True, models=tuple(_model(row) for row in entries if row.get("downloaded") is not False)
        )

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
        return llamacpp.classify(status, headers, body)


def _read_health(ask: Ask, value: Mapping[str, Any]) -> Reading:
    if not isinstance(value.get("all_models_loaded"), list):
        return not_understood(ask)
    loaded = [row for row in rows(value["all_models_loaded"]) if text(row.get("model_name"))]
    return Reading(
        alive=True,
        loading=False,
        resident=tuple(_resident(row) for row in loaded),
        version=text(value.get("version")),
    )


def _resident(row: Mapping[str, Any]) -> Resident:
    command = row.get("launch_command")
    return Resident(
        str(row["model_name"]),
        # What it was started with is true where the settings only say "automatic".
        context=whole(option(command, "--ctx-size", "-c"))
        or whole(table(row.get("recipe_options")).get("ctx_size")),
        slots=whole(option(command, "--parallel", "-np")),
        # Pinned means for ever, in the form in which others say so.
        expires_at="9999-12-31T00:00:00Z" if row.get("pinned") is True else None,
    )


def _model(row: Mapping[str, Any]) -> Model:
    model = str(row["id"])
    size = row.get("size")
    known = isinstance(size, int | float) and not isinstance(size, bool) and size > 0
    return Model(
        id=model,
        name=model,
        does=_does(row.get("labels")),
        params=params_in_name(model),
        size=round(size * _GB) if known and size is not None else None,
        remote=row.get("recipe") == "cloud",
    )


def _does(labels: Any) -> frozenset[Capability] | None:
    if not isinstance(labels, list) or not labels:
        return None
    special = frozenset(what for word, what in _SPECIAL if word in labels)
    if special:
        return special
    return frozenset(
        {Capability.CHAT, Capability.COMPLETE, *(what for word, what in _EXTRA if word in labels)}
    )
