"""A scripted paid provider as a process of its own, with a journal of everything it was sent.

Run as `python -m chaos.provider JOURNAL SCRIPT`; it listens on loopback on a port that the kernel chose
and writes it to JOURNAL.port. SCRIPT is a JSON object: the members of `Script`.

Before it answers anything it appends one line to its journal and waits until that is on the disk. So the
journal is the truth about what a gateway has sent: whatever it charges must be there, once. A second line
says when an answer was sent to its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

OK: Final = "ok"
BROKEN: Final = "broken"
"""the stream ends in its middle"""
FAULTS: Final = {"429": 1, "500": 4, "reset": 4, BROKEN: 4}
"""And how often each. A 429 takes its account out for a second, so it is rare."""


@dataclass(frozen=True, slots=True)
class Script:
    """How it answers. Shares are of 1; times are seconds."""

    seed: int = 1
    faults: float = 0.02
    """all kinds of faults together"""
    slow: float = 0.02
    think: float = 0.03
    """longest time before an answer begins"""
    every: float = 0.004
    """between two chunks of a stream"""
    whole_price: bool = False
    """every answer has all the tokens that were allowed"""


class Journal:
    """Lines that are on the disk before anybody goes on. Those that come at one time share one sync."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._waiting: deque[str] = deque()
        self._thread = ThreadPoolExecutor(1)
        self._count = 0

    async def begin(self, request_id: str, **members: Any) -> int:
        self._count += 1
        number = self._count
        self._add({"n": number, "id": request_id, **members})
        await asyncio.get_running_loop().run_in_executor(self._thread, self._sync)
        return number

    def end(self, number: int) -> None:
        self._add({"end": number})

    def _add(self, line: dict[str, Any]) -> None:
        self._waiting.append(json.dumps({**line, "at": time.monotonic()}) + "\n")

    async def keep_up(self) -> None:
        """The ends of answers, which nobody waits for."""
        while True:
            await asyncio.sleep(0.02)
            if self._waiting:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._sync)

    def _sync(self) -> None:
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if lines:
            os.write(self._file, "".join(lines).encode())
            os.fsync(self._file)


class Provider:
    def __init__(self, journal: Journal, script: Script) -> None:
        self._journal = journal
        self._script = script
        self._random = random.Random(script.seed)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # a caller who is killed leaves in the middle
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if first.startswith("GET"):
            writer.write(_whole(200, {"object": "list", "data": [{"id": "m", "object": "model"}]}))
            return True
        return await self._chat(json.loads(body), headers, writer)

    async def _chat(self, asked: Any, headers: dict[str, str], writer: asyncio.StreamWriter) -> bool:
        script, chance = self._script, self._random
        allowed = asked.get("max_tokens") or asked.get("max_completion_tokens") or 50
        tokens = (chance.randint(1, 5), allowed if script.whole_price else chance.randint(1, allowed))
        what = OK
        if chance.random() < script.faults:
            (what,) = chance.choices(tuple(FAULTS), tuple(FAULTS.values()))
        streamed = bool(asked.get("stream"))
        if what == BROKEN and not streamed:
            what = "reset"
        delay = chance.uniform(0.0, script.think) + (0.5 if chance.random() < script.slow else 0.0)
        number = await self._journal.begin(
            headers.get("x-request-id", ""),
            what=what,
            tokens=tokens,
            account=headers.get("authorization", "")[-1:],
        )
        await asyncio.sleep(delay)
        if what == "reset":
            _reset(writer)
            return False
        if what in ("429", "500"):
            writer.write(_whole(int(what), {"error": {"message": "not now"}}, "retry-after: 1\r\n"))
        elif streamed:
            if not await self._stream(writer, tokens, broken=what == BROKEN):
                return False
        else:
            writer.write(_whole(200, _answer(tokens)))
        await writer.drain()
        self._journal.end(number)
        return True

    async def _stream(self, writer: asyncio.StreamWriter, tokens: tuple[int, int], *, broken: bool) -> bool:
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        pieces = min(tokens[1], 8)
        for number in range(pieces):
            delta = {"content": "word "} if number else {"role": "assistant", "content": "word "}
            writer.write(_frame({**_CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
            await writer.drain()
            await asyncio.sleep(self._script.every)
            if broken and number == pieces // 2:
                _reset(writer)
                return False
        end = {**_CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        writer.write(_frame(end) + _frame({**_CHUNK, "choices": [], "usage": _usage(tokens)}))
        done = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(done), done))
        return True


_CHUNK: Final = {"id": "chatcmpl-chaos", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def _usage(tokens: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}


def _answer(tokens: tuple[int, int]) -> dict[str, Any]:
    message = {"role": "assistant", "content": "words"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**_CHUNK, "object": "chat.completion", "choices": [choice], "usage": _usage(tokens)}


def _frame(document: dict[str, Any]) -> bytes:
    data = b"data: %s\n\n" % json.dumps(document).encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def _whole(status: int, document: dict[str, Any], more: str = "") -> bytes:
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\n{more}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _reset(writer: asyncio.StreamWriter) -> None:
    line = writer.get_extra_info("socket")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def serve(journal: Path, script: Script) -> None:
    lines = Journal(journal)
    listening = await asyncio.start_server(
        Provider(lines, script).connected, "127.0.0.1", 0, backlog=2048, limit=2**20
    )
    half = journal.with_suffix(".half")
    half.write_text(str(listening.sockets[0].getsockname()[1]))
    half.replace(journal.with_suffix(".port"))
    async with listening:
        await lines.keep_up()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Script(**json.loads(sys.argv[2]))))
