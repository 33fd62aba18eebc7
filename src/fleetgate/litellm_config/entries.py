"""What each entry of `model_list` names: which model, of what kind, at which address.

A host of the own network (loopback, private, overlay, cluster) is a machine of ours, everything else a
provider. An entry that cannot be used is left out with a warning, and the rest goes on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from fleetgate.config.check_fleet import is_loopback, is_public
from fleetgate.config.names import bare_host
from fleetgate.config.placeholders import is_placeholder
from fleetgate.config.providers import PROVIDERS
from fleetgate.litellm_config import clouds, keys
from fleetgate.litellm_config.prefixes import GUESSED, OTHERS, PREFIXES, SHAPED_OTHERWISE, Prefix
from fleetgate.litellm_config.source import NOT_YET, Section, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.config.findings import Path

_PATHS: Final = re.compile(r"(/v1)?/(chat/completions|completions|embeddings)/?$|/api/(generate|chat)/?$")
_FIREWORKS: Final = "accounts/fireworks/models/"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a model is: an engine of our own (`host`), or a provider (`kind` with or without `url`)."""

    kind: str
    model: str
    """what it is called there"""
    host: str = ""
    """of an engine of our own"""
    port: int = 0
    url: str = ""
    """of an engine whose port does not say everything, or of a provider outside our table"""
    title: str = ""
    """a first idea of the provider's name"""


@dataclass(frozen=True)
class Entry:
    """One usable entry."""

    group: str
    path: Path
    params: Section
    info: Section
    spot: Spot
    upstream: str
    """`litellm_params.model` as it is written"""

    @property
    def embeds(self) -> bool:
        return bool(self.info.get("mode") == "embedding")


class _LeftOut(Exception):
    """Why an entry cannot be used."""

    def __init__(self, path: Path, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.message = message
        self.hint = hint


def entries(root: Section, defaults: Section, lost: dict[str, Path]) -> Iterator[Entry]:
    """The usable entries in the order of the file; `defaults` lie under the parameters of each.

    Groups of entries that cannot be used are added to `lost`: their fallbacks still can.
    """
    credentials = dict(_credentials(root))
    source = root.source
    if not isinstance(root.get("model_list"), list):
        source.say("warning", root.at("model_list"), "no list of models", "write model_list: [...]")
        return
    for value, path in root.items("model_list"):
        item = source.section(value, path)
        params = item.section("litellm_params").over(defaults)
        name = params.text("litellm_credential_name")
        if name and name not in credentials:
            source.say("warning", params.at("litellm_credential_name"), f"no credential is called {name}")
        params = params.over(credentials.get(name, Section(source, path)))
        info = item.section("model_info")
        keys.check_params(params)
        keys.check(info, keys.INFO)
        try:
            yield _entry(item, params, info)
        except _LeftOut as why:
            hint = f"{why.hint}; until then this entry is left out" if why.hint else "this entry is left out"
            source.say("warning", why.path, why.message, hint)
            group = item.text("model_name")
            if group and "*" not in group:
                lost.setdefault(group, item.at("model_name"))


def _credentials(root: Section) -> Iterator[tuple[str, Section]]:
    for value, path in root.items("credential_list"):
        item = root.source.section(value, path)
        yield item.text("credential_name"), item.section("credential_values")


def _entry(item: Section, params: Section, info: Section) -> Entry:
    group, upstream = item.text("model_name"), params.text("model")
    if not group or not upstream:
        raise _LeftOut(item.path, f"{'litellm_params.model' if group else 'model_name'} is missing")
    if "*" in group or "*" in upstream:
        hint = "name the models one by one"
        raise _LeftOut(item.at("model_name"), f"patterns such as {group} are {NOT_YET}", hint)
    return Entry(group, item.path, params, info, _spot(upstream, params, item.source), upstream)


def _spot(upstream: str, params: Section, source: Source) -> Spot:
    """Where the model is."""
    title, model = _split(upstream, params.text("custom_llm_provider"))
    where = params.at("model")
    if title in SHAPED_OTHERWISE:
        raise _LeftOut(where, f"provider {title} is {NOT_YET}")
    prefix = PREFIXES.get(title, Prefix())
    base, base_at = _base(upstream, params, prefix, source)
    if title in clouds.BEDROCK:
        return _bedrock(title, model, base, params, source)
    if title in clouds.AZURE and base:
        return _azure(model, base, params, source)
    if not base and prefix.provider and PROVIDERS[prefix.provider].url:
        return _at_provider(prefix.provider, model)
    if not base:
        known = f"no address is known for {title}/" if title else f"no provider is known for {upstream}"
        raise _LeftOut(where, known, "write api_base" if title else "write it as provider/model")
    if not title:
        source.say("warning", where, f"no provider in front of {upstream}", f"openai/{upstream} is assumed")
    parts = _address(base, base_at, source)
    host = bare_host(parts.hostname or "")
    if is_public(host):
        return _outside(parts, host, prefix, title, model)
    return _own(parts, host, prefix, model)


def _azure(model: str, base: str, params: Section, source: Source) -> Spot:
    """`model` is the name of a deployment there, as it is for LiteLLM."""
    parts = _address(base, params.at("api_base"), source)
    if clouds.is_claude(base):
        return Spot("anthropic", model, url=clouds.claude_url(base), title="azure-claude")
    url = clouds.azure_url(base)
    if not url.rstrip("/").endswith("/openai/v1"):
        hint = "if this one is another, write the address of the interface that ends in /openai/v1"
        source.say("warning", params.at("api_base"), f"{parts.hostname} is asked as it is written", hint)
    return Spot("azure", model, url=url.rstrip("/"), title="azure")


def _bedrock(title: str, model: str, base: str, params: Section, source: Source) -> Spot:
    """By its region, with a key of Bedrock's own."""
    model, region, way = clouds.bedrock_model(model)
    where = params.at("model")
    if way in ("converse", "converse_like", "invoke"):
        raise _LeftOut(where, f"what Bedrock has at {way} alone is {NOT_YET}", "remove that part of the name")
    signed = next((key for key in clouds.SIGNED if params.get(key)), "")
    if signed and not params.get("api_key"):
        raise _LeftOut(params.at(signed), "requests are not signed", "write api_key with a Bedrock API key")
    if base:
        return Spot("bedrock", model, url=base.rstrip("/"), title="bedrock")
    found = next((source.environ[name] for name in clouds.REGIONS if source.environ.get(name)), "")
    region = region or params.text("aws_region_name") or found
    if not region:
        raise _LeftOut(where, "the region of Bedrock is unknown", "write aws_region_name")
    url = clouds.bedrock_url(region, "mantle" if title == "bedrock_mantle" else way)
    return Spot("bedrock", model, url=url, title="bedrock")


def _split(upstream: str, custom: str) -> tuple[str, str]:
    """Provider and model; an empty provider where there is none to be seen."""
    head, slash, rest = upstream.partition("/")
    if custom:
        return custom, rest if slash and head == custom else upstream
    if slash and (head in PREFIXES or head in OTHERS or head in SHAPED_OTHERWISE):
        return head, rest
    return next((title for form, title in GUESSED if form.match(upstream)), ""), upstream


def _base(upstream: str, params: Section, prefix: Prefix, source: Source) -> tuple[str, Path]:
    """The written address, else one from the environment, else the usual one; empty where there is none."""
    for key in ("api_base", "base_url"):
        if params.get(key):
            if text := params.text(key):
                return text, params.at(key)
            # Never fall back to a provider: these prompts were meant for somewhere else.
            raise _LeftOut(params.at("model"), f"the address of {upstream} is unknown")
    found = next((source.environ[name] for name in prefix.bases if source.environ.get(name)), "")
    return found or prefix.address, params.at("model")


def _address(base: str, path: Path, source: Source) -> SplitResult:
    if is_placeholder(base):
        raise _LeftOut(path, "a placeholder is left in", "write the real address")
    text = base if "://" in base else f"http://{base}"
    try:
        parts = urlsplit(_PATHS.sub(r"\1", text).rstrip("/"))
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise _LeftOut(path, "no http or https address", "write it like http://10.0.0.2:8000/v1") from error
    if not usable:
        raise _LeftOut(path, "no http or https address", "write it like http://10.0.0.2:8000/v1")
    if text is not base:
        source.once(path, "warning", path, "an address without http:// or https://", "http:// is assumed")
    return parts


def _at_provider(provider: str, model: str) -> Spot:
    if provider == "fireworks" and not model.startswith("accounts/"):
        model = _FIREWORKS + model  # LiteLLM's short form
    return Spot(provider, model, title=provider)


def _outside(parts: SplitResult, host: str, prefix: Prefix, title: str, model: str) -> Spot:
    """A provider: one of our table where the host is the same, else by its address."""
    for name, row in PROVIDERS.items():
        if urlsplit(row.url).hostname == host:
            return _at_provider(name, model)
    path = parts.path
    if prefix.engine != "openai" and not path:
        path = "/v1"
    url = f"{parts.scheme}://{parts.netloc}{path}"
    return Spot("openai", model, url=url, title=title if title in OTHERS else host)


def _own(parts: SplitResult, host: str, prefix: Prefix, model: str) -> Spot:
    """An engine of our own. One that its port describes has no url."""
    host = "localhost" if is_loopback(host) else host  # its several names are one machine
    port = parts.port or (443 if parts.scheme == "https" else 80)
    plain = parts.scheme == "http" and parts.path in {"", "/v1"}
    if prefix.engine == "ollama":
        model = model.removesuffix(":latest")
    shown = f"[{host}]" if ":" in host else host
    url = "" if plain else f"{parts.scheme}://{shown}:{port}{parts.path}"
    return Spot(prefix.engine, model, host, port, url)
