"""The official `openai` client reads answers out of the cache as it reads new ones."""

import openai
import pytest
from tests.support.gateway import (
    content_frame,
    finish_frame,
    node,
    openai_engine,
    role_frame,
    running_gateway,
    settings,
    usage_frame,
)
from tests.support.upstreams import respond_json, stream_sse

pytestmark = pytest.mark.asyncio
HELLO = [{"role": "user", "content": "hello"}]
VECTORS = {
    "object": "list",
    "model": "m",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}],
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}


def calling():
    """The frames of a tool call in pieces."""
    pieces = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"place":'}},
        {"index": 0, "function": {"arguments": '"Oslo"}'}},
    ]
    frames = [role_frame()]
    for piece in pieces:
        frame = content_frame("")
        frame["choices"][0]["delta"] = {"tool_calls": [piece]}
        frames.append(frame)
    return [*frames, finish_frame(reason="tool_calls"), usage_frame(), "[DONE]"]


def client_of(gateway):
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


async def read(client, **members):
    made = await client.chat.completions.with_raw_response.create(
        model="m", messages=HELLO, stream=True, **members
    )
    return made.headers["x-fleetgate-cache"], [chunk.model_dump() async for chunk in made.parse()]


async def test_streams(tmp_path):
    async with (
        openai_engine(stream_sse(calling())) as a,
        running_gateway(settings(nodes={"box": node(a)}, cache={}), tmp_path) as gateway,
        client_of(gateway) as client,
    ):
        mark, plain = await read(client)
        again, replayed = await read(client)
        wanted, usage = await read(client, stream_options={"include_usage": True})
        assert [mark, again, wanted] == ["miss", "hit", "hit"]
        assert replayed == plain
        assert usage[:-1] == plain
        assert usage[-1]["usage"]["total_tokens"] == 5
        assert plain[-1]["choices"][0]["finish_reason"] == "tool_calls"
        calls = [chunk["choices"][0]["delta"]["tool_calls"] for chunk in replayed]
        assert "".join(one[0]["function"]["arguments"] for one in calls if one) == '{"place":"Oslo"}'
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        assert len([chunk async for chunk in stream]) == len(plain)
        assert len(a.requests) == 1


async def test_embeddings(tmp_path):
    async with (
        openai_engine(respond_json(200, VECTORS)) as a,
        running_gateway(settings(nodes={"box": node(a)}, cache={}), tmp_path) as gateway,
        client_of(gateway) as client,
    ):
        found = [await client.embeddings.create(model="m", input="x") for _ in range(2)]
        assert found[0].data[0].embedding == found[1].data[0].embedding == [0.25, 0.5]
        assert len(a.requests) == 1


async def test_the_clients_own_way_to_ask_anew(tmp_path):
    async with (
        openai_engine(stream_sse(calling())) as a,
        running_gateway(settings(nodes={"box": node(a)}, cache={}), tmp_path) as gateway,
        client_of(gateway) as client,
    ):
        marks = [
            (await read(client))[0],
            (await read(client, extra_headers={"Cache-Control": "no-cache"}))[0],
            (await read(client, extra_body={"cache": {"no-cache": True}}))[0],
            (await read(client))[0],
        ]
        assert marks == ["miss", "miss", "miss", "hit"]
        assert all("cache" not in request.json() for request in a.requests)
