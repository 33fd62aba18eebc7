"""llama-swap: starts and stops other servers, mostly llama.cpp's, by the model that is asked for.

Facts from its source and documentation of mid-2026.

- `/running` never starts anything. `/upstream/…` and every path of the servers behind it do: such a one
  is only asked to load a model, which needs no inference.
- It admits so many requests per model and answers more with a bare 429: that is full.
- With `sendLoadingState` it streams how a load goes as if it were the model's reasoning, in pieces that
  have `choices` and nothing else. They are no part of the answer.
- Models of its peers are left out: their machines are unknown here. Write the peer as an engine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from fleetgate.domain import Capability
from fleetgate.engines import llamacpp
from fleetgate.engines.plain import Plain
from fleetgate.engines.port import Ask, Load, Reading, Reply, Resident
from fleetgate.engines.reading import (
    decode,
    error_text,
    fault,
    listed,
    not_understood,
    openai_model,
    rows,
    table,
    text,
)
from fleetgate.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


RUNNING: Final = Ask("/running")
MODELS: Final = Ask("/v1/models")
VERSION: Final = Ask("/api/version", optional=True)
UPSTREAM: Final = "/upstream/"
UNLOAD: Final = "/api/models/unload/"

_NO_SUCH: Final = re.compile(
    r"could not find (?:a )?(?:real modelID|suitable)|model not found", re.IGNORECASE
)


class LlamaSwap(Plain):
    """The kind `llamaswap`."""

    name = "llamaswap"
    ports = (8080,)
    serves = Plain.serves - {Capability.TRANSLATE, Capability.MODERATE}

    def load(
        self,
        model: str,
        keep: float | None,  # noqa: ARG002  (its file says how long)
        does: frozenset[Capability] | None = None,  # noqa: ARG002
    ) -> Ask | None:
        return Ask(f"{UPSTREAM}{quote(model)}/health")

    def unload(self, model: str, instance: str | None) -> Ask | None:  # noqa: ARG002
        return Ask(f"{UNLOAD}{quote(model)}", "POST")

    def refusal(self, reply: Reply) -> str:
        said = super().refusal(reply)
        # A server without this path answers 404 itself, so it runs.
        return said if reply.status >= 500 or _NO_SUCH.search(said) else ""

    def tells_of_load(self, chunk: Mapping[str, Any]) -> bool:
        # The servers behind it name each piece: `id`, `object`, `model`.
        pieces = rows(chunk.get("choices")) if chunk.keys() == {"choices"} else []
        return bool(pieces) and all(
            one.keys() == {"delta"} and table(one["delta"]).keys() == {"reasoning_content"} for one in pieces
        )

    def pulse(self) -> Sequence[Ask]:
        return (RUNNING,)

    def catalogue(self) -> Sequence[Ask]:
        return (MODELS, VERSION)

    def read(self, ask: Ask, reply: Reply) -> Reading:
        if (faulty := fault(ask, reply)) is not None:
            return faulty
        value = decode(reply.body)
        if ask.path == VERSION.path:
            return Reading(version=text(table(value).get("version")))
        if ask.path == RUNNING.path:
            return _read_running(ask, table(value))
        entries = listed(reply.body)
        if entries is None:
            return not_understood(ask)
        return Reading(alive=True, models=tuple(openai_model(row) for row in entries if not _peer(row)))

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
        if status in (400, 404) and _NO_SUCH.search(error_text(body)):
            return FailureClass.MODEL_MISSING
        return llamacpp.classify(status, headers, body)


def _read_running(ask: Ask, value: Mapping[str, Any]) -> Reading:
    if not isinstance(value.get("running", ""), list | None):
        return not_understood(ask)
    stages = [
        (model, row.get("state")) for row in rows(value.get("running")) if (model := text(row.get("model")))
    ]
    return Reading(
        alive=True,
        loading=False,
        # One that is being stopped is as good as gone; one without a word is of an old version, and runs.
        resident=tuple(Resident(model) for model, state in stages if state in ("ready", None)),
        loads=tuple(Load(model) for model, state in stages if state == "starting"),
    )


def _peer(row: Mapping[str, Any]) -> bool:
    return bool(table(table(row.get("meta")).get("llamaswap")).get("peerID"))
