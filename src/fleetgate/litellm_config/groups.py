"""Groups of a LiteLLM file as steps: levels, retries by class, and the three kinds of fallbacks.

The steps of a group, in order: its own (one per `order` level; a retry policy adds one per class), the
targets of its context and content fallbacks with their class in `on:`, then its fallbacks, each with its
own steps and fallbacks, as deep as `max_fallbacks` says and never twice.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from fleetgate.errors import MOVING_ON, NEXT, FailureClass
from fleetgate.litellm_config.native import duration
from fleetgate.litellm_config.source import NOT_YET, Section, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fleetgate.config.findings import Path
    from fleetgate.litellm_config.entries import Entry

F = FailureClass
RETRIES: Final = 2
"""LiteLLM's own number where none is written"""
ATTEMPTS: Final = 3
MAX_FALLBACKS: Final = 5
CLASSES: Final[Mapping[str, frozenset[FailureClass]]] = MappingProxyType(
    {
        "RateLimitErrorRetries": frozenset({F.RATE_LIMITED, F.QUOTA_EXHAUSTED, F.LIMIT_REACHED}),
        "AuthenticationErrorRetries": frozenset({F.KEY_INVALID, F.KEY_UNFUNDED}),
        "NotFoundErrorRetries": frozenset({F.MODEL_MISSING}),
        "TimeoutErrorRetries": frozenset({F.FIRST_TOKEN_TIMEOUT}),
        "ContentPolicyViolationErrorRetries": frozenset({F.REFUSED_CONTENT}),
        "InternalServerErrorRetries": frozenset({F.SERVER_ERROR, F.GARBAGE}),
        "ServiceUnavailableErrorRetries": frozenset({F.FULL, F.LOADING}),
        "BadRequestErrorRetries": frozenset(),
    }
)
"""A retry policy's keys; `bad_request` always stops, so that one has no effect."""
OTHERS: Final = "DefaultRetries"
_WEIGHTS: Final = ("weight", "rpm", "tpm")


@dataclass(frozen=True)
class Step:
    """One step before it is written."""

    pool: tuple[str, ...]
    at: Path
    group: str
    split: Mapping[str, float] | None = None
    first_token: float | None = None
    answer: float | None = None
    tries: int = RETRIES + 1
    on: frozenset[str] = frozenset()
    """words of `on:`; empty: every class that moves on"""


@dataclass(frozen=True)
class Fallbacks:
    """One of the three maps: group -> targets with their paths. `written`: the file has this map."""

    targets: Mapping[str, list[tuple[str, Path]]]
    written: bool

    def of(self, group: str) -> list[tuple[str, Path]]:
        """Exact name, name without provider prefix, `*`."""
        names = (group, group.partition("/")[2], "*")
        return next((self.targets[name] for name in names if name in self.targets), [])


@dataclass
class Groups:
    """All groups of a file, and what they become."""

    source: Source
    router: Section
    """`router_settings` over the same keys of `litellm_settings`"""
    members: dict[str, list[Entry]]
    ids: Mapping[Path, str]
    aliases: dict[str, str]
    lost: Mapping[str, Path] = field(kw_only=True)
    """groups with entries that cannot be used, perhaps all of them"""
    shuffle: bool = field(kw_only=True)
    """the strategy is the one that goes by weights"""
    fallbacks: Fallbacks = field(init=False)
    context: Fallbacks = field(init=False)
    content: Fallbacks = field(init=False)

    def __post_init__(self) -> None:
        for group in self.lost:
            self.members.setdefault(group, [])
        self.fallbacks = self._map("fallbacks")
        default = [
            (name, path)
            for value, path in self.router.items("default_fallbacks")
            if (name := self.source.text(value, path))
        ]
        if default:
            self.fallbacks = Fallbacks({"*": default, **self.fallbacks.targets}, written=True)
        self.context = self._map("context_window_fallbacks")
        self.content = self._map("content_policy_fallbacks")
        # An alias with fallbacks of its own is a group of its own over the same deployments.
        written = {*self.fallbacks.targets, *self.context.targets, *self.content.targets}
        for alias in [alias for alias in self.aliases if alias in written]:
            self.members[alias] = self.members[self.aliases.pop(alias)]

    # -- reading -----------------------------------------------------------------------------------

    def _map(self, key: str) -> Fallbacks:
        """A list of maps with one group each. More in one map, or one map alone, is taken as meant."""
        found: dict[str, list[tuple[str, Path]]] = {}
        for value, path in self.router.items(key):
            held = self.source.section(value, path)
            for group in held.held:
                targets = [self._target(one, at) for one, at in held.items(group)]
                found.setdefault(group, []).extend(target for target in targets if target[0])
                if group not in self._bases() and group not in self.members and not self._entries(group):
                    hint = "its fallbacks are never used"
                    self.source.say("warning", held.at(group), f"no group is called {group}", hint)
        return Fallbacks(found, written=self.router.has(key))

    def _bases(self) -> set[str]:
        """What a map may name besides groups: a group without its provider prefix, or all of them."""
        return {"*", *(group.partition("/")[2] for group in self.members)}

    def _target(self, value: Any, path: Path) -> tuple[str, Path]:
        if isinstance(value, dict):
            target = self.source.section(value, path)
            if len(value) > 1:
                message = f"parameters of a fallback are {NOT_YET}"
                self.source.once("fallback parameters", "note", path, message, "its model is used alone")
            return target.text("model"), path
        return self.source.text(value, path), path

    def _entries(self, name: str) -> list[Entry]:
        """What a target names: a group, an alias, an id, or a deployment by its upstream name."""
        name = self.aliases.get(name, name)
        every = [entry for entries in self.members.values() for entry in entries]
        return (
            self.members.get(name)
            or [entry for entry in every if entry.info.get("id") == name]
            or [entry for entry in every if entry.upstream == name]
        )

    # -- steps ---------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Groups that become roles: all but those whose name is an alias."""
        return [group for group in self.members if group not in self.aliases]

    def origin(self, group: str) -> Path:
        """Where a group's name is first written."""
        entries = self.members[group]
        return (*entries[0].path, "model_name") if entries else self.lost.get(group, ())

    def role(self, group: str) -> tuple[dict[str, Any], list[Step]]:
        """A group as a role of our form, with the steps it was made of; there may be none."""
        steps = self._numbered(list(self._steps(group, frozenset(), 0, {group})))
        tree: dict[str, Any] = {"policy": "chain", "use": [_written(step) for step in steps]}
        if self._retries_written({step.group for step in steps}):
            tree["attempts"] = sum(step.tries for step in steps)
        return tree, steps

    def _steps(self, group: str, lead: frozenset[str], depth: int, seen: set[str]) -> Iterator[Step]:
        """The whole chain that begins with a group; `lead`: what leads into its first step."""
        inside = lead - {F.REFUSED_CONTENT.value}
        for index, step in enumerate(self._own(group)):
            on = lead if index == 0 else inside
            yield step if step.on else replace(step, on=frozenset() if on == {NEXT} else on)
        if depth == 0:
            yield from self._for_class(group, self.context, F.CONTEXT_TOO_LONG)
            yield from self._for_class(group, self.content, F.REFUSED_CONTENT)
        limit = self.router.whole("max_fallbacks")
        if depth >= (MAX_FALLBACKS if limit is None else limit):
            return
        for target in self._targets(group, self.fallbacks, seen):
            yield from self._steps(target, self._leading_on(), depth + 1, seen)

    def _for_class(self, group: str, fallbacks: Fallbacks, failure: FailureClass) -> Iterator[Step]:
        """Targets that only one class leads into, and what that class leads to from there."""
        seen, waiting = {group}, [group]
        while waiting:
            for target in self._targets(waiting.pop(0), fallbacks, seen):
                waiting.append(target)
                for step in self._levels(target):
                    yield replace(step, on=frozenset({failure.value}))

    def _targets(self, group: str, fallbacks: Fallbacks, seen: set[str]) -> Iterator[str]:
        """The targets of a group that exist, may follow it and are not on the way yet."""
        for name, path in fallbacks.of(group):
            target = self._found(name, path)
            if target is not None and target not in seen and self._may_follow(group, target, path):
                seen.add(target)
                yield target

    def _found(self, name: str, path: Path) -> str | None:
        """The group of a target. One that is no group becomes a group of its own."""
        real = self.aliases.get(name, name)
        if real in self.members:
            return real
        found = self._entries(name)
        if not found:
            hint = "this fallback is left out"
            self.source.once(path, "warning", path, f"nothing is called {name}", hint)
            return None
        self.members.setdefault(name, found)
        return name

    def _may_follow(self, group: str, target: str, path: Path) -> bool:
        """Embeddings never move to another model: their vectors would not be comparable."""
        ours = {entry.spot.model for entry in self.members[group] if entry.embeds}
        theirs = {entry.spot.model for entry in self.members[target]}
        if not ours or ours & theirs:
            return True
        message = f"embeddings of {group} cannot come from {target}, which is another model"
        self.source.once(path, "warning", path, message, "this fallback is left out")
        return False

    def _leading_on(self) -> frozenset[str]:
        """Classes that lead into plain fallbacks: those with a map of their own do not."""
        classes = {NEXT}
        if self.context.written:
            classes = {one.value for one in MOVING_ON - {F.CONTEXT_TOO_LONG}} | {F.NOTHING_AVAILABLE.value}
        if not self.content.written:
            classes.add(F.REFUSED_CONTENT.value)
        return frozenset(classes)

    def _own(self, group: str) -> Iterator[Step]:
        """The steps over a group's own deployments, retry policy included."""
        policy = self.router.section("model_group_retry_policy").section(group)
        policy = policy if policy.held else self.router.section("retry_policy")
        for level in self._levels(group):
            yield from self._by_class(level, policy) if policy.held else (level,)

    def _by_class(self, level: Step, policy: Section) -> Iterator[Step]:
        named: set[FailureClass] = set()
        yield replace(level, tries=1)
        for key in policy.held:
            if key not in CLASSES and key != OTHERS:
                hint = f"known: {', '.join([*CLASSES, OTHERS])}"
                self.source.once(policy.at(key), "warning", policy.at(key), f"unknown key {key}", hint)
            tries = policy.whole(key)
            if tries is None or not CLASSES.get(key):
                continue
            named |= CLASSES[key]
            if tries:
                yield replace(level, tries=tries, on=frozenset(one.value for one in CLASSES[key]))
        others = policy.whole(OTHERS)
        others = level.tries - 1 if others is None else others
        if others:
            rest = MOVING_ON - named if named else ()
            yield replace(level, tries=others, on=frozenset(one.value for one in rest))

    def _levels(self, group: str) -> Iterator[Step]:
        """One step per `order` level; entries without one come last."""
        levels: defaultdict[float, list[Entry]] = defaultdict(list)
        for entry in self.members[group]:
            order = entry.params.number("order")
            levels[float("inf") if order is None else order].append(entry)
        weigh = self._weigh(self.members[group])
        for order in sorted(levels):
            entries = levels[order]
            split: dict[str, float] = defaultdict(float)
            for entry in entries:
                split[self.ids[entry.path]] += (entry.params.number(weigh) or 0.0) if weigh else 0.0
            first = [self._limit(entry, ("stream_timeout", "timeout")) for entry in entries]
            answer = [self._limit(entry, ("timeout",)) for entry in entries]
            embeds = any(entry.embeds for entry in entries)
            yield Step(
                pool=tuple(split),
                at=entries[0].path,
                group=group,
                split=dict(split) if len(split) > 1 and any(split.values()) else None,
                first_token=None if embeds else _longest(first),
                answer=_longest(answer),
                tries=max(self._retries(entry) for entry in entries) + 1,
            )

    def _weigh(self, entries: list[Entry]) -> str:
        """The key that shares requests out, judged over the whole group; empty where none does."""
        if not self.shuffle:
            return ""
        return next(
            (key for key in _WEIGHTS if any(entry.params.number(key) for entry in entries)),
            "",
        )

    # -- numbers -------------------------------------------------------------------------------------

    def _limit(self, entry: Entry, names: Iterable[str]) -> float | None:
        """A time limit: of the deployment, else of the router, else `request_timeout`."""
        for section in (entry.params, self.router):
            for name in names:
                seconds = section.number(name)
                if seconds:
                    return seconds
        return self.router.number("request_timeout") or None

    def _retries(self, entry: Entry) -> int:
        for section in (entry.params, self.router):
            number = section.whole("num_retries")
            if number is not None:
                return number
        return RETRIES

    def _retries_written(self, groups: set[str]) -> bool:
        everywhere = ("num_retries", "retry_policy", "max_fallbacks")
        if any(self.router.has(key) for key in everywhere):
            return True
        by_group = self.router.section("model_group_retry_policy")
        return any(
            by_group.has(group) or any(entry.params.has("num_retries") for entry in self.members[group])
            for group in groups
        )

    def _numbered(self, steps: list[Step]) -> list[Step]:
        """Where the file writes no retries, three attempts are shared so that every fallback is reached."""
        if self._retries_written({step.group for step in steps}):
            return steps
        general = [index for index, step in enumerate(steps) if not _one_class(step)]
        return [
            replace(step, tries=max(1, ATTEMPTS - sum(later > index for later in general)))
            for index, step in enumerate(steps)
        ]


def _one_class(step: Step) -> bool:
    return bool(step.on) and step.on <= {F.CONTEXT_TOO_LONG.value, F.REFUSED_CONTENT.value}


def _longest(seconds: Iterable[float | None]) -> float | None:
    """Of several limits in one step the longest; none where one has none."""
    found = list(seconds)
    return None if None in found else max(one for one in found if one is not None)


def _written(step: Step) -> dict[str, Any]:
    """A step as our form writes it."""
    tree: dict[str, Any] = {"pool": step.pool[0] if len(step.pool) == 1 else list(step.pool)}
    if step.split:
        tree["policy"] = {"split": dict(step.split)}
    if step.first_token:
        tree["first_token"] = duration(step.first_token)
    if step.answer:
        tree["answer"] = duration(step.answer)
    tree["tries"] = step.tries
    if step.on:
        # `next` and the few beside it read best in this order; the classes alone in the table's.
        tree["on"] = sorted(step.on, key=lambda word: (word != NEXT, word))
    return tree
