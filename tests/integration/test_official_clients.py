"""The official clients of OpenAI, Anthropic and Ollama, waited for and not, against real llama.cpp."""

from __future__ import annotations

import anthropic
import ollama
import openai
import pytest
from tests.support.llama import start_llama
from tests.support.process import start_gateway

MODEL = "fleetgate-demo"
ASK = [{"role": "user", "content": "Hello"}]
FIXED = {"model": MODEL, "seed": 1, "temperature": 0}
OPTIONS = {"seed": 1, "temperature": 0, "num_predict": 8}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with start_llama(tmp_path_factory.mktemp("llama")) as llama:
        settings = f"nodes: {{box: {{engines: [{{kind: llamacpp, port: {llama.port}}}]}}}}\n"
        with start_gateway(tmp_path_factory.mktemp("gateway"), settings) as gateway:
            yield gateway


def chatgpt(gateway):
    return {"base_url": f"{gateway.url}/v1", "api_key": gateway.key, "max_retries": 0}


def claude(gateway):
    return {"base_url": gateway.url, "api_key": gateway.key, "max_retries": 0}


def llama(gateway):
    return {"host": gateway.url, "headers": {"authorization": f"Bearer {gateway.key}"}}


# --- OpenAI -------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_openai_without_waiting(gateway):
    with openai.OpenAI(**chatgpt(gateway)) as client:
        chat = client.chat.completions.create(**FIXED, messages=ASK, max_tokens=8)
        text = client.completions.create(**FIXED, prompt="Once", max_tokens=8)
        response = client.responses.create(
            model=MODEL, input="Hello", max_output_tokens=8, temperature=0, extra_body={"seed": 1}
        )
        vector = client.embeddings.create(model=MODEL, input=["a", "b"])
    async with openai.AsyncOpenAI(**chatgpt(gateway)) as client:
        again = await client.chat.completions.create(**FIXED, messages=ASK, max_tokens=8)
        assert again.choices[0].message.content == chat.choices[0].message.content
        again = await client.completions.create(**FIXED, prompt="Once", max_tokens=8)
        assert again.choices[0].text == text.choices[0].text
        found = await client.responses.create(
            model=MODEL, input="Hello", max_output_tokens=8, temperature=0, extra_body={"seed": 1}
        )
        assert found.output_text == response.output_text == chat.choices[0].message.content
        assert (await client.embeddings.create(model=MODEL, input=["a", "b"])).data == vector.data
        assert MODEL in [one.id async for one in client.models.list()]


@pytest.mark.asyncio
async def test_openai_in_pieces(gateway):
    async with openai.AsyncOpenAI(**chatgpt(gateway)) as client:
        whole = (await client.chat.completions.create(**FIXED, messages=ASK, max_tokens=8)).choices[0]
        stream = await client.chat.completions.create(**FIXED, messages=ASK, max_tokens=8, stream=True)
        pieces = [one async for one in stream]
        assert "".join(one.choices[0].delta.content or "" for one in pieces) == whole.message.content
        text = await client.completions.create(**FIXED, prompt="Once", max_tokens=8)
        stream = await client.completions.create(**FIXED, prompt="Once", max_tokens=8, stream=True)
        assert "".join([one.choices[0].text async for one in stream]) == text.choices[0].text
        async with client.responses.stream(model=MODEL, input="Hello", extra_body={"seed": 1}) as events:
            said = [one.delta async for one in events if one.type == "response.output_text.delta"]
            final = await events.get_final_response()
        assert "".join(said) == final.output_text
        assert final.usage.output_tokens > 0


def test_openai_in_pieces_waited_for(gateway):
    asked = {"model": MODEL, "input": "Hello", "extra_body": {"seed": 1}}
    with openai.OpenAI(**chatgpt(gateway)) as client, client.responses.stream(**asked) as events:
        said = [one.delta for one in events if one.type == "response.output_text.delta"]
        assert "".join(said) == events.get_final_response().output_text


# --- Anthropic ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_anthropic(gateway):
    asked = {"model": MODEL, "messages": ASK}
    bound = {**asked, "max_tokens": 8, "extra_body": {"seed": 1, "temperature": 0}}
    with anthropic.Anthropic(**claude(gateway)) as client:
        whole = client.messages.create(**bound)
        counted = client.messages.count_tokens(**asked)
        with client.messages.stream(**bound) as stream:
            said = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert MODEL in [one.id for one in client.models.list()]
    assert said == final.content[0].text
    assert whole.stop_reason == final.stop_reason
    assert whole.usage.output_tokens == final.usage.output_tokens > 0
    async with anthropic.AsyncAnthropic(**claude(gateway)) as client:
        assert (await client.messages.create(**bound)).content[0].type == "text"
        assert await client.messages.count_tokens(**asked) == counted
        beta = await client.beta.messages.create(**bound, betas=["context-management-2025-06-27"])
        assert beta.content[0].text
        assert (await client.beta.messages.count_tokens(**asked)).input_tokens == counted.input_tokens
        async with client.messages.stream(**bound) as stream:
            said = "".join([one async for one in stream.text_stream])
            assert said == (await stream.get_final_message()).content[0].text


# --- Ollama -------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_ollama(gateway):
    with ollama.Client(**llama(gateway)) as waited:
        async with ollama.AsyncClient(**llama(gateway)) as client:
            await compare(waited, client)


async def compare(waited, client):
    asked = {"model": MODEL, "options": OPTIONS}
    chat = waited.chat(**asked, messages=ASK)
    assert chat.message.content == (await client.chat(**asked, messages=ASK)).message.content
    pieces = [one async for one in await client.chat(**asked, messages=ASK, stream=True)]
    assert "".join(one.message.content or "" for one in pieces) == chat.message.content
    assert [one.done for one in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == chat.eval_count > 0
    text = waited.generate(**asked, prompt="Once")
    assert text.response == (await client.generate(**asked, prompt="Once")).response
    told = [one.response async for one in await client.generate(**asked, prompt="Once", stream=True)]
    assert "".join(told) == text.response
    told = [one.response for one in waited.generate(**asked, prompt="Once", stream=True)]
    assert "".join(told) == text.response
    vectors = waited.embed(MODEL, input=["a", "b"]).embeddings
    assert vectors == (await client.embed(MODEL, input=["a", "b"])).embeddings
    assert len(waited.embeddings(MODEL, prompt="a").embedding) == len(vectors[0])
    for listed in (waited.list(), await client.list()):
        assert any(MODEL in one.model for one in listed.models)
    assert (await client.ps()).models == waited.ps().models
    assert (await client.show(MODEL)).details == waited.show(MODEL).details
