"""Answers that are whole for whoever gave them, and cannot be said in the caller's dialect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.gateway import node, openai_engine, running_gateway, settings
from tests.support.upstreams import stream_sse

from fleetgate.gateway import speech

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio

ASKED = {"model": "m", "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call(**function: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}


TORN = [
    chunk({"content": "Well."}),
    chunk(call(name="f", arguments='{"a":')),
    chunk({}, "tool_calls"),
    "[DONE]",
]
NAMELESS = [chunk({"content": "Well."}), chunk(call(arguments="{}")), chunk({}, "tool_calls"), "[DONE]"]
NUMBERED = [chunk({"content": 5}), chunk({}, "stop"), "[DONE]"]
LATE = [chunk({"content": "Well."}), chunk({}, "stop"), chunk(call(arguments="{}")), "[DONE]"]


@pytest.mark.parametrize(
    ("path", "frames"),
    [("/api/chat", TORN), ("/api/chat", NAMELESS), ("/v1/messages", NAMELESS), ("/v1/messages", LATE)],
    ids=["torn for ollama", "nameless for ollama", "nameless for anthropic", "late for anthropic"],
)
async def test_a_call_that_nobody_could_make_never_ends_well(tmp_path: Path, path: str, frames: Any) -> None:
    async with (
        openai_engine(stream_sse(frames)) as engine,
        running_gateway(settings(nodes={"n": node(engine)}), tmp_path) as gateway,
    ):
        reply = await gateway.post(path, ASKED)
        assert reply.complete
        assert b'"done":true' not in reply.body
        assert b"message_stop" not in reply.body
        last = reply.body.strip().splitlines()[-1].removeprefix(b"data: ")
        assert "cannot" in json.dumps(json.loads(last)["error"]) or "no" in json.dumps(
            json.loads(last)["error"]
        )
        assert (await gateway.entry()).outcome in ("stream_broken", "garbage")


async def test_a_stored_answer_that_cannot_be_said_is_an_error(tmp_path: Path) -> None:
    async with (
        openai_engine(stream_sse(NUMBERED)) as engine,
        running_gateway(settings(nodes={"n": node(engine)}, cache={"ttl": "1h"}), tmp_path) as gateway,
    ):
        usage = {"stream_options": {"include_usage": True}}
        plain = json.dumps({**ASKED, **usage}, separators=(",", ":")).encode()
        first = await gateway.post("/v1/chat/completions", plain)
        assert first.events[-1] == "[DONE]"
        reply = await gateway.post("/v1/messages", ASKED)
        assert b"message_stop" not in reply.body
        assert len(engine.requests) == 1


async def test_a_translated_stream_without_end_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "LONGEST", 10_000)
    many = [chunk({"content": "x" * 100}) for _ in range(100)]
    async with (
        openai_engine(stream_sse([*many, chunk({}, "stop"), "[DONE]"])) as engine,
        running_gateway(settings(nodes={"n": node(engine)}), tmp_path) as gateway,
    ):
        reply = await gateway.post("/api/chat", ASKED)
        assert b"larger than 10000 bytes" in reply.body
        assert b'"done":true' not in reply.body
        passed = await gateway.post("/v1/chat/completions", ASKED)  # passes: nothing of it is kept
        assert passed.events[-1] == "[DONE]"
