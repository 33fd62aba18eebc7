"""What the heads of a provider's answers tell about its limits: which headers, and what they mean. Pure.

The names are much the same everywhere and their meaning is not: the same header counts minutes at one
provider and days at another. So they are a table, by provider, taken from the vendors' own documentation
and not tried from here. Only one thing is read of them: nothing is left, and until when. What is left
over says nothing about what we may use, because others may use the same account.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from fleetgate.engines.hints import ABSURD, LONGEST, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit as headers tell it, by their lower-case names."""

    remaining: str
    reset: str
    per: Literal["minute", "day"] | None = None
    """None: it is not documented; a reset that is far away is taken for a quota's"""


_REQUESTS: Final = ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
_TOKENS: Final = ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")

USUAL: Final = (Meter(*_REQUESTS), Meter(*_TOKENS))
"""OpenAI's names, which most of the compatible providers have taken over"""

METERS: Final[Mapping[str, tuple[Meter, ...]]] = MappingProxyType(
    {
        # OpenAI, "Rate limits", headers: both are per minute; a reset is the time to the full allowance.
        "openai": (Meter(*_REQUESTS, "minute"), Meter(*_TOKENS, "minute")),
        # Groq, "Rate limits", headers: requests always mean a day, tokens always mean a minute.
        "groq": (Meter(*_REQUESTS, "day"), Meter(*_TOKENS, "minute")),
        # Anthropic, "Rate limits", response headers: per minute; resets are times of day in RFC 3339.
        "anthropic": tuple(
            Meter(f"anthropic-ratelimit-{what}-remaining", f"anthropic-ratelimit-{what}-reset", "minute")
            for what in ("requests", "tokens", "input-tokens", "output-tokens")
        ),
    }
)
"""provider -> its meters; all unverified"""


HINTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "openrouter": ("x-ratelimit-reset",),
        "together": ("x-ratelimit-reset",),
        "azure": ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"),
        "mistral": ("x-ratelimit-reset", "ratelimit-reset"),
    }
)
"""provider -> headers of a refusal that say when to come back, beside `retry-after` and `retry-after-ms`; all
unverified"""


@dataclass(frozen=True, slots=True)
class Empty:
    """A limit of which nothing is left."""

    seconds: float
    """until it is there again"""
    quota: bool
    """not a rate of a moment: a quota that is used up"""


def empty(header: Callable[[str], str | None], meters: Iterable[Meter], now: float) -> Empty | None:
    """The limit that is used up for longest, as an answer's head says; `now` is Unix time."""
    worst: Empty | None = None
    for meter in meters:
        left = header(meter.remaining)
        if left is None or left.strip() not in _NOTHING:
            continue
        seconds = moment(header(meter.reset) or "", now)
        if seconds is None or not 0 < seconds <= ABSURD:
            continue
        quota = seconds > LONGEST and meter.per != "minute"
        found = Empty(seconds if quota else min(seconds, LONGEST), quota)
        if worst is None or found.seconds > worst.seconds:
            worst = found
    return worst


_NOTHING: Final = frozenset({"0", "0.0"})
