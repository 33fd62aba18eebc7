"""What every exchange shares: settings, fleet, transports, records, and who is being served now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from fleetgate.gateway import verdicts
from fleetgate.gateway.draw import Draw
from fleetgate.gateway.recent import Recent
from fleetgate.gateway.spool import ALL_UPLOADS, BodyBudget
from fleetgate.retry import Budget
from fleetgate.routing.permission import Permissions

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable

    from fleetgate.budgets.owner import Budgets
    from fleetgate.cache.owner import Cache
    from fleetgate.config.schema import Settings
    from fleetgate.domain import Entry, Principal
    from fleetgate.errors import FailureClass
    from fleetgate.fleet.fleet import Fleet
    from fleetgate.live import Deployment
    from fleetgate.routing.names import NameTable
    from fleetgate.routing.plan import Route
    from fleetgate.store.database import Store
    from fleetgate.upstream.media import Media
    from fleetgate.upstream.port import Transport


_CONVERSATION: Final = (
    b"x-fleetgate-conversation",
    b"x-session-id",
    b"x-claude-code-session-id",
    b"session-id",
    b"x-session-affinity",
    b"x-openwebui-chat-id",
)
"""headers in which known clients name their conversation, the explicit one first"""


class Stoppable(Protocol):
    """An exchange, as far as the gateway needs to know it."""

    def stop(self, why: FailureClass) -> None: ...


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a request asks of the gateway."""

    length: int | None = None
    timeout: float | None = None
    """the caller's deadline, seconds"""
    white_space: bool = False
    """white space may be sent before a JSON body as a sign of life"""
    via: str = ""
    """gateways that this request has passed"""
    trace: str | None = None
    """W3C `traceparent`, passed on"""
    cache_control: bytes = b""
    """what the caller says about answers that were given before"""
    conversation: str = ""
    """names the conversation; used for nothing but to find who answered it before"""
    of_dialect: tuple[tuple[str, str], ...] = ()
    """headers that belong to the caller's dialect, for upstreams that speak it"""


def conversation_headers(further: Iterable[str] = ()) -> tuple[bytes, ...]:
    """Names of the headers that may name a conversation; the first that is there counts."""
    written = (name.strip().lower().encode("latin-1", "replace") for name in further)
    return tuple(dict.fromkeys((_CONVERSATION[0], *written, *_CONVERSATION[1:])))


class Gateway:
    """Built once by `app`; settings are replaced at a reload."""

    def __init__(  # noqa: PLR0913  (the composition root hands everything in)
        self,
        *,
        settings: Settings,
        fleet: Fleet,
        instance: str,
        version: str,
        loop: asyncio.AbstractEventLoop,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        transport_for: Callable[[Deployment], Transport],
        record: Callable[[Entry], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
        random: Callable[[], float],
        scrub: Callable[[str], str],
        budgets: Budgets,
        store: Store,
        media: Media,
    ) -> None:
        self.settings = settings
        self.conversation_headers = conversation_headers(settings.affinity.headers)
        self.budgets = budgets
        self.store = store
        self.media = media
        """fetches what callers name, where that is enabled"""
        self.draw = Draw(settings)
        self.fleet = fleet
        self.instance = instance
        self.loop = loop
        self.spawn = spawn
        self.transport_for = transport_for
        self.record = record
        self.clock = clock
        self.wall = wall
        self.random = random
        self.scrub = scrub
        """takes known secrets out of an upstream's own words"""
        self.bodies = BodyBudget()
        self.uploads = BodyBudget(ALL_UPLOADS)
        """those that lie on disk"""
        self.recent = Recent()
        self.permissions = Permissions()
        self.cache: Cache | None = None
        """None: no answers are kept"""
        self.draining = False
        self.refusing = False
        self.idle: asyncio.Event | None = None
        self.reading_on = 0
        """paid answers that are read to their end for nobody"""
        self._agent = f"fleetgate/{version}"
        self._instance_header = (b"x-fleetgate-instance", instance.encode())
        self._budget = Budget()
        self._active: dict[Stoppable, int] = {}

    def configure(self, settings: Settings) -> None:
        """New settings; exchanges under way keep what they began with."""
        self.settings = settings
        self.conversation_headers = conversation_headers(settings.affinity.headers)
        self.draw = Draw(settings)

    @property
    def active(self) -> int:
        return len(self._active)

    @property
    def names(self) -> NameTable:
        """The names of the current configuration and catalogue."""
        names = self.fleet.names
        assert names is not None
        return names

    def route_of(self, name: str, principal: Principal) -> Route:
        """What a name leads to, for whoever may ask for it. Raises Refused (404, 403)."""
        route = self.names.resolve(name)
        if route is None:
            raise verdicts.unknown_model(name, self.permissions.near(principal, self.names, name))
        if not self.permissions.may_ask(principal, route):
            raise verdicts.not_allowed(name)
        return route

    def routes_listed(self, principal: Principal) -> list[Route]:
        """What the catalogue shows, as far as the principal may ask for it."""
        routes = [self.names.resolve(name) for name in self.names.listed()]
        return [one for one in routes if one is not None and self.permissions.may_ask(principal, one)]

    def began(self, exchange: Stoppable) -> None:
        self._active[exchange] = 0
        self._budget.active += 1
        self._budget.first(self.clock())

    def ended(self, exchange: Stoppable) -> None:
        retries = self._active.pop(exchange, None)
        if retries is None:
            return
        self._budget.active -= 1
        self._budget.retrying -= retries
        if self.idle is not None and not self._active:
            self.idle.set()

    def may_retry(self, exchange: Stoppable) -> bool:
        """Ask the retry budget for one more retry, and take it."""
        now = self.clock()
        if not self._budget.allows(now):
            return False
        self._budget.spend(now)
        self._active[exchange] += 1
        return True

    def stop_all(self, why: FailureClass) -> None:
        for exchange in list(self._active):
            exchange.stop(why)

    def answer_headers(self, request_id: str) -> list[tuple[bytes, bytes]]:
        """Headers of every answer."""
        name = request_id.encode("ascii")
        return [self._instance_header, (b"x-fleetgate-request-id", name), (b"x-request-id", name)]

    def upstream_headers(self, head: Head, request_id: str) -> tuple[tuple[str, str], ...]:
        """Headers of every upstream request: our own, none of the caller's but its trace."""
        headers = [
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("user-agent", self._agent),
            ("x-request-id", request_id),
            ("x-fleetgate-via", f"{head.via}, {self.instance}" if head.via else self.instance),
        ]
        if head.trace:
            headers.append(("traceparent", head.trace))
        return tuple(headers)
