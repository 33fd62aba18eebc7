"""Keeps calls away from shared state that does not answer.

After some failures in a row every call fails at once for a while; then one call at a time may try again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

FAILS: Final = 5
OPEN_FOR: Final = 5.0


class Fuse:
    """A breaker over one thing. Times are seconds of the given clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self.why = ""
        """the latest failure; empty after a call was answered"""

    def lets_through(self) -> bool:
        """Whether a call may be made now. Where it is the trial, others are kept away until it has ended."""
        if self._failures < FAILS:
            return True
        now = self._clock()
        if now < self._open_until:
            return False
        self._open_until = now + OPEN_FOR
        return True

    def answered(self) -> None:
        self._failures = 0
        self.why = ""

    def failed(self, why: str) -> None:
        self._failures += 1
        self.why = why
        if self._failures >= FAILS:
            self._open_until = self._clock() + OPEN_FOR
