"""The sockets we listen on, and uvicorn on them with our own protocol."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from fleetgate.config.names import listen_address
from fleetgate.http.protocol import IDLE, make_protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKLOG: Final = 2048


class CannotListen(Exception):
    """An address cannot be bound; the message says why and what to do."""


def bound_address(written: str, listening: socket.socket) -> str:
    """The address as written, with its port in place of a 0."""
    return f"{written.rpartition(':')[0]}:{listening.getsockname()[1]}"


def open_socket(text: str) -> socket.socket:
    """A listening socket. Raises CannotListen; `AddressMissing` when the address may still appear."""
    try:
        host, port = listen_address(text)
        family, kind, number, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, ValueError) as error:
        raise CannotListen(f"cannot listen on {text!r}: {error}") from None
    listening = socket.socket(family, kind, number)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise AddressMissing(f"this machine does not have the address of {text!r} (yet)") from None
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"{text} is in use: another gateway may be running; stop it, or choose another port "
                "with --listen or FLEETGATE_LISTEN"
            ) from None
        raise CannotListen(f"cannot listen on {text}: {error.strerror or error}") from None
    return listening


class AddressMissing(CannotListen):
    """The address is not there yet: an overlay network may bring it."""


class Listener(uvicorn.Server):
    """uvicorn without its own signals: the app decides when to stop, and with which exit code."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_listener(surface: Callable[..., Any], header_read: float) -> Listener:
    """A listener for one ASGI application."""
    config = uvicorn.Config(
        surface,
        http=make_protocol(header_read),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(IDLE),
    )
    return Listener(config)
