"""A provider that speaks Anthropic's dialect: asked in it, and answered for as everybody else."""

from __future__ import annotations

import json
from pathlib import Path

import anthropic
import openai
import pytest
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from pydantic import TypeAdapter
from tests.support.gateway import (
    MASTER_KEY,
    PROVIDER_KEY,
    OpenAIEngine,
    chain,
    openai_engine,
    provider,
    running_gateway,
    settings,
)
from tests.support.upstreams import respond_json, stream_sse

from fleetgate.engines.anthropic import VERSION, Anthropic
from fleetgate.engines.port import Reply
from fleetgate.errors import FailureClass

pytestmark = pytest.mark.asyncio

GOLDEN = Path(__file__).parent.parent / "dialects" / "golden" / "anthropic-upstream"
PRICE = {
    "input": "3 USD/Mtok",
    "output": "15 USD/Mtok",
    "cached_input": "0.3 USD/Mtok",
    "cache_write": "3.75 USD/Mtok",
}
COST = 12 * 3_000 + 100 * 300 + 20 * 3_750 + 5 * 15_000
"""nano-dollars of the case `cached`"""
MODEL = "claude-sonnet-5"


def claude(at, **members):
    """The provider at a scripted address."""
    models = [{"name": MODEL, "price": PRICE, "context": 200_000}]
    return provider(at, **{"kind": "anthropic", "models": models, **members})


def house(engine, **blocks):
    return settings(providers={"a": claude(engine)}, **blocks)


def whole(case):
    return respond_json(200, json.loads((GOLDEN / case / "answer.json").read_text()))


def streamed(case):
    frames = (GOLDEN / case / "stream.txt").read_bytes().split(b"\n\n")
    return stream_sse([frame + b"\n\n" for frame in frames if frame.strip()])


def failed(status, kind, message, *headers):
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return respond_json(status, body, headers)


def sent(engine, number=0, version=VERSION):
    """The request as it arrived, which the official types take."""
    request = engine.requests[number]
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.header("x-api-key") == PROVIDER_KEY
    assert request.header("anthropic-version") == version
    assert request.header("authorization") is None
    body = json.loads(request.body)
    kind = MessageCreateParamsStreaming if body.get("stream") else MessageCreateParamsNonStreaming
    TypeAdapter(kind).validate_python(body)
    return body


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_with_its_cost(tmp_path, stream):
    script = streamed("cached") if stream else whole("cached")
    async with openai_engine(script) as engine, running_gateway(house(engine), tmp_path) as gateway:
        reply = await gateway.chat(MODEL, stream=stream, max_tokens=50, stop=["x"])
        assert (reply.status, reply.text) == (200, "Hello!")
        body = {
            "model": MODEL,
            "max_tokens": 50,
            "messages": [{"role": "user", "content": "hello"}],
            "stop_sequences": ["x"],
        }
        assert sent(engine) == (body | {"stream": True} if stream else body | {"stream": False})
        entry = await gateway.entry()
        usage = entry.usage
        assert (usage.input_tokens, usage.output_tokens) == (132, 5)
        assert (usage.cached_tokens, usage.cache_write_tokens) == (100, 20)
        assert (entry.outcome, entry.cost, entry.note) == ("ok", COST, "")


async def test_tools_for_callers_of_openai(tmp_path):
    async with (
        openai_engine(whole("tools"), streamed("tools")) as engine,
        running_gateway(house(engine), tmp_path) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=MASTER_KEY, max_retries=0) as client,
    ):
        chat = json.loads((GOLDEN / "tools" / "chat.json").read_text())
        chat = {name: chat[name] for name in ("messages", "tools", "max_tokens") if name in chat}
        answer = await client.chat.completions.create(model=MODEL, **chat)
        wanted = json.loads((GOLDEN / "tools" / "chat-answer.json").read_text())["choices"][0]["message"]
        calls = [
            (one.id, one.function.name, one.function.arguments)
            for one in answer.choices[0].message.tool_calls
        ]
        assert calls == [
            (one["id"], one["function"]["name"], one["function"]["arguments"]) for one in wanted["tool_calls"]
        ]
        assert answer.choices[0].finish_reason == "tool_calls"
        names = [
            call.function.name
            async for piece in await client.chat.completions.create(model=MODEL, stream=True, **chat)
            for choice in piece.choices
            for call in choice.delta.tool_calls or ()
            if call.function.name
        ]
        assert names == [name for _, name, _ in calls]
        assert [sent(engine, number).get("stream", False) for number in (0, 1)] == [False, True]


async def test_callers_of_anthropic_too(tmp_path):
    async with (
        openai_engine(whole("cached"), streamed("cached")) as engine,
        running_gateway(house(engine), tmp_path) as gateway,
        anthropic.AsyncAnthropic(base_url=gateway.url, api_key=MASTER_KEY, max_retries=0) as client,
    ):
        asked = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
        message = await client.messages.create(**asked)
        assert message.content[0].text == "Hello!"
        usage = message.usage
        assert (usage.cache_read_input_tokens, usage.output_tokens) == (100, 5)
        assert (usage.input_tokens, usage.cache_creation_input_tokens) == (12, 20)
        async with client.messages.stream(**asked) as stream:
            assert await stream.get_final_text() == "Hello!"
        # It passes as it was written, in the version of the dialect that its caller speaks.
        spoken = client.default_headers["anthropic-version"]
        assert sent(engine, 1, spoken)["messages"] == asked["messages"]


async def test_what_has_no_place_is_named(tmp_path):
    async with openai_engine(whole("cached")) as engine, running_gateway(house(engine), tmp_path) as gateway:
        reply = await gateway.chat(MODEL, seed=1, temperature=1.5, max_tokens=10**6)
        assert sent(engine)["max_tokens"] == 128_000
        assert reply.header("x-fleetgate-left-out") == "temperature, seed, max_tokens"
        note = (await gateway.entry()).note
        told = "temperature left out, seed left out, max_tokens lowered to 128000"
        assert note == f"for a/{MODEL}: {told}"
        reply = await gateway.chat(MODEL)
        assert sent(engine, 1)["max_tokens"] == 128_000


async def test_what_it_cannot_do_is_refused_before_it_is_sent(tmp_path):
    async with openai_engine(whole("cached")) as engine, running_gateway(house(engine), tmp_path) as gateway:
        reply = await gateway.chat(MODEL, n=2)
        assert (reply.status, reply.error["class"]) == (400, "absent_feature")
        assert "one answer" in reply.error["message"]
        reply = await gateway.chat(MODEL, messages=[{"role": "nobody", "content": "x"}])
        assert (reply.status, reply.error["class"]) == (400, "bad_request")
        assert engine.requests == []
        assert (await gateway.entry(2)).cost == 0


@pytest.mark.parametrize(
    ("script", "status", "failure", "retry_after"),
    [
        (failed(401, "authentication_error", "invalid x-api-key"), 502, "key_invalid", None),
        (
            failed(429, "rate_limit_error", "This would exceed your rate limit", ("retry-after", "7")),
            429,
            "rate_limited",
            "7",
        ),
        (failed(529, "overloaded_error", "Overloaded"), 502, "server_error", None),
        (
            failed(400, "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"),
            400,
            "context_too_long",
            None,
        ),
        (
            failed(
                400,
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
            ),
            400,
            "context_too_long",
            None,
        ),
        (failed(400, "invalid_request_error", "messages: bad"), 400, "bad_request", None),
        (failed(404, "not_found_error", "model: claude-sonnet-5"), 404, "model_missing", None),
        (
            failed(400, "invalid_request_error", "Your credit balance is too low to access the API"),
            502,
            "key_unfunded",
            None,
        ),
    ],
)
async def test_failures_by_class(tmp_path, script, status, failure, retry_after):
    async with openai_engine(script) as engine, running_gateway(house(engine), tmp_path) as gateway:
        reply = await gateway.chat(MODEL)
        assert (reply.status, reply.error["class"]) == (status, failure)
        assert reply.header("retry-after") == retry_after
        assert (await gateway.entry()).cost == 0


def event(kind, **members):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "model": "x", "content": []}
OPENING = [
    event("message_start", message=HEAD | {"usage": {"input_tokens": 3, "output_tokens": 1}}),
    event("ping"),
]
CONTENT = [
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"}),
]
OVERLOADED = event("error", error={"type": "overloaded_error", "message": "Overloaded"})


async def test_an_error_event_before_the_first_content_leaves_others_their_turn(tmp_path):
    async with (
        openai_engine(stream_sse([*OPENING, OVERLOADED])) as bad,
        openai_engine(streamed("cached")) as good,
        running_gateway(
            settings(
                providers={"a": claude(bad), "b": claude(good)},
                roles={"r": chain(f"a/{MODEL}", f"b/{MODEL}")},
            ),
            tmp_path,
        ) as gateway,
    ):
        reply = await gateway.chat("r", stream=True)
        assert reply.text == "Hello!"
        attempts = (await gateway.entry()).attempts
        assert [one.outcome for one in attempts] == ["server_error", "server_error", "ok"]


@pytest.mark.parametrize("end", [[OVERLOADED], []])
async def test_a_stream_that_breaks_never_looks_whole(tmp_path, end):
    async with (
        openai_engine(stream_sse([*OPENING, *CONTENT, *end])) as engine,
        running_gateway(house(engine), tmp_path) as gateway,
    ):
        reply = await gateway.chat(MODEL, stream=True)
        assert reply.events[-1]["error"]["class"] == "stream_broken"
        assert "[DONE]" not in reply.events
        assert (await gateway.entry()).outcome == "stream_broken"


async def test_garbage_is_told(tmp_path):
    async with (
        openai_engine(respond_json(200, {"choices": []})) as engine,
        running_gateway(house(engine), tmp_path) as gateway,
    ):
        reply = await gateway.chat(MODEL)
        assert (reply.status, reply.error["class"]) == (502, "garbage")


class Catalogue(OpenAIEngine):
    """Anthropic's list of models; `lists`: the requests for it."""

    def __init__(self, *replies, **options):
        super().__init__(*replies, **options)
        self.lists = []

    def note(self, request):
        self.lists.append(request)
        super().note(request)


async def test_its_models_are_found(tmp_path):
    async with (
        Catalogue(whole("cached"), models=(MODEL,)) as engine,
        running_gateway(settings(providers={"a": claude(engine, models=None)}), tmp_path) as gateway,
    ):
        await gateway.until(lambda: gateway.engine("a").deployments)
        assert list(gateway.engine("a").deployments) == [f"a/{MODEL}"]
        asked = engine.lists[0]
        assert asked.path.split("?")[0] == "/v1/models"
        assert asked.header("x-api-key") == PROVIDER_KEY


async def test_the_kind_reads_its_list():
    kind = Anthropic()
    rows = [
        {"id": "a", "type": "model", "lifecycle": "active", "max_input_tokens": 200_000},
        {"id": "b", "type": "model", "lifecycle": "retired"},
        {"id": "c", "type": "model"},
    ]
    (ask,) = kind.pulse()
    reading = kind.read(ask, Reply(200, {}, json.dumps({"data": rows, "has_more": False}).encode()))
    assert [(one.id, one.context) for one in reading.models] == [("a", 200_000), ("c", None)]
    refused = kind.read(ask, Reply(401, {}, b'{"type":"error","error":{"type":"authentication_error"}}'))
    assert (refused.failure, refused.alive) == (FailureClass.KEY_INVALID, True)
    for body in (b"", b"[]", b"{}", b'{"data":[{"id":7}]}'):
        assert not kind.read(ask, Reply(200, {}, body)).models
