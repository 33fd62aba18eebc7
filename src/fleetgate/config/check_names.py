"""Checks of names: what roles, steps and aliases point at, and policies with their limits.

A name is looked up whole, as routing does it. Models that an engine or provider does not list may be
discovered later, so a name that could be one of those is a note and not an error. So is a name that
`naming` could make of one; those of listed models are known as far as their sizes are written.
"""

from __future__ import annotations

import difflib
import itertools
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fleetgate import units
from fleetgate.config import naming
from fleetgate.config.findings import Finding, Path, Positions, Severity, finding
from fleetgate.config.names import engine_names, model_name
from fleetgate.errors import NEXT, FailureClass

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Sequence

    from fleetgate.config.schema import ModelEntry, Policy, Role, Settings

_SLASHED = frozenset({"vllm", "openai", "sglang", "tgi", "lmstudio", "llamaswap"})
"""kinds whose models may well have a slash in their names"""
_STEP_LIMITS = ("first_token", "answer", "tries", "on", "as_")


@dataclass(frozen=True)
class Known:
    """Names that the file alone gives a meaning."""

    written: frozenset[str]
    """aliases, roles, names of steps"""
    pools: frozenset[str]
    """deployment ids, `node/model`, bare models"""
    places: frozenset[str]
    """nodes and providers"""
    open: frozenset[str]
    """those of them whose models are not all listed, and will be asked for"""
    planned: frozenset[str]
    """nodes that are not there yet"""
    slashed: bool
    """some open one may well have models with a slash in their names"""
    generated: frozenset[str] = frozenset()
    """names that `naming` may make of models that are listed"""
    likely: frozenset[str] = frozenset()
    """those of them that it makes unless engines tell something else"""
    shape: re.Pattern[str] | None = None
    """of all names that it makes"""
    lost: bool = False
    """`naming` cannot be read, so unknown names prove nothing"""


def known_names(settings: Settings) -> Known:
    """Everything that can be named."""
    pools: set[str] = set()
    unlisted: set[str] = set()
    slashed = False
    for name, node in settings.nodes.items():
        for engine, title in zip(node.engines, engine_names(node), strict=True):
            if engine.models is None and not node.planned:
                unlisted.add(name)
                slashed = slashed or engine.kind in _SLASHED
            pools |= _names_of(engine.models or (), f"{name}/{title}", name)
    for name, provider in settings.providers.items():
        if provider.models is None:
            unlisted.add(name)
            slashed = True
        pools |= _names_of(provider.models or (), name, name)
    entries = {step.as_ for role in settings.roles.values() for step in role.use if step.as_}
    written = {*settings.aliases, *settings.roles, *entries}
    places = frozenset({*settings.nodes, *settings.providers})
    planned = frozenset(name for name, node in settings.nodes.items() if node.planned)
    return Known(frozenset(written), frozenset(pools), places, frozenset(unlisted), planned, slashed)


def _names_of(models: Sequence[ModelEntry], prefix: str, place: str) -> set[str]:
    names: set[str] = set()
    for entry in models:
        names.add(f"{prefix}/{model_name(entry)}")
        for name in (entry.name, entry.id, *entry.aliases):
            if name:
                names |= {name, f"{place}/{name}"}
    return names


def _with_generated(known: Known, settings: Settings) -> Known:
    """The same with the names that a sound `naming` makes."""
    form, likely = naming.parts(settings.naming), set[str]()
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    for values in _fields(settings):
        names = [
            naming.fill(form, dict(zip(values, chosen, strict=True)))
            for chosen in itertools.product(*values.values())
        ]
        likely.add(names[0])
        for name in names:
            nodes[name].add(values["node"][0])
    own = {
        f"{name}-{node}" for name, places in nodes.items() if known.open or len(places) > 1 for node in places
    }
    shape = naming.shape(settings.naming)
    return replace(known, generated=frozenset(nodes.keys() | own), likely=frozenset(likely), shape=shape)


def _fields(settings: Settings) -> Iterator[dict[str, Sequence[str]]]:
    """What each field may say of each model that is listed, the likely value first."""
    for name, node in settings.nodes.items():
        for engine, title in zip(node.engines, engine_names(node), strict=True):
            for entry in engine.models or ():
                cloud = "cloud" in model_name(entry)  # so Ollama calls what it runs elsewhere
                yield {
                    **_fields_of(entry),
                    "location": (naming.LOCAL, naming.CLOUD) if cloud else (naming.LOCAL,),
                    "cost": (naming.FREE,) if entry.price is None else (naming.PAID, naming.FREE),
                    "engine": (title,),
                    "provider": (naming.LOCAL, naming.UNKNOWN) if cloud else (naming.LOCAL,),
                    "node": (name,),
                }
    for name, provider in settings.providers.items():
        for entry in provider.models or ():
            yield {
                **_fields_of(entry),
                "location": (naming.CLOUD,),
                "cost": (naming.PAID, naming.FREE),
                "engine": (name,),
                "provider": (name,),
                "node": (name,),
            }


def _fields_of(entry: ModelEntry) -> dict[str, Sequence[str]]:
    name = model_name(entry)
    if entry.params is not None:
        return {"model": (name,), "size": (naming.tier(entry.params),)}
    params = units.params_in_name(name) or units.params_in_name(entry.id)
    return {"model": (name,), "size": tuple(dict.fromkeys((naming.tier(params), *naming.SIZES)))}


def check(settings: Settings, positions: Positions) -> Iterator[Finding]:
    faults = list(_naming(settings.naming, positions))
    yield from faults
    try:
        known = known_names(settings)
        if any(one.severity == "error" for one in faults):
            known = replace(known, lost=True)
        elif settings.naming:
            known = _with_generated(known, settings)
    except ValueError:  # a url that cannot be read: its own finding comes from check_fleet
        return
    yield from _twice(settings, positions)
    yield from _aliases(settings, known, positions)
    yield from _policy(settings.routing, ("routing",), positions)
    for name, role in settings.roles.items():
        yield from _role(name, role, settings, known, positions)
    yield from _circles(settings, positions)


def _naming(form: str, positions: Positions) -> Iterator[Finding]:
    path: Path = ("naming",)
    if not form:
        return
    try:
        fields = [field for _, field in naming.parts(form) if field is not None]
    except ValueError as error:
        hint = "write it such as {size}-{location}-{cost}-{model}"
        yield finding("error", positions.at(path), path, f"it cannot be read: {error}", hint)
        return
    unknown = [field for field in fields if field not in naming.FIELDS]
    for field in unknown:
        near = difflib.get_close_matches(field, naming.FIELDS, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(naming.FIELDS)}"
        yield finding("error", positions.at(path), path, f"there is no field {field!r}", hint)
    if not unknown and "model" not in fields:
        message = "without {model} different models have one name, and any of them answers"
        yield finding("warning", positions.at(path), path, message, "add {model}")


def _twice(settings: Settings, positions: Positions) -> Iterator[Finding]:
    """One name with two meanings among the written ones."""
    taken: dict[str, str] = {}
    for name in settings.roles:
        taken[name] = "a role"
    for name in settings.aliases:
        path: Path = ("aliases", name)
        if name in taken:
            yield finding(
                "error", positions.key(path), path, f"{taken[name]} has this name too", "rename one of them"
            )
        taken[name] = "an alias"
    for role_name, role in settings.roles.items():
        for index, step in enumerate(role.use):
            if step.as_ is None:
                continue
            path = ("roles", role_name, "use", index, "as")
            if step.as_ in taken:
                message = f"{taken[step.as_]} is called {step.as_} too"
                yield finding("error", positions.at(path), path, message, "rename one of them")
            taken[step.as_] = "a step"


def _aliases(settings: Settings, known: Known, positions: Positions) -> Iterator[Finding]:
    for name, first in settings.aliases.items():
        path: Path = ("aliases", name)
        target = first
        trail = [name]
        while target in settings.aliases and target not in trail:
            trail.append(target)
            target = settings.aliases[target]
        if target in trail:
            message = f"aliases go round in a circle: {' -> '.join([*trail, target])}"
            yield finding(
                "error", positions.at(path), path, message, "let one of them name a role or a model"
            )
        elif len(trail) == 1:
            yield from _target(target, path, known, positions)


def _role(name: str, role: Role, settings: Settings, known: Known, positions: Positions) -> Iterator[Finding]:
    here: Path = ("roles", name)
    policy = role.policy or settings.routing
    if role.policy is not None:
        yield from _policy(role.policy, (*here, "policy"), positions)
    for index, step in enumerate(role.use):
        path: Path = (*here, "use", index)
        for place, pool in enumerate(step.pool):
            where = path if len(step.pool) == 1 else (*path, "pool", place)
            yield from _target(pool, where, known, positions)
        limits = [limit for limit in _STEP_LIMITS if getattr(step, limit)]
        if limits and policy.name != "chain":
            shown = limits[0].rstrip("_")
            message = f"{shown} is a limit of a step, and the pools of this role are asked together"
            yield finding(
                "error", positions.at((*path, shown)), (*path, shown), message, "write policy: chain"
            )
        if step.policy is not None:
            yield from _policy(step.policy, (*path, "policy"), positions)
            yield from _weights(step.policy, step.pool, (*path, "policy"), positions)
        for failure in step.on:
            if failure not in {*FailureClass, NEXT}:
                near = difflib.get_close_matches(failure, [*FailureClass], n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(FailureClass)}"
                where = (*path, "on")
                yield finding("error", positions.at(where), where, f"no failure is called {failure!r}", hint)
    if role.resume is not None:
        yield from _resume(role, settings, (*here, "resume"), positions)
    if role.policy is not None:
        pools = [pool for step in role.use for pool in step.pool]
        yield from _weights(role.policy, pools, (*here, "policy"), positions)


def _resume(role: Role, settings: Settings, path: Path, positions: Positions) -> Iterator[Finding]:
    """Where nobody could ever go on with an answer that breaks off."""
    kinds = [engine.kind for node in settings.nodes.values() for engine in node.engines]
    by_ids = [kind for kind in kinds if kind == "llamacpp"]
    few = len(by_ids) if role.resume == "exact" else len(kinds) + len(settings.providers)
    if few < 2:
        what = "two llama.cpp servers with the same file" if role.resume == "exact" else "two deployments"
        message = f"`resume: {role.resume}` needs {what}, and there are not so many"
        yield finding("warning", positions.at(path), path, message, "leave it out, or add one")


def _weights(policy: Policy, pools: Sequence[str], path: Path, positions: Positions) -> Iterator[Finding]:
    """Weights of a split that belong to none of its pools."""
    for pool in policy.split or {}:
        if policy.name == "split" and pool not in pools:
            where = (*path, "split", pool)
            hint = f"write one of {', '.join(sorted(set(pools)))}"
            message = f"{pool} is not among the {'step' if 'use' in path else 'role'}'s pools"
            yield finding("error", positions.key(where), where, message, hint)


def _policy(policy: Policy, path: Path, positions: Positions) -> Iterator[Finding]:
    best = policy.best
    if best is not None and not best.speed + best.quality + best.cost:
        yield finding("error", positions.at(path), path, "every weight is zero", "give one of them a weight")
    if policy.name == "split" and not policy.split:
        hint = "write split: {pool: weight, other-pool: weight}"
        yield finding("error", positions.at(path), path, "policy split has no weights", hint)
    if policy.split and any(weight < 0 for weight in policy.split.values()):
        yield finding("error", positions.at(path), path, "a weight below zero", "write 0 or more")
    if policy.split and not any(policy.split.values()):
        yield finding("error", positions.at(path), path, "every weight is zero", "give one of them a weight")


def _target(target: str, path: Path, known: Known, positions: Positions) -> Iterator[Finding]:
    """What a name that is used stands for."""
    if known.lost or target in known.written or target in known.pools:
        return
    if target in known.generated:
        return
    place = positions.at(path)
    head, slash, _ = target.partition("/")
    if head in known.places and slash:
        if head in known.open | known.planned:
            hint = f"it is used once {head} is found to have it"
            yield finding("note", place, path, f"{target} is not listed in the file", hint)
        else:
            yield finding("error", place, path, f"{head} has no such model: {target}", _near(target, known))
        return
    if known.shape is not None and (found := known.shape.fullmatch(target)):
        yield from _generated(target, found.groupdict().get("model", ""), path, known, positions)
        return
    near = difflib.get_close_matches(head, known.places, n=1, cutoff=0.6) if slash else []
    if near:
        hint = f"did you mean {near[0]}{target[len(head) :]}?"
        yield finding("error", place, path, f"no node or provider is called {head}", hint)
    elif slash and not known.slashed:
        yield finding("error", place, path, f"nothing is called {target}", _near(target, known))
    elif known.open:
        where = ", ".join(sorted(known.open))
        severity: Severity = "warning" if slash else "note"
        hint = f"it is used once one of {where} is found to have it"
        yield finding(severity, place, path, f"nothing in the file is called {target}", hint)
    else:  # a machine to come may have it, and nothing there is asked until then
        severity = "warning" if known.planned else "error"
        yield finding(severity, place, path, f"nothing is called {target}", _near(target, known))


def _generated(target: str, model: str, path: Path, known: Known, positions: Positions) -> Iterator[Finding]:
    """A name that looks like one that `naming` makes, and that it makes of no model of the file."""
    place = positions.at(path)
    if not known.open or model in known.pools:
        severity: Severity = "warning" if known.open or known.planned else "error"
        yield finding(severity, place, path, f"no generated name is {target}", _near(target, known))
    else:
        where = ", ".join(sorted(known.open))
        hint = f"it is used once one of {where} is found to have {model or 'such a model'}"
        yield finding("note", place, path, f"nothing in the file has the generated name {target}", hint)


def _near(target: str, known: Known) -> str:
    names = sorted(known.pools | known.written | known.likely)
    near = difflib.get_close_matches(target, names, n=2, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    models = sorted(known.pools)
    return f"known: {', '.join(models[:8])}" if models else "list models under nodes: or providers:"


def _circles(settings: Settings, positions: Positions) -> Iterator[Finding]:
    """Roles that use each other without end."""
    entries = {step.as_: name for name, role in settings.roles.items() for step in role.use if step.as_}
    for name in settings.roles:
        trail = _circle(name, settings, entries)
        # Each circle is told once, at the role that comes first.
        if trail and min(trail, key=list(settings.roles).index) == name:
            path: Path = ("roles", name)
            message = f"roles go round in a circle: {' -> '.join([*trail, name])}"
            yield finding("error", positions.key(path), path, message, "let one of them use a model")


def _circle(start: str, settings: Settings, entries: dict[str, str]) -> list[str]:
    """The roles on the way from a role back to itself; empty where there is none."""
    ways: list[list[str]] = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for pool in (pool for step in settings.roles[way[-1]].use for pool in step.pool):
            target, hops = pool, 0
            while target in settings.aliases and hops < len(settings.aliases):
                target, hops = settings.aliases[target], hops + 1
            target = entries.get(target, target)
            if target == start:
                return way
            if target in settings.roles and target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []
