"""A provider, simulated: it wants a key (any), counts a rate per minute, and tells what is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from fleetgate.demo.engine import Refusal, Spec
from fleetgate.demo.native import Native
from fleetgate.demo.wire import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

PER_MINUTE: Final = 600
_MINUTE: Final = 60.0


class Provider(Native):
    """Every provider, whatever its name."""

    usual_slots = 64

    per_minute: ClassVar[int] = PER_MINUTE

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.rate = self.per_minute
        """requests per minute and key; tests lower it"""
        self._used: dict[str, tuple[float, int]] = {}
        self._left = (self.rate, _MINUTE)

    def check_ready(self) -> None:
        """Nothing is ever loaded for anybody."""

    def check_key(self, request: Request) -> None:
        super().check_key(request)
        if (request.method, request.path) in self.work:
            self._count(request.headers)

    def full(self) -> Reply:
        return self.error(503, "The engine is currently overloaded, please try again later", "server_error")

    def head(self) -> tuple[tuple[str, str], ...]:
        left, seconds = self._left
        return (
            ("x-ratelimit-limit-requests", str(self.rate)),
            ("x-ratelimit-remaining-requests", str(max(0, left))),
            ("x-ratelimit-reset-requests", f"{seconds:.1f}s"),
        )

    def _count(self, headers: Mapping[str, str]) -> None:
        """One more request of a key in this minute. Raises Refusal beyond the rate."""
        now = self.clock.wall()
        key = self.key_of(headers)
        began, used = self._used.get(key, (now, 0))
        if now - began >= _MINUTE:
            began, used = now, 0
        self._used[key] = (began, used + 1)
        left = _MINUTE - (now - began)
        self._left = (self.rate - used - 1, left)
        if used >= self.rate:
            text = "Rate limit reached for requests per minute"
            limited = self.error(429, text, "requests", "rate_limit_exceeded")
            headers_out = (*self.head(), ("retry-after", str(max(1, round(left)))))
            raise Refusal(Reply(429, limited.body, headers=headers_out))
