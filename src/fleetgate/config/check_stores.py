"""Checks of what the gateway keeps its state in: the database, and what several gateways share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from fleetgate.config.findings import Finding, Path, Positions, finding
from fleetgate.config.placeholders import is_placeholder, known_password_in_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.config.locator import Locator
    from fleetgate.config.schema import Gateway

DATABASE: Final[Path] = ("gateway", "database")
SHARED: Final[Path] = ("gateway", "shared_state")
SQLITE: Final = "sqlite"
MEMORY: Final = "memory"
POSTGRES: Final = ("postgresql://", "postgres://")
REDIS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SIGNS: Final = "signs such as / and @ in a password as %2F and %40"
_DATABASES: Final = 2**16
"""of Redis; and ports of TCP"""


def check(own: Gateway, positions: Positions) -> Iterator[Finding]:
    """A place that cannot be used is an error: another one in its stead would lose what it is for."""
    yield from _database(own.database, positions)
    yield from _shared_state(own.shared_state, positions)


def _database(where: Locator, positions: Positions) -> Iterator[Finding]:
    if not where.resolved:
        yield _unresolved(where, DATABASE, positions)
        return
    text = where.reveal()
    if text == SQLITE:
        return
    if not is_placeholder(text):
        for what, hint in postgres_faults(text):
            yield finding("error", positions.at(DATABASE), DATABASE, what, hint)
    yield from _password(where, DATABASE, positions)


def postgres_faults(url: str) -> Iterator[tuple[str, str]]:
    """What is wrong with the address of a database, and what would be right. Never a part of the address."""
    example = "write sqlite, or postgresql://user@host/name"
    if not url.startswith(POSTGRES):
        hint = "write postgresql:// alone" if url.startswith("postgresql+") else example
        yield "no database that is known here", hint
        return
    rest = url.partition("://")[2]
    try:
        parts = urlsplit(url)
    except ValueError:
        yield "it cannot be read as an address", f"{example}; {_SIGNS}"
        return
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    hosts = parts.netloc.rpartition("@")[2]
    if rest.count("@") > 1 or "@" in parts.path or parts.fragment or any(map(str.isspace, url)):
        yield "it cannot be read as an address", f"{example}; {_SIGNS}"
    elif not all(_is_port(one) for one in hosts.split(",")):
        yield "a port is not a number", example
    elif not (hosts or options.get("host") or options.get("hostaddr")):
        yield "the host is missing", f"{example}, or postgresql:///name?host=/run/postgresql for a socket"
    elif not (parts.path.strip("/") or options.get("dbname")) or "/" in parts.path[1:]:
        yield "the name of the database is missing", example


def _is_port(place: str) -> bool:
    """Whether what follows a host, perhaps one in brackets, is a port or nothing."""
    port = place.rpartition("]")[2].partition(":")[2]
    return not port or (_is_number(port) and int(port) > 0)


def _shared_state(where: Locator, positions: Positions) -> Iterator[Finding]:
    if not where.resolved:
        yield _unresolved(where, SHARED, positions)
        return
    text = where.reveal()
    if text == MEMORY:
        return
    if not is_placeholder(text):
        for what, hint in redis_faults(text):
            yield finding("error", positions.at(SHARED), SHARED, what, hint)
    yield from _password(where, SHARED, positions)


def redis_faults(url: str) -> Iterator[tuple[str, str]]:
    """What is wrong with the address of a Redis, and what would be right. Never a part of the address."""
    example = "write memory, or redis://host:6379/0"
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port != 0
    except ValueError:
        yield "it cannot be read as an address", f"{example}; signs such as / in a password as %2F"
        return
    if parts.scheme not in {"redis", "rediss", "unix"}:
        yield "no shared state that is known here", f"{example}, rediss:// with TLS, unix:///path"
        return
    if parts.scheme == "unix":
        if not parts.path.startswith("/") or parts.netloc.rpartition("@")[2]:
            yield "the path of the socket is missing", "write unix:///run/redis/redis.sock"
    elif not parts.hostname or not port_is_fine:
        yield "host or port are missing", example
    elif not _is_number(parts.path.strip("/") or "0"):
        yield "the database is not a number", example
    allowed = REDIS_OPTIONS | {"db"}
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not set(options) <= allowed or not _is_number(options.get("db", "0")) or parts.fragment:
        yield "an option that is not known here", f"known are {', '.join(sorted(allowed))}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < _DATABASES


def _password(where: Locator, path: Path, positions: Positions) -> Iterator[Finding]:
    """A password that everybody knows, or one written out; those that are both were found in the text."""
    known = known_password_in_url(where.reveal())
    if where.kind != "literal":
        if known:
            hint = "choose one that nobody can guess"
            yield finding("error", positions.at(path), path, "a well-known password", hint)
    elif where.password and not known and not is_placeholder(where.reveal()):
        hint = 'write "${NAME}" for the whole address and keep the secret out of this file'
        yield finding("warning", positions.at(path), path, "a password is written out here", hint)


def _unresolved(where: Locator, path: Path, positions: Positions) -> Finding:
    return finding("error", positions.at(path), path, where.problem, "set it, or write the address itself")
