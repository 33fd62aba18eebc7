"""Stage 0: everything that can be refused before a byte of the body is read.

Order: address, framing, route, method, browser checks (open mode), key, loop, content type. Open
mode accepts any key or none from loopback and `allow_from`; without the browser checks every web
page could use it through the browser of somebody inside.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from fleetgate import units
from fleetgate.domain import KeyKind
from fleetgate.errors import Refused, Source
from fleetgate.gateway.gateway import Head
from fleetgate.http.table import Access, Row
from fleetgate.keys.master import presented_key
from fleetgate.keys.owner import ANYBODY, Keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.config.schema import Gateway as GatewaySettings
    from fleetgate.domain import Principal
    from fleetgate.http.call import Call
    from fleetgate.keys.ring import Unfamiliar

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_ONCE: Final = frozenset({b"host", b"content-length", b"authorization", b"content-type"})


class Door:
    """Compiled from the gateway's settings; made anew at a reload."""

    def __init__(self, settings: GatewaySettings, keys: Keys) -> None:
        self._open = settings.auth == "open"
        self._keys = keys
        self._ranges = tuple(ipaddress.ip_network(text, strict=False) for text in settings.allow_from)
        self._loopback_only = self._open and not self._ranges
        self._hosts = (
            LOOPBACK_NAMES | {host.lower() for host in settings.hosts} | _listen_hosts(settings.listen)
        )
        self._known: dict[str, bool] = {}

    def admit_address(self, call: Call) -> None:
        """Refuse callers from outside loopback and `allow_from`."""
        client = call.scope.get("client")
        if client is None or (not self._ranges and not self._loopback_only):
            return
        address: str = client[0]
        allowed = self._known.get(address)
        if allowed is None:
            if len(self._known) > 4096:
                self._known.clear()
            allowed = self._known[address] = self._allows(address)
        if not allowed:
            raise Refused(
                403,
                "address_not_allowed",
                f"requests from {address} are not accepted here",
                advice="Add its range to `gateway.allow_from`.",
            )

    def admit(self, call: Call, row: Row) -> Principal:
        """Who asks. Raises Refused, or Unfamiliar: then `admit_unfamiliar` knows how to go on."""
        return self._admit(call, row, self._keys.identify)

    async def admit_unfamiliar(self, call: Call, row: Row, unfamiliar: Unfamiliar) -> Principal:
        """The same after a look into the database."""
        try:
            await self._keys.learn(unfamiliar)
            return self._admit(call, row, self._keys.identify_now)
        except Refused as refused:
            if refused.code == "keys_unavailable" and self._open and row.access is Access.CALLER:
                return ANYBODY
            raise

    def _admit(self, call: Call, row: Row, identify: Callable[[bytes | None], Principal | None]) -> Principal:
        if row.access is Access.ANYONE:
            return ANYBODY
        if self._open:
            self._check_browser(call)
        principal = identify(presented_key(call.scope["headers"]))
        everybody = self._open and row.access is Access.CALLER
        if principal is None and everybody:
            return ANYBODY
        if principal is None:
            raise Refused(
                401,
                "invalid_api_key",
                "the key is missing or not valid",
                advice="Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`.",
            )
        if principal.kind not in _MAY[row.access]:
            if everybody:
                return ANYBODY
            raise _refuse_kind(row.access)
        return principal

    def _allows(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        found = mapped or found
        return found.is_loopback or any(found in network for network in self._ranges)

    def _check_browser(self, call: Call) -> None:
        """A loopback or configured Host, no foreign Origin, no cross-site fetch, JSON bodies only."""
        host = host_name(call.header(b"host"))
        server = call.scope.get("server")
        if host not in self._hosts and not (server and host == server[0]):
            raise Refused(
                403,
                "host_not_allowed",
                f"the gateway is not known as {host[:100]!r}",
                advice="Add the name to `gateway.hosts`.",
            )
        origin = call.header(b"origin")
        if origin and not self._is_own(origin, call):
            raise Refused(403, "foreign_origin", f"web pages of {origin[:100]!r} may not use this gateway")
        if call.header(b"sec-fetch-site") in ("cross-site", "same-site"):
            raise Refused(403, "foreign_origin", "web pages of other sites may not use this gateway")
        if call.scope["method"] not in _SAFE_METHODS and not _is_json(call.header(b"content-type")):
            raise Refused(
                415, "json_only", "the body must be JSON", advice="Send `Content-Type: application/json`."
            )

    def _is_own(self, origin: str, call: Call) -> bool:
        """An origin is ours when it is the very address that was asked."""
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() == call.header(b"host").lower()


_MAY: Final = MappingProxyType(
    {
        Access.CALLER: frozenset({KeyKind.CALLER, KeyKind.ADMIN}),
        Access.VIEWER: frozenset({KeyKind.VIEWER, KeyKind.ADMIN}),
        Access.ADMIN: frozenset({KeyKind.ADMIN}),
    }
)
"""kinds of keys that open a row"""


def _refuse_kind(access: Access) -> Refused:
    if access is Access.CALLER:
        return Refused(403, "not_a_caller", "a viewer key asks no models", advice="Use a caller key.")
    return Refused(403, "not_an_admin", "this needs an admin key")


def read_head(call: Call, instance: str) -> Head:
    """What the head asks of the gateway. Raises Refused for a loop or a head that cannot be right."""
    headers = call.headers
    via = call.header(b"x-fleetgate-via")
    if via and instance in (one.strip() for one in via.split(",")):
        raise Refused(
            508,
            "loop",
            "this request has passed this gateway before",
            advice="An engine or provider in the configuration leads back to this gateway.",
            source=Source.GATEWAY,
            terminal=True,
        )
    encoding = call.header(b"content-encoding").strip().lower()
    if encoding not in ("", "identity"):
        raise Refused(
            415, "encoding_not_supported", "compressed bodies are not accepted", param="content-encoding"
        )
    length = headers.get(b"content-length")
    trace = call.header(b"traceparent")
    return Head(
        length=int(length) if length is not None else None,
        timeout=_timeout(call.header(b"x-fleetgate-timeout")),
        white_space=call.header(b"x-fleetgate-keep-alive").strip() == "white-space",
        via=via[:500],
        trace=trace if 0 < len(trace) <= 64 else None,
    )


def read_headers(call: Call) -> None:
    """Headers by name. The few that must not come twice are refused when they do."""
    headers = call.headers
    for name, value in call.scope["headers"]:
        if name in headers and name in _ONCE:
            raise Refused(400, "duplicate_header", f"the header {name.decode('latin-1')!r} came twice")
        headers[name] = value
    if b"host" not in headers and call.scope.get("http_version") != "1.0":
        raise Refused(400, "no_host", "the request has no Host header")


def new_request_id() -> str:
    """It begins with the time in milliseconds, so that an index over ids grows at one end only."""
    return f"req_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"


def host_name(host: str) -> str:
    """The name of a Host header, without port and brackets, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _timeout(text: str) -> float | None:
    """Seconds as a number, or a duration with its unit."""
    if not text:
        return None
    try:
        seconds = float(text) if text.replace(".", "", 1).isdigit() else units.duration(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 86_400:
        raise Refused(
            400,
            "malformed",
            f"`x-fleetgate-timeout` is not a time: {text[:50]!r}",
            advice="Write seconds, such as 30, or a duration, such as 2m.",
            param="x-fleetgate-timeout",
        )
    return seconds


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _listen_hosts(listen: tuple[str, ...]) -> set[str]:
    """Addresses we listen on are configured names; `0.0.0.0` and `::` name nothing."""
    return {host_name(one) for one in listen} - {"0.0.0.0", "::", ""}  # noqa: S104  (compared, not bound)
