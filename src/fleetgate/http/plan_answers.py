"""The forms of the answers that explain a plan. See `answers`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fleetgate.domain import Capability  # noqa: TC001  (types of fields)
from fleetgate.http.answers import Answer


class Forecast(Answer):
    """When the answer would be complete, term by term, in seconds."""

    wake_s: float
    load_s: float
    wait_s: float
    prefill_s: float
    decode_s: float
    total_s: float
    hit: float = Field(description="share of the prompt that need not be read again")
    output_tokens: float = Field(description="length that the answer is expected to have")


class Score(Answer):
    """What the policy makes of it: the terms lie between 0 and 1."""

    score: float
    speed: float
    quality: float
    cost: float
    usd: float = Field(description="what the request is expected to cost")


class GoesOn(Answer):
    """Who could go on with a stream of it that breaks off."""

    why_not: str = Field(description="empty: somebody can")
    by: list[str]
    not_by: dict[str, str] = Field(description="others, and why not")


class Candidate(Answer):
    deployment: str
    verdict: Literal["candidate", "wait", "load", "wake", "ejected", "refused"]
    position: int | None = Field(description="where it stands in the order in which they are tried")
    reason: str
    text: str
    local: bool
    in_flight: int
    slots: int | None
    resident: bool | None
    first_content_s: float | None
    remembered: bool
    dialects: list[str] = Field(description="those it speaks: requests in them pass as they were written")
    forecast: Forecast | None
    score: Score | None
    changes: list[str] = Field(description="what it does not take of the body as it is written")
    goes_on: GoesOn | None = Field(description="null: the route does not ask for it")


class Step(Answer):
    pool: str
    policy: str
    weights: dict[str, float] | None
    because: str
    first_token_s: float | None
    answer_s: float | None
    tries: int
    on: list[str] | None = Field(description="classes of failure that lead here; null: all that move on")
    while_waking: Literal["wait", "elsewhere"]
    candidates: list[Candidate]
    unknown: list[str]


class Bound(Answer):
    """A limit of the caller, without a request."""

    limit: str
    used: int
    ceiling: int
    passes: bool
    frees_in_s: float | None
    then: str


class Asks(Answer):
    """What the request was taken to ask, as far as choosing a machine needs to know."""

    needs: list[Capability]
    prompt_tokens: int = Field(description="an estimate, rather too many")
    max_tokens: int | None = Field(description="bound of one answer; null: none is set")
    answers: int
    units: float = Field(description="of what is not counted in tokens: inputs, images, seconds of sound")


class Plan(Answer):
    """Who would answer now, and why."""

    model: str
    origin: str
    via: list[str]
    capability: Capability
    attempts: int
    deadline_s: float | None
    resume: Literal["exact", "text"] | None = Field(description="how a stream that breaks off goes on")
    instance: str
    steps: list[Step]
    asks: Asks
    limits: list[Bound]
