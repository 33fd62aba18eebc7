"""Records what a real llama.cpp answers, for `tests/engines/fixtures/llamacpp/`.

Run it after raising the version of `xllamacpp`: `PYTHONPATH=src:. python tests/support/record_llama.py`.
An answer becomes `NAME.json` with `status`, `headers` and `body` (its text), a stream `NAME.sse` with its
bytes. Identifiers and times in them are real; file paths are made neutral.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from fleetgate.agent import builtin, tinymodel
from tests.support.llama import Llama, start_llama

if TYPE_CHECKING:
    import argparse

FIXTURES = Path(__file__).parents[1] / "engines" / "fixtures" / "llamacpp"
HEADERS = ("content-type", "retry-after", "server", "transfer-encoding")
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "seed": 1, "temperature": 0}


class Recorder:
    """Asks one server and keeps what it answers."""

    def __init__(self, llama: Llama, directory: Path) -> None:
        self.llama = llama
        self.directory = directory

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.llama.port)
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, raw, {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response, answer

    def keep(self, name: str, method: str, path: str, body: Any = None, headers: Any = None) -> None:
        response, answer = self.ask(method, path, body, headers)
        self.write(name, response, answer)

    def write(self, name: str, response: http.client.HTTPResponse, answer: bytes) -> None:
        text = answer.decode().replace(str(self.directory), "/models")
        kept = {
            "status": response.status,
            "headers": {key: value for key in HEADERS if (value := response.headers.get(key))},
            "body": text,
        }
        (FIXTURES / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n")

    def stream(self, name: str, path: str, body: Any) -> None:
        _, answer = self.ask("POST", path, {**body, "stream": True})
        (FIXTURES / f"{name}.sse").write_bytes(answer)


def record_ordinary(recorder: Recorder) -> None:
    for name in ("health", "props", "slots", "metrics"):
        recorder.keep(name, "GET", f"/{name}")
    recorder.keep("models", "GET", "/v1/models")
    recorder.keep("chat", "POST", "/v1/chat/completions", CHAT)
    recorder.keep("completion", "POST", "/v1/completions", {"prompt": "Hello", "max_tokens": 3, "seed": 1})
    recorder.keep("embeddings", "POST", "/v1/embeddings", {"input": ["one", "two"]})
    recorder.keep("chat_other_model", "POST", "/v1/chat/completions", {**CHAT, "model": "no-such-model"})
    recorder.stream("chat", "/v1/chat/completions", CHAT)
    usage = {"stream_options": {"include_usage": True}}
    recorder.stream("chat_usage", "/v1/chat/completions", CHAT | usage)
    recorder.stream("completion", "/v1/completions", {"prompt": "Hello", "max_tokens": 3, "seed": 1})
    recorder.stream(
        "completion_usage", "/v1/completions", {"prompt": "Hello", "max_tokens": 3, "seed": 1} | usage
    )


def record_errors(recorder: Recorder) -> None:
    long = {"messages": [{"role": "user", "content": "unforeseeable " * 2_000}]}
    recorder.keep("error_context", "POST", "/v1/chat/completions", long)
    recorder.keep("error_context_stream", "POST", "/v1/chat/completions", long | {"stream": True})
    recorder.keep("error_context_completion", "POST", "/v1/completions", {"prompt": "unforeseeable " * 2_000})
    recorder.keep("error_context_embeddings", "POST", "/v1/embeddings", {"input": "unforeseeable " * 2_000})
    recorder.keep("error_no_messages", "POST", "/v1/chat/completions", {"max_tokens": 3})
    recorder.keep("error_bad_role", "POST", "/v1/chat/completions", {"messages": [{"content": "no role"}]})
    recorder.keep("error_malformed", "POST", "/v1/chat/completions", b'{"messages": [')
    recorder.keep("error_wrong_type", "POST", "/v1/chat/completions", CHAT | {"max_tokens": "many"})
    recorder.keep("error_empty_input", "POST", "/v1/embeddings", {"input": ""})
    recorder.keep("error_image", "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}]})  # fmt: skip
    recorder.keep("error_not_found", "GET", "/v1/nothing-here")


def record_busy(recorder: Recorder) -> None:
    """One slot of two at work, then both."""
    streams = []
    for name in ("slots_one_busy", "slots_all_busy"):
        connection = http.client.HTTPConnection("127.0.0.1", recorder.llama.port)
        body = json.dumps({**CHAT, "max_tokens": 3_000, "ignore_eos": True, "stream": True})
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        streams.append((connection, response := connection.getresponse()))
        response.readline()
        recorder.keep(name, "GET", "/slots")
    recorder.keep("slots_none_free", "GET", "/slots?fail_on_no_slot=1")
    recorder.keep("metrics_busy", "GET", "/metrics")
    for connection, response in streams:
        response.close()
        connection.close()
    left = time.monotonic()
    while any(slot["is_processing"] for slot in json.loads(recorder.ask("GET", "/slots")[1])):
        pass
    sys.stdout.write(f"idle {(time.monotonic() - left) * 1000:.1f} ms after the caller left\n")


def record_loading(directory: Path) -> None:
    """Ask while the model is being read: the listener is there a little earlier than the model."""
    model = tinymodel.ensure(directory)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    llama = Llama(["--model", str(model)], (sys.executable, "-m", "fleetgate.agent.builtin"))
    llama.port = port
    recorder = Recorder(llama, directory)
    began = time.monotonic()
    starting = threading.Thread(target=llama.start)
    starting.start()
    caught: set[str] = set()
    asks = {"loading": ("GET", "/health", None), "loading_chat": ("POST", "/v1/chat/completions", CHAT),
            "loading_models": ("GET", "/v1/models", None)}  # fmt: skip
    while starting.is_alive():
        for name, ask in asks.items():
            try:
                response, answer = recorder.ask(*ask)
            except OSError:
                continue
            if response.status != 200:
                recorder.write(name, response, answer)
                caught.add(name)
    starting.join()
    sys.stdout.write(f"listening {time.monotonic() - began:.3f} s after the start; caught {sorted(caught)}\n")
    rss = next(line for line in Path(f"/proc/{llama.pid}/status").read_text().splitlines() if "VmRSS" in line)
    sys.stdout.write(f"{rss}\n")
    llama.stop()


def record_variants(directory: Path) -> None:
    """Servers with a key, without slots and metrics, and one that sleeps."""
    with start_llama(directory, program=(sys.executable, __file__, "serve", "key")) as llama:
        recorder = Recorder(llama, directory)
        recorder.keep("error_no_key", "POST", "/v1/chat/completions", CHAT)
        recorder.keep("error_wrong_key", "GET", "/props", None, {"Authorization": "Bearer wrong"})
        recorder.keep("models_without_key", "GET", "/v1/models")
        recorder.keep("health_without_key", "GET", "/health")
    with start_llama(directory, program=(sys.executable, __file__, "serve", "bare")) as llama:
        recorder = Recorder(llama, directory)
        for name in ("slots", "metrics"):
            recorder.keep(f"{name}_absent", "GET", f"/{name}")
        recorder.keep("error_no_embeddings", "POST", "/v1/embeddings", {"input": "one"})
        recorder.keep("models_bare", "GET", "/v1/models")
        recorder.keep("props_bare", "GET", "/props")
    with start_llama(directory, program=(sys.executable, __file__, "serve", "sleepy")) as llama:
        recorder = Recorder(llama, directory)
        while not json.loads(recorder.ask("GET", "/props")[1])["is_sleeping"]:
            time.sleep(0.1)
        for name in ("health", "props", "metrics"):
            recorder.keep(f"{name}_sleeping", "GET", f"/{name}")
        recorder.keep("models_sleeping", "GET", "/v1/models")
        recorder.keep("slots_sleeping", "GET", "/slots")
        awake = not json.loads(recorder.ask("GET", "/props")[1])["is_sleeping"]
        sys.stdout.write(f"asking for /slots woke it: {awake}\n")


def serve(variant: str, arguments: list[str]) -> None:
    """The built-in engine with other settings than its own."""
    ordinary = builtin._parameters

    def changed(given: argparse.Namespace) -> Any:
        params = ordinary(given)
        if variant == "key":
            params.api_keys = ["right"]
        elif variant == "bare":
            params.endpoint_slots = params.endpoint_metrics = params.embedding = False
        else:
            params.sleep_idle_seconds = 1
        return params

    with mock.patch.object(builtin, "_parameters", changed):
        builtin.main(arguments)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], sys.argv[3:])
        return
    shutil.rmtree(FIXTURES, ignore_errors=True)
    FIXTURES.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with start_llama(directory, slots=2, context=4096) as llama:
            recorder = Recorder(llama, directory)
            record_ordinary(recorder)
            record_errors(recorder)
            record_busy(recorder)
        record_loading(directory)
        record_variants(directory)
    version = importlib.metadata.version("xllamacpp")
    build = version.rsplit(".", 1)[1]
    (FIXTURES / "README.md").write_text(
        f"Recorded by `tests/support/record_llama.py` from llama.cpp build {build} (`xllamacpp` {version}).\n"
    )


if __name__ == "__main__":
    main()
