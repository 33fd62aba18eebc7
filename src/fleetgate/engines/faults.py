"""Which class of the failure table an error answer to live traffic belongs to.

Status alone does not say: 503 has four meanings, 429 three, 400 six. Texts are matched only where a
status leaves the question open. Signals of one engine kind stand in its adapter and are asked first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fleetgate.engines import hints
from fleetgate.engines.reading import error_code, error_text, is_loading
from fleetgate.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONTEXT_CODES: Final = frozenset(
    {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
)
_CONTEXT: Final = re.compile(
    r"maximum (?:context|prompt) length|context (?:length|window|size) (?:exceeded|of only)"
    r"|exceeds? (?:the |its |model's )?(?:available |maximum |model's )*(?:allowed )?(?:context|input length)"
    r"|longer than the model's context|(?:prompt|input|request) is too long|too many (?:input )?tokens"
    r"|token count \(?\d+\)? exceeds|reduce (?:the length of|your message|your prompt)"
    r"|is too large to process. increase the physical batch size|max_new_tokens`? must be <="
    r"|too large for model with \d+ maximum context|exceeded model token limit"
    r"|input (?:length|tokens?) (?:exceeds?|and `?max_tokens)|max_tokens` exceed|maximum context window",
    re.IGNORECASE,
)
_CONTENT_CODES: Final = frozenset(
    {"content_policy_violation", "content_filter", "responsibleaipolicyviolation", "prohibited_content"}
    | {"moderation_blocked", "safety", "content_policy_violation_error", "new_sensitive"}
)
_CONTENT: Final = re.compile(
    r"content(?: management| filtering| usage)? polic|content filter|safety system|violat\w+ our usage polic"
    r"|usage policies|requires moderation|flagged (?:as|for|by)|blocked by (?:our )?(?:safety|moderation)"
    r"|content exists risk|considered high risk|(?:input|output) new_sensitive|sensitive content"
    r"|violates? (?:our |the )?(?:usage|safety) guidelines",
    re.IGNORECASE,
)
_MODEL_CODES: Final = frozenset({"model_not_found", "model_decommissioned", "invalid_model", "unknown_model"})
_MODEL: Final = re.compile(
    r"model\b.{0,120}?(?:not found|does not exist|not exist|decommissioned|no longer (?:available|supported)"
    r"|is not (?:available|found|supported for))"
    r"|(?:unknown|invalid|no such|not a valid) model|not a valid model id|could not find model"
    r"|model identifier is invalid",
    re.IGNORECASE | re.DOTALL,
)
_UNFUNDED_CODES: Final = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "insufficient_balance", "billing_error"}
    | {"exceeded_current_quota_error"}
)
_UNFUNDED: Final = re.compile(
    r"insufficient (?:balance|credit|funds)|credit balance is too low|out of credits|payment required"
    r"|check your plan and billing|billing (?:hard )?limit|in arrears|add (?:more )?credits"
    r"|doesn't have any credits|used all available credits|spending limit|credit limit exceeded",
    re.IGNORECASE,
)
_QUOTA: Final = re.compile(
    r"per[ _-]?(?:day|month)\b|/ ?(?:day|month)\b|PerDay|\b(?:daily|monthly|weekly)\b|\((?:RPD|TPD)\)"
    r"|quota (?:has been )?exhausted",
    re.IGNORECASE,
)
_BUSY: Final = re.compile(
    r"maximum pending requests exceeded|no slot available|queue (?:is )?full|model is overloaded",
    re.IGNORECASE,
)
_QUEUE_CODES: Final = frozenset({"overloaded", "engine_overloaded_error"})
_KEY_CODES: Final = frozenset({"invalid_api_key", "api_key_invalid"})
_KEY: Final = re.compile(r"api key not valid|(?:incorrect|invalid) (?:api|subscription) key", re.IGNORECASE)
_NO_KEY: Final = re.compile(
    r"security token .{0,40}invalid|make sure your api key is valid|invalid api key format", re.IGNORECASE
)
"""said with a 403 where others say 401"""
_NO_ROUTE: Final = re.compile(
    r"^(?:404 page not found|not found|file not found|resource not found|cannot (?:get|post) /.*)$",
    re.IGNORECASE,
)


def classify(status: int, headers: Mapping[str, str], body: bytes) -> FailureClass:
    """What any OpenAI-shaped upstream means by an error answer."""
    said = error_text(body)
    codes = frozenset(error_code(body)) - {""}
    if (
        status == 508
    ):  # the request has come round to a gateway that it had passed: asking again goes round again
        return FailureClass.BAD_REQUEST
    return (
        _by_account(status, headers, body, said, codes)
        or _by_request(status, said, codes)
        or _by_upstream(status, body)
    )


def _by_account(  # noqa: PLR0911  (a decision list)
    status: int, headers: Mapping[str, str], body: bytes, said: str, codes: frozenset[str]
) -> FailureClass | None:
    """Keys, money, rates."""
    if status == 402 or codes & _UNFUNDED_CODES or (status < 500 and _UNFUNDED.search(said)):
        return FailureClass.KEY_UNFUNDED
    if status == 401 or (status == 400 and (codes & _KEY_CODES or _KEY.search(said))):
        return FailureClass.KEY_INVALID
    if status == 403:
        return FailureClass.KEY_INVALID if _NO_KEY.search(said) else _forbidden(said, codes)
    if status != 429:
        return None
    if codes & _QUEUE_CODES or _is_queue(body):
        return FailureClass.FULL
    until = hints.reset(headers, body=body)
    far_away = until is not None and hints.LONGEST < until <= hints.ABSURD
    if far_away or _QUOTA.search(body[:8_192].decode(errors="replace")):
        return FailureClass.QUOTA_EXHAUSTED
    return FailureClass.RATE_LIMITED


def _forbidden(said: str, codes: frozenset[str]) -> FailureClass:
    """Some say it of what was asked, not of who asks."""
    if codes & _CONTENT_CODES or _CONTENT.search(said):
        return FailureClass.REFUSED_CONTENT
    if codes & _CONTEXT_CODES or _CONTEXT.search(said):
        return FailureClass.CONTEXT_TOO_LONG
    return FailureClass.KEY_FORBIDDEN


def _is_queue(body: bytes) -> bool:
    """llama-swap's limit of requests per model: bare words, where a provider sends JSON."""
    return body.strip().lower() == b"too many requests"


def _by_request(status: int, said: str, codes: frozenset[str]) -> FailureClass | None:  # noqa: PLR0911  (a decision list)
    """What the request itself asked for. Local engines say some of it with a 500."""
    if status not in (400, 404, 405, 413, 422, 500, 501):
        return None
    if codes & _CONTEXT_CODES or _CONTEXT.search(said):
        return FailureClass.CONTEXT_TOO_LONG
    if status >= 500:
        # Not implemented is no fault that asking again or elsewhere on this engine would heal.
        return FailureClass.BAD_REQUEST if status == 501 else None
    if codes & _CONTENT_CODES or _CONTENT.search(said):
        return FailureClass.REFUSED_CONTENT
    if status == 404:
        # A path that is not there must not remove the model.
        return FailureClass.BAD_REQUEST if _NO_ROUTE.match(said) else FailureClass.MODEL_MISSING
    if status == 400 and (codes & _MODEL_CODES or _MODEL.search(said)):
        return FailureClass.MODEL_MISSING
    return FailureClass.BAD_REQUEST


def _by_upstream(status: int, body: bytes) -> FailureClass:
    if status == 503:
        if is_loading(body):
            return FailureClass.LOADING
        if _BUSY.search(error_text(body)):
            return FailureClass.FULL
    if status == 498:  # a tier of Groq's without a place of its own
        return FailureClass.FULL
    if status == 408 or status >= 500:
        return FailureClass.SERVER_ERROR
    # Redirects are not followed; a 3xx instead of an answer cannot be one.
    return FailureClass.BAD_REQUEST if status >= 400 else FailureClass.GARBAGE
