"""What becomes of every member of a Responses request: carried over, moved, left out or refused.

The sets that the translation reads stand here too, so that table and behaviour cannot part. A name such as
`tools[].strict` means that member of every entry.
"""

from __future__ import annotations

from typing import Final

from fleetgate.dialects.fates import Fate, Row

AS_THEY_ARE: Final = (
    *("model", "stream", "temperature", "top_p", "user"),
    *("safety_identifier", "prompt_cache_key", "service_tier"),
    # no part of this API, but clients that speak chat completions elsewhere add them, and they are plain
    *("frequency_penalty", "presence_penalty", "logit_bias", "seed", "stop"),
    *("top_k", "min_p", "repetition_penalty", "chat_template_kwargs"),
)
"""top-level members with the same name and meaning on both sides"""

LENGTHS: Final = ("max_output_tokens", "max_completion_tokens", "max_tokens")
"""bounds of the answer, the first one that is given counts"""

OFFERED_TOOLS: Final = frozenset(
    {
        *("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"),
        *("image_generation", "tool_search"),
    }
)
"""built-in tools that a model may as well not use: left out beside tools of the caller's own"""

SPENT_ITEMS: Final = frozenset({"reasoning", "web_search_call", "tool_search_call", "mcp_list_tools"})
"""items of earlier answers without which the conversation reads the same"""

QUIET: Final = frozenset(
    {
        *("id", "type", "status", "phase", "role", "object", "created_by"),
        *("annotations", "logprobs", "caller", "async"),
    }
)
"""members of items and parts that only describe the answer they came from"""

NOT_STORED: Final[dict[str, str]] = {
    "previous_response_id": "the gateway stores no responses",
    "conversation": "the gateway stores no conversations",
    "prompt": "the gateway stores no prompt templates",
}
"""they name something that would have to be stored here"""

_C, _M, _L, _R = Fate.CARRIED, Fate.MOVED, Fate.NAMED, Fate.REFUSED
TABLE: Final = (
    *(Row(name, _C, "as it is") for name in AS_THEY_ARE),
    Row("instructions", _M, "the first system message, with the developer messages right after it"),
    Row("input", _M, "messages, in the same order"),
    Row("input[] of the user in a row", _M, "one message, as templates want turns to change"),
    Row("input[].role: developer", _M, "`system`: most models know no other word for it"),
    Row(
        "input[].role: system, later",
        _M,
        "words of the user in `<system-reminder>`: many templates take a system at the beginning only",
    ),
    Row("input[].content[].input_text", _M, "a text"),
    Row("input[].content[].input_image", _M, "`image_url`, with its `detail`"),
    Row("input[].content[].input_file", _M, "`file`, where its data is in the request"),
    Row("input[].content[].input_audio", _C, "as it is"),
    Row("input[].content[].refusal", _M, "text of the assistant"),
    Row("input[].function_call", _M, "`tool_calls` of the assistant's message, in order, ids kept"),
    Row("input[].custom_tool_call", _M, "the same, the input as the argument `input`"),
    Row("input[].function_call_output", _M, "a message of role `tool`"),
    Row("input[].custom_tool_call_output", _M, "a message of role `tool`"),
    Row("input[].output[].input_image", _M, "a user message after the tool's, which may hold only text"),
    Row("input[].additional_tools", _M, "`tools`"),
    Row("input[].tool_search_output", _M, "`tools`: what was found may be called"),
    Row("input[].reasoning", _M, "`reasoning_content` of the answer, where it is told and not encrypted"),
    *(
        Row(f"input[].{name}", _L, "the conversation reads the same without it")
        for name in sorted(SPENT_ITEMS - {"reasoning"})
    ),
    Row("input[].reasoning.encrypted_content", _L, "only who wrote it can read it; so its summary goes, too"),
    Row("input[].item_reference", _R, "the gateway stores no items"),
    Row("input[] of any other type", _R, "it belongs to a tool or a store at OpenAI"),
    Row("input[].content[].file_id, file_url", _R, "the gateway stores and fetches no files"),
    Row("tools[].function", _M, "`tools`, named in the way of that form"),
    Row("tools[].custom", _M, "a function with one text, `input`; its calls are turned back"),
    Row("tools[].format: grammar", _L, "told to the model in the description of `input`, not enforced"),
    Row("tools[].namespace", _M, "its tools are named `namespace__tool`; their calls are turned back"),
    Row("tools[].namespace.description", _L, "it has no place"),
    *(
        Row(f"tools[].{name}", _L, "beside tools of your own, while `tool_choice` is `auto`; else refused")
        for name in sorted(OFFERED_TOOLS)
    ),
    Row("tools[] of any other type", _R, "it runs at OpenAI; the gateway runs no tools"),
    Row("tool_choice", _C, "auto, none, required and one tool by name"),
    Row("tool_choice.allowed_tools", _M, "only these are among `tools`, and its mode is `tool_choice`"),
    Row("parallel_tool_calls", _C, "where there are tools"),
    Row("text.format", _M, "`response_format`"),
    Row("text.verbosity", _L, "few models know it"),
    Row("reasoning.effort", _M, "`reasoning_effort`"),
    Row("reasoning.summary", _L, "nothing is summed up: the thoughts themselves stand in its place"),
    Row("max_output_tokens", _M, "`max_tokens`"),
    Row("top_logprobs", _M, "`logprobs` and `top_logprobs`"),
    Row("include", _L, "all but `message.output_text.logprobs`, which is carried over"),
    Row("truncation: auto", _L, "a conversation that is too long is refused, not cut"),
    Row("store: true", _L, "nothing is stored, and the answer says `store: false`"),
    Row("metadata", _L, "it comes back in the answer"),
    Row("max_tool_calls", _L, "it bounds built-in tools only"),
    *(Row(name, _R, why) for name, why in NOT_STORED.items()),
    Row("background: true", _R, "an answer goes to the caller who waits for it"),
    Row("moderation", _R, "nothing would be checked"),
    Row("generate: false", _R, "every request is answered"),
    Row("any other member", _L, "it is not known"),
)
