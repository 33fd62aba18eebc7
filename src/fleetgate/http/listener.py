"""The sockets we listen on, and uvicorn on them with our own protocol."""

from __future__ import annotations

import asyncio
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
RENEW: Final = 1.0
"""seconds between two dates"""
LOOK_AGAIN: Final = 0.1
"""seconds at most between two looks at whether the last connection has ended"""


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
    """uvicorn without its own signals: the app decides when to stop, and with which exit code.

    Nor does it look ten times a second whether it is to stop: an idle gateway sleeps, and goes at once.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Take no more connections; end when the last one has ended."""
        self.should_exit = True
        self._leaving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # renews the date that answers have
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW):
                    await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for taking in self.servers:
            taking.close()
        for one in sockets or ():
            one.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        pause = 0.001
        while (state.connections or state.tasks) and not self.force_exit:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LOOK_AGAIN)


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
