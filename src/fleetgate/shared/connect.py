"""Opens the shared state that a setting names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from fleetgate.shared.lines import DIAL_LIMIT

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from fleetgate.shared.lines import Line
    from fleetgate.shared.port import SharedState

MEMORY: Final = "memory"


class CannotShare(Exception):
    """The shared state cannot be used at all; the message says what to do, without secrets."""


def open_shared(
    setting: str,
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    clock: Callable[[], float],
) -> SharedState | None:
    """None for `memory`; else the state at an address, to which nothing is connected yet.

    `clock`: monotonic seconds. Raises CannotShare.
    """
    if setting == MEMORY:
        return None
    try:
        redis: Any = import_module("fleetgate.shared.redis")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "redis":
            raise
        raise CannotShare(
            "gateway.shared_state needs the package redis: install fleetgate with its extra, "
            '`pip install "fleetgate[redis]"`'
        ) from None
    try:
        make, name, secret = _maker(setting)
    except ValueError:
        # what redis-py says may hold the address
        raise CannotShare("gateway.shared_state cannot be read; write redis://host:6379/0") from None
    return cast("SharedState", redis.Redis(make, spawn, clock, name=name, secret=secret))


def _maker(url: str) -> tuple[Callable[[], Line], str, str]:
    """What makes a connection, the name of the other end, and its password."""
    wire: Any = import_module("redis.asyncio.connection")
    options: dict[str, Any] = dict(wire.parse_url(url))
    kind = options.pop("connection_class", wire.Connection)
    secret = str(options.get("password") or "")
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    # The oldest form of the protocol, no library name told, and our own limits of time.
    options |= {
        "protocol": 2,
        "driver_info": None,
        "socket_timeout": None,
        "socket_connect_timeout": DIAL_LIMIT,
    }
    first = kind(**options)

    def make() -> Line:
        line = kind(**options)
        if isinstance(line, wire.SSLConnection):
            line.ssl_context = first.ssl_context  # reading the system's authorities takes long
        return cast("Line", line)

    return make, f"Redis at {where}", secret
