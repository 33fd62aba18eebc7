"""Limits, so that those of a subject are found without looking at all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fleetgate.limits import Limit


class Index:
    """Limits, found by the key that they name: there may be as many as there are keys."""

    def __init__(self, limits: Iterable[Limit]) -> None:
        self._of_key: dict[str, list[Limit]] = {}
        self._others: list[Limit] = []
        for limit in limits:
            key = dict(limit.scope.parts).get("key")
            exact = key is not None and "*" not in key
            (self._of_key.setdefault(key, []) if exact and key else self._others).append(limit)

    def __bool__(self) -> bool:
        return bool(self._of_key or self._others)

    def near(self, subject: Mapping[str, str | None]) -> Iterator[Limit]:
        """Those that may concern a subject."""
        yield from self._others
        for name in {subject.get("key"), subject.get("alias")} - {None}:
            yield from self._of_key.get(name or "", ())
