"""The adapter for whatever speaks OpenAI's API. Bodies are built from documentation, not recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetgate.domain import Capability
from fleetgate.engines.kinds import KINDS
from fleetgate.engines.openai import MODELS, OpenAI
from fleetgate.engines.port import Reply
from fleetgate.errors import FailureClass as F

KIND = OpenAI()


def read(body: Any, status: int = 200) -> Any:
    return KIND.read(
        MODELS, Reply(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode())
    )


def test_models() -> None:
    found = read({"object": "list", "data": [
        {"id": "gpt-4o", "object": "model", "created": 1, "owned_by": "system"},
        {"id": "text-embedding-3-small", "object": "model"},
        {"id": "llama-3.3-70b-versatile", "context_window": 131_072},
        {"id": "local", "type": "vlm", "state": "loaded", "max_context_length": 131_072,
         "loaded_context_length": 8_192},
        {"object": "model"}, 3,
    ]})  # fmt: skip
    gpt, embed, groq, local = found.models
    assert found.alive
    assert (gpt.does, gpt.context, gpt.params) == (None, None, None)
    assert embed.does == {Capability.EMBED}
    assert (groq.context, groq.params) == (131_072, 70.0)
    assert local.context == 8_192, "loaded, not maximum"
    assert Capability.VISION in local.does
    assert (found.resident, found.slots_total, found.slots_busy, found.queue) == (None, None, None, None)


def test_a_bare_list() -> None:
    assert [model.id for model in read([{"id": "a"}]).models] == ["a"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_alive(status: int) -> None:
    found = read({"error": {"message": "no"}}, status)
    assert (found.alive, found.failure) == (True, F.KEY_INVALID)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"data":{}}', b"3"])
def test_something_else_answers(body: bytes) -> None:
    assert read(body).failure is F.GARBAGE


def test_one_address_may_be_several_replicas() -> None:
    """A Kubernetes Service: each answer is another's, so nothing but the list of models is read of one."""
    for replica in (
        {"id": "m", "status": {"value": "loaded"}},
        {"id": "m", "state": "not-loaded", "max_slots": 4},
    ):
        found = read({"object": "list", "data": [replica]})
        assert [model.id for model in found.models or ()] == ["m"]
        assert (found.resident, found.loads, found.slots_total, found.slots_busy) == (None, None, None, None)
    assert KINDS["openai"].load("m", None) is None


def test_paths() -> None:
    for kind in KINDS.values():
        assert kind.path(Capability.EMBED) in ("/v1/embeddings", None)
    assert KINDS["ollama"].path(Capability.RERANK) is None
    assert KINDS["llamacpp"].path(Capability.SPEAK) is None
    assert KINDS["llamacpp"].path(Capability.TRANSCRIBE) == "/v1/audio/transcriptions"
    translating = {name for name, kind in KINDS.items() if kind.path(Capability.TRANSLATE)}
    assert translating == {"openai", "vllm"}
    moderating = {name for name, kind in KINDS.items() if kind.path(Capability.MODERATE)}
    assert moderating == {"openai", "localai"}
    editing = {name for name, kind in KINDS.items() if kind.path(Capability.EDIT)}
    assert editing == {"openai", "llamaswap", "lemonade"}


@pytest.mark.parametrize(
    ("model", "does"),
    [
        ("whisper-1", {Capability.TRANSCRIBE, Capability.TRANSLATE}),
        ("gpt-4o-transcribe", {Capability.TRANSCRIBE}),
        ("gpt-image-1", {Capability.IMAGE, Capability.EDIT}),
        ("omni-moderation-latest", {Capability.MODERATE}),
    ],
)
def test_names_tell_of_media(model: str, does: set[Capability]) -> None:
    (found,) = read({"object": "list", "data": [{"id": model}]}).models or ()
    assert found.does == does
