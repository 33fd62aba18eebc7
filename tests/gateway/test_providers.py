"""Every row of the table of providers against an upstream on loopback that behaves as its documentation says:
authentication, paths, whole answers, streams, errors. Nothing here names what a row does not say."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
from tests.engines.provider_errors import SAID
from tests.support.gateway import PROVIDER_KEY, answer, chain, openai_engine, running_gateway, said, settings
from tests.support.upstreams import respond_json, stream_sse

from fleetgate.config.providers import PROVIDERS
from fleetgate.domain import Capability
from fleetgate.errors import TABLE, Verdict
from fleetgate.errors import FailureClass as F

pytestmark = pytest.mark.asyncio

ANTHROPIC = PROVIDERS["anthropic"]
FREE = {"request": "0 USD"}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
EVENTS = [
    {
        "type": "message_start",
        "message": {**MESSAGE, "content": [], "usage": {"input_tokens": 3, "output_tokens": 0}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]


def path_of(row):
    """Where the interface lies at its host."""
    return urlsplit((row.url or row.form).replace("{", "").replace("}", "")).path


def block(engine, name, **members):
    return {
        "kind": name,
        "url": f"http://127.0.0.1:{engine.port}{path_of(PROVIDERS[name])}",
        "key": "${KEY}",
        "models": [{"name": "m", "price": FREE}],
        **members,
    }


def frames_of(row):
    if row.speaks == "anthropic":
        return [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in EVENTS]
    return said("hel", "lo")


@pytest.mark.parametrize("name", PROVIDERS)
async def test_it_is_asked_as_its_row_says(tmp_path, name):
    row = PROVIDERS[name]
    claude = row.speaks == "anthropic"
    whole = respond_json(200, MESSAGE if claude else answer("hello"))
    async with (
        openai_engine(whole, stream_sse(frames_of(row))) as engine,
        running_gateway(settings(providers={"p": block(engine, name)}), tmp_path) as gateway,
    ):
        assert (await gateway.chat("p/m")).text == "hello"
        assert (await gateway.entry()).usage.output_tokens == 2
        assert (await gateway.chat("p/m", stream=True)).text == "hello"
        for request in engine.requests:
            assert request.path == (path_of(row) or "/v1") + ("/messages" if claude else "/chat/completions")
            sent = {"bearer": ("authorization", f"Bearer {PROVIDER_KEY}")}.get(
                row.auth, (row.auth, PROVIDER_KEY)
            )
            assert request.header(sent[0]) == sent[1]
            others = {"authorization", "x-api-key", "api-key"} - {sent[0]}
            assert all(request.header(other) is None for other in others)
        assert gateway.engine("p").kind.name == ("anthropic" if claude else name)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_its_errors_mean_what_they_say(tmp_path, name):
    several = SAID[name]
    row = PROVIDERS[name]

    def route(request):
        number = int(request.path.split("/")[1])
        found = several[number]
        return respond_json(found.status, found.body, tuple(found.headers.items()))

    async with openai_engine(route=route) as engine:
        base = f"http://127.0.0.1:{engine.port}"
        providers = {
            f"p{number}": block(engine, name, url=f"{base}/{number}{path_of(row)}")
            for number in range(len(several))
            # No page of HTML, and nothing that is waited for.
            if not isinstance(several[number].body, str) and several[number].means is not F.FULL
        }
        async with running_gateway(settings(providers=providers), tmp_path) as gateway:
            for number, title in enumerate(providers, 1):
                expected = several[int(title[1:])]
                reply = await gateway.chat(f"{title}/m")
                entry = await gateway.entry(number)
                assert entry.attempts[0].outcome == expected.means.value
                stated = TABLE[expected.means]
                assert reply.status in (stated.status, expected.status)
                assert (entry.attempts[0].status, PROVIDER_KEY in reply.body.decode()) == (
                    expected.status,
                    False,
                )


@pytest.mark.parametrize("name", PROVIDERS)
async def test_what_it_does_not_serve_is_not_sent_there(tmp_path, name):
    row = PROVIDERS[name]
    vectors = {
        "object": "list",
        "data": [{"embedding": [0.1], "index": 0}],
        "model": "m",
        "usage": {"prompt_tokens": 1},
    }
    async with (
        openai_engine(respond_json(200, vectors)) as engine,
        running_gateway(settings(providers={"p": block(engine, name)}), tmp_path) as gateway,
    ):
        reply = await gateway.post("/v1/embeddings", {"model": "p/m", "input": "hi"})
        served = Capability.EMBED in row.serves
        assert (reply.status == 200) == served
        assert [request.path for request in engine.requests] == (
            [f"{path_of(row)}/embeddings"] if served else []
        )


@pytest.mark.parametrize("name", [name for name in PROVIDERS if PROVIDERS[name].paths])
async def test_paths_of_its_own(tmp_path, name):
    row = PROVIDERS[name]
    rank = {"results": [{"index": 0, "relevance_score": 0.5}]}
    for capability, path in row.paths.items():
        completes = capability is Capability.COMPLETE
        text = {
            **answer(""),
            "object": "text_completion",
            "choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}],
        }
        async with (
            openai_engine(respond_json(200, text if completes else rank)) as engine,
            running_gateway(settings(providers={"p": block(engine, name)}), tmp_path) as gateway,
        ):
            body = {"prompt": "hi"} if completes else {"query": "q", "documents": ["a"]}
            reply = await gateway.post(
                "/v1/completions" if completes else "/v1/rerank", {"model": "p/m", **body}
            )
            assert reply.status == 200
            at_the_host = path.startswith("//")
            assert engine.requests[0].path == (path[1:] if at_the_host else path)


async def test_an_error_inside_an_answer_is_understood_like_one_before_it(tmp_path):
    told = {"error": {"code": 402, "message": "Insufficient credits for sk-or-v1-0123456789abcdef"}}
    late = {
        "error": {"code": 502, "message": "Provider disconnected"},
        "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}],
    }
    async with (
        openai_engine(
            respond_json(200, told),
            stream_sse([b": OPENROUTER PROCESSING\n\n", told]),
            stream_sse([b": OPENROUTER PROCESSING\n\n", *said("hel")[:2], late]),
        ) as engine,
        openai_engine(respond_json(200, answer("other"))) as other,
        running_gateway(
            settings(
                providers={
                    "a": block(engine, "openrouter"),
                    "b": block(engine, "openrouter"),
                    "c": block(engine, "openrouter"),
                    "o": block(other, "xai"),
                },
                roles={"r": chain("a/m", "o/m")},
            ),
            tmp_path,
        ) as gateway,
    ):
        assert (await gateway.chat("r")).text == "other"
        first = (await gateway.entry()).attempts[0]
        assert (first.outcome, first.text) == (F.KEY_UNFUNDED.value, "status 402")
        reply = await gateway.chat("b/m", stream=True)
        assert (await gateway.entry(2)).attempts[0].outcome == F.KEY_UNFUNDED.value
        assert b"0123456789abcdef" not in reply.body
        reply = await gateway.chat("c/m", stream=True)
        assert b": OPENROUTER PROCESSING" in reply.body
        assert (await gateway.entry(3)).outcome == F.STREAM_BROKEN.value


def chunk(delta=None, finish=None, **members):
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "choices": choices, **members}


CALL = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
USED = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
STREAMS = {
    "gemini": [chunk({"tool_calls": CALL}, usage=USED), chunk({}, "stop", usage=USED), "[DONE]"],
    "groq": [
        chunk({"content": "hi"}, x_groq={"id": "req_1"}),
        chunk({}, "stop", x_groq={"id": "req_1", "usage": USED}),
        "[DONE]",
    ],
    "fireworks": [chunk({"content": "hi"}), chunk({}, "stop", usage=USED), "[DONE]"],
    "together": [chunk({"content": "hi"}), chunk({}, "eos", usage=USED), "[DONE]"],
    "perplexity": [
        chunk({"content": "hi"}, usage=USED, citations=["https://x.example"]),
        chunk({}, "stop", usage=USED, search_results=[{"url": "https://x.example"}]),
    ],
    "deepseek": [
        chunk({"content": "hi"}),
        chunk({}, "stop"),
        {
            "id": "c",
            "choices": [],
            "usage": {**USED, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 3},
        },
        "[DONE]",
    ],
    "mistral": [
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
        chunk({"content": [{"type": "text", "text": "hi"}]}),
        chunk({}, "model_length", usage=USED),
        "[DONE]",
    ],
}
ENDS = {"gemini": "tool_calls", "mistral": "length"}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("streamed", [True, False])
async def test_what_is_odd_in_its_streams(tmp_path, name, streamed):
    role = {
        "r": chain({"deployment": "p/m", "first_token": "5s"}, {"deployment": "p/m", "first_token": "5s"})
    }
    async with (
        openai_engine(stream_sse(STREAMS[name])) as engine,
        running_gateway(settings(providers={"p": block(engine, name)}, roles=role), tmp_path) as gateway,
    ):
        reply = await gateway.chat("r", stream=streamed)
        entry = await gateway.entry()
        assert (entry.usage.input_tokens, entry.usage.output_tokens) == (7, 5)
        assert entry.usage.cached_tokens == (4 if name == "deepseek" else None)
        text = reply.body.decode()
        assert f'"finish_reason":"{ENDS.get(name, "stop")}"' in text.replace(" ", "")
        if name == "gemini":
            assert '"name":"f"' in text.replace(" ", "")
        else:
            assert reply.text == "hi"
        if name == "perplexity":
            assert "citations" in text
            assert "search_results" in text
        if name == "mistral":
            assert '"reasoning_content":"hm"' in text.replace(" ", "")


FAILED = {
    "deepseek": (
        answer("hi")
        | {
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "h"},
                    "finish_reason": "insufficient_system_resource",
                }
            ]
        },
        F.SERVER_ERROR,
    ),
    "minimax": (
        {"id": "", "choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        F.KEY_UNFUNDED,
    ),
}


@pytest.mark.parametrize("name", FAILED)
async def test_a_good_answer_that_is_none(tmp_path, name):
    body, means = FAILED[name]
    async with (
        openai_engine(respond_json(200, body)) as engine,
        openai_engine(respond_json(200, answer("other"))) as other,
        running_gateway(
            settings(
                providers={"p": block(engine, name), "o": block(other, "openai")},
                roles={"r": chain("p/m", "o/m")},
            ),
            tmp_path,
        ) as gateway,
    ):
        assert (await gateway.chat("r")).text == "other"
        assert (await gateway.entry()).attempts[0].outcome == means.value
        assert TABLE[means].verdict is Verdict.NEXT


async def test_mistral_s_parts_of_a_whole_answer(tmp_path):
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "hi"},
    ]
    body = answer("") | {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": parts}, "finish_reason": "stop"}]
    }
    async with (
        openai_engine(respond_json(200, body)) as engine,
        running_gateway(settings(providers={"p": block(engine, "mistral")}), tmp_path) as gateway,
    ):
        message = (await gateway.chat("p/m")).json()["choices"][0]["message"]
        assert message == {"role": "assistant", "content": "hi", "reasoning_content": "hm"}
