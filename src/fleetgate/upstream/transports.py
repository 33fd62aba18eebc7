"""Both transports behind one port, chosen per target.

`auto` is the lean one for plain HTTP and the general one for TLS; an engine's `transport:` setting
decides otherwise. TLS always goes over the general one, because the lean one has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fleetgate.upstream.dial import Dialler
from fleetgate.upstream.general import GeneralTransport
from fleetgate.upstream.lean import LeanTransport
from fleetgate.upstream.media import Media

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fleetgate.upstream.port import Answer, Transport, UpstreamRequest

Choice = Literal["auto", "general", "lean"]


class Transports:
    """Owns the transports of one gateway."""

    def __init__(self, dialler: Dialler | None = None) -> None:
        dialler = dialler or Dialler()
        self.dialler = dialler
        self.general = GeneralTransport(dialler)
        self.lean = LeanTransport(dialler)
        self.media = Media()
        """fetches what callers name, where that is enabled"""
        self._auto = _Auto(self.general, self.lean)

    def choose(self, choice: Choice = "auto") -> Transport:
        """The transport for an engine whose setting is `choice`."""
        if choice == "general":
            return self.general
        # A lean engine with a TLS address is still reached; see the rule above.
        return self._auto

    async def open(self, request: UpstreamRequest) -> Answer:
        return await self._auto.open(request)

    async def close(self) -> None:
        await self.general.close()
        await self.lean.close()
        self.dialler.close()
        self.media.close()


class _Auto:
    """Chooses by the target."""

    def __init__(self, general: GeneralTransport, lean: LeanTransport) -> None:
        self._general = general
        self._lean = lean

    def open(self, request: UpstreamRequest) -> Coroutine[Any, Any, Answer]:
        return (self._general if request.target.tls else self._lean).open(request)

    async def close(self) -> None:
        await self._general.close()
        await self._lean.close()
