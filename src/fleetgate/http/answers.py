"""The forms of the admin API's answers, for the OpenAPI document and for the tests.

Nothing is converted through them on the wire: rows answer with plain values. Tests hold real answers
against them, to the letter. Money is in nano-dollars, times are ISO 8601 in UTC unless a zone is asked
for, and what nobody knows is null.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fleetgate.domain import Capability, KeyKind, Presence, State  # noqa: TC001  (types of fields)
from fleetgate.limits import Measure, Then  # noqa: TC001  (the same)
from fleetgate.routing.accounts import Standing  # noqa: TC001  (the same)


class Answer(BaseModel):
    """A JSON object. Members may be added in later versions."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


# --- what all share -----------------------------------------------------------------------------------


class Fault(Answer):
    """What went wrong, and what to do about it."""

    message: str
    type: str
    param: str | None = Field(description="the member or parameter that is wrong")
    code: str = Field(description="a stable word for programs")
    failure: str | None = Field(alias="class", description="the class of failure where an attempt failed")
    source: Literal["caller", "gateway", "upstream"]
    request_id: str


class Error(Answer):
    error: Fault


class Removed(Answer):
    removed: str


# --- the gateway itself ---------------------------------------------------------------------------------


class Deployment(Answer):
    deployment: str
    model: str
    node: str
    engine: str
    kind: str
    local: bool
    state: State
    reason: str
    why: str
    presence: Presence
    remembered: bool
    does: list[Capability] | None
    context: int | None
    params_b: float | None = Field(description="parameters in billions")
    quantisation: str | None
    resident: bool | None
    in_flight: int
    slots: int | None


class Engine(Answer):
    engine: str
    kind: str
    address: str
    configured: bool
    alive: bool | None
    why: str
    models: int
    version: str | None


class Models(Answer):
    rows: list[Deployment]
    engines: list[Engine]


class Nodes(Answer):
    known: int
    awake: int
    asleep: int
    missing: int


class Engines(Answer):
    known: int
    alive: int


class ConfigurationState(Answer):
    fingerprint: str
    rejected: bool
    held: bool
    why: str | None


class Summary(Answer):
    """Counts and booleans; nothing that names a machine or a model."""

    status: Literal["ok", "degraded", "draining"]
    degraded: list[str]
    nodes: Nodes
    engines: Engines
    deployments: int
    in_flight: int
    waiting: int
    configuration: ConfigurationState
    uptime_s: int


class Finding(Answer):
    severity: Literal["error", "warning", "note"]
    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str


class Setting(Answer):
    path: str
    value: str
    origin: str


class Configuration(Answer):
    fingerprint: str
    sources: list[str]
    rejected: str | None = Field(description="why the file on disk is not in effect")
    held: bool
    findings: list[Finding]
    settings: list[Setting]


class Reload(Answer):
    """What became of the configuration on disk: 200 where it is in effect now, 409 where it is not."""

    applied: bool
    held: bool = False
    changes: list[str]
    reason: str | None
    findings: list[Finding]


# --- keys, users, teams ---------------------------------------------------------------------------------


class Key(Answer):
    id: str
    kind: KeyKind
    alias: str | None
    user: str | None
    team: str | None
    tags: list[str]
    names: list[str]
    enabled: bool
    fingerprint: str
    created_at: str
    expires_at: str | None
    rotated_at: str | None
    old_secret_until: str | None
    revoked_at: str | None
    state: Literal["active", "disabled", "expired", "revoked"]
    last_used_at: str | None


class Keys(Answer):
    rows: list[Key]


class OneKey(Answer):
    key: Key


class NewSecret(Answer):
    """The secret is shown here and never again."""

    key: Key
    secret: str


class NewKey(NewSecret):
    limits: list[str] = Field(description="its limits, in words")


class User(Answer):
    name: str
    team: str | None
    note: str
    created_at: str


class Users(Answer):
    rows: list[User]


class OneUser(Answer):
    user: User


class Team(Answer):
    name: str
    note: str
    created_at: str


class Teams(Answer):
    rows: list[Team]


class OneTeam(Answer):
    team: Team


class Line(Answer):
    """One administrative change."""

    number: int
    at: str
    who: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    address: str
    request_id: str


class Trail(Answer):
    rows: list[Line]


# --- limits, money, providers, cache ----------------------------------------------------------------------


class Counter(Answer):
    counter: str
    of: str | None = Field(description="of whom, where everybody counts apart")
    used: int
    held: int
    frees_in_s: float | None
    frees_at: str | None
    refusals: int


class Limit(Answer):
    id: str
    name: str
    words: str
    scope: dict[str, str]
    measure: Measure
    unit: str
    ceiling: int
    then: Then
    origin: str
    overridden: bool
    created_at: str | None
    counters: list[Counter]
    counters_left_out: int


class Currency(Answer):
    code: str
    rate: int = Field(description="nano-dollars that one of it is worth")


class Limits(Answer):
    currency: Currency
    rows: list[Limit]


class PaidOff(Answer):
    since: str
    who: str
    why: str


class Budget(Answer):
    id: str
    name: str
    words: str
    scope: str
    counter: str
    of: str | None = Field(description="of whom, where everybody counts apart")
    spent_nano_usd: int
    held_nano_usd: int
    ceiling_nano_usd: int
    frees_in_s: float | None
    frees_at: str | None
    then: Then
    origin: str


class Budgets(Answer):
    paid_off: PaidOff | None
    currency: Currency
    rows: list[Budget]


class Switched(Answer):
    paid_off: PaidOff | None


class Check(Answer):
    ok: bool
    findings: list[str]


class ModelOut(Answer):
    """A model that an account cannot be asked for now."""

    model: str
    state: Standing
    why: str
    until: str | None
    seconds: float | None


class Account(Answer):
    account: str
    state: Standing
    why: str
    until: str | None
    seconds: float | None
    models_out: list[ModelOut]
    in_flight: int
    remembered: bool


class PricedModel(Answer):
    deployment: str
    model: str
    price: str | None
    price_known: bool
    removed: bool
    retires: str | None
    retired: bool
    successor: str | None


class Fired(Answer):
    """How often a rule about requests fired since the start."""

    member: str
    deed: str
    count: int


class Quota(Answer):
    words: str
    unit: str
    of: str | None
    id: str
    counter: str
    used: int
    held: int
    ceiling: int
    frees_in_s: float | None


class Provider(Answer):
    provider: str
    address: str
    configured: bool
    alive: bool | None
    why: str
    accounts: list[Account]
    models: list[PricedModel]
    rules: list[Fired]
    quotas: list[Quota]


class Providers(Answer):
    rows: list[Provider]


class CacheFigures(Answer):
    enabled: bool
    where: Literal["memory", "shared"]
    shared_healthy: bool | None
    entries: int | None
    bytes: int | None
    size: int | None
    largest: int | None
    ttl_s: float | None
    share: bool | None
    names: list[str]
    hits: int
    misses: int
    joined: int
    kept: int
    too_large: int
    evicted: int
    failed: int
    in_flight: int
    recording_bytes: int


class Flushed(Answer):
    flushed: int
    key: str | None


# --- use ------------------------------------------------------------------------------------------------


class Sums(Answer):
    requests: int
    attempts: int
    failures: int
    cache_hits: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_nano_usd: int
    cost_unknown_requests: int
    estimated_requests: int
    energy_wh: float
    energy_cost_nano_usd: int
    duration_ms: int


class UsageRow(Sums):
    """Sums, with the members that were asked for by `by`."""

    key: str | None = None
    alias: str | None = None
    user: str | None = None
    team: str | None = None
    model: str | None = None
    deployment: str | None = None
    node: str | None = None
    provider: str | None = None
    account: str | None = None
    month: str | None = None
    day: str | None = None
    hour: str | None = None
    cache: str | None = None


class Usage(Answer):
    rows: list[UsageRow]
    total: Sums
    more: bool
    by: list[str]
    since: str
    until: str
    zone: str
    currency: Currency


class Tokens(Answer):
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    tokens_estimated: bool


class Attempt(Tokens):
    number: int
    step: int
    deployment: str
    account: str | None
    outcome: str
    status: int | None
    dispatched: bool
    began_ms: int | None
    ended_ms: int | None
    first_content_ms: int | None
    text: str
    cost_nano_usd: int | None
    cost_estimated: bool
    price: str
    energy_wh: float
    energy_cost_nano_usd: int


class Exchange(Tokens):
    request_id: str
    at: str
    key: str
    user: str | None
    team: str | None
    end_user: str | None
    tags: list[str]
    route: str
    model: str
    deployment: str | None
    status: int
    outcome: str
    note: str
    cache: str
    streamed: bool
    duration_ms: int | None
    first_content_ms: int | None
    cost_nano_usd: int
    cost_unknown: bool
    energy_wh: float
    energy_cost_nano_usd: int
    bytes_in: int
    bytes_out: int
    attempts: list[Attempt]


class Exchanges(Answer):
    rows: list[Exchange]


# --- models, in OpenAI's form -----------------------------------------------------------------------------


class ModelEntry(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Answer):
    object: Literal["list"]
    data: list[ModelEntry]


class Document(BaseModel):
    """An OpenAPI document."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    openapi: str
