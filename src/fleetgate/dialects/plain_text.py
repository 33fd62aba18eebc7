"""Whether a request asks for plain text and one answer: only such answers can be continued. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS_ONLY: Final = frozenset({"system", "developer", "user", "assistant"})
"""roles of a conversation without tools"""
_NEVER: Final = (
    *("tools", "functions", "function_call", "logprobs", "top_logprobs", "audio", "prediction"),
    *("grammar", "json_schema", "structured_outputs", "guided_json", "guided_regex", "guided_choice"),
    *("guided_grammar", "regex", "ebnf", "web_search_options", "echo", "suffix"),
    *("continue_final_message", "response_prefix", "prefix"),
)
"""members that make more than text of an answer, bind its form, or continue something already"""


def why_not(members: Mapping[str, Any], *, chat: bool) -> str:
    """Why the answer to a request cannot be continued, in words; empty: it can."""
    for name in _NEVER:
        if members.get(name):
            return f"`{name}`"
    if members.get("n") not in (None, 1) or members.get("best_of") not in (None, 1):
        return "several choices"
    form = members.get("response_format")
    if form is not None and (not isinstance(form, dict) or form.get("type") != "text"):
        return "`response_format`"
    if members.get("modalities") not in (None, ["text"]):
        return "`modalities`"
    return _conversation(members.get("messages")) if chat else _prompt(members.get("prompt"))


def _conversation(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        return "no messages"
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _WORDS_ONLY:
            return "a message of a tool"
        if message.get("tool_calls") or message.get("function_call"):
            return "a message with tool calls"
        if not _is_text(message.get("content")):
            return "content that is no text"
    return "the last message is the assistant's" if messages[-1]["role"] == "assistant" else ""


def _is_text(content: Any) -> bool:
    if content is None or isinstance(content, str):
        return True
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in content
    )


def _prompt(prompt: Any) -> str:
    if isinstance(prompt, str) or is_ids(prompt):
        return ""
    return "several prompts" if isinstance(prompt, list) else "no prompt"


def is_ids(value: Any) -> bool:
    """Whether it is a prompt in ids of tokens."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, int) and not isinstance(one, bool) for one in value)
    )
