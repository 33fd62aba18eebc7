"""A machine that runs Ollama, as a scripted upstream: it has a list of models, loads and forgets them.

    async with OllamaMachine("small", "large", max_loaded=1) as machine:
        ...
        assert machine.loaded == {"small:latest"}

Loads wait for `gate`; a load whose caller leaves is aborted, as Ollama does. `off`: nothing listens at its
port until `switch_on`, and whoever asks before is refused. Chats and prompts in its own dialect are answered
by `says`, or with what `native_answer` or `native_lines` make of it.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any, Self

from fleetgate.dialects.ollama.names import tagged
from tests.support.gateway import answer
from tests.support.upstreams import (
    Ended,
    Peer,
    Received,
    Script,
    ScriptedUpstream,
    chunk,
    head,
    respond,
    respond_json,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from tests.support.upstreams import Step

FOREVER = "2318-08-07T15:00:00Z"
CLOSE = [("Connection", "close")]


COUNTED = {
    "total_duration": 3_000_000_000,
    "load_duration": 500_000_000,
    "prompt_eval_count": 40,
    "prompt_eval_duration": 400_000_000,
    "eval_count": 20,
    "eval_duration": 2_000_000_000,
}
"""100 tokens per second read, 10 written"""


def native_line(model: str, path: str, done: str = "", **said: Any) -> dict[str, Any]:
    """An object of an answer. `said`: `content`, `thinking`, `tool_calls`. `done`: why it is the last."""
    stamp = {"model": model, "created_at": "2026-01-01T00:00:00.5Z"}
    words = {"content": "", **said}
    if path == "/api/chat":
        form = {**stamp, "message": {"role": "assistant", **words}}
    else:
        form = {**stamp, "response": words.pop("content"), **words}
    return {**form, "done": True, "done_reason": done, **COUNTED} if done else {**form, "done": False}


def native_answer(model: str, path: str, text: str, reason: str = "stop", **said: Any) -> dict[str, Any]:
    """A whole one."""
    return native_line(model, path, reason, content=text, **said)


def native_lines(model: str, path: str, *words: str, reason: str = "stop") -> list[dict[str, Any]]:
    """The lines of a whole stream, to be given to `stream_lines`."""
    pieces = [native_line(model, path, content=word) for word in words]
    return [*pieces, native_line(model, path, reason)]


def stream_lines(lines: Iterable[dict[str, Any] | Step], *, end: bool = True) -> list[Step]:
    """A stream as Ollama sends it, one chunk per line."""
    form = [("Content-Type", "application/x-ndjson"), ("Transfer-Encoding", "chunked")]
    steps = [send(head(200, form))]
    steps += [send(chunk(as_line(one))) if isinstance(one, dict) else one for one in lines]
    return [*steps, send(b"0\r\n\r\n")] if end else steps


def as_line(form: dict[str, Any]) -> bytes:
    return json.dumps(form).encode() + b"\n"


class OllamaMachine(ScriptedUpstream):
    """`loads` and `unloads` are what was asked for, in order: (model, keep_alive)."""

    def __init__(self, *models: str, max_loaded: int = 3, off: bool = False, size: int = 1000) -> None:
        super().__init__()
        self.models = [tagged(model) for model in models]
        self.max_loaded = max_loaded
        self.size = size
        self.gate = asyncio.Event()
        self.gate.set()
        self.loaded: dict[str, str] = {}
        """model -> when it is thrown out"""
        self.loads: list[tuple[str, Any]] = []
        self.unloads: list[str] = []
        self.aborted: list[str] = []
        self.broken: dict[str, Script] = {}
        """what a load of a model is answered instead"""
        self.forgetful = False
        """it says that it loaded a model, and does not have it"""
        self.chats: list[tuple[str, bool]] = []
        """what was asked, and whether the model was in memory"""
        self.native: list[dict[str, Any]] = []
        """bodies of its own dialect with something to answer"""
        self.says: Callable[[str, dict[str, Any]], Script] | None = None
        """the answer to such a one, by its path"""
        self.looks = 0
        self.changed = asyncio.Event()
        self._off = off
        self._reserved: socket.socket | None = None

    async def __aenter__(self) -> Self:
        if not self._off:
            return await super().__aenter__()
        # Bound and not listening: the port is ours, and connections to it are refused.
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((self.host, 0))
        self.port = self._reserved.getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._reserved is None:
            await super().__aexit__(*exc)
        else:
            self._reserved.close()

    async def switch_on(self) -> None:
        assert self._reserved is not None
        reserved, self._reserved = self._reserved, None
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Peer(self), sock=reserved, backlog=1024)

    async def until(self, true: Callable[[], object]) -> None:
        """Until something it was asked made this true."""
        async with asyncio.timeout(10):
            while not true():
                self.changed.clear()
                await self.changed.wait()

    def _choose(self, request: Received) -> Script:
        path = request.path
        if path in ("/api/chat", "/api/generate"):
            form = request.json()
            if form.get("messages") or form.get("prompt"):
                return self._answer(path, form)
        if path == "/api/generate":
            return [self._generate(request.json())]
        if path == "/v1/chat/completions":
            model = tagged(request.json()["model"])
            self.chats.append((model, model in self.loaded))
            self.changed.set()
            return respond_json(200, answer(f"from {model}"), CLOSE)
        self.looks += path == "/api/ps"
        self.changed.set()
        answers: dict[str, Any] = {
            "/api/tags": {"models": [self._listed(model) for model in self.models]},
            "/api/ps": {"models": [self._running(model) for model in self.loaded]},
            "/api/version": {"version": "0.14.0"},
        }
        if path == "/":
            return respond(200, b"Ollama is running", headers=CLOSE)
        return respond_json(200, answers[path], CLOSE) if path in answers else respond(404, headers=CLOSE)

    def _answer(self, path: str, form: dict[str, Any]) -> Script:
        model = tagged(form["model"])
        self.native.append(form)
        self.chats.append((model, model in self.loaded))
        self.changed.set()
        if self.says is not None:
            return self.says(path, form)
        if form.get("stream") is False:
            return respond_json(200, native_answer(model, path, f"from {model}"), CLOSE)
        return stream_lines(native_lines(model, path, "from ", model))

    def _listed(self, model: str) -> dict[str, Any]:
        return {"name": model, "model": model, "size": self.size, "digest": "d", "details": {}}

    def _running(self, model: str) -> dict[str, Any]:
        row = {"name": model, "model": model, "size": self.size, "size_vram": self.size}
        return {**row, "expires_at": self.loaded[model], "context_length": 4096}

    def _generate(self, form: dict[str, Any]) -> Callable[[Peer], Awaitable[None]]:
        model, keep = tagged(form["model"]), form.get("keep_alive")

        async def step(peer: Peer) -> None:
            if keep == 0:
                self.unloads.append(model)
                self.loaded.pop(model, None)
            else:
                self.loads.append((model, keep))
                self.changed.set()
                await self._wait(model, peer)
                if model in self.broken:
                    for one in self.broken[model]:
                        await one(peer)
                    return
                self._put(model, keep)
            self.changed.set()
            answer = {"model": model, "done": True, "done_reason": "unload" if keep == 0 else "load"}
            for one in respond(200, json.dumps(answer).encode(), "application/json", CLOSE):
                await one(peer)

        return step

    async def _wait(self, model: str, peer: Peer) -> None:
        """Until it is loaded, or its caller leaves."""
        loop = asyncio.get_running_loop()
        gate, gone = loop.create_task(self.gate.wait()), loop.create_task(peer.closed.wait())
        try:
            await asyncio.wait((gate, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gate.cancel()
            gone.cancel()
        if peer.closed.is_set():
            self.aborted.append(model)
            self.changed.set()
            raise Ended

    def _put(self, model: str, keep: Any) -> None:
        if self.forgetful:
            return
        self.loaded.pop(model, None)
        while len(self.loaded) >= self.max_loaded:
            self.loaded.pop(next(iter(self.loaded)))
        self.loaded[model] = FOREVER if keep == -1 else "2100-01-01T00:00:00Z"
