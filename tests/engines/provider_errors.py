# ruff: noqa: E501  (a table)
"""How providers say that something is wrong: built from their documentation and published error answers, not
recorded. One list per row of the table of providers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fleetgate.errors import FailureClass as F


@dataclass(frozen=True)
class Said:
    """One error answer, and what it means. `hint`: seconds until it may be asked again."""

    status: int
    body: Any
    means: F
    headers: dict[str, str] = field(default_factory=dict)
    hint: float | None = None

    @property
    def raw(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


def openai(message: str, kind: str | None = None, code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def google(code: int, message: str, status: str, *details: Any) -> list[Any]:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


def messages(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def mistral(message: Any, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def amazon(message: str) -> dict[str, Any]:
    return {"message": message}


def grok(code: str, text: str) -> dict[str, Any]:
    return {"code": code, "error": text}


def minimax(kind: str, message: str, code: int) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, "http_code": str(code)}}


TOO_LONG = (
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
)

SAID: dict[str, list[Said]] = {
    "openai": [
        Said(
            401,
            openai("Incorrect API key provided: sk-abc*****xyz.", "invalid_request_error", "invalid_api_key"),
            F.KEY_INVALID,
        ),
        Said(
            429,
            openai(
                "You exceeded your current quota, please check your plan and billing details.",
                "insufficient_quota",
                "insufficient_quota",
            ),
            F.KEY_UNFUNDED,
        ),
        Said(
            403,
            openai(
                "Project `p` does not have access to model `m`", "invalid_request_error", "model_not_found"
            ),
            F.KEY_FORBIDDEN,
        ),
        Said(
            429,
            openai(
                "Rate limit reached for m on tokens per min (TPM). Please try again in 1.2s.",
                "tokens",
                "rate_limit_exceeded",
            ),
            F.RATE_LIMITED,
            hint=1.2,
        ),
        Said(
            429,
            openai("Rate limit reached", "requests", "rate_limit_exceeded"),
            F.RATE_LIMITED,
            {"retry-after-ms": "250"},
            0.25,
        ),
        Said(
            404,
            openai(
                "The model `m` does not exist or you do not have access to it.",
                "invalid_request_error",
                "model_not_found",
            ),
            F.MODEL_MISSING,
        ),
        Said(400, openai(TOO_LONG, "invalid_request_error", "context_length_exceeded"), F.CONTEXT_TOO_LONG),
        Said(
            400,
            openai(
                "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
                "invalid_request_error",
                "invalid_prompt",
            ),
            F.REFUSED_CONTENT,
        ),
        Said(
            400,
            openai("Unknown parameter: 'odd'.", "invalid_request_error", "unknown_parameter"),
            F.BAD_REQUEST,
        ),
        Said(
            503,
            openai("The engine is currently overloaded, please try again later", "server_error"),
            F.SERVER_ERROR,
        ),
    ],
    "anthropic": [
        Said(401, messages("authentication_error", "invalid x-api-key"), F.KEY_INVALID),
        Said(402, messages("billing_error", "There is a problem with your billing"), F.KEY_UNFUNDED),
        Said(
            400,
            messages("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            F.KEY_UNFUNDED,
        ),
        Said(
            403,
            messages(
                "permission_error", "Your API key does not have permission to use the specified resource."
            ),
            F.KEY_FORBIDDEN,
        ),
        Said(
            429,
            messages("rate_limit_error", "This request would exceed your rate limit"),
            F.RATE_LIMITED,
            {"retry-after": "11"},
            11,
        ),
        Said(404, messages("not_found_error", "model: claude-x"), F.MODEL_MISSING),
        Said(
            400,
            messages("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            F.CONTEXT_TOO_LONG,
        ),
        Said(
            400,
            messages("invalid_request_error", "Output blocked by content filtering policy"),
            F.REFUSED_CONTENT,
        ),
        Said(529, messages("overloaded_error", "Overloaded"), F.SERVER_ERROR),
    ],
    "gemini": [
        Said(
            400,
            google(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"),
            F.KEY_INVALID,
        ),
        Said(403, google(403, "Your project has been denied access.", "PERMISSION_DENIED"), F.KEY_FORBIDDEN),
        Said(
            429,
            google(
                429,
                "You exceeded your rate.",
                "RESOURCE_EXHAUSTED",
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"},
            ),
            F.RATE_LIMITED,
            hint=34,
        ),
        Said(
            429,
            google(
                429,
                "Quota exceeded for metric: GenerateRequestsPerDayPerProjectPerModel-FreeTier",
                "RESOURCE_EXHAUSTED",
            ),
            F.QUOTA_EXHAUSTED,
        ),
        Said(
            404,
            google(
                404,
                "models/m is not found for API version v1main, or is not supported for generateContent.",
                "NOT_FOUND",
            ),
            F.MODEL_MISSING,
        ),
        Said(
            400,
            google(
                400,
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
                "INVALID_ARGUMENT",
            ),
            F.CONTEXT_TOO_LONG,
        ),
        Said(
            400,
            google(400, "The prompt was blocked: it violates our usage guidelines", "INVALID_ARGUMENT"),
            F.REFUSED_CONTENT,
        ),
        Said(
            400,
            google(
                400,
                'Invalid JSON payload received. Unknown name "odd": Cannot find field.',
                "INVALID_ARGUMENT",
            ),
            F.BAD_REQUEST,
        ),
        Said(503, google(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"), F.FULL),
    ],
    "mistral": [
        Said(401, {"message": "Unauthorized", "request_id": "1"}, F.KEY_INVALID),
        Said(402, {"message": "Payment required"}, F.KEY_UNFUNDED),
        Said(403, {"message": "Forbidden"}, F.KEY_FORBIDDEN),
        Said(
            429,
            mistral(
                "Service tier capacity exceeded for this model.", "service_tier_capacity_exceeded", "3505"
            ),
            F.RATE_LIMITED,
        ),
        Said(400, mistral("Invalid model: m", "invalid_model", "1500"), F.MODEL_MISSING),
        Said(
            400,
            mistral(
                "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"
            ),
            F.CONTEXT_TOO_LONG,
        ),
        Said(
            422,
            mistral(
                {
                    "detail": [
                        {
                            "type": "extra_forbidden",
                            "loc": ["body", "odd"],
                            "msg": "Extra inputs are not permitted",
                        }
                    ]
                }
            ),
            F.BAD_REQUEST,
        ),
        Said(500, mistral("Service unavailable.", "internal_server_error"), F.SERVER_ERROR),
    ],
    "groq": [
        Said(401, openai("Invalid API Key", "invalid_request_error", "invalid_api_key"), F.KEY_INVALID),
        Said(403, openai("Forbidden", "permissions_error"), F.KEY_FORBIDDEN),
        Said(
            429,
            openai(
                "Rate limit reached for model `m` on tokens per minute (TPM): Limit 6000. Please try again in 7.66s.",
                "tokens",
                "rate_limit_exceeded",
            ),
            F.RATE_LIMITED,
            {"retry-after": "8"},
            8,
        ),
        Said(
            429,
            openai(
                "Rate limit reached on requests per day (RPD): Limit 1000. Please try again in 7m12s.",
                "requests",
                "rate_limit_exceeded",
            ),
            F.QUOTA_EXHAUSTED,
            hint=432,
        ),
        Said(
            404,
            openai(
                "The model `m` does not exist or you do not have access to it.",
                "invalid_request_error",
                "model_not_found",
            ),
            F.MODEL_MISSING,
        ),
        Said(
            400,
            openai(
                "The model `m` has been decommissioned and is no longer supported.",
                "invalid_request_error",
                "model_decommissioned",
            ),
            F.MODEL_MISSING,
        ),
        Said(
            413,
            openai(
                "Request too large for model `m`, please reduce your message size and try again.",
                "tokens",
                "rate_limit_exceeded",
            ),
            F.CONTEXT_TOO_LONG,
        ),
        Said(
            400,
            openai("'messages.0' : property 'odd' is unsupported", "invalid_request_error"),
            F.BAD_REQUEST,
        ),
        Said(498, openai("Flex tier capacity exceeded", "capacity_exceeded"), F.FULL),
    ],
    "perplexity": [
        Said(401, "<html><head><title>401 Authorization Required</title></head></html>", F.KEY_INVALID),
        Said(402, openai("Insufficient credits", "payment_required", 402), F.KEY_UNFUNDED),
        Said(403, openai("Forbidden", "forbidden", 403), F.KEY_FORBIDDEN),
        Said(
            429,
            openai("Request rate limit exceeded, please try again later", "request_rate_limit_exceeded", 429),
            F.RATE_LIMITED,
        ),
        Said(
            400,
            openai(
                "Invalid model 'm'. Permitted models can be found in the documentation.", "invalid_model", 400
            ),
            F.MODEL_MISSING,
        ),
        Said(
            400,
            openai("The input exceeds the context window of this model", "invalid_request", 400),
            F.CONTEXT_TOO_LONG,
        ),
        Said(422, {"detail": [{"msg": "field required"}]}, F.BAD_REQUEST),
    ],
    "deepseek": [
        Said(
            401,
            openai(
                "Authentication Fails, Your api key: ****abcd is invalid",
                "authentication_error",
                "invalid_request_error",
            ),
            F.KEY_INVALID,
        ),
        Said(402, openai("Insufficient Balance", "unknown_error", "invalid_request_error"), F.KEY_UNFUNDED),
        Said(403, openai("Forbidden"), F.KEY_FORBIDDEN),
        Said(429, openai("Rate Limit Reached"), F.RATE_LIMITED),
        Said(
            400, openai("Model Not Exist", "invalid_request_error", "invalid_request_error"), F.MODEL_MISSING
        ),
        Said(400, openai(TOO_LONG, "invalid_request_error", "invalid_request_error"), F.CONTEXT_TOO_LONG),
        Said(
            400,
            openai("Content Exists Risk", "invalid_request_error", "invalid_request_error"),
            F.REFUSED_CONTENT,
        ),
        Said(422, openai("Failed to deserialize the JSON body", "invalid_request_error"), F.BAD_REQUEST),
        Said(503, openai("Server overloaded"), F.SERVER_ERROR),
    ],
    "xai": [
        Said(
            400,
            grok("Client specified an invalid argument", "Incorrect API key provided: xa***st."),
            F.KEY_INVALID,
        ),
        Said(
            403,
            grok(
                "The caller does not have permission to execute the specified operation",
                "Your newly created team doesn't have any credits yet.",
            ),
            F.KEY_UNFUNDED,
        ),
        Said(
            429,
            grok(
                "Some resource has been exhausted",
                "Your team has either used all available credits or reached its monthly spending limit.",
            ),
            F.KEY_UNFUNDED,
        ),
        Said(
            403,
            grok(
                "The caller does not have permission to execute the specified operation",
                "Your key has no access to this.",
            ),
            F.KEY_FORBIDDEN,
        ),
        Said(
            429,
            grok("Some resource has been exhausted", "Too many requests for team and model m."),
            F.RATE_LIMITED,
        ),
        Said(
            404,
            grok(
                "Some requested entity was not found",
                "The model m does not exist or your team does not have access to it.",
            ),
            F.MODEL_MISSING,
        ),
        Said(
            400,
            grok(
                "Client specified an invalid argument",
                "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
            ),
            F.CONTEXT_TOO_LONG,
        ),
        Said(
            403,
            grok("The caller does not have permission", "Content violates usage guidelines."),
            F.REFUSED_CONTENT,
        ),
        Said(
            400,
            grok("Client specified an invalid argument", "Argument not supported on this model: odd"),
            F.BAD_REQUEST,
        ),
    ],
    "openrouter": [
        Said(401, openai("No auth credentials found", code=401), F.KEY_INVALID),
        Said(402, openai("Insufficient credits. Add more using the account page", code=402), F.KEY_UNFUNDED),
        Said(403, openai("Key limit exceeded", code=403), F.KEY_FORBIDDEN),
        Said(
            429,
            {
                "error": {
                    "message": "Rate limit exceeded: free-models-per-min.",
                    "code": 429,
                    "metadata": {
                        "headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800000030000"}
                    },
                }
            },
            F.RATE_LIMITED,
            hint=30,
        ),
        Said(
            429,
            openai(
                "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day",
                code=429,
            ),
            F.QUOTA_EXHAUSTED,
        ),
        Said(400, openai("a/m is not a valid model ID", code=400), F.MODEL_MISSING),
        Said(404, openai("No endpoints found for a/m.", code=404), F.MODEL_MISSING),
        Said(
            400,
            openai(
                "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000 tokens.",
                code=400,
            ),
            F.CONTEXT_TOO_LONG,
        ),
        Said(
            403,
            openai('a/m requires moderation on X. Your input was flagged for "violence".', code=403),
            F.REFUSED_CONTENT,
        ),
        Said(502, openai("Provider returned error", code=502), F.SERVER_ERROR),
    ],
    "together": [
        Said(
            401, openai("Invalid API key provided", "invalid_request_error", "invalid_api_key"), F.KEY_INVALID
        ),
        Said(
            402,
            openai("Credit limit exceeded, please add credits to your account", "credit_limit"),
            F.KEY_UNFUNDED,
        ),
        Said(
            429,
            openai("You have reached the rate limit specific to this model m", "model_rate_limit"),
            F.RATE_LIMITED,
            {"x-ratelimit-reset": "2"},
            2,
        ),
        Said(
            404,
            openai(
                "Unable to access model m. Please visit the list of models",
                "invalid_request_error",
                "model_not_available",
            ),
            F.MODEL_MISSING,
        ),
        Said(
            403,
            openai(
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000",
                "invalid_request_error",
            ),
            F.CONTEXT_TOO_LONG,
        ),
        Said(403, openai("Forbidden", "permission_error"), F.KEY_FORBIDDEN),
        Said(
            503,
            openai("The server is currently overloaded, please try again later", "server_error"),
            F.SERVER_ERROR,
        ),
    ],
    "fireworks": [
        Said(
            401, openai("The API key you provided is invalid.", "unauthorized", "UNAUTHORIZED"), F.KEY_INVALID
        ),
        Said(402, openai("Payment required"), F.KEY_UNFUNDED),
        Said(
            412,
            openai(
                "Account x is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices.",
                "error",
                "PRECONDITION_FAILED",
            ),
            F.KEY_UNFUNDED,
        ),
        Said(403, openai("Forbidden", "forbidden"), F.KEY_FORBIDDEN),
        Said(429, openai("Rate limit exceeded, please try again later"), F.RATE_LIMITED),
        Said(
            404,
            openai("Model not found, inaccessible, and/or not deployed", "error", "NOT_FOUND"),
            F.MODEL_MISSING,
        ),
        Said(
            400,
            openai(
                "The prompt is too long: 140000, model maximum context length: 131071",
                "invalid_request_error",
            ),
            F.CONTEXT_TOO_LONG,
        ),
        Said(
            400,
            openai("Extra inputs are not permitted, field: 'odd'", "invalid_request_error"),
            F.BAD_REQUEST,
        ),
    ],
    "cohere": [
        Said(401, {"id": "1", "message": "invalid api token"}, F.KEY_INVALID),
        Said(402, {"id": "1", "message": "Please add or update your payment method"}, F.KEY_UNFUNDED),
        Said(403, {"id": "1", "message": "This feature is not available to your account"}, F.KEY_FORBIDDEN),
        Said(
            429,
            {"id": "1", "message": "You are using a Trial key, which is limited to 20 API calls / minute."},
            F.RATE_LIMITED,
        ),
        Said(
            429,
            {"id": "1", "message": "You are using a Trial key, which is limited to 1000 API calls / month."},
            F.QUOTA_EXHAUSTED,
        ),
        Said(
            404,
            {"id": "1", "message": "model 'm' not found, make sure the correct model ID was used"},
            F.MODEL_MISSING,
        ),
        Said(
            400,
            {"id": "1", "message": "too many tokens: the prompt must fit 128000 tokens"},
            F.CONTEXT_TOO_LONG,
        ),
        Said(
            422, {"id": "1", "message": "unknown field: parameter 'odd' is not a valid field"}, F.BAD_REQUEST
        ),
    ],
    "moonshot": [
        Said(401, openai("Invalid Authentication", "invalid_authentication_error"), F.KEY_INVALID),
        Said(
            429,
            openai(
                "Your account is suspended, please check your plan and billing details",
                "exceeded_current_quota_error",
            ),
            F.KEY_UNFUNDED,
        ),
        Said(403, openai("Permission denied", "permission_denied_error"), F.KEY_FORBIDDEN),
        Said(
            429,
            openai(
                "Your account reached max request per minute: 3, please try again after 1 seconds",
                "rate_limit_reached_error",
            ),
            F.RATE_LIMITED,
        ),
        Said(
            429,
            openai("The engine is currently overloaded, please try again later", "engine_overloaded_error"),
            F.FULL,
        ),
        Said(
            404,
            openai("Not found the model m or Permission denied", "resource_not_found_error"),
            F.MODEL_MISSING,
        ),
        Said(
            400,
            openai("Invalid request: Your request exceeded model token limit: 8192", "invalid_request_error"),
            F.CONTEXT_TOO_LONG,
        ),
        Said(
            400,
            openai("The request was rejected because it was considered high risk", "content_filter"),
            F.REFUSED_CONTENT,
        ),
    ],
    "minimax": [
        Said(401, minimax("authorized_error", "invalid api key (2049)", 401), F.KEY_INVALID),
        Said(402, minimax("insufficient_balance_error", "insufficient balance (1008)", 402), F.KEY_UNFUNDED),
        Said(429, minimax("rate_limit_error", "rate limit exceeded (1002)", 429), F.RATE_LIMITED),
        Said(
            400,
            minimax("bad_request_error", "invalid params, unknown model 'm' (2013)", 400),
            F.MODEL_MISSING,
        ),
        Said(
            400,
            minimax("bad_request_error", "context window exceeds limit (2013): reduce your prompt", 400),
            F.CONTEXT_TOO_LONG,
        ),
        Said(400, minimax("bad_request_error", "input new_sensitive (1026)", 400), F.REFUSED_CONTENT),
        Said(403, minimax("forbidden", "no access", 403), F.KEY_FORBIDDEN),
    ],
    "azure": [
        Said(
            401,
            openai("Access denied due to invalid subscription key or wrong API endpoint.", code="401"),
            F.KEY_INVALID,
        ),
        Said(402, openai("Payment required"), F.KEY_UNFUNDED),
        Said(
            403,
            openai("Public access is disabled. Please configure private endpoint.", code="AccessDenied"),
            F.KEY_FORBIDDEN,
        ),
        Said(
            429,
            openai(
                "Requests have exceeded token rate limit of your current pricing tier. Please retry after 26 seconds.",
                code="429",
            ),
            F.RATE_LIMITED,
            hint=26,
        ),
        Said(
            404,
            openai("The API deployment for this resource does not exist.", code="DeploymentNotFound"),
            F.MODEL_MISSING,
        ),
        Said(404, openai("Resource not found", code="404"), F.BAD_REQUEST),
        Said(400, openai(TOO_LONG, "invalid_request_error", "context_length_exceeded"), F.CONTEXT_TOO_LONG),
        Said(
            400,
            {
                "error": {
                    "message": "The response was filtered due to the prompt triggering the content management policy.",
                    "code": "content_filter",
                    "status": 400,
                    "innererror": {"code": "ResponsibleAIPolicyViolation"},
                }
            },
            F.REFUSED_CONTENT,
        ),
    ],
    "bedrock": [
        Said(403, amazon("The security token included in the request is invalid."), F.KEY_INVALID),
        Said(403, amazon("You don't have access to the model with the specified model ID."), F.KEY_FORBIDDEN),
        Said(429, amazon("Too many requests, please wait before trying again."), F.RATE_LIMITED),
        Said(429, amazon("Too many tokens per day, please wait before trying again."), F.QUOTA_EXHAUSTED),
        Said(400, amazon("The provided model identifier is invalid."), F.MODEL_MISSING),
        Said(404, amazon("The requested model does not exist."), F.MODEL_MISSING),
        Said(400, amazon("Input is too long for requested model."), F.CONTEXT_TOO_LONG),
        Said(400, amazon("Malformed input request"), F.BAD_REQUEST),
        Said(503, amazon("Bedrock is unable to process your request."), F.SERVER_ERROR),
    ],
}
