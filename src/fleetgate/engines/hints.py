"""What an error answer tells beside its class: when to come back, and in which words it failed.

Pure; `now` is Unix time and injected. `error_text` stands in `reading.py`, where probes need it too.

A hint is seconds from now. `retry_after` is for waiting and is clamped, because absurd values exist
in the wild (a day, a date in the past, a number of milliseconds). `reset` is what was really said:
it tells a short pause from a quota that is used up.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from fleetgate.engines.reading import error_text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HEADERS", "LONGEST", "error_text", "moment", "reset", "retry_after", "span"]

HEADERS: Final = ("retry-after-ms", "retry-after", "date")
"""what is read of an answer's head, lower-case"""
LONGEST: Final = 300.0
"""a hint beyond this is a quota's reset, not a pause"""
ABSURD: Final = 40 * 86_400.0
"""a hint beyond this is neither: no quota lasts longer than a month"""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE_SPAN: Final = re.compile(rf"(?:{_SPAN.pattern}\s*)+")
_WORDS: Final = re.compile(r"\s*(second|minute|hour|day)s?\b", re.IGNORECASE)
_IN_TEXT: Final = re.compile(
    r"(?:try again in|retry in|retry after|\"retryDelay\"\s*:\s*\")\s*"
    rf"((?:\d+{_WORDS.pattern}|{_WHOLE_SPAN.pattern}))",
    re.IGNORECASE,
)
_IN_HEADERS_TOLD: Final = re.compile(r'"x-ratelimit-reset"\s*:\s*"?(\d{1,13})', re.IGNORECASE)
"""some repeat the headers of whom they asked themselves"""


def span(text: str) -> float | None:
    """Seconds of `7m12.5s`, `34s`, `250ms`, `6m0s`; None if it is none."""
    text = text.strip().lower()
    if not _WHOLE_SPAN.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _SPAN.findall(text))


def _unit(found: re.Match[str]) -> str:
    """`seconds` as `s`."""
    return found[1][0].lower()


def reset(
    headers: Mapping[str, str], now: float | None = None, *, body: bytes = b"", also: tuple[str, ...] = ()
) -> float | None:
    """Seconds until the upstream wants to be asked again, as it said; None: it did not say.

    A date is measured against the answer's own `Date` where there is one, since clocks differ, else
    against `now`. `also` names further headers of a provider.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return max(0.0, milliseconds / 1000)
    if (seconds := _usual(headers, now)) is not None:
        return seconds
    for name in also:
        if (value := headers.get(name)) and (seconds := moment(value, now)) is not None:
            return max(0.0, seconds)
    said = body[:8_192].decode(errors="replace")
    if found := _IN_TEXT.search(said):
        return span(_WORDS.sub(_unit, found[1]))
    if (found := _IN_HEADERS_TOLD.search(said)) and (seconds := moment(found[1], now)) is not None:
        return max(0.0, seconds)
    return None


def _usual(headers: Mapping[str, str], now: float | None) -> float | None:
    """What `retry-after` says, in any of its forms."""
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        seconds = span(value)
    if seconds is None and (at := _date(value)) is not None:
        reference = _date(headers.get("date", ""))
        here = now if reference is None else reference
        seconds = None if here is None else at - here
    return None if seconds is None else max(0.0, seconds)


def retry_after(
    headers: Mapping[str, str], now: float | None = None, *, body: bytes = b"", also: tuple[str, ...] = ()
) -> float | None:
    """`reset`, clamped to 0..300 s."""
    seconds = reset(headers, now, body=body, also=also)
    return None if seconds is None else min(seconds, LONGEST)


_EPOCH: Final = 1e9
"""a number beyond this is a moment, not a span: no limit lasts thirty years"""
_EPOCH_MS: Final = 1e12


def moment(text: str, now: float | None) -> float | None:
    """Seconds of `6m0s`, `7.66s`, `60`, a Unix time in seconds or milliseconds, or an RFC 3339 time. What
    needs a `now` is unknown without one."""
    text = text.strip()
    if re.fullmatch(r"\d{1,13}(\.\d{1,9})?", text):
        number = float(text)
        if number < _EPOCH:
            return number
        at = number / 1000 if number >= _EPOCH_MS else number
        return None if now is None else at - now
    if (seconds := span(text)) is not None:
        return seconds
    try:
        day = datetime.fromisoformat(text)
    except ValueError:
        return None
    return day.timestamp() - now if day.tzinfo is not None and now is not None else None


def _number(text: str | None) -> float | None:
    # Neither `nan` nor `1e99` nor `_` separators: digits and one point.
    if text is None or not re.fullmatch(r"-?\d{1,12}(\.\d{1,6})?", text.strip()):
        return None
    return float(text)


def _date(text: str) -> float | None:
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
