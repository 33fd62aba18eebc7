"""`fleetgate cache` and `ask --no-cache` against a running gateway."""

import asyncio
import json
import sys

import pytest
from click.testing import CliRunner
from tests.support.gateway import MASTER_KEY, answer, node, openai_engine, running_gateway, said, settings
from tests.support.upstreams import respond_json, stream_sse

from fleetgate.cli.main import fleetgate

pytestmark = pytest.mark.asyncio


@pytest.fixture
def call(tmp_path):
    """A command that asks this gateway, in a thread: the gateway lives in this loop."""
    unset = ("FLEETGATE_URL", "FLEETGATE_KEY", "FLEETGATE_MASTER_KEY", "FLEETGATE_CONFIG", "XDG_CONFIG_HOME",
             "XDG_STATE_HOME", "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "FORCE_COLOR")  # fmt: skip
    environ = {**dict.fromkeys(unset), "HOME": str(tmp_path / "home"), "FLEETGATE_KEY": MASTER_KEY}

    async def run(gateway, *words, code=0):
        words = [*words, "--url", gateway.url]
        done = await asyncio.to_thread(CliRunner().invoke, fleetgate, words, env=environ)
        assert done.exit_code == code, done.output
        return done

    return run


def written(upstream, **blocks):
    return settings(nodes={"box": node(upstream)}, **blocks)


async def test_what_it_holds_and_forgetting_it(call, tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a, cache={}), tmp_path) as gateway,
    ):
        for _ in range(4):
            await gateway.chat()
        lines = (await call(gateway, "cache")).stdout.splitlines()
        assert lines == [
            "holds     1 answer, 0.0 of 64.0 MiB",
            "for       1h, each key apart",
            "spared    3 of 4 requests (75%): 3 hits, 0 joined",
            "kept      1; 0 too large, 0 evicted",
        ]
        assert json.loads((await call(gateway, "cache", "--json")).stdout)["entries"] == 1
        assert (await call(gateway, "cache", "flush")).stdout == "forgot 1 answer\n"
        done = await call(gateway, "cache", "flush", "--json")
        assert json.loads(done.stdout) == {"flushed": 0, "key": None}
        done = await call(gateway, "cache", "flush", "--key", "nobody", code=1)
        assert "nobody" in done.stderr


async def test_without_a_cache(call, tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        assert "no answers are kept" in (await call(gateway, "cache")).stderr
        done = await call(gateway, "cache", "flush", code=1)
        assert "no answers are kept here" in done.stderr


async def test_ask_can_do_without(tmp_path):
    async with (
        openai_engine(stream_sse(said("one")), stream_sse(said("two"))) as a,
        running_gateway(written(a, cache={}), tmp_path) as gateway,
    ):

        async def ask(*words):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fleetgate.cli.ask", "-v", "-m", "m", *words, "hello"),
                env={"ASK_BASE_URL": gateway.url, "ASK_API_KEY": MASTER_KEY},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, said_beside = await process.communicate()
            assert process.returncode == 0, said_beside
            return out.decode().strip(), said_beside.decode()

        first, again, fresh = await ask(), await ask(), await ask("--no-cache")
        assert [text for text, _ in (first, again, fresh)] == ["one", "one", "two"]
        assert "x-fleetgate-cache: hit" in again[1]
        assert "x-fleetgate-cache: miss" in fresh[1]
