"""Calendar windows: when the current one began and when the next begins. Pure arithmetic.

Days and months begin at a local time of day in a time zone, so that a day may have 23 or 25 hours.
Where that local time is skipped the window begins as much later; where it comes twice, at the first.
Seconds, minutes and hours are those of UTC: no zone moves them.

Windows cover time without gap or overlap. All times are unix seconds.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from fleetgate import units


class Unit(StrEnum):
    """The length of a calendar window."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


SECONDS: Final = {Unit.SECOND: 1, Unit.MINUTE: 60, Unit.HOUR: 3_600}
"""units that are equally long everywhere"""
_ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Windows of one unit, and where they begin."""

    unit: Unit
    zone: str = "UTC"
    hour: int = 0
    """of days and months"""
    minute: int = 0
    """of hours, days and months"""
    day: int = 1
    """of months; a shorter month begins on its last day"""

    def span(self, wall: float) -> tuple[int, int]:
        """Begin of the window that holds `wall`, and begin of the next one."""
        length = SECONDS.get(self.unit)
        if length is not None:
            offset = self.minute * 60 if self.unit is Unit.HOUR else 0
            begin = (int(wall // 1) - offset) // length * length + offset
            return begin, begin + length
        return self._local_span(wall)

    def start(self, wall: float) -> int:
        return self.span(wall)[0]

    def end(self, wall: float) -> int:
        """The next reset."""
        return self.span(wall)[1]

    def _local_span(self, wall: float) -> tuple[int, int]:
        # The local date only says where to look: where clocks are set back over midnight, or a whole
        # day is skipped, the window of that date may begin after `wall` or end before it.
        here = datetime.fromtimestamp(wall, units.zone(self.zone)).date()
        begin = self._begin(here)
        while begin > wall:
            here = self._step(here, -1)
            begin = self._begin(here)
        after = self._step(here, 1)
        end = self._begin(after)
        while end <= wall:
            begin, after = end, self._step(after, 1)
            end = self._begin(after)
        return begin, end

    def _begin(self, near: date) -> int:
        """When the window of a date begins: of that day, or of its month."""
        if self.unit is Unit.MONTH:
            last = monthrange(near.year, near.month)[1]
            near = near.replace(day=min(self.day, last))
        # `fold=0`: of a repeated time the first; a skipped one counts from before the clocks moved,
        # which is as much later.
        local = datetime.combine(near, time(self.hour, self.minute), units.zone(self.zone))
        return int(local.timestamp())

    def _step(self, near: date, by: int) -> date:
        if self.unit is Unit.DAY:
            return near + by * _ONE_DAY
        first = near.replace(day=1)
        return (first + 31 * _ONE_DAY).replace(day=1) if by > 0 else (first - _ONE_DAY).replace(day=1)


def monotone(previous_start: int | None, calendar: Calendar, wall: float) -> int:
    """The start of the current window, which never moves back when the clock does.

    A clock that was set back therefore goes on counting in the window that it had reached: no window is
    ever used twice. Its end is `calendar.end(max(wall, start))`.
    """
    start = calendar.start(wall)
    return start if previous_start is None else max(previous_start, start)
