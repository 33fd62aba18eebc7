"""A whole gateway in a test: the real App on a real socket, in this process or in one of its own.

    async with openai_engine(respond_json(200, answer("hi"))) as engine, running_gateway(
        f'''
        nodes:
          box: {{engines: [{{kind: openai, port: {engine.port}}}]}}
        ''',
        tmp_path,
    ) as gateway:
        reply = await gateway.chat("m")
        assert reply.status == 200
        assert (await gateway.entry()).outcome == "ok"

`running_gateway` builds what `fleetgate serve` builds. When it is left it drains, and then looks for
what no test may leave behind: seats, bodies, tasks, lines of the log that tell of a fault of ours.
`gateway_process` runs the command itself, for signals and exit codes.

Everything a test may wait for is an event: entries, lines of the log, pieces of an answer.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
import textwrap
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fleetgate.app import App, Plan
from fleetgate.budgets.parallel import Parallel
from fleetgate.config.load import load
from fleetgate.litellm_config import convert
from fleetgate.store import sqlite
from fleetgate.store.database import SQLITE, Store
from fleetgate.store.upgrade import bring_up
from fleetgate.telemetry import configure
from tests.support.caller import MASTER_KEY, PATIENCE, Reachable
from tests.support.caller import chat_body as chat_body  # noqa: PLC0414  (tests find it here)
from tests.support.upstreams import Received, Script, ScriptedUpstream, respond_json

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from fleetgate.domain import Entry
    from fleetgate.live import Deployment, Engine

PROVIDER_KEY = "provider-key-0123456789"
"""`${KEY}` in settings"""

# --- what engines say ---------------------------------------------------------------------------------


def role_frame(answer_id: str = "chatcmpl-1") -> dict[str, Any]:
    return _chunk(answer_id, {"role": "assistant", "content": ""})


def content_frame(text: str, answer_id: str = "chatcmpl-1") -> dict[str, Any]:
    return _chunk(answer_id, {"content": text})


def finish_frame(answer_id: str = "chatcmpl-1", reason: str = "stop") -> dict[str, Any]:
    return _chunk(answer_id, {}, reason)


def usage_frame(given: int = 3, made: int = 2, answer_id: str = "chatcmpl-1") -> dict[str, Any]:
    chunk = _chunk(answer_id, {})
    chunk["choices"] = []
    chunk["usage"] = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    return chunk


def said(*words: str, answer_id: str = "chatcmpl-1", usage: bool = True) -> list[Any]:
    """The frames of a whole stream, to be given to `stream_sse`."""
    frames: list[Any] = [role_frame(answer_id), *(content_frame(word, answer_id) for word in words)]
    frames.append(finish_frame(answer_id))
    if usage:
        frames.append(usage_frame(answer_id=answer_id))
    return [*frames, "[DONE]"]


def answer(text: str, answer_id: str = "chatcmpl-1") -> dict[str, Any]:
    """A whole answer."""
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def error(message: str, **members: Any) -> dict[str, Any]:
    return {"error": {"message": message, **members}}


def _chunk(answer_id: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {
        "id": answer_id,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


class OpenAIEngine(ScriptedUpstream):
    """An engine of the kind `openai`: probes get the list of models, everything else its scripts.

    Probes end their connections, so that the first scripted request comes on a fresh one.
    """

    def __init__(self, *replies: Script, models: Sequence[str] = ("m",), **options: Any) -> None:
        super().__init__(*replies, **options)
        self.models = tuple(models)
        self.probes = 0

    def _choose(self, request: Received) -> Script:
        if request.method != "GET":
            return super()._choose(request)
        rows = [{"id": model, "object": "model"} for model in self.models]
        return respond_json(200, {"object": "list", "data": rows}, [("Connection", "close")])

    def note(self, request: Received) -> None:
        if request.method == "GET":
            self.probes += 1
        else:
            super().note(request)


def openai_engine(*replies: Script, models: Sequence[str] = ("m",), **options: Any) -> OpenAIEngine:
    """Replies are used in order, the last one for ever after. `requests` holds no probes."""
    return OpenAIEngine(*replies, models=models, **options)


# --- settings -------------------------------------------------------------------------------------------


def settings(**blocks: Any) -> str:
    """Settings as text. After their first round probes stay away, unless `health` says otherwise."""
    return json.dumps({"health": {"every": "1h"}, **blocks})


def node(at: ScriptedUpstream | int, *, power: str = "always", **engine: Any) -> dict[str, Any]:
    """A node with one engine of the kind `openai` on loopback."""
    port = at if isinstance(at, int) else at.port
    return {"power": power, "engines": [{"kind": "openai", "port": port, **engine}]}


def provider(at: ScriptedUpstream | int, *models: str, **members: Any) -> dict[str, Any]:
    """A provider on loopback with written models, so that it is never probed. They are free: what has no
    price is not asked at all."""
    port = at if isinstance(at, int) else at.port
    rows = [{"name": model, "price": {"request": "0 USD"}} for model in models or ("m",)]
    return {
        "kind": "openai",
        "url": f"http://127.0.0.1:{port}/v1",
        "key": "${KEY}",
        "models": rows,
        **members,
    }


def chain(*steps: Any, **members: Any) -> dict[str, Any]:
    return {"policy": "chain", "use": list(steps), **members}


# --- in this process ------------------------------------------------------------------------------------


class Log(io.StringIO):
    """What the gateway logged, line by line, and an event for each new line."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.lines: list[dict[str, Any]] = []
        self.changed = asyncio.Event()

    def write(self, text: str) -> int:  # called by the log's own thread
        found = [json.loads(line) for line in text.splitlines()]
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._add, found)
        return len(text)

    def _add(self, found: list[dict[str, Any]]) -> None:
        self.lines += found
        self.changed.set()


class Logged:
    """Waiting for lines of a log."""

    log: Any

    async def logged(self, event: str, **values: Any) -> dict[str, Any]:
        """The first line of this event with these values; waits for it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for line in self.log.lines:
                    if line["event"] == event and all(
                        line.get(key) == value for key, value in values.items()
                    ):
                        return dict(line)
                self.log.changed.clear()
                await self.log.changed.wait()


@dataclass
class Gateway(Reachable, Logged):
    """A running App."""

    app: App
    log: Log
    store: Store
    config: Path
    entries: list[Entry] = field(default_factory=list)
    """finished exchanges, oldest first"""
    port: int = 0
    code: int | None = None
    """exit code, after it was left"""
    faults: frozenset[str] = frozenset({"task_failed", "request_failed", "probe_broke"})
    """events that no test expects, unless it says so"""
    _recorded: asyncio.Event = field(default_factory=asyncio.Event)

    def deployment(self, deployment_id: str) -> Deployment:
        return self.app.fleet.deployments[deployment_id]

    def engine(self, engine_id: str) -> Engine:
        return self.app.fleet.engines[engine_id]

    @property
    def tasks(self) -> int:
        """Background tasks of the gateway."""
        return len(self.app.supervisor._tasks)

    async def count_logged(self, event: str) -> int:
        """How often this event was logged until now."""
        await asyncio.to_thread(self.app._telemetry.flush)
        return sum(line["event"] == event for line in self.log.lines)

    async def entry(self, number: int = 1) -> Entry:
        """The entry of the exchange that finished as the `number`th, from 1; waits for it."""
        async with asyncio.timeout(PATIENCE):
            while len(self.entries) < number:
                self._recorded.clear()
                await self._recorded.wait()
        return self.entries[number - 1]

    async def until(self, true: Callable[[], object]) -> None:
        """For what has no event of its own: look again and again."""
        async with asyncio.timeout(PATIENCE):
            while not true():  # noqa: ASYNC110  (there is no event)
                await asyncio.sleep(0.001)

    def listen_in(self) -> None:
        record = self.app.gateway.record

        def also(entry: Entry) -> None:
            record(entry)
            self.entries.append(entry)
            self._recorded.set()

        self.app.gateway.record = also

    def assert_clean(self) -> None:
        """Nothing is left of what was served."""
        gateway, fleet = self.app.gateway, self.app.fleet
        assert gateway.active == 0
        assert gateway.bodies.held == 0
        assert gateway.uploads.held == 0
        assert gateway._budget.active == gateway._budget.retrying == 0
        assert fleet.seats.waiting == 0
        assert {one.id: one.in_flight for one in fleet.deployments.values() if one.in_flight} == {}
        # What callers left at work keeps its seat until the engine says that it is idle.
        taken = {one.id: one.in_flight - len(one.orphans) for one in fleet.engines.values()}
        assert {name: seats for name, seats in taken.items() if seats} == {}
        assert self.tasks == 0
        now, gates = gateway.budgets.now(), gateway.budgets._gates.values()
        assert {gate.key: held for gate in gates if (held := gate.level(now).held)} == {}
        running = {gate.key: gate.level(now).used for gate in gates if isinstance(gate, Parallel)}
        assert {key: used for key, used in running.items() if used} == {}
        assert [line for line in self.log.lines if line["event"] in self.faults] == []


@cache
def _tables() -> bytes:
    """A database as the first start makes it. Made once: most tests begin with one."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / sqlite.DATABASE
        database = sqlite.File(path)
        bring_up(database)
        database.close()
        assert [one.name for one in path.parent.iterdir()] == [path.name]
        return path.read_bytes()


def _begin(state: Path) -> None:
    """A state directory with the tables in it, unless there is one."""
    if not state.exists():
        sqlite.prepare(state)
        sqlite.create(state / sqlite.DATABASE)
        (state / sqlite.DATABASE).write_bytes(_tables())


@asynccontextmanager
async def running_gateway(
    config: str, tmp_path: Path, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Gateway]:
    """The App with these settings on a port of loopback, in this event loop."""
    file = tmp_path / "config.yaml"
    file.write_text(textwrap.dedent(config), encoding="utf-8")
    flags = {"gateway.listen": ("127.0.0.1:0",)}
    given = {"FLEETGATE_MASTER_KEY": MASTER_KEY, "KEY": PROVIDER_KEY, **(environ or {})}
    loaded = load(file, given, flags=flags, convert=convert)
    assert loaded.settings is not None, [one.render() for one in loaded.findings]
    log = Log()
    telemetry = configure(log, clock=time.time, form="json", gather=0)  # noqa: TID251  (dates lines)
    try:
        clock = time.time  # noqa: TID251  (dates rows)
        database = loaded.settings.gateway.database.reveal()
        if database == SQLITE:
            _begin(tmp_path / "state")
        store = Store.open(tmp_path / "state", clock, database=database, scrub=telemetry.redactor.text)
        telemetry.redactor.add(MASTER_KEY)
        app = App(Plan(loaded, file, (), flags), loaded.settings, store, telemetry, MASTER_KEY)
        gateway = Gateway(app, log, store, file)
        gateway.listen_in()
        ready = asyncio.Event()
        running = asyncio.get_running_loop().create_task(app.run(lambda _: ready.set()))
        try:
            waiting = asyncio.get_running_loop().create_task(ready.wait())
            await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if running.done():
                await running
            gateway.port = int(app.listening[0].rpartition(":")[2])
            yield gateway
        finally:
            app.stop()
            await asyncio.wait((running,), timeout=2.0)
            app.stop()
            gateway.code = await running
        gateway.assert_clean()
    finally:
        await asyncio.to_thread(telemetry.close)


# --- in a process of its own ----------------------------------------------------------------------------


class _ProcessLog:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.plain: list[str] = []
        self.changed = asyncio.Event()

    async def follow(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.plain.append(line.decode("utf-8", "replace").rstrip())
            self.changed.set()


@dataclass
class GatewayProcess(Reachable, Logged):
    """`fleetgate serve` as a child of the test."""

    process: asyncio.subprocess.Process
    log: _ProcessLog
    port: int = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def gateway_process(
    config: str, tmp_path: Path, environ: Mapping[str, str] | None = None
) -> AsyncIterator[GatewayProcess]:
    """`fleetgate serve` with these settings, ready; killed at the end if it still runs."""
    file = tmp_path / "config.yaml"
    file.write_text(textwrap.dedent(config), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("fleetgate")),
        *("serve", "--config", str(file), "--state", str(tmp_path / "state")),
        *("--listen", "127.0.0.1:0", "--log", "json"),
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "FLEETGATE_MASTER_KEY": MASTER_KEY,
            "KEY": PROVIDER_KEY,
            **(environ or {}),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    gateway = GatewayProcess(process, _ProcessLog())
    following = asyncio.get_running_loop().create_task(gateway.log.follow(process.stderr))
    try:
        ready = await gateway.logged("ready")
        gateway.port = int(ready["listen"][0].rpartition(":")[2])
        yield gateway
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await following
