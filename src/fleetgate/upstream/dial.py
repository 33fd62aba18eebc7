"""Dialling: from a `Target` to a connected socket, with the address checked before use.

Both transports open their connections here, so that names, the order of hosts, the forbidden
addresses and the meaning of every failure are the same for both. Rules:

- `Target.hosts` are tried in order, the one that worked last first, each for `connect_timeout`.
- An address is checked after the name was resolved, and that very address is connected to: a name
  that changes between check and use gains nothing.
- What a name leads to is not kept: each new connection asks again, so a machine that moved is found.
- Names are looked up in threads of our own, one look-up per name at a time: a slow resolver holds
  up only those who ask for that name.
- No request byte has left when something fails here; the errors say so by their class.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final, TypeVar, cast

import aiohappyeyeballs

from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetgate.upstream.port import Target

    Address = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
    """as `socket.getaddrinfo` gives it"""

P = TypeVar("P", bound=asyncio.BaseProtocol)
T = TypeVar("T")

_EYEBALLS_DELAY: Final = 0.25
"""seconds before the next address of the same name is tried beside the first (RFC 8305)"""

_RESOLVERS: Final = 8
"""names that can be looked up at the same time"""

_NAT64: Final = IPv6Network("64:ff9b::/96")
_METADATA: Final = frozenset({IPv6Address("fd00:ec2::254")})
"""metadata addresses that no other rule covers"""

_TELLING: Final = (
    FailureClass.TLS_FAILED,
    FailureClass.UNSENT_REFUSED,
    FailureClass.UNSENT_UNREACHABLE,
)
"""Which failure is told when every host failed in its own way: the one that saw most of the machine."""


def forbidden(address: str) -> str | None:
    """Why this address is never connected to, or None. Loopback and private ones are fine."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        # The same machine can be written as an IPv4 address inside an IPv6 one.
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
        elif ip in _NAT64:
            ip = IPv4Address(ip.packed[12:])
    if ip.is_link_local:
        return "link-local"
    if ip.is_unspecified:
        return "unspecified"
    if ip.is_multicast:
        return "multicast"
    if ip in _METADATA:
        return "metadata"
    return None


class AddressRefused(AttemptFailed):
    """All that a host leads to are addresses that nobody connects to."""


class Dialler:
    """Opens connections to targets, and remembers which host of each worked last."""

    def __init__(
        self,
        resolve: Callable[[str, int], Sequence[Address]] | None = None,
        refused: Callable[[str], str | None] = forbidden,
    ) -> None:
        """`resolve` stands in for the system's resolver; it runs in a thread and may block. `refused` says
        why an address is never connected to."""
        self._resolve = resolve or _ask_system
        self._refused = refused
        self._threads: ThreadPoolExecutor | None = None
        self._asked: dict[tuple[str, int], asyncio.Future[Sequence[Address]]] = {}
        self._last: dict[tuple[tuple[str, ...], int], str] = {}
        self._trust: dict[str | None, ssl.SSLContext] = {}

    async def connect(self, target: Target, protocol: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """A connection to the first host that gives one, TLS included. Raises AttemptFailed."""
        trust = await self._trusted(target.ca) if target.tls else None
        if len(target.hosts) == 1:
            return await self._connect_host(target, target.hosts[0], trust, protocol)
        key = (target.hosts, target.port)
        last = self._last.get(key)
        failures: list[AttemptFailed] = []
        for host in sorted(target.hosts, key=lambda host: host != last):
            try:
                made = await self._connect_host(target, host, trust, protocol)
            except AttemptFailed as failed:
                failures.append(failed)
            else:
                self._last[key] = host
                return made
        raise _told(failures)

    async def knock(self, target: Target) -> None:
        """Whether somebody listens: a connection that is closed at once. Raises AttemptFailed.

        All hosts are tried at the same time, so that a dead one delays nothing; the one that answered
        first comes first from now on.
        """
        failures: list[AttemptFailed] = []

        async def at(host: str) -> None:
            try:
                made, _ = await self._connect_host(target, host, None, asyncio.Protocol)
            except AttemptFailed as failed:
                failures.append(failed)
                return
            made.abort()
            raise _Answered(host)  # which ends the others

        try:
            async with asyncio.TaskGroup() as group:
                for host in target.hosts:
                    group.create_task(at(host))
        except* _Answered as answered:
            if len(target.hosts) > 1:
                self._last[target.hosts, target.port] = str(answered.exceptions[0])
        else:
            raise _told(failures)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Where a name leads now; none: nowhere."""
        try:
            found = await self._addresses(host, 0, host)
        except (AttemptFailed, OSError):
            return ()
        return tuple(dict.fromkeys(entry[4][0] for entry in found))

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def _connect_host(
        self, target: Target, host: str, trust: ssl.SSLContext | None, protocol: Callable[[], P]
    ) -> tuple[asyncio.Transport, P]:
        loop = asyncio.get_running_loop()
        where = f"{host}:{target.port}" if ":" not in host else f"[{host}]:{target.port}"
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(target.connect_timeout):
                addresses = await self._addresses(host, target.port, where)
                sock = await aiohappyeyeballs.start_connection(
                    addresses, happy_eyeballs_delay=_EYEBALLS_DELAY, loop=loop
                )
        except TimeoutError as error:
            raise AttemptFailed(
                FailureClass.UNSENT_UNREACHABLE,
                f"{where}: no connection within {target.connect_timeout:g} s",
            ) from error
        except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError in rare cases
            raise AttemptFailed(_failure_of(error), f"{where}: {_words(error)}") from error
        if trust is None:
            return await loop.create_connection(protocol, sock=sock)
        try:
            async with asyncio.timeout(target.connect_timeout):
                return await loop.create_connection(protocol, sock=sock, ssl=trust, server_hostname=host)
        except TimeoutError as error:
            raise AttemptFailed(
                FailureClass.TLS_FAILED,
                f"{where}: no TLS handshake within {target.connect_timeout:g} s",
            ) from error
        except (OSError, ValueError) as error:  # ssl.SSLError and CertificateError are OSErrors
            raise AttemptFailed(FailureClass.TLS_FAILED, f"{where}: {_words(error)}") from error

    async def _addresses(self, host: str, port: int, where: str) -> list[Address]:
        """The allowed addresses of a host."""
        found = _literal(host, port)
        if found is None:
            try:
                found = await self._look_up(host, port)
            except (OSError, UnicodeError) as error:
                if isinstance(error, TimeoutError):
                    raise
                raise AttemptFailed(
                    FailureClass.UNSENT_UNREACHABLE, f"{where}: name not found ({_words(error)})"
                ) from error
        why = {entry[4][0]: self._refused(entry[4][0]) for entry in found}
        allowed = [entry for entry in found if why[entry[4][0]] is None]
        if allowed:
            return allowed
        if not why:
            raise AttemptFailed(FailureClass.UNSENT_UNREACHABLE, f"{where}: name without address")
        refused = ", ".join(f"{address} is {reason}" for address, reason in why.items())
        raise AddressRefused(FailureClass.UNSENT_UNREACHABLE, f"{where}: address not allowed ({refused})")

    async def _look_up(self, host: str, port: int) -> Sequence[Address]:
        key = (host, port)
        future = self._asked.get(key)
        if future is None:
            future = self._in_thread(self._resolve, host, port)
            self._asked[key] = future
            future.add_done_callback(lambda done: self._looked_up(key, done))
        # Whoever gives up must not take the answer from the others.
        return await asyncio.shield(future)

    def _looked_up(self, key: tuple[str, int], done: asyncio.Future[Sequence[Address]]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            done.exception()  # seen here, in case nobody waits for it any more

    async def _trusted(self, ca: str | None) -> ssl.SSLContext:
        """The authorities to trust. Reading them takes milliseconds: once, and in a thread."""
        trust = self._trust.get(ca)
        if trust is None:
            try:
                trust = await self._in_thread(_read_trust, ca)
            except OSError as error:
                text = f"the authorities in {ca} cannot be read: {_words(error)}"
                raise AttemptFailed(FailureClass.TLS_FAILED, text) from error
            self._trust[ca] = trust
        return trust

    def _in_thread(self, call: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="dial")
        return asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


class _Answered(Exception):
    """A host gave a connection: one of several is enough."""


def _told(failures: Sequence[AttemptFailed]) -> AttemptFailed:
    """What several hosts said, as one."""
    worst = min((failed.failure for failed in failures), key=_TELLING.index)
    return AttemptFailed(worst, "; ".join(failed.text for failed in failures))


def _ask_system(host: str, port: int) -> Sequence[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return cast("Sequence[Address]", found)


def _read_trust(ca: str | None) -> ssl.SSLContext:
    trust = ssl.create_default_context(cafile=ca)
    trust.set_alpn_protocols(["http/1.1"])
    return trust


def _literal(host: str, port: int) -> Sequence[Address] | None:
    """The address, if the host is written as one: no thread is asked."""
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    if version == 4:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    if "%" in host:  # the scope has to be resolved
        return None
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]


def _failure_of(error: OSError | RuntimeError) -> FailureClass:
    """Refused means that the machine is there; everything else that it was not reached."""
    if isinstance(error, ConnectionRefusedError | ConnectionResetError):
        return FailureClass.UNSENT_REFUSED
    # Several addresses that failed in different ways arrive as one error without number.
    if f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return FailureClass.UNSENT_REFUSED
    return FailureClass.UNSENT_UNREACHABLE


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError | socket.gaierror) and error.errno:
        return os.strerror(error.errno).lower()
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error) or type(error).__name__).lower()
