"""`examples/k8s-chain`: three tiers with their times, and free tiers with their daily quotas beside them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import openai
import pytest
from tests.support.example import engine, example, fault
from tests.support.postgres import needs_postgres
from tests.support.redis import needs_redis, redis_running

pytestmark = pytest.mark.asyncio

GPU, CPU, CLOUD = "gpu/vllm/qwen-gpu", "cpu/ollama/qwen2.5:7b", "openai/gpt-4o"
HELLO = [{"role": "user", "content": "hello"}]
QUICKER = 20
"""How many times shorter the limits are here; the engines are quicker than life by more than that."""


def alone(tree):
    """The times of the chain twenty times as short."""
    tree["gateway"]["lame_duck"] = "0s"
    for step in tree["roles"]["vllm-qwen"]["use"]:
        step["first_token"] = f"{int(step['first_token'].removesuffix('s')) * 1000 // QUICKER}ms"


def few(tree):
    """The same, with quotas that are reached."""
    alone(tree)
    tree["providers"]["groq"]["limits"][0]["requests"] = 3
    tree["providers"]["gemini"]["limits"][0]["requests"] = 2


async def there(gateway):
    await gateway.until(
        lambda: all(one.alive for one in gateway.app.fleet.engines.values() if one.node.local)
    )


async def well_again(gateway, machines):
    """Until the tiers said that they are not at work on what nobody waits for any more."""
    for one in ("gpu/vllm", "cpu/ollama"):
        fault(machines, one, "")
        await gateway.until(lambda one=one: not gateway.engine(one).in_flight)


async def test_each_tier_answers_when_the_one_before_does_not_begin_in_time(tmp_path):
    """Streams and whole answers alike, and with OpenAI's own client."""

    def hurried(tree):
        alone(tree)
        tree["roles"]["vllm-qwen"]["use"][1]["first_token"] = "600ms"

    async with (
        example("k8s-chain", tmp_path, change=hurried) as (gateway, machines),
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client,
    ):
        await there(gateway)
        assert (await gateway.chat("vllm-qwen")).header("x-fleetgate-deployment") == GPU
        fault(machines, "gpu/vllm", "hang")
        raw = await client.chat.completions.with_raw_response.create(model="default", messages=HELLO)
        assert raw.headers["x-fleetgate-deployment"] == CPU
        assert raw.headers["x-fleetgate-attempts"] == "2"
        assert raw.parse().choices[0].finish_reason == "stop"
        fault(machines, "cpu/ollama", "hang")
        third = await gateway.chat("vllm-qwen", stream=True)
        assert (third.status, third.header("x-fleetgate-deployment")) == (200, CLOUD)
        assert third.events[-1] == "[DONE]"
        await well_again(gateway, machines)


async def test_the_chain_has_the_times_of_the_file(tmp_path):
    def as_written(tree):
        tree["gateway"]["lame_duck"] = "0s"

    async with example("k8s-chain", tmp_path, change=as_written) as (gateway, _):
        plan = (await gateway.get("/admin/api/explain?model=vllm-qwen")).json()
        assert [step["first_token_s"] for step in plan["steps"]] == [3, 120, 30]
        assert [[row["deployment"] for row in step["candidates"]] for step in plan["steps"]] == [
            [GPU],
            [CPU],
            [CLOUD],
        ]


async def test_the_name_of_a_tier_starts_the_chain_there(tmp_path):
    async with example("k8s-chain", tmp_path, change=alone) as (gateway, machines):
        await there(gateway)
        for name, first in (("ollama-qwen", CPU), ("openai-gpt4o", CLOUD)):
            assert (await gateway.chat(name)).header("x-fleetgate-deployment") == first
        assert list(engine(machines, "gpu/vllm").asked) == []


async def test_a_slow_load_on_a_lower_tier_ends_although_nobody_waited_for_it(tmp_path):
    """The CPU tier is too late for the first request, and warm for the second."""

    def hurried(tree):
        alone(tree)
        tree["roles"]["vllm-qwen"]["use"][1]["first_token"] = "100ms"

    async with example("k8s-chain", tmp_path, speed=5, change=hurried) as (gateway, machines):
        await there(gateway)
        fault(machines, "gpu/vllm", "refuse")
        tier = engine(machines, "cpu/ollama")
        assert tier.memory.resident() == ()
        assert (await gateway.chat("vllm-qwen")).header("x-fleetgate-deployment") == CLOUD
        await gateway.until(lambda: tier.memory.loads)
        assert tier.memory.aborted == []
        await gateway.until(lambda: gateway.deployment(CPU).resident)
        assert (await gateway.chat("vllm-qwen", max_tokens=4)).header("x-fleetgate-deployment") == CPU
        assert tier.memory.loads == ["qwen2.5:7b"]


async def test_the_parallel_models_are_in_no_chain_and_answer_by_name(tmp_path):
    async with example("k8s-chain", tmp_path, change=alone) as (gateway, machines):
        await there(gateway)
        plan = (await gateway.get("/admin/api/explain?model=vllm-qwen")).json()
        planned = {row["deployment"] for step in plan["steps"] for row in step["candidates"]}
        assert planned == {GPU, CPU, CLOUD}
        for name, deployment in (
            ("groq", "groq/gpt-oss-120b"),
            ("gemini", "gemini/gemini-2.5-flash"),
            ("mistral", "mistral/mistral-small-latest"),
        ):
            assert (await gateway.chat(name)).header("x-fleetgate-deployment") == deployment
        for one in ("gpu/vllm", "cpu/ollama", "openai"):
            fault(machines, one, "refuse")
        down = await gateway.chat("vllm-qwen")
        assert down.status == 503
        assert len(engine(machines, "groq").asked) == 1  # nothing of the chain went there


async def test_daily_quotas_are_enforced_shown_and_last_over_a_restart(tmp_path):
    async with example("k8s-chain", tmp_path, change=few) as (gateway, machines):
        for _ in range(3):
            assert (await gateway.chat("groq")).status == 200
        refused = await gateway.chat("groq")
        assert (refused.status, refused.error["code"]) == (429, "quota_exhausted")
        assert int(refused.header("retry-after") or 0) > 0
        assert len(engine(machines, "groq").asked) == 3
        assert (await gateway.chat("gemini")).status == 200  # each has its own
    async with example("k8s-chain", tmp_path, change=few) as (gateway, machines):
        assert (await gateway.chat("groq")).status == 429
        assert list(engine(machines, "groq").asked) == []
        assert (await gateway.chat("gemini")).status == 200
        assert (await gateway.chat("gemini")).status == 429


async def test_quotas_are_those_of_the_file_and_end_at_midnight_of_the_providers_zone(tmp_path):
    async with example("k8s-chain", tmp_path, change=alone) as (gateway, _):
        for provider, ceiling, zone in (("groq", 6_000, "UTC"), ("gemini", 1_500, "America/Los_Angeles")):
            assert (await gateway.chat(provider)).status == 200
            rows = (await gateway.get("/admin/api/limits")).json()["rows"]
            [row] = [row for row in rows if row["ceiling"] == ceiling]
            [counter] = row["counters"]
            assert (row["origin"], row["scope"], counter["used"]) == ("quota", {"provider": provider}, 1)
            midnight = datetime.fromisoformat(counter["frees_at"]).astimezone(ZoneInfo(zone))
            assert (midnight.hour, midnight.minute, midnight.second) == (0, 0, 0)
            now = datetime.now(UTC)  # noqa: TID251  (what is tested ends at a date)
            assert timedelta() < midnight - now <= timedelta(hours=25)


@needs_postgres
@needs_redis
async def test_replicas_share_the_quota_of_a_day(tmp_path, databases):
    url = databases.new()
    with redis_running() as redis:
        outside = {"database": url, "shared_state": redis.url}
        first, second = tmp_path / "first", tmp_path / "second"
        for directory in (first, second):
            (directory / "state").mkdir(parents=True)
            (directory / "state" / "keys.pepper").write_text("the same in both\n")
        async with (
            example("k8s-chain", first, change=few, outside=outside) as (one, _),
            example("k8s-chain", second, change=few, outside=outside) as (other, _),
        ):
            statuses = [(await gateway.chat("groq")).status for gateway in (one, other) * 4]
        assert statuses.count(200) == 3
        assert statuses[-1] == 429
    databases.drop(url)


async def test_the_probes_of_kubernetes_are_answered_without_a_key(tmp_path):
    async with example("k8s-chain", tmp_path, change=alone) as (gateway, machines):
        for path in ("/health/liveliness", "/health/readiness"):
            assert (await gateway.request("GET", path, headers={"authorization": ""})).status == 200
        assert [list(engine(machines, one).asked) for one in ("gpu/vllm", "cpu/ollama")] == [[], []]
