"""Callers without a key whom Tailscale knows: as which user they count.

A login is believed from two sources, each only where it is configured: the header that `tailscale serve`
adds, on connections from loopback; and the daemon's own word about an address of the tailnet. A login
is a user of the same name, or the one that the configuration lists for it. It opens what a caller's
key opens, and nothing else. What cannot be told is not guessed: it is refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetgate import tailnet
from fleetgate.domain import KeyKind, Principal
from fleetgate.errors import Refused, Source
from fleetgate.keys.owner import user_of
from fleetgate.keys.ring import Unfamiliar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleetgate.config.schema import Tailscale as Settings
    from fleetgate.keys.changes import Actor
    from fleetgate.keys.owner import Keys
    from fleetgate.keys.people import People

HEADER: Final = b"tailscale-user-login"
LONGEST: Final = 100
"""Characters of a login, as of a user's name."""
ASK_LIMIT: Final = 0.25
KNOWN_FOR: Final = 60.0
FAILED_FOR: Final = 1.0
MOST_KNOWN: Final = 4096
MOST_ASKED: Final = 32
_FAILED: Final = "\0"
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")
"""what may become a user"""


class Stranger(Unfamiliar):
    """An address that Tailscale must be asked about first."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(address)
        self.address = address
        self.port = port


@dataclass(frozen=True, slots=True)
class _Heard:
    login: str
    """empty: nobody; `_FAILED`: it could not be told"""
    until: float


class Tailscale:
    """Tells whom a connection without a key belongs to."""

    def __init__(
        self, keys: Keys, people: People, clock: Callable[[], float], patience: float = ASK_LIMIT
    ) -> None:
        """`clock`: monotonic seconds; `patience`: how long the daemon may take."""
        self._patience = patience
        self._keys = keys
        self._people = people
        self._clock = clock
        self._settings: Settings | None = None
        self._heard: OrderedDict[str, _Heard] = OrderedDict()
        self._asking = 0

    def configure(self, settings: Settings | None) -> None:
        if settings != self._settings:
            self._heard.clear()
        self._settings = settings

    def identify(
        self, client: tuple[str, int], headers: Iterable[tuple[bytes, bytes]], *, final: bool
    ) -> Principal | None:
        """The caller, or None. Raises Stranger, Unfamiliar (not where `final`) and Refused (503)."""
        settings = self._settings
        if settings is None:
            return None
        login = self._login(settings, client, headers)
        if login is None:
            return None
        listed = settings.users.get(login)
        user = listed or login
        person = self._keys.person_now(user) if final else self._keys.person(user)
        if person is None:
            return None if listed is None else Principal(_id(login), KeyKind.CALLER, user)
        return Principal(_id(login), KeyKind.CALLER, person.user, person.team, only_local=person.only_local)

    async def ask(self, stranger: Stranger) -> None:
        """Ask the daemon. Afterwards `identify` knows the address, or refuses."""
        settings = self._settings
        if settings is None or settings.whois is None:
            return
        if self._asking >= MOST_ASKED:
            raise _cannot_tell()
        self._asking += 1
        try:
            async with asyncio.timeout(self._patience):
                login = await tailnet.whois(settings.whois, stranger.address, stranger.port)
        except (TimeoutError, tailnet.TailnetDown):
            self._hear(stranger.address, _FAILED, FAILED_FOR)
        else:
            self._hear(stranger.address, _clean(login or ""), KNOWN_FOR)
        finally:
            self._asking -= 1

    async def welcome(self, unfamiliar: Unfamiliar, actor: Actor) -> None:
        """After `Keys.learn`: make the user of a login that is nobody yet, where that is wanted."""
        settings, user = self._settings, user_of(unfamiliar)
        if settings is None or not settings.create or user is None or not _USER.fullmatch(user):
            return
        if user in settings.users.values() or self._keys.person_now(user) is not None:
            return
        try:
            await self._people.create_user(actor, user, None, "came by Tailscale")
        except Refused as refused:
            if refused.code != "user_exists":  # somebody else was faster
                raise
        await self._keys.learn(unfamiliar)

    def _login(
        self, settings: Settings, client: tuple[str, int], headers: Iterable[tuple[bytes, bytes]]
    ) -> str | None:
        address, port = client
        if settings.headers and _is_loopback(address):
            given = [value for name, value in headers if name == HEADER]
            return _clean(given[0].decode("latin-1")) or None if len(given) == 1 else None
        if settings.whois is None or not tailnet.in_tailnet(address):
            return None
        heard = self._heard.get(address)
        if heard is None or heard.until <= self._clock():
            raise Stranger(address, port)
        if heard.login == _FAILED:
            raise _cannot_tell()
        return heard.login or None

    def _hear(self, address: str, login: str, seconds: float) -> None:
        self._heard.pop(address, None)
        while len(self._heard) >= MOST_KNOWN:
            self._heard.popitem(last=False)
        self._heard[address] = _Heard(login, self._clock() + seconds)


def _id(login: str) -> str:
    return f"tailscale:{login}"


def _clean(login: str) -> str:
    """A login as it is; empty where it cannot be one."""
    login = login.strip()
    fits = login.isascii() and login.isprintable() and " " not in login and len(login) <= LONGEST
    return login if fits else ""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _cannot_tell() -> Refused:
    return Refused(
        503,
        "identity_unavailable",
        "who asks cannot be told now: Tailscale does not answer",
        advice="Ask again in a moment, or send a key.",
        source=Source.GATEWAY,
        retry_after=5.0,
    )
