"""`examples/ai-fabric`: workstations that are off cost nothing, raise no alarm, and are woken."""

from __future__ import annotations

import openai
import pytest
from tests.support.example import example

pytestmark = pytest.mark.asyncio

TEN = {
    *("chat-fast", "chat-deep", "embeddings-general"),
    *("local/chat", "local/reasoner", "local/embed"),
    *("qwen2.5-7b-armitage", "qwen2.5-14b-finn"),
    *("openai/strong", "openai/cheap"),
}
HELLO = [{"role": "user", "content": "hello"}]
OFF = ("finn", "armitage")
FINN, ARMITAGE, RACK = "finn/vllm/qwen2.5-14b", "armitage/vllm/qwen2.5-7b", "rack/vllm/bge-base"
STRONG, CHEAP = "openai/gpt-5.6-sol", "openai/gpt-5.6-terra"


def by(reply):
    return reply.header("x-fleetgate-deployment")


async def presence(gateway, **nodes):
    """Until the machines are seen so."""
    await gateway.until(
        lambda: all(gateway.app.fleet.nodes[name].presence == seen for name, seen in nodes.items())
    )


async def test_ten_names(tmp_path):
    async with (
        example("ai-fabric", tmp_path, asleep=OFF) as (gateway, _),
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client,
    ):
        names = [one.id async for one in client.models.list()]
        assert len(names) == 10
        assert {*names} == TEN
        for name in TEN:
            assert (await client.models.retrieve(name)).id == name


async def test_every_role_and_alias_answers_while_all_are_on(tmp_path):
    async with example("ai-fabric", tmp_path) as (gateway, _):
        await presence(gateway, rack="awake", finn="awake", armitage="awake")
        expected = {
            "chat-fast": ARMITAGE,
            "local/chat": ARMITAGE,
            "qwen2.5-7b-armitage": ARMITAGE,
            "chat-deep": FINN,
            "local/reasoner": FINN,
            "qwen2.5-14b-finn": FINN,
            "openai/strong": STRONG,
            "openai/cheap": CHEAP,
        }
        assert {name: by(await gateway.chat(name)) for name in expected} == expected
        for name in ("embeddings-general", "local/embed"):
            reply = await gateway.post("/v1/embeddings", {"model": name, "input": "hello"})
            assert (reply.status, by(reply)) == (200, RACK)
            assert len(reply.json()["data"][0]["embedding"]) == 768


async def test_machines_that_are_off_by_design_are_asleep_and_nothing_else(tmp_path):
    """No alarm, no breaker, no request that waits for them; the gateway is well, and their models listed."""
    async with example("ai-fabric", tmp_path, asleep=OFF) as (gateway, machines):
        await presence(gateway, rack="awake", finn="asleep", armitage="asleep")
        health = (await gateway.get("/readyz?verbose")).json()
        assert (health["nodes"]["asleep"], health["nodes"]["missing"], health["degraded"]) == (2, 0, [])
        rows = {row["deployment"]: row for row in (await gateway.get("/admin/api/models")).json()["rows"]}
        assert {FINN, ARMITAGE} <= {*rows}
        assert {rows[one]["presence"] for one in (FINN, ARMITAGE)} == {"asleep"}
        reply = await gateway.post("/v1/embeddings", {"model": "embeddings-general", "input": "hello"})
        assert reply.status == 200
        warned = [line for line in gateway.log.lines if line["level"] in ("warning", "error")]
        assert warned == []
        assert all(not machines.machine(one).wakes for one in OFF)  # nobody asked for them


async def test_the_cloud_answers_while_a_workstation_boots_and_then_the_workstation(tmp_path):
    """However many ask, it is woken once, and the other one sleeps on."""
    async with example("ai-fabric", tmp_path, asleep=OFF) as (gateway, machines):
        await presence(gateway, finn="asleep", armitage="asleep")
        meanwhile = [await gateway.chat("chat-deep") for _ in range(3)]
        assert by(meanwhile[0]) == STRONG
        assert {reply.status for reply in meanwhile} == {200}
        await presence(gateway, finn="awake")
        await gateway.until(lambda: gateway.engine("finn/vllm").alive)
        assert by(await gateway.chat("chat-deep")) == FINN
        assert machines.machine("finn").boots == 1
        assert gateway.app.fleet.nodes["armitage"].presence == "asleep"


async def test_a_physical_name_waits_for_its_machine(tmp_path):
    """There is nobody else for it: the caller gets signs of life, and then the answer."""
    async with (
        example("ai-fabric", tmp_path, asleep=OFF) as (gateway, _),
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client,
    ):
        await presence(gateway, finn="asleep", armitage="asleep")
        for name, deployment in (("qwen2.5-14b-finn", FINN), ("qwen2.5-7b-armitage", ARMITAGE)):
            raw = await client.chat.completions.with_raw_response.create(model=name, messages=HELLO)
            assert raw.headers["x-fleetgate-deployment"] == deployment
            assert raw.parse().choices[0].message.content


async def test_a_machine_that_nobody_may_wake_answers_at_once_that_it_sleeps(tmp_path):
    def by_hand(tree):
        tree["nodes"]["armitage"]["power"] = "manual"
        del tree["nodes"]["armitage"]["wake"]

    async with example("ai-fabric", tmp_path, change=by_hand, asleep=OFF) as (gateway, machines):
        await presence(gateway, finn="asleep", armitage="asleep")
        reply = await gateway.chat("qwen2.5-7b-armitage")
        assert (reply.status, reply.error["code"]) == (503, "node_asleep")
        assert "armitage" in reply.error["message"]
        machines.machine("armitage").switch_on()  # by hand
        await machines.machine("armitage").up.wait()
        gateway.app.fleet.on_look_wanted(gateway.engine("armitage/vllm"))  # in life every ten seconds
        await gateway.logged("node_presence", node="armitage", presence="awake")
        await gateway.until(lambda: gateway.engine("armitage/vllm").alive)
        assert by(await gateway.chat("qwen2.5-7b-armitage")) == ARMITAGE


async def test_the_absence_of_the_server_is_a_fault(tmp_path):
    async with example("ai-fabric", tmp_path) as (gateway, machines):
        await presence(gateway, rack="awake")
        machines.machine("rack").switch_off()
        line = await gateway.logged("node_presence", node="rack", presence="missing")
        assert line["level"] == "warning"
        reply = await gateway.post("/v1/embeddings", {"model": "embeddings-general", "input": "hello"})
        assert reply.status == 503


async def test_each_application_has_a_rate_of_its_own(tmp_path):
    def few(tree):
        tree["limits"][0]["requests"] = 2

    async with example("ai-fabric", tmp_path, change=few) as (gateway, _):
        await presence(gateway, armitage="awake")
        keys = []
        for alias in ("notes", "editor"):
            made = await gateway.post("/admin/api/keys", {"alias": alias, "names": ["chat-fast"]})
            keys.append({"authorization": f"Bearer {made.json()['secret']}"})
        found = [(await gateway.chat("chat-fast", headers=key)).status for key in keys for _ in range(3)]
        assert found == [200, 200, 429, 200, 200, 429]
