"""The stage of every proof: a gateway or two, a paid provider with two accounts, a machine of one's own.

Rules: as in `bench.rig`: loopback, ports of the kernel's choice, every process known by its id and ended.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.rig import START_LIMIT, Missing, Rig, python, status_of
from tests.support.process import RunningGateway
from tests.support.process import until as until  # noqa: PLC0414  (proofs find it here)

from chaos.provider import Script
from fleetgate.keys.master import PEPPER_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

PRICE: Final = (1_000, 2_000)
"""nano-dollars of a token in and of a token out"""
ACCOUNTS: Final = {"ACCOUNT_1": "provider-key-of-account-1", "ACCOUNT_2": "provider-key-of-account-2"}
READY_LIMIT: Final = 15.0
"""Seconds after which a gateway counts as not started at all."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A running provider of ours."""

    port: int
    journal: Path


@dataclass
class Stage:
    """Owns a directory and the processes of one proof."""

    rig: Rig
    blocks: dict[str, Any]
    gateways: list[RunningGateway] = field(default_factory=list)

    def beside(self, first: RunningGateway) -> RunningGateway:
        """Another one for the same callers: with what keys of the first are made with."""
        one = self.gateway(f"gateway-{len(self.gateways)}")
        database(one).parent.mkdir(parents=True)
        shutil.copy2(database(first).with_name(PEPPER_FILE), database(one).with_name(PEPPER_FILE))
        return one

    def gateway(self, name: str = "gateway", state: Path | None = None) -> RunningGateway:
        """Another one, not started yet. It has a home of its own. `state`: its state directory, elsewhere."""
        home = self.rig.directory / name
        home.mkdir()
        config = home / "config.json"
        config.write_text(json.dumps(self.blocks))
        flags = ["--state", str(state)] if state is not None else []
        one = RunningGateway(home, ["serve", "--config", str(config), *flags])
        source = str(Path(__file__).parents[1] / "src")  # the tree we lie in is what is proved
        one.environment |= ACCOUNTS | {"FLEETGATE_MASTER_KEY": MASTER, "PYTHONPATH": source}
        self.gateways.append(one)
        return one


MASTER: Final = "master-key-of-the-chaos-0123456789"


@contextlib.contextmanager
def staged(directory: Path, paid: Script, **blocks: Any) -> Iterator[tuple[Stage, Upstream]]:
    """Both upstreams run; gateways are to be added. `blocks` go into their settings."""
    with Rig(directory) as rig:
        provider = upstream(rig, "provider", paid)
        own = upstream(rig, "own", Script(seed=paid.seed, faults=0.0, slow=0.0))
        settings = {**_blocks(provider.port, own.port), **blocks}
        stage = Stage(rig, settings)
        try:
            yield stage, provider
        finally:
            for one in stage.gateways:
                with contextlib.suppress(Exception):
                    one.kill()


def upstream(rig: Rig, name: str, script: Script) -> Upstream:
    journal = rig.directory / f"{name}.journal"
    said = json.dumps(asdict(script))
    running = rig.start(name, python("chaos.provider", str(journal), said))
    port = journal.with_suffix(".port")
    limit = time.monotonic() + START_LIMIT
    while not port.exists():
        running.check()
        if time.monotonic() > limit:
            raise Missing(f"{name} was not up within {START_LIMIT:g} s")
        time.sleep(0.01)
    return Upstream(int(port.read_text()), journal)


def _blocks(paid: int, own: int) -> dict[str, Any]:
    per_million = [f"{nano / 1e3:g} USD/Mtok" for nano in PRICE]
    model = {
        "name": "m",
        "price": dict(zip(("input", "output"), per_million, strict=True)),
        "context": 4_096,
    }
    return {
        "health": {"every": "1h"},
        "providers": {
            "p": {
                "kind": "openai",
                "url": f"http://127.0.0.1:{paid}/v1",
                "keys": [f"${{{name}}}" for name in ACCOUNTS],
                "models": [model],
            }
        },
        "nodes": {"box": {"power": "always", "engines": [{"kind": "openai", "port": own}]}},
        "roles": {"r": {"policy": "chain", "use": ["p/m", "box/m"]}},
    }


def ready_in(gateway: RunningGateway) -> float:
    """Start it; seconds until it says that it is ready."""
    began = time.monotonic()
    gateway.start()
    while status_of(gateway.port, "/readyz") != 200:
        if time.monotonic() - began > READY_LIMIT:
            raise Missing("the gateway did not get ready")
        time.sleep(0.002)
    return time.monotonic() - began


def admin(gateway: RunningGateway, path: str, document: Any = None) -> Any:
    """Ask the admin API with the master key."""
    data = None if document is None else json.dumps(document).encode()
    headers = {"authorization": f"Bearer {MASTER}", "content-type": "application/json"}
    request = urllib.request.Request(f"{gateway.url}/admin/api/{path}", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def new_key(gateway: RunningGateway, alias: str, *limits: dict[str, Any]) -> str:
    return str(admin(gateway, "keys", {"alias": alias, "limits": list(limits)})["secret"])


def database(gateway: RunningGateway) -> Path:
    return Path(gateway.home) / "xdg" / "state" / "fleetgate" / "fleetgate.db"


def open_files(most: int) -> None:
    """So many sockets at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, hard), hard))
