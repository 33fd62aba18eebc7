"""What follows a failed attempt, and how many retries a gateway may afford. Pure decisions.

The verdict comes from the failure table; this module adds what the table cannot know: whether
another candidate exists, how many attempts are left, and the retry budget, which keeps retries from
multiplying an overload (two limits at once: of those active, and of the last 10 s, because a 503
that fails in 5 ms frees its place hundreds of times a second).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from fleetgate.errors import TABLE, FailureClass, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

BACK_OFF_BASE: Final = 0.025
BACK_OFF_CAP: Final = 0.250
BUDGET_SHARE: Final = 0.2
BUDGET_MINIMUM: Final = 3
BUDGET_WINDOW: Final = 10.0


def decide(failure: FailureClass, *, stale_before: bool, attempts_left: int) -> Verdict:
    """What follows a failed attempt.

    `stale_before`: this candidate was already asked again for a stale connection. `attempts_left`:
    attempts that may still count, after this one.
    """
    row = TABLE[failure]
    if failure is FailureClass.STALE_CONNECTION:
        return Verdict.NEXT if stale_before else Verdict.AGAIN
    if row.dispatched and row.verdict is Verdict.NEXT and attempts_left <= 0:
        return Verdict.STOP
    return row.verdict


def back_off(retry_number: int, random: Callable[[], float]) -> float:
    """Full jitter from 25 to 250 ms (Envoy's default shape)."""
    return random() * min(BACK_OFF_CAP, BACK_OFF_BASE * 2.0 ** max(0, retry_number))


class Budget:
    """Counts first attempts and retries of one gateway. Its owner is the gateway."""

    __slots__ = ("_firsts", "_retries", "active", "retrying")

    def __init__(self) -> None:
        self.active = 0
        self.retrying = 0
        self._firsts: deque[list[float]] = deque()
        self._retries: deque[float] = deque()

    def first(self, now: float) -> None:
        """A first attempt begins. Kept as counts per tenth of a second."""
        if self._firsts and now - self._firsts[-1][0] < 0.1:
            self._firsts[-1][1] += 1
            return
        self._firsts.append([now, 1])
        while self._firsts[0][0] < now - BUDGET_WINDOW:
            self._firsts.popleft()

    def allows(self, now: float) -> bool:
        """Whether one more retry fits both limits."""
        if self.retrying + 1 > max(BUDGET_MINIMUM, BUDGET_SHARE * self.active):
            return False
        while self._retries and self._retries[0] < now - BUDGET_WINDOW:
            self._retries.popleft()
        while self._firsts and self._firsts[0][0] < now - BUDGET_WINDOW:
            self._firsts.popleft()
        firsts = sum(count for _, count in self._firsts)
        return len(self._retries) + 1 <= max(BUDGET_MINIMUM, BUDGET_SHARE * firsts)

    def spend(self, now: float) -> None:
        """A retry that counts begins; `retrying` goes down again when its exchange ends."""
        self._retries.append(now)
        self.retrying += 1
