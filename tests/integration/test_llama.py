"""Real llama.cpp servers behind a real gateway process: answers, departures, deaths and returns."""

import asyncio
import contextlib
import json
import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import pytest
from tests.support.llama import start_llama
from tests.support.process import start_gateway, until

MODEL = "fleetgate-demo"
HELLO = [{"role": "user", "content": "Hello"}]
LONG = {"max_tokens": 4000, "ignore_eos": True}
"""an answer that goes on for seconds"""


def config(*ports, node="power: always", every="200ms"):
    engines = "\n".join(
        f"      - {{name: {name}, kind: llamacpp, port: {port}}}"
        for name, port in zip("abcd", ports, strict=False)
    )
    return (
        f"gateway: {{auth: open}}\nhealth: {{every: {every}, cool: 500ms}}\n"
        f"nodes:\n  box:\n    {node}\n    engines:\n{engines}\n"
    )


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    with start_llama(tmp_path_factory.mktemp("llama")) as llama:
        yield llama


@pytest.fixture(scope="module")
def gateway(llama, tmp_path_factory):
    with start_gateway(tmp_path_factory.mktemp("gateway"), config(llama.port, every="5s")) as gateway:
        yield gateway


def ask(url, path, body=None):
    """Status, headers and decoded answer of one plain request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.loads(error.read())


def chat(url, **more):
    return ask(url, "/v1/chat/completions", {"model": MODEL, "messages": HELLO, "max_tokens": 8, **more})


# --- answers ----------------------------------------------------------------------------------------------


def test_a_whole_answer(gateway):
    status, headers, answer = chat(gateway.url)
    assert status == 200
    assert answer["model"] == MODEL
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0
    assert headers["x-fleetgate-deployment"] == f"box/a/{MODEL}"
    assert headers["x-fleetgate-attempts"] == "1"
    assert headers["x-fleetgate-request-id"].startswith("req_")


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream(gateway, usage):
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 8, "ignore_eos": True, "stream": True}
    if usage:
        body["stream_options"] = {"include_usage": True}
    request = urllib.request.Request(
        f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        lines = [line.decode().strip() for line in answer if line.startswith(b"data: ")]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    finishes = [one["choices"][0]["finish_reason"] for one in chunks if one["choices"]]
    assert [one for one in finishes if one] == ["length"]
    told = [one["usage"]["completion_tokens"] for one in chunks if one.get("usage")]
    assert told == ([8] if usage else [])


def test_a_completion(gateway):
    body = {"model": MODEL, "prompt": "the quiet garden", "max_tokens": 5, "ignore_eos": True}
    status, _, answer = ask(gateway.url, "/v1/completions", body)
    assert status == 200
    assert answer["choices"][0]["text"]


def test_embeddings(gateway):
    status, _, answer = ask(gateway.url, "/v1/embeddings", {"model": MODEL, "input": ["a", "b"]})
    assert status == 200
    assert [len(one["embedding"]) for one in answer["data"]] == [64, 64]


def test_a_prompt_that_is_too_long(gateway):
    status, _, answer = chat(gateway.url, messages=[{"role": "user", "content": "garden " * 30_000}])
    assert status == 400
    assert answer["error"]["class"] == "context_too_long"


def test_what_is_known_without_being_written(gateway):
    done = gateway.run("fleetgate", "models", "--json")
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)["rows"]
    assert row["deployment"] == f"box/a/{MODEL}"
    assert row["state"] == "ready"
    assert row["slots"] == 2
    assert row["context"] == 4096
    assert row["presence"] == "awake"
    assert row["remembered"] is False
    assert row["resident"] is True
    _, _, answer = ask(gateway.url, "/v1/models")
    names = [one["id"] for one in answer["data"]]
    assert MODEL in names
    assert ask(gateway.url, f"/v1/models/{names[0]}")[2]["id"] == names[0]


# --- a caller who leaves ----------------------------------------------------------------------------------


def busy_slots(llama):
    with urllib.request.urlopen(f"{llama.address}/slots", timeout=10) as answer:
        return sum(slot["is_processing"] for slot in json.loads(answer.read()))


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_leaves_frees_the_engine(gateway, llama, stream, record_property):
    body = json.dumps({"model": MODEL, "messages": HELLO, "stream": stream, **LONG}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as caller:
        caller.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        if stream:
            assert caller.recv(100).startswith(b"HTTP/1.1 200")
        until(lambda: busy_slots(llama) == 1, "the engine works")
        left = time.monotonic()
    # Without a stream llama.cpp looks for its caller only after a second in which it finished nothing,
    # and an answer from /slots counts as something: asked more often, it would never look.
    pause = 0.02 if stream else 1.1
    until(lambda: busy_slots(llama) == 0, "the engine is idle", seconds=3.0, pause=pause)
    record_property("seconds_until_idle", round(time.monotonic() - left, 3))
    # Left to itself it would have gone on for seconds, so this was our doing.
    entries = gateway.logged("exchange", outcome="caller_gone")
    assert entries[-1]["status"] == 499
    assert chat(gateway.url)[0] == 200


# --- deaths and returns -----------------------------------------------------------------------------------


@dataclass
class Load:
    """What callers saw, who ask without a pause."""

    done: int = 0
    by: Counter[str] = field(default_factory=Counter)
    """answers by deployment"""
    moved: int = 0
    """answers that took more than one attempt"""
    broken: list[str] = field(default_factory=list)
    """streams that ended with an error event"""
    failed: list[str] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    stop: bool = False

    def count(self, headers):
        self.done += 1
        self.by[headers["x-fleetgate-deployment"]] += 1
        self.moved += headers["x-fleetgate-attempts"] != "1"
        self.enough.set()

    async def more(self, count, true=lambda: True):
        """Until so many further answers are there."""
        least = self.done + count
        async with asyncio.timeout(30):
            while self.done < least or not true():
                self.enough.clear()
                await self.enough.wait()


async def ask_on_and_on(session, url, load, *, stream):
    """By turns a stream and a whole answer."""
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 60, "ignore_eos": True}
    while not load.stop:
        stream = not stream
        body["stream"] = stream
        try:
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                text = await answer.text()
                if answer.status != 200:
                    load.failed.append(f"{answer.status}: {text}")
                elif not stream:
                    json.loads(text)
                    load.count(answer.headers)
                elif text.endswith("data: [DONE]\n\n"):
                    load.count(answer.headers)
                elif '"class":"stream_broken"' in text.rstrip().rpartition("\n")[2]:
                    load.broken.append(text)
                    load.enough.set()
                else:
                    load.failed.append(f"a stream ended with {text[-200:]!r}")
        except aiohttp.ClientError as error:
            load.failed.append(repr(error))


@contextlib.asynccontextmanager
async def callers(url):
    load = Load()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(ask_on_and_on(session, url, load, stream=number % 2 == 0))
        try:
            yield load
        finally:
            load.stop = True


@pytest.mark.asyncio
async def test_one_of_two_killed_under_load(tmp_path, record_property):
    with (
        start_llama(tmp_path, slots=4) as first,
        start_llama(tmp_path, slots=4) as second,
        start_gateway(tmp_path, config(first.port, second.port)) as gateway,
    ):
        one, other = f"box/a/{MODEL}", f"box/b/{MODEL}"
        async with callers(gateway.url) as load:
            await load.more(40, lambda: load.by[one] and load.by[other])
            for _death in range(5):  # until it dies with work in hand: between two answers nobody notices
                await asyncio.to_thread(second.kill)
                await load.more(100)
                before = load.by[other]
                await load.more(50)
                assert load.by[other] == before, "the dead one is not asked any more"
                await asyncio.to_thread(second.restart)
                await load.more(1, lambda before=before: load.by[other] > before)
                if load.moved or load.broken:
                    break
        record_property("answers", load.done)
        record_property("moved", load.moved)
        record_property("broken", len(load.broken))
        assert load.failed == []
        # What had begun on the killed engine cannot be saved; everything else was.
        assert len(load.broken) <= 4
        assert load.moved + len(load.broken) > 0, "it was killed at work"
        assert gateway.stop() == 0


# --- restarts of the gateway ------------------------------------------------------------------------------


@contextlib.contextmanager
def machine_off(port):
    """A port that takes packets and gives none back, like a machine that is switched off."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        yield


def test_a_machine_that_is_off_stays_known(tmp_path):
    """A restart forgets no sleeping machine, and a call for it says what to do, at once."""
    with (
        start_llama(tmp_path) as llama,
        start_gateway(tmp_path, config(llama.port, node="power: manual")) as gateway,
    ):
        assert chat(gateway.url)[0] == 200
        gateway.stop()
        llama.kill()
        with machine_off(llama.port):
            gateway.start()
            row = gateway.models()[f"box/a/{MODEL}"]
            assert row["remembered"] is True
            assert (row["context"], row["slots"]) == (4096, 2)
            assert MODEL in [one["id"] for one in ask(gateway.url, "/v1/models")[2]["data"]]
            until(
                lambda: gateway.models()[f"box/a/{MODEL}"]["presence"] == "asleep",
                "the probe has found it off",
            )
            status, headers, answer = chat(gateway.url)
            assert status == 503
            assert answer["error"]["code"] == "node_asleep"
            assert "box" in answer["error"]["message"]
            assert headers["retry-after"]
            assert headers["x-should-retry"] == "false"
            assert gateway.models()[f"box/a/{MODEL}"]["reason"] == "asleep"


def test_an_engine_that_is_off_stays_known_and_comes_back(tmp_path):
    with start_llama(tmp_path) as llama, start_gateway(tmp_path, config(llama.port)) as gateway:
        assert chat(gateway.url)[0] == 200
        until(lambda: any(one.get("models") for one in gateway.learned()), "it is written down")
        gateway.kill()
        llama.kill()
        gateway.start()
        row = gateway.models()[f"box/a/{MODEL}"]
        assert row["remembered"] is True
        assert (row["state"], row["reason"]) == ("down", "engine_down")
        status, headers, answer = chat(gateway.url)
        assert status == 503
        assert answer["error"]["class"] == "unsent_refused"
        assert headers["retry-after"]
        llama.start()
        until(lambda: chat(gateway.url)[0] == 200, "it is used again")
        until(lambda: not gateway.models()[f"box/a/{MODEL}"]["remembered"], "it was asked anew")
        assert gateway.models()[f"box/a/{MODEL}"]["state"] == "ready"


def test_an_engine_that_starts_later(tmp_path):
    """Nothing is known of it yet, and then it is simply there."""
    with start_llama(tmp_path) as llama:
        llama.kill()
        with start_gateway(tmp_path, config(llama.port)) as gateway:
            status, _, answer = chat(gateway.url)
            assert (status, answer["error"]["code"]) == (404, "model_not_found")
            llama.start()
            until(lambda: chat(gateway.url)[0] == 200, "it is found")
