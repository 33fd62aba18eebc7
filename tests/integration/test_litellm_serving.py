"""A LiteLLM file, served as it is: groups, aliases, fallbacks, its master key."""

import pytest
from tests.gateway.pairs import good
from tests.support.caller import MASTER_KEY
from tests.support.gateway import error, gateway_process, openai_engine
from tests.support.upstreams import respond_json

pytestmark = pytest.mark.asyncio

FILE = """
model_list:
  - model_name: chat
    litellm_params: {{model: openai/m, api_base: "http://127.0.0.1:{first}/v1", api_key: none}}
  - model_name: cloud
    litellm_params: {{model: openai/n, api_base: "http://127.0.0.1:{second}/v1", api_key: os.environ/KEY}}
  - model_name: long
    litellm_params: {{model: openai/l, api_base: "http://127.0.0.1:{third}/v1", api_key: none}}
router_settings:
  fallbacks: [{{chat: [cloud]}}]
  context_window_fallbacks: [{{cloud: [long]}}]
  model_group_alias: {{gpt-4: chat}}
  num_retries: 1
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
"""
GIVEN = {"FLEETGATE_MASTER_KEY": "", "LITELLM_MASTER_KEY": MASTER_KEY}
TOO_LONG = error("too long", code="context_length_exceeded")


async def test_it_answers_and_falls_back(tmp_path):
    async with (
        openai_engine(respond_json(500, error("boom"))) as first,
        good("fallback", models=["n"]) as second,
        good(models=["l"]) as third,
    ):
        text = FILE.format(first=first.port, second=second.port, third=third.port)
        async with gateway_process(text, tmp_path, GIVEN) as gateway:
            listed = (await gateway.get("/v1/models")).json()["data"]
            assert {"chat", "cloud", "long", "gpt-4"} <= {row["id"] for row in listed}
            for name, stream in (("chat", False), ("gpt-4", True)):
                reply = await gateway.chat(name, stream=stream)
                assert (reply.status, reply.text) == (200, "fallback")
            assert first.requests
            assert [one.json()["model"] for one in second.requests] == ["n", "n"]
            assert second.requests[0].header("authorization") == "Bearer provider-key-0123456789"
            wrong = await gateway.request("GET", "/v1/models", headers={"authorization": "Bearer nobody's"})
            assert wrong.status == 401


async def test_its_fallback_for_long_prompts(tmp_path):
    async with (
        good() as first,
        openai_engine(respond_json(400, TOO_LONG), models=["n"]) as second,
        good("more", models=["l"]) as third,
    ):
        text = FILE.format(first=first.port, second=second.port, third=third.port)
        async with gateway_process(text, tmp_path, GIVEN) as gateway:
            assert (await gateway.chat("cloud")).text == "more"
            assert (len(second.requests), len(third.requests), first.requests) == (1, 1, [])
