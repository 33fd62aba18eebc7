"""Ollama. Facts from its source and documentation of mid-2026.

Slots and queue are not exposed: they stay unknown. Nothing that is asked of it in passing names a model,
since any request that does may load it.

- It ends a load when the request that asked for it is taken back, so loads are asked for apart.
- A load has no options: a runner with others than a request's is thrown away and loaded again. What the
  model or the machine was set to then holds for both.
- Without `keep_alive` a model keeps the time that it had, so a pin is only undone by saying so.
- `/api/generate` refuses a model that only embeds; `/api/embed` without input loads it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.ollama.names import tagged
from fleetgate.domain import Capability, Model
from fleetgate.engines import faults
from fleetgate.engines.plain import TEXT, Plain, embeds_only, post
from fleetgate.engines.port import Ask, Reading, Reply, Resident
from fleetgate.engines.reading import (
    billions,
    decode,
    error_text,
    fault,
    not_understood,
    rows,
    table,
    text,
    whole,
)
from fleetgate.engines.versions import EVER
from fleetgate.errors import FailureClass
from fleetgate.units import params_in_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALIVE: Final = Ask("/")
LOADED: Final = Ask("/api/ps", optional=True)
TAGS: Final = Ask("/api/tags")
VERSION: Final = Ask("/api/version", optional=True)
GENERATE: Final = "/api/generate"
"""without a prompt it only loads the model"""
EMBED: Final = "/api/embed"
"""without input likewise, for models that have no other use"""

_EMBEDDING_FAMILIES: Final = frozenset({"bert", "nomic-bert", "nomic-bert-moe", "xlm-roberta"})
_CAPABILITIES: Final = (
    ("completion", (Capability.CHAT, Capability.COMPLETE)),
    ("tools", (Capability.TOOLS,)),
    ("vision", (Capability.VISION,)),
    ("thinking", (Capability.REASONING,)),
    ("embedding", (Capability.EMBED,)),
    ("image", (Capability.IMAGE,)),
    ("audio", (Capability.TRANSCRIBE,)),
)


class Ollama(Plain):
    """The kind `ollama`."""

    name = "ollama"
    ports = (11434,)
    # Its `/v1/images/edits` takes JSON and no form.
    serves = TEXT | {Capability.EMBED, Capability.IMAGE, Capability.TRANSCRIBE}
    load_dies_with_caller = True
    since: Mapping[str, tuple[int, ...]] = MappingProxyType(
        {"ollama": EVER, "anthropic": (0, 14), "responses": (0, 13, 3)}
    )
    slots_assumed = 1  # OLLAMA_NUM_PARALLEL

    def normal_id(self, model: str) -> str:
        return tagged(model)

    def load(self, model: str, keep: float | None, does: frozenset[Capability] | None = None) -> Ask | None:
        form: dict[str, Any] = {"model": model}
        if keep is not None:
            form["keep_alive"] = -1 if keep < 0 else round(keep)
        return post(EMBED, {**form, "input": []}) if embeds_only(does) else post(GENERATE, form)

    def unload(self, model: str, instance: str | None) -> Ask | None:  # noqa: ARG002
        # This one is taken for models that embed as well.
        return post(GENERATE, {"model": model, "keep_alive": 0})

    def refusal(self, reply: Reply) -> str:
        if said := super().refusal(reply):
            return said
        # The status goes out before the load is done, so a failure may stand in the answer.
        return error_text(reply.body) if "error" in table(decode(reply.body)) else ""

    def pulse(self) -> Sequence[Ask]:
        return (ALIVE, LOADED)

    def catalogue(self) -> Sequence[Ask]:
        return (TAGS, VERSION)

    def read(self, ask: Ask, reply: Reply) -> Reading:
        if (faulty := fault(ask, reply)) is not None:
            return faulty
        if ask.path == ALIVE.path:
            return Reading(alive=True)
        value = table(decode(reply.body))
        if ask.path == VERSION.path:
            return Reading(version=text(value.get("version")))
        # An empty Go slice arrives as null.
        if not isinstance(value.get("models", ""), list | None):
            return not_understood(ask)
        entries = rows(value.get("models"))
        if ask.path == LOADED.path:
            return Reading(resident=tuple(_resident(row) for row in entries if _id(row)))
        return Reading(alive=True, models=tuple(_model(row) for row in entries if _id(row)))

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
        if status == 499:  # our own disconnect, seen by Ollama
            return FailureClass.CALLER_GONE
        if status == 503 and "server busy" in error_text(body).lower():
            return FailureClass.FULL
        return faults.classify(status, headers, body)


def _id(row: Mapping[str, Any]) -> str | None:
    found = text(row.get("model")) or text(row.get("name"))
    return None if found is None else tagged(found)


def _resident(row: Mapping[str, Any]) -> Resident:
    size, in_vram = whole(row.get("size")), row.get("size_vram")
    fraction = None
    if size is not None and isinstance(in_vram, int):
        fraction = max(0.0, min(1.0, in_vram / size))
    return Resident(
        id=_id(row) or "",
        context=whole(row.get("context_length")),
        vram_fraction=fraction,
        expires_at=text(row.get("expires_at")),
        size=size,
    )


def _model(row: Mapping[str, Any]) -> Model:
    model = _id(row) or ""
    short = model.removesuffix(":latest")
    details = table(row.get("details"))
    does = _does(row, details)
    embeds = does is not None and Capability.EMBED in does
    return Model(
        id=model,
        name=short,
        aliases=() if short == model else (model,),
        does=does,
        # details.context_length is what the weights could, not what is served: /api/ps tells that.
        params=billions(text(details.get("parameter_size"))) or params_in_name(model),
        dimensions=whole(details.get("embedding_length")) if embeds else None,
        digest=text(row.get("digest")),
        size=whole(row.get("size")),
        quantisation=text(details.get("quantization_level")),
        family=text(details.get("family")),
        remote=bool(text(row.get("remote_host")) or text(row.get("remote_model"))),
    )


def _does(row: Mapping[str, Any], details: Mapping[str, Any]) -> frozenset[Capability] | None:
    said = row.get("capabilities")
    if isinstance(said, list) and said:
        return frozenset(found for word, what in _CAPABILITIES if word in said for found in what) or None
    if details.get("family") in _EMBEDDING_FAMILIES:
        return frozenset({Capability.EMBED})
    return None
