"""The table of engine kinds by the name that is written in `kind:`."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetgate.engines.llamacpp import LlamaCpp
from fleetgate.engines.ollama import Ollama
from fleetgate.engines.openai import OpenAI
from fleetgate.engines.vllm import Vllm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.engines.port import EngineKind

KINDS: Final[Mapping[str, EngineKind]] = MappingProxyType(
    {kind.name: kind for kind in (OpenAI(), Ollama(), LlamaCpp(), Vllm())}
)
