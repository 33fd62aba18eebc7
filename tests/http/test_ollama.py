"""Ollama's façade: the names that are listed, those in memory, and requests that only load."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.gateway import answer, chain, node, openai_engine, provider, running_gateway, settings
from tests.support.ollama import OllamaMachine
from tests.support.upstreams import respond_json

pytestmark = pytest.mark.asyncio

SIGNS = {"keep_alive": {"first": "20ms", "every": "20ms"}}
LOAD = {"model": "chat"}


def house(machine, **blocks):
    blocks.setdefault("health", {"every": "50ms"})
    blocks.setdefault("roles", {"chat": chain("pc/small"), "big": chain("pc/large")})
    return settings(nodes={"pc": node(machine, kind="ollama")}, **blocks)


async def known(gateway, *loaded):
    def stands(name):
        found = gateway.app.fleet.deployments.get(f"pc/ollama/{name}")
        return found is not None and found.resident is (name in loaded)

    await gateway.until(lambda: stands("small") and stands("large"))


def names(reply):
    return {one["name"] for one in reply.json()["models"]}


def lines(reply):
    return [json.loads(line) for line in reply.body.splitlines()]


# --- what is in memory ----------------------------------------------------------------------------------


async def test_names_in_memory_are_among_those_that_are_listed(tmp_path):
    async with (
        OllamaMachine("small", "large") as machine,
        running_gateway(house(machine), tmp_path) as gateway,
    ):
        await known(gateway)
        assert names(await gateway.get("/api/ps")) == set()
        machine.loaded["small:latest"] = "2100-01-01T00:00:00Z"
        await known(gateway, "small")
        tags, ps = await gateway.get("/api/tags"), await gateway.get("/api/ps")
        assert {"chat:latest", "big:latest"} <= names(tags)
        assert "chat:latest" in names(ps) <= names(tags)
        assert "big:latest" not in names(ps)
        row = next(one for one in ps.json()["models"] if one["name"] == "chat:latest")
        listed = next(one for one in tags.json()["models"] if one["name"] == "chat:latest")
        assert row["digest"] == listed["digest"]
        assert (row["size"], row["size_vram"], row["context_length"]) == (1000, 1000, 4096)
        assert row["expires_at"].startswith("2318-")  # longer than ten years is for ever


async def test_a_name_is_in_memory_wherever_its_model_is_and_leaves_when_its_engine_says_so(tmp_path):
    roles = {"chat": chain("cloud/m", "pc/small")}
    async with (
        openai_engine() as cloud,
        OllamaMachine("small", "large") as machine,
        running_gateway(
            house(machine, roles=roles, providers={"cloud": provider(cloud)}), tmp_path
        ) as gateway,
    ):
        leaves = datetime.fromtimestamp(gateway.app.gateway.wall(), UTC) + timedelta(hours=1)
        machine.loaded["small:latest"] = leaves.isoformat()
        await known(gateway, "small")
        (row,) = (
            one for one in (await gateway.get("/api/ps")).json()["models"] if one["name"] == "chat:latest"
        )
        assert row["size"] == 1000
        assert abs(datetime.fromisoformat(row["expires_at"]) - leaves) < timedelta(minutes=1)


# --- requests that only load ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_a_request_that_only_loads_is_answered_when_the_model_is_there(tmp_path, path):
    async with (
        OllamaMachine("small", "large") as machine,
        running_gateway(house(machine), tmp_path) as gateway,
    ):
        await known(gateway)
        machine.gate.clear()
        asked = asyncio.get_running_loop().create_task(gateway.post(path, {**LOAD, "keep_alive": "9m"}))
        await machine.until(lambda: machine.loads)
        assert not asked.done()
        machine.gate.set()
        reply = await asked
        assert reply.status == 200
        assert reply.header("x-fleetgate-left-out") == "keep_alive"
        (told,) = lines(reply)
        assert (told["done"], told["done_reason"], told["model"]) == (True, "load", "chat")
        assert gateway.deployment("pc/ollama/small").resident is True
        assert machine.chats == []


async def test_what_is_there_is_answered_at_once(tmp_path):
    async with (
        OllamaMachine("small", "large") as machine,
        running_gateway(house(machine), tmp_path) as gateway,
    ):
        machine.loaded["small:latest"] = "2100-01-01T00:00:00Z"
        await known(gateway, "small")
        assert (await gateway.post("/api/generate", LOAD)).json()["done_reason"] == "load"
        assert machine.loads == []


async def test_what_needs_no_load_is_answered_at_once(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("x"))) as engine,
        running_gateway(settings(nodes={"n": node(engine)}), tmp_path) as gateway,
    ):
        assert (await gateway.post("/api/chat", {"model": "m", "messages": []})).json()[
            "done_reason"
        ] == "load"
        assert (await gateway.post("/api/embed", {"model": "m", "input": []})).json()["embeddings"] == []
        assert engine.requests == []


async def test_signs_of_life_while_it_loads(tmp_path):
    async with (
        OllamaMachine("small", "large") as machine,
        running_gateway(house(machine, gateway=SIGNS), tmp_path) as gateway,
        gateway.caller() as caller,
    ):
        await known(gateway)
        machine.gate.clear()
        await caller.ask("POST", "/api/generate", gateway.headers(), json.dumps(LOAD).encode())
        head = await caller.head()
        assert head.header("content-type") == "application/x-ndjson"
        await caller.until(b'"done":false}\n')
        machine.gate.set()
        told = lines(await caller.rest())
        assert [one["done"] for one in told] == [False] * (len(told) - 1) + [True]
        assert told[-1]["done_reason"] == "load"


async def test_a_load_that_fails_is_an_error(tmp_path):
    async with (
        OllamaMachine("small", "large") as machine,
        running_gateway(house(machine), tmp_path) as gateway,
    ):
        await known(gateway)
        machine.broken["small:latest"] = respond_json(500, {"error": "not enough memory for it"})
        reply = await gateway.post("/api/generate", LOAD)
        assert reply.status in (502, 503)
        assert "not enough memory for it" in reply.json()["error"]


async def test_a_load_that_fails_behind_signs_of_life_is_an_error_line(tmp_path):
    async with (
        OllamaMachine("small", "large") as machine,
        running_gateway(house(machine, gateway=SIGNS), tmp_path) as gateway,
        gateway.caller() as caller,
    ):
        await known(gateway)
        machine.gate.clear()
        machine.broken["small:latest"] = respond_json(500, {"error": "not enough memory for it"})
        await caller.ask("POST", "/api/generate", gateway.headers(), json.dumps(LOAD).encode())
        await caller.head()
        await caller.until(b'"done":false}\n')
        machine.gate.set()
        *signs, last = lines(await caller.rest())
        assert not any(one["done"] for one in signs)
        assert "not enough memory for it" in last["error"]


async def test_a_load_goes_on_without_the_one_who_asked_for_it(tmp_path):
    async with (
        OllamaMachine("small", "large") as machine,
        running_gateway(house(machine), tmp_path) as gateway,
    ):
        await known(gateway)
        machine.gate.clear()
        async with gateway.caller() as caller:
            await caller.ask("POST", "/api/generate", gateway.headers(), json.dumps(LOAD).encode())
            await machine.until(lambda: machine.loads)
        assert (await gateway.entry()).outcome == "caller_gone"
        machine.gate.set()
        await known(gateway, "small")
        assert machine.aborted == []


async def test_unloading_is_refused_and_unloads_nothing(tmp_path):
    async with (
        OllamaMachine("small", "large") as machine,
        running_gateway(house(machine), tmp_path) as gateway,
    ):
        machine.loaded["small:latest"] = "2100-01-01T00:00:00Z"
        await known(gateway, "small")
        reply = await gateway.post("/api/generate", {**LOAD, "keep_alive": 0})
        assert reply.status == 403
        assert reply.json()["code"] == "not_managed_here"
        asked = {**LOAD, "messages": [{"role": "user", "content": "hi"}], "stream": False, "keep_alive": 0}
        reply = await gateway.post("/api/chat", asked)
        assert reply.json()["message"]["content"] == "from small:latest"
        assert machine.unloads == []


# --- what was left out ----------------------------------------------------------------------------------


async def test_what_the_dialect_and_who_answers_leave_out_is_one_line(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("x"))) as engine,
        running_gateway(settings(providers={"groq": provider(engine, kind="groq")}), tmp_path) as gateway,
    ):
        body = {**LOAD, "model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False}
        async with gateway.caller() as caller:
            told = {**body, "options": {"num_ctx": 8, "top_k": 4}}
            await caller.ask("POST", "/api/chat", gateway.headers(), json.dumps(told).encode())
            reply = await caller.head()
            assert [text for name, text in reply.headers if name == "x-fleetgate-left-out"] == [
                "options.num_ctx, top_k"
            ]
            await caller.rest()
