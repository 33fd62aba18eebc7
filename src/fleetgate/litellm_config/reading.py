"""The whole conversion: reads what stands outside `model_list`, and puts the new tree together."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fleetgate.config.environment import MASTER_KEY
from fleetgate.config.findings import Document
from fleetgate.litellm_config import access, keys, machines, money
from fleetgate.litellm_config.entries import Entry, entries
from fleetgate.litellm_config.groups import Groups
from fleetgate.litellm_config.native import Native, duration
from fleetgate.litellm_config.source import NOT_YET, Section, Source

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from fleetgate.config.findings import Path

SHUFFLE: Final = "simple-shuffle"
STRATEGIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        SHUFFLE: "spread",
        "least-busy": "least_busy",
        "latency-based-routing": "fastest",
        "cost-based-routing": "cheapest",
        "usage-based-routing": "spread",
        "usage-based-routing-v2": "spread",
    }
)
BEST: Final = ("speed", "quality", "cost")
LATE: Final = 15.0
"""Seconds within which a machine that was switched on should be in use."""
_RETRY_KEYS: Final = ("num_retries", "retry_policy", "max_fallbacks", "model_group_retry_policy")


def convert(document: Document, environ: Mapping[str, str]) -> Document:
    """A LiteLLM document in our form. Never raises; what cannot be used is left out and told."""
    source = Source(document, environ)
    root = source.root()
    variables = _variables(root)
    source.environ = {**environ, **variables}
    settings, general = root.section("litellm_settings"), root.section("general_settings")
    router = root.section("router_settings")
    for section, known in (
        (root, keys.TOP),
        (settings, keys.SETTINGS),
        (router, keys.ROUTER),
        (general, keys.GENERAL),
    ):
        keys.check(section, known)
    # A key of `router_settings` wins over the same one in `litellm_settings`.
    both = router.over(settings.only(keys.SETTINGS.read))
    native = Native()
    native.came_from(("gateway",), root.at("model_list"))
    master = access.read(native, source, root)
    _health(native, both, general)
    kept = money.cache(settings)
    if kept is not None:
        native.put(("cache",), kept, settings.at("cache"))
    shuffle = _routing(native, router)
    _models(native, root, both, shuffle=shuffle)
    if native.tree.get("providers"):  # LiteLLM asks what has no price, so the file runs as it did
        native.put(("ledger", "unpriced"), "let_through")
    own = {MASTER_KEY: master} if master else {}
    return Document(native.tree, native.positions(document), tuple(source.findings), {**variables, **own})


def _variables(root: Section) -> dict[str, str]:
    """`environment_variables:`, which are set before anything else is read; scalars become texts."""
    held = root.section("environment_variables")
    texts: dict[str, str] = {}
    for name, (value, path) in held.held.items():
        resolved = root.source.resolve(value, path)
        if isinstance(resolved, str | int | float):
            texts[name] = str(resolved)
    return texts


def _health(native: Native, both: Section, general: Section) -> None:
    """`allowed_fails`, `cooldown_time`, and the pace of checks where they are on."""
    fails, cool = both.whole("allowed_fails"), both.number("cooldown_time")
    every = general.number("health_check_interval") if general.flag("background_health_checks") else None
    if fails is not None:  # LiteLLM cools when failures exceed the number
        native.put(("health", "fails"), fails + 1, both.at("allowed_fails"))
    if cool:
        native.put(("health", "cool"), duration(cool), both.at("cooldown_time"))
    if cool == 0 or both.flag("disable_cooldowns"):
        at = both.at("cooldown_time" if cool == 0 else "disable_cooldowns")
        both.source.once("no cooling", "note", at, "cooling cannot be switched off yet")
    if every:
        at = general.at("health_check_interval")
        native.put(("health", "every"), duration(every), at)
        if every > LATE:
            hint = "leave it out for a check every 5 s, which costs and loads nothing here"
            general.source.say("note", at, "machines that come or go are noticed this late", hint)


def _routing(native: Native, router: Section) -> bool:
    """`routing:`, always written, so that our own default never applies. True: weights count."""
    source, args = router.source, router.section("routing_strategy_args")
    best = {name: number for name in BEST if (number := args.number(name)) is not None}
    if best:
        at = router.at("routing_strategy_args")
        native.put(("routing",), {"best": best}, at)
        source.say("note", at, f"{', '.join(best)} weigh every choice here; LiteLLM ignores them")
        return False
    if args.held:
        source.say("note", router.at("routing_strategy_args"), "has no effect", keys.NO_EFFECT)
    strategy = router.text("routing_strategy")
    policy = STRATEGIES.get(strategy or SHUFFLE)
    if policy is None:
        at = router.at("routing_strategy")
        source.say("warning", at, f"strategy {strategy} is {NOT_YET}", "requests are spread evenly")
    native.put(("routing",), policy or "spread", router.at("routing_strategy") if strategy else None)
    return (strategy or SHUFFLE) == SHUFFLE


def _models(native: Native, root: Section, both: Section, *, shuffle: bool) -> None:
    """Machines, groups, aliases and limits."""
    source = root.source
    lost: dict[str, Path] = {}
    found = list(entries(root, both.section("default_litellm_params"), lost))
    members: dict[str, list[Entry]] = {}
    for entry in found:
        members.setdefault(entry.group, []).append(entry)
    aliases = _aliases(both, {*members, *lost})
    built = machines.build(found, {*members, *lost, *aliases}, native.tree.get("health", {}), source)
    native.origins |= built.origins
    for name, tree in (("nodes", built.nodes), ("providers", built.providers)):
        native.put((name,), tree, root.at("model_list"))
    groups = Groups(source, both, members, built.ids, aliases, lost=lost, shuffle=shuffle)
    _roles(native, root, both, groups)
    limits = [*money.limits(found, built.ids, both, root)]
    if limits:
        native.put(("limits",), [tree for tree, _ in limits], limits[0][1])
        for index, (_, origin) in enumerate(limits):
            native.came_from(("limits", index), origin)


def _roles(native: Native, root: Section, both: Section, groups: Groups) -> None:
    most, busiest = 0, ""
    for group in groups.names():
        tree, steps = groups.role(group)
        if not steps:
            message = f"group {group} has no usable entry and no fallback"
            root.source.say("warning", groups.origin(group), message, "nobody can ask for it")
            continue
        native.put(("roles", group), tree, groups.origin(group))
        for index, step in enumerate(steps):
            native.came_from(("roles", group, "use", index), step.at)
        if tree.get("attempts", 0) > most:
            most, busiest = tree["attempts"], group
    for alias, target in groups.aliases.items():
        if target in native.tree.get("roles", {}):
            native.put(("aliases", alias), target, (*both.at("model_group_alias"), alias))
    if most:
        at = next((both.at(key) for key in _RETRY_KEYS if both.has(key)), root.at("model_list"))
        message = f"retries as written: up to {most} attempts for one request, to {busiest}"
        root.source.say("note", at, message)


def _aliases(both: Section, groups: Collection[str]) -> dict[str, str]:
    """`model_group_alias`: alias -> group. An alias wins over a group of its name, as it does there."""
    source, found = both.source, dict[str, str]()
    for alias, (value, path) in both.section("model_group_alias").held.items():
        target = source.text(value, path) if not isinstance(value, dict) else ""
        if isinstance(value, dict):
            section = source.section(value, path)
            target = section.text("model")
            if section.flag("hidden"):
                source.once("hidden", "note", section.at("hidden"), f"hidden is {NOT_YET}", "it is listed")
        if target not in groups:
            message = f"no group is called {target or '(nothing)'}"
            source.say("warning", path, message, "this alias is left out")
        elif alias != target:
            if alias in groups:
                source.say("warning", path, f"a group is called {alias} too", "the alias wins, as in LiteLLM")
            found[alias] = target
    return found
