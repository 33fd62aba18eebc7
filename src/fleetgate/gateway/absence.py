"""When the caller is gone and its exchange goes on without it: for others who wait, or for its cost.

Others wait for the same answer (`cache.flights`): the caller's own reasons to stop end only its own part. A
paid answer may be read to its end for nobody, so that its cost is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleetgate.errors import FailureClass

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from typing import Any

    from fleetgate.gateway.downstream import Downstream
    from fleetgate.gateway.gateway import Gateway
    from fleetgate.gateway.purse import Purse
    from fleetgate.gateway.recall import Recall
    from fleetgate.gateway.walk import Walk

READ_ON: Final = 60.0
"""Seconds that a paid answer is read for nobody, where that is configured, …"""
READ_ON_AT_ONCE: Final = 64
"""… and so many at the same time."""
_OF_THE_CALLER: Final = frozenset({FailureClass.CALLER_GONE, FailureClass.DEADLINE})
"""reasons to stop that are the caller's own: whoever waits for the same answer has none"""


class Absence:
    """Of one caller. `stop` ends the exchange."""

    __slots__ = ("_gateway", "_reading_on", "_stop", "_telling", "note", "why")

    def __init__(self, gateway: Gateway, stop: Callable[[FailureClass], None]) -> None:
        self._gateway = gateway
        self._stop: Callable[[FailureClass], None] | None = stop
        self._telling: asyncio.Task[None] | None = None
        self._reading_on: asyncio.TimerHandle | None = None
        """set while a paid answer is read for nobody"""
        self.why: FailureClass | None = None
        """why it is gone; None: it is there"""
        self.note = "its caller had left; it went on for equal requests"

    def leaves(
        self, why: FailureClass, recalled: Recall, tell_late: Callable[[], Coroutine[Any, Any, None]]
    ) -> bool:
        """Let the caller go, and go on for those who wait for the same answer; False: nobody does."""
        if why not in _OF_THE_CALLER or not recalled.wanted(self._deserted):
            return False
        if self.why is None:
            self.why = why
            if why is FailureClass.DEADLINE:
                self._telling = self._gateway.spawn(tell_late())
        return True

    def is_read_on(self, walk: Walk | None, purse: Purse, down: Downstream) -> bool:
        """Whether a paid answer is read to its end though its caller has left: once, and for a while."""
        gateway = self._gateway
        if self.why is not None or walk is None or not purse.pays or not down.ended:
            return False  # `ended`: one who only takes nothing would be waited for, not read on
        if gateway.settings.ledger.on_disconnect != "read_on" or gateway.reading_on >= READ_ON_AT_ONCE:
            return False
        walk.last = True  # should it fail, nobody waits for another one
        self.why = FailureClass.CALLER_GONE
        self.note = "its caller had left; it was read to its end for its cost"
        gateway.reading_on += 1
        self._reading_on = gateway.loop.call_later(READ_ON, self._end)
        return True

    async def told(self) -> None:
        """Wait until a caller whose time was up has been told so."""
        if self._telling is not None:
            await self._telling

    def over(self) -> None:
        """The exchange is settled."""
        if self._reading_on is not None:
            self._reading_on.cancel()
            self._reading_on = None
            self._gateway.reading_on -= 1

    def let_go(self) -> None:
        """Open the rings of references."""
        self._stop = self._telling = None

    def _deserted(self) -> None:
        """The last of those who waited has left too."""
        if self.why is not None:
            self._end()

    def _end(self) -> None:
        if self._stop is not None and self.why is not None:
            self._stop(self.why)
