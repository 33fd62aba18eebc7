"""Known providers, one row each: where the interface is, how the key is sent, what is offered there.

Everything is taken from the vendors' own documentation, as of November 2026, and was not tried from here; a
`url` in the file overrides the address of a row. A provider without a row is `kind: openai` with a `url`.
What a provider does not take of a request is in `engines.rules`, its headers about limits in
`engines.meters`, what is odd in its answers in `dialects.oddities`: all by the names of these rows, and none
of them has to know a provider.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from fleetgate.domain import Capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.config.schema import Provider

Auth = Literal["bearer", "x-api-key", "api-key"]
CHATS: Final = frozenset(
    {Capability.CHAT, Capability.VISION, Capability.TOOLS, Capability.REASONING, Capability.SCHEMA}
)
"""what is asked of a model in chats"""
_C = Capability


@dataclass(frozen=True, slots=True)
class Known:
    """One row."""

    url: str
    """base address up to and including its version part; empty: everybody has one of their own, see `form`"""
    key: str
    """the usual variable of the key"""
    speaks: Literal["openai", "anthropic"] = "openai"
    """the dialect of its interface"""
    auth: Auth = "bearer"
    """how the key is sent, in every dialect"""
    form: str = ""
    """how a `url` looks where there is none for everybody; what stands in braces is one's own"""
    dialects: Mapping[str, str] = field(default_factory=dict)
    """other dialects that it speaks (`responses`, `anthropic`), and the base address of each up to and
    including its version part. What stands in braces is taken from the `url`, as it does in `form`"""
    only: Mapping[str, str] = field(default_factory=dict)
    """dialect -> pattern of the models that have it; of those that are not here all models have it"""
    serves: frozenset[Capability] = CHATS
    """what can be asked of it"""
    paths: Mapping[Capability, str] = field(default_factory=dict)
    """where an operation lies elsewhere than at OpenAI: below the base address, or with two slashes in
    front at the host itself"""
    lists: bool = True
    """it has a list of models"""
    usage: str = "last piece, on request"
    """where the count of tokens stands in its streams, for people: it is found anywhere"""
    note: str = ""
    """what else people have to know, for the documentation"""


_OPENAI: Final = "https://api.openai.com/v1"
_XAI: Final = "https://api.x.ai/v1"
_GROQ: Final = "https://api.groq.com/openai/v1"
_OPENROUTER: Final = "https://openrouter.ai/api/v1"
_FIREWORKS: Final = "https://api.fireworks.ai/inference/v1"
_AZURE: Final = "https://{resource}.openai.azure.com/openai/v1"
_MANTLE: Final = "https://bedrock-mantle.{region}.api.aws"

PROVIDERS: Final[Mapping[str, Known]] = MappingProxyType(
    {
        "openai": Known(
            _OPENAI,
            "OPENAI_API_KEY",
            dialects={"responses": _OPENAI},
            serves=CHATS
            | {_C.COMPLETE, _C.EMBED, _C.IMAGE, _C.EDIT, _C.SPEAK, _C.TRANSCRIBE, _C.TRANSLATE, _C.MODERATE},
        ),
        "anthropic": Known(
            "https://api.anthropic.com/v1",
            "ANTHROPIC_API_KEY",
            "anthropic",
            auth="x-api-key",
            usage="first and last event",
        ),
        "gemini": Known(
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "GEMINI_API_KEY",
            serves=CHATS | {_C.EMBED, _C.IMAGE},
            usage="every piece",
            note="its compatible interface; members that it does not know are refused",
        ),
        "mistral": Known(
            "https://api.mistral.ai/v1",
            "MISTRAL_API_KEY",
            serves=CHATS | {_C.COMPLETE, _C.EMBED, _C.TRANSCRIBE, _C.MODERATE},
            paths={_C.COMPLETE: "/v1/fim/completions"},
            usage="last piece, always",
            note="completions, with `suffix` or without, are to be had of Codestral alone",
        ),
        "groq": Known(
            _GROQ,
            "GROQ_API_KEY",
            dialects={"responses": _GROQ},
            serves=CHATS | {_C.SPEAK, _C.TRANSCRIBE, _C.TRANSLATE},
            usage="last piece, in `x_groq`",
            note="transcriptions are not to be had as `srt` or `vtt`",
        ),
        "perplexity": Known(
            "https://api.perplexity.ai",
            "PERPLEXITY_API_KEY",
            lists=False,
            usage="every piece",
            note="answers have `citations` and `search_results`, which pass",
        ),
        "deepseek": Known(
            "https://api.deepseek.com",
            "DEEPSEEK_API_KEY",
            dialects={"anthropic": "https://api.deepseek.com/anthropic/v1"},
            serves=CHATS | {_C.COMPLETE},
            paths={_C.COMPLETE: "//beta/completions"},
            note="completions lie below `/beta`",
        ),
        "xai": Known(
            _XAI,
            "XAI_API_KEY",
            dialects={"responses": _XAI},
            serves=CHATS | {_C.IMAGE},
            note="thinking is not part of its count of the answer; the total tells",
        ),
        "openrouter": Known(
            _OPENROUTER,
            "OPENROUTER_API_KEY",
            dialects={"responses": _OPENROUTER, "anthropic": _OPENROUTER},
            serves=CHATS | {_C.COMPLETE, _C.EMBED},
            usage="last piece, always",
        ),
        "together": Known(
            "https://api.together.ai/v1",
            "TOGETHER_API_KEY",
            serves=CHATS
            | {_C.COMPLETE, _C.EMBED, _C.RERANK, _C.IMAGE, _C.SPEAK, _C.TRANSCRIBE, _C.TRANSLATE},
            usage="last piece, always",
        ),
        "fireworks": Known(
            _FIREWORKS,
            "FIREWORKS_API_KEY",
            dialects={"responses": _FIREWORKS, "anthropic": _FIREWORKS},
            serves=CHATS | {_C.COMPLETE, _C.EMBED, _C.RERANK},
            usage="last piece, always",
            note="models are `accounts/fireworks/models/…`: give them a `name`",
        ),
        "cohere": Known(
            "https://api.cohere.ai/compatibility/v1",
            "COHERE_API_KEY",
            serves=CHATS | {_C.EMBED, _C.RERANK},
            paths={_C.RERANK: "//v2/rerank"},
            note="rerank lies at `/v2/rerank`, beside its compatible interface",
        ),
        "moonshot": Known(
            "https://api.moonshot.ai/v1",
            "MOONSHOT_API_KEY",
            dialects={
                "responses": "https://api.moonshot.ai/v1",
                "anthropic": "https://api.moonshot.ai/anthropic/v1",
            },
            note="accounts of China have `url: https://api.moonshot.cn/v1`",
        ),
        "minimax": Known(
            "https://api.minimax.io/v1",
            "MINIMAX_API_KEY",
            dialects={
                "responses": "https://api.minimax.io/v1",
                "anthropic": "https://api.minimax.io/anthropic/v1",
            },
            note="older models write their thoughts as `<think>` into the text",
        ),
        "azure": Known(
            "",
            "AZURE_OPENAI_API_KEY",
            auth="api-key",
            form=_AZURE,
            dialects={
                "responses": _AZURE,
                "anthropic": "https://{resource}.services.ai.azure.com/anthropic/v1",
            },
            only={"anthropic": "claude"},
            serves=CHATS | {_C.COMPLETE, _C.EMBED, _C.IMAGE, _C.EDIT, _C.SPEAK, _C.TRANSCRIBE, _C.TRANSLATE},
            lists=False,
            note="`id` of a model is the name of the deployment there; no api-version",
        ),
        "bedrock": Known(
            "",
            "AWS_BEARER_TOKEN_BEDROCK",
            form="https://bedrock-runtime.{region}.amazonaws.com/openai/v1",
            dialects={"responses": f"{_MANTLE}/v1", "anthropic": f"{_MANTLE}/anthropic/v1"},
            only={"responses": r"^openai\.", "anthropic": r"anthropic\.claude"},
            lists=False,
            note="Bedrock API keys alone, no signed requests; what only Converse or InvokeModel have is out "
            f"of reach; `{_MANTLE}/v1` is the other address",
        ),
    }
)


def known(name: str, provider: Provider) -> Known | None:
    """The row of a provider: by its kind, else by its name in the file."""
    return PROVIDERS.get(provider.kind or name)


def row_name(name: str, provider: Provider) -> str:
    """The name of its row; empty where it has none, or may be anybody."""
    called = provider.kind or name
    return called if called in PROVIDERS and not (provider.kind == "openai" and provider.url) else ""


def base_url(name: str, provider: Provider) -> str | None:
    """Where its interface is; None without a `url` where no row has one."""
    if provider.url:
        return provider.url.rstrip("/")
    row = known(name, provider)
    return (row.url or None) if row else None


def dialects_at(name: str, provider: Provider) -> dict[str, str]:
    """The base address of every other dialect that it is known to speak.

    Behind a `url` of one's own only what lies at the same address is still known, and what its form tells.
    """
    row = known(name, provider)
    if row is None or (provider.kind == "openai" and provider.url):  # that may be anybody
        return {}
    if not provider.url:
        return dict(row.dialects)
    url = provider.url.rstrip("/")
    if not row.form:
        return {dialect: url for dialect, base in row.dialects.items() if base == row.url}
    own = own_parts(url)
    if own is None:
        return {}
    return {dialect: base.format_map(own) for dialect, base in row.dialects.items()}


_OWN: Final = (
    re.compile(
        r"https://(?P<resource>[\w-]+)\.(?:openai|cognitiveservices|services\.ai)\.azure\.com(?:/.*)?"
    ),
    re.compile(
        r"https://bedrock-(?:runtime|mantle)\.(?P<region>[\w-]+)\.(?:amazonaws\.com|api\.aws)(?:/.*)?"
    ),
)
"""addresses of which a part is one's own"""


def own_parts(url: str) -> dict[str, str] | None:
    """What stands for the words in braces at an address; None: it has another form."""
    return next((found.groupdict() for form in _OWN if (found := form.fullmatch(url))), None)
