"""The ASGI application: one listener, one route table, one door.

Raw ASGI: no second router and no middleware. This is the request boundary, one of the few places
that catches everything: whatever goes wrong inside becomes an error answer and a log line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetgate.errors import Refused, Source
from fleetgate.http.call import Call
from fleetgate.http.cors import Origins
from fleetgate.http.door import Door, new_request_id, read_headers
from fleetgate.http.parameters import hold_against
from fleetgate.http.table import RouteTable
from fleetgate.keys.ring import Unfamiliar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping

    from fleetgate.gateway.gateway import Gateway
    from fleetgate.http.table import Row

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class NoSuchMethod(Refused):
    """The path exists, for other methods. Its answer has to name them."""

    def __init__(self, method: str, methods: Collection[str]) -> None:
        known = {*methods, *(("HEAD",) if "GET" in methods else ())}
        self.allowed = ", ".join(sorted(known))
        advice = f"Allowed: {self.allowed}."
        super().__init__(405, "method_not_allowed", f"{method} is not possible here", advice=advice)


class Surface:
    """Answers every request. `configure` at start and at each reload."""

    def __init__(self, gateway: Gateway, rows: Iterable[Row], report: Callable[..., None]) -> None:
        self._gateway = gateway
        self._report = report
        self._door: Door | None = None
        self._base = ""
        self._origins: Origins | None = None
        self.table = RouteTable(rows)

    def configure(self, door: Door, base_path: str, cors: Iterable[str] = ()) -> None:
        self._door = door
        listed = tuple(cors)
        self._origins = Origins(listed) if listed else None
        self._base = base_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        call = Call(self._gateway, scope, receive, send, new_request_id())
        try:
            await self._answer(call)
        except NoSuchMethod as refused:
            await call.refuse(refused, ((b"allow", refused.allowed.encode()),))
        except Refused as refused:
            await call.refuse(refused)
        except Exception as error:  # noqa: BLE001  (the request boundary)
            self._report("request_failed", "error", request_id=call.request_id, exc_info=error)
            await call.refuse(
                Refused(
                    500,
                    "internal_error",
                    "the gateway failed; its log has the details",
                    advice=f"Tell its operator the request id {call.request_id}.",
                    source=Source.GATEWAY,
                )
            )

    async def _answer(self, call: Call) -> None:
        door = self._door
        assert door is not None
        door.admit_address(call)
        read_headers(call)
        methods, argument = self._find(call.scope)
        if self._origins is not None and await self._origins.meet(call, methods):
            return
        call.row = next(iter(methods.values()))  # a wrong method is refused in the dialect of the path
        row = _row(methods, call.scope["method"])
        if self._gateway.draining and not row.while_draining and self._gateway.refusing:
            raise Refused(
                503,
                "draining",
                "the gateway is stopping",
                source=Source.GATEWAY,
                retry_after=5.0,
                advice="Ask again in a moment.",
            )
        call.row, call.argument = row, argument
        try:
            call.principal = door.admit(call, row)
        except Unfamiliar as unfamiliar:
            call.principal = await door.admit_unfamiliar(call, row, unfamiliar)
        if row.query is not None and call.scope.get("query_string"):
            hold_against(call.query(), row.query)
        await row.answer(call)

    def _find(self, scope: Scope) -> tuple[Mapping[str, Row], str]:
        """The rows of the path, with the base path present or already stripped by a proxy in front."""
        path: str = scope["path"]
        found = self.table.find(path)
        if found is None and self._base and path.startswith(self._base + "/"):
            found = self.table.find(path[len(self._base) :])
        if found is None and self._base and path == self._base:
            found = self.table.find("/")
        if found is None:
            raise Refused(
                404,
                "not_found",
                f"there is nothing at {path[:200]!r}",
                advice=self.table.hint(path),
            )
        return found


def _row(methods: Mapping[str, Row], method: str) -> Row:
    row = methods.get("GET" if method == "HEAD" else method)
    if row is None:
        raise NoSuchMethod(method, methods)
    return row
