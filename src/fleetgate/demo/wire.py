"""HTTP/1.1 as an engine speaks it: one request after the other on a connection, answered whole or in pieces.

A caller who leaves takes his request with him: its task is cancelled, as real engines do.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import httptools

if TYPE_CHECKING:
    from fleetgate.demo.door import Door

LARGEST_BODY: Final = 128 * 1024 * 1024
EVENTS: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. Header names are lower-case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def form(self) -> dict[str, Any]:
        """The JSON object in the body. Raises BadForm."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise BadForm(f"the body is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise BadForm("the body is not a JSON object")
        return value


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, or one in pieces."""

    status: int
    body: bytes | AsyncGenerator[bytes, None] = b""
    form: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def reply_json(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(status, json.dumps(value, separators=(",", ":")).encode(), headers=headers)


class BadForm(Exception):
    """A body that is not what it should be."""


class Reset(Exception):
    """The connection breaks here."""


Answer = Callable[[Request], Awaitable[Reply]]


@dataclass(slots=True)
class _Incoming:
    url: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


class Connection(asyncio.Protocol):
    """An engine's side of one connection."""

    def __init__(self, door: Callable[[], Door], answer: Answer) -> None:
        self._door = door
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)
        self._incoming = _Incoming()
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    # --- asyncio's side -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        self._door().transports.add(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:  # upgrades among them: nothing here speaks another protocol
            self._transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: ARG002
        self._door().transports.discard(self._transport)
        self._may_write.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    # --- the parser's side ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._incoming = _Incoming()

    def on_url(self, url: bytes) -> None:
        self._incoming.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._incoming.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._incoming.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if len(self._incoming.body) + len(body) > LARGEST_BODY:
            self._transport.close()
            return
        self._incoming.body += body

    def on_message_complete(self) -> None:
        parts = urlsplit(self._incoming.url.decode("latin-1"))
        request = Request(
            self._parser.get_method().decode(),
            unquote(parts.path),
            dict(parse_qsl(parts.query)),
            self._incoming.headers,
            bytes(self._incoming.body),
        )
        self._waiting.append((request, self._parser.should_keep_alive()))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._ended)

    # --- answering --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._waiting:
            request, stay = self._waiting.popleft()
            try:
                reply = await self._answer(request)
                await self._send(request, reply, stay=stay)
            except Reset:
                self._reset()
                return
            if not stay:
                self._transport.close()
                return

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a simulated engine failed", "exception": error, "task": task}
            )
            self._transport.abort()

    async def _send(self, request: Request, reply: Reply, *, stay: bool) -> None:
        body = reply.body
        framing = f"Content-Length: {len(body)}" if isinstance(body, bytes) else "Transfer-Encoding: chunked"
        lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}", f"Content-Type: {reply.form}", framing]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        if not stay:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if isinstance(body, bytes):
            self._transport.write(head if request.method == "HEAD" else head + body)
            return
        self._transport.write(head)
        async with aclosing(body):
            async for piece in body:
                if piece:
                    self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await self._may_write.wait()
        self._transport.write(b"0\r\n\r\n")

    def _reset(self) -> None:
        """End with a reset, as when a process is killed."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Simulated"


def event(value: Any) -> bytes:
    """One event of a stream."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


def line(value: Any) -> bytes:
    """One line of Ollama's streams."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
