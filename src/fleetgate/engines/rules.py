"""What engines and providers do not take of a request, or take under another name: one table, pure data.

A rule stands here because the vendor's documentation or its error answers say so; nothing of the providers
was tried from here. Who has no row gets everything as it was written. `terms.py` applies the rules, and
`docs/providers.md` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

IN_MESSAGES: Final = "messages[]."
"""begins the names of members of every message"""


class Deed(StrEnum):
    """What is done with a member."""

    DROP = "left out"
    RENAME = "renamed"
    CLAMP = "clamped"
    MAP = "changed"
    REFUSE = "refused"
    """the answer would lack what was asked for. Where its value asks for nothing, it is left out"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One member of the body, or of every message (`messages[].name`)."""

    member: str
    deed: Deed
    why: str
    to: str = ""
    """its other name"""
    values: tuple[bytes, ...] = ()
    """only where it has one of these values, as JSON; empty: any"""
    models: str = ""
    """only models whose id this pattern finds; empty: all"""
    translated: bool = False
    """only in requests that the gateway translated from another dialect: what callers write passes"""
    most: float | None = None
    """what a number is lowered to"""
    into: tuple[tuple[bytes, bytes], ...] = ()
    """value -> the one that is sent instead, as JSON"""
    written: bool = False
    """it stands in the file: also for completions and embeddings"""
    silent: bool = False
    """nothing is lost by it, so nobody is told"""


@dataclass(frozen=True, slots=True)
class Written:
    """What the file says about one engine or provider: before all others about the same members."""

    rules: tuple[Rule, ...] = ()
    kept: tuple[Rule, ...] = ()
    """members that pass as they are; only `member` and `models` count"""


@dataclass(frozen=True, slots=True)
class Book:
    """All about one engine kind or provider."""

    rules: tuple[Rule, ...] = ()
    allowed: frozenset[str] | None = field(default=None)
    """all members that it knows: every other one is refused there, so it is left out; None: it takes any"""


_D, _N, _R = Deed.DROP, Deed.RENAME, Deed.REFUSE
_STRICT: Final = "it refuses members that it does not know"
_MAYBE: Final = "it is not known to take it"
_TASTE: Final = ("top_k", "min_p", "repeat_penalty", "repetition_penalty")
_THINKING: Final = ("chat_template_kwargs", "thinking_budget_tokens")
_ENGINES_ONLY: Final = (*_TASTE, *_THINKING)
_NONE: Final = (b'"none"',)


def _drop(*members: str, why: str = _STRICT, translated: bool = False) -> tuple[Rule, ...]:
    return tuple(Rule(member, _D, why, translated=translated) for member in members)


def _refuse(*members: str, why: str) -> tuple[Rule, ...]:
    return tuple(Rule(member, _R, why) for member in members)


_BEGUN: Final = (
    Rule("continue_final_message", _R, "it does not continue an answer that was begun"),
    Rule("add_generation_prompt", _D, "it goes with `continue_final_message`", silent=True),
)
_CONTINUES: Final = (
    Rule("continue_final_message", _D, "a last assistant message is continued anyway", silent=True),
    Rule("add_generation_prompt", _D, "it goes with `continue_final_message`", silent=True),
)
_THOUGHTS: Final = Rule(
    "messages[].reasoning_content", _D, "thoughts of earlier answers are not taken back", silent=True
)
_NAMES: Final = Rule("messages[].name", _D, "it refuses names in messages")
_OLD_BOUND: Final = Rule("max_completion_tokens", _N, "it knows the older name only", to="max_tokens")
_NO_EFFORT: Final = Rule(
    "reasoning_effort", _D, "its models cannot all be told not to think", values=_NONE, translated=True
)
_SWITCHED: Final = Rule(
    "reasoning_effort",
    _D,
    "older versions refuse `none`; `chat_template_kwargs` says the same",
    values=_NONE,
    translated=True,
    silent=True,
)
_NEW_BOUND: Final = Rule(
    "max_tokens",
    _N,
    "models that think refuse the older name, and all know the newer",
    to="max_completion_tokens",
)
_UP_TO_ONE: Final = Rule("temperature", Deed.CLAMP, "it takes 0 to 1", most=1.0)
_ONE: Final = "there is one answer"
_PENALTY: Final = Rule("repeat_penalty", _N, "its name there", to="repetition_penalty")
_MAYBE_NOT: Final = _drop(*_ENGINES_ONLY, why=_MAYBE, translated=True)
_SETTLED: Final = r"claude-[a-z]+-(?:4-[7-9]|[5-9])(?!\d)"
"""models of Anthropic that refuse these settings, in every version of its API"""
_FIXED: Final = r"^(?:o\d|gpt-5(?![.\d]))"
"""models of OpenAI that sample in their own way alone"""
_UNTHINKING: Final = r"^(?!o\d|gpt-[5-9]|gpt-oss)"
"""models of OpenAI that do not think"""
_ALWAYS_THINKING: Final = r"^(?:o\d|gpt-5(?!\.\d)|gpt-oss)"
"""models of OpenAI that cannot be told not to"""

_GEMINI: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "stop", "n"}
    | {"max_completion_tokens", "tools", "tool_choice", "parallel_tool_calls", "response_format"}
    | {"reasoning_effort", "modalities", "extra_body"}
)
_MISTRAL: Final = frozenset(
    {"model", "messages", "stream", "temperature", "top_p", "max_tokens", "stop", "n", "random_seed"}
    | {"tools", "tool_choice", "parallel_tool_calls", "response_format", "presence_penalty", "prediction"}
    | {"frequency_penalty", "safe_prompt", "prompt_mode"}
)
_NO_GAPS: Final = "it fills no gap in a text"
_LACKS: Final = "answers there have no such part"

PROVIDERS: Final[Mapping[str, Book]] = MappingProxyType(
    {
        "openai": Book(
            (
                _NEW_BOUND,
                *_drop(*_ENGINES_ONLY),
                *_BEGUN,
                _THOUGHTS,
                Rule("reasoning_effort", _D, "this model does not think", models=_UNTHINKING),
                Rule("reasoning_effort", _D, _NO_EFFORT.why, values=_NONE, models=_ALWAYS_THINKING),
                *(
                    Rule(member, _D, "this model takes its default only", models=_FIXED)
                    for member in ("temperature", "top_p", "presence_penalty", "frequency_penalty")
                ),
            )
        ),
        "anthropic": Book(
            tuple(
                Rule(member, _D, "this model samples and thinks in its own way alone", models=_SETTLED)
                for member in ("temperature", "top_p", "top_k", "thinking_budget_tokens")
            )
        ),
        "gemini": Book(
            (
                *_refuse("logprobs", "top_logprobs", "functions", "function_call", why=_LACKS),
                *_BEGUN,
                _THOUGHTS,
                Rule("reasoning_effort", _D, _NO_EFFORT.why, values=_NONE, models=r"pro|gemini-3"),
            ),
            _GEMINI,
        ),
        "mistral": Book(
            (
                _OLD_BOUND,
                Rule("seed", _N, "its name there", to="random_seed"),
                Rule("stream_options", _D, "usage comes anyway", silent=True),
                *_refuse("logprobs", "top_logprobs", "functions", "function_call", why=_LACKS),
                *_BEGUN,
                _THOUGHTS,
                _NAMES,
            ),
            _MISTRAL,
        ),
        "groq": Book(
            (
                *_refuse("logprobs", "top_logprobs", why=_LACKS),
                Rule("n", _R, _ONE),
                *_drop("logit_bias", *_ENGINES_ONLY),
                *_CONTINUES,
                _THOUGHTS,
                _NAMES,
                Rule("reasoning_effort", _D, _NO_EFFORT.why, values=_NONE, models=r"^(?!.*qwen)"),
            )
        ),
        "perplexity": Book((_OLD_BOUND, *_MAYBE_NOT, *_BEGUN, _THOUGHTS, _NO_EFFORT)),
        "deepseek": Book((_OLD_BOUND, *_MAYBE_NOT, *_BEGUN, _NO_EFFORT)),
        "xai": Book((*_MAYBE_NOT, *_BEGUN, _THOUGHTS, _NO_EFFORT)),
        "openrouter": Book((_PENALTY, *_drop(*_THINKING, why=_MAYBE, translated=True), *_CONTINUES)),
        "together": Book(
            (
                _OLD_BOUND,
                _PENALTY,
                *_drop("thinking_budget_tokens", why=_MAYBE, translated=True),
                *_BEGUN,
                _NO_EFFORT,
            )
        ),
        "fireworks": Book((_PENALTY, *_drop(*_THINKING, why=_MAYBE, translated=True), *_BEGUN)),
        "cohere": Book((_OLD_BOUND, *_MAYBE_NOT, *_BEGUN, _THOUGHTS, _NO_EFFORT)),
        "moonshot": Book((_UP_TO_ONE, *_MAYBE_NOT, *_BEGUN, _NO_EFFORT)),
        "minimax": Book((_UP_TO_ONE, Rule("n", _R, _ONE), *_MAYBE_NOT, *_BEGUN, _NO_EFFORT)),
        "azure": Book(
            (
                replace(_NEW_BOUND, models=r"(?i)gpt|^o\d"),
                *_drop(*_ENGINES_ONLY),
                *_BEGUN,
                _THOUGHTS,
                _NO_EFFORT,
            )
        ),
        "bedrock": Book((*_MAYBE_NOT, *_BEGUN, _THOUGHTS, _NO_EFFORT)),
    }
)
"""by the name of the provider; what has no place in the dialect of Anthropic is in `dialects`"""

_TEMPLATE: Final = Rule("chat_template", _D, "a template is a program: engines run their own only")
ANY_ENGINE: Final = (
    _TEMPLATE,
    Rule("chat_template_kwargs", Deed.CLAMP, "plain values only, few and short"),
    Rule("n", _R, "more than 8 answers at once"),
    Rule("max_tokens", Deed.CLAMP, "no more than fits into the model"),
    Rule("max_completion_tokens", Deed.CLAMP, "no more than fits into the model"),
    Rule("max_output_tokens", Deed.CLAMP, "no more than fits into the model"),
    Rule(
        "grammar, json_schema, response_format, format, text, output_config, output_format, "
        "structured_outputs, guided_…, regex, ebnf",
        _R,
        "more than 64 KiB",
    ),
    Rule("best_of", _R, "more than 8 answers at once"),
    Rule("top_logprobs, n_probs, prompt_logprobs", _R, "more than 100"),
    Rule("stop, stop_sequences", _R, "more than 64 texts, or one of more than 1,000 characters"),
    Rule("messages", _R, "more than 10,000, or more than 100 pictures and other files in them"),
    Rule("input, prompt", _R, "more than 10,000 texts"),
    Rule("tools, functions", _R, "more than 1,000"),
    Rule(
        "tools, functions, response_format, json_schema, format, text, output_config, output_format, "
        "structured_outputs, guided_json",
        _R,
        "a schema of more than 64 levels, or one that asks for more than 1,000,000 of something",
    ),
)
"""what holds for every engine of one's own; `bounds` and `terms` do it"""

ENGINES: Final[Mapping[str, Book]] = MappingProxyType(
    {
        "ollama": Book((_TEMPLATE, _OLD_BOUND)),
        "vllm": Book((_TEMPLATE, _PENALTY, _SWITCHED, Rule("suffix", _R, _NO_GAPS))),
        "sglang": Book(
            (
                _TEMPLATE,
                _PENALTY,
                _SWITCHED,
                Rule("suffix", _R, "it ignores it, but where it was started with a completion template"),
            )
        ),
        "tgi": Book((_TEMPLATE, Rule("suffix", _R, _NO_GAPS))),
    }
)
"""by the kind of engine; all others have what `ANY_ENGINE` says"""
ANOTHER_ENGINE: Final = Book((_TEMPLATE,))
