"""The Ollama adapter. Bodies are built from its documentation and source (mid-2026), not recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetgate.domain import Capability
from fleetgate.engines.ollama import ALIVE, LOADED, TAGS, VERSION, Ollama
from fleetgate.engines.port import Reading, Reply
from fleetgate.errors import FailureClass as F

KIND = Ollama()


def reply(body: Any, status: int = 200) -> Reply:
    return Reply(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


TAGS_BODY = {
    "models": [
        {
            "name": "qwen2.5:7b",
            "model": "qwen2.5:7b",
            "size": 4_683_087_332,
            "digest": "845dbda0ea48",
            "details": {
                "family": "qwen2",
                "parameter_size": "7.6B",
                "quantization_level": "Q4_K_M",
                "context_length": 32_768,
            },
            "capabilities": ["completion", "tools"],
        },
        {
            "name": "llama3:latest",
            "model": "llama3:latest",
            "size": 4_661_224_676,
            "digest": "365c0bd3c000",
            "details": {"family": "llama", "parameter_size": "8.0B", "quantization_level": "Q4_0"},
        },
        {
            "name": "nomic-embed-text:latest",
            "model": "nomic-embed-text:latest",
            "size": 274_302_450,
            "digest": "0a10",
            "details": {"family": "nomic-bert", "parameter_size": "137M", "embedding_length": 768},
        },
        {
            "name": "gpt-oss:120b-cloud",
            "model": "gpt-oss:120b-cloud",
            "remote_model": "gpt-oss:120b",
            "remote_host": "https://cloud.example:443",
            "size": 384,
            "digest": "569662207105",
            "details": {},
            "capabilities": ["completion", "tools", "thinking"],
        },
    ]
}


def test_catalogue() -> None:
    models = KIND.read(TAGS, reply(TAGS_BODY)).models
    assert models is not None
    qwen, llama, embed, cloud = models
    assert (qwen.id, qwen.params, qwen.quantisation, qwen.digest) == (
        "qwen2.5:7b",
        7.6,
        "Q4_K_M",
        "845dbda0ea48",
    )
    assert qwen.does == {Capability.CHAT, Capability.COMPLETE, Capability.TOOLS}
    assert qwen.context is None, "details.context_length is the weights' limit, not what is served"
    assert llama.does is None, "unknown stays unknown"
    assert (embed.does, embed.dimensions, embed.params) == ({Capability.EMBED}, 768, 0.137)
    assert not qwen.remote
    assert cloud.remote
    assert Capability.REASONING in (cloud.does or ())


def test_x_is_x_latest() -> None:
    """Trap: `llama3` written, `llama3:latest` listed, and the model looks missing or cold."""
    models = KIND.read(TAGS, reply(TAGS_BODY)).models
    assert models is not None
    assert (models[1].id, models[1].name, models[1].aliases) == (
        "llama3:latest",
        "llama3",
        ("llama3:latest",),
    )
    loaded = KIND.read(
        LOADED, reply({"models": [{"name": "llama3", "model": "llama3", "size": 10, "size_vram": 10}]})
    )
    assert loaded.resident is not None
    assert loaded.resident[0].id == models[1].id == KIND.normal_id("llama3")
    assert KIND.normal_id("host:5000/x") == "host:5000/x:latest"
    assert KIND.normal_id("qwen2.5:7b") == "qwen2.5:7b"


def test_resident() -> None:
    body = {
        "models": [
            {
                "model": "qwen2.5:7b",
                "size": 6_000,
                "size_vram": 4_500,
                "context_length": 8_192,
                "expires_at": "2026-11-21T14:38:31Z",
            },
            {"model": "llama3:latest", "size": 5_000, "size_vram": 0},
        ]
    }
    resident = KIND.read(LOADED, reply(body)).resident
    assert resident is not None
    assert (resident[0].context, resident[0].vram_fraction) == (8_192, 0.75)
    assert resident[0].expires_at == "2026-11-21T14:38:31Z"
    assert resident[1].vram_fraction == 0.0
    assert resident[1].context is None


def test_nothing_loaded_is_known_and_empty() -> None:
    assert KIND.read(LOADED, reply({"models": []})).resident == ()
    assert KIND.read(LOADED, reply({"models": None})).resident == ()


def test_health_version_and_unknown_signals() -> None:
    assert KIND.read(ALIVE, reply(b"Ollama is running")).alive
    assert KIND.read(VERSION, reply({"version": "0.14.2"})).version == "0.14.2"
    for ask, body in ((ALIVE, b"Ollama is running"), (LOADED, {"models": []}), (TAGS, TAGS_BODY)):
        found = KIND.read(ask, reply(body))
        assert (found.slots_total, found.slots_busy, found.queue) == (None, None, None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"models": 3}', b'{"models": "no"}', b"{}"])
def test_something_else_answers(body: bytes) -> None:
    assert KIND.read(TAGS, reply(body)).failure is F.GARBAGE
    assert KIND.read(LOADED, reply(body)).failure is None, "an optional signal blames nobody"


def test_strange_entries_are_left_out() -> None:
    body = {"models": [3, {}, {"name": ""}, {"model": "ok", "size": "big", "details": 7, "capabilities": {}}]}
    models = KIND.read(TAGS, reply(body)).models
    assert models is not None
    assert [(model.id, model.size) for model in models] == [("ok:latest", None)]


def test_probes_never_name_a_model() -> None:
    asks = [*KIND.pulse(), *KIND.catalogue()]
    assert all(ask.method == "GET" and not ask.body for ask in asks)
    assert isinstance(KIND.read(ALIVE, reply(b"")), Reading)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, F.FULL),
        (404, {"error": "model 'x' not found"}, F.MODEL_MISSING),
        (
            404,
            {"error": {"message": 'model "x" not found, try pulling it first', "type": "api_error"}},
            F.MODEL_MISSING,
        ),
        (499, b"", F.CALLER_GONE),
        (400, {"error": "the input length exceeds the context length"}, F.CONTEXT_TOO_LONG),
        (400, {"error": '"x" does not support chat'}, F.BAD_REQUEST),
        (500, {"error": "llama runner process has terminated: exit status 2"}, F.SERVER_ERROR),
        (
            500,
            {"error": "model requires more system memory (9 GiB) than is available (4 GiB)"},
            F.SERVER_ERROR,
        ),
    ],
)
def test_classify(status: int, body: Any, expected: F) -> None:
    assert KIND.classify(status, {}, reply(body).body) is expected


def form(keep: float | None, does: frozenset[Capability] | None = None) -> tuple[str, Any]:
    ask = KIND.load("qwen2.5:7b", keep, does)
    assert ask is not None
    assert ask.method == "POST"
    return ask.path, json.loads(ask.body)


def test_a_load_has_no_prompt_and_no_options() -> None:
    """Traps: options that differ from a request's load the model again, and OpenAI's path carries none;
    an absent `keep_alive` leaves a pin as it was."""
    assert form(None) == ("/api/generate", {"model": "qwen2.5:7b"})
    assert form(90.4) == ("/api/generate", {"model": "qwen2.5:7b", "keep_alive": 90})
    assert form(-1.0)[1]["keep_alive"] == -1
    assert form(0.0)[1]["keep_alive"] == 0


def test_a_model_that_only_embeds_is_loaded_where_it_works() -> None:
    """`/api/generate` refuses it."""
    assert form(None, frozenset({Capability.EMBED})) == ("/api/embed", {"model": "qwen2.5:7b", "input": []})
    both = frozenset({Capability.CHAT, Capability.EMBED})
    assert form(None, both)[0] == form(None, frozenset())[0] == "/api/generate"


def test_unload_is_a_load_that_is_kept_no_time() -> None:
    ask = KIND.unload("nomic-embed-text:latest", None)
    assert ask is not None
    assert (ask.path, json.loads(ask.body)) == (
        "/api/generate",
        {"model": "nomic-embed-text:latest", "keep_alive": 0},
    )


def test_a_load_that_fails_after_its_status_is_told() -> None:
    assert KIND.refusal(reply({"model": "m", "done": True, "done_reason": "load"})) == ""
    assert KIND.refusal(reply({"error": "llama runner process has terminated"})) == (
        "llama runner process has terminated"
    )
    assert (
        KIND.refusal(reply({"error": '"m" does not support generate'}, 400))
        == '"m" does not support generate'
    )


def test_a_load_dies_with_its_caller() -> None:
    """Trap: so it is asked for apart from any request."""
    assert KIND.load_dies_with_caller


def test_what_is_loaded_says_how_much_it_takes_and_how_long_it_stays() -> None:
    pinned = {"model": "m", "size": 6_000, "size_vram": 6_000, "expires_at": "2318-03-02T01:00:00+01:00"}
    (one,) = KIND.read(LOADED, reply({"models": [pinned]})).resident or ()
    assert (one.size, one.vram_fraction, one.expires_at) == (6_000, 1.0, "2318-03-02T01:00:00+01:00")


@pytest.mark.parametrize(
    ("version", "spoken"),
    [
        (None, {"ollama"}),
        ("0.0.0-dirty", {"ollama"}),
        ("0.13.3", {"ollama", "responses"}),
        ("0.14.0", {"ollama", "responses", "anthropic"}),
    ],
)
def test_its_own_dialect_is_spoken_by_every_version(version: str | None, spoken: set[str]) -> None:
    found = KIND.also_speaks(version)
    assert set(found) == spoken
    assert found["ollama"] == "/api"
