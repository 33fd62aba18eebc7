"""The Claude Code command line through the gateway."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.clients.programs import CALL_ID, NOTE, QUESTION, THOUGHTS, conversation, desk, program
from tests.support.gateway import error
from tests.support.upstreams import respond_json

pytestmark = pytest.mark.asyncio

COMMAND = {"command": "cat note.txt", "description": "Reads the note"}
ALONE = {
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}


@pytest.fixture(autouse=True)
def claude():
    """Skips all of it where it is not installed."""
    return program("claude")


async def ask(at, alone=ALONE):
    await at.connect("claude-code")
    at.environment |= alone
    return await at.run(program("claude"), "-p", QUESTION, "--allowedTools", "Bash")


async def test_a_tool_is_called_and_its_output_told(tmp_path):
    async with desk(tmp_path, conversation("Bash", COMMAND)) as at:
        done = await ask(at)
        assert (done.code, at.outside) == (0, []), done.err
        assert done.out.strip() == f"It says: {NOTE}"
        first, second = at.turns
        # It writes what agents there are as a system that speaks after the user: few templates take that.
        assert [one["role"] for one in first["messages"]] == ["system", "user"]
        asked = first["messages"][1]["content"]
        assert asked.index(QUESTION) < asked.rindex("<system-reminder>")
        *_, called, given = second["messages"]
        assert called["reasoning_content"] == "".join(THOUGHTS)
        (call,) = called["tool_calls"]
        assert (call["id"], call["function"]["name"]) == (CALL_ID, "Bash")
        assert json.loads(call["function"]["arguments"]) == COMMAND
        assert given == {"role": "tool", "tool_call_id": CALL_ID, "content": NOTE}
        assert second["messages"][:2] == first["messages"]
        entries = [await at.gateway.entry(number) for number in (1, 2)]
        assert [(one.route, one.outcome, one.status) for one in entries] == [("/v1/messages", "ok", 200)] * 2
        assert [one.usage.input_tokens for one in entries] == [900, 3]
        assert {one.path for one in at.engine.requests} == {"/v1/chat/completions"}


async def test_it_finds_models_with_its_makers_word_in_front(tmp_path):
    listed = tmp_path / "home" / ".claude" / "cache" / "gateway-models.json"

    async def wait(peer):
        """It looks for them beside its work, and may be done before they are there."""
        while not listed.exists():  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(0.01)

    async with desk(tmp_path, conversation("Bash", COMMAND, wait), model="claude-local") as at:
        done = await ask(at, {"DISABLE_AUTOUPDATER": "1"})
        assert (done.code, NOTE in done.out) == (0, True), done.err
        assert [one["id"] for one in json.loads(listed.read_text())["models"]] == ["claude-local"]


@pytest.mark.parametrize(
    ("status", "headers", "message", "shown"),
    [
        (400, [], "temperature is out of range", "temperature is out of range"),
        (400, [], "This model's maximum context length is 4096 tokens", "Prompt is too long"),
        (429, [("retry-after", "600")], "slow down", "The quota is used up until its reset."),
    ],
)
async def test_errors_are_shown(tmp_path, status, headers, message, shown):
    def route(request):
        return respond_json(status, error(message), headers)

    async with desk(tmp_path, route) as at:
        done = await ask(at)
        assert (done.code, len(at.turns)) == (1, 1)
        assert shown in done.out + done.err
