"""An upstream of our own: fixed answers, and streams that send one dated chunk per beat.

Run as `python -m bench.upstream PORT CHUNKS EVERY`. It speaks as much HTTP as its callers need. Each
chunk carries the nanosecond of its sending (`CLOCK_MONOTONIC`, one clock for all processes of a
machine), so that a reader knows how long it was on its way.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, cast

import httptools
import uvloop

from bench.parts import ANSWER, CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DATED_CHUNK = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"bench-model",'
    b'"choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"bench-model",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


def whole(text: str) -> bytes:
    """A complete answer with its head."""
    body = text.encode()
    return _HEAD % (b"application/json", len(body)) + body


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Caller(asyncio.Protocol):
    """One connection; also receives its parser's events."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, chunks: int, every: float) -> None:
        self._loop = loop
        self._chunks = chunks
        self._every = every
        self._answer, self._models = whole(ANSWER), whole(CATALOGUE)
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._url.endswith(b"/models"):
            self.transport.write(self._models)
        elif self._chunks and (b'"stream":true' in self._body or b'"stream": true' in self._body):
            self.transport.write(STREAM)
            self._beat(0, self._loop.time())
        else:
            self.transport.write(self._answer)

    def _beat(self, sent: int, began: float) -> None:
        if self.transport.is_closing():
            return
        if sent == self._chunks:
            self.transport.write(chunked(_LAST) + b"0\r\n\r\n")
            return
        self.transport.write(chunked(DATED_CHUNK % time.monotonic_ns()))
        self._loop.call_at(began + (sent + 1) * self._every, self._beat, sent + 1, began)


async def serve(port: int, make: Callable[[], Caller]) -> None:
    listening = await asyncio.get_running_loop().create_server(make, "127.0.0.1", port, backlog=2048)
    await listening.serve_forever()


def main(port: str, chunks: str, every: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        runner.run(serve(int(port), lambda: Caller(loop, int(chunks), float(every))))


if __name__ == "__main__":
    main(*sys.argv[1:4])
