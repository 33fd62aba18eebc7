"""`fleetgate up` and `fleetgate serve`: run the gateway in the foreground."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import click

from fleetgate import __version__
from fleetgate.agent import builtin
from fleetgate.agent.supervise import Child, ChildFailed
from fleetgate.app import App, Plan
from fleetgate.cli.terminal import paint, wants_colour
from fleetgate.config.environment import process_environment
from fleetgate.config.load import Loaded, load
from fleetgate.config.names import listen_address, seen_from_here
from fleetgate.config.paths import Directories, directories, find_config
from fleetgate.config.schema import Engine, Node, Settings
from fleetgate.engines.detect import USUAL_PORTS, Found
from fleetgate.engines.port import Ask
from fleetgate.errors import AttemptFailed
from fleetgate.http.listener import CannotListen
from fleetgate.keys.master import WEAK_LENGTH, master_key
from fleetgate.litellm_config import convert
from fleetgate.prices.check import of_models
from fleetgate.probes.inquiry import inquire
from fleetgate.probes.scan import scan
from fleetgate.shared.connect import CannotShare
from fleetgate.store.database import Store
from fleetgate.store.failures import StoreError
from fleetgate.telemetry import configure
from fleetgate.upstream.port import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

EXIT_PROBLEM: Final = 1
EXIT_BAD_CONFIG: Final = 78
HERE: Final = "localhost"
"""The name of this machine where no file names it."""
DEMO: Final = "demo"
LOOK_AGAIN: Final = 6
"""Of so many scans, one also asks again what the engines are that were found before."""
DEMO_START: Final = 20.0
"""Seconds for the built-in engine to be ready."""

YOUNG_OBJECTS: Final = 10_000
"""New objects between two looks of the garbage collector; Python's own number is 700."""

_FILE = click.Path(path_type=Path)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that both commands take."""
    options = (
        click.option("--config", type=_FILE, help="The configuration file; default: the usual places."),
        click.option(
            "--overlay", "overlays", type=_FILE, multiple=True, help="A file laid over it; may repeat."
        ),
        click.option("--listen", multiple=True, metavar="HOST:PORT", help="Where to listen; may repeat."),
        click.option("--state", type=_FILE, help="The directory for the database and the master key."),
        click.option("--log", "log_form", type=click.Choice(["console", "json"]), help="Form of the log."),
    )
    for option in reversed(options):  # the first one listed is shown first
        command = option(command)
    return command


@click.command()
@_options
def up(**options: Any) -> None:
    """Serve what is there: a configuration, the engines of this machine, or a built-in demonstration.

    Without a configuration, engines on this machine's usual ports are found and served on
    127.0.0.1:4000 for this machine alone. Where there is none, a tiny built-in model answers: its words
    are noise, its protocol is real.

    \b
    Examples:
      fleetgate up
      fleetgate up --listen 127.0.0.1:4100
    """
    _run(with_demo=True, **options)


@click.command()
@_options
def serve(**options: Any) -> None:
    """Serve a configuration.

    The same as `up` without its demonstration. SIGHUP reads the configuration again; SIGTERM and
    Ctrl-C let running answers finish, a second one ends them.

    \b
    Examples:
      fleetgate serve --config /etc/fleetgate/config.yaml
      fleetgate serve --config litellm-config.yaml
    """
    _run(with_demo=False, **options)


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for on the command line."""

    with_demo: bool
    config: Path | None
    overlays: tuple[Path, ...]
    listen: tuple[str, ...]
    state: Path | None
    log_form: Literal["console", "json"] | None

    @property
    def flags(self) -> dict[str, Any]:
        """Settings that the command line decides. Without a file there are no keys to hand out."""
        flags: dict[str, Any] = {"gateway.listen": self.listen} if self.listen else {}
        if self.config is None:
            flags["gateway.auth"] = "open"
        return flags


def _run(**options: Any) -> None:
    environ = process_environment()
    options["config"] = options["config"] or find_config(environ)
    order = Order(**options)
    further = of_models(time.time)  # noqa: TID251  (retirements have days)
    loaded = load(order.config, environ, order.overlays, flags=order.flags, convert=convert, further=further)
    say_findings(loaded)
    if loaded.settings is None:
        click.echo("The configuration has errors: nothing was started.", err=True)
        sys.exit(EXIT_BAD_CONFIG)
    run_to_the_end(_serve(order, loaded, loaded.settings, directories(environ)))


def run_to_the_end(main: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a gateway and end the process with its exit code; what it cannot start without is said."""
    try:
        with asyncio.Runner(loop_factory=_new_loop()) as runner:
            code = runner.run(main)
    except StoreError as error:
        click.echo(f"fleetgate: {error.message.rstrip('.')}. {error.advice}".rstrip(), err=True)
        sys.exit(EXIT_PROBLEM)
    except (CannotListen, CannotShare, OSError) as error:
        click.echo(f"fleetgate: {error}", err=True)
        sys.exit(EXIT_PROBLEM)
    sys.exit(code)


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it exists."""
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


async def _serve(order: Order, loaded: Loaded, settings: Settings, places: Directories) -> int:
    began = time.monotonic()
    discovery = Discovery(settings, places.cache, with_demo=order.with_demo)
    plan = Plan(
        loaded,
        order.config,
        order.overlays,
        order.flags,
        rescan=discovery.settings if order.config is None else None,
    )

    def ready(app: App, key_file: Path | None) -> None:
        _say_ready(app, discovery, key_file, time.monotonic() - began)

    return await serve_plan(plan, settings, order.state or places.state, order.log_form, ready)


async def serve_plan(
    plan: Plan,
    settings: Settings,
    home: Path,
    log_form: Literal["console", "json"] | None,
    ready: Callable[[App, Path | None], None],
) -> int:
    """Serve until a signal, with the state in `home`; `ready` is told the file of the master key."""
    for chatty in ("uvicorn.error", "gguf"):  # what they say in passing, the gateway says itself
        logging.getLogger(chatty).setLevel(logging.WARNING)
    telemetry = configure(sys.stderr, clock=time.time, form=log_form)  # noqa: TID251  (dates lines)
    try:
        database = settings.gateway.database
        telemetry.redactor.add(database.password)
        clock = time.time  # noqa: TID251  (dates rows)
        store = Store.open(home, clock, database=database.reveal(), scrub=telemetry.redactor.text)
        master = plan.loaded.master_key
        key, key_file = master_key(home, master.reveal() if master and master.resolved else None)
        telemetry.redactor.add(key)
        if len(key) < WEAK_LENGTH:
            click.echo("warning: the master key is short; anyone may guess it", err=True)
        app = App(plan, settings, store, telemetry, key)
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, app.stop)
        loop.add_signal_handler(signal.SIGHUP, app.confirm)

        def settled(app: App) -> None:
            _settle_memory()
            ready(app, key_file)

        return await app.run(settled)
    finally:
        await asyncio.to_thread(telemetry.close)


class Discovery:
    """Makes settings of the engines found on this machine, or of the demonstration.

    An engine that was found once stays: when it is busy, loading or stopped, it is down and not unknown.
    """

    def __init__(
        self, base: Settings, cache: Path, *, with_demo: bool, ports: Sequence[int] = USUAL_PORTS
    ) -> None:
        self._base = base
        self._cache = cache
        self._with_demo = with_demo
        self._ports = ports
        self._found: dict[int, Found] = {}
        self._rounds = 0
        self._demo_port: int | None = None
        self.why_no_demo = ""

    @property
    def has_demo(self) -> bool:
        return self._demo_port is not None

    async def settings(self, app: App) -> Settings:
        own = {listen_address(address)[1] for address in self._base.gateway.listen}
        if self._demo_port is not None:
            own.add(self._demo_port)
        if self._rounds % LOOK_AGAIN:
            # Probes look after them. One of which little is known may turn out to be something better.
            own.update(port for port, found in self._found.items() if found.kind != "openai")
        self._rounds += 1
        sightings = await scan(app.transports, self._ports, without=frozenset(own))
        self._found.update((one.port, one.found) for one in sightings)
        if not self._found and self._with_demo and self._demo_port is None and not self.why_no_demo:
            await self._start_demo(app)
        engines = [
            Engine(kind=found.kind, name=f"{found.name}-{port}", port=port)  # type: ignore[arg-type]
            for port, found in sorted(self._found.items(), key=lambda item: self._ports.index(item[0]))
        ]
        if self._demo_port is not None:
            engines.append(Engine(kind="llamacpp", name=DEMO, port=self._demo_port))
        node = Node(address=("127.0.0.1",), engines=tuple(engines))
        return self._base.model_copy(update={"nodes": {HERE: node}})

    async def _start_demo(self, app: App) -> None:
        """llama.cpp over a tiny model of ours, as a supervised child."""
        missing = builtin.missing()
        if missing is not None:
            self.why_no_demo = missing
            return
        port = _free_port()
        child = Child(
            DEMO, builtin.command(self._cache, port), lambda: _answers(app, port), clock=time.monotonic
        )
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            app.supervisor.spawn(child.run())
            async with asyncio.timeout(DEMO_START):
                await child.ready()
        except TimeoutError:
            await child.stop()
            self.why_no_demo = f"The built-in engine was not ready within {DEMO_START:g} s."
        except (ChildFailed, OSError) as error:
            self.why_no_demo = f"The built-in engine does not start: {error}"
        else:
            self._demo_port = port


async def _answers(app: App, port: int) -> bool:
    """Whether the demonstration is ready."""
    ask = Ask("/health")
    try:
        reply = await inquire(app.transports, Target(("127.0.0.1",), port), ask.path, ask)
    except AttemptFailed:
        return False
    return reply.status == 200


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def say_findings(loaded: Loaded) -> None:
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    on = wants_colour(sys.stderr, process_environment())
    for finding in loaded.findings:
        word = paint(finding.severity, colours[finding.severity], on=on)
        click.echo(f"{word}: {finding.render()}", err=True)


def _settle_memory() -> None:
    """What the start made stays: the garbage collector need not walk through it again and again.

    A full collection of it takes 40 ms, in which no token moves. Exchanges leave no rings behind, so
    the youngest generation may grow larger too before anybody looks at it.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def _say_ready(app: App, discovery: Discovery, key_file: Path | None, seconds: float) -> None:
    """What a person at a terminal wants to know now. Goes to stdout, apart from the log."""
    gateway = app.settings.gateway
    names = app.gateway.names.listed()
    first = seen_from_here(app.listening[0])
    lines = [f"Fleetgate {__version__} is ready on http://{first}{gateway.base_path}  ({seconds:.1f} s)", ""]
    engines = [engine.id for engine in app.fleet.engines.values()]
    none = "none yet: whatever starts on this machine joins by itself"
    if app.status.reload is not None:  # there is a file, and it alone says what is served
        none = "none: write your machines under `nodes:`"
    lines.append(f"  engines  {', '.join(engines) or none}")
    lines.append(f"  models   {', '.join(names[:6]) or 'none yet'}{' …' if len(names) > 6 else ''}")
    if discovery.has_demo:
        lines.append(
            "           a built-in demonstration: real llama.cpp, a tiny random model: its words are noise"
        )
    elif discovery.why_no_demo:
        lines.append(f"           {discovery.why_no_demo}")
    ask = command_line("ask")
    if gateway.auth == "open":
        lines.append(f"  keys     none needed from {'loopback' if not gateway.allow_from else 'allow_from'}")
    else:
        lines.append(f"  key      {key_file or 'as given in FLEETGATE_MASTER_KEY'}")
        shown = f"$(cat {key_file})" if key_file else "$FLEETGATE_MASTER_KEY"
        ask = f"ASK_API_KEY={shown} {ask}"
    lines += [f'  try      {ask} "hello"', "  stop     Ctrl-C", ""]
    click.echo("\n".join(lines))


def command_line(name: str) -> str:
    """How to call a command of ours from here: by its name where that is found, else by its path."""
    beside = Path(sys.argv[0]).with_name(name)
    found = shutil.which(name)
    if not beside.exists() or (found is not None and Path(found).resolve() == beside.resolve()):
        return name
    try:
        return str(beside.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(beside)
