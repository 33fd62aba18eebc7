"""Steps, tries, seats and policies end to end: who is asked, in which order, and how often."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from tests.support.gateway import (
    MASTER_KEY,
    answer,
    chain,
    chat_body,
    content_frame,
    error,
    finish_frame,
    node,
    openai_engine,
    provider,
    role_frame,
    running_gateway,
    said,
    settings,
    usage_frame,
)
from tests.support.upstreams import refusing_port, respond_json, stall, stream_sse

from fleetgate.config.load import load
from fleetgate.errors import FailureClass
from fleetgate.health import Phase

pytestmark = pytest.mark.asyncio
F = FailureClass
FAILS = respond_json(500, error("boom"))
RATHER_MANY = {"health": {"every": "1h", "fails": 1000}}
"""no breaker opens"""


def says(text):
    return respond_json(200, answer(text))


def engines(*scripts):
    """Engines `a`, `b`, …, and the blocks of settings that name them as nodes."""
    return [openai_engine(script) for script in scripts]


def as_nodes(*found, **members):
    return {name: node(engine, **members) for name, engine in zip("abcdef", found, strict=False)}


def counts(*found):
    return [len(engine.requests) for engine in found]


# --- tries and attempts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "members", "asked"),
    [
        (["a/m"], {}, [2, 0, 0]),
        (["a/m", "b/m"], {}, [2, 1, 0]),
        (["a/m", "b/m", "c/m"], {}, [1, 1, 1]),
        (["a/m", "b/m", "c/m"], {"attempts": 1}, [1, 1, 1]),
        (["a/m", "b/m", "c/m"], {"attempts": 5}, [2, 2, 1]),
        ([{"pool": "a/m", "tries": 4}, "b/m"], {"attempts": 5}, [4, 1, 0]),
        ([{"pool": "a/m", "tries": 1}, "b/m"], {"attempts": 5}, [1, 2, 0]),
    ],
)
async def test_tries_of_a_step_and_attempts_of_an_exchange(tmp_path, steps, members, asked):
    """Every step is reached, whatever the steps before it used up."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(one) for one in engines(FAILS, FAILS, FAILS)]
        text = settings(nodes=as_nodes(*found), roles={"r": chain(*steps, **members)}, **RATHER_MANY)
        gateway = await stack.enter_async_context(running_gateway(text, tmp_path))
        reply = await gateway.chat("r")
        assert (reply.status, reply.error["class"]) == (502, F.SERVER_ERROR)
        assert counts(*found) == asked
        assert reply.header("x-fleetgate-attempts") == str(sum(asked))


async def test_engines_that_are_not_there_use_up_no_attempts(tmp_path):
    with refusing_port() as port:
        async with openai_engine(says("hi")) as a:
            gone = [{"kind": "openai", "port": port, "name": "x", "models": [{"name": "m"}]}]
            nodes = {"g": {"engines": gone}, "a": node(a)}
            roles = {"r": chain("g/m", "a/m", attempts=1)}
            async with running_gateway(settings(nodes=nodes, roles=roles), tmp_path) as gateway:
                reply = await gateway.chat("r")
                assert (reply.text, reply.header("x-fleetgate-attempts")) == ("hi", "1")


async def test_another_candidate_of_the_step_is_tried_before_the_same_one_again(tmp_path):
    async with (
        openai_engine(FAILS) as a,
        openai_engine(FAILS) as b,
        openai_engine(FAILS) as c,
        running_gateway(settings(nodes=as_nodes(a, b, c), attempts=4), tmp_path) as gateway,
    ):
        await gateway.chat("m")
        assert sorted(counts(a, b, c)) == [0, 1, 1]  # two tries


async def test_tries_inside_a_step_have_a_budget(tmp_path):
    """Three in ten seconds while there is little traffic: retries must not multiply an overload."""
    async with openai_engine(FAILS) as a, openai_engine(FAILS) as b, openai_engine(says("c")) as c:
        nodes = {"a": node(a), "b": node(b), "c": node(c, models=[{"name": "n"}])}
        text = settings(nodes=nodes, roles={"r": chain("m", "n")}, **RATHER_MANY)
        async with running_gateway(text, tmp_path) as gateway:
            for _ in range(4):
                reply = await gateway.chat("m")
                assert (reply.status, reply.error["class"]) == (502, F.SERVER_ERROR)
            assert sum(counts(a, b)) == 4 + 3
            reply = await gateway.chat("r")
            assert (reply.text, reply.header("x-fleetgate-attempts")) == ("c", "2")


async def test_every_step_is_reached_without_a_budget(tmp_path):
    async with openai_engine(FAILS) as a, openai_engine(FAILS) as b, openai_engine(says("c")) as c:
        text = settings(nodes=as_nodes(a, b, c), roles={"r": chain("a/m", "b/m", "c/m")}, **RATHER_MANY)
        async with running_gateway(text, tmp_path) as gateway:
            assert [(await gateway.chat("r")).text for _ in range(4)] == ["c"] * 4


async def test_what_only_says_no_needs_no_budget(tmp_path):
    """Long prompts go to the model with more context however many they are."""
    too_long = respond_json(400, error("too long", code="context_length_exceeded"))
    async with openai_engine(too_long) as a, openai_engine(says("hi")) as b:
        nodes = {"a": node(a, models=[{"name": "m", "context": 10}]), "b": node(b, models=[{"name": "n"}])}
        text = settings(nodes=nodes, roles={"r": chain("a/m", "b/n")})
        async with running_gateway(text, tmp_path) as gateway:
            assert [(await gateway.chat("r")).text for _ in range(8)] == ["hi"] * 8


async def test_moving_off_an_engine_as_it_dies_needs_no_budget(tmp_path):
    """Three streams use the budget up; those who were on the engine when it died move all the same."""
    die = asyncio.Event()
    async with openai_engine([stall(die), *FAILS]) as a, openai_engine(says("hi")) as b:
        roles = {"r": chain({"pool": "a/m", "tries": 1}, {"pool": "b/m", "tries": 1})}
        text = settings(nodes=as_nodes(a, b), roles=roles)
        async with running_gateway(text, tmp_path) as gateway:
            asked = [asyncio.get_running_loop().create_task(gateway.chat("r")) for _ in range(12)]
            await a.wait_for_requests(12)
            die.set()
            replies = await asyncio.gather(*asked)
            assert [reply.status for reply in replies] == [200] * 12


# --- steps ------------------------------------------------------------------------------------------------


async def test_a_name_may_start_the_chain_in_the_middle(tmp_path):
    async with openai_engine(says("a")) as a, openai_engine(says("b")) as b, openai_engine(says("c")) as c:
        roles = {"r": chain("a/m", {"pool": "b/m", "as": "middle"}, "c/m")}
        async with running_gateway(settings(nodes=as_nodes(a, b, c), roles=roles), tmp_path) as gateway:
            assert (await gateway.chat("r")).text == "a"
            assert (await gateway.chat("middle")).text == "b"
            names = [one["id"] for one in (await gateway.get("/v1/models")).json()["data"]]
            assert names == ["middle", "r"]


async def test_a_name_in_the_middle_goes_on_from_there(tmp_path):
    async with openai_engine(says("a")) as a, openai_engine(FAILS) as b, openai_engine(says("c")) as c:
        roles = {"r": chain("a/m", {"pool": "b/m", "as": "middle"}, "c/m")}
        async with running_gateway(settings(nodes=as_nodes(a, b, c), roles=roles), tmp_path) as gateway:
            assert (await gateway.chat("middle")).text == "c"
            assert len(a.requests) == 0


async def test_a_limit_on_the_first_token_holds_for_whole_answers_too(tmp_path):
    frames = [
        role_frame(),
        content_frame("Hel"),
        content_frame("lo"),
        finish_frame(reason="length"),
        usage_frame(5, 6),
        "[DONE]",
    ]
    async with openai_engine(stream_sse(frames)) as a:
        roles = {"r": chain({"pool": "a/m", "first_token": "5s"})}
        async with running_gateway(settings(nodes=as_nodes(a), roles=roles), tmp_path) as gateway:
            reply = await gateway.chat("r", temperature=0)
            sent = a.requests[0].json()
            assert sent["stream"] is True
            assert sent["stream_options"] == {"include_usage": True}
            assert sent["temperature"] == 0
            assert reply.header("content-type") == "application/json"
            assert reply.header("content-length") == str(len(reply.body))
            whole = reply.json()
            assert whole == {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Hello"},
                        "finish_reason": "length",
                    }
                ],
                "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
            }
            entry = await gateway.entry()
            assert (entry.streamed, entry.usage.output_tokens) == (False, 6)


async def test_own_machines_come_before_providers(tmp_path):
    async with openai_engine(FAILS) as a, openai_engine(says("cloud")) as cloud:
        text = settings(nodes=as_nodes(a), providers={"p": provider(cloud)})
        async with running_gateway(text, tmp_path) as gateway:
            reply = await gateway.chat("m")
            assert reply.text == "cloud"
            assert counts(a, cloud) == [2, 1]


async def test_only_local_never_asks_a_provider(tmp_path):
    async with openai_engine(FAILS) as a, openai_engine(says("cloud")) as cloud:
        policy = {"name": "least_busy", "only": "local"}
        text = settings(
            nodes=as_nodes(a), providers={"p": provider(cloud)}, roles={"r": {"use": ["m"], "policy": policy}}
        )
        async with running_gateway(text, tmp_path) as gateway:
            assert (await gateway.chat("r")).status == 502
            assert cloud.requests == []


# --- the last candidate ----------------------------------------------------------------------------------


async def test_the_last_candidate_is_asked_although_its_breaker_is_open(tmp_path):
    async with (
        openai_engine(*[FAILS] * 4, says("back")) as a,
        running_gateway(settings(nodes=as_nodes(a)), tmp_path) as gateway,
    ):
        for _ in range(2):
            assert (await gateway.chat("a/m")).status == 502
        breaker = gateway.deployment("a/openai/m").breaker
        assert breaker.phase(gateway.app.gateway.clock()) is not Phase.CLOSED
        assert counts(a) == [4]
        assert (await gateway.chat("a/m")).text == "back"
        assert breaker.phase(gateway.app.gateway.clock()) is Phase.CLOSED


async def test_a_step_before_others_gives_way_when_its_breaker_is_open(tmp_path):
    async with openai_engine(*[FAILS] * 3, says("back")) as a, openai_engine(says("b")) as b:
        text = settings(
            nodes=as_nodes(a, b), roles={"r": chain({"pool": "a/m", "tries": 3}, "b/m")}, attempts=4
        )
        async with running_gateway(text, tmp_path) as gateway:
            assert (await gateway.chat("r")).text == "b"
            assert counts(a, b) == [3, 1]
            reply = await gateway.chat("r")
            assert (reply.text, reply.header("x-fleetgate-attempts")) == ("b", "1")
            assert counts(a, b) == [3, 2]


# --- who is off --------------------------------------------------------------------------------------------


async def test_a_name_whose_only_machine_is_off_is_answered_at_once(tmp_path):
    off = {"address": "169.254.7.7", **node(9, power="manual", models=[{"name": "m"}])}
    async with running_gateway(settings(nodes={"tower": off}), tmp_path) as gateway:
        await gateway.logged("node_presence", node="tower", presence="asleep")
        for streamed in (False, True):
            reply = await gateway.chat("m", stream=streamed)
            assert (reply.status, reply.error["code"]) == (503, "node_asleep")
            assert reply.error["class"] == F.NOTHING_AVAILABLE
            assert "switch tower on" in reply.error["message"]
            assert reply.header("retry-after") is not None
        assert (await gateway.entry()).attempts == ()


async def test_nothing_is_asked_in_maintenance(tmp_path):
    async with openai_engine(says("never")) as a:
        nodes = {"a": {**node(a), "maintenance": "a new fan"}}
        async with running_gateway(settings(nodes=nodes), tmp_path) as gateway:
            reply = await gateway.chat("a/m")
            assert (reply.status, reply.error["code"]) == (503, "nothing_available")
            assert "a new fan" in reply.error["message"]
            assert a.requests == []


# --- seats -------------------------------------------------------------------------------------------------


async def test_who_waits_for_a_seat_is_served_when_it_frees(tmp_path):
    more = asyncio.Event()
    async with (
        openai_engine([stall(more), *says("first")], says("second")) as a,
        running_gateway(settings(nodes=as_nodes(a, slots=1)), tmp_path) as gateway,
    ):
        loop = asyncio.get_running_loop()
        first = loop.create_task(gateway.chat("a/m"))
        await a.wait_for_requests(1)
        second = loop.create_task(gateway.chat("a/m"))
        await gateway.until(lambda: gateway.app.fleet.seats.waiting == 1)
        assert len(a.requests) == 1
        more.set()
        assert (await first).text == "first"
        assert (await second).text == "second"
        assert (await gateway.entry(2)).attempts[0].began > 0


async def fill(gateway, stack, engine, count):
    """One caller is served and `count` wait."""
    await stack.enter_async_context(gateway.asking("a/m"))
    await engine.wait_for_requests(1)
    for number in range(count):
        await stack.enter_async_context(gateway.asking("a/m"))
        await gateway.until(lambda wanted=number + 1: gateway.app.fleet.seats.waiting == wanted)


async def test_a_full_room_turns_away_at_once(tmp_path):
    async with (
        openai_engine([stall()]) as a,
        running_gateway(settings(nodes=as_nodes(a, slots=1)), tmp_path) as gateway,
    ):
        async with AsyncExitStack() as stack:
            await fill(gateway, stack, a, 2)
            reply = await gateway.chat("a/m")
            assert (reply.status, reply.error["class"]) == (503, F.FULL)
            assert reply.header("retry-after") is not None
            assert reply.header("x-should-retry") is None
            assert len(a.requests) == 1
        await gateway.entry(4)


async def test_behind_a_full_room_stands_the_next_step(tmp_path):
    async with openai_engine([stall()]) as a, openai_engine(says("b")) as b:
        nodes = {"a": node(a, slots=1), "b": node(b)}
        text = settings(nodes=nodes, roles={"r": chain("a/m", "b/m")})
        async with running_gateway(text, tmp_path) as gateway:
            async with AsyncExitStack() as stack:
                await fill(gateway, stack, a, 2)
                reply = await gateway.chat("r")
                assert (reply.text, reply.header("x-fleetgate-attempts")) == ("b", "1")
            await gateway.entry(4)


async def test_a_wait_that_is_over_leads_to_the_next_step(tmp_path):
    async with openai_engine([stall()]) as a, openai_engine(says("b")) as b:
        nodes = {"a": node(a, slots=1), "b": node(b)}
        text = settings(nodes=nodes, roles={"r": chain("a/m", "b/m")}, gateway={"wait": "30ms"})
        async with running_gateway(text, tmp_path) as gateway, gateway.asking("a/m"):
            await a.wait_for_requests(1)
            assert (await gateway.chat("r")).text == "b"
            reply = await gateway.chat("a/m")
            assert (reply.status, reply.error["class"]) == (503, F.FULL)
            assert reply.header("retry-after") is not None


async def test_a_limit_on_the_first_token_ends_the_wait_for_a_seat_too(tmp_path):
    async with openai_engine([stall()]) as a, openai_engine(says("b")) as b:
        nodes = {"a": node(a, slots=1), "b": node(b)}
        text = settings(nodes=nodes, roles={"r": chain({"pool": "a/m", "first_token": "30ms"}, "b/m")})
        async with running_gateway(text, tmp_path) as gateway, gateway.asking("a/m"):
            await a.wait_for_requests(1)
            assert (await gateway.chat("r")).text == "b"
            assert len(a.requests) == 1


async def test_a_deadline_ends_the_wait_for_a_seat(tmp_path):
    async with (
        openai_engine([stall()]) as a,
        running_gateway(settings(nodes=as_nodes(a, slots=1)), tmp_path) as gateway,
        gateway.asking("a/m"),
    ):
        await a.wait_for_requests(1)
        reply = await gateway.chat("a/m", headers={"x-fleetgate-timeout": "30ms"})
        assert (reply.status, reply.error["class"]) == (504, F.DEADLINE)
        assert gateway.app.fleet.seats.waiting == 0


async def test_one_key_does_not_own_the_queue(tmp_path):
    """Three requests of one caller wait before the first of another one, who is served second."""
    steps = [asyncio.Event() for _ in range(6)]
    scripts = [[stall(step), *says("hi")] for step in steps]
    async with openai_engine(*scripts) as a:
        nodes = {"a": node(a, slots=1), "b": {**node(a), "planned": True}}
        nodes["a"]["engines"][0]["slots"] = 2
        text = settings(nodes={"a": nodes["a"]}, gateway={"auth": "open"})
        async with running_gateway(text, tmp_path) as gateway:
            loop = asyncio.get_running_loop()
            waiting = []

            async def ask(key, user):
                gateway.key = key
                body = json.dumps(chat_body("a/m", user=user)).encode()
                before = gateway.app.fleet.seats.waiting, len(a.requests)
                headers = gateway.headers()
                waiting.append(
                    loop.create_task(gateway.request("POST", "/v1/chat/completions", body, headers))
                )
                await gateway.until(lambda: (gateway.app.fleet.seats.waiting, len(a.requests)) != before)

            for number in range(5):
                await ask("anybody", f"noisy-{number}")
            await ask(MASTER_KEY, "quiet")
            for number, step in enumerate(steps):
                step.set()
                if number < 4:
                    await a.wait_for_requests(number + 3)
            assert [reply.status for reply in await asyncio.gather(*waiting)] == [200] * 6
            order = [request.json()["user"] for request in a.requests]
            assert order == ["noisy-0", "noisy-1", "noisy-2", "quiet", "noisy-3", "noisy-4"]
            assert {entry.principal for entry in gateway.entries} == {"anonymous", "master"}


# --- policies ----------------------------------------------------------------------------------------------


async def test_the_least_busy_engine_is_asked(tmp_path):
    """While one of them is at work, the other one gets what comes."""
    more = asyncio.Event()
    script = [stall(more), *says("hi")]
    async with openai_engine(script) as a, openai_engine(script) as b:
        text = settings(nodes=as_nodes(a, b), routing="least_busy")
        async with running_gateway(text, tmp_path) as gateway:
            loop = asyncio.get_running_loop()
            asked = []
            for number in range(6):
                asked.append(loop.create_task(gateway.chat("m")))
                await gateway.until(lambda wanted=number + 1: sum(counts(a, b)) == wanted)
            assert counts(a, b) == [3, 3]
            more.set()
            assert {reply.text for reply in await asyncio.gather(*asked)} == {"hi"}


async def test_spread_takes_turns(tmp_path):
    async with (
        openai_engine(says("a")) as a,
        openai_engine(says("b")) as b,
        running_gateway(settings(nodes=as_nodes(a, b), routing="spread"), tmp_path) as gateway,
    ):
        texts = [(await gateway.chat("m")).text for _ in range(6)]
        assert texts in (["a", "b"] * 3, ["b", "a"] * 3)


async def test_split_follows_its_weights(tmp_path):
    async with openai_engine(says("a")) as a, openai_engine(says("b")) as b:
        roles = {"r": {"use": ["a/m", "b/m"], "policy": {"split": {"a/m": 1, "b/m": 0}}}}
        async with running_gateway(settings(nodes=as_nodes(a, b), roles=roles), tmp_path) as gateway:
            assert {(await gateway.chat("r")).text for _ in range(10)} == {"a"}


# --- embeddings --------------------------------------------------------------------------------------------

VECTOR = {"object": "list", "data": [{"embedding": [0.5], "index": 0}], "usage": {"prompt_tokens": 2}}


@pytest.mark.parametrize("pool", ["one pool", "a chain"])
async def test_embeddings_of_two_spaces_never_stand_in_for_each_other(tmp_path, pool):
    async with openai_engine(FAILS) as a, openai_engine(respond_json(200, VECTOR)) as b:
        for space, status in ((None, 502), ("s", 200)):
            member = {"name": "e", "does": ["embed"], "dimensions": 768}
            if space:
                member["space"] = space
            names = ["a/e", "b/e"]
            role = chain(*names) if pool == "a chain" else {"use": names}
            text = settings(
                nodes=as_nodes(a, b, models=[member]), roles={"r": role}, **RATHER_MANY, attempts=4
            )
            (tmp_path / str(status)).mkdir()
            async with running_gateway(text, tmp_path / str(status)) as gateway:
                for _ in range(2):
                    reply = await gateway.post("/v1/embeddings", {"model": "r", "input": "hello"})
                    assert reply.status == status
                    assert reply.body == json.dumps(VECTOR).encode() or space is None
            assert bool(b.requests) == bool(space)
        sent = b.requests[0].json()
        assert sent == {"model": "e", "input": "hello"}


async def test_a_model_that_cannot_embed_says_so(tmp_path):
    async with openai_engine(says("never")) as a:
        nodes = as_nodes(a, models=[{"name": "m", "does": ["chat"]}])
        async with running_gateway(settings(nodes=nodes), tmp_path) as gateway:
            reply = await gateway.post("/v1/embeddings", {"model": "a/m", "input": "hello"})
            assert (reply.status, reply.error["code"]) == (400, "not_capable")
            assert a.requests == []


# --- gateways behind gateways ------------------------------------------------------------------------------


async def test_a_request_that_passed_this_gateway_before_is_refused(tmp_path):
    async with (
        openai_engine(says("never")) as a,
        running_gateway(settings(nodes=as_nodes(a)), tmp_path) as gateway,
    ):
        instance = (await gateway.get("/v1/models")).header("x-fleetgate-instance")
        for via in (instance, f"other, {instance} , third"):
            reply = await gateway.chat("a/m", headers={"x-fleetgate-via": via})
            assert (reply.status, reply.error["code"]) == (508, "loop")
            assert reply.header("x-should-retry") == "false"
        assert a.requests == []


async def test_a_gateway_behind_a_gateway(tmp_path):
    """What the inner one decides passes through the outer one, and the way is written down."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "outer").mkdir()
    async with (
        openai_engine(stream_sse(said("hi")), says("whole"), FAILS) as a,
        running_gateway(settings(nodes=as_nodes(a)), tmp_path / "inner") as inner,
    ):
        far = provider(inner.port, "a/m", key="${FLEETGATE_MASTER_KEY}")
        async with running_gateway(settings(providers={"far": far}), tmp_path / "outer") as outer:
            reply = await outer.chat("far/a/m", stream=True)
            assert (reply.text, reply.complete) == ("hi", True)
            assert (await outer.chat("a/m")).text == "whole"
            outer_id = reply.header("x-fleetgate-instance")
            inner_id = (await inner.get("/v1/models")).header("x-fleetgate-instance")
            assert a.requests[0].header("x-fleetgate-via") == f"{outer_id}, {inner_id}"
            assert (await outer.entry()).usage.output_tokens == 2


async def test_two_gateways_that_lead_to_each_other(tmp_path):
    """A request goes round once, is refused where it began, and ends."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with running_gateway(settings(), tmp_path / "b") as b:
        to_b = settings(providers={"b": provider(b.port, key="${FLEETGATE_MASTER_KEY}")})
        async with running_gateway(to_b, tmp_path / "a") as a:
            to_a = settings(providers={"a": provider(a.port, key="${FLEETGATE_MASTER_KEY}")})
            b.config.write_text(to_a)
            # `serve` reads the process's own environment again; here it is given.
            loaded = load(b.config, {"FLEETGATE_MASTER_KEY": b.key})
            assert loaded.settings is not None
            b.app._configure(loaded.settings, loaded)
            reply = await a.chat("m")
            assert reply.status == 508
            assert "has passed this gateway before" in reply.error["message"]
            # Its own refusal is the end of it: `a` forwarded once, and `b` once in answer.
            assert reply.header("x-fleetgate-attempts") == "1"
            assert len((await b.entry()).attempts) == 1
            assert len(b.entries) == 1
