"""Who may ask, and where: addresses, the master key, and the open mode of a file without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from fleetgate.config.placeholders import is_known_password, is_placeholder

if TYPE_CHECKING:
    from fleetgate.litellm_config.native import Native
    from fleetgate.litellm_config.source import Section, Source

OWN_NETWORKS: Final = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
    "fe80::/10",
)
"""Who may ask without a key where a file has no master key: private and overlay ranges."""
SHORTEST_KEY: Final = 16
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  (as LiteLLM does; open mode lets in own networks alone)


def read(native: Native, source: Source, root: Section) -> str:
    """Writes `gateway:` and returns the master key; empty where there is none."""
    general, environ = root.section("general_settings"), source.environ
    host, port = environ.get("HOST") or EVERYWHERE, environ.get("PORT") or "4000"
    native.put(("gateway", "listen"), f"{host}:{port}")
    native.put(("gateway", "model_in_answers"), "asked")
    prefix = environ.get("SERVER_ROOT_PATH", "").strip("/")
    if prefix:
        native.put(("gateway", "base_path"), f"/{prefix}")
    size = general.number("max_request_size_mb")
    if size:
        native.put(("gateway", "body_limit"), f"{size:g}MB", general.at("max_request_size_mb"))
    allowed = [text for value, path in general.items("allowed_ips") if (text := source.text(value, path))]
    if allowed:
        native.put(("gateway", "allow_from"), allowed, general.at("allowed_ips"))
    key = _master_key(general, source)
    if key or general.has("master_key"):  # closed rather than open where the file wants a key
        native.put(("gateway", "auth"), "keys", general.at("master_key"))
        return key
    _open(native, source, root, allowed=bool(allowed))
    return ""


def _master_key(general: Section, source: Source) -> str:
    """As the file has it, else from the variable; a weak or missing one is told."""
    path, written = general.at("master_key"), general.get("master_key")
    if written is None:
        key = source.environ.get("LITELLM_MASTER_KEY", "").strip()
    else:
        source.told.add(path)  # what is wrong with it is told here
        key = source.text(written, path)
    literal = isinstance(written, str) and key == written
    if not key and written is not None:
        hint = "until it is there, the gateway's own generated key is the only one"
        source.say("warning", path, "the master key is missing", hint)
    elif key and (is_placeholder(key) or is_known_password(key) or len(key) < SHORTEST_KEY):
        hint = f"anybody can guess it: use at least {SHORTEST_KEY} random characters"
        source.say("warning", path, "WEAK MASTER KEY", hint)
    elif literal:
        hint = "write os.environ/LITELLM_MASTER_KEY and keep the secret out of this file"
        source.say("warning", path, "a secret is written out here", hint)
    return key


def _open(native: Native, source: Source, root: Section, *, allowed: bool) -> None:
    """Everybody in the own networks may ask; nobody is an administrator."""
    general, environ = root.section("general_settings"), source.environ
    at = general.path if general.held else root.at("model_list")
    native.put(("gateway", "auth"), "open", at)
    if not allowed:
        native.put(("gateway", "allow_from"), list(OWN_NETWORKS), at)
    hosts = (environ.get("HOSTNAME", "").strip(), urlsplit(environ.get("PROXY_BASE_URL", "")).hostname or "")
    if any(hosts):
        native.put(("gateway", "hosts"), [host for host in dict.fromkeys(hosts) if host])
    who = "allowed_ips" if allowed else "private and overlay networks"
    hint = "write general_settings: {master_key: os.environ/LITELLM_MASTER_KEY}"
    source.say("warning", at, f"NO MASTER KEY: everybody in {who} may use every model", hint)
