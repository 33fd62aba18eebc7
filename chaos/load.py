"""Callers of a gateway, and what each was told: the caller's side of every comparison."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.caller import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked. `leaves`: the caller goes away after the first piece of the answer."""

    model: str
    key: str
    stream: bool = False
    leaves: bool = False
    max_tokens: int = 50


@dataclass(slots=True)
class Told:
    """One request as its caller saw it. Times are of the monotonic clock, one for all processes."""

    wish: Wish
    began: float
    ended: float = 0.0
    status: int = 0
    """0: no answer came"""
    whole: bool = False
    """the answer came to its proper end"""
    request_id: str = ""
    code: str = ""
    retry_after: str | None = None
    should_retry: str | None = None

    @property
    def answered(self) -> bool:
        return self.status == 200 and self.whole


@dataclass
class Load:
    """A number of callers, each asking again and again."""

    wishes: Callable[[random.Random], Wish]
    callers: int
    pause: float = 0.0
    told: list[Told] = field(default_factory=list)
    stopped: bool = False

    async def run(self, port: int, seed: int) -> None:
        """Ends when it is stopped, or everybody's connection is refused."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.callers):
                group.create_task(self._one(port, random.Random(seed * 1_000 + number)))

    async def _one(self, port: int, chance: random.Random) -> None:
        caller: Caller | None = None
        try:
            while not self.stopped:
                if caller is None:
                    caller = await Caller.connect(port)
                told = await ask(caller, self.wishes(chance))
                self.told.append(told)
                if not told.whole:
                    leave(caller)
                    caller = None
                if self.pause:
                    await asyncio.sleep(self.pause * chance.uniform(0.5, 1.5))
                elif told.status == 429:
                    await asyncio.sleep(0.05)
        except OSError:
            return
        finally:
            if caller is not None:
                leave(caller)


async def ask(caller: Caller, wish: Wish) -> Told:
    """One request on a connection that may be kept."""
    told = Told(wish, time.monotonic())
    try:
        await caller.ask("POST", "/v1/chat/completions", _headers(wish), _body(wish))
        reply = await caller.head()
        told.status = reply.status
        told.request_id = reply.header("x-fleetgate-request-id") or reply.header("x-request-id") or ""
        told.retry_after = reply.header("retry-after")
        told.should_retry = reply.header("x-should-retry")
        if wish.leaves:
            await caller.piece()
        else:
            await caller.rest()
            told.whole = reply.complete and (not wish.stream or reply.status != 200 or _done(reply.body))
        if told.status != 200 and told.whole:
            told.code = str(reply.json()["error"].get("code"))
    except (OSError, EOFError, TimeoutError):
        told.whole = False
    told.ended = time.monotonic()
    return told


def leave(caller: Caller) -> None:
    with contextlib.suppress(OSError):  # the connection is gone
        caller.reset()


def _done(body: bytes) -> bool:
    return body.rstrip().endswith(b"data: [DONE]")


def _headers(wish: Wish) -> dict[str, str]:
    return {
        "host": "127.0.0.1",
        "authorization": f"Bearer {wish.key}",
        "content-type": "application/json",
    }


def _body(wish: Wish) -> bytes:
    asked: dict[str, Any] = {
        "model": wish.model,
        "messages": [{"role": "user", "content": "a short question"}],
        "max_tokens": wish.max_tokens,
        "stream": wish.stream,
    }
    return json.dumps(asked).encode()


async def at_once(port: int, wishes: Sequence[Wish]) -> list[Told]:
    """All of them at the same time, each on a connection of its own that is made before."""
    callers = [await Caller.connect(port) for _ in wishes]
    try:
        return list(await asyncio.gather(*map(ask, callers, wishes)))
    finally:
        for caller in callers:
            leave(caller)
