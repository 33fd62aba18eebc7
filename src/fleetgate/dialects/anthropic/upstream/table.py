"""What becomes of a chat request that Anthropic's own models answer, and of their answer: data."""

from __future__ import annotations

import re
from typing import Final

from fleetgate.dialects.fates import Fate, Row

_C, _S, _N, _R = Fate.CARRIED, Fate.SILENT, Fate.NAMED, Fate.REFUSED

MEMBERS: Final = (
    Row("model", _C, "`model`"),
    Row("messages", _C, "`messages`; system and developer messages become `system`"),
    Row("max_completion_tokens", _C, "`max_tokens`"),
    Row(
        "max_tokens", _C, "`max_tokens`; the model's most where none is given, since the dialect requires it"
    ),
    Row("stop", _C, "`stop_sequences`; one of white space alone is left out and named"),
    Row("stream", _C, "`stream`"),
    Row("temperature", _C, "`temperature`; above 1 it is 1, and named"),
    Row("top_p", _C, "`top_p`"),
    Row("top_k", _C, "`top_k`"),
    Row("tools", _C, "`tools`; functions only"),
    Row("tool_choice", _C, "`tool_choice`; required is `any`"),
    Row("parallel_tool_calls", _C, "`disable_parallel_tool_use`, its opposite"),
    Row(
        "response_format", _C, "`output_config.format`; a JSON object without a schema is left out and named"
    ),
    Row("reasoning_effort", _C, "`output_config.effort` with adaptive thinking; none is thinking disabled"),
    Row("chat_template_kwargs.enable_thinking", _C, "thinking adaptive or disabled"),
    Row("thinking_budget_tokens", _C, "thinking enabled, with this budget"),
    Row("user", _C, "`metadata.user_id`"),
    Row("stream_options", _S, "usage always comes"),
    Row("continue_final_message", _S, "a last assistant message is always continued"),
    Row("add_generation_prompt", _S, "the same"),
    Row("n", _R, "there is one answer"),
    Row("audio", _R, "no speech comes out"),
    Row("functions", _R, "the old form of tools: use `tools`"),
    Row("function_call", _R, "the old form of `tool_choice`"),
    Row("web_search_options", _R, "no search is done"),
    Row("anything else", _N, "such as seed, penalties, logprobs: there is no such setting"),
)
"""of the request"""

MESSAGES: Final = (
    Row("a system message after the first turn", _C, "it moves to `system`, and is named"),
    Row("image_url", _C, "an image: base64 or its address"),
    Row("file (PDF as data)", _C, "a document"),
    Row("file (others)", _R, "only data can be passed on"),
    Row("input_audio", _R, "not understood there"),
    Row("tool", _C, "a `tool_result`; results in a row are one turn"),
    Row("tool_calls", _C, "`tool_use` with the same id; arguments must be a JSON object"),
    Row("reasoning_content", _N, "thinking without Anthropic's signature is not taken back"),
    Row("name", _N, "no place in a turn"),
    Row("refusal", _C, "text"),
)
"""of its messages"""

EFFORTS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
"""`reasoning_effort` → `output_config.effort`; none is thinking disabled"""

CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}

FINISHES: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""`stop_reason` → `finish_reason`; others are an ordinary stop"""

CUT: Final = ("max_tokens", "model_context_window_exceeded")
"""reasons that end an answer in the middle of whatever it was saying"""

STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""type of an error inside a stream → the status it would have had"""

_CEILINGS: Final = (
    (re.compile(r"claude-(?:instant|2|3-(?:opus|sonnet|haiku))"), 4_096),
    (re.compile(r"claude-3-5-"), 8_192),
    (re.compile(r"claude-opus-4(?:-[01])?(?:-\d{8}|$)"), 32_000),
    (re.compile(r"claude-(?:3-7-|sonnet-4(?:-[05])?(?:-\d{8}|$)|(?:opus|haiku)-4-5)"), 64_000),
    (re.compile(r"claude-(?:opus|sonnet)-(?:4-[6-9]|[5-9])"), 128_000),
    (re.compile(r"claude-"), 64_000),
)
_OTHERS_CEILING: Final = 8_192


def most_tokens(model: str) -> int:
    """Tokens of the longest answer of a model, by its id, as the vendor's list has it. Of a name that is not
    known it is a number that every model of today allows."""
    return next((most for pattern, most in _CEILINGS if pattern.search(model)), _OTHERS_CEILING)
