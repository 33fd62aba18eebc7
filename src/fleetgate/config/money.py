"""The declaration of everything about limits, money and the answer cache."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fleetgate import units
from fleetgate.config.block import Block, Duration, Share, Size, Strings


def _amount(value: Any) -> units.Amount:
    return units.amount(value)


Money = Annotated[
    units.Amount,
    BeforeValidator(_amount, json_schema_input_type=str),
    Field(json_schema_extra={"unit": "money"}),
]
"""written `100 USD`, or in the currency of the file"""


def _electricity(value: Any) -> units.Amount:
    return units.electricity(value)


Electricity = Annotated[
    units.Amount,
    BeforeValidator(_electricity, json_schema_input_type=str),
    Field(json_schema_extra={"unit": "money"}),
]
"""written `0.30 EUR/kWh`, or without the unit"""


def _rate(unit: str, example: str) -> BeforeValidator:
    """Reads a price, and refuses one of something else."""

    def read(value: Any) -> units.Rate:
        found = units.rate(value)
        if found.unit != unit:
            raise ValueError(f"{value!r} is the price of something else; write one such as {example}")
        return found

    return BeforeValidator(read, json_schema_input_type=str)


_PRICED: Final = Field(json_schema_extra={"unit": "price"})
TokenRate = Annotated[units.Rate, _rate("token", "1.5 USD/Mtok"), _PRICED]
ImageRate = Annotated[units.Rate, _rate("image", "0.04 USD/image"), _PRICED]
AudioRate = Annotated[units.Rate, _rate("hour", "0.006 USD/min or 0.0001 USD/s"), _PRICED]
CharacterRate = Annotated[units.Rate, _rate("character", "15 USD/Mchar"), _PRICED]

_RESET: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?:\s+(\S+))?")


def _reset(text: str) -> str:
    found = _RESET.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a time of day; write HH:MM and a time zone, such as 00:00 UTC")
    if found[3]:
        units.zone(found[3])
    return text


def _zone(text: str) -> str:
    units.zone(text)
    return text


Zone = Annotated[str, AfterValidator(_zone)]
"""an IANA time zone, such as `Europe/Berlin`"""
Reset = Annotated[str, AfterValidator(_reset)]

MINUTES_OF_A_DAY: Final = 24 * 60
_HOURS: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]|24):([0-5][0-9])")


def minutes(text: str) -> tuple[int, int]:
    """`22:00-06:00` -> minutes of the day at which it begins and ends; it may pass midnight."""
    found = _HOURS.fullmatch(text)
    if found:
        begin, end = (int(found[at]) * 60 + int(found[at + 1]) for at in (1, 3))
        if end <= MINUTES_OF_A_DAY and begin != end:
            return begin, end
    raise ValueError(f"{text!r} is no time of day; write one such as 22:00-06:00")


def _hours(text: str) -> str:
    minutes(text)
    return text


Hours = Annotated[str, AfterValidator(_hours)]

UNITS: Final = ("second", "minute", "hour", "day", "month")
MEASURES: Final = ("requests", "input_tokens", "output_tokens", "tokens", "parallel", "money")
MOST_COUNTED: Final = 10**15
"""Of anything: sums of it fit into every database, and into JSON as all programs read it."""


def _per(text: str) -> str:
    if text not in UNITS and units.duration(text) <= 0:
        raise ValueError(f"{text!r} is no window; write {', '.join(UNITS)}, or a duration such as 5h")
    return text


class Measures(Block):
    """What is counted, over which window. One entry may bound several things; each is a limit of its own."""

    requests: int | None = Field(default=None, ge=0, le=MOST_COUNTED, description="Requests.")
    input_tokens: int | None = Field(default=None, ge=0, le=MOST_COUNTED, description="Tokens that go in.")
    output_tokens: int | None = Field(
        default=None, ge=0, le=MOST_COUNTED, description="Tokens that come out."
    )
    tokens: int | None = Field(default=None, ge=0, le=MOST_COUNTED, description="Tokens in and out together.")
    parallel: int | None = Field(
        default=None,
        ge=0,
        le=MOST_COUNTED,
        description="Requests at the same time; streams count to their end.",
    )
    money: Money | None = Field(default=None, description="Money.")
    per: Annotated[str, AfterValidator(_per)] | None = Field(
        default=None,
        description="The window: second, minute, hour, day, month, or a duration such as `5h`. "
        "Default: `month` for money, `minute` for the rest.",
    )
    window: Literal["rolling", "calendar"] | None = Field(
        default=None,
        description="`rolling`: any stretch of that length; `calendar`: from midnight, or the first of "
        "the month. Default: `calendar` for money, days and months, else `rolling`.",
    )
    zone: Zone | None = Field(default=None, description="Time zone of a calendar window; default UTC.")
    reset: Reset | None = Field(
        default=None, description="Time of day at which a calendar window begins, such as `00:00 UTC`."
    )
    burst: int | None = Field(
        default=None,
        ge=1,
        le=MOST_COUNTED,
        description="How much of a rolling limit may come at once; default: all of it.",
    )

    @model_validator(mode="after")
    def _bounds_something(self) -> Measures:
        if all(getattr(self, measure) is None for measure in MEASURES):
            raise ValueError("it bounds nothing; write requests, tokens, parallel or money")
        if self.window == "rolling" and (self.money is not None or self.per == "month"):
            raise ValueError("money and months have calendar windows; leave `window` out")
        calendar = self.window == "calendar" or self.money is not None or self.reset is not None
        if calendar and self.per is not None and self.per not in UNITS:
            raise ValueError(
                f"a calendar has no windows of {self.per}; write hour, day or month, or for what is not "
                "money `window: rolling` without a `reset`"
            )
        return self

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Measures:
        if self.reset is None:
            return self
        if self.window == "rolling":
            raise ValueError("a rolling window has no `reset`; leave one of them out")
        if self.per in {"second", "minute"}:
            raise ValueError(f"a {self.per} has no `reset`; that is for hours, days and months")
        zone = self.reset.partition(" ")[2].strip()
        if zone and self.zone and zone != self.zone:
            raise ValueError("`zone` and `reset` name different time zones; write it once")
        return self


def _scope(value: Any) -> Any:
    """`global` -> {}; a map of one or two scopes stays."""
    if value == "global":
        return {}
    if isinstance(value, str):
        raise ValueError(f"{value!r} is no scope; write global, or a map such as {{role: chat}}")  # noqa: TRY004
    return value


Scope = Annotated[
    dict[Literal["team", "user", "key", "role", "model", "deployment", "provider", "account", "node"], str],
    Field(max_length=2),
    BeforeValidator(_scope, json_schema_input_type=str | dict[str, str]),
]


class Limit(Measures):
    """A limit: for whom, what, over which time, and what happens when it is reached."""

    name: str = Field(default="", description="What it is called in refusals; default: made of the rest.")
    scope: Scope = Field(
        default={},
        description="`global`, or one or two of team, user, key, role, model, deployment, provider, account, "
        'node, such as `{key: ci, model: "openai/*"}`. `"*"`: each of them for itself.',
    )
    then: Literal["refuse", "local_only", "warn"] = Field(
        default="refuse",
        description="`refuse`; `local_only`: go on with own machines; `warn`: only say so.",
    )


class Quota(Measures):
    """A limit that a provider sets, counted by us."""

    per_key: bool = Field(default=False, description="For each key apart; default: for the provider.")
    models: Strings = Field(
        default=(), description="Each of these models apart (`*`: each model); default: all together."
    )
    spread: bool = Field(default=False, description="Spread it over its window instead of using it at once.")


class Tier(Block):
    """Prices of requests with more input than a number of tokens. What it leaves out stays as it is."""

    above: int = Field(ge=1, description="Tokens of input above which it applies, to the whole request.")
    input: TokenRate | None = Field(default=None, description="Input tokens.")
    output: TokenRate | None = Field(default=None, description="Output tokens.")
    cached_input: TokenRate | None = Field(default=None, description="Input tokens read from its cache.")
    cache_write: TokenRate | None = Field(default=None, description="Input tokens written to its cache.")


class Price(Block):
    """What a model costs. A file's price replaces the known one as a whole."""

    input: TokenRate | None = Field(default=None, description="Input tokens.")
    output: TokenRate | None = Field(default=None, description="Output tokens.")
    cached_input: TokenRate | None = Field(
        default=None, description="Input tokens read from its cache; default: as input."
    )
    cache_write: TokenRate | None = Field(
        default=None, description="Input tokens written to its cache; default: as input."
    )
    audio_input: TokenRate | None = Field(default=None, description="Audio tokens in; default: as input.")
    audio_output: TokenRate | None = Field(default=None, description="Audio tokens out; default: as output.")
    image: ImageRate | None = Field(default=None, description="One image.")
    second: AudioRate | None = Field(
        default=None, description="Audio by its length, such as `0.006 USD/min`."
    )
    character: CharacterRate | None = Field(default=None, description="One character of text to speak.")
    request: Money | None = Field(default=None, description="Each request, on top of the rest.")
    batch: Share | None = Field(
        default=None, le=1, description="What batch requests pay of it, such as `50%`."
    )
    tiers: tuple[Tier, ...] = Field(default=(), description="Other prices for long inputs.")
    ceiling: Money | None = Field(
        default=None,
        description="For a model without known prices: the most that one request is taken to cost. It is "
        "then charged as an estimate.",
    )

    @model_validator(mode="after")
    def _states_something(self) -> Price:
        stated = self.model_dump(exclude_none=True, exclude={"batch", "tiers"})
        if not stated:
            raise ValueError("it states no price; write input and output, another unit, or a ceiling")
        return self


class EnergyPrice(Block):
    """What a kilowatt-hour costs. It is shown beside the cost of answers and never part of a budget."""

    price: Electricity = Field(description="For one kilowatt-hour, such as `0.30 USD/kWh`.")
    hours: dict[Hours, Electricity] = Field(
        default={}, description="Other prices by time of day, such as `22:00-06:00: 0.20 USD/kWh`."
    )
    zone: Zone = Field(default="UTC", description="Time zone of these hours.")

    @model_validator(mode="after")
    def _hours_apart(self) -> EnergyPrice:
        seen: dict[int, str] = {}
        for text in self.hours:
            begin, end = minutes(text)
            for minute in range(begin, end if end > begin else end + MINUTES_OF_A_DAY):
                before = seen.setdefault(minute % MINUTES_OF_A_DAY, text)
                if before != text:
                    raise ValueError(
                        f"the hours {before} and {text} overlap; let one end where the other begins"
                    )
        return self


class Energy(Block):
    """What a machine draws."""

    idle: Annotated[float, BeforeValidator(units.power, json_schema_input_type=str)] = Field(
        default=0.0, description="Watts when it answers nothing, such as `60W`."
    )
    busy: Annotated[float, BeforeValidator(units.power, json_schema_input_type=str)] = Field(
        description="Watts when it answers, such as `450W`."
    )


class Currency(Block):
    """Your own currency, at a fixed rate."""

    code: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field(description="Such as `EUR`.")
    rate: Money = Field(description="What one of it is worth, such as `1.08 USD`.")

    @model_validator(mode="after")
    def _is_worth_dollars(self) -> Currency:
        if self.rate.currency != "USD" or not self.rate.nano:
            raise ValueError("the rate says what one of it is worth in dollars; write one such as 1.08 USD")
        if self.code == "USD" and self.rate.nano != units.NANO_PER_USD:
            raise ValueError("a dollar is worth 1 USD; leave `currency` out")
        return self


class Cache(Block):
    """Answers to equal requests are kept and given again."""

    ttl: Duration = Field(default=3_600.0, gt=0, description="How long an answer is kept.")
    share: bool = Field(default=False, description="One cache for all keys; default: each key its own.")
    size: Size = Field(default=64 * 1024 * 1024, gt=0, description="Most bytes of answers kept in memory.")
    largest: Size = Field(default=1024 * 1024, gt=0, description="Largest answer that is kept.")
    names: Strings = Field(default=(), description="Names whose answers are kept, wildcards; default: all.")


class Ledger(Block):
    """How long the record is kept."""

    keep: Duration = Field(
        default=400 * 86_400.0, gt=0, description="Age at which single entries are deleted; sums stay."
    )
    keep_audit: Duration = Field(
        default=3 * 366 * 86_400.0, gt=0, description="Age at which lines of the audit trail are deleted."
    )
    unpriced: Literal["refuse", "let_through"] = Field(
        default="refuse",
        description="A provider's models whose price nobody knows: refuse them, or ask them all the same; "
        "their cost then shows as unknown and no budget holds it.",
    )
    on_disconnect: Literal["cancel", "read_on"] = Field(
        default="cancel",
        description="When a caller leaves a paid answer: cancel it and charge an estimate, or read it to "
        "its end, a minute at most, and charge what it cost.",
    )
