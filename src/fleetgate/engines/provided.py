"""A known provider that speaks OpenAI's dialect: an engine kind made of one row of the table of providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from fleetgate.engines.openai import OpenAI
from fleetgate.engines.plain import PATHS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetgate.domain import Capability
    from fleetgate.engines.port import Ask


_PREFIX: Final = frozenset({"mistral"})
"""go on with a last message of the assistant that says `prefix`"""


class Provided(OpenAI):
    """`name`: of the row."""

    ports = (443,)

    def __init__(
        self,
        name: str,
        *,
        serves: frozenset[Capability],
        paths: Mapping[Capability, str],
        auth: Literal["bearer", "x-api-key", "api-key"],
        lists: bool,
    ) -> None:
        self.name = name
        self.continues = "prefix" if name in _PREFIX else ""
        self.serves = serves
        self._paths = {one: paths.get(one, PATHS[one]) for one in serves}
        self._auth = auth
        self._lists = lists

    def headers(self, key: str | None) -> tuple[tuple[str, str], ...]:
        if self._auth == "bearer":
            return super().headers(key)
        return ((self._auth, key),) if key else ()

    def path(self, capability: Capability) -> str | None:
        return self._paths.get(capability)

    def pulse(self) -> Sequence[Ask]:
        return super().pulse() if self._lists else ()

    def catalogue(self) -> Sequence[Ask]:
        return super().catalogue() if self._lists else ()
