"""Anthropic's own API, Messages: of providers alone. How requests and answers are told is for `dialects`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from fleetgate.domain import Capability
from fleetgate.engines.openai import OpenAI
from fleetgate.engines.plain import TEXT
from fleetgate.engines.port import Ask, Reading, Reply
from fleetgate.engines.reading import error_text, listed, whole
from fleetgate.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION: Final = "2023-06-01"
"""of the API, which every request names"""
MODELS: Final = Ask("/v1/models?limit=1000")
_TOO_LONG: Final = re.compile(r"exceeds? (?:the )?context limit", re.IGNORECASE)


class Anthropic(OpenAI):
    """The kind `anthropic`."""

    name = "anthropic"
    counts_messages = True
    ports = (443,)
    serves = TEXT - {Capability.COMPLETE}
    speaks: Literal["openai", "anthropic"] = "anthropic"

    def headers(self, key: str | None) -> tuple[tuple[str, str], ...]:
        version = ("anthropic-version", VERSION)
        return (("x-api-key", key), version) if key else (version,)

    def path(self, capability: Capability) -> str | None:
        return "/v1/messages" if capability in self.serves else None

    def pulse(self) -> Sequence[Ask]:
        return (MODELS,)

    def catalogue(self) -> Sequence[Ask]:
        return (MODELS,)

    def read(self, ask: Ask, reply: Reply) -> Reading:
        """As any list of models, but that retired ones stay in it, and what fits has a name of its own."""
        reading = super().read(ask, reply)
        if reading.models is None:
            return reading
        rows = {row["id"]: row for row in listed(reply.body) or ()}
        here = [one for one in reading.models if rows[one.id].get("lifecycle") != "retired"]
        models = (replace(one, context=whole(rows[one.id].get("max_input_tokens"))) for one in here)
        return replace(reading, models=tuple(models))

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
        if status == 400 and _TOO_LONG.search(error_text(body)):
            return FailureClass.CONTEXT_TOO_LONG
        return super().classify(status, headers, body)
