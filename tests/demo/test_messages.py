"""Simulated engines that speak Anthropic's dialect and the Responses API, asked by the official clients."""

from __future__ import annotations

import json

import anthropic
import openai
import pytest
from tests.support.gateway import running_gateway

from fleetgate.demo.imitate import imitated

pytestmark = pytest.mark.asyncio

MODELS = [{"id": "claude-sonnet-5", "name": "sonnet"}]
TREE = {"providers": {"anthropic": {"key": "${KEY}", "models": MODELS}}}
HELLO = [{"role": "user", "content": "What is a seat?"}]
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
ASKED = {"model": "claude-sonnet-5", "max_tokens": 2_000, "messages": HELLO}


async def test_the_official_client_reads_it():
    async with imitated(TREE, speed=1000) as fleet:
        url = fleet.tree["providers"]["anthropic"]["url"].removesuffix("/v1")
        async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client:
            message = await client.messages.create(**ASKED)
            assert "Simulated answer from anthropic" in message.content[0].text
            assert message.stop_reason == "end_turn"
            async with client.messages.stream(**ASKED, tools=[TOOL]) as stream:
                final = await stream.get_final_message()
            assert (final.stop_reason, final.content[0].name) == ("tool_use", "look")
            assert [one.id async for one in client.models.list()] == ["claude-sonnet-5"]
            with pytest.raises(anthropic.NotFoundError) as missing:
                await client.messages.create(**{**ASKED, "model": "nobody"})
            assert missing.value.body["type"] == "error"
        async with anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as client:
            fleet.machine("anthropic").obey("denied")
            with pytest.raises(anthropic.AuthenticationError):
                await client.messages.create(**ASKED)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_gateway_asks_it(tmp_path, stream):
    async with (
        imitated(TREE, speed=1000) as fleet,
        running_gateway(json.dumps({**fleet.tree, "health": {"every": "1h"}}), tmp_path) as gateway,
    ):
        reply = await gateway.chat("sonnet", stream=stream)
        assert "Simulated answer from anthropic" in reply.text
        entry = await gateway.entry()
        assert entry.usage.output_tokens
        assert entry.cost, "the known price holds at the simulated address"


OWN = {
    "nodes": {
        "gpu": {
            "address": "192.168.1.20",
            "engines": [
                {"kind": "ollama", "models": [{"name": "one"}]},
                {"kind": "vllm", "port": 8000, "models": [{"name": "two"}]},
                {"kind": "llamacpp", "port": 8080, "models": [{"name": "three"}]},
            ],
        }
    }
}
LOOK = {"type": "function", "name": "look", "parameters": TOOL["input_schema"]}


@pytest.mark.parametrize("model", ["one", "two", "three"])
async def test_own_engines_are_asked_in_the_callers_dialect(tmp_path, model):
    async with (
        imitated(OWN, speed=1000) as fleet,
        running_gateway(json.dumps({**fleet.tree, "health": {"every": "1h"}}), tmp_path) as gateway,
        anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as claude,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client,
    ):
        asked = {**ASKED, "model": model}
        raw = await claude.messages.with_raw_response.create(**asked)
        assert "lane=passed" in raw.headers["x-fleetgate-plan"]
        assert (await raw.parse()).content[0].text.startswith("Simulated answer from gpu/")
        async with claude.messages.stream(**asked, tools=[TOOL]) as stream:
            assert (await stream.get_final_message()).stop_reason == "tool_use"
        assert (await claude.messages.count_tokens(model=model, messages=HELLO)).input_tokens
        with pytest.raises(anthropic.BadRequestError) as refused:
            await claude.messages.count_tokens(model="", messages=HELLO)
        assert refused.value.body["error"]["code"] == "model_missing_in_request"

        said = await client.responses.create(model=model, input="What is a seat?", store=False)
        assert (said.status, said.output_text[:21]) == ("completed", "Simulated answer from")
        short = await client.responses.create(model=model, input="What?", max_output_tokens=3)
        assert (short.status, short.usage.output_tokens) == ("incomplete", 3)
        async with client.responses.stream(model=model, input="What?", tools=[LOOK]) as stream:
            final = await stream.get_final_response()
        assert [(item.type, item.name) for item in final.output] == [("function_call", "look")]


@pytest.mark.parametrize("stream", [False, True])
async def test_gaps_are_filled_by_llama(tmp_path, stream):
    async with (
        imitated(OWN, speed=1000) as fleet,
        running_gateway(json.dumps({**fleet.tree, "health": {"every": "1h"}}), tmp_path) as gateway,
    ):
        body = {"model": "three", "prompt": "def f(", "suffix": "return", "max_tokens": 5, "stream": stream}
        reply = await gateway.post("/v1/completions", body)
        assert reply.status == 200
        assert b"Simulated" in reply.body
