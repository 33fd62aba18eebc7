"""The Codex command line through the gateway."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.clients.programs import CALL_ID, NOTE, QUESTION, THOUGHTS, conversation, desk, program
from tests.support.gateway import error
from tests.support.upstreams import respond_json

pytestmark = pytest.mark.asyncio

COMMAND = {"cmd": "cat note.txt"}
ALONE = ("-c", "analytics.enabled=false", "-c", "features.plugins=false")
"""without them it asks chatgpt.com and github.com for more than answers"""
FREELY = ("--skip-git-repo-check", "--sandbox", "danger-full-access")


@pytest.fixture(autouse=True)
def codex():
    """Skips all of it where it is not installed."""
    return program("codex")


async def ask(at, *more):
    await at.connect("codex")
    return await at.run(program("codex"), "exec", *FREELY, *ALONE, *more, QUESTION)


async def test_a_tool_is_called_and_its_output_told(tmp_path):
    async with desk(tmp_path, conversation("exec_command", COMMAND)) as at:
        done = await ask(at)
        assert (done.code, at.outside) == (0, []), done.err
        assert f"It says: {NOTE}" in " ".join(done.out.split()) or NOTE in done.out
        assert "".join(THOUGHTS) in done.err
        first, second = at.turns
        assert [one["role"] for one in first["messages"]] == ["system", "user", "user"]
        assert QUESTION in first["messages"][-1]["content"]
        told = {one["function"]["name"] for one in first["tools"]}
        assert "exec_command" in told
        assert all(one["type"] == "function" for one in first["tools"])
        *_, called, given = second["messages"]
        assert called["reasoning_content"] == "".join(THOUGHTS)
        (call,) = called["tool_calls"]
        assert (call["id"], json.loads(call["function"]["arguments"])) == (CALL_ID, COMMAND)
        assert (given["role"], given["tool_call_id"]) == ("tool", CALL_ID)
        assert NOTE in given["content"]
        entries = [await at.gateway.entry(number) for number in (1, 2)]
        assert [(one.route, one.outcome, one.status) for one in entries] == [("/v1/responses", "ok", 200)] * 2
        assert [one.usage.input_tokens for one in entries] == [900, 3]
        assert {one.path for one in at.engine.requests} == {"/v1/chat/completions"}


async def test_a_model_of_its_own_list_is_offered_a_custom_tool(tmp_path):
    script = 'const done = await tools.exec_command({cmd: "cat note.txt"});\ntext(done.output);\n'
    route = conversation("exec", {"input": script})
    async with desk(tmp_path, route, model="gpt-6.1-sol") as at:
        done = await ask(at)
        assert (done.code, at.outside) == (0, []), done.err
        first, second = at.turns
        (tool,) = [one["function"] for one in first["tools"] if one["function"]["name"] == "exec"]
        assert list(tool["parameters"]["properties"]) == ["input"]
        *_, called, given = second["messages"]
        assert json.loads(called["tool_calls"][0]["function"]["arguments"]) == {"input": script}
        assert (given["tool_call_id"], NOTE in given["content"]) == (CALL_ID, True)


async def test_signs_of_life_keep_it_waiting(tmp_path):
    """Comments would not: only events count."""

    async def think(peer):
        await asyncio.sleep(5)

    route = conversation("exec_command", COMMAND, think)
    often = {"keep_alive": {"first": "1s", "every": "1s"}}
    async with desk(tmp_path, route, gateway=often) as at:
        done = await ask(at, "-c", "model_providers.fleetgate.stream_idle_timeout_ms=2500")
        assert (done.code, len(at.turns)) == (0, 2), done.err


@pytest.mark.parametrize(
    ("status", "headers", "shown"),
    [
        (400, [], "temperature is out of range"),
        (429, [("retry-after", "600")], "Quota exceeded"),
    ],
)
async def test_errors_are_shown(tmp_path, status, headers, shown):
    def route(request):
        return respond_json(status, error("temperature is out of range"), headers)

    async with desk(tmp_path, route) as at:
        done = await ask(at)
        assert (done.code, len(at.turns)) == (1, 1)
        assert shown in done.err
