"""What a limit is, and the arithmetic of those that live in memory. Pure: time is handed in.

A limit is a scope, a measure, a window and a ceiling. Limits with a calendar window last: their counters are
in the database and not here. A rolling limit is a `Bucket`, one on requests at a time a `Flight`.

Rules: to check changes nothing, so that all limits of a request can be asked before any counts;
arithmetic is in whole numbers, so that nothing drifts; `now` is a monotonic clock.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from fleetgate import units
from fleetgate.windows import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetgate.windows import Calendar

KINDS: Final = ("team", "user", "key", "role", "model", "deployment", "provider", "account", "node")
"""what a scope may name"""
OF_CALLER: Final = frozenset({"team", "user", "key", "role"})
"""known before a candidate is chosen"""
EACH: Final = "*"
QUOTA: Final = "quota"
"""origin of limits that a provider sets"""
HEAD_START: Final = 20
"""A spread quota begins with this part of it, so that its window does not begin with a wait."""
_MICRO: Final = 1_000_000
_PER: Final = {1.0: "second", 60.0: "minute", 3_600.0: "hour"}


class Measure(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    TOKENS = "tokens"
    PARALLEL = "parallel"
    MONEY = "money"


_AMOUNTS: Final = {measure: attrgetter(measure.value) for measure in Measure}


class Then(StrEnum):
    """What happens where a limit is reached."""

    REFUSE = "refuse"
    LOCAL_ONLY = "local_only"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom a limit counts: every part has to match. No parts: everything."""

    parts: tuple[tuple[str, str], ...] = ()
    """(kind, pattern), sorted; `*` in a pattern stands for any text"""
    apart: tuple[str, ...] = ()
    """kinds that count apart though their pattern is not exactly `*`, sorted"""

    def matches(self, subject: Mapping[str, str | None]) -> bool:
        for kind, pattern in self.parts:
            value = subject.get(kind)
            if value is None or (pattern not in (EACH, value) and not _like(value, pattern)):
                return False
        return True

    def each(self, subject: Mapping[str, str | None]) -> str:
        """What goes behind the limit's id where everybody counts apart: `@ci`; else nothing."""
        values = [
            (subject.get(kind) or "").replace("%", "%25").replace(",", "%2C")
            for kind, pattern in self.parts
            if pattern == EACH or kind in self.apart
        ]
        return f"@{','.join(values)}" if values else ""

    @property
    def caller_only(self) -> bool:
        """Whether it can be decided before a candidate is known."""
        return all(kind in OF_CALLER for kind, _ in self.parts)

    @property
    def counts_apart(self) -> bool:
        return any(pattern == EACH or kind in self.apart for kind, pattern in self.parts)

    @property
    def text(self) -> str:
        """`key=ci, model=openai/*`, or `global`."""
        return ", ".join(f"{kind}={pattern}" for kind, pattern in self.parts) or "global"

    @property
    def words(self) -> str:
        """`for key ci and each model`."""
        named = (
            f"each {kind}"
            if pattern == EACH
            else f"each {kind} {pattern}"
            if kind in self.apart
            else f"{kind} {pattern}"
            for kind, pattern in self.parts
        )
        return f"for {' and '.join(named)}" if self.parts else "in all"


def _like(text: str, pattern: str) -> bool:
    """Whether a text has the form of a pattern with `*`."""
    head, *middle = pattern.split("*")
    if not middle:
        return False  # no wildcard, and the caller has compared
    tail = middle.pop()
    if len(text) < len(head) + len(tail) or not (text.startswith(head) and text.endswith(tail)):
        return False
    at, last = len(head), len(text) - len(tail)
    for part in middle:
        found = text.find(part, at, last)
        if found < 0:
            return False
        at = found + len(part)
    return True


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit. Neither calendar nor period: it counts what runs at the same time."""

    id: str
    name: str
    scope: Scope
    measure: Measure
    ceiling: int
    """requests, tokens or nano-dollars"""
    calendar: Calendar | None
    period: float | None
    """seconds, of a rolling limit"""
    burst: int | None
    """how much of a rolling limit may come at once; None: all of it"""
    then: Then
    origin: str
    """`file`, `database`, or `quota`: set by a provider"""
    spread: bool = False
    """it is let out evenly over its window"""
    shown_in: tuple[str, int] = ("USD", units.NANO_PER_USD)
    """the currency in which people see its money, and what one of it is worth in nano-dollars"""
    lasting: bool = field(init=False, compare=False, repr=False)
    at_once: int = field(init=False, compare=False, repr=False)
    """what a rolling limit's bucket holds"""
    rate: int = field(init=False, compare=False, repr=False)
    """Units that flow back into a rolling limit's bucket in one period.

    A bucket lets through what it holds and what flows back. A caller may well use a minute's worth
    at once, and go on at that pace. A provider counts, so both together are its ceiling.
    """
    largest: int = field(init=False, compare=False, repr=False)
    """The most that one request may take of a rolling limit.

    A prompt larger than the small burst of a provider's quota fits once the bucket has rested.
    """
    amount_of: Callable[[Any], int] = field(init=False, compare=False, repr=False)
    """what of a request's counts is counted here"""

    def __post_init__(self) -> None:
        """Every request asks for these."""
        quota = self.origin == QUOTA
        at_once = self.ceiling if self.burst is None or not self.ceiling else self.burst
        if quota:
            at_once = min(at_once, self.ceiling)
        for name, value in (
            ("lasting", self.calendar is not None),
            ("at_once", at_once),
            ("rate", max(1, self.ceiling - at_once) if quota else self.ceiling),
            ("largest", self.ceiling if quota else at_once),
            ("amount_of", _AMOUNTS[self.measure]),
        ):
            object.__setattr__(self, name, value)

    def counter(self, subject: Mapping[str, str | None]) -> str:
        """The name of what counts for a subject."""
        return self.id + self.scope.each(subject)

    @property
    def words(self) -> str:
        """`60 requests per minute for key ci`."""
        return " ".join(part for part in (self._amount, self._window, self.scope.words) if part)

    @property
    def title(self) -> str:
        """Its name, if it has one, and what it says."""
        return f"{self.name} ({self.words})" if self.name else self.words

    @property
    def _amount(self) -> str:
        if self.measure is Measure.MONEY:
            return units.print_money(self.ceiling, *self.shown_in)
        if self.measure is Measure.PARALLEL:
            return f"{_many(self.ceiling, 'requests')} at a time"
        return _many(self.ceiling, self.measure.value.replace("_", " "))

    @property
    def _window(self) -> str:
        calendar = self.calendar
        if calendar is not None:
            plain = calendar.unit in (Unit.DAY, Unit.MONTH) or self.measure is Measure.MONEY
            text = f"per {calendar.unit.value}" if plain else f"per calendar {calendar.unit.value}"
            begin = f"{calendar.hour:02}:{calendar.minute:02} " if calendar.hour or calendar.minute else ""
            zone = calendar.zone if begin or calendar.zone != "UTC" else ""
            return f"{text} ({'from ' if begin else ''}{begin}{zone})" if zone else text
        if self.period is None:
            return ""
        unit = _PER.get(self.period)
        return f"per {unit}" if unit else f"in any {units.print_duration(self.period)}"


def _many(count: int, things: str) -> str:
    return f"{count:,} {things[:-1] if count == 1 else things}"


def limit_id(
    scope: Scope, measure: Measure, window: Calendar | float | None, name: str, *, quota: bool = False
) -> str:
    """The same for the same limit at every start. Its ceiling is no part of it: to raise one keeps the count.

    A provider's quota and a limit of ours are never the same.
    """
    if window is None or isinstance(window, int | float):
        length = "" if window is None else units.print_duration(float(window))
    else:
        length = f"{window.unit} {window.day} {window.hour:02}:{window.minute:02} {window.zone}"
    whole = [scope.parts, scope.apart, measure.value, length, name, QUOTA if quota else ""]
    text = json.dumps(whole, separators=(",", ":")).encode()
    return ("q" if quota else "l") + hashlib.blake2s(text, digest_size=6).hexdigest()


Mark = tuple[int, int]
"""Until when a part of a bucket counts, in the parts of a rate."""


class Bucket:
    """A rolling limit (GCRA): holds `burst` units, and `rate` of them flow back in each `period`.

    It remembers one moment: when all will have flowed back. Time is counted in parts of which each unit
    takes a whole number, so that nothing is rounded and nothing drifts.
    """

    __slots__ = ("_full_at", "_given_back", "_rate")

    def __init__(self) -> None:
        self._full_at: int | None = None
        """in microseconds times rate; in the past too, where it says how long the bucket has rested"""
        self._given_back = 0
        """in the same unit: how far corrections have moved it back"""
        self._rate = 1

    def wait(
        self, rate: int, period: float, burst: int, cost: int, now: float, *, largest: int | None = None
    ) -> float:
        """Seconds until `cost` fits; 0: now, `math.inf`: never.

        `largest`: a cost above the burst and up to this fits once the bucket has been full for as long
        as the part above the burst takes to flow; no period then sees more than without it.
        """
        if cost > (burst if largest is None else largest):
            return math.inf
        if rate <= 0:
            return math.inf if cost else 0.0
        full_at = self._at(rate)
        if full_at is None:
            return 0.0
        short = full_at + (cost - burst) * round(period * _MICRO) - round(now * _MICRO) * rate
        return 0.0 if short <= 0 else -(-short // rate) / _MICRO

    def take(self, rate: int, period: float, burst: int, cost: int, now: float) -> Mark:
        """Count it, fitting or not: who wants to know asks `wait` first. The mark is for `correct`."""
        del burst
        if rate <= 0:
            return 0, 1
        full_at, here = self._at(rate), round(now * _MICRO) * rate
        if full_at is None or full_at < here:
            full_at = here
        self._full_at = full_at = full_at + cost * round(period * _MICRO)
        return full_at + self._given_back, rate

    def correct(self, rate: int, period: float, delta: int, now: float, mark: Mark | None = None) -> None:
        """What was taken turned out to be `delta` more, or less.

        What has flowed back since is not given back again: `mark` tells how much of what was taken still
        counts. Without that a late correction would let through what others have taken meanwhile.
        """
        full_at = self._at(rate) if rate > 0 else None
        if full_at is None:
            return
        change = delta * _ticks(period)
        if change < 0:
            here = _ticks(now) * rate
            if mark is not None:
                until = mark[0] * rate // mark[1] - self._given_back
                change = -min(-change, max(0, until - here))
            change = max(change, min(0, here - full_at))  # never below now
            self._given_back -= change
        self._full_at = full_at + change

    def room(self, rate: int, period: float, burst: int, now: float, *, largest: int | None = None) -> int:
        """How much fits now."""
        most = burst if largest is None else largest
        if rate <= 0:
            return 0
        full_at = self._at(rate)
        if full_at is None:
            return most
        room = burst + (round(now * _MICRO) * rate - full_at) // round(period * _MICRO)
        return most if room > most else max(0, room)

    def full_in(self, rate: int, now: float) -> float:
        """Seconds until everything has flowed back."""
        full_at = self._at(rate) if rate > 0 else None
        return 0.0 if full_at is None else max(0, -(-full_at // rate) - round(now * _MICRO)) / _MICRO

    def rested(self, rate: int, period: float, now: float) -> bool:
        """Whether it is as good as a new one, and may be forgotten."""
        full_at = self._at(rate) if rate > 0 else None
        return full_at is None or full_at <= (_ticks(now) - _ticks(period)) * rate

    def _at(self, rate: int) -> int | None:
        """The moment, in parts of this rate: it may have changed since."""
        if rate != self._rate:
            if self._full_at is not None:
                self._full_at = -(-self._full_at * rate // self._rate)
                self._given_back = -(-self._given_back * rate // self._rate)
            self._rate = rate
        return self._full_at


def _ticks(seconds: float) -> int:
    return round(seconds * _MICRO)


class Flight:
    """What runs at the same time: names of requests and attempts, each until it leaves or expires.

    Never a bare count: whoever leaves twice, or leaves after it expired, changes nothing.
    """

    __slots__ = ("_soonest", "_until")

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._soonest = math.inf

    def wait(self, ceiling: int, now: float) -> float:
        """Seconds until there is a place, at the latest: whoever leaves earlier frees one earlier.

        0: now, `math.inf`: never.
        """
        if ceiling <= 0:
            return math.inf
        over = self.count(now) - ceiling
        return 0.0 if over < 0 else sorted(self._until.values())[over] - now

    def join(self, name: str, until: float) -> None:
        """It runs, until then at the latest. Joining again moves that time."""
        self._until[name] = until
        self._soonest = min(self._soonest, until)

    def leave(self, name: str) -> None:
        self._until.pop(name, None)

    def count(self, now: float) -> int:
        if now >= self._soonest:
            self._until = {name: until for name, until in self._until.items() if until > now}
            self._soonest = min(self._until.values(), default=math.inf)
        return len(self._until)


def spread_ceiling(ceiling: int, start: int, end: int, now: float) -> int:
    """What of a spread quota may be used by `now`: evenly over its window, with a small head start."""
    length = (end - start) * 1_000
    passed = min(max(0, round((now - start) * 1_000)), length)
    return min(ceiling, max(1, ceiling * (passed * HEAD_START + length) // (length * HEAD_START)))


def spread_when(amount: int, ceiling: int, start: int, end: int) -> float:
    """From when on that much of a spread quota may be used (unix seconds); `math.inf`: never."""
    if amount > ceiling:
        return math.inf
    length = (end - start) * 1_000
    if amount <= 1:
        return float(start)
    passed = -(-(amount * HEAD_START - ceiling) * length // (ceiling * HEAD_START))
    return start + max(0, passed) / 1_000
