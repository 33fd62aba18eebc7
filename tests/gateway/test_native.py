"""A caller's own dialect passes to upstreams that speak it: what is sent, what comes back, what is not."""

import asyncio
import json

import anthropic
import openai
import pytest
from tests.support.caller import MASTER_KEY
from tests.support.gateway import PROVIDER_KEY, answer, chain, node, openai_engine, provider, running_gateway
from tests.support.gateway import settings as house
from tests.support.upstreams import reset, respond_json, stall, stream_sse

from fleetgate.fleet.build import learn_ways

pytestmark = pytest.mark.asyncio

USAGE = {"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": 3}
MESSAGE = {
    "id": "msg_up",
    "type": "message",
    "role": "assistant",
    "model": "engine-model",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "so be it"},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
    "container": {"id": "known to its maker"},
}
RESPONSE = {
    "id": "resp_up",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "engine-model",
    "output": [
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "eA=="},
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "so be it", "annotations": []}],
        },
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens_details": {"reasoning_tokens": 2},
    },
}
ASKED = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}


def event(kind, **members):
    data = {"type": kind, **members}
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def message_events(*words):
    """What Anthropic's interface streams; the official client reads it."""
    begun = {**MESSAGE, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
    return [
        event("message_start", message=begun),
        event("ping"),
        event(
            "content_block_start",
            index=0,
            content_block={"type": "thinking", "thinking": "", "signature": ""},
        ),
        event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
        event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2ln"}),
        event("content_block_stop", index=0),
        event("content_block_start", index=1, content_block={"type": "text", "text": ""}),
        *(
            event("content_block_delta", index=1, delta={"type": "text_delta", "text": word})
            for word in words or ("so ", "be it")
        ),
        event("content_block_stop", index=1),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}),
        event("message_stop"),
    ]


def response_events():
    begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    item = RESPONSE["output"][1]
    empty = {**item, "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    found = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": empty}),
        ("response.content_part.added", {**at, "part": part}),
        ("response.output_text.delta", {**at, "delta": "so ", "logprobs": []}),
        ("response.output_text.delta", {**at, "delta": "be it", "logprobs": []}),
        ("response.output_text.done", {**at, "text": "so be it", "logprobs": []}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": RESPONSE}),
    ]
    return [event(kind, sequence_number=number, **members) for number, (kind, members) in enumerate(found)]


def speaking(engine, *dialects, **members):
    """A node whose engine speaks these, too."""
    return {"box": node(engine, dialects=list(dialects), **members)}


def claude(engine, **members):
    return {"claude": provider(engine, **{"kind": "anthropic", **members})}


async def test_a_message_passes_as_it_was_written(tmp_path):
    engine = openai_engine(respond_json(200, MESSAGE))
    async with engine, running_gateway(house(providers=claude(engine)), tmp_path) as gateway:
        body = {
            **ASKED,
            "system": [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
            "container": "known to its maker",
            "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
            "context_management": {"edits": []},
        }
        told = {"anthropic-version": "2031-01-01", "anthropic-beta": "one, two"}
        reply = await gateway.post("/v1/messages", body, told)
        assert (reply.status, reply.json()) == (200, MESSAGE)
        assert reply.header("x-fleetgate-left-out") is None
        assert reply.header("x-fleetgate-plan").endswith(", lane=passed")
        request = engine.requests[0]
        assert request.path == "/v1/messages"
        assert request.json() == body
        assert request.header("anthropic-version") == "2031-01-01"
        assert request.header("anthropic-beta") == "one, two"
        assert request.header("x-api-key") == PROVIDER_KEY
        entry = await gateway.entry()
        usage = entry.usage
        assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (10, 5, 3)
        assert (entry.outcome, entry.note) == ("ok", "")


@pytest.mark.parametrize(
    "told",
    [{"anthropic-beta": "one"}, {"anthropic-version": "2031-01-01"}, {}],
)
async def test_what_names_the_version_passes_each_for_itself(tmp_path, told):
    engine = openai_engine(respond_json(200, MESSAGE))
    async with engine, running_gateway(house(providers=claude(engine)), tmp_path) as gateway:
        assert (await gateway.post("/v1/messages", ASKED, told)).status == 200
        request = engine.requests[0]
        assert request.header("anthropic-beta") == told.get("anthropic-beta")
        assert request.header("anthropic-version") == told.get("anthropic-version", "2023-06-01")


async def test_a_streamed_message_passes_frame_by_frame(tmp_path):
    engine = openai_engine(stream_sse(message_events()))
    async with engine, running_gateway(house(providers=claude(engine)), tmp_path) as gateway:
        reply = await gateway.post("/v1/messages", {**ASKED, "stream": True})
        assert reply.complete
        assert reply.body == b"".join(message_events())
        assert reply.header("content-type") == "text/event-stream; charset=utf-8"
        entry = await gateway.entry()
        assert (entry.usage.input_tokens, entry.usage.output_tokens, entry.outcome) == (10, 5, "ok")
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=MASTER_KEY) as client:
            async with client.messages.stream(**ASKED) as stream:
                message = await stream.get_final_message()
            assert [block.type for block in message.content] == ["thinking", "text"]
            assert message.content[0].signature == "c2ln"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_passes(tmp_path, stream):
    script = stream_sse(response_events()) if stream else respond_json(200, RESPONSE)
    engine = openai_engine(script)
    async with engine:
        row = provider(engine, dialects=["responses"])
        async with running_gateway(house(providers={"shop": row}), tmp_path) as gateway:
            body = {
                "model": "m",
                "input": [{"role": "user", "content": "hello"}, RESPONSE["output"][0]],
                "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}],
                "include": ["reasoning.encrypted_content"],
                "stream": stream,
            }
            reply = await gateway.post("/v1/responses", body)
            assert reply.status == 200
            assert (reply.body == b"".join(response_events())) if stream else (reply.json() == RESPONSE)
            request = engine.requests[0]
            assert request.path == "/v1/responses"
            assert request.json() == {**body, "store": False}
            usage = (await gateway.entry()).usage
            assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (10, 5, 2)
            async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=MASTER_KEY) as client:
                if stream:
                    async with client.responses.stream(model="m", input="hello") as events:
                        found = await events.get_final_response()
                else:
                    found = await client.responses.create(model="m", input="hello")
                assert found.output_text == "so be it"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_one_that_asks_for_no_stream_may_have_a_limit_on_the_first_token(tmp_path, path):
    frames = message_events() if path == "/v1/messages" else response_events()
    engine = openai_engine(stream_sse(frames))
    async with engine:
        blocks = {
            "nodes": speaking(engine, "anthropic", "responses"),
            "roles": {"r": chain({"pool": "box/m", "first_token": "5s"})},
        }
        body = {**ASKED, "model": "r"} if path == "/v1/messages" else {"model": "r", "input": "hello"}
        async with running_gateway(house(**blocks), tmp_path) as gateway:
            reply = await gateway.post(path, body)
            assert reply.status == 200
            assert engine.requests[0].json()["stream"] is True
            whole = reply.json()
            if path == "/v1/messages":
                assert {**whole, "content": whole["content"]} == MESSAGE
            else:
                assert whole == RESPONSE
            assert (await gateway.entry()).usage.output_tokens == 5


async def test_others_of_the_same_name_are_asked_in_the_form_between(tmp_path):
    speaks, other = (
        openai_engine(respond_json(500, {"error": {"message": "oh"}})),
        openai_engine(respond_json(200, answer("hi there"))),
    )
    async with speaks, other:
        blocks = {
            "nodes": {"a": node(speaks, dialects=["anthropic"]), "b": node(other)},
            "roles": {"r": chain("a/m", "b/m")},
        }
        async with running_gateway(house(**blocks), tmp_path) as gateway:
            body = {**ASKED, "model": "r", "container": "x"}
            reply = await gateway.post("/v1/messages", body)
            assert reply.status == 200
            assert reply.json()["content"] == [{"type": "text", "text": "hi there"}]
            assert reply.header("x-fleetgate-left-out") == "container"
            assert reply.header("x-fleetgate-plan").endswith(", lane=translated")
            assert speaks.requests[0].path == "/v1/messages"
            assert speaks.requests[0].json()["container"] == "x"
            assert other.requests[0].path == "/v1/chat/completions"


async def test_what_cannot_be_translated_goes_only_where_it_passes(tmp_path):
    speaks, other = openai_engine(respond_json(200, MESSAGE)), openai_engine(respond_json(200, answer("x")))
    async with speaks, other:
        blocks = {
            "nodes": {"a": node(speaks, dialects=["anthropic"]), "b": node(other)},
            "roles": {"r": chain("b/m", "a/m"), "only": chain("b/m")},
        }
        tools = [{"type": "web_search_20250305", "name": "web_search"}]
        async with running_gateway(house(**blocks), tmp_path) as gateway:
            reply = await gateway.post("/v1/messages", {**ASKED, "model": "r", "tools": tools})
            assert (reply.status, reply.json()) == (200, MESSAGE)
            assert other.requests == []
            assert len((await gateway.entry()).attempts) == 1
            reply = await gateway.post("/v1/messages", {**ASKED, "model": "only", "tools": tools})
            assert (reply.status, reply.json()["type"]) == (400, "error")
            assert "web_search" in reply.json()["error"]["message"]
            assert other.requests == []
            reply = await gateway.post(
                "/v1/responses", {"model": "r", "input": "x", "previous_response_id": "resp_1"}
            )
            assert reply.status == 400
            assert "stores no responses" in reply.json()["error"]["message"]


async def test_thoughts_of_another_model_are_not_sent_to_one_that_signs(tmp_path):
    engine = openai_engine(respond_json(200, MESSAGE))
    turns = [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "x", "signature": ""},
                {"type": "text", "text": "b"},
            ],
        },
        {"role": "user", "content": "c"},
    ]
    async with engine, running_gateway(house(providers=claude(engine)), tmp_path) as gateway:
        reply = await gateway.post("/v1/messages", {**ASKED, "messages": turns})
        assert engine.requests[0].json()["messages"][1]["content"] == [{"type": "text", "text": "b"}]
        assert reply.header("x-fleetgate-left-out") == "messages[].thinking"
        assert "messages[].thinking left out" in (await gateway.entry()).note


async def test_an_engine_of_ones_own_is_kept_from_harm(tmp_path):
    engine = openai_engine(respond_json(200, MESSAGE))
    async with engine:
        blocks = {"nodes": speaking(engine, "anthropic", models=[{"name": "m", "context": 4096}])}
        async with running_gateway(house(**blocks), tmp_path) as gateway:
            body = {**ASKED, "max_tokens": 10**9, "chat_template": "{{ evil }}"}
            reply = await gateway.post("/v1/messages", body)
            sent = engine.requests[0].json()
            assert (sent["max_tokens"], "chat_template" in sent) == (4096, False)
            assert reply.header("x-fleetgate-left-out") == "max_tokens, chat_template"


async def test_a_break_after_content_is_told_in_the_dialect(tmp_path):
    engine = openai_engine(stream_sse([*message_events()[:8], reset()], end=False))
    async with engine, running_gateway(house(providers=claude(engine)), tmp_path) as gateway:
        reply = await gateway.post("/v1/messages", {**ASKED, "stream": True})
        assert reply.frames[-1].startswith(b"event: error\n")
        assert reply.body.startswith(b"".join(message_events()[:8]))
        assert b"message_stop" not in reply.body
        assert (await gateway.entry()).outcome == "stream_broken"


async def test_a_broken_response_never_looks_whole(tmp_path):
    engine = openai_engine(stream_sse(response_events()[:6]))
    async with engine:
        row = provider(engine, dialects=["responses"])
        async with running_gateway(house(providers={"shop": row}), tmp_path) as gateway:
            reply = await gateway.post("/v1/responses", {"model": "m", "input": "x", "stream": True})
            kinds = [one["type"] for one in (json.loads(f.split(b"data: ", 1)[1]) for f in reply.frames)]
            assert kinds.count("response.created") == 1
            assert kinds[-1] == "response.failed"
            assert json.loads(reply.frames[-1].split(b"data: ", 1)[1])["response"]["id"] == "resp_up"
            assert "response.completed" not in kinds


@pytest.mark.parametrize(
    ("frames", "failure"),
    [
        ([event("error", error={"type": "overloaded_error", "message": "busy"})], "server_error"),
        (message_events()[:2], "cut_short"),
        ([b"data: {oops\n\n"], "garbage"),
    ],
)
async def test_a_fault_before_content_leads_to_the_next(tmp_path, frames, failure):
    bad, good = openai_engine(stream_sse(frames)), openai_engine(stream_sse(message_events()))
    async with bad, good:
        blocks = {
            "nodes": {"a": node(bad, dialects=["anthropic"]), "b": node(good, dialects=["anthropic"])},
            "roles": {"r": chain("a/m", "b/m")},
        }
        async with running_gateway(house(**blocks), tmp_path) as gateway:
            reply = await gateway.post("/v1/messages", {**ASKED, "model": "r", "stream": True})
            assert reply.body == b"".join(message_events())
            entry = await gateway.entry()
            outcomes = [one.outcome for one in entry.attempts]
            assert (set(outcomes[:-1]), outcomes[-1]) == ({failure}, "ok")


async def test_signs_of_life_open_a_response_once(tmp_path):
    go = asyncio.Event()
    engine = openai_engine(stream_sse([stall(go), *response_events()]))
    async with engine:
        row = provider(engine, dialects=["responses"])
        blocks = {"providers": {"shop": row}, "gateway": {"keep_alive": {"first": "10ms", "every": "1h"}}}
        async with running_gateway(house(**blocks), tmp_path) as gateway, gateway.caller() as caller:
            body = json.dumps({"model": "m", "input": "x", "stream": True}).encode()
            await caller.ask("POST", "/v1/responses", gateway.headers(), body)
            await caller.head()
            await caller.until(b"response.created")
            go.set()
            reply = await caller.rest()
            assert reply.complete
            assert reply.body.count(b"event: response.created\n") == 1
            found = [json.loads(one.split(b"data: ", 1)[1]) for one in reply.frames]
        ids = {one["response"]["id"] for one in found if "response" in one}
        assert len(ids) == 1
        assert found[-1]["response"] == {**RESPONSE, "id": ids.pop()}


async def test_answers_that_pass_are_not_kept(tmp_path):
    engine = openai_engine(respond_json(200, MESSAGE))
    async with engine:
        blocks = {"providers": claude(engine), "cache": {"ttl": "1h"}}
        async with running_gateway(house(**blocks), tmp_path) as gateway:
            for _ in range(2):
                reply = await gateway.post("/v1/messages", ASKED)
                assert reply.json() == MESSAGE
            assert len(engine.requests) == 2


async def test_large_ones_wait_on_disk_and_are_sent_again_whole(tmp_path):
    bad, good = openai_engine(respond_json(500, {})), openai_engine(respond_json(200, MESSAGE))
    async with bad, good:
        blocks = {
            "nodes": {"a": node(bad, dialects=["anthropic"]), "b": node(good, dialects=["anthropic"])},
            "roles": {"r": chain("a/m", "b/m")},
        }
        turns = [{"role": "user", "content": "x" * 2_000_000}]
        async with running_gateway(house(**blocks), tmp_path) as gateway:
            reply = await gateway.post("/v1/messages", {**ASKED, "model": "r", "messages": turns})
            assert reply.json() == MESSAGE
            assert bad.requests[0].json()["messages"] == good.requests[0].json()["messages"] == turns


SYSTEM_LATER = [*ASKED["messages"], {"role": "system", "content": "be kind"}]
NAMESPACE = {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/messages", {**ASKED, "messages": SYSTEM_LATER}),
        ("/v1/responses", {"model": "m", "input": "hello", "tools": [NAMESPACE]}),
    ],
)
async def test_what_an_engine_would_misread_is_translated_for_it(tmp_path, route, body):
    engine = openai_engine(respond_json(200, answer("so be it")))
    async with engine:
        nodes = speaking(engine, "anthropic", "responses")
        async with running_gateway(house(nodes=nodes), tmp_path) as gateway:
            assert (await gateway.post(route, body)).status == 200
            assert engine.requests[0].path == "/v1/chat/completions"
            assert "lane=passed" not in (await gateway.post(route, body)).header("x-fleetgate-plan")


@pytest.mark.parametrize("told", ["anthropic", "responses"])
async def test_its_maker_gets_it_as_it_was_written(tmp_path, told):
    route, body, said = {
        "anthropic": ("/v1/messages", {**ASKED, "messages": SYSTEM_LATER}, MESSAGE),
        "responses": ("/v1/responses", {"model": "m", "input": "hello", "tools": [NAMESPACE]}, RESPONSE),
    }[told]
    engine = openai_engine(respond_json(200, said))
    async with engine:
        row = provider(engine, dialects=[told])
        async with running_gateway(house(providers={"shop": row}), tmp_path) as gateway:
            assert (await gateway.post(route, body)).status == 200
            assert engine.requests[0].path == route


FOLDED = {"type": "array", "items": [[[[[[[[{}]]]]]]]]}
for _ in range(30):
    FOLDED = {"type": "object", "properties": {"a": FOLDED}}
TALL = {"type": "string", "maxLength": 10**10}
PHOTO = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}


@pytest.mark.parametrize(
    ("path", "members", "said"),
    [
        (
            "/v1/responses",
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": FOLDED}}},
            "levels",
        ),
        (
            "/v1/responses",
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": TALL}}},
            "maxLength",
        ),
        ("/v1/responses", {"max_output_tokens": -5}, "less than nothing"),
        ("/v1/messages", {"output_config": {"format": {"type": "json_schema", "schema": FOLDED}}}, "levels"),
        ("/v1/messages", {"messages": [{"role": "user", "content": [PHOTO] * 101}]}, "101 pictures"),
    ],
    ids=["deep", "tall", "negative", "deep, anthropic", "pictures"],
)
async def test_engines_of_ones_own_are_kept_from_what_hurts_them(tmp_path, path, members, said):
    engine = openai_engine(respond_json(200, MESSAGE))
    async with engine:
        nodes = speaking(engine, "anthropic", "responses")
        async with running_gateway(house(nodes=nodes), tmp_path) as gateway:
            body = ASKED if path == "/v1/messages" else {"model": "m", "input": "hi"}
            reply = await gateway.post(path, {**body, **members})
            assert reply.status == 400
            assert said in reply.json()["error"]["message"]
            assert engine.requests == []


async def test_a_response_is_no_longer_than_fits(tmp_path):
    engine = openai_engine(respond_json(200, RESPONSE))
    async with engine:
        blocks = {"nodes": speaking(engine, "responses", models=[{"name": "m", "context": 4_096}])}
        async with running_gateway(house(**blocks), tmp_path) as gateway:
            asked = {"model": "m", "input": "hi", "max_output_tokens": 10**6}
            reply = await gateway.post("/v1/responses", asked)
            assert (reply.status, reply.header("x-fleetgate-left-out")) == (200, "max_output_tokens")
            assert engine.requests[0].json()["max_output_tokens"] == 4_096


@pytest.mark.parametrize("end", ["", "/v1"])
async def test_an_address_without_its_version_is_read_alike_in_every_dialect(tmp_path, end):
    engine = openai_engine(respond_json(200, MESSAGE))
    async with engine:
        row = provider(engine, kind="anthropic")
        row["url"] = row["url"].removesuffix("/v1") + end
        async with running_gateway(house(providers={"claude": row}), tmp_path) as gateway:
            await gateway.post("/v1/messages", ASKED)
            await gateway.chat("m")
            assert [one.path for one in engine.requests] == ["/v1/messages"] * 2


async def test_what_runs_at_providers_is_not_sent_to_an_engine_that_only_speaks_the_dialect(tmp_path):
    engine = openai_engine(respond_json(200, MESSAGE))
    async with engine:
        house_of = {"nodes": {"box": node(engine, kind="vllm", models=[{"name": "m"}])}}
        async with running_gateway(house(**house_of), tmp_path) as gateway:
            gateway.engine("box/vllm").version = "0.11.1"
            learn_ways(gateway.engine("box/vllm"))
            reply = await gateway.post("/v1/messages", ASKED)
            assert (reply.status, engine.requests[0].path) == (200, "/v1/messages")
            tools = [{"type": "web_search_20250305", "name": "web_search"}]
            reply = await gateway.post("/v1/messages", {**ASKED, "tools": tools})
            assert (reply.status, reply.json()["error"]["type"]) == (400, "invalid_request_error")
            assert len(engine.requests) == 1


@pytest.mark.parametrize("ran", [0, 2])
async def test_a_cost_without_the_fees_of_tools_is_an_estimate(tmp_path, ran):
    message = {**MESSAGE, "usage": {**USAGE, "server_tool_use": {"web_search_requests": ran}}}
    engine = openai_engine(respond_json(200, message))
    async with engine:
        price = {"input": "1 USD/Mtok", "output": "2 USD/Mtok"}
        row = claude(engine, models=[{"name": "m", "price": price}])
        async with running_gateway(house(providers=row), tmp_path) as gateway:
            assert (await gateway.post("/v1/messages", ASKED)).status == 200
            (attempt,) = (await gateway.entry()).attempts
            assert attempt.cost > 0
            assert attempt.estimated is bool(ran)


async def test_tools_that_ran_stand_in_a_response(tmp_path):
    found = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    response = {**RESPONSE, "output": [found, *RESPONSE["output"]]}
    frames = [*response_events()[:-1], event("response.completed", response=response)]
    engine = openai_engine(stream_sse(frames))
    async with engine:
        row = provider(engine, dialects=["responses"])
        async with running_gateway(house(providers={"shop": row}), tmp_path) as gateway:
            await gateway.post("/v1/responses", {"model": "m", "input": "x", "stream": True})
            assert (await gateway.entry()).attempts[0].usage.fees
