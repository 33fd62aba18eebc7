"""The one declaration of every setting: key, type, default, help, and when a change takes effect.

`Settings` is both the declaration and the frozen, typed result; nothing downstream reads text.
Field descriptions become `docs/reference/configuration.md` and the JSON Schema. Two marks live in a
field's extras: `restart=True` (a change is refused live) and `later=True` (accepted, reported as not
yet in effect).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from fleetgate.config.block import LATER, RESTART, Block, Duration, FilePath, SecretRef, Size, Strings
from fleetgate.config.locator import Locator, LocatorRef
from fleetgate.config.machines import Affinity, Bandwidth, Keep, Wake
from fleetgate.config.money import Cache, Currency, Energy, EnergyPrice, Ledger, Limit, Price, Quota
from fleetgate.config.rules import RULES, Rules
from fleetgate.domain import Capability, Power


class KeepAlive(Block):
    """Comments sent to a waiting caller."""

    first: Duration = Field(default=10.0, description="Silence before the first one.")
    every: Duration = Field(default=15.0, description="Silence before each further one.")


class Tailscale(Block):
    """Callers without a key whom Tailscale knows: they count as a user. A key that is sent always wins."""

    headers: bool = Field(
        default=False,
        description="Believe `Tailscale-User-Login` on connections from loopback, where `tailscale serve` "
        "puts it. Every program on this machine can send it, too.",
    )
    whois: FilePath | None = Field(
        default=None,
        description="Socket of the Tailscale daemon, usually `/run/tailscale/tailscaled.sock`: it is asked "
        "who is behind an address of the tailnet, and where a machine is that left its written address.",
    )
    users: dict[str, str] = Field(
        default={}, description="The user that a login counts as; default: the user of the same name."
    )
    create: bool = Field(default=False, description="Make a user for a login that has none.")


class FetchMedia(Block):
    """The gateway fetches pictures and sounds for own engines, which get no addresses. Guarded: public
    addresses only."""

    from_: Strings = Field(
        default=("*",), alias="from", description="Hosts to fetch from, such as `*.example.org`."
    )
    most: Size = Field(default=20_000_000, gt=0, description="Most bytes for one request.")
    count: int = Field(default=8, ge=1, le=100, description="Most addresses in one request.")
    timeout: Duration = Field(default=10.0, gt=0, description="Longest time for each.")


class Gateway(Block):
    """The gateway itself."""

    listen: Strings = Field(
        default=("127.0.0.1:4000",),
        description="Address and port, or a list of them.",
        json_schema_extra=RESTART,
    )
    base_path: str = Field(
        default="", description="Prefix under which every route also answers, such as `/llm`."
    )
    auth: Literal["keys", "open"] = Field(
        default="keys",
        description="`keys`: every request needs a key. `open`: any or no key is accepted from "
        "loopback and `allow_from`.",
    )
    allow_from: Strings = Field(
        default=(),
        description="Address ranges that may connect; empty: loopback only in "
        "open mode, everyone with `auth: keys`.",
    )
    hosts: Strings = Field(
        default=(),
        description="Names by which browsers may address the gateway in open mode, "
        "beside loopback and the addresses it listens on.",
    )
    cors: Strings = Field(
        default=(),
        description="Origins of web pages elsewhere that may use the API, each exactly as browsers write it, "
        "such as `https://chat.example.net` or `app://obsidian.md`.",
    )
    database: LocatorRef = Field(
        default=Locator("sqlite"),
        description="`sqlite` (a file in the state directory), or `postgresql://user@host/name`, or "
        'a reference to the whole of it, such as `"${DATABASE_URL}"`.',
        json_schema_extra=RESTART,
    )
    shared_state: LocatorRef = Field(
        default=Locator("memory"),
        description="Where several gateways share rates and places: `memory` (one gateway), "
        "`redis://host:6379/0`, `rediss://` with TLS, `unix:///path`, or a reference to the whole of it.",
        json_schema_extra=RESTART,
    )
    trust_user_headers: Strings = Field(
        default=(),
        description="Headers in which callers that were let in say for whom they ask, such as `x-user`; "
        "the first that is there counts. Only recorded.",
    )
    tailscale: Tailscale | None = Field(
        default=None, description="Callers without a key whom Tailscale knows."
    )
    drain: Duration = Field(default=300.0, description="How long running answers may take after SIGTERM.")
    lame_duck: Duration = Field(
        default=0.0, description="How long new requests are still taken after SIGTERM."
    )
    catalogue: Literal["written", "all"] = Field(
        default="written",
        description="What `/v1/models` lists once a role or alias is written: the written names, "
        "or discovered ones too.",
    )
    body_limit: Size = Field(
        default=20_000_000, description="Largest request body, but for forms with files."
    )
    media_limit: Size = Field(
        default=100_000_000,
        description="Largest form with files: speech to be written down, pictures to be changed.",
    )
    fetch_media: FetchMedia | None = Field(
        default=None,
        description="The gateway fetches what chats name by address for own engines, which get none.",
    )
    wait: Duration = Field(default=30.0, description="Longest wait for a free seat.")
    between_tokens: Duration = Field(default=30.0, description="Longest silence inside a running answer.")
    slow_reader: Duration = Field(
        default=60.0, description="How long a caller may take nothing of its answer."
    )
    header_read: Duration = Field(
        default=10.0, description="Longest time to send a request's head.", json_schema_extra=RESTART
    )
    keep_alive: KeepAlive = Field(default=KeepAlive(), description="Signs of life while a caller waits.")
    model_in_answers: Literal["upstream", "asked"] = Field(
        default="upstream",
        description="What `model` says in an answer: the engine's own value, or the name asked for.",
        json_schema_extra=LATER,
    )


class Best(Block):
    """Weights of the policy `best`; only their ratios count."""

    speed: float = Field(default=40, ge=0, description="Weight of the predicted time.")
    quality: float = Field(default=35, ge=0, description="Weight of the model's quality.")
    cost: float = Field(default=25, ge=0, description="Weight of the price.")


class Policy(Block):
    """How candidates are ordered. Exactly one of the first three, or a name."""

    name: Literal["least_busy", "spread", "split", "best", "fastest", "cheapest", "chain"] = Field(
        default="best", description="The policy's name; the short form is the name alone."
    )
    best: Best | None = Field(default=None, description="Policy `best` with its weights.")
    split: dict[str, float] | None = Field(default=None, description="Policy `split`: weight of each pool.")
    prefer: Literal["local"] | None = Field(default=None, description="`local`: own machines first.")
    only: Literal["local"] | None = Field(default=None, description="`local`: never a provider.")
    while_waking: Literal["elsewhere", "wait"] = Field(
        default="elsewhere",
        description="While the machine of choice is being switched on: `elsewhere`: whoever else may answer "
        "does; `wait`: the request waits for it.",
    )


def _policy(value: Any) -> Any:
    """`least_busy` -> {name: least_busy}; {split: {…}} and {best: {…}} name themselves."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "name" not in value:
        for name in ("split", "best"):
            if name in value:
                return {"name": name, **value}
    return value


PolicyRef = Annotated[Policy, BeforeValidator(_policy, json_schema_input_type=str | Policy)]


class Health(Block):
    """When a deployment is taken out, and how often engines are asked."""

    every: Duration = Field(default=5.0, gt=0, description="Pace of the probes.")
    fails: int = Field(default=3, ge=1, description="Failures in a row that open the breaker.")
    cool: Duration = Field(
        default=5.0, gt=0, description="How long it stays open the first time; doubles up to 300 s."
    )


Dialects = frozenset[Literal["anthropic", "ollama", "responses"]]
_DIALECTS: Final = (
    "Dialects that it speaks beside that of its kind: requests in them pass as they were written. Default: "
    "what is known of its version, or of the provider; `[]`: none, every request is translated."
)


class ModelEntry(Block):
    """One model of an engine or provider. `id` is what it calls the model; the rest is ours."""

    id: str = Field(default="", description="The engine's own name for it; default: `name`.")
    name: str = Field(default="", description="Our name for it; default: `id`.")
    aliases: Strings = Field(default=(), description="Other names for this model here.")
    context: int | None = Field(default=None, gt=0, description="Tokens that fit.")
    does: frozenset[Capability] | None = Field(default=None, description="What can be asked of it.")
    quality: float | None = Field(default=None, ge=0, le=1, description="0 to 1, for the policy `best`.")
    params: float | None = Field(default=None, gt=0, description="Parameters in billions.")
    size: Size | None = Field(
        default=None, description="Bytes of its weights, where the engine does not say."
    )
    price: Price | None = Field(
        default=None, description="What it costs; default: the known price of a provider's model."
    )
    dimensions: int | None = Field(default=None, gt=0, description="Length of its embeddings.")
    space: str | None = Field(
        default=None, description="Embeddings of one space may stand in for each other."
    )
    note: str = Field(default="", description="Free text.")


class Engine(Block):
    """One running server of a kind at one address."""

    kind: Literal[
        "openai",
        "ollama",
        "llamacpp",
        "vllm",
        "sglang",
        "lmstudio",
        "localai",
        "tabbyapi",
        "llamaswap",
        "lemonade",
        "tgi",
    ] = Field(description="What it is.")
    name: str = Field(
        default="", description="Default: its kind, or `kind-port` where a node has several of a kind."
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="Default: the kind's usual port.")
    url: str | None = Field(
        default=None, description="Full address; overrides the node's address and `port`."
    )
    key: SecretRef | None = Field(default=None, description="Key that the engine asks for.")
    ca: FilePath | None = Field(
        default=None, description="PEM file with the authority that signed its certificate."
    )
    slots: int | None = Field(
        default=None, ge=1, description="Requests it answers at once; default: asked of the engine."
    )
    max_loaded: int | None = Field(
        default=None, ge=1, description="Models it keeps in memory at once; default: asked of the engine."
    )
    preload: Strings = Field(
        default=(), description="Models that are loaded whenever the engine is up and they are not in memory."
    )
    pin: Strings = Field(
        default=(), description="Models that are never thrown out of memory to make room for others."
    )
    keep_alive: Keep | None = Field(
        default=None,
        description="How long the engine keeps a model in memory that we had it load, or `forever`; "
        "default: the engine's own time.",
    )
    memory: Size | None = Field(
        default=None, description="Memory for its models, such as that of its GPU; default: the node's."
    )
    bandwidth: Bandwidth | None = Field(
        default=None, description="What that memory delivers per second; default: the node's."
    )
    models: tuple[ModelEntry, ...] | None = Field(
        default=None, description="Its models; default: discovered."
    )
    health: Health | None = Field(default=None, description="Overrides the global `health`.")
    dialects: Dialects | None = Field(default=None, description=_DIALECTS)
    rules: Rules = Field(default=(), description=RULES)
    fetches_media: bool = Field(
        default=False,
        description="It gets addresses of pictures as callers write them, and fetches from inside your "
        "network whatever they name: only where the engine itself says what it may fetch.",
    )
    transport: Literal["auto", "general", "lean"] = Field(
        default="auto",
        description="Which HTTP client is used: `lean` for plain HTTP, `general` for everything else.",
    )


class Node(Block):
    """A machine."""

    address: Strings = Field(
        default=("127.0.0.1",), description="Name or address, or several of the same machine, tried in order."
    )
    power: Power = Field(
        default=Power.ALWAYS,
        description="`always`; `on_demand` (may be woken); `manual` (off is normal, never woken).",
    )
    wake: Wake | None = Field(default=None, description="How to switch it on, with `power: on_demand`.")
    memory: Size | None = Field(
        default=None, description="Memory for models: of its GPU, or of the machine where there is none."
    )
    bandwidth: Bandwidth | None = Field(
        default=None, description="What that memory delivers per second: the first guess at its speed."
    )
    energy: Energy | None = Field(default=None, description="Its draw.")
    planned: bool = Field(
        default=False, description="Not there yet: placeholders are allowed, nothing is probed."
    )
    maintenance: str | None = Field(default=None, description="Why it takes no new requests at the moment.")
    engines: tuple[Engine, ...] = Field(default=(), description="What runs on it.")


class Provider(Block):
    """An outside company with a bill."""

    kind: str = Field(
        default="", description="A known provider, or `openai` with a `url`; default: its name here."
    )
    url: str | None = Field(default=None, description="Base address up to and including `/v1`.")
    key: SecretRef | None = Field(default=None, description="Its key.")
    keys: tuple[SecretRef, ...] = Field(
        default=(), description="Several keys, each an account with its own quotas and state."
    )
    ca: FilePath | None = Field(default=None, description="PEM file with the authority to trust.")
    limits: tuple[Quota, ...] = Field(default=(), description="Quotas that the provider sets.")
    price: Price | None = Field(
        default=None, description="For its models of which neither the file nor the data has a price."
    )
    models: tuple[ModelEntry, ...] | None = Field(
        default=None, description="Its models that are used; default: discovered."
    )
    dialects: Dialects | None = Field(default=None, description=_DIALECTS)
    rules: Rules = Field(default=(), description=RULES)
    health: Health | None = Field(default=None, description="Overrides the global `health`.")


class StepEntry(Block):
    """One step of a chain. The short form is the pool alone."""

    pool: Strings = Field(
        min_length=1,
        description="An id, `node/model`, a bare model, a provider's model, or another role; "
        "or a list of them, taken together.",
    )
    policy: PolicyRef | None = Field(default=None, description="How candidates of this pool are ordered.")
    first_token: Duration | None = Field(
        default=None, gt=0, description="Limit from dispatch to the first content."
    )
    answer: Duration | None = Field(
        default=None, gt=0, description="Limit for answers that cannot be streamed."
    )
    tries: int | None = Field(default=None, ge=1, description="Attempts in this step; default 2.")
    on: Strings = Field(
        default=(),
        description="Failure classes that lead into this step; default: all that move on, "
        "which `next` stands for beside others.",
    )
    as_: str | None = Field(
        default=None, alias="as", description="A name that starts the chain at this step."
    )


def _step(value: Any) -> Any:
    if isinstance(value, str):
        return {"pool": value}
    if isinstance(value, dict) and "deployment" in value and "pool" not in value:
        return {"pool": value["deployment"], **{k: v for k, v in value.items() if k != "deployment"}}
    return value


class Role(Block):
    """A logical name that applications ask for."""

    use: tuple[Annotated[StepEntry, BeforeValidator(_step, json_schema_input_type=str | StepEntry)], ...] = (
        Field(
            min_length=1, description="Pools: one after the other with `policy: chain`, together otherwise."
        )
    )
    policy: PolicyRef | None = Field(default=None, description="Default: `routing`.")
    attempts: int | None = Field(
        default=None, ge=1, description="Attempts sent out per request; default: the global one."
    )
    health: Health | None = Field(
        default=None, description="Overrides the global `health` for its deployments."
    )
    deadline: Duration | None = Field(default=None, gt=0, description="Longest total time of an answer.")
    resume: Literal["exact", "text"] | None = Field(
        default=None,
        description="What becomes of a streamed answer that breaks off: `exact`: another llama.cpp server "
        "with the same weights goes on from the ids of the tokens; `text`: another deployment goes on from "
        "the text. Default: an error event.",
    )


class Settings(Block):
    """The whole file."""

    gateway: Gateway = Field(default=Gateway(), description="The gateway itself.")
    routing: PolicyRef = Field(
        default=Policy(name="best", best=Best(), prefer="local"),
        description="Policy of everything that names none.",
    )
    health: Health = Field(default=Health(), description="Probes and breaker.")
    attempts: int = Field(default=3, ge=1, description="Attempts sent out per request.")
    naming: str = Field(
        default="",
        description="Form of generated names, such as `{size}-{location}-{cost}-{model}`; empty: none.",
    )
    affinity: Affinity = Field(
        default=Affinity(), description="Conversations go where they went before, within reason."
    )
    nodes: dict[str, Node] = Field(default={}, description="The machines.")
    providers: dict[str, Provider] = Field(default={}, description="Outside companies.")
    roles: dict[str, Role] = Field(default={}, description="Names with a policy.")
    aliases: dict[str, str] = Field(default={}, description="Other names without behaviour.")
    limits: tuple[Limit, ...] = Field(default=(), description="Limits of ours, budgets among them.")
    ledger: Ledger = Field(default=Ledger(), description="The record of exchanges and their cost.")
    currency: Currency | None = Field(
        default=None, description="Amounts are shown in it, and may be written in it; default: USD."
    )
    energy: EnergyPrice | None = Field(default=None, description="The price of electricity.")
    cache: Cache | None = Field(
        default=None, description="Answers to equal requests are kept and given again."
    )
    notify: dict[str, Any] = Field(default={}, description="Where alerts go.", json_schema_extra=LATER)
    alerts: tuple[dict[str, Any], ...] = Field(
        default=(),
        description="What is told of, such as `{when: budget, at: 80%}`: in the log now, elsewhere later.",
    )
    include: Strings = Field(default=(), description="Further files merged under this one.")
