"""What becomes of everything an Anthropic request can hold: the one table of this dialect, as data.

A member is carried over, left out (it had no place, nothing of the meaning is lost but maybe some comfort,
and it is named to the caller) or refused (answering without it would be an answer to another question).
The documentation lists these rows.
"""

from __future__ import annotations

from typing import Final

from fleetgate.dialects.fates import Fate, Row

_C, _S, _N, _R = Fate.CARRIED, Fate.SILENT, Fate.NAMED, Fate.REFUSED

MEMBERS: Final = (
    Row("model", _C, "`model`"),
    Row("max_tokens", _C, "`max_tokens`; the dialect requires it, so a request without is refused"),
    Row("messages", _C, "`messages`, see the blocks; those of the user in a row are one, as templates want"),
    Row("system", _C, "the first message; several blocks are joined by line ends"),
    Row(
        "messages[].role: system",
        _C,
        "words of the user in `<system-reminder>`: many templates take a system at the beginning only",
    ),
    Row("stop_sequences", _C, "`stop`"),
    Row("stream", _C, "`stream`"),
    Row("temperature", _C, "`temperature`"),
    Row("top_p", _C, "`top_p`"),
    Row("top_k", _C, "`top_k`: llama.cpp and vLLM know it, Ollama ignores it here"),
    Row("tools", _C, "`tools`, see the tools"),
    Row("tool_choice", _C, "`tool_choice`: any is `required`; `disable_parallel_tool_use` is its opposite"),
    Row("thinking", _C, "see thinking"),
    Row("output_config.effort", _C, "`reasoning_effort`; xhigh and max are `high`, and named"),
    Row("output_config.format", _C, "`response_format`, strict"),
    Row("output_format", _C, "`response_format`, strict: the older place of the same"),
    Row("metadata", _S, "`user_id` is telemetry of the client, nobody's identity"),
    Row("cache_control", _N, "engines keep their caches by themselves, wherever the mark stands"),
    Row("betas", _N, "features of Anthropic's own servers"),
    Row("container", _N, "of use only to code execution, which is refused"),
    Row("context_management", _N, "nothing is cleared from the conversation"),
    Row("diagnostics", _N, "about Anthropic's own cache"),
    Row("service_tier", _N, "the plan decides who answers"),
    Row("speed", _N, "the plan decides who answers"),
    Row("inference_geo", _R, "where a machine stands is not known; `global` is no wish and passes"),
    Row("mcp_servers", _R, "the gateway calls no tools"),
    Row("thread", _R, "conversations are not kept: send all messages"),
    Row("anything else", _N, "unknown"),
)
"""of the body"""

BLOCKS: Final = (
    Row("text", _C, "text"),
    Row("image (base64, url)", _C, "`image_url`"),
    Row("image (file)", _R, "files of Anthropic's own store cannot be read"),
    Row("document (text, content)", _C, "text, after lines with its title and context"),
    Row("document (base64, url, file)", _R, "engines read no PDF: send its text"),
    Row("search_result", _C, "text, after lines with its title and source"),
    Row("tool_use", _C, "a call in `tool_calls`, same id; text of the turn stands before all calls"),
    Row("tool_result", _C, "a message of role `tool`, same order; an error's text begins with `Error:`"),
    Row("images of a tool_result", _C, "a user message after the results, since `tool` has text only"),
    Row("thinking", _C, "`reasoning_content` of the turn, without its signature"),
    Row("redacted_thinking", _N, "readable to Anthropic's models alone"),
    Row("tool_reference", _C, "the tool's name, as text"),
    Row("a last assistant message", _C, "`continue_final_message`; never with thinking enabled"),
    Row("x-anthropic-billing-header", _N, "a block of `system` that differs with every request"),
    Row("anything else", _R, "blocks of tools that run at Anthropic, or unknown"),
)
"""of messages"""

TOOLS: Final = (
    Row("custom", _C, "a function: name, description, `input_schema`, `strict`"),
    Row("defer_loading", _N, "every tool is sent in full"),
    Row("input_examples", _N, "no place in the form"),
    Row("eager_input_streaming", _N, "arguments always stream"),
    Row("allowed_callers", _N, "only the model calls; a tool that it may not call is refused"),
    Row(
        "web_search_…, web_fetch_…, code_execution_…, tool_search_…, mcp_toolset, advisor_…",
        _R,
        "run at Anthropic",
    ),
    Row("bash_…, text_editor_…, computer_…, memory_…, browser_…", _R, "only Claude knows what they take"),
    Row("any other type", _R, "unknown"),
)
"""of `tools`"""

THINKING: Final = (
    Row("disabled", _C, "`reasoning_effort: none` and `chat_template_kwargs.enable_thinking: false`"),
    Row("enabled", _C, "`chat_template_kwargs.enable_thinking: true`"),
    Row("budget_tokens", _C, "`thinking_budget_tokens`, which llama.cpp knows and others ignore"),
    Row("adaptive", _S, "the model decides, as it does where nothing is said"),
    Row("between_tools", _N, "engines know no such time"),
    Row("display: omitted", _C, "thinking is left out of the answer"),
)
"""of `thinking`"""

HINTS: Final = (
    *("top_k", "reasoning_effort", "chat_template_kwargs", "thinking_budget_tokens"),
    *("continue_final_message", "add_generation_prompt"),
)
"""Members that a translated request may have beyond OpenAI's plain form. Who does not know them may be
asked without the first four: the answer differs in taste, not in kind."""

RUN_AT_ANTHROPIC: Final = (
    "web_search_",
    "web_fetch_",
    "code_execution_",
    "tool_search_",
    "mcp_toolset",
    "advisor_",
)
KNOWN_TO_CLAUDE: Final = ("bash_", "text_editor_", "computer_", "memory_", "browser_")

EFFORTS: Final = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
"""`output_config.effort` → `reasoning_effort`. What is above `high` is understood by too few."""

CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
"""`tool_choice.type` → `tool_choice`; `tool` names one"""

STOPS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
    "model_length": "model_context_window_exceeded",
}
"""`finish_reason` → `stop_reason`. An ordinary stop is `tool_use` where tools were called, and
`stop_sequence` where the engine says which one it met (vLLM does). Others are an ordinary end."""

FAILED: Final = frozenset({"error", "abort", "insufficient_system_resource"})
"""finish reasons that are failures: such an answer is not whole"""

ERRORS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""status → type of error. Others of the caller are `invalid_request_error`, others of ours `api_error`."""
