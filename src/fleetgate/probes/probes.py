"""Background checks that feed the fleet: one task per engine, so that a stalled one delays nobody.

Probes cost nothing, load nothing and wake nothing. Providers are not polled: traffic tells enough,
and only a list of models that is not written is asked for. This is the probe loop, one of the few
places that catches everything.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from fleetgate.engines.detect import INSTANCE
from fleetgate.engines.port import Ask, Reading
from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.probes.inquiry import inquire
from fleetgate.probes.pace import CATALOGUE, pause
from fleetgate.routing import accounts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fleetgate.fleet.fleet import Fleet
    from fleetgate.live import Account, Engine
    from fleetgate.upstream.port import Transport

PROVIDER_CATALOGUE: Final = 3600.0


class Probes:
    """Keeps one prober per engine."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        instance: str,
        transport_for: Callable[[Engine], Transport],
        clock: Callable[[], float],
        random: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        report: Callable[..., None],
        scrub: Callable[[str], str],
    ) -> None:
        self._fleet = fleet
        self._instance = instance
        self._transport_for = transport_for
        self._clock = clock
        self._random = random
        self._spawn = spawn
        self._report = report
        self._scrub = scrub
        self._probers: dict[str, _Prober] = {}
        fleet.on_catalogue_wanted = self._catalogue_wanted
        fleet.on_look_wanted = self._look_wanted

    def follow(self) -> None:
        """Match the probers to the fleet's engines: at start and after each reload."""
        for engine_id in [one for one, prober in self._probers.items() if not self._is_current(one, prober)]:
            self._probers.pop(engine_id).stop()
        for engine in self._fleet.engines.values():
            prober = self._probers.get(engine.id)
            if prober is None:
                prober = self._probers[engine.id] = _Prober(self, engine)
                prober.task = self._spawn(prober.run(self._clock, self._random))
            else:
                prober.kick()

    async def first_round(self, limit: float) -> None:
        """Wait until every engine was asked once, at most `limit` seconds."""
        waits = [prober.asked.wait() for prober in self._probers.values()]
        if not waits:
            return
        try:
            async with asyncio.timeout(limit):
                await asyncio.gather(*waits)
        except TimeoutError:
            return  # the slow ones report when they are done

    def stop(self) -> None:
        for prober in self._probers.values():
            prober.stop()

    def _is_current(self, engine_id: str, prober: _Prober) -> bool:
        return self._fleet.engines.get(engine_id) is prober.engine

    def _look_wanted(self, engine: Engine) -> None:
        prober = self._probers.get(engine.id)
        if prober is not None:
            prober.kick()

    def _catalogue_wanted(self, engine: Engine) -> None:
        prober = self._probers.get(engine.id)
        if prober is not None:
            prober.want_catalogue()

    async def probe(self, engine: Engine, absent: set[str], *, catalogue: bool) -> bool:
        """Ask everything that is due. True when the engine is well."""
        asks = list(engine.kind.pulse()) if engine.node.local else []
        if catalogue:
            asks[1:1] = engine.kind.catalogue()  # behind health, before what is said about its models
        well = True
        account = accounts.for_probe(engine, self._clock())
        for ask in dict.fromkeys(asks):  # one path may serve both
            if ask.path in absent or (ask.stirs and not engine.in_flight):
                continue
            reading = await self._ask(engine, ask, account)
            if reading.failure is FailureClass.ABSENT_FEATURE:
                absent.add(ask.path)
                continue
            self._fleet.read(engine, reading, account)
            if reading.alive is False or reading.loading:
                well = well and reading.alive is not False
                break
        return well

    async def _ask(self, engine: Engine, ask: Ask, account: Account) -> Reading:
        reply = await inquire(
            self._transport_for(engine), engine.target, engine.path(ask.path), ask, account.headers
        )
        if reply.headers.get(INSTANCE) == self._instance:
            return Reading(alive=False, note="this is the gateway itself")
        reading = engine.kind.read(ask, reply)
        return replace(reading, note=self._scrub(reading.note)) if reading.note else reading

    async def guarded(self, engine: Engine, absent: set[str], *, catalogue: bool) -> bool:
        """One round; a fault of ours in it is reported and does not end the loop."""
        try:
            return await self.probe(engine, absent, catalogue=catalogue)
        except AttemptFailed as error:
            error.text = self._scrub(error.text)
            self._fleet.probe_failed(engine, error)
        except Exception as error:  # noqa: BLE001  (the probe loop)
            self._report("probe_broke", "error", engine=engine.id, exc_info=error)
        return False


class _Prober:
    """The loop of one engine."""

    def __init__(self, probes: Probes, engine: Engine) -> None:
        self._probes = probes
        self.engine = engine
        self.asked = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._kicked = asyncio.Event()
        self._absent: set[str] = set()
        self._failures = 0
        self._catalogue_at = 0.0

    def kick(self) -> None:
        """Ask now."""
        self._kicked.set()

    def want_catalogue(self) -> None:
        self._catalogue_at = 0.0
        self._kicked.set()

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def run(self, clock: Callable[[], float], random: Callable[[], float]) -> None:
        while True:
            if not self._is_quiet():
                await self._round(clock())
            self.asked.set()
            wait = None if self._is_quiet() else self._pause(random())
            try:
                async with asyncio.timeout(wait):
                    await self._kicked.wait()
            except TimeoutError:
                continue
            finally:
                self._kicked.clear()

    async def _round(self, now: float) -> None:
        recovering = self._failures > 0
        due = recovering or now >= self._catalogue_at
        if recovering:
            self._absent.clear()  # another engine, or another version of it, may answer now
        well = await self._probes.guarded(self.engine, self._absent, catalogue=due)
        if well and due and not self.engine.loading:
            self._catalogue_at = now + CATALOGUE
        self._failures = 0 if well else self._failures + 1

    def _pause(self, jitter: float) -> float:
        if not self.engine.node.local and not self._failures:
            return PROVIDER_CATALOGUE
        return pause(self.engine, self._failures, jitter)

    def _is_quiet(self) -> bool:
        """Nothing to ask until the configuration changes."""
        engine = self.engine
        if not engine.configured:
            return True
        removed = any(one.removed for one in engine.deployments.values())  # its list may bring it back
        return engine.listed and not engine.node.local and not removed
