"""Stage 0: everything that can be refused before a byte of the body is read.

Order: address, framing, route, method, browser checks (open mode), key, loop, content type. Open
mode accepts any key or none from loopback and `allow_from`; without the browser checks every web
page could use it through the browser of somebody inside. The same goes for whoever is known by its
connection instead of a key (Tailscale). A key that was sent decides alone: no header mends a wrong one.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from fleetgate import units
from fleetgate.domain import KeyKind
from fleetgate.errors import Refused, Source
from fleetgate.gateway.gateway import Head
from fleetgate.http.table import FORM, Access, Row
from fleetgate.keys.changes import Actor
from fleetgate.keys.master import presented_key
from fleetgate.keys.owner import ANYBODY, MASTER, Keys
from fleetgate.keys.ring import Unfamiliar
from fleetgate.keys.tailscale import Stranger, Tailscale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.config.schema import Gateway as GatewaySettings
    from fleetgate.domain import Principal
    from fleetgate.http.call import Call
    from fleetgate.http.throttle import Throttle

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_LIST_IT: Final = "List their origin in `gateway.cors` where they are yours."
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_ONCE: Final = frozenset({b"host", b"content-length", b"authorization", b"content-type"})
LONGEST_END_USER: Final = 200
LONGEST_CONVERSATION: Final = 200
LONGEST_OF_DIALECT: Final = 2_000
_OF_DIALECTS: Final = (b"anthropic-version", b"anthropic-beta")
"""headers that say in which version of a dialect the body is written"""
_DOWN: Final = frozenset({"keys_unavailable", "identity_unavailable"})


class Door:
    """Compiled from the gateway's settings; made anew at a reload."""

    def __init__(
        self,
        settings: GatewaySettings,
        keys: Keys,
        throttle: Throttle | None = None,
        tailscale: Tailscale | None = None,
    ) -> None:
        """`throttle` and `tailscale` outlive the door; without them nothing is counted and nobody asked."""
        self._open = settings.auth == "open"
        self._keys = keys
        self._throttle = throttle
        self._tailscale = tailscale
        if tailscale is not None:
            tailscale.configure(settings.tailscale)
        self._user_headers = tuple(name.strip().lower().encode() for name in settings.trust_user_headers)
        self._ranges = tuple(ipaddress.ip_network(text, strict=False) for text in settings.allow_from)
        self._loopback_only = self._open and not self._ranges
        self._hosts = (
            LOOPBACK_NAMES | {host.lower() for host in settings.hosts} | _listen_hosts(settings.listen)
        )
        self._origins = frozenset(settings.cors)
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
        return self._admit(call, row, final=False)

    async def admit_unfamiliar(self, call: Call, row: Row, unfamiliar: Unfamiliar) -> Principal:
        """The same after a look into the database, and a question to Tailscale."""
        try:
            if isinstance(unfamiliar, Stranger) and self._tailscale is not None:
                await self._tailscale.ask(unfamiliar)
                try:
                    return self._admit(call, row, final=False)
                except Unfamiliar as person:
                    unfamiliar = person
            await self._keys.learn(unfamiliar)
            if self._tailscale is not None:
                actor = Actor("tailscale", _client(call)[0], call.request_id)
                await self._tailscale.welcome(unfamiliar, actor)
            return self._admit(call, row, final=True)
        except Refused as refused:
            if refused.code in _DOWN and self._open and row.access is Access.CALLER:
                return self._named(ANYBODY, call)
            raise

    def _admit(self, call: Call, row: Row, *, final: bool) -> Principal:
        """`final`: what had to be read has been read."""
        if row.access is Access.ANYONE:
            return ANYBODY
        caller = row.access is Access.CALLER
        if self._open:
            self._check_browser(call, self._origins if caller else frozenset(), row.takes)
        presented = presented_key(call.scope["headers"])
        throttle = self._throttle
        shut = throttle.shut_for(_client(call)[0]) if throttle and presented else 0.0
        if shut and not caller:
            raise _too_many(shut)
        keys = self._keys
        principal = keys.identify_now(presented) if final else keys.identify(presented)
        if principal is None and presented is None and caller:
            principal = self._neighbour(call, row, final=final)
        everybody = self._open and caller
        if principal is None and everybody:
            return self._named(ANYBODY, call)
        if principal is None:
            raise self._refuse_key(call, presented)
        if shut and principal is MASTER:
            raise _too_many(shut)  # it may have been guessed; keys that were issued cannot be
        if principal.kind not in _MAY[row.access]:
            if everybody:
                return self._named(ANYBODY, call)
            raise _refuse_kind(row.access)
        return self._named(principal, call) if caller and self._user_headers else principal

    def _neighbour(self, call: Call, row: Row, *, final: bool) -> Principal | None:
        """Who asks without a key, as Tailscale knows. Its web pages are kept out as in open mode."""
        if self._tailscale is None:
            return None
        found = self._tailscale.identify(_client(call), call.scope["headers"], final=final)
        if found is not None and not self._open:
            self._check_browser(call, self._origins, row.takes)
        return found

    def _named(self, principal: Principal, call: Call) -> Principal:
        """With the end user that a trusted header names. One that came twice is not believed."""
        for header in self._user_headers:
            values = [value for name, value in call.scope["headers"] if name == header]
            if len(values) == 1 and (end_user := _plain(values[0])):
                return replace(principal, end_user=end_user)
        return principal

    def _refuse_key(self, call: Call, presented: bytes | None) -> Refused:
        if presented and self._throttle is not None:  # one that is empty is false
            address = _client(call)[0]
            self._throttle.failed(address, presented)
            if shut := self._throttle.shut_for(address):
                return _too_many(shut)
        return Refused(
            401,
            "invalid_api_key",
            "the key is missing or not valid",
            advice="Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`.",
        )

    def _allows(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        found = mapped or found
        return found.is_loopback or any(found in network for network in self._ranges)

    def _check_browser(self, call: Call, listed: frozenset[str], takes: str) -> None:
        """A loopback or configured Host, no foreign Origin, no cross-site fetch, and no body of a type that
        a web page can send without asking, unless the route takes just that.

        `listed`: origins that are not foreign here. `takes`: the type of bodies of the route.
        """
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
        welcome = origin in listed
        if origin and not welcome and not self._is_own(origin, call):
            foreign = f"web pages of {origin[:100]!r} may not use this gateway"
            raise Refused(403, "foreign_origin", foreign, advice=_LIST_IT)
        if not welcome and call.header(b"sec-fetch-site") in ("cross-site", "same-site"):
            foreign = "web pages of other sites may not use this gateway"
            raise Refused(403, "foreign_origin", foreign, advice=_LIST_IT)
        if call.scope["method"] not in _SAFE_METHODS:
            check_type(call, takes, strict=True)

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


def _client(call: Call) -> tuple[str, int]:
    """Where the connection comes from; nowhere for one that has no address."""
    client = call.scope.get("client")
    return (client[0], client[1]) if client else ("", 0)


def _plain(value: bytes) -> str:
    """A header's text without control characters, bounded."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return "".join(sign for sign in text if sign.isprintable()).strip()[:LONGEST_END_USER]


def _too_many(seconds: float) -> Refused:
    return Refused(
        429,
        "too_many_wrong_keys",
        "too many wrong keys came from this address",
        advice="Wait, or ask from another address. Issued keys go on asking models.",
        retry_after=seconds,
    )


def _refuse_kind(access: Access) -> Refused:
    if access is Access.CALLER:
        return Refused(403, "not_a_caller", "a viewer key asks no models", advice="Use a caller key.")
    return Refused(403, "not_an_admin", "this needs an admin key")


def read_head(call: Call, instance: str, conversations: tuple[bytes, ...] = ()) -> Head:
    """What the head asks of the gateway. Raises Refused for a loop or a head that cannot be right.

    `conversations`: headers that may name the conversation.
    """
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
    conversation = b""
    for name in conversations:
        if headers.get(name):
            conversation = headers[name][:LONGEST_CONVERSATION]
            break
    return Head(
        length=int(length) if length is not None else None,
        timeout=_timeout(call.header(b"x-fleetgate-timeout")),
        white_space=call.header(b"x-fleetgate-keep-alive").strip() == "white-space",
        via=via[:500],
        trace=trace if 0 < len(trace) <= 64 else None,
        cache_control=headers.get(b"cache-control", b""),
        conversation=conversation.decode("latin-1"),
        of_dialect=_of_dialect(headers) if not headers.keys().isdisjoint(_OF_DIALECTS) else (),
    )


def _of_dialect(headers: Mapping[bytes, bytes]) -> tuple[tuple[str, str], ...]:
    found = ((name, headers[name]) for name in _OF_DIALECTS if name in headers)
    return tuple((name.decode(), value.decode("latin-1")[:LONGEST_OF_DIALECT]) for name, value in found)


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


def check_type(call: Call, takes: str, *, strict: bool) -> None:
    """Raises Refused (415) for a body of another type than the route takes. A form cannot be read without its
    type; JSON can, so that not `strict` only forms are refused in its place."""
    if takes != FORM and call.headers.get(b"content-type") == b"application/json":
        return  # as nearly everybody says
    kind = call.header(b"content-type").partition(";")[0].strip().lower()
    if takes == FORM:
        if kind != FORM:
            raise Refused(
                415,
                "form_only",
                "the body must be a form with files",
                advice=f"Send `Content-Type: {FORM}; boundary=…`, as clients do for uploads.",
            )
        return
    json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    if not json and (strict or kind.startswith("multipart/")):
        raise Refused(
            415, "json_only", "the body must be JSON", advice="Send `Content-Type: application/json`."
        )


def _listen_hosts(listen: tuple[str, ...]) -> set[str]:
    """Addresses we listen on are configured names; `0.0.0.0` and `::` name nothing."""
    return {host_name(one) for one in listen} - {"0.0.0.0", "::", ""}  # noqa: S104  (compared, not bound)
