"""What became of the addresses in one body: data in their place, or why nobody of one's own can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.gateway.spool import IN_MEMORY, on_disk
from fleetgate.routing.availability import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.errors import Refused
    from fleetgate.live import Deployment


def takes_data_only(candidate: Deployment) -> bool:
    """Whether addresses are kept from it: an engine of one's own would fetch from inside one's network."""
    engine = candidate.engine
    return engine.node.local and not engine.fetches_media


class Replaced:
    """Of a body with addresses. `close` gives its memory back; it may be called twice."""

    __slots__ = ("_file", "_give_back", "_rest", "note", "refused")

    def __init__(self) -> None:
        self.refused: Refused | None = None
        """why those who take data only cannot be asked"""
        self.note = ""
        """for the record"""
        self._rest: bytes | None = None
        self._file: Any = None
        self._give_back: Callable[[], None] | None = None

    def rest(self, candidate: Deployment) -> bytes | None:
        """The members of the body with data in the place of addresses; None: it gets them as they are.
        Raises AttemptFailed."""
        if not takes_data_only(candidate):
            return None
        if self.refused is not None:
            raise AttemptFailed(FailureClass.ABSENT_FEATURE, self.refused.message, status=400)
        if self._file is None:
            return self._rest
        self._file.seek(0)
        return bytes(self._file.read())

    def keep(self, rest: bytes, give_back: Callable[[], None]) -> None:
        """`give_back` is called once it is not needed any more."""
        self._give_back, self._rest = give_back, rest
        if len(rest) > IN_MEMORY:
            self._file = on_disk("media", rest)
            self._rest = None

    def objection(self, candidate: Deployment) -> Reason | None:
        """What stands against those who take data only, where there is none."""
        return Reason.ADDRESSES if self.refused is not None and takes_data_only(candidate) else None

    def close(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()
        self._rest = None
        if self._file is not None:
            self._file.close()
