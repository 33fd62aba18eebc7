"""Checks of who is believed beside keys: trusted headers, Tailscale."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fleetgate.config.findings import Finding, Path, Positions, finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.config.schema import Gateway

_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SECRET: Final = frozenset({"authorization", "proxy-authorization", "x-api-key", "cookie"})
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")


def check(own: Gateway, positions: Positions) -> Iterator[Finding]:
    yield from _headers(own, positions)
    yield from _tailscale(own, positions)


def _headers(own: Gateway, positions: Positions) -> Iterator[Finding]:
    for index, name in enumerate(own.trust_user_headers):
        path: Path = ("gateway", "trust_user_headers", index)
        if not _HEADER.fullmatch(name):
            hint = "write the name alone, such as x-user"
            yield finding("error", positions.at(path), path, f"{name!r} is no header's name", hint)
        elif name.lower() in _SECRET:
            hint = "what it holds would be recorded"
            yield finding("error", positions.at(path), path, f"{name} holds secrets, no end user", hint)


def _tailscale(own: Gateway, positions: Positions) -> Iterator[Finding]:
    block = own.tailscale
    if block is None:
        return
    here: Path = ("gateway", "tailscale")
    if not block.headers and block.whois is None:
        hint = "write headers: true, or whois: with the daemon's socket"
        yield finding("warning", positions.key(here), here, "nobody is known by this", hint)
    if block.headers and not own.hosts:
        hint = "add the name that `tailscale serve` shows, such as box.tail1234.ts.net, to gateway.hosts"
        yield finding("note", positions.key(here), here, "its callers use a name not known here", hint)
    for login, user in block.users.items():
        if not _USER.fullmatch(user):
            path: Path = (*here, "users", login)
            hint = "letters, digits and . _ @ + -, at most 100"
            yield finding("error", positions.at(path), path, f"{user[:100]!r} cannot be a user", hint)
