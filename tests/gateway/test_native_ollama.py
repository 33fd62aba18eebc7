"""Callers of Ollama's dialect towards engines that speak it: requests pass, and so do lines."""

import asyncio
import json

import ollama
import pytest
from tests.support.caller import MASTER_KEY
from tests.support.gateway import (
    answer,
    chain,
    node,
    openai_engine,
    provider,
    running_gateway,
    said,
    settings,
)
from tests.support.ollama import (
    FOREVER,
    OllamaMachine,
    as_line,
    native_answer,
    native_line,
    native_lines,
    stream_lines,
)
from tests.support.simulated import overheard, simulated
from tests.support.upstreams import chunk, close, reset, respond_json, send, stall, stream_sse

pytestmark = pytest.mark.asyncio

HI = [{"role": "user", "content": "hi"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
SMALL = "pc/ollama/small"


def machine(*models, **members):
    """One that has its models in memory."""
    found = OllamaMachine(*models or ("small",), **members)
    found.loaded = dict.fromkeys(found.models, "2100-01-01T00:00:00Z")
    return found


def house(box, engine=None, **blocks):
    blocks.setdefault("nodes", {"pc": node(box, kind="ollama", **(engine or {}))})
    return settings(health={"every": "50ms"}, **blocks)


async def ready(gateway, deployment=SMALL):
    fleet = gateway.app.fleet
    await gateway.until(lambda: (one := fleet.deployments.get(deployment)) is not None and one.resident)


def client(gateway, kind=ollama.AsyncClient):
    return kind(host=gateway.url, headers={"authorization": f"Bearer {MASTER_KEY}"})


async def test_a_chat_passes_as_it_was_written(tmp_path):
    async with machine() as box, running_gateway(house(box), tmp_path) as gateway:
        await ready(gateway)
        body = {
            "model": "small",
            "messages": [
                {**HI[0], "images": [PIXEL]},
                {"role": "assistant", "content": "x", "thinking": "y"},
                *HI,
            ],
            "tools": [TOOL],
            "think": "max",
            "truncate": False,
            "options": {"temperature": 0.5, "mirostat": 2, "num_keep": 4},
            "stream": False,
            "known_to_its_maker": {"a": 1},
        }
        reply = await gateway.post("/api/chat", body)
        assert box.native == [{**body, "model": "small:latest"}]
        assert reply.json() == native_answer("small:latest", "/api/chat", "from small:latest")
        assert reply.header("x-fleetgate-left-out") is None
        assert reply.header("x-fleetgate-deployment") == SMALL
        entry = await gateway.entry()
        assert (entry.usage.input_tokens, entry.usage.output_tokens) == (40, 20)
        assert (entry.outcome, entry.note, entry.route) == ("ok", "", "/api/chat")


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_stream_passes_line_by_line(tmp_path, path):
    async with machine() as box, running_gateway(house(box), tmp_path) as gateway:
        await ready(gateway)
        asked = {"messages": HI} if path == "/api/chat" else {"prompt": "hi"}
        reply = await gateway.post(path, {"model": "small", **asked})
        assert reply.complete
        assert reply.header("content-type") == "application/x-ndjson"
        lines = native_lines("small:latest", path, "from ", "small:latest")
        assert reply.body == b"".join(as_line(one) for one in lines)
        assert box.native == [{"model": "small:latest", **asked, "stream": True}]
        entry = await gateway.entry()
        assert (entry.usage.output_tokens, entry.outcome, entry.streamed) == (20, "ok", True)


async def test_the_official_client_with_tools_thoughts_and_pictures(tmp_path):
    def says(path, form):
        lines = [
            native_line("small:latest", path, thinking="hm"),
            native_line("small:latest", path, tool_calls=[CALL]),
            native_line("small:latest", path, "stop"),
        ]
        if form["stream"]:
            return stream_lines(lines)
        return respond_json(200, native_answer("small:latest", path, "", thinking="hm", tool_calls=[CALL]))

    asked = {
        "model": "small:latest",
        "messages": [{"role": "user", "content": "weather?", "images": [PIXEL]}],
        "tools": [TOOL],
        "think": True,
        "options": {"num_predict": 50, "seed": 7},
    }
    async with machine() as box, running_gateway(house(box), tmp_path) as gateway:
        await ready(gateway)
        box.says = says
        with client(gateway, ollama.Client) as plain:
            whole = await asyncio.to_thread(plain.chat, **asked)
            pieces = await asyncio.to_thread(lambda: list(plain.chat(**asked, stream=True)))
        async with client(gateway) as other:
            again = await other.chat(**asked)
            streamed = [one async for one in await other.chat(**asked, stream=True)]
        for one in (whole, again):
            (call,) = one.message.tool_calls
            assert (one.message.thinking, call.function.arguments) == ("hm", {"city": "Oslo"})
            assert (one.done_reason, one.eval_count) == ("stop", 20)
        for found in (pieces, streamed):
            assert found[0].message.thinking == "hm"
            assert found[1].message.tool_calls[0].function.name == "weather"
            assert (found[-1].done, found[-1].load_duration) == (True, 500_000_000)
        for sent in box.native:
            assert sent["think"] is True
            assert sent["tools"][0]["function"]["name"] == "weather"
            assert sent["messages"][0]["images"] == [PIXEL]
            assert sent["options"] == asked["options"]
            assert "keep_alive" not in sent


async def test_prompts_of_the_official_client(tmp_path):
    async with machine() as box, running_gateway(house(box), tmp_path) as gateway, client(gateway) as other:
        await ready(gateway)
        for beside in (
            {"raw": True},
            {"suffix": "end"},
            {"context": [1, 2, 3]},
            {"system": "be kind", "images": [PIXEL], "raw": True},
            {"format": {"type": "object"}, "think": False, "logprobs": True},
        ):
            reply = await other.generate("small", prompt="begin", **beside)
            assert reply.response == "from small:latest"
            assert box.native[-1] == {"model": "small:latest", "prompt": "begin", "stream": False, **beside}


async def test_what_would_load_anew_goes_and_is_named(tmp_path):
    async with machine() as box, running_gateway(house(box), tmp_path) as gateway:
        await ready(gateway)
        options = {"num_ctx": 8192, "num_gpu": 1, "num_batch": 64, "temperature": 0}
        body = {"model": "small", "messages": HI, "stream": False, "keep_alive": "24h", "options": options}
        reply = await gateway.post("/api/chat", body)
        kept = {"model": "small:latest", "messages": HI, "stream": False, "options": {"temperature": 0}}
        assert box.native[-1] == kept
        assert reply.header("x-fleetgate-left-out") == (
            "keep_alive, options.num_ctx, options.num_batch, options.num_gpu"
        )
        assert "options.num_gpu left out" in (await gateway.entry()).note
        # With the size that is in memory nothing is loaded anew.
        reply = await gateway.post("/api/chat", {**body, "keep_alive": None, "options": {"num_ctx": 4096}})
        assert reply.header("x-fleetgate-left-out") is None
        assert box.native[-1]["options"] == {"num_ctx": 4096}


@pytest.mark.parametrize(
    ("engine", "said"),
    [({"keep_alive": "10m"}, 600), ({"keep_alive": "forever"}, -1), ({"pin": ["small"]}, -1), ({}, None)],
)
async def test_the_configured_time_is_said_with_every_request(tmp_path, engine, said):
    async with machine() as box:
        box.loaded = dict.fromkeys(box.models, FOREVER)
        async with running_gateway(house(box, engine), tmp_path) as gateway:
            await ready(gateway)
            await gateway.post("/api/chat", {"model": "small", "messages": HI, "keep_alive": 5})
            assert box.native[-1].get("keep_alive") == said


async def test_a_template_runs_nowhere(tmp_path):
    async with machine() as box, running_gateway(house(box), tmp_path) as gateway:
        await ready(gateway)
        body = {"model": "small", "prompt": "x", "template": "{{ evil }}"}
        reply = await gateway.post("/api/generate", body)
        assert (reply.status, box.native) == (400, [])
        assert "`template`" in reply.json()["error"]
        reply = await gateway.post("/api/chat", {"model": "small", "messages": HI, "template": "{{ evil }}"})
        assert "template" not in box.native[-1]
        assert reply.header("x-fleetgate-left-out") == "template"


async def test_an_engine_is_kept_from_harm(tmp_path):
    async with machine() as box, running_gateway(house(box), tmp_path) as gateway:
        await ready(gateway)
        body = {"model": "small", "messages": HI, "stream": False}
        reply = await gateway.post("/api/chat", {**body, "options": {"num_predict": 10**9}})
        assert box.native[-1]["options"] == {"num_predict": 4096}
        assert reply.header("x-fleetgate-left-out") == "options.num_predict"
        large = {"type": "object", "description": "x" * 70_000}
        reply = await gateway.post("/api/chat", {**body, "format": large})
        assert reply.status == 400
        assert len(box.native) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_speeds_are_learned_from_what_it_measures(tmp_path, stream):
    """So little time that nobody can doubt it: 20 tokens written in 0.4 ms."""
    quick = {"prompt_eval_duration": 200_000, "eval_duration": 400_000}
    async with machine() as box, running_gateway(house(box), tmp_path) as gateway:
        await ready(gateway)
        whole = {**native_answer("small:latest", "/api/chat", "x"), **quick}
        box.says = lambda _path, _form: stream_lines([whole]) if stream else respond_json(200, whole)
        for number in range(1, 9):
            await gateway.post("/api/chat", {"model": "small", "messages": HI, "stream": stream})
            await gateway.entry(number)
        speed = gateway.deployment(SMALL).speed
        assert speed.decode == pytest.approx(50_000, rel=0.2)


async def test_one_that_asks_for_no_stream_may_have_a_limit_on_the_first_token(tmp_path):
    roles = {"r": chain({"pool": "pc/small", "first_token": "5s"})}
    async with machine() as box, running_gateway(house(box, roles=roles), tmp_path) as gateway:
        await ready(gateway)
        reply = await gateway.post("/api/chat", {"model": "r", "messages": HI, "stream": False})
        assert box.native[-1]["stream"] is True
        assert reply.json() == native_answer("small:latest", "/api/chat", "from small:latest")
        assert (await gateway.entry()).usage.output_tokens == 20


FAULTS = [
    (respond_json(500, {"error": "llama runner process has terminated"}), "server_error"),
    (respond_json(200, {"error": "out of memory"}), "server_error"),
    (stream_lines([native_line("m", "/api/chat"), {"error": "CUDA error"}]), "server_error"),
    (stream_lines([native_line("m", "/api/chat")]), "cut_short"),
    (stream_lines([]), "cut_short"),
    (stream_sse(said("wrong dialect")), "garbage"),
]


@pytest.mark.parametrize(("script", "failure"), FAULTS)
async def test_a_fault_before_content_leads_to_another_dialect(tmp_path, script, failure):
    other = openai_engine(stream_sse(said("hi ", "there")))
    async with machine() as box, other:
        box.says = lambda _path, _form: script
        nodes = {"pc": node(box, kind="ollama"), "b": node(other, kind="llamacpp")}
        blocks = {"nodes": nodes, "roles": {"r": chain("pc/small", "b/m")}}
        async with running_gateway(house(box, **blocks), tmp_path) as gateway:
            await ready(gateway)
            body = {"model": "r", "messages": HI, "options": {"num_ctx": 5, "seed": 3}}
            reply = await gateway.post("/api/chat", body)
            lines = [json.loads(one) for one in reply.body.splitlines()]
            assert "".join(one["message"]["content"] for one in lines) == "hi there"
            assert (lines[-1]["done"], lines[-1]["model"]) == (True, "r")
            assert other.requests[0].path == "/v1/chat/completions"
            assert other.requests[0].json()["seed"] == 3
            assert reply.header("x-fleetgate-left-out") == "options.num_ctx"
            outcomes = [one.outcome for one in (await gateway.entry()).attempts]
            assert (set(outcomes[:-1]), outcomes[-1]) == ({failure}, "ok")


@pytest.mark.parametrize(
    "tail",
    [[reset()], [{"error": "CUDA error"}], []],
    ids=["reset", "error", "end"],
)
async def test_a_break_after_content_is_an_error_line(tmp_path, tail):
    begin = [native_line("small:latest", "/api/chat", content=word) for word in ("one ", "two")]
    async with machine() as box, running_gateway(house(box), tmp_path) as gateway:
        await ready(gateway)
        box.says = lambda _path, _form: stream_lines([*begin, *tail])
        reply = await gateway.post("/api/chat", {"model": "small", "messages": HI})
        lines = [json.loads(one) for one in reply.body.splitlines()]
        assert lines[:2] == begin
        assert lines[-1]["error"]
        assert not any(one.get("done") for one in lines)
        assert (await gateway.entry()).outcome == "stream_broken"


async def test_the_last_line_may_come_without_its_end(tmp_path):
    lines = native_lines("small:latest", "/api/chat", "so")
    async with machine() as box, running_gateway(house(box), tmp_path) as gateway:
        await ready(gateway)
        body = b"".join(as_line(one) for one in lines)
        start = stream_lines([], end=False)
        box.says = lambda _path, _form: [*start, send(chunk(body[:-1])), send(chunk(b"")), close()]
        reply = await gateway.post("/api/chat", {"model": "small", "messages": HI})
        assert reply.body == body
        assert (await gateway.entry()).outcome == "ok"


async def test_signs_of_life_are_lines_before_those_that_pass(tmp_path):
    go = asyncio.Event()
    signs = {"keep_alive": {"first": "10ms", "every": "1h"}}
    async with machine() as box, running_gateway(house(box, gateway=signs), tmp_path) as gateway:
        await ready(gateway)
        lines = native_lines("small:latest", "/api/chat", "so")
        box.says = lambda _path, _form: stream_lines([stall(go), *lines])
        async with gateway.caller() as caller:
            body = json.dumps({"model": "small", "messages": HI}).encode()
            await caller.ask("POST", "/api/chat", gateway.headers(), body)
            await caller.head()
            await caller.until(b"\n")
            go.set()
            reply = await caller.rest()
            first, *others = reply.body.splitlines(keepends=True)
            assert json.loads(first)["message"]["content"] == ""
            assert others == [as_line(one) for one in lines]


async def test_answers_that_pass_are_not_kept(tmp_path):
    async with machine() as box, running_gateway(house(box, cache={"ttl": "1h"}), tmp_path) as gateway:
        await ready(gateway)
        for number in (1, 2):
            await gateway.post("/api/chat", {"model": "small", "messages": HI, "stream": False})
            assert len(box.native) == number


async def test_others_are_asked_in_the_form_between(tmp_path):
    """Callers of other dialects, and engines whose file says that they speak none."""
    async with machine() as box, running_gateway(house(box, {"dialects": []}), tmp_path) as gateway:
        await ready(gateway)
        reply = await gateway.post("/api/chat", {"model": "small", "messages": HI, "stream": False})
        assert reply.json()["message"]["content"] == "from small:latest"
        assert reply.json()["model"] == "small"
        assert box.native == []
        refused = await gateway.post("/api/generate", {"model": "small", "prompt": "x", "context": [1]})
        assert refused.status == 400
        assert "context" in refused.json()["error"]


async def test_another_engine_may_speak_it_where_the_file_says_so(tmp_path):
    engine = openai_engine(respond_json(200, native_answer("m", "/api/generate", "once")))
    async with engine:
        row = provider(engine, dialects=["ollama"])
        async with running_gateway(settings(providers={"shop": row}), tmp_path) as gateway:
            body = {"model": "m", "prompt": "tell", "stream": False, "options": {"num_predict": 10**9}}
            reply = await gateway.post("/api/generate", body)
            assert reply.json()["response"] == "once"
            assert engine.requests[0].path == "/api/generate"
            assert engine.requests[0].json() == body


async def test_what_has_no_translation_goes_only_where_it_passes(tmp_path):
    other = openai_engine(respond_json(200, answer("x")))
    async with machine() as box, other:
        nodes = {"pc": node(box, kind="ollama"), "b": node(other)}
        roles = {"r": chain("b/m", "pc/small"), "only": chain("b/m")}
        async with running_gateway(house(box, nodes=nodes, roles=roles), tmp_path) as gateway:
            await ready(gateway)
            body = {"prompt": "x", "context": [1, 2]}
            reply = await gateway.post("/api/generate", {"model": "r:latest", **body})
            assert reply.body.count(b"\n") == 3
            assert (box.native[-1]["context"], other.requests) == ([1, 2], [])
            reply = await gateway.post("/api/generate", {"model": "only", **body})
            assert reply.status == 400
            assert other.requests == []


async def test_simulated_engines_speak_it(tmp_path):
    async with simulated("ollama", "demo-8b", warm=("demo-8b",)) as engine:
        port, heard = engine.door.port, overheard(engine)
        async with (
            running_gateway(house(port, {"keep_alive": "1h"}), tmp_path) as gateway,
            client(gateway) as api,
        ):
            await ready(gateway, "pc/ollama/demo-8b")
            whole = await api.chat("demo-8b", messages=HI)
            assert whole.message.content.startswith("Simulated answer from box/ollama (demo-8b)")
            pieces = [one async for one in await api.chat("demo-8b", messages=HI, stream=True)]
            assert "".join(one.message.content for one in pieces) == whole.message.content
            (call,) = (await api.chat("demo-8b", messages=HI, tools=[TOOL])).message.tool_calls
            assert call.function.name == "weather"
            parts = [one async for one in await api.generate("demo-8b", prompt="hi", stream=True)]
            assert (parts[-1].done, parts[-1].eval_count) == (True, len(parts) - 1)
            asked = [one.path for one in heard if one.method == "POST"]
            assert asked == ["/api/chat"] * 3 + ["/api/generate"]
            (copy,) = engine.memory.resident()
            assert copy.keep == 3600.0
            engine.set_fault("cut")
            with pytest.raises(ollama.ResponseError):
                [one async for one in await api.chat("demo-8b", messages=HI, stream=True)]
            assert (await gateway.entry(5)).outcome in ("stream_broken", "cut_short")
