"""Prices, limits, budgets and the answer cache of a LiteLLM file in our form.

LiteLLM writes dollars for one token; we write dollars for a million, rounded up to the nano-dollar. Its
budgets have windows of any length, ours those of the calendar: where a length has none, the next longer
one is taken, which never lets more be spent. Whatever is changed or left out is told.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from fleetgate.litellm_config.cost_keys import OTHERS, TIER, TIERED, TOKENS
from fleetgate.litellm_config.native import duration
from fleetgate.litellm_config.prefixes import PREFIXES
from fleetgate.litellm_config.source import IGNORED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fleetgate.config.findings import Path
    from fleetgate.litellm_config.entries import Entry
    from fleetgate.litellm_config.source import Section, Source

Written = tuple[dict[str, Any], "Path"]
"""a limit in our form, and where it came from"""

_DEAREST: Final = 1_000.0
"""Dollars for one unit beyond which a price is a mistake."""
_LARGEST: Final = 1e9
"""Dollars beyond which a budget bounds nothing."""
_NANO: Final = Decimal("1e-9")

_LENGTH: Final = re.compile(r"([1-9][0-9]{0,8})\s*(s|m|h|d|w|mo)")
_SECONDS: Final[Mapping[str, int]] = MappingProxyType(
    {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400, "mo": 30 * 86_400}
)
_WINDOWS: Final = ((1, "second"), (60, "minute"), (3_600, "hour"), (86_400, "day"), (31 * 86_400, "month"))
_TTL: Final = ("ttl", "default_in_memory_ttl", "default_in_redis_ttl")
_MONTHS: Final = range(28 * 86_400, 31 * 86_400 + 1)


def price(entry: Entry) -> dict[str, Any]:
    """What an entry says its model costs; empty where it says nothing. `litellm_params` win."""
    held = entry.params.over(entry.info)
    tree: dict[str, Any] = {}
    tiers: dict[int, dict[str, Any]] = {}
    for key in held.held:
        tier = TIER.fullmatch(key)
        name = TOKENS.get(tier[1] if tier else key)
        if name is not None and (tier is None or name in TIERED):
            number = _cost(held, key)
            if number is not None:
                into = tree if tier is None else tiers.setdefault(int(tier[2]) * 1_000, {})
                into[name] = f"{_text(number * 1_000_000)} USD/Mtok"
        elif key in OTHERS:
            _other(held, key, entry, tree)
    if tiers and tree:
        tree["tiers"] = [{"above": above, **tiers[above]} for above in sorted(tiers)]
    return tree


def is_nothing(price: Mapping[str, Any]) -> bool:
    """Whether all that it states is zero."""
    return "tiers" not in price and all(str(one).startswith("0 ") for one in price.values())


def _other(held: Section, key: str, entry: Entry, tree: dict[str, Any]) -> None:
    name, unit, modes = OTHERS[key]
    number = _cost(held, key)
    if not number:
        return
    if entry.info.get("mode") not in modes:
        hint = f"it is used with mode: {' or '.join(sorted(modes))}"
        held.source.once(("price", key), "note", held.at(key), f"{key} has no effect", hint)
    elif name in tree:
        held.source.once(("price", key), "note", held.at(key), f"{key} has no effect", "one price is enough")
    else:
        tree[name] = f"{_text(number)} {unit}"


def _cost(held: Section, key: str) -> Decimal | None:
    number = held.number(key)
    if number is None or number <= _DEAREST:
        return None if number is None else Decimal(repr(number))
    held.source.once(held.at(key), "warning", held.at(key), "no price that can be meant", "it is left out")
    return None


def _text(number: Decimal) -> str:
    text = f"{number.quantize(_NANO, rounding=ROUND_CEILING):f}"
    return text.rstrip("0").rstrip(".")


_PER_KEY: Final = (
    ("rpm", "requests", "minute"),
    ("tpm", "tokens", "minute"),
    ("itpm", "input_tokens", "minute"),
    ("otpm", "output_tokens", "minute"),
    ("rpd", "requests", "day"),
    ("tpd", "tokens", "day"),
)
_CLOCK: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


def limits(found: list[Entry], ids: Mapping[Path, str], both: Section, root: Section) -> Iterator[Written]:
    """Everything that bounds something. Entries of one deployment with keys of their own add up."""
    usual = both.whole("default_max_parallel_requests")
    sums: dict[tuple[str, str, str], dict[str, float]] = {}
    origins: dict[tuple[str, str, str], Path] = {}
    for entry in found:
        deployment, params = ids[entry.path], entry.params
        bounds = [(key, measure, per, params.whole(key)) for key, measure, per in _PER_KEY]
        parallel = params.whole("max_parallel_requests") or usual
        for key, measure, per, ceiling in (*bounds, ("max_parallel_requests", "parallel", "", parallel)):
            if ceiling:
                reset = _reset(params) if per == "day" else ""
                mark = (deployment, measure, f"{per} {reset}".strip())
                by_key = sums.setdefault(mark, {})
                account = params.secret("api_key")
                by_key[account] = max(by_key.get(account, 0), ceiling)
                origins.setdefault(mark, params.at(key))
    for mark, by_key in sums.items():
        deployment, measure, window = mark
        per, _, reset = window.partition(" ")
        tree: dict[str, Any] = {"scope": {"deployment": deployment}, measure: int(sum(by_key.values()))}
        yield tree | ({"per": per} if per else {}) | ({"reset": reset} if reset else {}), origins[mark]
    general, settings = root.section("general_settings"), root.section("litellm_settings")
    if parallel := general.whole("global_max_parallel_requests"):
        yield {"scope": "global", "parallel": parallel}, general.at("global_max_parallel_requests")
    yield from _budgets(found, ids)
    yield from _provider_budgets(root.section("router_settings"), _names(found, ids))
    yield from _budget(settings, "global", _BUDGET, none=True)


def _reset(params: Section) -> str:
    """`daily_reset_time`, which is UTC. YAML 1.1 reads 12:30 as 750."""
    value, at = params.source.resolve(params.get("daily_reset_time"), params.at("daily_reset_time")), ""
    if value is None:
        return at
    whole = isinstance(value, int) and not isinstance(value, bool)
    text = f"{value // 60:02}:{value % 60:02}" if whole else str(value).strip()
    found = _CLOCK.fullmatch(text)
    if found:
        return f"{int(found[1]):02}:{found[2]} UTC"
    path = params.at("daily_reset_time")
    params.source.once(path, "warning", path, "no time of day", "midnight UTC is taken")
    return ""


def _budgets(found: list[Entry], ids: Mapping[Path, str]) -> Iterator[Written]:
    """Of deployments: each once, though several groups have it."""
    seen: set[str] = set()
    for entry in found:
        if ids[entry.path] not in seen:
            for written in _budget(entry.params, {"deployment": ids[entry.path]}, _BUDGET):
                seen.add(ids[entry.path])
                yield written


_BUDGET: Final = ("max_budget", "budget_duration")


def _names(found: list[Entry], ids: Mapping[Path, str]) -> dict[str, list[str]]:
    """LiteLLM's name of a provider -> ours, which are several where its keys differ."""
    names: dict[str, list[str]] = {}
    for entry in found:
        spot = entry.spot
        if not spot.host and spot.title:
            ours = ids[entry.path].removesuffix(f"/{spot.model}")
            titles = {title for title, prefix in PREFIXES.items() if prefix.provider == spot.title}
            for title in {spot.title, *titles}:
                names.setdefault(title, []).append(ours)
    return {title: list(dict.fromkeys(ours)) for title, ours in names.items()}


def _budget(section: Section, scope: Any, keys: tuple[str, str], *, none: bool = False) -> Iterator[Written]:
    """A budget as a limit. `keys`: of the amount and of its window; `none`: zero means that there is none."""
    source, (amount_key, window_key) = section.source, keys
    amount, at = section.number(amount_key), section.at(amount_key)
    if amount is None or (none and not amount):
        return
    if amount > _LARGEST:
        source.once(("large", at), "warning", at, "a budget so large bounds nothing", "it is left out")
        return
    per = _window(section.text(window_key), section.at(window_key), source)
    yield {"scope": scope, "money": f"{_text(Decimal(repr(amount)))} USD", "per": per}, at


def _window(text: str, at: Path, source: Source) -> str:
    """Our window for a length of time."""
    found = _LENGTH.fullmatch(text.lower())
    if not found:
        what = f"{text!r} is no length of time" if text else "a budget without a window"
        source.once(("window", at), "warning", at, what, "it is counted by the month")
        return "month"
    seconds = int(found[1]) * _SECONDS[found[2]]
    if seconds in _MONTHS:
        return "month"
    length, per = next(((one, name) for one, name in _WINDOWS if seconds <= one), _WINDOWS[-1])
    if length != seconds:
        longer = seconds > length
        hint = "which lets more be spent" if longer else "which is stricter"
        source.once(
            ("window", at), "warning", at, f"there are no windows of {text}", f"a {per} is taken, {hint}"
        )
    return per


def _provider_budgets(router: Section, names: Mapping[str, list[str]]) -> Iterator[Written]:
    """`provider_budget_config`; `names`: LiteLLM's name of a provider -> ours."""
    source, held = router.source, router.section("provider_budget_config")
    for title, (value, path) in held.held.items():
        ours = names.get(str(title), [])
        section = source.section(value, path)
        if not ours:
            source.say("warning", path, f"no model of {title} is in the list", "this budget is left out")
        elif len(ours) > 1:
            hint = f"write a limit of your own for {', '.join(ours)}; until then each has all of it"
            source.say("warning", path, f"{title} has several sets of keys", hint)
        amount = "budget_limit" if section.has("budget_limit") else "max_budget"
        window = "time_period" if section.has("time_period") else "budget_duration"
        for name in ours:
            yield from _budget(section, {"provider": name}, (amount, window))


def cache(settings: Section) -> dict[str, Any] | None:
    """`cache: true` with its parameters; None: nothing is kept."""
    if not settings.flag("cache"):
        return None
    source, params = settings.source, settings.section("cache_params")
    kind = params.get("type")
    if isinstance(kind, str) and kind.endswith("semantic"):
        message = f"a cache of the type {kind} has no effect"
        source.say("note", params.at("type"), message, "only answers to equal requests are kept here")
        return None
    if params.get("mode") == "default_off":
        message = "a cache that requests have to ask for is not yet in effect"
        source.say("note", params.at("mode"), message, "nothing is kept")
        return None
    tree: dict[str, Any] = {}
    seconds = next((found for key in _TTL if (found := params.number(key))), None)
    if seconds:
        tree["ttl"] = duration(seconds)
    source.say(
        "note", settings.at("cache"), "each key has a cache of its own", "in memory, or as shared_state says"
    )
    for key in params.held:
        if key not in {"type", "mode", *_TTL}:
            source.once(("cache", key), "note", params.at(key), f"{key} has no effect", IGNORED)
    return tree
