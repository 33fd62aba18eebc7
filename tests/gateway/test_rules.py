"""Rules of the file at work, and models that are retired: what is sent, and who is told."""

from __future__ import annotations

import json

import pytest
from tests.support.gateway import answer, error, node, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import respond_json

from fleetgate.errors import FailureClass as F
from fleetgate.http import answers

pytestmark = pytest.mark.asyncio

RULES = [
    {"drop": "logit_bias"},
    {"rename": "max_tokens", "to": "max_completion_tokens"},
    {"clamp": "temperature", "to": 1.0},
    {"map": "reasoning_effort", "values": {"minimal": "low"}},
    {"reject": "n", "why": "one answer costs enough"},
]
ASKED = {"logit_bias": {"5": 1}, "max_tokens": 9, "temperature": 1.7, "reasoning_effort": "minimal"}


async def providers_of(gateway):
    reply = await gateway.get("/admin/api/providers")
    answers.Providers.model_validate_json(reply.body, strict=True)
    return reply.json()["rows"]


@pytest.mark.parametrize("own", [True, False])
async def test_what_the_file_says_is_done_told_and_counted(tmp_path, own):
    async with openai_engine(respond_json(200, answer("hello"))) as engine:
        blocks = (
            {"nodes": {"box": node(engine, rules=RULES, models=[{"name": "m"}])}}
            if own
            else {"providers": {"p": provider(engine, rules=RULES)}}
        )
        async with running_gateway(settings(**blocks), tmp_path) as gateway:
            reply = await gateway.chat("m", **ASKED)
            sent = json.loads(engine.requests[0].body)
            assert {name: sent[name] for name in sent if name not in ("model", "messages")} == {
                "max_completion_tokens": 9,
                "temperature": 1,
                "reasoning_effort": "low",
            }
            assert reply.header("x-fleetgate-left-out") == "logit_bias, temperature, reasoning_effort"
            assert "max_tokens sent as max_completion_tokens" in (await gateway.entry()).note
            reply = await gateway.chat("m", n=2)
            assert (reply.status, reply.error["class"]) == (400, F.ABSENT_FEATURE.value)
            assert "one answer costs enough" in reply.error["message"]
            assert len(engine.requests) == 1
            applied = next(iter(gateway.app.gateway.fleet.engines.values())).applied
            assert applied == {
                ("logit_bias", "left out"): 1,
                ("max_tokens", "renamed"): 1,
                ("temperature", "clamped"): 1,
                ("reasoning_effort", "changed"): 1,
                ("n", "refused"): 1,
            }


async def test_people_see_how_often_rules_fired(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hello"))) as engine,
        running_gateway(settings(providers={"p": provider(engine, kind="gemini")}), tmp_path) as gateway,
    ):
        for number in range(3):
            await gateway.chat("m", **{f"made_up_{number}": 1, "seed": 1})
        (row,) = await providers_of(gateway)
        assert row["rules"] == [{"member": "other", "deed": "left out", "count": 6}]


async def test_embeddings_have_the_file_s_rules_alone(tmp_path):
    vectors = {"object": "list", "data": [{"embedding": [0.1], "index": 0}], "usage": {"prompt_tokens": 1}}
    async with (
        openai_engine(respond_json(200, vectors)) as engine,
        running_gateway(
            settings(providers={"p": provider(engine, kind="gemini", rules=[{"drop": "encoding_format"}])}),
            tmp_path,
        ) as gateway,
    ):
        await gateway.post(
            "/v1/embeddings", {"model": "p/m", "input": "x", "encoding_format": "float", "user": "u"}
        )
        assert json.loads(engine.requests[0].body) == {"model": "m", "input": "x", "user": "u"}


async def test_a_rule_is_suggested_where_a_provider_names_what_it_does_not_take(tmp_path):
    refusal = respond_json(400, error("Unknown parameter: 'odd'.", type="invalid_request_error"))
    async with (
        openai_engine(refusal) as engine,
        running_gateway(
            settings(providers={"p": provider(engine)}, nodes={"box": node(engine)}), tmp_path
        ) as gateway,
    ):
        reply = await gateway.chat("p/m", odd=1)
        assert (
            "Unknown parameter: 'odd'; `rules: [{drop: odd}]` at p would leave it out"
            in reply.error["message"]
        )
        assert "rules:" not in (await gateway.chat("box/m", odd=1)).error["message"]


OLD = [{"id": "gpt-4", "name": "m", "price": {"request": "0 USD"}}]


async def test_an_address_that_may_be_anybody_s_is_not_warned_of(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hello"))) as engine,
        running_gateway(settings(providers={"p": provider(engine, models=OLD)}), tmp_path) as gateway,
    ):
        assert (await gateway.chat("p/m")).header("x-fleetgate-warning") is None
        assert "model_retires" not in {line.get("event") for line in gateway.log.lines}


async def test_a_retired_model_is_told_of_once_in_the_log_and_in_every_answer(tmp_path):
    models = [{"id": "grok-3", "name": "m", "price": {"request": "0 USD"}}]
    missing = respond_json(404, error("The model grok-3 does not exist."))
    async with (
        openai_engine(
            respond_json(200, answer("hello")), respond_json(200, answer("hello")), missing
        ) as engine,
        running_gateway(
            settings(providers={"p": provider(engine, kind="xai", models=models)}), tmp_path
        ) as gateway,
    ):
        words = "p/m: it was retired on 2026-05-15; use grok-4.3"
        for _ in range(2):
            assert (await gateway.chat("p/m")).header("x-fleetgate-warning") == words
        told = [line for line in gateway.log.lines if line["event"] == "model_retires"]
        assert [(line["deployment"], line["on"]) for line in told] == [("p/m", "2026-05-15")]
        reply = await gateway.chat("p/m")
        assert reply.status == 404
        assert "does not exist; it was retired on 2026-05-15; use grok-4.3" in reply.error["message"]
        (row,) = await providers_of(gateway)
        assert {name: row["models"][0][name] for name in ("retires", "retired", "successor")} == {
            "retires": "2026-05-15",
            "retired": True,
            "successor": "grok-4.3",
        }


async def test_a_list_of_models_is_told_of_at_once(tmp_path):
    listed = ("grok-3", "grok-4-0709", "grok-9")
    block = {**provider(0, kind="xai"), "price": {"request": "0 USD"}}
    async with openai_engine(respond_json(200, answer("hello")), models=listed) as engine:
        block |= {"url": f"http://127.0.0.1:{engine.port}/v1"}
        del block["models"]
        async with running_gateway(settings(providers={"p": block}), tmp_path) as gateway:
            line = await gateway.logged("models_retire", engine="p")
            assert line["models"] == ["grok-3", "grok-4-0709"]
            await gateway.chat("p/grok-3")
            assert "model_retires" not in {line.get("event") for line in gateway.log.lines}
