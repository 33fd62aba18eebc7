"""The official `openai` client, sync and async, against a real gateway over a real llama.cpp."""

import base64
import struct

import openai
import pytest
from tests.support.gateway import finish_frame, openai_engine, running_gateway
from tests.support.llama import start_llama
from tests.support.process import start_gateway
from tests.support.upstreams import refusing_port, stream_sse

MODEL = "fleetgate-demo"
ID = f"box/llamacpp/{MODEL}"
ONE = "nodes: {box: {engines: [{kind: %s, port: %d}]}}"
HELLO = [{"role": "user", "content": "Hello"}]
FIXED = {"model": MODEL, "messages": HELLO, "max_tokens": 8, "seed": 1, "temperature": 0}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather at a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    with start_llama(tmp_path_factory.mktemp("llama")) as llama:
        yield llama


@pytest.fixture(scope="module")
def off():
    """A port where nothing listens."""
    with refusing_port() as port:
        yield port


@pytest.fixture(scope="module")
def gateway(llama, off, tmp_path_factory):
    settings = f"""
gateway: {{base_path: /llm}}
nodes:
  box: {{engines: [{{kind: llamacpp, port: {llama.port}}}]}}
  gone: {{engines: [{{kind: openai, port: {off}, models: [{{name: gone-model}}]}}]}}
  shut: {{maintenance: it moves house, engines: [{{kind: openai, port: 9, models: [{{name: shut-model}}]}}]}}
"""
    with start_gateway(tmp_path_factory.mktemp("gateway"), settings) as gateway:
        yield gateway


@pytest.fixture
def root(gateway):
    return gateway.url.removesuffix("/llm")


@pytest.fixture
def client(root, gateway):
    with openai.OpenAI(base_url=f"{root}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


# --- every endpoint, whole and streamed --------------------------------------------------------------------


@pytest.mark.parametrize("base", ["", "/v1", "/llm", "/llm/v1", "/llm/v1/"])
def test_base_urls(root, gateway, base):
    """With and without `/v1`; the prefix present, and stripped by a proxy in front."""
    with openai.OpenAI(base_url=root + base, api_key=gateway.key, max_retries=0) as client:
        assert client.chat.completions.create(**FIXED).choices[0].message.content
        assert client.models.retrieve(ID).id == ID
        assert [one.id for one in client.models.list()]


def test_chat(client):
    answer = client.chat.completions.create(**FIXED)
    assert answer.model == MODEL
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_headers_say_who_answered(client):
    raw = client.chat.completions.with_raw_response.create(**FIXED)
    assert raw.headers["x-fleetgate-deployment"] == ID
    assert raw.headers["x-fleetgate-request-id"].startswith("req_")
    assert raw.parse().choices


def test_chat_streamed(client):
    """The same words as in one piece."""
    whole = client.chat.completions.create(**FIXED).choices[0].message.content
    with client.chat.completions.create(**FIXED, stream=True) as stream:
        chunks = list(stream)
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == whole
    assert chunks[-1].choices[0].finish_reason
    assert all(one.usage is None for one in chunks)
    assert len({one.id for one in chunks}) == 1


def test_chat_streamed_with_usage(client):
    options = {"include_usage": True}
    with client.chat.completions.create(**FIXED, stream=True, stream_options=options) as stream:
        *chunks, last = stream
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0
    assert all(one.usage is None for one in chunks)


def test_the_clients_own_stream_reader(client):
    """It assembles the events itself, and is strict about them."""
    with client.chat.completions.stream(model=MODEL, messages=HELLO, seed=1) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"


def test_tools_reach_the_engine(client):
    """The demonstration model calls no tools; that its engine reads them shows when it cannot."""
    assert client.chat.completions.create(**FIXED, tools=[TOOL], tool_choice="auto").choices
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**FIXED, tools=[{"type": "function"}])
    assert "Missing tool function" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**FIXED, tools=[TOOL], tool_choice="sometimes")
    assert "sometimes" in caught.value.message


def delta(**members):
    choice = {"index": 0, "delta": members, "finish_reason": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


@pytest.mark.asyncio
async def test_a_call_of_a_tool_comes_back_in_pieces(tmp_path):
    """As engines stream it: the name first, then the arguments bit by bit."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": piece}} for piece in ('{"pla', 'ce":"Ro', 'me"}')]
    frames = [delta(role="assistant", content=None, tool_calls=[call])]
    frames += [delta(tool_calls=[piece]) for piece in pieces]
    frames += [finish_frame("c1", "tool_calls"), "[DONE]"]
    async with (
        openai_engine(stream_sse(frames)) as engine,
        running_gateway(
            f"nodes: {{box: {{engines: [{{kind: openai, port: {engine.port}}}]}}}}", tmp_path
        ) as own,
        openai.AsyncOpenAI(base_url=own.url, api_key=own.key, max_retries=0) as client,
    ):
        asked = {"model": "m", "messages": HELLO, "tools": [TOOL], "parallel_tool_calls": False}
        async with client.chat.completions.stream(**asked) as stream:
            final = await stream.get_final_completion()
        [made] = final.choices[0].message.tool_calls
        assert (made.id, made.function.name, made.function.arguments) == (
            "call_1",
            "weather",
            '{"place":"Rome"}',
        )
        sent = engine.requests[0].json()
        assert sent["tools"] == [TOOL]
        assert sent["parallel_tool_calls"] is False


def test_completions(client):
    asked = {"model": MODEL, "prompt": "the quiet garden", "max_tokens": 6, "seed": 1, "temperature": 0}
    whole = client.completions.create(**asked)
    assert whole.choices[0].text
    with client.completions.create(**asked, stream=True) as stream:
        assert "".join(one.choices[0].text for one in stream) == whole.choices[0].text


def test_embeddings(client):
    """The client asks for base64 by itself, and for floats when told."""
    asked = {"model": MODEL, "input": ["a quiet garden", "a loud street"]}
    plain = client.embeddings.create(**asked, encoding_format="float")
    assert [len(one.embedding) for one in plain.data] == [64, 64]
    assert plain.usage.prompt_tokens > 0
    default = client.embeddings.create(**asked)
    assert default.data[1].embedding == pytest.approx(plain.data[1].embedding, abs=1e-6)
    packed = client.embeddings.create(**asked, encoding_format="base64").data[0].embedding
    if isinstance(packed, str):
        packed = list(struct.unpack("<64f", base64.b64decode(packed)))
    assert packed == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_models(client):
    listed = {one.id for one in client.models.list()}
    assert {MODEL, "gone-model", "shut-model"} <= listed
    for name in (*listed, ID, f"box/{MODEL}"):
        found = client.models.retrieve(name)
        assert found.id == name
        assert found.object == "model"


@pytest.mark.asyncio
async def test_the_async_client(root, gateway):
    async with openai.AsyncOpenAI(base_url=f"{root}/v1", api_key=gateway.key, max_retries=0) as client:
        whole = await client.chat.completions.create(**FIXED)
        async with await client.chat.completions.create(**FIXED, stream=True) as stream:
            words = [one.choices[0].delta.content or "" async for one in stream]
        assert "".join(words) == whole.choices[0].message.content
        completion = await client.completions.create(model=MODEL, prompt="the", max_tokens=3)
        assert completion.choices[0].text is not None
        embedding = await client.embeddings.create(model=MODEL, input="a")
        assert len(embedding.data[0].embedding) == 64
        assert MODEL in [one.id async for one in client.models.list()]
        assert (await client.models.retrieve(ID)).id == ID
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(**{**FIXED, "model": "nobody"})


@pytest.mark.asyncio
async def test_an_async_stream_that_is_left(root, gateway):
    """The usual way to stop an answer: the client closes it."""
    async with openai.AsyncOpenAI(base_url=f"{root}/v1", api_key=gateway.key, max_retries=0) as client:
        endless = {**FIXED, "max_tokens": 4000, "extra_body": {"ignore_eos": True}}
        async with await client.chat.completions.create(**endless, stream=True) as stream:
            async for _ in stream:
                break
        # Its seats are free again: both slots answer.
        for _ in range(2):
            assert (await client.chat.completions.create(**FIXED)).choices
    assert gateway.logged("exchange", outcome="caller_gone")[-1]["status"] == 499


# --- errors -------------------------------------------------------------------------------------------------


def test_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**{**FIXED, "model": "fleetgate-dem"})
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert MODEL in caught.value.message  # the near name
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such/model")


@pytest.mark.parametrize("key", ["wrong", ""])
def test_a_wrong_key(root, key):
    with openai.OpenAI(base_url=f"{root}/v1", api_key=key or "none", max_retries=2) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(**FIXED)
        assert caught.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_a_prompt_that_is_too_long(client):
    long = [{"role": "user", "content": "garden " * 30_000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**FIXED, "messages": long})
    assert caught.value.code == "context_too_long"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**{**FIXED, "messages": long}, stream=True)


def test_a_request_that_cannot_be_right(client):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages="hello")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**FIXED, "model": ""})
    assert caught.value.param == "model"


def test_an_engine_that_dies_in_the_middle_of_a_stream(tmp_path):
    with (
        start_llama(tmp_path) as llama,
        start_gateway(tmp_path, ONE % ("llamacpp", llama.port)) as gateway,
        openai.OpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client,
    ):
        endless = {**FIXED, "max_tokens": 4000, "extra_body": {"ignore_eos": True}}
        said = []
        stream = client.chat.completions.create(**endless, stream=True)

        def read_on():
            for chunk in stream:
                if not said:
                    llama.kill()
                said.append(chunk)

        with stream, pytest.raises(openai.APIError) as caught:
            read_on()
        assert said
        assert caught.value.code == "stream_broken"
        assert all(one.choices[0].finish_reason is None for one in said)


# --- retries ------------------------------------------------------------------------------------------------


@pytest.fixture
def naps(monkeypatch):
    """How long the client would have slept between its retries."""
    found = []
    monkeypatch.setattr("openai._base_client.time.sleep", found.append)
    return found


def test_what_is_final_is_not_asked_again(root, gateway, naps):
    """The gateway has tried what there was: `x-should-retry: false` spares everybody the repetition."""
    with (
        openai.OpenAI(base_url=f"{root}/v1", api_key=gateway.key, max_retries=3) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.chat.completions.create(**{**FIXED, "model": "shut-model"})
    assert caught.value.status_code == 503
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert "it moves house" in caught.value.message
    assert naps == []
    assert len(gateway.logged("exchange", model="shut-model")) == 1


def test_what_may_pass_is_asked_again_when_it_can_help(root, gateway, naps):
    with (
        openai.OpenAI(base_url=f"{root}/v1", api_key=gateway.key, max_retries=2) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.chat.completions.create(**{**FIXED, "model": "gone-model"})
    assert caught.value.status_code == 503
    assert caught.value.code == "unsent_refused"
    retry_after = float(caught.value.response.headers["retry-after"])
    assert len(naps) == 2
    assert naps[-1] == retry_after
    assert len(gateway.logged("exchange", least=3, model="gone-model")) == 3
