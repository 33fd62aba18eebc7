"""Tools, pictures, structured answers and errors as the official clients know them, over scripted engines."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager

import anthropic
import ollama
import openai
import pytest
from pydantic import BaseModel
from tests.support.gateway import (
    MASTER_KEY,
    answer,
    error,
    finish_frame,
    node,
    openai_engine,
    role_frame,
    running_gateway,
    said,
    settings,
    usage_frame,
)
from tests.support.upstreams import respond_json, stream_sse

pytestmark = pytest.mark.asyncio

CITIES = ("Oslo", "Rome")
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "of a city", "parameters": SCHEMA}
QUESTION = "weather in Oslo and Rome?"
ASK = [{"role": "user", "content": QUESTION}]
PICTURE = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
        "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
    )
).decode()


class Weather(BaseModel):
    city: str
    degrees: int


def calls():
    """What a model says that asks for both at once."""
    found = answer("")
    message = found["choices"][0]["message"]
    message["content"] = None
    message["tool_calls"] = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": "weather", "arguments": json.dumps({"city": city})},
        }
        for number, city in enumerate(CITIES)
    ]
    found["choices"][0]["finish_reason"] = "tool_calls"
    return found


def pieces_of_calls():
    """The same in pieces, of both by turns."""
    frames = [role_frame()]
    for number in range(len(CITIES)):
        function = {"name": "weather", "arguments": ""}
        frames.append(_piece(number, id=f"call_{number}", type="function", function=function))
    for part in range(2):
        for number, city in enumerate(CITIES):
            text = json.dumps({"city": city})
            frames.append(_piece(number, function={"arguments": (text[:6], text[6:])[part]}))
    return [*frames, finish_frame(reason="tool_calls"), usage_frame(9, 7), "[DONE]"]


def _piece(index, **members):
    frame = role_frame()
    frame["choices"][0]["delta"] = {"tool_calls": [{"index": index, **members}]}
    return frame


def chatgpt(gateway, **options):
    return openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=MASTER_KEY, **{"max_retries": 0, **options}
    )


def claude(gateway, **options):
    return anthropic.AsyncAnthropic(base_url=gateway.url, api_key=MASTER_KEY, **{"max_retries": 0, **options})


def llama(gateway):
    return ollama.AsyncClient(host=gateway.url, headers={"authorization": f"Bearer {MASTER_KEY}"})


@asynccontextmanager
async def house(tmp_path, *replies):
    """An engine with these replies, and a gateway before it."""
    engine = openai_engine(*replies)
    async with engine, running_gateway(settings(nodes={"box": node(engine)}), tmp_path) as gateway:
        yield engine, gateway


def results(engine):
    """What came back to the engine: id of the call and text."""
    sent = engine.requests[-1].json()["messages"]
    return [(one["tool_call_id"], one["content"]) for one in sent if one["role"] == "tool"]


GIVEN = [("call_0", "rain in Oslo"), ("call_1", "rain in Rome")]


# --- tools, there and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_completions(tmp_path, stream):
    first = stream_sse(pieces_of_calls()) if stream else respond_json(200, calls())
    tools = [{"type": "function", "function": FUNCTION}]
    async with (
        house(tmp_path, first, respond_json(200, answer("wet"))) as (engine, gateway),
        chatgpt(gateway) as client,
    ):
        if stream:
            async with client.chat.completions.stream(model="m", messages=ASK, tools=tools) as events:
                message = (await events.get_final_completion()).choices[0].message
        else:
            done = await client.chat.completions.create(model="m", messages=ASK, tools=tools)
            message = done.choices[0].message
        back = [
            {
                "role": "tool",
                "tool_call_id": call.id,
                "content": f"rain in {json.loads(call.function.arguments)['city']}",
            }
            for call in message.tool_calls
        ]
        turns = [*ASK, message.model_dump(exclude_none=True), *back]
        last = await client.chat.completions.create(model="m", messages=turns, tools=tools)
        assert last.choices[0].message.content == "wet"
        assert results(engine) == GIVEN


@pytest.mark.parametrize("stream", [False, True])
async def test_responses(tmp_path, stream):
    first = stream_sse(pieces_of_calls()) if stream else respond_json(200, calls())
    tools = [{"type": "function", "strict": False, **FUNCTION}]
    async with (
        house(tmp_path, first, respond_json(200, answer("wet"))) as (engine, gateway),
        chatgpt(gateway) as client,
    ):
        if stream:
            async with client.responses.stream(model="m", input=QUESTION, tools=tools) as events:
                found = await events.get_final_response()
        else:
            found = await client.responses.create(model="m", input=QUESTION, tools=tools)
        asked = [one for one in found.output if one.type == "function_call"]
        back = [
            {
                "type": "function_call_output",
                "call_id": one.call_id,
                "output": f"rain in {json.loads(one.arguments)['city']}",
            }
            for one in asked
        ]
        said_before = [one.to_dict() for one in found.output]
        last = await client.responses.create(
            model="m", input=[*ASK, *said_before, *back], tools=tools, store=False
        )
        assert last.output_text == "wet"
        assert results(engine) == GIVEN


@pytest.mark.parametrize("stream", [False, True])
async def test_messages(tmp_path, stream):
    first = stream_sse(pieces_of_calls()) if stream else respond_json(200, calls())
    tools = [{"name": "weather", "description": "of a city", "input_schema": SCHEMA}]
    asked = {"model": "m", "max_tokens": 50, "tools": tools}
    async with (
        house(tmp_path, first, respond_json(200, answer("wet"))) as (engine, gateway),
        claude(gateway) as client,
    ):
        if stream:
            async with client.messages.stream(**asked, messages=ASK) as events:
                message = await events.get_final_message()
        else:
            message = await client.messages.create(**asked, messages=ASK)
        assert message.stop_reason == "tool_use"
        back = [
            {"type": "tool_result", "tool_use_id": one.id, "content": f"rain in {one.input['city']}"}
            for one in message.content
            if one.type == "tool_use"
        ]
        turns = [
            *ASK,
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": back},
        ]
        last = await client.messages.create(**asked, messages=turns)
        assert last.content[0].text == "wet"
        assert results(engine) == GIVEN


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_of_ollama(tmp_path, stream):
    first = stream_sse(pieces_of_calls()) if stream else respond_json(200, calls())
    tools = [{"type": "function", "function": FUNCTION}]
    async with (
        house(tmp_path, first, respond_json(200, answer("wet"))) as (engine, gateway),
        llama(gateway) as client,
    ):
        if stream:
            parts = [one async for one in await client.chat("m", messages=ASK, tools=tools, stream=True)]
            asked = [call for one in parts for call in one.message.tool_calls or ()]
        else:
            asked = (await client.chat("m", messages=ASK, tools=tools)).message.tool_calls
        assert [call.function.arguments["city"] for call in asked] == list(CITIES)
        turns = [
            *ASK,
            {"role": "assistant", "tool_calls": [call.model_dump() for call in asked]},
            *({"role": "tool", "tool_name": "weather", "content": f"rain in {city}"} for city in CITIES),
        ]
        assert (await client.chat("m", messages=turns, tools=tools)).message.content == "wet"
        assert [text for _, text in results(engine)] == [text for _, text in GIVEN]


# --- pictures -----------------------------------------------------------------------------------------


async def test_a_picture_in_every_dialect(tmp_path):
    address = f"data:image/png;base64,{PICTURE}"
    look = {"type": "text", "text": "what is it?"}
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    async with house(tmp_path, respond_json(200, answer("a dot"))) as (engine, gateway):
        async with chatgpt(gateway) as client:
            content = [look, {"type": "image_url", "image_url": {"url": address}}]
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}])
            parts = [{"type": "input_text", "text": "what is it?"}]
            parts.append({"type": "input_image", "image_url": address, "detail": "auto"})
            await client.responses.create(model="m", input=[{"role": "user", "content": parts}])
        async with claude(gateway) as client:
            content = [look, {"type": "image", "source": source}]
            await client.messages.create(
                model="m", max_tokens=9, messages=[{"role": "user", "content": content}]
            )
        async with llama(gateway) as client:
            turn = {"role": "user", "content": "what is it?", "images": [PICTURE]}
            await client.chat("m", messages=[turn])
            await client.generate("m", prompt="what is it?", images=[PICTURE])
        for request in engine.requests:
            (turn,) = request.json()["messages"]
            shown = [one["image_url"]["url"] for one in turn["content"] if one["type"] == "image_url"]
            assert shown == [address]


# --- structured answers -------------------------------------------------------------------------------


async def test_a_structured_answer_in_every_dialect(tmp_path):
    text = '{"city": "Oslo", "degrees": 4}'
    expected = Weather(city="Oslo", degrees=4)
    async with house(tmp_path, respond_json(200, answer(text))) as (engine, gateway):
        async with chatgpt(gateway) as client:
            done = await client.chat.completions.parse(model="m", messages=ASK, response_format=Weather)
            assert done.choices[0].message.parsed == expected
            found = await client.responses.parse(model="m", input=QUESTION, text_format=Weather)
            assert found.output_parsed == expected
        async with claude(gateway) as client:
            message = await client.messages.parse(
                model="m", max_tokens=50, messages=ASK, output_format=Weather
            )
            assert message.parsed_output == expected
        async with llama(gateway) as client:
            told = await client.chat("m", messages=ASK, format=Weather.model_json_schema())
            assert Weather.model_validate_json(told.message.content) == expected
        for request in engine.requests:
            form = request.json()["response_format"]
            assert set(form["json_schema"]["schema"]["properties"]) == {"city", "degrees"}


async def test_a_structured_answer_in_pieces(tmp_path):
    frames = said('{"city": "Os', 'lo", "degrees": 4}')
    async with house(tmp_path, stream_sse(frames)) as (_, gateway), chatgpt(gateway) as client:
        stream = client.chat.completions.stream(model="m", messages=ASK, response_format=Weather)
        async with stream as events:
            done = await events.get_final_completion()
        assert done.choices[0].message.parsed == Weather(city="Oslo", degrees=4)
        async with client.responses.stream(model="m", input=QUESTION, text_format=Weather) as events:
            assert (await events.get_final_response()).output_parsed.degrees == 4


# --- errors -------------------------------------------------------------------------------------------

FAILURES = [
    (400, [], "temperature is out of range", 400, "BadRequestError"),
    (429, [("retry-after", "9")], "rate", 429, "RateLimitError"),
    (500, [], "out of memory", 502, "InternalServerError"),
]


@pytest.mark.parametrize(("status", "headers", "words", "seen", "kind"), FAILURES)
async def test_errors_have_their_types(tmp_path, status, headers, words, seen, kind):
    async with house(tmp_path, respond_json(status, error(words), headers)) as (_, gateway):
        async with chatgpt(gateway) as client:
            for ask in (
                client.chat.completions.create(model="m", messages=ASK),
                client.responses.create(model="m", input=QUESTION),
                client.completions.create(model="m", prompt=QUESTION),
                client.embeddings.create(model="m", input="a"),
            ):
                with pytest.raises(getattr(openai, kind)) as caught:
                    await ask
                assert (caught.value.status_code, words in caught.value.message) == (seen, True)
                assert caught.value.response.headers["x-request-id"].startswith("req_")
        async with claude(gateway) as client:
            with pytest.raises(getattr(anthropic, kind)) as caught:
                await client.messages.create(model="m", max_tokens=5, messages=ASK)
            assert (caught.value.status_code, words in str(caught.value)) == (seen, True)
        async with llama(gateway) as client:
            with pytest.raises(ollama.ResponseError) as told:
                await client.chat("m", messages=ASK)
            assert (told.value.status_code, words in told.value.error) == (seen, True)


async def test_what_is_final_is_asked_once(tmp_path):
    """Nobody of the others is there either: `x-should-retry: false`, which both clients obey."""
    engine = openai_engine(respond_json(200, answer("x")))
    async with engine:
        shut = {"box": {"maintenance": "it moves house", **node(engine, models=[{"name": "m"}])}}
        async with running_gateway(settings(nodes=shut), tmp_path) as gateway:
            async with chatgpt(gateway, max_retries=3) as client:
                with pytest.raises(openai.InternalServerError) as caught:
                    await client.responses.create(model="m", input=QUESTION)
                assert caught.value.response.headers["x-should-retry"] == "false"
                assert caught.value.status_code == 503
            async with claude(gateway, max_retries=3) as client:
                with pytest.raises(anthropic.InternalServerError) as refused:
                    await client.messages.create(model="m", max_tokens=5, messages=ASK)
                assert refused.value.response.headers["x-should-retry"] == "false"
            assert len([await gateway.entry(number) for number in (1, 2)]) == len(gateway.entries)
