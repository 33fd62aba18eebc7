"""What a candidate does not take is left out for it alone, and the caller and the ledger are told."""

from __future__ import annotations

import json

import anthropic
import pytest
from tests.support.gateway import (
    MASTER_KEY,
    answer,
    chain,
    error,
    node,
    openai_engine,
    provider,
    running_gateway,
    said,
    settings,
)
from tests.support.upstreams import respond_json, stream_sse

pytestmark = pytest.mark.asyncio

LEFT_OUT = "x-fleetgate-left-out"


def body_of(engine, number=0):
    return json.loads(engine.requests[number].body)


async def test_each_candidate_gets_what_it_takes(tmp_path):
    async with (
        openai_engine(respond_json(500, error("broken"))) as a,
        openai_engine(respond_json(200, answer("hello"))) as b,
        running_gateway(
            settings(
                nodes={"box": node(a)},
                providers={"groq": provider(b, kind="groq")},
                roles={"r": chain("box/m", "groq/m")},
            ),
            tmp_path,
        ) as gateway,
    ):
        reply = await gateway.chat("r", top_k=4, logit_bias={"5": 1}, chat_template="x", odd=1)
        assert reply.status == 200
        assert body_of(a).keys() == {"model", "messages", "top_k", "logit_bias", "odd"}
        assert body_of(b).keys() == {"model", "messages", "chat_template", "odd"}
        assert reply.header(LEFT_OUT) == "logit_bias, top_k"
        assert (await gateway.entry()).note == "for groq/m: logit_bias left out, top_k left out"


async def test_who_takes_everything_gets_everything(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hello"))) as a,
        running_gateway(settings(providers={"p": provider(a)}), tmp_path) as gateway,
    ):
        reply = await gateway.chat(top_k=4, chat_template="x", n=1, odd=[1])
        assert body_of(a) == {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "top_k": 4,
            "chat_template": "x",
            "n": 1,
            "odd": [1],
        }
        assert reply.header(LEFT_OUT) is None
        assert (await gateway.entry()).note == ""


async def test_streams_and_what_the_gateway_writes_itself(tmp_path):
    async with (
        openai_engine(stream_sse(said("hel", "lo"))) as a,
        running_gateway(settings(providers={"p": provider(a, kind="mistral")}), tmp_path) as gateway,
    ):
        reply = await gateway.chat(stream=True, max_completion_tokens=7, seed=5)
        assert reply.text == "hello"
        assert body_of(a) == {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": True,
            "max_tokens": 7,
            "random_seed": 5,
        }
        assert reply.header(LEFT_OUT) is None
        note = (await gateway.entry()).note
        assert note == "for p/m: max_completion_tokens sent as max_tokens, seed sent as random_seed"


async def test_what_cannot_be_had_is_refused(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hello"))) as a,
        openai_engine(respond_json(200, answer("hello"))) as b,
        running_gateway(
            settings(nodes={"box": node(a)}, providers={"groq": provider(b, kind="groq")}), tmp_path
        ) as gateway,
    ):
        reply = await gateway.chat("box/m", n=9)
        assert (reply.status, reply.error["source"]) == (400, "caller")
        assert "`n` is 9: at most 8 answers at once" in reply.error["message"]
        reply = await gateway.chat("box/m", grammar="x" * 70_000)
        assert reply.status == 400
        reply = await gateway.chat("groq/m", logprobs=True)
        assert reply.status == 400
        assert "`logprobs` cannot be had there" in reply.error["message"]
        assert a.requests == b.requests == []


async def test_bounds_of_own_engines(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hello"))) as a,
        running_gateway(
            settings(nodes={"box": node(a, models=[{"name": "m", "context": 4096}])}), tmp_path
        ) as gateway,
    ):
        reply = await gateway.chat(max_tokens=100_000)
        assert body_of(a)["max_tokens"] == 4096
        assert reply.header(LEFT_OUT) == "max_tokens"
        assert (await gateway.entry()).note == "for box/openai/m: max_tokens lowered to 4096"


async def test_hints_of_a_translated_request_stay_with_own_engines(tmp_path):
    async with (
        openai_engine(respond_json(500, error("broken"))) as a,
        openai_engine(respond_json(200, answer("hello"))) as b,
        running_gateway(
            settings(
                nodes={"box": node(a)},
                providers={"x": provider(b, kind="xai")},
                roles={"r": chain("box/m", "x/m")},
            ),
            tmp_path,
        ) as gateway,
        anthropic.AsyncAnthropic(base_url=gateway.url, api_key=MASTER_KEY, max_retries=0) as client,
    ):
        await client.messages.create(
            model="r",
            max_tokens=50,
            extra_body={"top_k": 4},
            thinking={"type": "disabled"},
            messages=[{"role": "user", "content": "hi"}],
        )
        assert body_of(a)["top_k"] == 4
        assert body_of(a)["chat_template_kwargs"] == {"enable_thinking": False}
        assert body_of(b).keys() <= {"model", "messages", "max_tokens", "stream", "stream_options"}


async def test_explain_tells_it_before(tmp_path):
    async with (
        openai_engine() as a,
        openai_engine() as b,
        running_gateway(
            settings(
                nodes={"box": node(a)},
                providers={"groq": provider(b, kind="groq"), "claude": provider(b, kind="anthropic")},
                roles={"r": chain("box/m", "groq/m", "claude/m")},
            ),
            tmp_path,
        ) as gateway,
    ):
        asked = {"messages": [{"role": "user", "content": "hi"}], "top_k": 3, "seed": 5, "chat_template": "x"}
        form = {"model": "r", "body": asked}
        plan = (await gateway.post("/admin/api/explain", form)).json()
        told = {row["deployment"]: row["changes"] for step in plan["steps"] for row in step["candidates"]}
        assert told == {
            "box/openai/m": ["chat_template left out: a template is a program: engines run their own only"],
            "groq/m": ["top_k left out: it refuses members that it does not know"],
            "claude/m": [
                "seed left out: its dialect has no such thing",
                "chat_template left out: its dialect has no such thing",
            ],
        }
        form["body"] |= {"n": 9}
        plan = (await gateway.post("/admin/api/explain", form)).json()
        told = [row["changes"] for step in plan["steps"] for row in step["candidates"]]
        assert [one[0].split(":")[0] for one in told] == ["refused", "refused", "refused"]
        plan = (await gateway.get("/admin/api/explain?model=r")).json()
        assert plan["steps"][0]["candidates"][0]["changes"] == []
        assert a.requests == b.requests == []


async def test_who_cannot_leaves_others_their_turn(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hello"))) as a,
        openai_engine(respond_json(200, answer("hello"))) as b,
        running_gateway(
            settings(
                nodes={"box": node(b)},
                providers={"groq": provider(a, kind="groq")},
                roles={"r": chain("groq/m", "box/m")},
            ),
            tmp_path,
        ) as gateway,
    ):
        reply = await gateway.chat("r", logprobs=True)
        assert (reply.status, a.requests) == (200, [])
        assert body_of(b)["logprobs"] is True
        entry = await gateway.entry()
        assert [one.outcome for one in entry.attempts] == ["absent_feature", "ok"]
        assert [one.dispatched for one in entry.attempts] == [False, True]
        assert reply.header("x-fleetgate-attempts") == "1"
