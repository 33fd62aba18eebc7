"""llama.cpp's server, with one model or as a router. Seen in build 11549, which `tests/` holds answers of;
the router is known from its source and documentation only.

- `/slots` wakes a sleeping server and keeps an idle one from falling asleep; `/health`, `/props`,
  `/v1/models` and `/metrics` do neither. So `/slots` is only for while it works for us anyway, and
  `/metrics`, where it is on, tells of the work of others.
- `meta.n_ctx_train` is what the model was trained with; `n_ctx` is what is served.
- Caller's faults come as 500 as well (a role that is missing, an image for a blind model).
- A router tells in its list where each model is in its life. Whatever else names a model there loads it,
  so nothing else is asked. It keeps so many models, whatever their size, and throws out the one that was
  used longest ago. One that sleeps there is woken by the next request and by no call: it counts as there.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from fleetgate.domain import Capability, Model
from fleetgate.engines import faults
from fleetgate.engines.plain import TEXT, Plain, post
from fleetgate.engines.port import Ask, Load, Reading, Reply, Resident
from fleetgate.engines.reading import (
    decode,
    error_text,
    fault,
    first,
    fraction,
    listed,
    metrics,
    not_understood,
    option,
    rows,
    table,
    text,
    whole,
)
from fleetgate.errors import FailureClass
from fleetgate.units import params_in_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEALTH: Final = Ask("/health")
MODELS: Final = Ask("/v1/models")
ROUTER: Final = Ask("/models", optional=True)
"""the same list, asked of routers at every probe: it says what is loaded"""
PROPS: Final = Ask("/props", optional=True)
METRICS: Final = Ask("/metrics", optional=True)
SLOTS: Final = Ask("/slots", optional=True, stirs=True)
LOAD: Final = "/models/load"
UNLOAD: Final = "/models/unload"
INFILL: Final = "/infill"

_SERVED: Final = TEXT | {Capability.EMBED, Capability.RERANK, Capability.TRANSCRIBE}
_RUNNING: Final = "llamacpp:requests_processing"
_WAITING: Final = "llamacpp:requests_deferred"
_CALLERS_FAULT: Final = re.compile(
    r"failed to parse|missing '|(?:image|audio|video) input is not supported|unsupported content\[|template"
    r"|only one of|must be|is required",
    re.IGNORECASE,
)
_NOT_THERE: Final = re.compile(r"\bis not (?:loaded|running)\b", re.IGNORECASE)
_NO_GAPS: Final = re.compile(r"\binfill is not supported\b", re.IGNORECASE)
_ALREADY: Final = re.compile(r"\balready (?:running|loaded)\b|\bis not (?:running|loaded)\b", re.IGNORECASE)


class LlamaCpp(Plain):
    """The kind `llamacpp`."""

    name = "llamacpp"
    counts_messages = True
    ports = (8080,)
    continues = "assistant"
    serves = _SERVED
    infill: str | None = INFILL
    # Messages came in November 2025, and the builds after it mended much. Its stream of responses is not
    # used: the official client cannot read it (no `content_index` in its deltas, tried with build 11549).
    since: Mapping[str, tuple[int, ...]] = MappingProxyType({"anthropic": (7_800,)})

    def load(
        self,
        model: str,
        keep: float | None,  # noqa: ARG002
        does: frozenset[Capability] | None = None,  # noqa: ARG002
    ) -> Ask | None:
        return post(LOAD, {"model": model})

    def unload(self, model: str, instance: str | None) -> Ask | None:  # noqa: ARG002
        return post(UNLOAD, {"model": model})

    def refusal(self, reply: Reply) -> str:
        # Somebody else was quicker: it is as it should be.
        said = super().refusal(reply)
        return "" if _ALREADY.search(said) else said

    def pulse(self) -> Sequence[Ask]:
        return (HEALTH, ROUTER, PROPS, METRICS, SLOTS)

    def catalogue(self) -> Sequence[Ask]:
        return (MODELS,)

    def read(self, ask: Ask, reply: Reply) -> Reading:  # noqa: PLR0911  (a decision list)
        if (faulty := fault(ask, reply)) is not None:
            return faulty
        if ask.path == METRICS.path:
            return _read_metrics(reply.body)
        value = decode(reply.body)
        if ask.path == SLOTS.path:
            return _read_slots(ask, value)
        if ask.path in (MODELS.path, ROUTER.path):
            entries = listed(reply.body)
            return not_understood(ask) if entries is None else _read_models(ask, entries)
        if not isinstance(value, dict):
            return not_understood(ask)
        if ask.path == PROPS.path:
            return _read_props(value)
        return Reading(alive=True, loading=False)

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
        return classify(status, headers, body)


def classify(status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
    """Also for engines that pass its answers on."""
    found = faults.classify(status, headers, body)
    if found is FailureClass.SERVER_ERROR and status == 500 and _CALLERS_FAULT.search(error_text(body)):
        return FailureClass.BAD_REQUEST
    if status == 501 and _NO_GAPS.search(error_text(body)):
        return FailureClass.ABSENT_FEATURE  # this model cannot; others may
    if found is FailureClass.BAD_REQUEST and _NOT_THERE.search(error_text(body)):
        return FailureClass.LOADING  # a router threw it out meanwhile, or loads nothing by itself
    return found


def _read_metrics(body: bytes) -> Reading:
    found = metrics(body, (_RUNNING, _WAITING))
    running, waiting = first(found, _RUNNING), first(found, _WAITING)
    return Reading(
        slots_busy=None if running is None else int(running), queue=None if waiting is None else int(waiting)
    )


def _read_slots(ask: Ask, value: Any) -> Reading:
    if not isinstance(value, list):
        return not_understood(ask)
    slots = [row for row in rows(value) if "id" in row]
    said = [slot["is_processing"] for slot in slots if isinstance(slot.get("is_processing"), bool)]
    return Reading(
        slots_total=len(slots) or None,
        slots_busy=sum(said) if slots and len(said) == len(slots) else None,
        context=next((found for slot in slots if (found := whole(slot.get("n_ctx")))), None),
    )


def _read_props(value: Mapping[str, Any]) -> Reading:
    version = text(value.get("build_info"))
    version = None if version == "b0-unknown" else version
    if value.get("role") == "router":  # the rest of it stands for no model
        return Reading(version=version, max_loaded=whole(value.get("max_instances")), loadable=True)
    sleeping = value.get("is_sleeping")
    defaults = table(value.get("default_generation_settings"))
    return Reading(
        sleeping=sleeping if isinstance(sleeping, bool) else None,
        slots_total=whole(value.get("total_slots")),
        context=whole(defaults.get("n_ctx")),
        version=version,
        loadable=False if "total_slots" in value else None,
    )


def _read_models(ask: Ask, entries: Sequence[Mapping[str, Any]]) -> Reading:
    if any("value" in table(row.get("status")) for row in entries):
        return _read_router(ask, entries)
    if ask.path == ROUTER.path:  # it has one model: this is not asked again
        return Reading(failure=FailureClass.ABSENT_FEATURE)
    return Reading(
        alive=True,
        models=tuple(_model(row) for row in entries),
        resident=tuple(Resident(str(row["id"]), context=_served(row)) for row in entries),
        loadable=False if entries else None,
    )


def _read_router(ask: Ask, entries: Sequence[Mapping[str, Any]]) -> Reading:
    stages = [(row, table(row.get("status"))) for row in entries]
    return Reading(
        alive=True,
        # What is not there completely cannot be asked for.
        models=tuple(_routed(row) for row, status in stages if status.get("value") != "downloading")
        if ask.path == MODELS.path
        else None,
        resident=tuple(
            Resident(
                str(row["id"]),
                context=_served(row),
                slots=option(status.get("args"), "-np", "--parallel"),
                size=whole(table(row.get("meta")).get("size")),  # of the weights: at least that
            )
            for row, status in stages
            if status.get("value") in ("loaded", "sleeping")
        ),
        loads=tuple(load for row, status in stages if (load := _load(str(row["id"]), status)) is not None),
        loadable=True,
    )


def _load(model: str, status: Mapping[str, Any]) -> Load | None:
    if status.get("value") == "loading":
        said = status.get("progress")
        return Load(model, progress=fraction(said.get("value") if isinstance(said, dict) else said))
    if not status.get("failed"):
        return None
    code = status.get("exit_code")
    return Load(model, failed="its process ended" + (f" with code {code}" if isinstance(code, int) else ""))


def _served(row: Mapping[str, Any]) -> int | None:
    return whole(table(row.get("meta")).get("n_ctx"))


def _routed(row: Mapping[str, Any]) -> Model:
    """The same whether or not it is loaded: what is served of it now stands with what is resident."""
    return _model({name: value for name, value in row.items() if name != "meta"})


def _model(row: Mapping[str, Any]) -> Model:
    model = str(row["id"])
    # Without --alias the name is the file's whole path.
    name = re.split(r"[/\\]", model)[-1].removesuffix(".gguf") if model.endswith(".gguf") else model
    meta = table(row.get("meta"))
    params = whole(meta.get("n_params"))
    aliases = row.get("aliases")
    others = [one for one in aliases if text(one)] if isinstance(aliases, list) else []
    return Model(
        id=model,
        name=name,
        aliases=tuple(one for one in dict.fromkeys([model, *others]) if one != name),
        does=_does(table(row.get("architecture")).get("input_modalities")),
        context=_served(row),
        params=params / 1e9 if params else params_in_name(name),
        size=whole(meta.get("size")),
        quantisation=text(meta.get("ftype")),
    )


def _does(inputs: Any) -> frozenset[Capability] | None:
    """It says what a model can take in. What it is good for beside that is not known, so it may be asked."""
    if not isinstance(inputs, list):
        return None
    deaf = set() if "audio" in inputs else {Capability.TRANSCRIBE}
    blind = set() if "image" in inputs else {Capability.VISION}
    return _SERVED - deaf - blind if deaf or blind else None
