"""Error answers and the class they mean.

Bodies of llama.cpp are recorded (`fixtures/llamacpp`, see test_llamacpp.py); all others here are built
from the providers' and engines' documentation and sources, not recorded.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetgate.engines.faults import classify
from fleetgate.errors import FailureClass as F


def error(message: str, kind: str = "", code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code}}


CASES: list[tuple[str, int, dict[str, str], Any, F]] = [
    ("a ring of gateways", 508, {}, error("this request has passed this gateway before"), F.BAD_REQUEST),
    # keys and money
    ("openai wrong key", 401, {}, error("Incorrect API key provided", code="invalid_api_key"), F.KEY_INVALID),
    ("gemini wrong key", 400, {}, [error("API key not valid. Please pass a valid API key.")], F.KEY_INVALID),
    ("payment required", 402, {}, error("Insufficient Balance"), F.KEY_UNFUNDED),
    (
        "openai without credit",
        429,
        {},
        error(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
        F.KEY_UNFUNDED,
    ),
    (
        "anthropic without credit",
        400,
        {},
        error("Your credit balance is too low to access the Anthropic API."),
        F.KEY_UNFUNDED,
    ),
    ("forbidden", 403, {}, error("Project does not have access to model"), F.KEY_FORBIDDEN),
    # rates and quotas
    ("short hint", 429, {"retry-after": "7"}, error("Rate limit reached"), F.RATE_LIMITED),
    ("no hint", 429, {}, error("Rate limit reached", "rate_limit_error"), F.RATE_LIMITED),
    (
        "tokens per minute",
        429,
        {"retry-after": "12"},
        error("on tokens per minute (TPM): Limit 6000"),
        F.RATE_LIMITED,
    ),
    ("long reset", 429, {"retry-after": "7200"}, error("Rate limit reached"), F.QUOTA_EXHAUSTED),
    ("absurd reset", 429, {"retry-after": "1000000000"}, error("Rate limit reached"), F.RATE_LIMITED),
    ("long reset in words", 429, {}, error("Please try again in 7m12s."), F.QUOTA_EXHAUSTED),
    (
        "groq daily",
        429,
        {"retry-after": "60"},
        error("on requests per day (RPD): Limit 1000"),
        F.QUOTA_EXHAUSTED,
    ),
    (
        "gemini daily",
        429,
        {},
        [
            error(
                "Quota exceeded for metric: GenerateRequestsPerDayPerProjectPerModel-FreeTier",
                "RESOURCE_EXHAUSTED",
            )
        ],
        F.QUOTA_EXHAUSTED,
    ),
    ("tgi overloaded", 429, {}, {"error": "Model is overloaded", "error_type": "overloaded"}, F.FULL),
    ("llama-swap's limit", 429, {}, b"Too many requests\n", F.FULL),
    # models
    (
        "openai 404",
        404,
        {},
        error("The model `x` does not exist or you do not have access to it.", code="model_not_found"),
        F.MODEL_MISSING,
    ),
    ("anthropic 404", 404, {}, error("model: claude-x", "not_found_error"), F.MODEL_MISSING),
    ("empty 404", 404, {}, b"", F.MODEL_MISSING),
    ("openrouter 400", 400, {}, error("foo/bar is not a valid model ID"), F.MODEL_MISSING),
    (
        "groq retired",
        400,
        {},
        error("The model `x` has been decommissioned", code="model_decommissioned"),
        F.MODEL_MISSING,
    ),
    ("mistral 400", 400, {}, {"message": "Invalid model: foo", "code": "1500"}, F.MODEL_MISSING),
    ("no such path, fastapi", 404, {}, {"detail": "Not Found"}, F.BAD_REQUEST),
    ("no such path, gin", 404, {}, b"404 page not found", F.BAD_REQUEST),
    # context
    (
        "openai",
        400,
        {},
        error(
            "This model's maximum context length is 8192 tokens. However, your messages "
            "resulted in 9000 tokens.",
            code="context_length_exceeded",
        ),
        F.CONTEXT_TOO_LONG,
    ),
    (
        "openai responses",
        400,
        {},
        error("Your input exceeds the context window of this model."),
        F.CONTEXT_TOO_LONG,
    ),
    ("anthropic", 400, {}, error("prompt is too long: 210000 tokens > 200000 maximum"), F.CONTEXT_TOO_LONG),
    (
        "vllm, old shape",
        400,
        {},
        {
            "object": "error",
            "code": 400,
            "type": "BadRequestError",
            "message": "This model's maximum context length is 4096 tokens. However, you requested 5000",
        },
        F.CONTEXT_TOO_LONG,
    ),
    (
        "sglang",
        400,
        {},
        error("The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
        F.CONTEXT_TOO_LONG,
    ),
    (
        "tgi",
        422,
        {},
        {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"},
        F.CONTEXT_TOO_LONG,
    ),
    (
        "lm studio",
        400,
        {},
        error("However, the model is loaded with context length of only 4096 tokens"),
        F.CONTEXT_TOO_LONG,
    ),
    (
        "gemini",
        400,
        {},
        [error("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")],
        F.CONTEXT_TOO_LONG,
    ),
    (
        "groq 413",
        413,
        {},
        error("Request too large: please reduce your message size and try again."),
        F.CONTEXT_TOO_LONG,
    ),
    (
        "mistral",
        400,
        {},
        {
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with "
            "32768 maximum context length"
        },
        F.CONTEXT_TOO_LONG,
    ),
    # content
    (
        "openai images",
        400,
        {},
        error("Your request was rejected as a result of our safety system.", code="content_policy_violation"),
        F.REFUSED_CONTENT,
    ),
    (
        "azure",
        400,
        {},
        error(
            "The response was filtered due to the prompt triggering Azure OpenAI's content "
            "management policy.",
            code="content_filter",
        ),
        F.REFUSED_CONTENT,
    ),
    ("anthropic content", 400, {}, error("Output blocked by content filtering policy"), F.REFUSED_CONTENT),
    (
        "openrouter moderation",
        403,
        {},
        error('x requires moderation on Y. Your input was flagged for "z".'),
        F.REFUSED_CONTENT,
    ),
    # other 4xx
    (
        "bad parameter",
        400,
        {},
        error("Unsupported value: 'temperature'", "invalid_request_error"),
        F.BAD_REQUEST,
    ),
    ("pydantic", 422, {}, {"detail": [{"msg": "field required"}]}, F.BAD_REQUEST),
    ("too large a body", 413, {}, b"Payload Too Large", F.BAD_REQUEST),
    ("teapot", 418, {}, b"", F.BAD_REQUEST),
    ("not implemented", 501, {}, error("not supported"), F.BAD_REQUEST),
    # the upstream's own
    ("timeout", 408, {}, b"", F.SERVER_ERROR),
    ("anthropic overloaded", 529, {}, error("Overloaded", "overloaded_error"), F.SERVER_ERROR),
    (
        "provider overloaded",
        503,
        {},
        error("The engine is currently overloaded, please try again later"),
        F.SERVER_ERROR,
    ),
    ("bare 500", 500, {}, b"Internal Server Error", F.SERVER_ERROR),
    ("bad gateway", 502, {}, b"<html><h1>502 Bad Gateway</h1></html>", F.SERVER_ERROR),
    (
        "localai loading",
        503,
        {"retry-after": "20"},
        {"error": {"message": "model is loading"}, "loading": {"state": "loading", "eta_seconds": 20}},
        F.LOADING,
    ),
    ("loading, said", 503, {}, error("Loading model", "unavailable_error"), F.LOADING),
    (
        "ollama's queue",
        503,
        {},
        {"error": "server busy, please try again.  maximum pending requests exceeded"},
        F.FULL,
    ),
]


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [pytest.param(*case[1:], id=case[0]) for case in CASES],
)
def test_classify(status: int, headers: dict[str, str], body: Any, expected: F) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert classify(status, headers, raw) is expected


def test_a_proxys_page_that_says_loading_is_no_promise() -> None:
    assert classify(503, {}, b"<html>Loading, please wait</html>") is F.SERVER_ERROR
    assert classify(503, {}, b'{"error":"error while downloading"}') is F.SERVER_ERROR


def test_what_is_no_answer_at_all() -> None:
    assert classify(302, {"location": "/login"}, b"") is F.GARBAGE
