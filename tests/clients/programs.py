"""The command-line clients of others, run as people run them, against a gateway of a test.

They come from npm by `make clients`, into `.clients/`; without them the tests here are skipped. A program
gets an empty home, the settings that `fleetgate connect` writes, and a proxy that lets nothing through:
whatever it wants of the world outside is refused, and noted.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.caller import MASTER_KEY
from tests.support.gateway import (
    answer,
    finish_frame,
    node,
    openai_engine,
    role_frame,
    running_gateway,
    said,
    settings,
    usage_frame,
)
from tests.support.upstreams import Received, Script, ScriptedUpstream, respond, respond_json, stream_sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.support.gateway import Gateway, OpenAIEngine

PLACE = Path(__file__).parents[2] / ".clients"
FLEETGATE = Path(sys.executable).with_name("fleetgate")
PATIENCE = 50.0
"""seconds after which a program counts as stuck"""
NOTE = "the marmot sleeps until spring"
"""what only a tool can know: it stands in a file of the program's directory"""
QUESTION = "What does note.txt say?"
CALL_ID = "call_7f3a"
THOUGHTS = ("The file ", "will tell.")


def program(name: str) -> Path:
    """A client's command; the test is skipped where it is not installed."""
    found = PLACE / "node_modules" / ".bin" / name
    if not found.exists():
        pytest.skip(f"{name} is not installed: `make clients` installs it and runs these tests")
    return found


# --- a conversation as an engine led it ------------------------------------------------------------------


def calling(name: str, arguments: dict[str, Any], size: int = 9) -> list[Any]:
    """The frames of an answer that thinks and then calls a tool, whose arguments come in pieces."""
    text = json.dumps(arguments)
    frames: list[Any] = [role_frame(), *(_delta(reasoning_content=thought) for thought in THOUGHTS)]
    begun = {"index": 0, "id": CALL_ID, "type": "function", "function": {"name": name, "arguments": ""}}
    frames.append(_delta(tool_calls=[begun]))
    for start in range(0, len(text), size):
        piece = {"index": 0, "function": {"arguments": text[start : start + size]}}
        frames.append(_delta(tool_calls=[piece]))
    return [*frames, finish_frame(reason="tool_calls"), usage_frame(900, 40), "[DONE]"]


def _delta(**members: Any) -> dict[str, Any]:
    frame = role_frame()
    frame["choices"][0]["delta"] = members
    return frame


def conversation(tool: str, arguments: dict[str, Any], *before: Any) -> Callable[[Received], Script]:
    """First the tool is called; what it gave is then told in the last answer. `before`: steps ahead of each.

    Requests for other things than the conversation, such as a title for it, get a plain answer.
    """

    def route(request: Received) -> Script:
        body = request.json()
        given = [one for one in body["messages"] if one["role"] == "tool"]
        if not body.get("stream"):
            return respond_json(200, answer("a title"))
        if given:
            return [*before, *stream_sse(said("It says: ", given[-1]["content"]))]
        if any(one["function"]["name"] == tool for one in body.get("tools") or ()):
            return [*before, *stream_sse(calling(tool, arguments))]
        return stream_sse(said("a title"))

    return route


# --- programs --------------------------------------------------------------------------------------------


@dataclass
class Ran:
    """What became of a program."""

    code: int
    out: str
    err: str


@dataclass
class Desk:
    """A gateway, its engine, and a place where programs are run."""

    gateway: Gateway
    engine: OpenAIEngine
    home: Path
    work: Path
    proxy: ScriptedUpstream
    model: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def outside(self) -> list[str]:
        """Where programs wanted to go beside the gateway."""
        return [one.path for one in self.proxy.requests]

    @property
    def turns(self) -> list[dict[str, Any]]:
        """Requests to the engine that belong to the conversation: those with tools."""
        return [body for one in self.engine.requests if (body := one.json()).get("tools")]

    async def connect(self, client: str) -> None:
        """Let `fleetgate connect` write the client's settings."""
        words = ("connect", client, "--url", self.gateway.url, "--model", self.model)
        done = await self.run(FLEETGATE, *words, "--key", MASTER_KEY, "--write")
        assert done.code == 0, done.err

    async def run(self, command: Path, *words: str) -> Ran:
        """To its end. It runs in a session of its own, so that nothing that it began outlives it."""
        process = await asyncio.create_subprocess_exec(
            str(command),
            *words,
            cwd=self.work,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        telling = asyncio.get_running_loop().create_task(process.communicate())
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        except TimeoutError:
            _end(process.pid)
            out, err = await telling
            pytest.fail(f"{command.name} is stuck: {(out + err).decode()[-4000:]}")
        _end(process.pid)
        out, err = await telling
        return Ran(process.returncode or 0, out.decode(), err.decode())


def _end(session: int) -> None:
    """Whatever is left of a program that we started."""
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        return


@asynccontextmanager
async def desk(
    tmp_path: Path,
    route: Callable[[Received], Script],
    *,
    model: str = "coder",
    dialects: Sequence[str] = ("anthropic", "responses"),
    **blocks: Any,
) -> AsyncIterator[Desk]:
    """The engine says that it speaks `dialects`, as new ones do: agents are translated all the same."""
    home, work, state = (tmp_path / name for name in ("home", "work", "gateway"))
    for place in (home, work, state):
        place.mkdir()
    (work / "note.txt").write_text(f"{NOTE}\n")
    refuse = respond(403, headers=[("Connection", "close")])
    async with (
        openai_engine(route=route, models=(model,)) as engine,
        ScriptedUpstream(refuse) as proxy,
        running_gateway(
            settings(nodes={"box": node(engine, dialects=list(dialects))}, **blocks), state
        ) as gateway,
    ):
        environment = {
            "PATH": os.environ["PATH"],  # noqa: TID251  (a child's)
            "HOME": str(home),
            "TERM": "dumb",
            "HTTPS_PROXY": proxy.url,
            "HTTP_PROXY": proxy.url,
            "NO_PROXY": "127.0.0.1,localhost",
        }
        yield Desk(gateway, engine, home, work, proxy, model, environment)
