"""The built-in engine, for real: llama.cpp's server in its own process."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("xllamacpp")

from tests.support.llama import SOURCE, Llama, start_llama

from fleetgate.agent import builtin, tinymodel
from fleetgate.agent.supervise import Child
from fleetgate.engines.detect import detect
from fleetgate.engines.llamacpp import SLOTS, LlamaCpp
from fleetgate.engines.port import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def llama(directory: Path) -> Iterator[Llama]:
    with start_llama(directory, slots=2) as running:
        yield running


def ask(llama: Llama, method: str, path: str, body: Any = None) -> tuple[Reply, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", llama.port, timeout=10)
    raw = None if body is None else json.dumps(body).encode()
    connection.request(method, path, raw, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, answer), answer


def chat(**changes: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 12, **changes}


def test_it_is_recognised_and_its_probes_are_read(llama: Llama) -> None:
    questions = detect()
    reply = None
    found = None
    try:
        while True:
            reply, _ = ask(llama, "GET", questions.send(reply).path)
    except StopIteration as end:
        found = end.value
    assert found.kind == "llamacpp"

    kind = LlamaCpp()
    readings = {one.path: kind.read(one, ask(llama, "GET", one.path)[0]) for one in kind.pulse()}
    assert readings["/health"].alive
    assert readings["/props"].slots_total == 2
    assert readings["/props"].context == tinymodel.CONTEXT
    assert readings["/props"].sleeping is False
    assert readings["/metrics"].slots_busy == 0
    assert readings["/slots"].slots_busy == 0
    (models,) = [kind.read(one, ask(llama, "GET", one.path)[0]) for one in kind.catalogue()]
    assert models.models is not None
    assert [model.id for model in models.models] == [tinymodel.NAME]
    assert models.models[0].context == tinymodel.CONTEXT


def test_its_answers_say_that_it_is_a_demonstration(llama: Llama) -> None:
    reply, answer = ask(llama, "POST", "/v1/chat/completions", chat(model="gpt-4o", ignore_eos=True))
    said = json.loads(answer)
    assert reply.status == 200
    assert said["model"] == "fleetgate-demo"
    assert said["usage"]["completion_tokens"] == 12
    words = said["choices"][0]["message"]["content"]
    assert words == words.strip()
    assert len(words.split()) >= 10, "readable words, not bytes"


def test_it_ends_by_itself(llama: Llama) -> None:
    _, answer = ask(llama, "POST", "/v1/chat/completions", chat(max_tokens=2_000, seed=3))
    said = json.loads(answer)["choices"][0]
    assert said["finish_reason"] == "stop"
    assert said["message"]["content"].endswith(".")


def test_any_text_is_understood(llama: Llama) -> None:
    body = chat(messages=[{"role": "user", "content": "ÅÄÖ 日本語 \N{PILE OF POO} \x01\n\t"}])
    reply, _ = ask(llama, "POST", "/v1/chat/completions", body)
    assert reply.status == 200


def test_a_stream_ends_with_finish_reason_usage_and_done(llama: Llama) -> None:
    body = chat(stream=True, stream_options={"include_usage": True})
    _, answer = ask(llama, "POST", "/v1/chat/completions", body)
    frames = answer.decode().strip().split("\n\n")
    assert frames[-1] == "data: [DONE]"
    usage, finish = json.loads(frames[-2][6:]), json.loads(frames[-3][6:])
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 12
    assert finish["choices"][0]["finish_reason"] == "length"
    assert "usage" not in finish


def test_embeddings_beside_chat(llama: Llama) -> None:
    _, answer = ask(llama, "POST", "/v1/embeddings", {"input": ["one river", "another river"]})
    said = json.loads(answer)
    assert [len(one["embedding"]) for one in said["data"]] == [64, 64]
    assert said["data"][0]["embedding"] != said["data"][1]["embedding"]


def test_a_long_text_fits_one_embedding(llama: Llama) -> None:
    """The batch has to hold it: with llama.cpp's default of 512 tokens it would be a 500."""
    reply, _ = ask(llama, "POST", "/v1/embeddings", {"input": "river " * 1_500})
    assert reply.status == 200


def test_a_caller_who_leaves_frees_the_slot(llama: Llama) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", llama.port, timeout=10)
    body = json.dumps(chat(max_tokens=4_000, ignore_eos=True, stream=True))
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.readline()
    kind = LlamaCpp()
    assert kind.read(SLOTS, ask(llama, "GET", "/slots")[0]).slots_busy == 1
    response.close()
    connection.close()
    while kind.read(SLOTS, ask(llama, "GET", "/slots")[0]).slots_busy:
        pass
    # It ended early, not because it was through: of 4000 tokens most were never made.
    slots = json.loads(ask(llama, "GET", "/slots")[1])
    assert all(slot.get("n_prompt_tokens", 0) < 3_000 for slot in slots)


def test_no_foreign_page_may_read_it(llama: Llama) -> None:
    reply, _ = ask(llama, "GET", "/health")
    assert reply.headers["access-control-allow-origin"] == "http://127.0.0.1"


def test_killed_and_started_again_on_its_port(directory: Path) -> None:
    with start_llama(directory, slots=1, alias="another") as running:
        port, first = running.port, running.pid
        running.kill()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        running.start()
        assert (running.port, running.pid != first) == (port, True)
        _, answer = ask(running, "GET", "/v1/models")
        assert json.loads(answer)["data"][0]["id"] == "another"


def test_it_ends_with_its_parent(directory: Path) -> None:
    model = tinymodel.ensure(directory)
    program = (
        "import os, subprocess, sys\n"
        "words = [sys.executable, '-m', 'fleetgate.agent.builtin', '--model', sys.argv[1],"
        " '--parent-pid', str(os.getpid())]\n"
        "below = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)\n"
        "print(below.stdout.readline().split()[1].rsplit(':', 1)[1], flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = {**os.environ, "PYTHONPATH": str(SOURCE)}  # noqa: TID251  (a child's)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=path
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        open_connection = socket.create_connection(("127.0.0.1", port))
        parent.send_signal(signal.SIGKILL)
    with open_connection:
        open_connection.settimeout(10)
        assert open_connection.recv(1) == b"", "its socket closes when it is gone"


@pytest.mark.asyncio
async def test_under_supervision(directory: Path) -> None:
    import asyncio

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def is_ready() -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head = await reader.readline()
        writer.close()
        return b" 200 " in head

    child = Child(
        "the built-in engine",
        builtin.command(tinymodel.ensure(directory), port),
        is_ready,
        clock=time.monotonic,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(child.run())
        await child.ready()
        while not child.last_words:  # noqa: ASYNC110  (its health and its words come on two ways)
            await asyncio.sleep(0.005)
        assert child.last_words == f"listening http://127.0.0.1:{port}", "it is quiet"
        os.kill(child.pid, signal.SIGKILL)
        while child.restarts == 0:  # noqa: ASYNC110  (there is no event for it)
            await asyncio.sleep(0.005)
        await child.ready()
        await child.stop()


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'fleetgate[local]'" in (builtin.missing() or "")
    with pytest.raises(SystemExit, match="needs xllamacpp and gguf and numpy"):
        builtin.main(["--model", "none", "--parent-pid", "1"])


def test_a_broken_model_file_is_named(tmp_path: Path) -> None:
    model = tmp_path / "broken.gguf"
    model.write_bytes(b"GGUF" + bytes(100))
    done = subprocess.run(
        builtin.command(model, port=0),
        env={**os.environ, "PYTHONPATH": str(SOURCE)},  # noqa: TID251  (a child's)
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode != 0
    assert "llama.cpp does not start" in done.stderr
