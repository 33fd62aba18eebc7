"""Where machines and the gateway are: IPv6, and several addresses of one machine."""

import contextlib
import json
import socket
import urllib.request

import pytest
from tests.gateway.pairs import good
from tests.support.gateway import running_gateway, settings
from tests.support.llama import start_llama
from tests.support.process import RunningGateway


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


def at(port, address):
    engine = {"kind": "openai", "port": port}
    return settings(nodes={"box": {"address": address, "engines": [engine]}})


@pytest.mark.asyncio
@pytest.mark.parametrize("address", ["::1", "[::1]"])
async def test_an_engine_at_an_ipv6_address(tmp_path, address):
    async with good(host="::1") as engine, running_gateway(at(engine.port, address), tmp_path) as gateway:
        assert (await gateway.chat("box/m", stream=True)).text == "fine"
        assert engine.requests[0].header("host") == f"[::1]:{engine.port}"


@pytest.mark.asyncio
async def test_an_engine_at_a_url_with_an_ipv6_address(tmp_path):
    async with good(host="::1") as engine:
        url = f"http://[::1]:{engine.port}/v1"
        text = settings(nodes={"box": {"engines": [{"kind": "openai", "url": url}]}})
        async with running_gateway(text, tmp_path) as gateway:
            assert (await gateway.chat("box/m")).text == "fine"


@contextlib.contextmanager
def nobody_at(host, port):
    """Nothing listens there, and nothing else can."""
    with socket.socket() as holder:
        holder.bind((host, port))
        yield


@pytest.mark.asyncio
async def test_addresses_of_a_machine_are_tried_in_order(tmp_path):
    """The second one answers where the first refuses; the first one is asked where both answer."""
    async with good("second", host="::1") as second:
        text = at(second.port, ["127.0.0.1", "::1"])
        (tmp_path / "one").mkdir()
        with nobody_at("127.0.0.1", second.port):
            async with running_gateway(text, tmp_path / "one") as gateway:
                for _ in range(2):
                    reply = await gateway.chat("box/m")
                    assert (reply.text, reply.header("x-fleetgate-attempts")) == ("second", "1")
                assert gateway.engine("box/openai").breaker.fails_in_row == 0
        async with good("first", port=second.port), running_gateway(text, tmp_path) as gateway:
            assert (await gateway.chat("box/m")).text == "first"


def test_a_gateway_at_an_ipv6_address(tmp_path):
    """It listens there, says so, and `ask` reaches it."""
    with start_llama(tmp_path) as llama:
        config = tmp_path / "config.yaml"
        engine = {"kind": "llamacpp", "port": llama.port}
        config.write_text(settings(gateway={"auth": "open"}, nodes={"box": {"engines": [engine]}}))
        gateway = RunningGateway(tmp_path, ["serve", "--config", str(config)])
        gateway.listen = "[::1]:0"
        gateway.start()
        try:
            assert gateway.url.startswith("http://[::1]:")
            with urllib.request.urlopen(f"{gateway.url}/v1/models", timeout=30) as answer:
                assert json.load(answer)["data"]
            asked = gateway.run("ask", "hello")
            assert (asked.returncode, asked.stderr) == (0, "")
        finally:
            assert gateway.stop() == 0
