"""Conversations go where they went before, and what a request needs decides who may answer it."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.support.gateway import answer, node, openai_engine, running_gateway, settings
from tests.support.upstreams import respond_json, stall, tell

pytestmark = pytest.mark.asyncio
ROLE = {"use": ["a/m", "b/m"], "policy": "spread"}
YES = respond_json(200, answer("yes"))
TEXT = "a rather long story about a lighthouse and its keeper " * 12


@asynccontextmanager
async def house(tmp_path, *models, script=YES, **blocks):
    """A gateway that asks two engines in turn."""
    first, second = models or ({}, {})
    async with openai_engine(script) as a, openai_engine(script) as b:
        nodes = {"a": node(a, **first), "b": node(b, **second)}
        text = settings(nodes=nodes, roles={"r": ROLE}, **blocks)
        async with running_gateway(text, tmp_path) as gateway:
            yield gateway, lambda: [len(a.requests), len(b.requests)]


def said(*texts):
    return [{"role": "user", "content": text} for text in texts]


async def test_without_anything_to_know_it_by_requests_are_spread(tmp_path):
    async with house(tmp_path) as (gateway, counts):
        for _ in range(4):
            assert (await gateway.chat("r")).status == 200
        assert counts() == [2, 2]


@pytest.mark.parametrize(
    "name",
    [
        *("x-fleetgate-conversation", "x-session-id", "x-claude-code-session-id", "session-id"),
        *("x-session-affinity", "x-openwebui-chat-id", "x-my"),
    ],
)
async def test_a_named_conversation_stays_where_it_was(tmp_path, name):
    async with house(tmp_path, affinity={"headers": ["X-My"]}) as (gateway, counts):
        for _ in range(4):
            assert (await gateway.chat("r", headers={name: "talk-1"})).status == 200
        assert sorted(counts()) == [0, 4]


async def test_the_name_is_not_passed_on(tmp_path):
    async with openai_engine(YES) as engine:
        async with running_gateway(settings(nodes={"a": node(engine)}), tmp_path) as gateway:
            await gateway.chat("m", headers={"x-session-id": "talk-1"})
        assert engine.requests[0].header("x-session-id") is None


async def test_a_prompt_that_goes_on_stays_where_its_beginning_was(tmp_path):
    async with house(tmp_path) as (gateway, counts):
        texts = [TEXT]
        for _ in range(4):
            assert (await gateway.chat("r", messages=said(*texts))).status == 200
            texts += ["an answer", "and then?"]
        assert sorted(counts()) == [0, 4]


async def test_other_prompts_are_spread_all_the_same(tmp_path):
    async with house(tmp_path) as (gateway, counts):
        for number in range(4):
            assert (await gateway.chat("r", messages=said(f"{number} {TEXT}"))).status == 200
        assert counts() == [2, 2]


async def test_it_can_be_switched_off(tmp_path):
    async with house(tmp_path, affinity={"keep": "0s"}) as (gateway, counts):
        for _ in range(4):
            await gateway.chat("r", headers={"x-session-id": "talk-1"}, messages=said(TEXT))
        assert counts() == [2, 2]


async def test_a_popular_beginning_does_not_crowd_one_machine(tmp_path):
    """Whoever is clearly busier gives way, whatever it holds."""
    arrived, may_end = asyncio.Event(), asyncio.Event()
    slow = [tell(arrived), stall(may_end), *YES]
    async with house(tmp_path, script=slow) as (gateway, counts):
        may_end.set()
        await gateway.chat("r", messages=said(TEXT))
        may_end.clear()
        holder = counts().index(1)
        async with asyncio.TaskGroup() as asking:
            for _ in range(4):
                arrived.clear()
                asking.create_task(gateway.chat("r", messages=said(TEXT)))
                await arrived.wait()
            found = counts()
            may_end.set()
        assert (found[holder], found[1 - holder]) == (4, 1)


PICTURE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("does", "asked"),
    [
        ("vision", {"messages": [{"role": "user", "content": PICTURE}]}),
        ("tools", {"tools": TOOLS}),
    ],
)
async def test_only_those_are_asked_that_can_do_what_is_needed(tmp_path, does, asked):
    models = [
        {"models": [{"name": "m", "does": ["chat"]}]},
        {"models": [{"name": "m", "does": ["chat", does]}]},
    ]
    async with house(tmp_path, *models) as (gateway, counts):
        for _ in range(2):
            assert (await gateway.chat("r", **asked)).status == 200
        assert counts() == [0, 2]
        for _ in range(2):
            await gateway.chat("r")
        assert counts()[0] >= 1
