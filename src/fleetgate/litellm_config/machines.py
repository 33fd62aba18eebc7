"""From entries to machines: nodes with engines and providers, their names, and the ids of deployments.

Entries that name the same engine and model are one deployment, however many groups it is in. Names are
chosen from what the file says, in its order, and so that no deployment is called like a group or alias:
written names win, and a step that names the deployment would then find the group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from fleetgate.config.providers import PROVIDERS
from fleetgate.litellm_config import clouds, money
from fleetgate.litellm_config.native import duration
from fleetgate.litellm_config.prefixes import NO_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from fleetgate.config.findings import Path
    from fleetgate.litellm_config.entries import Entry, Spot
    from fleetgate.litellm_config.source import Source

MODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "embedding": "embed",
        "image_generation": "image",
        "audio_transcription": "transcribe",
        "image_edit": "edit",
        "moderation": "moderate",
        "audio_speech": "speak",
        "rerank": "rerank",
    }
)
"""Modes that say what a model can do. Of `chat` the engine itself knows more."""
_UNTELLING: Final = frozenset({"host", "www", "api", "llm"})
"""First parts of a host's name that name nothing."""

Place = tuple[str, int, str]
"""host, port and url of an engine"""


@dataclass
class Machines:
    """`nodes:` and `providers:` in our form, where each came from, and the id of each entry's deployment."""

    nodes: dict[str, Any] = field(default_factory=dict)
    providers: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Path] = field(default_factory=dict)
    """a path of the new tree -> the path in the LiteLLM file"""
    ids: dict[Path, str] = field(default_factory=dict)
    """path of an entry -> deployment id"""


def build(
    entries: list[Entry], written: Collection[str], health: Mapping[str, Any], source: Source
) -> Machines:
    """`written`: names of groups and aliases. `health`: the global values, which an engine's own extend."""
    machines = Machines()
    builder = _Builder(machines, frozenset(written), health, _spaces(entries), source)
    builder.providers([entry for entry in entries if not entry.spot.host])
    builder.nodes([entry for entry in entries if entry.spot.host])
    return machines


@dataclass
class _Builder:
    machines: Machines
    written: frozenset[str]
    health: Mapping[str, Any]
    spaces: frozenset[Spot]
    source: Source
    taken: set[str] = field(default_factory=set)
    """names of nodes and providers"""

    def providers(self, entries: list[Entry]) -> None:
        for members in _by_account(entries):
            spot = members[0].spot
            models = _models(members)
            name = self._free(spot.title or spot.kind, [f"/{model}" for model in models])
            tree: dict[str, Any] = {}
            if spot.url:
                tree |= {"kind": spot.kind, "url": spot.url}
            elif name != spot.kind:
                tree["kind"] = spot.kind
            here: Path = ("providers", name)
            self._keys(tree, members, here)
            tree |= self._health(members)
            self.machines.origins[here] = (*members[0].path, "litellm_params")
            self._add_models(tree, models, here)
            self.machines.providers[name] = tree
            for entry in members:
                self.machines.ids[entry.path] = f"{name}/{entry.spot.model}"

    def nodes(self, entries: list[Entry]) -> None:
        hosts: defaultdict[str, dict[Place, list[Entry]]] = defaultdict(dict)
        for entry in entries:
            spot = entry.spot
            hosts[spot.host].setdefault((spot.host, spot.port, spot.url), []).append(entry)
        labels = Counter(_label(host) for host in hosts)
        for host, engines in hosts.items():
            titles = _titles(engines)
            tails = [
                f"/{title}/{entry.spot.model}"
                for title, members in zip(titles, engines.values(), strict=True)
                for entry in members
            ]
            label = _label(host)
            name = self._free(label if labels[label] == 1 else host, tails)
            listed = [
                self._engine(members, title, ("nodes", name, "engines", index), name)
                for index, (title, members) in enumerate(zip(titles, engines.values(), strict=True))
            ]
            first = next(iter(engines.values()))[0]
            self.machines.origins["nodes", name] = (
                first.params.at("api_base") if first.params.has("api_base") else first.path
            )
            self.machines.nodes[name] = {"address": host, "power": "manual", "engines": listed}

    def _engine(self, members: list[Entry], title: str, here: Path, node: str) -> dict[str, Any]:
        spot = members[0].spot
        tree: dict[str, Any] = {"name": title, "kind": _kind(members)}
        tree |= {"url": spot.url} if spot.url else {"port": spot.port}
        self.machines.origins[here] = members[0].params.at("api_base")
        self._keys(tree, members, here)
        tree |= self._health(members)
        self._add_models(tree, _models(members), here)
        for entry in members:
            self.machines.ids[entry.path] = f"{node}/{title}/{entry.spot.model}"
        return tree

    def _add_models(self, tree: dict[str, Any], models: Mapping[str, list[Entry]], here: Path) -> None:
        tree["models"] = []
        for index, (model, same) in enumerate(models.items()):
            self.machines.origins[*here, "models", index] = same[0].params.at("model")
            written = _model(model, same, shared=same[0].spot in self.spaces)
            price = next(filter(None, map(money.price, same)), {})
            if price and not (same[0].spot.host and money.is_nothing(price)):  # own machines are free anyway
                written["price"] = price
            tree["models"].append(written)

    def _keys(self, tree: dict[str, Any], members: list[Entry], here: Path) -> None:
        """`key:`, or `keys:` where entries differ in it. A provider without one has its usual variable."""
        found = {key: entry for entry in members for key in [_key(entry)] if key}
        own = bool(members[0].spot.host)
        if own and len(found) > 1:
            other = list(found.values())[1]
            hint = "an engine has one key: the first one is used"
            self.source.say("warning", other.params.at("api_key"), "another key for the same engine", hint)
        listed = list(found)[:1] if own else list(found)
        if len(listed) > 1:
            tree["keys"] = listed
            for index, key in enumerate(listed):
                self.machines.origins[*here, "keys", index] = found[key].params.at("api_key")
        elif listed:
            tree["key"] = listed[0]
            at = found[listed[0]].params
            self.machines.origins[*here, "key"] = at.at("api_key") if at.has("api_key") else at.at("model")

    def _health(self, members: list[Entry]) -> dict[str, Any]:
        """The longest written cooling time. An engine's block replaces the global one, so that is in it."""
        written = [entry.params.number("cooldown_time") for entry in members]
        longest = max((seconds for seconds in written if seconds), default=0.0)
        if not longest:
            for entry, seconds in zip(members, written, strict=True):
                if seconds == 0:
                    path = entry.params.at("cooldown_time")
                    self.source.once("no cooling", "note", path, "cooling cannot be switched off yet")
            return {}
        return {"health": {**self.health, "cool": duration(longest)}}

    def _free(self, wanted: str, tails: list[str]) -> str:
        """A name that nothing else bears, with which no deployment is called like a group."""
        name, number = wanted, 1
        while name in self.taken or any(f"{name}{tail}" in self.written for tail in tails):
            number += 1
            name = f"{wanted}-{number}"
        self.taken.add(name)
        return name


def _by_account(entries: list[Entry]) -> list[list[Entry]]:
    """Entries of one provider and one set of keys. Keys stand beside each other within one group and model.

    Other keys of the same provider are for other models, so they become a provider of their own: a key
    must never be used for a model that it was not written for.
    """
    keys: defaultdict[tuple[Spot, str], set[str]] = defaultdict(set)
    for entry in entries:
        keys[entry.spot, entry.group].add(_key(entry))
    found: list[tuple[tuple[str, str], set[str], list[Entry]]] = []
    for entry in entries:
        place = (entry.spot.kind, entry.spot.url)
        mine = set(keys[entry.spot, entry.group])
        touching = [one for one in found if one[0] == place and one[1] & mine]
        if not touching:
            found.append((place, mine, [entry]))
            continue
        _, known, members = touching[0]
        known |= mine
        members.append(entry)
        for other in touching[1:]:
            known |= other[1]
            members += other[2]
            found.remove(other)
    return [members for _, _, members in found]


def _key(entry: Entry) -> str:
    """The key as our form writes it; empty for an engine that needs none."""
    written = entry.params.secret("api_key")
    dummy = not written or written.lower() in NO_KEY
    if entry.spot.host:
        return "" if dummy else written
    if written:
        return written
    row = PROVIDERS.get(entry.spot.kind if entry.spot.kind != "openai" else entry.spot.title or "openai")
    if entry.spot.title in clouds.KEYS:
        return f"${{{clouds.KEYS[entry.spot.title]}}}"
    if entry.spot.url and entry.spot.kind == "openai" and not entry.upstream.startswith("openai/"):
        return "none"  # LiteLLM sends such a text to what asks for no key
    return f"${{{row.key}}}" if row else f"${{{PROVIDERS['openai'].key}}}"


def _models(members: list[Entry]) -> dict[str, list[Entry]]:
    """Model id -> its entries, in the order of the file."""
    found: dict[str, list[Entry]] = {}
    for entry in members:
        found.setdefault(entry.spot.model, []).append(entry)
    return found


def _spaces(entries: list[Entry]) -> frozenset[Spot]:
    """Where one model of one group is in several places: its embeddings are declared to be of one space."""
    places: defaultdict[tuple[str, str], set[Spot]] = defaultdict(set)
    for entry in entries:
        places[entry.group, entry.spot.model].add(entry.spot)
    return frozenset(spot for spots in places.values() if len(spots) > 1 for spot in spots)


def _model(model: str, same: list[Entry], *, shared: bool) -> dict[str, Any]:
    """One model entry: what any of the file's entries says about it."""
    tree: dict[str, Any] = {"id": model}
    modes = {str(mode) for entry in same if (mode := entry.info.get("mode"))}
    told = sorted({MODES[mode] for mode in modes if mode in MODES})
    if told and modes <= set(MODES):
        tree["does"] = told
    context = next((size for entry in same if (size := entry.info.whole("max_input_tokens"))), None)
    if context:
        tree["context"] = context
    if shared:
        tree["space"] = model
    return tree


def _kind(members: list[Entry]) -> str:
    """What the engine is: some entry may say more than that it speaks OpenAI's dialect."""
    kinds = [entry.spot.kind for entry in members]
    return next((kind for kind in kinds if kind != "openai"), "openai")


def _label(host: str) -> str:
    """A short name for a host: an address as it is, a name without its domain."""
    if ":" in host or host.replace(".", "").isdigit():
        return host
    label = host.partition(".")[0]
    return host if label in _UNTELLING else label


def _titles(engines: Mapping[Place, list[Entry]]) -> list[str]:
    """Names of a host's engines: the kind, with the port where there are several, and a number at last."""
    kinds = [_kind(members) for members in engines.values()]
    ports = [port for _, port, _ in engines]
    named = list(_numbered(f"{kind}-{port}" for kind, port in zip(kinds, ports, strict=True)))
    return [kind if kinds.count(kind) == 1 else name for kind, name in zip(kinds, named, strict=True)]


def _numbered(names: Iterator[str]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}"
