"""`fleetgate up` on a machine without any configuration, as a newcomer runs it."""

import fcntl
import os
import signal
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from tests.support.llama import start_llama
from tests.support.process import RunningGateway, start_gateway, until

from fleetgate.engines.detect import USUAL_PORTS

MODEL = "fleetgate-demo"


def taken(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(autouse=True)
def alone():
    """An engine on a usual port would be found, and rightly: one test at a time, and nobody else's."""
    with (Path(tempfile.gettempdir()) / "fleetgate-tests-usual-ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = [port for port in USUAL_PORTS if taken(port)]
        if found:
            pytest.skip(f"something listens on usual ports of engines: {found}")
        yield


def children(pid):
    """Processes started by this one, on Linux."""
    found = []
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat_file.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            found.append(int(stat_file.parent.name))
    return found


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_built_in_engine(tmp_path):
    """One command, one question, one answer; what it tells about itself on the way."""
    with start_gateway(tmp_path) as gateway:
        said = "\n".join(gateway.said)
        assert f"is ready on {gateway.url}" in said
        assert "  engines  localhost/demo" in said
        assert MODEL in said
        assert "its words are noise" in said
        assert "none needed from loopback" in said
        assert 'ask "hello"' in said
        asked = gateway.run("ask", "hello")
        assert (asked.returncode, asked.stderr) == (0, "")
        assert asked.stdout.strip()
        listed = gateway.run("ask", "--list-models")
        assert MODEL in listed.stdout.split()
        [row] = gateway.models().values()
        assert row["deployment"] == f"localhost/demo/{MODEL}"
        assert row["state"] == "ready"
        key = gateway.home / "xdg" / "state" / "fleetgate" / "master.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        before = gateway.key
        # Nothing was written outside the places for it.
        assert {one.name for one in gateway.home.iterdir()} == {"xdg", "log.jsonl"}

        assert gateway.stop() == 0
        gateway.start()
        assert gateway.key == before
        assert gateway.run("ask", "hello").returncode == 0
        assert gateway.logged("exchange")[-1]["outcome"] == "ok"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_built_in_engine_ends_with_its_gateway(tmp_path, how):
    with start_gateway(tmp_path) as gateway:
        [engine] = children(gateway.pid)
        os.kill(gateway.pid, how)
        until(lambda: not is_running(engine), "its engine is gone")


def test_an_engine_of_this_machine_is_found_and_used(tmp_path):
    """The first usual port of llama.cpp; no demonstration is started then."""
    with (
        start_llama(tmp_path, alias="my-own-model", port=USUAL_PORTS[1]) as llama,
        start_gateway(tmp_path) as gateway,
    ):
        said = "\n".join(gateway.said)
        assert "demo" not in said
        assert "my-own-model" in said
        [row] = gateway.models().values()
        assert row["kind"] == "llamacpp"
        assert row["deployment"].endswith(f"-{llama.port}/my-own-model")
        assert row["slots"] == 2
        asked = gateway.run("ask", "-v", "hello")
        assert asked.returncode == 0
        assert "my-own-model" in asked.stderr


def test_without_a_place_for_the_demonstration_it_serves_all_the_same(tmp_path):
    (tmp_path / "xdg" / "cache").mkdir(parents=True)
    (tmp_path / "xdg" / "cache" / "fleetgate").write_text("a file where the directory should be")
    with start_gateway(tmp_path) as gateway:
        said = "\n".join(gateway.said)
        assert "The built-in engine does not start" in said
        assert "whatever starts on this machine joins by itself" in said
        assert gateway.models() == {}
        asked = gateway.run("ask", "hello")
        assert asked.returncode != 0
        assert "Traceback" not in asked.stderr
        assert gateway.stop() == 0


def test_a_real_engine_beside_another_gateway(tmp_path):
    """Both on usual ports: the engine is served, the gateway is not."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with start_llama(tmp_path, alias="my-own-model", port=USUAL_PORTS[3]):
        other = RunningGateway(tmp_path / "second", ["up"])
        other.listen = f"127.0.0.1:{USUAL_PORTS[2]}"
        other.start()
        try:
            with start_gateway(tmp_path / "first") as gateway:
                [row] = gateway.models().values()
                assert row["deployment"].endswith(f"-{USUAL_PORTS[3]}/my-own-model")
        finally:
            other.stop()


def test_another_gateway_is_not_an_engine(tmp_path):
    """Two of them on one machine do not lead in a circle."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    with start_gateway(tmp_path / "first") as first:
        second = RunningGateway(tmp_path / "second", ["up"])
        second.listen = f"127.0.0.1:{USUAL_PORTS[2]}"
        second.start()
        try:
            assert second.port == USUAL_PORTS[2]
            first.stop()
            first.start()
            assert list(first.models()) == [f"localhost/demo/{MODEL}"]
        finally:
            second.stop()


def test_what_another_gateway_has_already(tmp_path):
    """Its address, and its state: two gateways on one database would undo each other's work."""
    with start_gateway(tmp_path) as gateway:
        address = f"127.0.0.1:{gateway.port}"
        done = gateway.run("fleetgate", "up", "--listen", address, "--state", str(tmp_path / "other"))
        assert done.returncode == 1
        assert "is in use" in done.stderr
        assert "--listen" in done.stderr
        assert "Traceback" not in done.stderr
        done = gateway.run("fleetgate", "up", "--listen", "127.0.0.1:0")
        assert done.returncode == 1
        assert "another" in done.stderr
        assert "Traceback" not in done.stderr
