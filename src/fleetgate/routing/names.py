"""One table from names to routes. A name is looked up, never taken apart at its slashes.

Order: written names (aliases, roles, `as:` names), exact deployment ids, generated names (`naming`),
discovered pools (`node/model`, a bare model). A name that nobody wrote never shadows a written one. The
table is built when the configuration or the catalogue changes, and keeps direct references to the live
records.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fleetgate.errors import MOVING_ON, NEXT, FailureClass
from fleetgate.routing import policies
from fleetgate.routing.plan import TRIES, Route, Step, in_one_space
from fleetgate.routing.scoring import USUAL, Weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleetgate.config.schema import Policy, Role, Settings, StepEntry
    from fleetgate.live import Deployment

MAX_DEPTH: Final = 8
"""Roles inside roles, and aliases of aliases."""


class NameTable:
    """Names of one configuration and one catalogue."""

    def __init__(self, settings: Settings, deployments: Iterable[Deployment]) -> None:
        self._settings = settings
        self._by_id: dict[str, Deployment] = {}
        self._generated: defaultdict[str, list[Deployment]] = defaultdict(list)
        self._pools: defaultdict[str, list[Deployment]] = defaultdict(list)
        for deployment in deployments:
            self._by_id[deployment.id] = deployment
            for name in deployment.generated:
                self._generated[name].append(deployment)
            for name in names_of(deployment):
                if deployment not in self._pools[name]:
                    self._pools[name].append(deployment)
        self._routes: dict[str, Route] = {}
        self._entries = self._find_entries()

    def resolve(self, name: str) -> Route | None:
        """The route of a name, or None when nothing bears it."""
        route = self._routes.get(name)
        if route is None and (route := self._compile(name)) is not None:
            self._routes[name] = route
        return route

    def written(self) -> list[str]:
        """Names from the file: aliases, roles, and names of steps."""
        return sorted({*self._settings.aliases, *self._settings.roles, *self._entries})

    def discovered(self) -> list[str]:
        """Names of models: bare where that is unambiguous enough to ask for, the demonstration last."""
        names = {one.model.name for one in self._by_id.values()}
        return sorted(names, key=lambda name: (name.startswith("fleetgate-demo"), name))

    def generated(self) -> list[str]:
        """Names by `naming`, but for those that somebody wrote for something else."""
        return sorted(self._generated.keys() - self.written())

    def listed(self) -> list[str]:
        """What `/v1/models` shows: names of ours where there are any, else those of models."""
        ours = [*self.written(), *self.generated()]
        if ours and self._settings.gateway.catalogue != "all":
            return ours
        return list(dict.fromkeys([*ours, *self.discovered()]))

    def near(self, name: str) -> list[str]:
        """Up to three names that look like this one."""
        known = [*self.written(), *self._generated, *self._pools, *self._by_id]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        return list(dict.fromkeys(close))

    def pool(self, name: str) -> tuple[Deployment, ...]:
        """The deployments that a name stands for, an exact id first."""
        exact = self._by_id.get(name)
        if exact is not None:
            return (exact,)
        return tuple(self._generated.get(name) or self._pools.get(name) or ())

    def _kind(self, name: str) -> str:
        """What kind of name nobody wrote."""
        if name in self._by_id:
            return "deployment"
        return "generated" if name in self._generated else "pool"

    def _find_entries(self) -> dict[str, tuple[str, int]]:
        """`as:` names -> (role, position of the step in it)."""
        return {
            entry.as_: (role, position)
            for role, written in self._settings.roles.items()
            for position, entry in enumerate(written.use)
            if entry.as_
        }

    def _compile(self, name: str) -> Route | None:
        via: list[str] = []
        while name in self._settings.aliases and len(via) < MAX_DEPTH:
            via.append(name)
            name = self._settings.aliases[name]
        asked = via[0] if via else name
        origin = "alias" if via else ""
        role_name, position = self._entries.get(name, (name, 0))
        role = self._settings.roles.get(role_name)
        if role is not None:
            steps = in_one_space(self._steps_of_role(role, position, depth=0))
            route = Route(
                asked,
                origin or "role",
                steps,
                role.attempts or self._settings.attempts,
                role.deadline,
                role=role_name,
                resume=role.resume or "",
            )
        else:
            members = self.pool(name)
            if not members and not via:  # a written name exists, even while nobody has its model
                return None
            steps = in_one_space(self._split_by_place(Step(name, members), self._settings.routing))
            route = Route(
                asked,
                origin or self._kind(name),
                steps,
                self._settings.attempts,
                role=name,
            )
        return replace(route, via=(*via[1:], name)) if via else route

    def _steps_of_role(self, role: Role, position: int, depth: int) -> tuple[Step, ...]:
        policy = role.policy or self._settings.routing
        if policy.name == "chain":
            steps: list[Step] = []
            for entry in role.use[position:]:
                steps.extend(self._steps_of_entry(entry, policy, depth))
            return tuple(steps)
        pools = [name for entry in role.use for name in entry.pool]
        step = self._together(pools, policy, depth)
        if role.attempts is not None:  # written for one pool, they are meant for that pool
            step = replace(step, tries=role.attempts)
        return self._split_by_place(step, policy)

    def _together(self, pools: Sequence[str], policy: Policy, depth: int) -> Step:
        """All deployments of several pools as one step. A pool's weight is shared among its own."""
        members: dict[str, Deployment] = {}
        weights: dict[str, float] = {}
        unknown: list[str] = []
        for name in pools:
            found = self._members(name, depth)
            if not found:
                unknown.append(name)
            members.update((one.id, one) for one in found)
            for one in found if policy.split else ():
                share = (policy.split or {}).get(name, 0.0) / len(found)
                weights[one.id] = weights.get(one.id, 0.0) + share
        return Step(" + ".join(pools), tuple(members.values()), weights=weights, unknown=tuple(unknown))

    def _steps_of_entry(self, entry: StepEntry, chain: Policy, depth: int) -> tuple[Step, ...]:
        """One entry of a chain. A role inside brings its own steps; limits written here win."""
        on = _classes(entry.on)
        inner, position = None, 0
        if len(entry.pool) == 1:
            target = self._through_aliases(entry.pool[0])
            inner_name, position = self._entries.get(target, (target, 0))
            inner = self._settings.roles.get(inner_name)
        if inner is not None and depth < MAX_DEPTH:
            steps = self._steps_of_role(inner, position, depth + 1)
        else:
            policy = entry.policy or _inside_chain(self._settings.routing)
            steps = self._split_by_place(self._together(entry.pool, policy, depth), policy)
        return tuple(
            replace(
                step,
                first_token=entry.first_token or step.first_token,
                answer=entry.answer or step.answer,
                tries=entry.tries or step.tries or TRIES,
                on=on or step.on,
                only_local=step.only_local or chain.only == "local",
            )
            for step in steps
        )

    def _members(self, name: str, depth: int) -> tuple[Deployment, ...]:
        """All deployments behind a name; those of a role are taken together."""
        target = self._through_aliases(name)
        role_name, position = self._entries.get(target, (target, 0))
        role = self._settings.roles.get(role_name)
        if role is None or depth >= MAX_DEPTH:
            return self.pool(target)
        policy = role.policy or self._settings.routing
        found: dict[str, Deployment] = {}
        for pool in (pool for entry in role.use[position:] for pool in entry.pool):
            found.update((one.id, one) for one in self._members(pool, depth + 1))
        return tuple(one for one in found.values() if one.local or policy.only != "local")

    def _through_aliases(self, name: str) -> str:
        for _ in range(MAX_DEPTH):
            if name not in self._settings.aliases:
                break
            name = self._settings.aliases[name]
        return name

    def _split_by_place(self, step: Step, policy: Policy) -> tuple[Step, ...]:
        """Apply a policy: `prefer: local` makes two steps of a pool that has both kinds."""
        name = policy.name if policy.name in policies.NAMES else "best"
        best = policy.best
        step = replace(
            step,
            policy=name,
            best=USUAL if best is None else Weights(best.speed, best.quality, best.cost),
            only_local=policy.only == "local",
            wait_for_wake=policy.while_waking == "wait",
        )
        if policy.prefer != "local":
            return (step,)
        local = tuple(one for one in step.candidates if one.local)
        away = tuple(one for one in step.candidates if not one.local)
        if not local or not away:
            return (step,)
        return (
            replace(step, candidates=local, because="own machines first"),
            replace(step, candidates=away, because="providers after own machines", unknown=()),
        )


def _classes(words: Sequence[str]) -> frozenset[FailureClass] | None:
    """What leads into a step. `next` stands for all classes that move on, and for a step left empty."""
    if not words:
        return None
    found = {FailureClass(word) for word in words if word != NEXT}
    return frozenset(found | MOVING_ON | {FailureClass.NOTHING_AVAILABLE} if NEXT in words else found)


def _inside_chain(routing: Policy) -> Policy:
    """Inside a step of a chain the global policy orders, but the chain alone decides about places."""
    return routing.model_copy(update={"prefer": None})


def names_of(deployment: Deployment) -> Iterable[str]:
    """What a deployment answers to, beside its id."""
    model, engine = deployment.model, deployment.engine
    names = [model.name, *model.aliases, model.id]
    names += [name.removesuffix(":latest") for name in names if name.endswith(":latest")]
    for name in dict.fromkeys(names):
        yield name
        yield f"{engine.node.name}/{name}"
