"""What most kinds have alike: the paths of OpenAI's API, ids as they are, nothing to load."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from fleetgate.domain import Capability
from fleetgate.engines import faults, versions
from fleetgate.engines.port import Ask
from fleetgate.engines.reading import error_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.engines.port import Reply
    from fleetgate.errors import FailureClass

PATHS: Final[Mapping[Capability, str]] = MappingProxyType(
    {
        Capability.CHAT: "/v1/chat/completions",
        Capability.VISION: "/v1/chat/completions",
        Capability.TOOLS: "/v1/chat/completions",
        Capability.REASONING: "/v1/chat/completions",
        Capability.SCHEMA: "/v1/chat/completions",
        Capability.COMPLETE: "/v1/completions",
        Capability.EMBED: "/v1/embeddings",
        Capability.RERANK: "/v1/rerank",
        Capability.IMAGE: "/v1/images/generations",
        Capability.EDIT: "/v1/images/edits",
        Capability.SPEAK: "/v1/audio/speech",
        Capability.TRANSCRIBE: "/v1/audio/transcriptions",
        Capability.TRANSLATE: "/v1/audio/translations",
        Capability.MODERATE: "/v1/moderations",
    }
)
TEXT: Final = frozenset(
    {Capability.CHAT, Capability.VISION, Capability.TOOLS, Capability.REASONING, Capability.SCHEMA}
    | {Capability.COMPLETE}
)
"""what every server of language models offers"""


class Plain:
    """A kind is one of these and says what it does in its own way."""

    name = ""
    ports: tuple[int, ...] = ()
    serves: frozenset[Capability] = frozenset(PATHS)
    load_dies_with_caller = False
    slots_assumed: int | None = None
    answers_any_name = False
    counts_messages = False
    continues: Literal["", "flags", "assistant", "prefix"] = ""
    speaks: Literal["openai", "anthropic"] = "openai"
    infill: str | None = None
    since: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    """other dialects that it speaks, and since which version"""

    def also_speaks(self, version: str | None) -> Mapping[str, str]:
        return MappingProxyType(versions.spoken(self.since, version))

    def headers(self, key: str | None) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {key}"),) if key else ()

    def normal_id(self, model: str) -> str:
        return model

    def path(self, capability: Capability) -> str | None:
        return PATHS[capability] if capability in self.serves else None

    def load(
        self,
        model: str,  # noqa: ARG002
        keep: float | None,  # noqa: ARG002
        does: frozenset[Capability] | None = None,  # noqa: ARG002
    ) -> Ask | None:
        return None

    def unload(self, model: str, instance: str | None) -> Ask | None:  # noqa: ARG002
        return None

    def tells_of_load(self, chunk: Mapping[str, Any]) -> bool:  # noqa: ARG002
        return False

    def refusal(self, reply: Reply) -> str:
        if reply.status < 400:
            return ""
        return error_text(reply.body) or f"it answered {reply.status}"

    def classify(self, status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
        return faults.classify(status, headers, body)


def post(path: str, form: Mapping[str, Any]) -> Ask:
    """An ask with a JSON body."""
    return Ask(path, "POST", json.dumps(form).encode())


def embeds_only(does: frozenset[Capability] | None) -> bool:
    """Whether a model is known to be for embeddings and not for text."""
    return does is not None and Capability.EMBED in does and not does & TEXT
