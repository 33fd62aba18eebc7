"""The failure table: every way an attempt can fail, who is blamed, and what follows.

This is the only place where failures get a meaning (`docs/reference/failures.md` is generated
from it). Edges translate what they see into a `FailureClass` once; retry, blame and status follow
from the row. Two kinds of errors exist:

- `AttemptFailed`: one attempt at one deployment failed, with its class.
- `Refused`: the exchange ends with an error for the caller, with status, code and advice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class FailureClass(StrEnum):
    """What went wrong with one attempt (or with the exchange as a whole)."""

    UNSENT_REFUSED = "unsent_refused"
    UNSENT_UNREACHABLE = "unsent_unreachable"
    TLS_FAILED = "tls_failed"
    STALE_CONNECTION = "stale_connection"
    LOADING = "loading"
    FULL = "full"
    MODEL_MISSING = "model_missing"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    KEY_INVALID = "key_invalid"
    KEY_UNFUNDED = "key_unfunded"
    KEY_FORBIDDEN = "key_forbidden"
    SERVER_ERROR = "server_error"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105  (a class of failures)
    CUT_SHORT = "cut_short"
    GARBAGE = "garbage"
    STREAM_BROKEN = "stream_broken"
    CONTEXT_TOO_LONG = "context_too_long"
    REFUSED_CONTENT = "refused_content"
    BAD_REQUEST = "bad_request"
    CALLER_GONE = "caller_gone"
    DEADLINE = "deadline"
    LIMIT_REACHED = "limit_reached"
    NOTHING_AVAILABLE = "nothing_available"
    ABSENT_FEATURE = "absent_feature"


class Blame(StrEnum):
    """Whose record a failure is written to."""

    NONE = "none"
    DEPLOYMENT = "deployment"
    ENGINE = "engine"
    NODE = "node"
    ACCOUNT = "account"
    ACCOUNT_MODEL = "account x model"


class Verdict(StrEnum):
    """What the exchange does next."""

    NEXT = "next"
    """move to another candidate or step"""
    AGAIN = "again"
    """the same candidate once more on a fresh connection"""
    WAIT = "wait"
    """another candidate if there is one, else wait for this one"""
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the failure table."""

    seen_as: str
    blame: Blame
    effect: str
    verdict: Verdict
    status: int | None
    """status for the caller when this failure is the last one; None: as the upstream gave it, or none"""
    dispatched: bool = True
    """False: proven unsent, so it does not count as an attempt"""
    retry_after: bool = False
    """the answer carries Retry-After"""
    terminal: bool = False
    """the answer carries `x-should-retry: false`"""
    to_caller: str = ""
    """what to do, in one sentence, for the person who reads the error"""


_F = FailureClass
TABLE: Final[dict[FailureClass, Row]] = {
    _F.UNSENT_REFUSED: Row(
        "connection refused", Blame.ENGINE, "opens at once", Verdict.NEXT, 503,
        dispatched=False, retry_after=True,
        to_caller="The machine is on but nothing listens there: start the engine, or check its port.",
    ),
    _F.UNSENT_UNREACHABLE: Row(
        "no route, connect timeout, name not found", Blame.NODE,
        "`power: always`: missing, opens; otherwise asleep, nothing counted", Verdict.NEXT, 503,
        dispatched=False, retry_after=True,
        to_caller="The machine does not answer: switch it on, or check its address.",
    ),
    _F.TLS_FAILED: Row(
        "handshake or certificate", Blame.ENGINE, "benched 5 min, alert once", Verdict.NEXT, 502,
        dispatched=False,
        to_caller="Check the certificate, or name its authority with `ca:` on the engine.",
    ),
    _F.STALE_CONNECTION: Row(
        "reused connection, no response byte", Blame.NONE, "none", Verdict.AGAIN, 502,
        to_caller="Send the request again.",
    ),
    _F.LOADING: Row(
        '503 "loading", or our own load', Blame.DEPLOYMENT, "state loading", Verdict.WAIT, 503,
        retry_after=True, to_caller="The model is being loaded: ask again in a moment.",
    ),
    _F.FULL: Row(
        "the engine's queue or slots are full", Blame.DEPLOYMENT, "busy for 1 s", Verdict.WAIT, 503,
        retry_after=True, to_caller="Every seat is taken: ask again in a moment.",
    ),
    _F.MODEL_MISSING: Row(
        "404 for the model", Blame.DEPLOYMENT, "removed, catalogue read again", Verdict.NEXT, 404,
        to_caller="The engine does not have this model (any more): see `fleetgate models`.",
    ),
    _F.RATE_LIMITED: Row(
        "429 of a provider", Blame.ACCOUNT_MODEL,
        "cooling for retry-after, at most 300 s, 5 s where none is given", Verdict.NEXT, 429,
        retry_after=True, to_caller="The provider limits the rate: ask again after the time given.",
    ),
    _F.QUOTA_EXHAUSTED: Row(
        "our count, or the provider says so", Blame.ACCOUNT_MODEL, "out until the reset", Verdict.NEXT, 429,
        retry_after=True, to_caller="The quota is used up until its reset.",
    ),
    _F.KEY_INVALID: Row(
        "401", Blame.ACCOUNT, "benched 30 min or until changed, alert once", Verdict.NEXT, 502,
        to_caller="The upstream refuses the gateway's key: ask the gateway's operator to check it.",
    ),
    _F.KEY_UNFUNDED: Row(
        "402", Blame.ACCOUNT, "benched 30 min or until changed, alert once", Verdict.NEXT, 502,
        to_caller="The gateway's account at the provider has no credit.",
    ),
    _F.KEY_FORBIDDEN: Row(
        "403", Blame.ACCOUNT_MODEL, "benched 30 min", Verdict.NEXT, 502,
        to_caller="The gateway's key may not use this model at the upstream.",
    ),
    _F.SERVER_ERROR: Row(
        "other 5xx, 408, 529", Blame.DEPLOYMENT, "streak and ratio +1", Verdict.NEXT, 502,
        to_caller="The upstream failed: its own words are in the message.",
    ),
    _F.FIRST_TOKEN_TIMEOUT: Row(
        "no content in time, model resident", Blame.DEPLOYMENT, "streak and ratio +1", Verdict.NEXT, 504,
        to_caller="No content came within the step's `first_token`.",
    ),
    _F.CUT_SHORT: Row(
        "reset or end before any content, fresh connection", Blame.DEPLOYMENT, "streak and ratio +1",
        Verdict.NEXT, 502, to_caller="The upstream closed the connection before it answered.",
    ),
    _F.GARBAGE: Row(
        "an answer that cannot be one", Blame.DEPLOYMENT, "streak and ratio +1", Verdict.NEXT, 502,
        to_caller="What the upstream sent is not a valid answer.",
    ),
    _F.STREAM_BROKEN: Row(
        "after the first content: reset, stall, end without finish reason", Blame.DEPLOYMENT,
        "streak and ratio +1", Verdict.STOP, None,
        to_caller="The answer is incomplete: send the request again.",
    ),
    _F.CONTEXT_TOO_LONG: Row(
        "4xx that says so", Blame.NONE, "teaches the context size", Verdict.NEXT, None,
        to_caller="Shorten the prompt, or ask a model with more context.",
    ),
    _F.REFUSED_CONTENT: Row(
        "the provider's content policy", Blame.NONE, "none", Verdict.STOP, None,
        to_caller="The provider's content policy refused the request.",
    ),
    _F.BAD_REQUEST: Row(
        "other 4xx", Blame.NONE, "none", Verdict.STOP, None,
        to_caller="The upstream does not accept the request: its own words are in the message.",
    ),
    _F.CALLER_GONE: Row("the caller disconnected", Blame.NONE, "cancel", Verdict.STOP, 499),
    _F.DEADLINE: Row(
        "the caller's time is up", Blame.NONE, "cancel", Verdict.STOP, 504,
        to_caller="Allow more time with `x-fleetgate-timeout`, or the role's `deadline`.",
    ),
    _F.LIMIT_REACHED: Row(
        "a limit of ours", Blame.NONE, "none", Verdict.STOP, 429, retry_after=True,
        to_caller="Ask again when the limit frees.",
    ),
    _F.NOTHING_AVAILABLE: Row(
        "no candidate left", Blame.NONE, "none", Verdict.STOP, 503, retry_after=True, terminal=True,
        to_caller="See why with `fleetgate explain MODEL`.",
    ),
    _F.ABSENT_FEATURE: Row(
        "501 or 404 on an optional signal; what a candidate cannot be asked", Blame.NONE,
        "signal unknown, not polled again; nothing is sent", Verdict.NEXT, None, dispatched=False,
        to_caller="Leave it out, or ask another model.",
    ),
}  # fmt: skip

COUNTED: Final = frozenset(
    {_F.SERVER_ERROR, _F.FIRST_TOKEN_TIMEOUT, _F.CUT_SHORT, _F.GARBAGE, _F.STREAM_BROKEN}
)
"""Classes that move a deployment's breaker by one."""

NEXT: Final = "next"
"""stands for `MOVING_ON` where failure classes are listed"""
MOVING_ON: Final = frozenset(one for one, row in TABLE.items() if row.verdict is not Verdict.STOP)
"""Classes after which the exchange goes on: to a candidate, a step, or the same one again."""

MAX_UPSTREAM_TEXT: Final = 2_000
"""Characters of an upstream's own error text that are kept."""


class AttemptFailed(Exception):
    """One attempt failed.

    `status` is the upstream's HTTP status where there was one; `text` its own words, cut to
    `MAX_UPSTREAM_TEXT`; `retry_after` seconds, where it said so.
    """

    def __init__(
        self,
        failure: FailureClass,
        text: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{failure.value}: {text}" if text else failure.value)
        self.failure = failure
        self.text = text[:MAX_UPSTREAM_TEXT]
        self.status = status
        self.retry_after = retry_after

    @property
    def row(self) -> Row:
        return TABLE[self.failure]


class Source(StrEnum):
    """Who an error answer points at."""

    CALLER = "caller"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class Refused(Exception):
    """The exchange ends with an error answer.

    `code` is a stable machine word; `message` says what was found; `advice` what to do next.
    Rendered once per dialect, never shown with secrets in it.
    """

    def __init__(  # noqa: PLR0913  (an error says everything it knows)
        self,
        status: int,
        code: str,
        message: str,
        *,
        advice: str = "",
        source: Source = Source.CALLER,
        failure: FailureClass | None = None,
        retry_after: float | None = None,
        terminal: bool = False,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.advice = advice
        self.source = source
        self.failure = failure
        self.retry_after = retry_after
        self.terminal = terminal
        self.param = param
