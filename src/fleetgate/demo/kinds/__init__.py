"""Simulated engines by kind, and the table of them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetgate.demo.kinds.llamacpp import LlamaCpp, Router
from fleetgate.demo.kinds.localai import LocalAI
from fleetgate.demo.kinds.messages import Messages
from fleetgate.demo.kinds.ollama import Ollama
from fleetgate.demo.kinds.others import Lemonade, LlamaSwap, LmStudio, TabbyAPI
from fleetgate.demo.kinds.provider import Provider
from fleetgate.demo.kinds.vllm import SGLang, Tgi, Vllm
from fleetgate.demo.native import Native

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.demo.engine import Engine, Spec

KINDS: Final[Mapping[str, type[Engine]]] = MappingProxyType(
    {
        "openai": Native,
        "ollama": Ollama,
        "llamacpp": LlamaCpp,
        "vllm": Vllm,
        "sglang": SGLang,
        "tgi": Tgi,
        "lmstudio": LmStudio,
        "localai": LocalAI,
        "tabbyapi": TabbyAPI,
        "llamaswap": LlamaSwap,
        "llama-swap": LlamaSwap,
        "lemonade": Lemonade,
    }
)
"""by the name that is written in `kind:`"""


def make(spec: Spec) -> Engine:
    """An engine. llama.cpp with more than one model is its router; a kind without a row speaks OpenAI."""
    if spec.provider:
        return Messages(spec) if spec.kind == "anthropic" else Provider(spec)
    if spec.kind == "llamacpp" and len(spec.models) > 1:
        return Router(spec)
    return KINDS.get(spec.kind, Native)(spec)
