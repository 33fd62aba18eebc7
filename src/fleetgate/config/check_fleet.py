"""Checks of machines and addresses: the gateway's own, nodes with their engines, providers."""

from __future__ import annotations

import difflib
import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from fleetgate.config import check_power
from fleetgate.config.findings import Finding, Path, Positions, Severity, finding
from fleetgate.config.names import (
    Address,
    bare_host,
    engine_addresses,
    engine_names,
    listen_address,
    model_name,
    url_address,
)
from fleetgate.config.placeholders import is_placeholder
from fleetgate.config.providers import PROVIDERS, base_url, known

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.config.schema import Engine, Gateway, Node, Provider, Settings

_LOCAL_ENDINGS: Final = (
    ".local",
    ".lan",
    ".internal",
    ".ts.net",
    ".home",
    ".home.arpa",
    ".localdomain",
    ".svc",
)
_LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain"})


def is_loopback(host: str) -> bool:
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(host: str) -> bool:
    """Whether an address is reached over the internet. Names of the own network are not."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        name = host.rstrip(".").lower()
        return "." in name and not name.endswith(_LOCAL_ENDINGS)


def gateway(settings: Settings, positions: Positions) -> Iterator[Finding]:
    """Listening addresses, ranges, prefix."""
    own = settings.gateway
    for index, text in enumerate(own.listen):
        try:
            listen_address(text)
        except ValueError as error:
            yield _split("error", positions, ("gateway", "listen", index), str(error))
    for index, text in enumerate(own.allow_from):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            hint = "write an address or a range, such as 192.168.0.0/24"
            path: Path = ("gateway", "allow_from", index)
            yield finding("error", positions.at(path), path, f"{text!r} is no address range", hint)
    prefix = own.base_path
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        path = ("gateway", "base_path")
        hint = "write it with a slash in front and none at the end, such as /llm"
        yield finding("error", positions.at(path), path, f"{prefix!r} is no path prefix", hint)


def nodes(settings: Settings, positions: Positions) -> Iterator[Finding]:
    """Every node by itself, then what two of them have in common."""
    taken: dict[Address, str] = {}
    own = _own_addresses(settings.gateway)
    for name, node in settings.nodes.items():
        here: Path = ("nodes", name)
        yield from _names(name, node, here, positions)
        if name in settings.providers:
            hint = "give one of them another name"
            yield finding("error", positions.key(here), here, "a provider has this name too", hint)
        if node.planned:
            continue
        yield from _node_addresses(node, here, positions)
        yield from check_power.node(node, here, positions)
        for index, (engine, title) in enumerate(zip(node.engines, _titles(node), strict=True)):
            path: Path = (*here, "engines", index)
            yield from _engine(node, engine, path, positions)
            yield from check_power.engine(engine, path, positions)
            for address in _addresses(node, engine):
                holder = taken.setdefault(address, f"{name}/{title}")
                if holder != f"{name}/{title}" or _repeated(node, index):
                    message = f"{address} is already the address of {holder}"
                    hint = "give each engine its own port, or remove one"
                    yield finding("error", positions.at(path), path, message, hint)
                    break
            if any(_is_own(address, own) for address in _addresses(node, engine)):
                hint = "an engine has a port of its own"
                yield finding("error", positions.at(path), path, "this is the gateway's own address", hint)


def _repeated(node: Node, index: int) -> bool:
    """Whether an earlier engine of the node has the same name and so cannot be told from this one."""
    titles = _titles(node)
    return titles[index] in titles[:index] and any(
        set(_addresses(node, node.engines[earlier])) & set(_addresses(node, node.engines[index]))
        for earlier in range(index)
    )


def _addresses(node: Node, engine: Engine) -> tuple[Address, ...]:
    try:
        found = engine_addresses(node, engine)
    except ValueError:
        return ()
    # This host has several names; they count as one when addresses are compared.
    return tuple(replace(one, host="127.0.0.1") if is_loopback(one.host) else one for one in found)


def _own_addresses(own: Gateway) -> set[tuple[str, int]]:
    found = set()
    for text in own.listen:
        try:
            found.add(listen_address(text))
        except ValueError:
            continue
    return found


def _is_own(address: Address, own: set[tuple[str, int]]) -> bool:
    for host, port in own:
        if port != address.port:
            continue
        everywhere = host in {"", "0.0.0.0", "::", "*"}  # noqa: S104  (compared, not bound)
        if host == address.host or (is_loopback(address.host) and (everywhere or is_loopback(host))):
            return True
    return False


def _names(name: str, node: Node, here: Path, positions: Positions) -> Iterator[Finding]:
    if not name or "/" in name:
        hint = "a slash separates node, engine and model"
        yield finding("error", positions.key(here), here, f"{name!r} is no name for a node", hint)
    titles = _titles(node)
    for index, title in enumerate(titles):
        path = (*here, "engines", index)
        if "/" in title:
            hint = "a slash separates node, engine and model"
            yield finding("error", positions.at(path), path, f"{title!r} is no name for an engine", hint)
        if title in titles[:index]:
            hint = "give each its own name:"
            yield finding(
                "error", positions.at(path), path, f"a second engine called {title} on this node", hint
            )


def _titles(node: Node) -> tuple[str, ...]:
    try:
        return engine_names(node)
    except ValueError:  # a url that cannot be read has its own finding
        return tuple(engine.name or f"{engine.kind} {index}" for index, engine in enumerate(node.engines))


def _node_addresses(node: Node, here: Path, positions: Positions) -> Iterator[Finding]:
    for index, text in enumerate(node.address):
        path: Path = (*here, "address", index)
        if is_placeholder(text):
            continue
        host = bare_host(text)
        if "/" in text or not host or " " in host or (":" in host and not _is_ip(host)):
            hint = "write a name or address alone; the port belongs to the engine"
            yield finding("error", positions.at(path), path, f"{text!r} is no address of a machine", hint)
        elif is_public(host):
            yield _public(path, positions)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _public(path: Path, positions: Positions) -> Finding:
    hint = "prompts would cross the internet: use its address in the own or overlay network, or a provider"
    return finding("warning", positions.at(path), path, "a public address for a machine", hint)


def _engine(node: Node, engine: Engine, path: Path, positions: Positions) -> Iterator[Finding]:
    if engine.url is not None:
        where = (*path, "url")
        try:
            address = url_address(engine.url)
        except ValueError:
            if not is_placeholder(engine.url):
                hint = "write it like http://10.0.0.2:8000/v1"
                yield finding("error", positions.at(where), where, "no http or https address", hint)
        else:
            if is_public(address.host) and address.host not in {bare_host(text) for text in node.address}:
                yield _public(where, positions)
    elif engine.kind == "openai" and engine.port is None:
        hint = "write port: or url:"
        yield finding("error", positions.at(path), path, "kind openai has no usual port", hint)
    if engine.ca is not None:
        yield from _authority(engine.ca, engine.url or "", path, positions)
    yield from _models(engine, path, positions)


def _authority(ca: str, url: str, path: Path, positions: Positions) -> Iterator[Finding]:
    """A file of authorities that is there, and somebody to check with it."""
    where = (*path, "ca")
    if not url.startswith("https://"):
        hint = "write url: https://… or remove ca"
        yield finding(
            "warning", positions.at(where), where, "without an https address it has no effect", hint
        )
        return
    try:
        with open(ca, "rb"):  # noqa: PTH123  (Path means a place in the tree here)
            return
    except OSError as error:
        reason = (error.strerror or "unknown").lower()
        hint = "until it is there, nothing at this address is trusted"
        yield finding("warning", positions.at(where), where, f"file {ca} cannot be read ({reason})", hint)


def _models(holder: Engine | Provider, path: Path, positions: Positions) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, entry in enumerate(holder.models or ()):
        where = (*path, "models", index)
        name = model_name(entry)
        if not name:
            hint = "write id: (what the engine calls it), name: (what we call it), or both"
            yield finding("error", positions.at(where), where, "a model without a name", hint)
        elif name in seen:
            yield finding(
                "error", positions.at(where), where, f"{name} is listed twice", "remove one of them"
            )
        seen.add(name)


def providers(settings: Settings, positions: Positions) -> Iterator[Finding]:
    for name, provider in settings.providers.items():
        here: Path = ("providers", name)
        if not name or "/" in name:
            hint = "a slash separates provider and model"
            yield finding("error", positions.key(here), here, f"{name!r} is no name for a provider", hint)
        yield from _provider_url(name, provider, here, positions)
        if provider.ca is not None:
            yield from _authority(provider.ca, base_url(name, provider) or "", here, positions)
        yield from _models(provider, here, positions)
        yield from _unlisted(name, provider, here, positions)


def _provider_url(name: str, provider: Provider, here: Path, positions: Positions) -> Iterator[Finding]:
    where = (*here, "url")
    if provider.kind and provider.kind not in PROVIDERS:
        hint = f"write kind: openai with a url, or one of {', '.join(PROVIDERS)}"
        place = (*here, "kind")
        yield finding("error", positions.at(place), place, f"{provider.kind!r} is no known provider", hint)
    elif (row := known(name, provider)) is not None and row.form and not provider.url:
        own = row.form.partition("{")[2].partition("}")[0]
        hint = f"write url: {row.form} with your own {own}"
        yield finding("error", positions.key(here), here, f"everybody's address of {name} is another", hint)
    elif base_url(name, provider) is None:
        near = difflib.get_close_matches(name, PROVIDERS, n=1, cutoff=0.6)
        hint = f"write kind: openai and url:, or one of {', '.join(PROVIDERS)}"
        hint = f"did you mean {near[0]}? Others need kind: openai and url:" if near else hint
        yield finding("error", positions.key(here), here, f"{name!r} is no known provider", hint)
    if provider.url is None or is_placeholder(provider.url):
        return
    if "{" in provider.url:
        hint = "write your own in place of the braces"
        yield finding("error", positions.at(where), where, "the address has braces in it", hint)
        return
    try:
        address = url_address(provider.url)
    except ValueError:
        hint = "write it like https://llm.example.net/v1"
        yield finding("error", positions.at(where), where, "no http or https address", hint)
        return
    if provider.url.startswith("http://") and is_public(address.host):
        hint = "write https://"
        yield finding("warning", positions.at(where), where, "key and prompts would travel in clear", hint)
    row = known(name, provider)
    if row is not None and row.form and not urlsplit(provider.url).path.strip("/"):
        hint = f"write the whole address, such as {row.form}"
        yield finding("warning", positions.at(where), where, "the address has no path", hint)


def _unlisted(name: str, provider: Provider, here: Path, positions: Positions) -> Iterator[Finding]:
    """Nothing can be discovered where there is no list."""
    row = known(name, provider)
    if row is not None and not row.lists and not provider.models and provider.kind != "openai":
        hint = "write models: with those that you use"
        yield finding("warning", positions.key(here), here, f"{name} has no list of its models", hint)


def _split(severity: Severity, positions: Positions, path: Path, text: str) -> Finding:
    message, _, hint = text.partition("; ")
    return finding(severity, positions.at(path), path, message, hint)
