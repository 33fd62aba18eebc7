"""A caller of the gateway, byte by byte: what it sends, what comes back, and how it leaves."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

MASTER_KEY = "test-master-key-0123456789"
PATIENCE = 10.0
"""Seconds after which anything that is waited for counts as never coming."""


@dataclass
class Reply:
    """An answer as its caller saw it. `complete`: it ended as its framing says."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    complete: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def frames(self) -> list[bytes]:
        """The events of a stream, comments included, each with its blank line."""
        return [frame + b"\n\n" for frame in self.body.split(b"\n\n") if frame]

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events: decoded, or `[DONE]`."""
        found = [frame[6:-2] for frame in self.frames if frame.startswith(b"data: ")]
        return ["[DONE]" if data == b"[DONE]" else json.loads(data) for data in found]

    @property
    def text(self) -> str:
        """What the model said, of a whole answer or of a stream."""
        if not (self.header("content-type") or "").startswith("text/event-stream"):
            return str(self.json()["choices"][0]["message"]["content"])
        deltas = [
            one["choices"][0]["delta"] for one in self.events if isinstance(one, dict) and one.get("choices")
        ]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def error(self) -> dict[str, Any]:
        """The error object: the whole body, or the last event of a stream."""
        if (self.header("content-type") or "").startswith("text/event-stream"):
            return dict(self.events[-1]["error"])
        return dict(self.json()["error"])


class Caller:
    """One connection to the gateway, read byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.reply = Reply(0, ())
        """what has come of the answer so far"""
        self._length: int | None = None

    @classmethod
    async def connect(cls, port: int, receive_buffer: int | None = None) -> Self:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        limit = receive_buffer or 2**16
        return cls(*await asyncio.open_connection(sock=sock, limit=limit))

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if body or method == "POST":
            lines.append(f"content-length: {len(body)}")
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode() + body)

    async def head(self) -> Reply:
        """Read status and headers of the answer."""
        async with asyncio.timeout(PATIENCE):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        pairs = tuple(
            (name.lower(), value.strip()) for name, _, value in (one.partition(":") for one in lines)
        )
        self.reply = Reply(int(first.split(" ")[1]), pairs)
        length = self.reply.header("content-length")
        self._length = int(length) if length is not None else None
        return self.reply

    async def piece(self) -> bytes:
        """The next piece of the body, as the gateway framed it; empty at its end, proper or not."""
        reply = self.reply
        if reply.complete:
            return b""
        try:
            async with asyncio.timeout(PATIENCE):
                data = await self._piece()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return b""
        reply.body += data
        return data

    async def until(self, marker: bytes) -> Reply:
        """Read on until the body holds `marker`."""
        while marker not in self.reply.body:
            assert await self.piece(), f"the answer ended without {marker!r}: {self.reply.body!r}"
        return self.reply

    async def rest(self) -> Reply:
        while await self.piece():
            pass
        return self.reply

    async def _piece(self) -> bytes:
        reply = self.reply
        if self._length is not None:
            data = await self.reader.readexactly(self._length)
            reply.complete = True
            return data
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        data = await self.reader.readexactly(size + 2)
        reply.complete = size == 0
        return data[:-2]

    def half_close(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        """Leave with a reset instead of an end."""
        sock: Any = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


class Reachable:
    """A gateway as its callers know it: a port and a key."""

    port: int
    key = MASTER_KEY

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def caller(self, receive_buffer: int | None = None) -> AsyncIterator[Caller]:
        """A connection that is closed at the end."""
        caller = await Caller.connect(self.port, receive_buffer)
        try:
            yield caller
        finally:
            await caller.close()

    def headers(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "host": f"127.0.0.1:{self.port}",
            "authorization": f"Bearer {self.key}",
            "content-type": "application/json",
            **(extra or {}),
        }

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request on a connection of its own, read to its end."""
        async with self.caller() as caller:
            await caller.ask(method, path, self.headers(headers), body)
            await caller.head()
            return await caller.rest()

    async def get(self, path: str) -> Reply:
        return await self.request("GET", path)

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.request("POST", path, raw, headers)

    async def chat(
        self, model: str = "m", *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> Reply:
        """A chat completion, whole or streamed (`stream=True`), read to its end."""
        return await self.post("/v1/chat/completions", chat_body(model, **members), headers)

    @asynccontextmanager
    async def asking(
        self,
        model: str = "m",
        *,
        headers: Mapping[str, str] | None = None,
        receive_buffer: int | None = None,
        **members: Any,
    ) -> AsyncIterator[Caller]:
        """A chat completion that was sent and of which nothing is read yet; streamed unless said."""
        async with self.caller(receive_buffer) as caller:
            body = json.dumps(chat_body(model, **{"stream": True, **members})).encode()
            await caller.ask("POST", "/v1/chat/completions", self.headers(headers), body)
            yield caller


def chat_body(model: str, **members: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **members}
