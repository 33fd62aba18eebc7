"""What becomes of every member of a request. The documentation lists it, the tests try each row.

Whatever is not here is left out and named. A member is only ever refused where leaving it out would change
what was asked for.
"""

from __future__ import annotations

from typing import Final

from fleetgate.dialects.fates import Fate, Row

OPTIONS: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "num_predict": "max_tokens",
    "repeat_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
"""members of `options` that have a place in the form between, by their name there"""

LOADING: Final = (
    *("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "use_mmap", "use_mlock"),
    *("low_vram", "f16_kv", "logits_all", "vocab_only", "embedding_only"),
)
"""members of `options` that say how a model is loaded: here that is set per engine"""
SAMPLING: Final = (
    *("typical_p", "tfs_z", "repeat_last_n", "mirostat", "mirostat_tau", "mirostat_eta"),
    *("penalize_newline", "num_keep"),
)
"""members of `options` that only some engines know"""

_TALKS: Final = ("chat", "generate")
_ALL: Final = ("chat", "generate", "embed", "embeddings")
_C, _L, _R = Fate.CARRIED, Fate.NAMED, Fate.REFUSED


def _row(member: str, where: tuple[str, ...], fate: Fate, how: str) -> Row:
    return Row(member, fate, how, where)


FATES: Final = (
    _row("model", _ALL, _C, "`x:latest` is `x`; answers repeat what was asked"),
    _row("stream", _TALKS, _C, "true where it is not written"),
    _row("messages", ("chat",), _C, "`content`, `images`, `tool_calls`, `tool_name`, `tool_call_id`"),
    _row("messages.thinking", ("chat",), _C, "as `reasoning_content` of the assistant"),
    _row("messages.images", ("chat",), _R, "except of the user: no other message can hold pictures"),
    _row("tools", ("chat",), _C, "as they are"),
    _row(
        "prompt", ("generate",), _C, "with `system` and `images` as a chat; with `raw` or `suffix` as it is"
    ),
    _row("system", ("generate",), _C, "the first message; left out where `suffix` is"),
    _row("images", ("generate",), _C, "refused with `raw` and `suffix`: a completion has no pictures"),
    _row("suffix", ("generate",), _C, "a completion; left out with `raw`, whose prompt has it already"),
    _row("raw", ("generate",), _C, "a completion of the prompt as it is"),
    _row(
        "template", ("generate",), _R, "prompts are put together by the engine: send it ready made with `raw`"
    ),
    _row("context", ("generate",), _R, "tokens of one model mean nothing to another: use `/api/chat`"),
    _row("format", _TALKS, _C, "as `response_format`; refused with `raw` and `suffix`"),
    _row("think", _TALKS, _C, "as `chat_template_kwargs.enable_thinking` and `reasoning_effort`"),
    _row('think: "max"', _TALKS, _C, "as `high`, and named; `xhigh` likewise"),
    _row("logprobs", _TALKS, _C, "left out with `raw` and `suffix`"),
    _row("top_logprobs", _TALKS, _C, "left out with `raw` and `suffix`"),
    _row("options", _TALKS, _C, "those that follow; `num_predict` and `seed` below zero say nothing"),
    *(
        _row(f"options.{name}", _TALKS, _C, "" if name == other else f"as `{other}`")
        for name, other in OPTIONS.items()
    ),
    *(_row(f"options.{name}", _ALL, _L, "how a model is loaded is set per engine") for name in LOADING),
    *(_row(f"options.{name}", _TALKS, _L, "only some engines know it") for name in SAMPLING),
    _row("input", ("embed",), _C, ""),
    _row("prompt", ("embeddings",), _C, "as `input`"),
    _row("dimensions", ("embed",), _C, ""),
    _row("truncate", _ALL, _L, "what is too long is cut or refused as the engine does it"),
    _row("shift", _TALKS, _L, "what is too long is cut or refused as the engine does it"),
    _row("keep_alive", _ALL, _L, "how long a model stays in memory is set per engine"),
    _row("width", ("generate",), _L, "pictures are made at `/v1/images/generations`"),
    _row("height", ("generate",), _L, "pictures are made at `/v1/images/generations`"),
    _row("steps", ("generate",), _L, "pictures are made at `/v1/images/generations`"),
)
