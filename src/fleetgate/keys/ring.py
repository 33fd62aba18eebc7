"""The keys a gateway has lately read from the database, and for how long it may rely on them.

Rules: a key that was found counts for a minute, an unknown one for five seconds. A counter in the
database grows with every change to a key; it is read every second, and when it has grown behind our
back nothing read before counts any more, so that a revocation is in effect everywhere within two
seconds. While the counter cannot be read, keys that were known at the last reading go on counting
for a quarter of an hour, for what costs nothing. Changes made by this gateway count at once.

No I/O; times are monotonic seconds given by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from fleetgate.domain import KeyKind, Principal

if TYPE_CHECKING:
    from fleetgate.store.access import KeyRow, PersonRow

KNOWN_FOR: Final = 60.0
UNKNOWN_FOR: Final = 5.0
BLIND_AFTER: Final = 2.0
"""Seconds without a reading of the counter after which the database counts as down."""
TRUSTED_FOR: Final = 900.0
"""Seconds without a reading for which known keys go on counting."""
MOST: Final = 200_000
MOST_UNKNOWN: Final = 10_000
NO_DIGEST: Final = bytes(32)


class Unfamiliar(Exception):
    """Whether there is such a key must be read first."""

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id


@dataclass(frozen=True, slots=True)
class Known:
    """A key as identifying needs it. Times are unix seconds."""

    kind: str = ""
    digest: bytes = NO_DIGEST
    old_digest: bytes = NO_DIGEST
    old_until: float = 0.0
    expires: float | None = None
    usable: bool = False
    """neither revoked nor disabled; False for whoever is nobody"""
    principal: Principal = Principal("nobody")  # noqa: RUF009  (frozen)
    local_principal: Principal = Principal("nobody")  # noqa: RUF009  (frozen)


NOBODY: Final = Known()


def known_of(row: KeyRow, team: str | None) -> Known:
    """What a row says for identifying."""
    principal = Principal(
        row.id, KeyKind(row.kind), row.person, team, row.names, tags=row.tags, alias=row.alias
    )
    return Known(
        row.kind,
        bytes.fromhex(row.digest),
        bytes.fromhex(row.old_digest) if row.old_digest else NO_DIGEST,
        row.old_until / 1e3 if row.old_digest and row.old_until else 0.0,
        row.expires_at / 1e3 if row.expires_at is not None else None,
        row.enabled and row.revoked_at is None,
        principal,
        replace(principal, only_local=True),
    )


def known_person(row: PersonRow) -> Known:
    """A user as one who may ask without a key. No key fits it."""
    principal = Principal(row.id, KeyKind.CALLER, row.id, row.team)
    return Known(usable=True, principal=principal, local_principal=replace(principal, only_local=True))


@dataclass(slots=True)
class _Held:
    known: Known | None
    """None: there is no such key"""
    read_at: float
    epoch: int


class Ring:
    """Holds what was read. Changed on the event loop only."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._unknown = 0
        self._epoch = 0
        self._valid_from = 0
        self._seen = float("-inf")
        self._failing = False

    def __len__(self) -> int:
        return len(self._held)

    def blind(self, now: float) -> bool:
        """Whether changes made elsewhere would go unnoticed."""
        return self._failing or now - self._seen > BLIND_AFTER

    @property
    def failing(self) -> bool:
        return self._failing

    def find(self, key_id: str, now: float) -> Known:
        """What is known of a key, `NOBODY` where there is none. Raises Unfamiliar."""
        held = self._held.get(key_id)
        if held is None or held.epoch < self._valid_from:
            raise Unfamiliar(key_id)
        if held.known is None:
            if now - held.read_at > UNKNOWN_FOR:
                raise Unfamiliar(key_id)
            return NOBODY
        if now - held.read_at > KNOWN_FOR and not self.blind(now):
            raise Unfamiliar(key_id)
        if now - self._seen > TRUSTED_FOR:
            raise Unfamiliar(key_id)
        return held.known

    def took(self, key_id: str, known: Known | None, epoch: int, now: float) -> None:
        """A key was read, or not found, in a database at this epoch."""
        before = self._held.get(key_id)
        if epoch < self._valid_from or (before is not None and before.epoch > epoch):
            return  # it was read before a change that is known here already
        self._drop(key_id)
        if known is None and self._unknown >= MOST_UNKNOWN:
            self._held = {key: held for key, held in self._held.items() if held.known is not None}
            self._unknown = 0
        if len(self._held) >= MOST:
            self._drop(next(iter(self._held)))  # the one read longest ago
        self._held[key_id] = _Held(known, now, epoch)
        self._unknown += known is None

    def changed(self, key_id: str, known: Known, epoch: int, now: float) -> None:
        """This gateway changed a key, which made this epoch."""
        self._advance(epoch, alone=True)
        self.took(key_id, known, epoch, now)

    def outdated(self, epoch: int) -> None:
        """This gateway changed what many keys depend on, such as the team of a user."""
        self._advance(epoch, alone=False)

    def confirm(self, epoch: int, now: float) -> None:
        """The counter was read."""
        self._advance(epoch, alone=False)
        self._seen = now
        self._failing = False

    def fail(self) -> None:
        """The database did not answer."""
        self._failing = True

    def _advance(self, epoch: int, *, alone: bool) -> None:
        """Everything read before is void, unless the one change since is known here (`alone`)."""
        if epoch > self._epoch + (1 if alone else 0):
            self._valid_from = epoch
        self._epoch = max(self._epoch, epoch)

    def _drop(self, key_id: str) -> None:
        held = self._held.pop(key_id, None)
        if held is not None and held.known is None:
            self._unknown -= 1
