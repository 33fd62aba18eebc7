"""Who asks. `identify` answers from memory; `learn` reads what memory does not have.

There is one master key, which is made once and opens everything, and there are issued keys. Missing,
malformed, unknown, wrong, expired, disabled and revoked keys get the same answer on the same path, and
every comparison takes the same time whatever the key looks like.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fleetgate.domain import KeyKind, Principal
from fleetgate.errors import Refused, Source
from fleetgate.keys import form
from fleetgate.keys.ring import NO_DIGEST, NOBODY, Known, Ring, Unfamiliar, known_of, known_person
from fleetgate.store import access
from fleetgate.store.failures import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from fleetgate.store.database import Store

MASTER: Final = Principal("master", KeyKind.ADMIN)
ANYBODY: Final = Principal("anonymous")
READ_LIMIT: Final = 0.25
"""Seconds that a request waits for the database to say whether there is such a key."""
POLL_EVERY: Final = 1.0
SAVE_EVERY: Final = 60
"""Polls between two writings of when keys were last used."""
MOST_ASKED: Final = 64
"""Keys that are read at the same time; more than that is somebody trying keys."""
_USER: Final = "user:"
"""before the name of a user who is asked for without a key; no key has an id like that"""


@dataclass(frozen=True, slots=True)
class Issued:
    """What issued keys need: where they are kept, what their hashes are keyed with, and clocks."""

    store: Store
    pepper: bytes
    ring: Ring
    clock: Callable[[], float]
    """monotonic seconds"""
    wall: Callable[[], float]
    """unix seconds"""


class Keys:
    """Knows the keys; answers who presents one."""

    def __init__(self, master: str, issued: Issued | None = None) -> None:
        self._master = _sha256(master.encode())
        self._issued = issued
        self._used: dict[str, int] = {}
        self._asked: dict[str, asyncio.Future[_Found]] = {}
        self._polling: asyncio.Future[int] | None = None

    def identify(self, presented: bytes | None) -> Principal | None:
        """The principal of a presented key, or None. Raises Unfamiliar where `learn` must read first."""
        given = presented or b""
        master = hmac.compare_digest(_sha256(given), self._master)
        if master and presented:
            return MASTER
        issued = self._issued
        if issued is None or not presented:
            return None
        parts = form.parse(given)
        now = issued.clock()
        known = issued.ring.find(parts.id, now) if parts is not None else NOBODY
        fits = _fits(known, parts, issued)
        if not fits:
            return None
        self._used[known.principal.id] = round(issued.wall() * 1e3)
        return known.local_principal if issued.ring.blind(now) else known.principal

    def person(self, user: str) -> Principal | None:
        """A user whom something else than a key has shown; None: there is no such user.

        Raises Unfamiliar where `learn` must read first.
        """
        issued = self._issued
        if issued is None:
            return None
        now = issued.clock()
        known = issued.ring.find(_USER + user, now)
        if not known.usable:
            return None
        return known.local_principal if issued.ring.blind(now) else known.principal

    def person_now(self, user: str) -> Principal | None:
        """After `learn`. Raises Refused (503) where it still cannot be told."""
        try:
            return self.person(user)
        except Unfamiliar:
            raise _cannot_tell() from None

    async def learn(self, unfamiliar: Unfamiliar) -> None:
        """Read a key, or a user. Afterwards `identify` knows more, or the database is down."""
        issued, key_id = self._issued, unfamiliar.key_id
        assert issued is not None
        asked = self._asked.get(key_id)
        if asked is None:
            if issued.ring.failing or len(self._asked) >= MOST_ASKED:
                raise _cannot_tell()
            loop = asyncio.get_running_loop()
            asked = loop.run_in_executor(None, issued.store.ask, _Reading(key_id))
            self._asked[key_id] = asked
            asked.add_done_callback(lambda done: self._learned(key_id, done))
        # Only this caller is told that it takes too long: whoever tries keys on a busy machine must not be
        # able to make the database count as down for all others.
        await asyncio.wait((asked,), timeout=READ_LIMIT)

    def identify_now(self, presented: bytes | None) -> Principal | None:
        """After `learn`: who it is. Raises Refused (503) where that still cannot be told."""
        try:
            return self.identify(presented)
        except Unfamiliar:
            raise _cannot_tell() from None

    async def follow(self) -> None:
        """For ever: watch the counter of changes, and write now and then when keys were last used."""
        turn = 0
        while True:
            await self.poll()
            turn += 1
            if turn % SAVE_EVERY == 0:
                await self.save()
            await asyncio.sleep(POLL_EVERY)

    async def poll(self) -> None:
        """Read the counter of changes, once; a reading that hangs is not joined by a second one.

        A late answer counts when it comes, from when it was asked for: this process may have been busy.
        A database that hangs counts as down when the latest reading is too old, one that fails at once.
        """
        issued = self._issued
        assert issued is not None
        asked = self._polling
        if asked is None or asked.done():
            loop = asyncio.get_running_loop()
            asked = self._polling = loop.run_in_executor(None, issued.store.ask, access.epoch)
            asked.add_done_callback(partial(_polled, issued, issued.clock()))
        await asyncio.wait((asked,), timeout=READ_LIMIT)

    async def save(self) -> None:
        """Write when keys were last used. What the database does not take is tried again later."""
        issued = self._issued
        used, self._used = self._used, {}
        if issued is None or not used:
            return
        try:
            await issued.store.change(lambda connection: access.note_use(connection, used))
        except StoreError:
            self._used = {**used, **self._used}

    def _learned(self, key_id: str, done: asyncio.Future[_Found]) -> None:
        self._asked.pop(key_id, None)
        issued = self._issued
        if issued is None or done.cancelled():
            return
        if _failed(issued, done):
            return
        known, epoch = done.result()
        issued.ring.took(key_id, known, epoch, issued.clock())


def _polled(issued: Issued, began: float, done: asyncio.Future[int]) -> None:
    if not done.cancelled() and not _failed(issued, done):
        issued.ring.confirm(done.result(), began)


def _failed(issued: Issued, done: asyncio.Future[Any]) -> bool:
    """Whether a reading failed, which is then known to all. Raises what is no failure of the database."""
    error = done.exception()
    if error is None:
        return False
    issued.ring.fail()
    if not isinstance(error, StoreError):
        raise error
    return True


def user_of(unfamiliar: Unfamiliar) -> str | None:
    """The user who must be read; None where it is a key."""
    key_id = unfamiliar.key_id
    return key_id.removeprefix(_USER) if key_id.startswith(_USER) else None


_Found = tuple[Known | None, int]


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads a key or a user and, in the same snapshot, the counter of changes."""

    key_id: str

    def __call__(self, connection: Connection) -> _Found:
        return self._known(connection), access.epoch(connection)

    def _known(self, connection: Connection) -> Known | None:
        if self.key_id.startswith(_USER):
            person = access.person_called(connection, self.key_id.removeprefix(_USER))
            return known_person(person) if person is not None else None
        row, team = access.key_and_team(connection, self.key_id)
        return known_of(row, team) if row is not None else None


def digest(pepper: bytes, secret: bytes) -> bytes:
    """What is kept of a secret. It has 256 bits, so a fast keyed hash suffices."""
    return hmac.digest(pepper, secret, "sha256")


def _fits(known: Known, parts: form.KeyText | None, issued: Issued) -> bool:
    """Whether the secret is right and the key in force: all is compared, then one answer is given."""
    mac = digest(issued.pepper, parts.secret if parts is not None else NO_DIGEST)
    wall = issued.wall()
    current = hmac.compare_digest(mac, known.digest)
    old = hmac.compare_digest(mac, known.old_digest) & (wall < known.old_until)
    in_time = known.expires is None or wall < known.expires
    same_kind = parts is not None and parts.kind == known.kind
    return (current | old) & in_time & same_kind & known.usable


def _cannot_tell() -> Refused:
    return Refused(
        503,
        "keys_unavailable",
        "the key cannot be checked now: the database does not answer",
        advice="Ask again in a moment; `fleetgate` logs what is wrong with the database.",
        source=Source.GATEWAY,
        retry_after=5.0,
    )


def _sha256(key: bytes) -> bytes:
    """Keys of any length become equally long, so that comparing them takes equally long."""
    return hashlib.sha256(key).digest()
