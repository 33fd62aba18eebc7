"""Shared state in Redis, Valkey, or whatever speaks their protocol.

Only GET, SET, EVALSHA (SCRIPT LOAD where a script is new there), SCAN and UNLINK are used. Nothing is
tried again: a call whose answer did not come may have been carried out, and then units or places stay
unused until they expire, which is the safe side.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError, RedisError, ResponseError

from fleetgate.shared.bucket import MICRO, Steps, possible, steps
from fleetgate.shared.fuse import Fuse
from fleetgate.shared.lines import LineDown, Lines
from fleetgate.shared.port import PATIENCE, Drawn, SharedDown
from fleetgate.shared.scripts import DRAW, GIVE_BACK, PLACES, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fleetgate.shared.lines import Line
    from fleetgate.shared.port import Rate

PREFIX: Final = "fleetgate:"
RATES: Final = f"{PREFIX}rate:"
ROOMS: Final = f"{PREFIX}room:"
VALUES: Final = f"{PREFIX}value:"
BATCH: Final = 500
"""Keys that one step of a flush looks at."""
LONGEST: Final = 200
"""Characters of a reason."""


class Redis:
    """Buckets, rooms and values that several gateways share."""

    def __init__(
        self,
        make: Callable[[], Line],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        clock: Callable[[], float],
        *,
        name: str = "Redis",
        secret: str = "",
        patience: float = PATIENCE,
    ) -> None:
        """`name`: how messages call it; `secret`: its password, which they never hold."""
        broken = (RedisError, OSError)
        self._lines = Lines(make, spawn, broken=broken, refused=(ResponseError,))
        self._fuse = Fuse(clock)
        self._name = name
        self._secret = secret
        self._patience = patience

    @property
    def healthy(self) -> bool:
        return not self._fuse.why

    @property
    def why(self) -> str:
        """Why it is not healthy."""
        return self._fuse.why

    async def draw(self, bucket: str, rate: Rate, *, least: int, most: int) -> Drawn:
        if not possible(rate, least):
            return Drawn(0, math.inf)
        step = steps(rate)
        reply = await self._run(DRAW, RATES + bucket, *_numbers(step), least, most)
        return Drawn(int(reply[0]), step.seconds(int(reply[1])))

    async def give_back(self, bucket: str, rate: Rate, units: int) -> None:
        if rate.ceiling > 0 and units > 0:
            await self._run(GIVE_BACK, RATES + bucket, *_numbers(steps(rate)), units)

    async def places(self, room: str, holder: str, *, capacity: int, wanted: int, ttl: float) -> int:
        lease = math.ceil(ttl * MICRO)
        return int(await self._run(PLACES, ROOMS + room, holder, capacity, wanted, lease))

    async def get(self, key: str) -> bytes | None:
        found = await self._ask("GET", VALUES + key)
        return bytes(found) if found is not None else None

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        if ttl > 0:
            await self._ask("SET", VALUES + key, value, "PX", math.ceil(ttl * 1000))

    async def flush(self, prefix: str) -> int:
        pattern = VALUES + "".join(f"\\{sign}" if sign in "*?[]^\\" else sign for sign in prefix) + "*"
        cursor: Any = 0
        count = 0
        while True:
            cursor, keys = await self._ask("SCAN", cursor, "MATCH", pattern, "COUNT", BATCH)
            if keys:
                count += int(await self._ask("UNLINK", *keys))
            if int(cursor) == 0:
                return count

    async def close(self) -> None:
        await self._lines.close()

    async def _run(self, script: Script, key: str, *arguments: Any) -> Any:
        return await self._guarded(self._evaluate(script, key, *arguments))

    async def _ask(self, *command: Any) -> Any:
        return await self._guarded(self._lines.ask(*command))

    async def _evaluate(self, script: Script, key: str, *arguments: Any) -> Any:
        command = ("EVALSHA", script.sha, 1, key, *arguments)
        try:
            return await self._lines.ask(*command)
        except NoScriptError:
            await self._lines.ask("SCRIPT", "LOAD", script.text)
            return await self._lines.ask(*command)

    async def _guarded(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The call's answer, in time. Raises SharedDown."""
        if not self._fuse.lets_through():
            call.close()
            raise SharedDown(self._fuse.why)
        try:
            async with asyncio.timeout(self._patience):
                reply = await call
        except TimeoutError:
            raise self._down(f"no answer within {self._patience * 1000:g} ms") from None
        except LineDown as error:
            raise self._down(str(error)) from None
        except ResponseError as error:
            raise self._down(f"it says {error}") from None
        self._fuse.answered()
        return reply

    def _down(self, why: str) -> SharedDown:
        """The reason in one line, without the password."""
        text = " ".join(why.split())
        if self._secret:
            text = text.replace(self._secret, "***")
        text = f"{self._name}: {text[:LONGEST]}"
        self._fuse.failed(text)
        return SharedDown(text)


def _numbers(step: Steps) -> tuple[int, int, int, int]:
    return step.tick, step.cost, step.drain, step.burst
