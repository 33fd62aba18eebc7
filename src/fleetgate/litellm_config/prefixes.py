"""What may stand before the slash of `model`, and what LiteLLM takes it for. Data alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetgate.config import placeholders
from fleetgate.litellm_config.keys import words

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_KEY: Final = placeholders.NO_KEY | words(
    "fake-key fake-api-key sk-no-key sk-no-key-required no-key-required sk-dummy sk-none not-used lm-studio",
    "vllm na n/a",
)
"""What stands in a file because some client library wants a text."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What stands before the slash of `model`."""

    engine: str = "openai"
    """the kind of an engine at an address of our own"""
    provider: str = ""
    """the row of our table of providers"""
    address: str = ""
    """where LiteLLM looks when no address is written"""
    bases: tuple[str, ...] = ()
    """variables that hold an address"""


PREFIXES: Final[Mapping[str, Prefix]] = MappingProxyType(
    {
        "ollama": Prefix("ollama", address="http://localhost:11434", bases=("OLLAMA_API_BASE",)),
        "ollama_chat": Prefix("ollama", address="http://localhost:11434", bases=("OLLAMA_API_BASE",)),
        "hosted_vllm": Prefix("vllm", bases=("HOSTED_VLLM_API_BASE",)),
        "vllm": Prefix("vllm"),
        "openai": Prefix(provider="openai", bases=("OPENAI_BASE_URL", "OPENAI_API_BASE")),
        "text-completion-openai": Prefix(provider="openai", bases=("OPENAI_BASE_URL", "OPENAI_API_BASE")),
        "openai_like": Prefix(),
        "custom_openai": Prefix(),
        "litellm_proxy": Prefix(bases=("LITELLM_PROXY_API_BASE",)),
        "lm_studio": Prefix(bases=("LM_STUDIO_API_BASE",)),
        "llamafile": Prefix(address="http://127.0.0.1:8080/v1", bases=("LLAMAFILE_API_BASE",)),
        "xinference": Prefix(address="http://127.0.0.1:9997/v1", bases=("XINFERENCE_API_BASE",)),
        "docker_model_runner": Prefix(),
        "infinity": Prefix(),
        "lemonade": Prefix(),
        "oobabooga": Prefix(),
        "anthropic": Prefix(provider="anthropic", bases=("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL")),
        "gemini": Prefix(provider="gemini"),
        "mistral": Prefix(provider="mistral", bases=("MISTRAL_API_BASE",)),
        "groq": Prefix(provider="groq", bases=("GROQ_API_BASE",)),
        "perplexity": Prefix(provider="perplexity"),
        "deepseek": Prefix(provider="deepseek"),
        "xai": Prefix(provider="xai"),
        "openrouter": Prefix(provider="openrouter"),
        "together_ai": Prefix(provider="together"),
        "fireworks_ai": Prefix(provider="fireworks"),
        "cohere": Prefix(provider="cohere", bases=("COHERE_API_BASE",)),
        "cohere_chat": Prefix(provider="cohere", bases=("COHERE_API_BASE",)),
        "moonshot": Prefix(provider="moonshot", bases=("MOONSHOT_API_BASE",)),
        "minimax": Prefix(provider="minimax", bases=("MINIMAX_API_BASE",)),
        "azure": Prefix(provider="azure", bases=("AZURE_API_BASE",)),
        "azure_text": Prefix(provider="azure", bases=("AZURE_API_BASE",)),
        "azure_ai": Prefix(provider="azure", bases=("AZURE_AI_API_BASE",)),
        "bedrock": Prefix(provider="bedrock"),
        "bedrock_converse": Prefix(provider="bedrock"),
        "bedrock_mantle": Prefix(provider="bedrock"),
    }
)
OTHERS: Final = words(
    "ai21 aiml anyscale baseten cerebras clarifai codestral dashscope databricks datarobot",
    "deepinfra empower featherless_ai friendliai github github_copilot hyperbolic jina_ai",
    "lambda_ai maritalk meta_llama nebius novita nscale nvidia_nim ovhcloud",
    "predibase sambanova snowflake topaz v0 volcengine voyage zai",
)
"""Providers with OpenAI's interface whose address is not in our table: they need `api_base`."""
SHAPED_OTHERWISE: Final = words(
    "vertex_ai vertex_ai_beta sagemaker",
    "sagemaker_chat watsonx watsonx_text huggingface replicate palm triton petals nlp_cloud",
    "aleph_alpha cloudflare text-completion-codestral oci",
)
"""Providers that speak no dialect that is spoken here."""
GUESSED: Final = (
    (re.compile(r"(ft:|chat)?gpt-|o[1-9](-|$)|text-embedding-|dall-e|whisper-|tts-|davinci-"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"command-"), "cohere"),
)
"""Models that LiteLLM knows without a prefix."""
