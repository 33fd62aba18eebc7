"""Builds everything from settings, runs it, reloads it, and stops it without dropping an answer.

The only place that knows all parts. `Supervisor` owns every background task; `App.run` is the whole
life of the process from the first socket to the exit code.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fleetgate import __version__, assembly
from fleetgate.assembly import Frame
from fleetgate.budgets.owner import thresholds
from fleetgate.config.environment import process_environment
from fleetgate.config.load import Loaded, load
from fleetgate.config.reload import Apply, Hold, decide
from fleetgate.config.watch import Watch
from fleetgate.errors import FailureClass, Refused
from fleetgate.fleet.fleet import ACCOUNTS, LEARNED, NODES
from fleetgate.fleet.learning import LENGTHS
from fleetgate.http.door import Door
from fleetgate.http.listener import AddressMissing, Listener, bound_address, make_listener, open_socket
from fleetgate.http.routes import Owners, every_row
from fleetgate.http.status import Status
from fleetgate.http.surface import Surface
from fleetgate.litellm_config import convert
from fleetgate.prices.check import of_models
from fleetgate.reconcile.waking import wake_secrets
from fleetgate.store.failures import StoreError
from fleetgate.store.retention import Ages, keep_tidy
from fleetgate.store.runs import BEAT
from fleetgate.upstream.transports import Transports

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from fleetgate.config.schema import Settings
    from fleetgate.domain import Entry
    from fleetgate.keys.changes import Actor
    from fleetgate.store.database import Store
    from fleetgate.store.recovery import Recovered
    from fleetgate.telemetry import Telemetry

FIRST_ROUND: Final = 0.7
"""Seconds that the start waits for the engines' first answers."""
WATCH_EVERY: Final = 0.5
BIND_AGAIN: Final = 2.0
RESCAN_EVERY: Final = 10.0
RECOVER_EVERY: Final = 4
"""Beats between two looks for processes that died."""
BEGIN_AGAIN: Final = 1.0
"""Seconds after which a task that broke begins again."""
SAVE_LEARNED: Final = 60.0
LAST_WORDS: Final = 5.0
"""Seconds for stopped exchanges to say so."""


class Supervisor:
    """Owns background tasks: keeps them alive, reports what breaks, cancels them at the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, report: Callable[..., None]) -> None:
        self._loop = loop
        self._report = report
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def keep(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """A task that goes on for ever: when it breaks that is reported, and it begins again."""
        return self.spawn(self._keep(work))

    async def _keep(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001  (the task supervisor)
                self._report("task_failed", "error", exc_info=error)
            await asyncio.sleep(BEGIN_AGAIN)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report("task_failed", "error", exc_info=error)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the process was asked to run."""

    loaded: Loaded
    config: Path | None
    overlays: tuple[Path, ...] = ()
    flags: dict[str, Any] = field(default_factory=dict)
    rescan: Callable[[App], Coroutine[Any, Any, Settings]] | None = None
    """without a file: looks for engines on this host and makes settings of them"""


class App:
    """One gateway process."""

    def __init__(
        self, plan: Plan, settings: Settings, store: Store, telemetry: Telemetry, master: str
    ) -> None:
        loop = asyncio.get_running_loop()
        self._plan = plan
        self._store = store
        self._telemetry = telemetry
        self._log = telemetry.logger("fleetgate")
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._confirmed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._sources: Sequence[Path] = plan.loaded.sources
        self.supervisor = Supervisor(loop, self.report)
        self.settings = settings
        self.listening: tuple[str, ...] = ()
        """where it listens, once it does: as written, with the port that the system chose for a 0"""
        frame = Frame(
            loop,
            store,
            telemetry.redactor,
            self.supervisor.spawn,
            self.report,
            self._record,
            lambda: self.settings,
        )
        self.people = assembly.people(frame, master)
        self.shared = assembly.shared(frame)
        self.transports = Transports()
        self.fleet = assembly.fleet(frame)
        self.bounds = assembly.bounds(frame, self.shared)
        self.gateway = assembly.gateway(frame, self.fleet, self.bounds.budgets, self.transports)
        self.probes = assembly.probes(frame, self.fleet, self.gateway, self.transports)
        self.reconciler = assembly.reconciler(frame, self.fleet, self.transports)
        self.cache = assembly.cache(frame, self.shared)
        self.status = Status(__version__, time.monotonic())
        self.surface = Surface(
            self.gateway,
            every_row(self._owners()),
            self.report,
        )
        self.status.store_healthy = lambda: store.healthy
        self.status.reload = self.reload_now if plan.config is not None else None
        self.bounds.rules.on_change = self._limit
        kinds = (LEARNED, ACCOUNTS, NODES, LENGTHS)
        self.fleet.recall(*(store.recall(kind) for kind in kinds))
        self._configure(settings, plan.loaded)

    # -- life ----------------------------------------------------------------------------------------

    async def run(self, ready: Callable[[App], None]) -> int:
        """Serve until `stop`. Returns the exit code: 0 after a drain, 130 when told twice."""
        if self._plan.rescan is not None:
            self.settings = await self._plan.rescan(self)
        self._configure(self.settings, self._plan.loaded)
        sockets = await self._open_sockets()
        self.listening = tuple(map(bound_address, self.settings.gateway.listen, sockets))
        self.probes.follow()
        await self.probes.first_round(FIRST_ROUND)
        listener = make_listener(self.surface, self.settings.gateway.header_read)
        serving = self.supervisor.spawn(listener.serve(sockets))
        self._begin_watching()
        for work in self._housekeeping():
            self.supervisor.keep(work)
        ready(self)
        self.report("ready", listen=list(self.listening), version=__version__)
        stopped = self.supervisor.spawn(_wait(self._stopping))
        await asyncio.wait((stopped, serving), return_when=asyncio.FIRST_COMPLETED)
        code = await self._drain(listener, serving)
        await self._close()
        return code

    def stop(self) -> None:
        """Asked once: drain. Asked twice: at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def confirm(self) -> None:
        """SIGHUP: read the configuration again, and apply it even where it waits for a confirmation."""
        self._confirmed.set()

    def report(self, event: str, level: str = "info", **values: Any) -> None:
        """One structured log line."""
        self._log.log(logging.getLevelName(level.upper()), event, **values)

    async def _open_sockets(self) -> list[socket.socket]:
        """Bind every address; wait for one that an overlay network may still bring."""
        sockets = []
        told = False
        for address in self.settings.gateway.listen:
            while True:
                try:
                    sockets.append(open_socket(address))
                    break
                except AddressMissing as missing:
                    if not told:
                        self.report("waiting_for_address", "warning", text=str(missing))
                        told = True
                    if await _passed(self._stopping, BIND_AGAIN):
                        raise
        return sockets

    def _begin_watching(self) -> None:
        if self._plan.config is not None:
            self.supervisor.spawn(self._watch_files(Watch(self._plan.loaded.sources)))
        elif self._plan.rescan is not None:
            self.supervisor.spawn(self._rescan())

    async def _drain(self, listener: Listener, serving: asyncio.Task[None]) -> int:
        """Not ready, then no new connections, then wait for running answers, then end them."""
        gateway, limits = self.gateway, self.settings.gateway
        gateway.draining = True
        self.report("draining", in_flight=gateway.active, limit_s=limits.drain)
        hurried = limits.lame_duck > 0 and await _passed(self._hurry, limits.lame_duck)
        gateway.refusing = True
        self.fleet.seats.drain()
        listener.leave()
        gateway.idle = asyncio.Event()
        if not gateway.active:
            gateway.idle.set()
        if not hurried:
            idle = self.supervisor.spawn(_wait(gateway.idle))
            hurry = self.supervisor.spawn(_wait(self._hurry))
            await asyncio.wait((idle, hurry), timeout=limits.drain, return_when=asyncio.FIRST_COMPLETED)
        if gateway.active:
            self.report("drain_over", "warning", in_flight=gateway.active)
            gateway.stop_all(FailureClass.NOTHING_AVAILABLE)
        await asyncio.wait((serving,), timeout=LAST_WORDS)
        listener.force_exit = True
        return 130 if self._hurry.is_set() else 0

    async def _close(self) -> None:
        self.report("stopped")
        self.probes.stop()
        self.fleet.save_all()
        await self.supervisor.close()
        await self.transports.close()
        if self.shared is not None:
            await self.shared.close()
        await self.people.keys.save()
        await asyncio.to_thread(self._store.close)
        await asyncio.to_thread(self._telemetry.close)

    # -- configuration ---------------------------------------------------------------------------------

    def _configure(self, settings: Settings, loaded: Loaded | None) -> None:
        """Put settings into effect: everywhere, in one go."""
        self.settings = settings
        self.gateway.configure(settings)
        self._limit()
        self.gateway.cache = self.cache.configure(settings.cache)
        for plan in self.fleet.configure(settings):
            for account in plan.accounts:
                if account.key:
                    self._telemetry.redactor.add(account.key)
        for text in wake_secrets(settings):
            self._telemetry.redactor.add(text)
        people = self.people
        door = Door(settings.gateway, people.keys, people.throttle, people.tailscale)
        self.surface.configure(door, settings.gateway.base_path, settings.gateway.cors)
        if loaded is not None:
            self.status.fingerprint = loaded.fingerprint
            self.status.sources = tuple(str(path) for path in loaded.sources)
            self.status.origins = lambda: [origin.row() for origin in loaded.origins]

    def _limit(self) -> None:
        """The limits of the file and of the database."""
        limits = self.bounds.rules.limits(self.settings)
        self.bounds.budgets.configure(limits, thresholds(self.settings))

    def _housekeeping(self) -> Iterator[Callable[[], Coroutine[Any, Any, None]]]:
        """What goes on beside the requests, for ever."""
        yield self.reconciler.run
        yield self.people.keys.follow
        yield self.bounds.rules.follow
        yield self.bounds.switch.follow
        yield self._keep_leases
        yield self._keep_learned
        yield lambda: keep_tidy(self._store, self._ages, time.time, self.report)  # noqa: TID251  (ages of rows)

    def _ages(self) -> Ages:
        kept = self.settings.ledger
        return Ages(kept.keep, kept.keep_audit)

    async def _keep_leases(self) -> None:
        """Tell others that this process lives, keep its places, and end what dead ones left open."""
        self._tell_recovered(self._store.recovered)
        turn = 0
        while True:
            await asyncio.sleep(BEAT)
            self._store.beat()
            await self.bounds.budgets.renew()
            turn += 1
            if turn % RECOVER_EVERY == 0 and not self.bounds.alone:
                await self._recover()

    async def _keep_learned(self) -> None:
        """What traffic taught is stored now and then: a crash costs at most the last minute of it."""
        while True:
            await asyncio.sleep(SAVE_LEARNED)
            self.fleet.save_learned()

    async def _recover(self) -> None:
        try:
            self._tell_recovered(await self._store.recover())
        except StoreError as error:
            self.report("recovery_failed", "warning", text=error.message)

    def _tell_recovered(self, found: Recovered) -> None:
        """What a process that died had left open."""
        if found.requests:
            self.report(
                "recovered",
                "warning",
                requests=found.requests,
                attempts=found.attempts,
                estimated_nano_usd=found.estimated_cost,
            )

    async def _watch_files(self, watch: Watch) -> None:
        """Apply a changed file once it has come to rest; a signal confirms what was held."""
        while True:
            confirmed = await _passed(self._confirmed, WATCH_EVERY)
            self._confirmed.clear()
            if confirmed or watch.check(time.monotonic()):
                await self._read_again(confirmed=confirmed)
                watch.follow(self._sources)

    async def reload_now(self) -> dict[str, Any]:
        """`fleetgate reload`: read and apply, confirmed."""
        return await self._read_again(confirmed=True)

    async def _read_again(self, *, confirmed: bool) -> dict[str, Any]:
        async with self._reading:  # a signal, a command and the watcher may want it at once
            return await self._read_and_apply(confirmed=confirmed)

    async def _read_and_apply(self, *, confirmed: bool) -> dict[str, Any]:
        plan = self._plan
        assert plan.config is not None
        new = await asyncio.to_thread(
            load,
            plan.config,
            process_environment(),
            plan.overlays,
            flags=plan.flags,
            convert=convert,
            further=of_models(self.gateway.wall),
        )
        self._sources = new.sources
        decision = decide(self.settings, new, confirmed=confirmed)
        if isinstance(decision, Apply):
            self.status.rejected, self.status.rejected_findings, self.status.held = None, [], False
            self._configure(decision.settings, new)
            self.probes.follow()
            if decision.changes:
                self.report("reloaded", changes=list(decision.changes))
            return {"applied": True, "changes": list(decision.changes), "reason": None, "findings": []}
        held = isinstance(decision, Hold)
        findings = [] if isinstance(decision, Hold) else [one.row() for one in decision.findings]
        self.status.rejected, self.status.rejected_findings, self.status.held = (
            decision.reason,
            findings,
            held,
        )
        self.report(
            "reload_held" if held else "reload_rejected",
            "warning",
            reason=decision.reason,
            findings=[] if isinstance(decision, Hold) else [one.render() for one in decision.findings[:5]],
        )
        return {
            "applied": False,
            "held": held,
            "changes": [],
            "reason": decision.reason,
            "findings": findings,
        }

    async def _rescan(self) -> None:
        """Without a file: engines that are started later join by themselves."""
        rescan = self._plan.rescan
        assert rescan is not None
        while True:
            await asyncio.sleep(RESCAN_EVERY)
            settings = await rescan(self)
            if settings != self.settings:
                self._configure(settings, None)
                self.probes.follow()

    def _owners(self) -> Owners:
        """Whom the routes ask."""
        return Owners(
            self.status,
            self.people.registry,
            self.people.people,
            self.bounds.rules,
            self.bounds.budgets,
            self.bounds.switch,
            self.cache,
            self._store,
            self._note,
            self.gateway.wall,
        )

    async def _note(
        self, actor: Actor, action: str, subject: str, before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        """A line of the trail for what happens outside of the database, which need not work for that."""
        try:
            await self.people.registry.note(actor, action, subject, before, after)
        except Refused as refused:
            self.report("audit_failed", "error", action=action, who=actor.who, text=refused.message)

    def _record(self, entry: Entry) -> None:
        self._store.post(entry)
        self._telemetry.record(entry)
        self.gateway.recent.add(entry)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _passed(event: asyncio.Event, seconds: float) -> bool:
    """Whether `event` is set within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
