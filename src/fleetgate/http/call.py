"""One request as the surfaces see it, and small answers to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec

from fleetgate.dialects import openai
from fleetgate.keys.owner import ANYBODY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fleetgate.domain import Principal
    from fleetgate.errors import Refused
    from fleetgate.gateway.gateway import Gateway
    from fleetgate.http.table import Row

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


CUT: Final = "fleetgate.cut"
"""extension of the scope: a function that ends the connection"""


@dataclass(slots=True)
class Call:
    """A request with its row. `argument` is the rest of a template's path."""

    gateway: Gateway
    scope: Scope
    receive: Receive
    send: Send
    request_id: str
    headers: dict[bytes, bytes] = field(default_factory=dict)
    row: Row | None = None
    argument: str = ""
    principal: Principal = ANYBODY

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    def cut(self) -> None:
        """End the connection so that an answer under way cannot look complete."""
        found = self.scope.get("extensions", {}).get(CUT)
        if found is not None:
            found()

    def query(self) -> dict[str, str]:
        """The query's fields; the last one counts where a name comes twice."""
        raw: bytes = self.scope.get("query_string", b"")
        return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True))

    async def json(
        self, value: Any, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        await self.reply(
            status, ((b"content-type", b"application/json"), *headers), msgspec.json.encode(value)
        )

    async def text(self, text: str, status: int = 200) -> None:
        await self.reply(status, ((b"content-type", b"text/plain; charset=utf-8"),), text.encode())

    async def refuse(self, refused: Refused, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        dialect = self.row.dialect if self.row is not None else None
        error_form = openai.error_form if dialect is None else dialect.error_form
        form = error_form(refused, self.request_id)
        await self.reply(form.status, (*form.headers, *headers), form.body)

    async def reply(self, status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
        out = [
            *headers,
            (b"content-length", b"%d" % len(body)),
            *self.gateway.answer_headers(self.request_id),
        ]
        if self.scope["method"] == "HEAD":
            body = b""
        await self.send({"type": "http.response.start", "status": status, "headers": out})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})
