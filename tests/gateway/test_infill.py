"""Completions with a gap: who fills gaps is asked in its own way; nobody is asked who would ignore it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.support.gateway import answer, chain, node, openai_engine, running_gateway, settings
from tests.support.llama import start_llama
from tests.support.upstreams import respond_json, stream_sse

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio

ASKED = {"model": "m", "prompt": "def add(a, b):\n    ", "suffix": "\n\nprint(add(1, 2))", "max_tokens": 8}
COUNTED = {"tokens_predicted": 4, "tokens_evaluated": 9}
WHOLE = {"content": "return a + b", "stop": True, "stop_type": "eos", **COUNTED}
PIECES = [
    {"content": "return ", "stop": False},
    {"content": "a + b", "stop": False},
    {"content": "", "stop": True, "stop_type": "limit", **COUNTED},
]
CANNOT = {
    "error": {"code": 501, "message": "Infill is not supported by this model: prefix token is missing. "}
}


def house(engine, kind="llamacpp", **blocks):
    return settings(nodes={"n": node(engine, kind=kind)}, **blocks)


async def test_a_whole_answer(tmp_path: Path) -> None:
    async with (
        openai_engine(respond_json(200, WHOLE)) as engine,
        running_gateway(house(engine), tmp_path) as gateway,
    ):
        reply = await gateway.post("/v1/completions", ASKED)
        assert reply.json()["choices"][0]["text"] == "return a + b"
        assert reply.json()["usage"] == {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
        sent = engine.requests[0]
        assert sent.path == "/infill"
        assert sent.json() == {
            "model": "m",
            "input_prefix": ASKED["prompt"],
            "input_suffix": ASKED["suffix"],
            "n_predict": 8,
        }
        (entry,) = [await gateway.entry()]
        assert (entry.usage.input_tokens, entry.usage.output_tokens) == (9, 4)


async def test_a_streamed_answer(tmp_path: Path) -> None:
    async with (
        openai_engine(stream_sse(PIECES)) as engine,
        running_gateway(house(engine), tmp_path) as gateway,
    ):
        asked = {**ASKED, "stream": True}
        reply = await gateway.post("/v1/completions", asked)
        assert "".join(one["choices"][0]["text"] for one in reply.events[:-1]) == "return a + b"
        assert reply.events[-2]["choices"][0]["finish_reason"] == "length"
        assert reply.events[-1] == "[DONE]"
        assert engine.requests[0].json()["stream"] is True
        assert (await gateway.entry()).usage.output_tokens == 4
        reply = await gateway.post("/v1/completions", {**asked, "stream_options": {"include_usage": True}})
        assert reply.events[-2]["usage"]["total_tokens"] == 13


async def test_ollamas_callers_fill_gaps_as_well(tmp_path: Path) -> None:
    async with (
        openai_engine(stream_sse(PIECES)) as engine,
        running_gateway(house(engine), tmp_path) as gateway,
    ):
        reply = await gateway.post("/api/generate", {"model": "m", "prompt": "a", "suffix": "b"})
        told = [json.loads(line) for line in reply.body.splitlines()]
        assert "".join(one["response"] for one in told) == "return a + b"
        assert (told[-1]["done_reason"], told[-1]["eval_count"]) == ("length", 4)
        assert engine.requests[0].path == "/infill"


async def test_a_stream_that_breaks_never_looks_whole(tmp_path: Path) -> None:
    async with (
        openai_engine(stream_sse(PIECES[:2])) as engine,
        running_gateway(house(engine), tmp_path) as gateway,
    ):
        reply = await gateway.post("/v1/completions", {**ASKED, "stream": True})
        assert reply.events[-1]["error"]["class"] == "stream_broken"


async def test_without_a_gap_it_is_a_completion(tmp_path: Path) -> None:
    form = {"choices": [{"text": "x", "index": 0, "finish_reason": "stop"}]}
    async with (
        openai_engine(respond_json(200, form)) as engine,
        running_gateway(house(engine), tmp_path) as gateway,
    ):
        await gateway.post("/v1/completions", {**ASKED, "suffix": ""})
        await gateway.post("/v1/completions", {"model": "m", "prompt": "a"})
        assert [one.path for one in engine.requests] == ["/v1/completions"] * 2


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_who_cannot_is_not_asked(tmp_path: Path, kind: str) -> None:
    async with (
        openai_engine(respond_json(200, answer("no"))) as a,
        openai_engine(respond_json(200, WHOLE)) as b,
        running_gateway(
            settings(
                nodes={"a": node(a, kind=kind), "b": node(b, kind="llamacpp")},
                roles={"r": chain("a/m", "b/m"), "only": chain("a/m")},
            ),
            tmp_path,
        ) as gateway,
    ):
        reply = await gateway.post("/v1/completions", {**ASKED, "model": "r"})
        assert reply.json()["choices"][0]["text"] == "return a + b"
        assert reply.header("x-fleetgate-attempts") == "1"
        reply = await gateway.post("/v1/completions", {**ASKED, "model": "only"})
        assert (reply.status, reply.error["class"]) == (400, "absent_feature")
        assert "suffix" in reply.error["message"]
        assert a.requests == []


async def test_a_model_that_fills_no_gaps_leaves_others_their_turn(tmp_path: Path) -> None:
    async with (
        openai_engine(respond_json(501, CANNOT)) as a,
        openai_engine(respond_json(200, WHOLE)) as b,
        running_gateway(
            settings(
                nodes={"a": node(a, kind="llamacpp"), "b": node(b, kind="llamacpp")},
                roles={"r": chain("a/m", "b/m")},
            ),
            tmp_path,
        ) as gateway,
    ):
        reply = await gateway.post("/v1/completions", {**ASKED, "model": "r"})
        assert (reply.status, len(a.requests)) == (200, 1)
        assert gateway.deployment("a/llamacpp/m").breaker.fails_in_row == 0


async def test_the_real_one_says_that_its_model_fills_no_gaps(tmp_path: Path) -> None:
    with start_llama(tmp_path) as llama:
        async with running_gateway(house(llama.port), tmp_path) as gateway:
            asked = {**ASKED, "model": "fleetgate-demo"}
            reply = await gateway.post("/v1/completions", asked)
            assert reply.error["class"] == "absent_feature"
            assert "Infill is not supported by this model" in reply.error["message"]
            assert (await gateway.post("/v1/completions", {**asked, "suffix": None})).status == 200


CHATTED = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "codestral-latest",
    "choices": [{"index": 0, "message": {"content": "return a + b"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
}


@pytest.mark.parametrize("stream", [False, True])
async def test_mistral_has_a_call_of_its_own(tmp_path: Path, stream: bool) -> None:  # noqa: FBT001
    pieces = [
        {"choices": [{"index": 0, "delta": {"content": "return "}, "finish_reason": None}]},
        {
            "choices": [{"index": 0, "delta": {"content": "a + b"}, "finish_reason": "stop"}],
            "usage": CHATTED["usage"],
        },
        "[DONE]",
    ]
    script = stream_sse(pieces) if stream else respond_json(200, CHATTED)
    async with openai_engine(script) as engine:
        models = [
            {"name": one, "price": {"request": "0 USD"}}
            for one in ("codestral-latest", "mistral-large-latest")
        ]
        shop = {
            "kind": "mistral",
            "url": f"http://127.0.0.1:{engine.port}/v1",
            "key": "${KEY}",
            "models": models,
        }
        async with running_gateway(settings(providers={"mistral": shop}), tmp_path) as gateway:
            asked = {**ASKED, "model": "codestral-latest", "stream": stream}
            reply = await gateway.post("/v1/completions", asked)
            said = (
                "".join(
                    one["choices"][0]["text"] for one in reply.events if one != "[DONE]" and one["choices"]
                )
                if stream
                else reply.json()["choices"][0]["text"]
            )
            assert said == "return a + b"
            sent = engine.requests[0]
            assert sent.path == "/v1/fim/completions"
            assert sent.json()["suffix"] == ASKED["suffix"]
            assert (await gateway.entry()).usage.output_tokens == 4
            reply = await gateway.post("/v1/completions", {**ASKED, "model": "mistral-large-latest"})
            assert reply.status == 400
            assert "completes no texts" in reply.json()["error"]["message"]
            assert len(engine.requests) == 1
