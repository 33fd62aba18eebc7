"""The answer cache end to end: who gets a kept answer, what it looks like, and what is never kept."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from tests.support.gateway import (
    answer,
    chain,
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
from tests.support.upstreams import close, head, respond_json, send, stall, stream_sse

pytestmark = pytest.mark.asyncio

MIB = 1024 * 1024
NO_CACHE = {"cache-control": "no-cache"}
NO_STORE = {"cache-control": "no-store"}


def begin(work):
    return asyncio.get_running_loop().create_task(work)


def written(upstream, cache=None, **blocks):
    return settings(nodes={"box": node(upstream)}, cache={} if cache is None else cache, **blocks)


def marks(*replies):
    return [reply.header("x-fleetgate-cache") for reply in replies]


def data(value):
    return b"data: " + json.dumps(value).encode() + b"\n\n"


async def key_of(gateway, alias, **members):
    form = {"alias": alias, **members}
    made = await gateway.post("/admin/api/keys", form)
    assert made.status == 201, made.body
    return {"authorization": f"Bearer {made.json()['secret']}"}


# --- hits -----------------------------------------------------------------------------------------------


async def test_an_equal_request_gets_the_same_bytes_and_costs_nothing(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        first = await gateway.chat(temperature=0.7)
        second = await gateway.chat(temperature=0.7)
        assert first.status == second.status == 200
        assert marks(first, second) == ["miss", "hit"]
        assert first.body == second.body
        assert first.header("age") is None
        assert second.header("age") == "0"
        assert second.header("content-type") == "application/json"
        assert second.header("x-fleetgate-deployment") == "box/openai/m"
        assert second.header("x-fleetgate-attempts") == "0"
        assert len(a.requests) == 1
        made, spared = await gateway.entry(1), await gateway.entry(2)
        assert (made.cache, made.usage.input_tokens, len(made.attempts)) == ("", 3, 1)
        assert (spared.cache, spared.outcome, spared.status) == ("hit", "ok", 200)
        assert spared.attempts == ()
        assert spared.cost == 0
        assert spared.usage.input_tokens is None
        assert spared.deployment is None
        assert spared.note == "answer of box/openai/m, 3 -> 2 tokens not used"
        line = await gateway.logged("exchange", cache="hit")
        assert line["request_id"] == spared.request_id


async def test_nothing_is_said_or_kept_without_a_cache(tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        config = settings(nodes={"box": node(a)})
        async with running_gateway(config, tmp_path) as gateway:
            replies = [await gateway.chat(cache={"ttl": 5}) for _ in range(2)]
            assert marks(*replies) == [None, None]
            assert len(a.requests) == 2
            assert a.requests[0].json()["cache"] == {"ttl": 5}  # an unknown member, which passes


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
async def test_completions_and_embeddings(tmp_path, path):
    body = {"model": "m", "prompt": "x"} if "comp" in path else {"model": "m", "input": ["x", "y"]}
    given = (
        {"choices": [{"index": 0, "text": "hi", "finish_reason": "length"}]}
        if "comp" in path
        else {"object": "list", "data": [{"embedding": [0.5], "index": 0}, {"embedding": [1], "index": 1}]}
    )
    async with openai_engine(respond_json(200, given)) as a, running_gateway(written(a), tmp_path) as gateway:
        first, second = await gateway.post(path, body), await gateway.post(path, body)
        assert marks(first, second) == ["miss", "hit"]
        assert first.body == second.body
        assert len(a.requests) == 1


async def test_what_counts_and_what_does_not(tmp_path):
    """The order of members, `user` and spelling of names do not; every value does, byte for byte."""
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):

        async def mark(raw):
            return (await gateway.post("/v1/chat/completions", raw)).header("x-fleetgate-cache")

        assert await mark(b'{"model":"m","messages":[],"top_p":1}') == "miss"
        assert await mark(b'{ "top_p":1, "messages":[] , "model":"m"}') == "hit"
        assert await mark(b'{"top_p":1,"mess\\u0061ges":[],"model":"m","user":"anna"}') == "hit"
        assert await mark(b'{"top_p":2,"top_p":1,"messages":[],"model":"m","stream":false}') == "hit"
        assert await mark(b'{"top_p":1.0,"messages":[],"model":"m"}') == "miss"
        assert await mark(b'{"top_p":1,"messages":[ ],"model":"m"}') == "miss"
        assert await mark(b'{"top_p":1,"messages":[],"model":"box/m"}') == "miss"
        assert await mark(b'{"top_p":1,"messages":[],"model":"m","x":null}') == "miss"
        assert len(a.requests) == 5


async def test_the_routes_are_apart(tmp_path):
    async with (
        openai_engine(respond_json(200, {**answer("hi"), "data": [{}]})) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        body = {"model": "m", "input": "x", "prompt": "x", "messages": []}
        paths = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/chat/completions")
        replies = [await gateway.post(path, body) for path in paths]
        assert marks(*replies) == ["miss", "miss", "miss", "hit"]


# --- streams --------------------------------------------------------------------------------------------

FRAMES = [role_frame(), content_frame("Hel"), content_frame("lo"), finish_frame(), usage_frame()]


async def test_a_stream_is_given_again_as_a_stream(tmp_path):
    async with (
        openai_engine(stream_sse([b": ping\n\n", *FRAMES, "[DONE]"])) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        plain = await gateway.chat(stream=True)
        again = await gateway.chat(stream=True)
        usage = await gateway.chat(stream=True, stream_options={"include_usage": True})
        assert marks(plain, again, usage) == ["miss", "hit", "hit"]
        assert again.header("content-type") == plain.header("content-type")
        assert again.header("cache-control") == "no-cache"
        assert again.frames == [*map(data, FRAMES[:-1]), b"data: [DONE]\n\n"]
        assert usage.frames == [*map(data, FRAMES), b"data: [DONE]\n\n"]
        assert [frame for frame in plain.frames if not frame.startswith(b":")] == again.frames
        assert len(a.requests) == 1
        entry = await gateway.entry(3)
        assert (entry.cache, entry.streamed, entry.attempts) == ("hit", True, ())


async def test_the_usage_frame_is_kept_where_the_first_caller_wanted_it(tmp_path):
    async with (
        openai_engine(stream_sse([*FRAMES, "[DONE]"])) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        usage = await gateway.chat(stream=True, stream_options={"include_usage": True})
        again = await gateway.chat(stream=True, stream_options={"include_usage": True})
        plain = await gateway.chat(stream=True)
        assert usage.frames == again.frames == [*map(data, FRAMES), b"data: [DONE]\n\n"]
        assert plain.frames == [*map(data, FRAMES[:-1]), b"data: [DONE]\n\n"]
        assert marks(usage, again, plain) == ["miss", "hit", "hit"]


async def test_streams_and_whole_answers_are_apart(tmp_path):
    replies = [respond_json(200, answer("whole")), stream_sse(said("stream"))]
    async with openai_engine(*replies) as a, running_gateway(written(a), tmp_path) as gateway:
        found = [await gateway.chat(stream=stream) for stream in (False, True, False, True)]
        assert [one.text for one in found] == ["whole", "stream", "whole", "stream"]
        assert marks(*found) == ["miss", "miss", "hit", "hit"]


async def test_other_options_of_a_stream_count(tmp_path):
    async with openai_engine(stream_sse(said("hi"))) as a, running_gateway(written(a), tmp_path) as gateway:
        found = [
            await gateway.chat(stream=True, stream_options={"include_obfuscation": given})
            for given in (True, False, True)
        ]
        assert marks(*found) == ["miss", "miss", "hit"]


async def test_an_answer_that_was_put_together_from_a_stream(tmp_path):
    config = {"roles": {"chat": chain({"pool": "box/m", "first_token": "5s"})}}
    async with (
        openai_engine(stream_sse(said("hello"))) as a,
        running_gateway(written(a, **config), tmp_path) as gateway,
    ):
        first, second = await gateway.chat("chat"), await gateway.chat("chat")
        assert marks(first, second) == ["miss", "hit"]
        assert first.body == second.body
        assert second.text == "hello"


# --- what is never kept ---------------------------------------------------------------------------------

FILTERED = {**answer("hi"), "choices": [{"index": 0, "message": {}, "finish_reason": "content_filter"}]}
UNFINISHED = {**answer("hi"), "choices": [{"index": 0, "message": {}, "finish_reason": None}]}
ODD = {**answer("hi"), "choices": "none"}
BROKEN = {
    "without a finish reason": stream_sse([role_frame(), content_frame("Hel"), "[DONE]"]),
    "broken off": stream_sse([role_frame(), content_frame("Hel"), close()]),
    "an error frame": stream_sse([role_frame(), content_frame("Hel"), error("no"), "[DONE]"]),
    "filtered": stream_sse(
        [role_frame(), content_frame("x"), finish_frame(reason="content_filter"), "[DONE]"]
    ),
    "without an end mark": stream_sse([role_frame(), content_frame("x"), finish_frame()]),
    "an error behind it": stream_sse([content_frame("x"), finish_frame(), error("late"), "[DONE]"]),
}


@pytest.mark.parametrize("given", [FILTERED, UNFINISHED, ODD], ids=["filtered", "unfinished", "odd"])
async def test_answers_that_are_not_complete(tmp_path, given):
    async with openai_engine(respond_json(200, given)) as a, running_gateway(written(a), tmp_path) as gateway:
        replies = [await gateway.chat() for _ in range(2)]
        assert marks(*replies) == ["miss", "miss"]
        assert [reply.status for reply in replies] == [200, 200]
        assert len(a.requests) == 2


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_streams_that_are_not_complete(tmp_path, script):
    async with openai_engine(script) as a, running_gateway(written(a), tmp_path) as gateway:
        replies = [await gateway.chat(stream=True) for _ in range(2)]
        assert marks(*replies) == ["miss", "miss"]
        assert gateway.app.cache.figures()["entries"] == 0
        assert gateway.app.cache.figures()["recording_bytes"] == 0


async def test_a_stream_whose_caller_leaves(tmp_path):
    script = stream_sse([role_frame(), content_frame("Hel"), stall()])
    async with (
        openai_engine(script, stream_sse(said("again"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        async with gateway.asking() as caller:
            await caller.head()
            await caller.until(b"Hel")
        assert (await gateway.entry()).outcome == "caller_gone"
        assert (await gateway.chat(stream=True)).text == "again"
        assert gateway.app.cache.figures()["recording_bytes"] == 0


async def test_an_answer_with_several_choices(tmp_path):
    choice = answer("x")["choices"][0]
    two = {**answer("x"), "choices": [choice, {**choice, "index": 1}]}
    async with (
        openai_engine(respond_json(200, two), respond_json(200, answer("x"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        replies = [await gateway.chat(n=2) for _ in range(2)]
        assert marks(*replies) == ["miss", "hit"]
        few = [await gateway.chat(n=3) for _ in range(2)]  # only one choice comes
        assert marks(*few) == ["miss", "miss"]


async def test_errors(tmp_path):
    async with (
        openai_engine(respond_json(400, error("no"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        replies = [await gateway.chat() for _ in range(2)]
        assert [reply.status for reply in replies] == [400, 400]
        assert len(a.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_that_are_too_large(tmp_path, stream):
    reply = stream_sse(said("x" * 3_000)) if stream else respond_json(200, answer("x" * 3_000))
    async with (
        openai_engine(reply) as a,
        running_gateway(written(a, {"largest": "2KiB"}), tmp_path) as gateway,
    ):
        replies = [await gateway.chat(stream=stream) for _ in range(2)]
        assert marks(*replies) == ["miss", "miss"]
        figures = gateway.app.cache.figures()
        assert (figures["entries"], figures["too_large"], figures["recording_bytes"]) == (0, 2, 0)


async def test_requests_that_are_too_large_to_compare(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        replies = [await gateway.chat(pad="x" * (MIB + 1), cache={"ttl": 5}) for _ in range(2)]
        assert marks(*replies) == [None, None]
        assert "cache" not in a.requests[0].json()


async def test_the_oldest_go_when_there_is_no_room(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("x" * 1_000))) as a,
        running_gateway(written(a, {"size": "4KiB"}), tmp_path) as gateway,
    ):
        for seed in range(5):
            await gateway.chat(seed=seed)
        figures = gateway.app.cache.figures()
        assert figures["bytes"] <= 4096
        assert figures["entries"] + figures["evicted"] == 5
        assert figures["entries"] in (1, 2)
        assert marks(await gateway.chat(seed=4), await gateway.chat(seed=0)) == ["hit", "miss"]


# --- what the caller wants ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [{"headers": NO_CACHE}, {"cache": {"no-cache": True}}], ids=["header", "member"]
)
async def test_no_cache_asks_anew_and_keeps_the_new_answer(tmp_path, how):
    replies = [respond_json(200, answer(text)) for text in ("one", "two")]
    async with openai_engine(*replies) as a, running_gateway(written(a), tmp_path) as gateway:
        found = [await gateway.chat(), await gateway.chat(**how), await gateway.chat()]
        assert marks(*found) == ["miss", "miss", "hit"]
        assert [one.text for one in found] == ["one", "two", "two"]
        assert all("cache" not in request.json() for request in a.requests)


@pytest.mark.parametrize(
    "how", [{"headers": NO_STORE}, {"cache": {"no-store": True}}], ids=["header", "member"]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_no_store_keeps_nothing_but_may_be_answered(tmp_path, how, stream):
    reply = stream_sse(said("hi")) if stream else respond_json(200, answer("hi"))
    async with openai_engine(reply) as a, running_gateway(written(a), tmp_path) as gateway:
        one = await gateway.chat(stream=stream, **how)
        two = await gateway.chat(stream=stream)
        three = await gateway.chat(stream=stream, **how)
        assert marks(one, two, three) == ["miss", "miss", "hit"]


async def test_both_leave_the_cache_out(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        reply = await gateway.chat(headers={"cache-control": "No-Cache, no-store"})
        assert marks(reply) == [None]
        assert gateway.app.cache.figures()["misses"] == 0


async def test_how_old_and_how_long(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        now = 1_000.0
        gateway.app.cache.wall = lambda: now
        await gateway.chat()
        now += 100
        young = await gateway.chat(headers={"cache-control": "max-age=200"})
        assert (marks(young), young.header("age")) == (["hit"], "100")
        assert marks(await gateway.chat(cache={"s-maxage": 200})) == ["hit"]
        assert marks(await gateway.chat(headers={"cache-control": "max-age=soon"})) == ["hit"]
        assert marks(await gateway.chat(headers={"cache-control": "max-age=99"})) == ["miss"]
        now += 50
        assert marks(await gateway.chat(cache={"s-maxage": 49.5})) == ["miss"]
        assert marks(await gateway.chat(cache={"ttl": 10}, seed=1)) == ["miss"]
        assert marks(await gateway.chat(seed=1)) == ["hit"]
        now += 11
        assert marks(await gateway.chat(seed=1)) == ["miss"]
        assert marks(await gateway.chat(cache={"ttl": 0}, seed=2), await gateway.chat(seed=2)) == ["miss"] * 2
        now += 3_601
        assert marks(await gateway.chat()) == ["miss"]  # the hour of the file
        now -= 7_000
        back = await gateway.chat()
        assert (marks(back), back.header("age")) == (["hit"], "0")


async def test_namespaces_are_apart(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        found = [await gateway.chat(cache={"namespace": name}) for name in ("a", "b", "a")]
        assert marks(*found) == ["miss", "miss", "hit"]
        assert marks(await gateway.chat()) == ["miss"]


@pytest.mark.parametrize(
    "member",
    [1, "no-cache", [], {"ttl": "5"}, {"ttl": -1}, {"s-maxage": -1}, {"no-cache": "yes"}, {"namespace": 1}],
    ids=json.dumps,
)
async def test_a_member_of_another_form_is_refused(tmp_path, member):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        reply = await gateway.chat(cache=member)
        assert (reply.status, reply.error["param"]) == (400, "cache")
        assert not a.requests


@pytest.mark.parametrize(
    "member", [None, {}, {"use-cache": True, "other": [1]}, {"ttl": None}], ids=json.dumps
)
async def test_a_member_that_says_nothing(tmp_path, member):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        assert marks(await gateway.chat(), await gateway.chat(cache=member)) == ["miss", "hit"]


async def test_a_header_that_makes_no_sense(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        for text in (",,==;", 'max-age="', "max-age=" + "9" * 400, "no-cache-please", "\xff=\xfe"):
            reply = await gateway.chat(headers={"cache-control": text}, seed=text)
            assert (reply.status, marks(reply)) == (200, ["miss"])


# --- whose answers they are -----------------------------------------------------------------------------


async def test_each_key_has_its_own(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        anna, ben = await key_of(gateway, "anna"), await key_of(gateway, "ben")
        found = [await gateway.chat(headers=key) for key in (anna, ben, anna, ben)]
        assert marks(*found) == ["miss", "miss", "hit", "hit"]
        assert len(a.requests) == 2


async def test_all_keys_share_one_where_it_is_said(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a, {"share": True}), tmp_path) as gateway,
    ):
        anna, ben = await key_of(gateway, "anna"), await key_of(gateway, "ben")
        assert marks(*[await gateway.chat(headers=key) for key in (anna, ben)]) == ["miss", "hit"]
        assert (await gateway.entry(2)).principal != (await gateway.entry(1)).principal


async def test_who_may_not_use_the_name_gets_no_hit(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a, {"share": True}), tmp_path) as gateway,
    ):
        other = await key_of(gateway, "other", names=["something-else"])
        assert (await gateway.chat()).status == 200
        refused = await gateway.chat(headers=other)
        assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")


async def test_a_shared_answer_of_a_deployment_that_the_key_may_not_use(tmp_path):
    roles = {"chat": chain("away/m", "box/m")}
    async with (
        openai_engine(respond_json(200, answer("away"))) as a,
        openai_engine(respond_json(200, answer("box"))) as b,
        running_gateway(
            settings(nodes={"away": node(a), "box": node(b)}, roles=roles, cache={"share": True}), tmp_path
        ) as gateway,
    ):
        near = await key_of(gateway, "near", names=["chat", "!away/*"])
        first = await gateway.chat("chat")
        second = await gateway.chat("chat", headers=near)
        assert [first.text, second.text] == ["away", "box"]
        assert marks(first, second) == ["miss", "miss"]
        assert marks(await gateway.chat("chat", headers=near)) == ["hit"]


async def test_a_key_that_was_restricted_meanwhile(tmp_path):
    roles = {"chat": chain("away/m", "box/m")}
    async with (
        openai_engine(respond_json(200, answer("away"))) as a,
        openai_engine(respond_json(200, answer("box"))) as b,
        running_gateway(
            settings(nodes={"away": node(a), "box": node(b)}, roles=roles, cache={}), tmp_path
        ) as gateway,
    ):
        key = await key_of(gateway, "anna")
        assert (await gateway.chat("chat", headers=key)).text == "away"
        body = json.dumps({"names": ["chat", "!away/*"]}).encode()
        assert (await gateway.request("PATCH", "/admin/api/keys/anna", body)).status == 200
        assert (await gateway.chat("chat", headers=key)).text == "box"


async def test_only_some_names(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi")), models=["m", "mini", "big"]) as a,
        running_gateway(written(a, {"names": ["m*", "!mini"]}), tmp_path) as gateway,
    ):
        found = [await gateway.chat(name) for name in ("m", "m", "mini", "mini", "big")]
        assert marks(*found) == ["miss", "hit", None, None, None]


# --- single flight --------------------------------------------------------------------------------------


async def joined_by(gateway, count):
    """Until so many wait for another one's answer."""
    flights = gateway.app.cache.flights
    await gateway.until(lambda: sum(len(one.waiting) for one in flights._flying.values()) == count)


async def test_fifty_equal_requests_are_one(tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    async with openai_engine(script) as a, running_gateway(written(a), tmp_path) as gateway:
        asked = [begin(gateway.chat()) for _ in range(50)]
        await joined_by(gateway, 49)
        assert gateway.deployment("box/openai/m").in_flight == 1
        go.set()
        replies = await asyncio.gather(*asked)
        assert {reply.body for reply in replies} == {json.dumps(answer("hi")).encode()}
        assert sorted(marks(*replies)) == ["joined"] * 49 + ["miss"]
        assert len(a.requests) == 1
        await gateway.entry(50)
        spared = [entry for entry in gateway.entries if entry.cache]
        assert {(one.cache, one.attempts, one.cost, one.status) for one in spared} == {("joined", (), 0, 200)}
        assert len(spared) == 49
        assert len(gateway.app.cache.flights) == 0
        assert marks(await gateway.chat()) == ["hit"]


async def test_streams_do_not_wait_for_each_other(tmp_path):
    go = asyncio.Event()
    script = stream_sse([stall(go), *said("hi")])
    async with openai_engine(script) as a, running_gateway(written(a), tmp_path) as gateway:
        asked = [begin(gateway.chat(stream=True)) for _ in range(3)]
        await a.wait_for_requests(3)
        go.set()
        assert {reply.text for reply in await asyncio.gather(*asked)} == {"hi"}


@pytest.mark.parametrize("how", [NO_CACHE, NO_STORE], ids=["no-cache", "no-store"])
async def test_who_wants_its_own_answer_waits_for_nobody(tmp_path, how):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    async with openai_engine(script) as a, running_gateway(written(a), tmp_path) as gateway:
        asked = [begin(gateway.chat(headers=how)) for _ in range(2)]
        await a.wait_for_requests(2)
        go.set()
        assert marks(*await asyncio.gather(*asked)) == ["miss", "miss"]


async def test_keys_wait_only_for_their_own(tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    async with openai_engine(script) as a, running_gateway(written(a), tmp_path) as gateway:
        keys = [await key_of(gateway, name) for name in ("anna", "ben")]
        asked = [begin(gateway.chat(headers=key)) for key in keys]
        await a.wait_for_requests(2)
        go.set()
        assert marks(*await asyncio.gather(*asked)) == ["miss", "miss"]


@asynccontextmanager
async def leading(gateway, a, **members):
    """A caller whose request is on its way; nothing of its answer is read yet."""
    async with gateway.asking(stream=False, **members) as caller:
        await a.wait_for_requests(1)
        yield caller


async def test_a_leader_that_leaves_goes_on_for_the_others(tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    async with (
        openai_engine(script) as a,
        running_gateway(written(a), tmp_path) as gateway,
        leading(gateway, a) as leader,
    ):
        others = [begin(gateway.chat()) for _ in range(3)]
        await joined_by(gateway, 3)
        await leader.close()
        flight = next(iter(gateway.app.cache.flights._flying.values()))
        await gateway.until(lambda: flight.deserted)
        go.set()
        assert marks(*await asyncio.gather(*others)) == ["joined"] * 3
        assert len(a.requests) == 1
        await gateway.entry(4)
        (entry,) = [one for one in gateway.entries if not one.cache]
        assert (entry.outcome, entry.status, entry.usage.input_tokens) == ("caller_gone", 499, 3)
        assert [one.outcome for one in entry.attempts] == ["ok"]
        assert entry.note == "its caller had left; it went on for equal requests"
        assert marks(await gateway.chat()) == ["hit"]


async def test_a_leader_that_leaves_alone_is_cancelled(tmp_path):
    async with (
        openai_engine([stall()]) as a,
        running_gateway(written(a), tmp_path) as gateway,
        leading(gateway, a) as leader,
    ):
        await leader.close()
        assert (await gateway.entry()).outcome == "caller_gone"
        await a.peers[-1].closed.wait()


async def test_when_all_have_left_the_upstream_is_let_go(tmp_path):
    async with (
        openai_engine([stall()]) as a,
        running_gateway(written(a), tmp_path) as gateway,
        leading(gateway, a) as leader,
    ):
        async with gateway.asking(stream=False) as one, gateway.asking(stream=False) as two:
            await joined_by(gateway, 2)
            await leader.close()
            flight = next(iter(gateway.app.cache.flights._flying.values()))
            await gateway.until(lambda: flight.deserted)
            await one.close()
            await joined_by(gateway, 1)
            assert not a.peers[-1].closed.is_set()
            await two.close()
            await a.peers[-1].closed.wait()
        await gateway.entry(3)
        assert {entry.outcome for entry in gateway.entries} == {"caller_gone"}
        assert len(gateway.app.cache.flights) == 0


async def test_a_leader_whose_time_is_up_hears_so_and_the_others_get_the_answer(tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    soon = {"x-fleetgate-timeout": "0.3"}
    async with (
        openai_engine(script) as a,
        running_gateway(written(a), tmp_path) as gateway,
        leading(gateway, a, headers=soon) as leader,
    ):
        other = begin(gateway.chat())
        await joined_by(gateway, 1)
        await leader.head()
        late = await leader.rest()
        assert (late.status, late.error["code"]) == (504, "deadline")
        assert gateway.app.gateway.active == 2
        # The same connection is good for more meanwhile.
        await leader.ask("GET", "/v1/models", gateway.headers())
        await leader.head()
        assert (await leader.rest()).status == 200
        go.set()
        assert marks(await other) == ["joined"]
        await gateway.entry(2)
        (entry,) = [one for one in gateway.entries if not one.cache]
        assert (entry.outcome, entry.status) == ("deadline", 504)
        assert [one.outcome for one in entry.attempts] == ["ok"]
        assert len(a.requests) == 1


async def test_who_waits_has_its_own_deadline(tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    async with openai_engine(script) as a, running_gateway(written(a), tmp_path) as gateway:
        leader = begin(gateway.chat())
        await a.wait_for_requests(1)
        late = await gateway.chat(headers={"x-fleetgate-timeout": "0.1"})
        assert (late.status, late.error["code"]) == (504, "deadline")
        go.set()
        assert marks(await leader) == ["miss"]
        assert len(a.requests) == 1


async def test_after_a_leader_that_fails_one_of_the_others_leads(tmp_path):
    fail, go = asyncio.Event(), asyncio.Event()
    failing = [stall(fail), *respond_json(400, error("no"))]
    async with (
        openai_engine(failing, [stall(go), *respond_json(200, answer("hi"))]) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        asked = [begin(gateway.chat()) for _ in range(20)]
        await joined_by(gateway, 19)
        fail.set()
        await a.wait_for_requests(2)
        await joined_by(gateway, 18)
        go.set()
        replies = await asyncio.gather(*asked)
        assert sorted(reply.status for reply in replies) == [200] * 19 + [400]
        assert len(a.requests) == 2
        assert sorted(str(mark) for mark in marks(*replies)) == ["None"] + ["joined"] * 18 + ["miss"]


async def test_after_three_failures_the_rest_go_on_by_themselves(tmp_path):
    fail = asyncio.Event()
    failing = [stall(fail), *respond_json(400, error("no"))]
    async with openai_engine(failing) as a, running_gateway(written(a), tmp_path) as gateway:
        asked = [begin(gateway.chat()) for _ in range(6)]
        await joined_by(gateway, 5)
        fail.set()
        assert {reply.status for reply in await asyncio.gather(*asked)} == {400}
        assert len(a.requests) == 6
        assert len(gateway.app.cache.flights) == 0


async def test_an_answer_that_is_not_complete_is_given_to_nobody_else(tmp_path):
    go = asyncio.Event()
    first = [stall(go), *respond_json(200, FILTERED)]
    async with (
        openai_engine(first, respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        asked = [begin(gateway.chat()) for _ in range(3)]
        await joined_by(gateway, 2)
        go.set()
        replies = await asyncio.gather(*asked)
        assert sorted(marks(*replies)) == ["joined", "miss", "miss"]
        assert len(a.requests) == 2


async def test_an_answer_that_is_too_large_to_keep_is_given_to_those_who_wait(tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("x" * 3_000))]
    async with (
        openai_engine(script) as a,
        running_gateway(written(a, {"largest": "1KiB"}), tmp_path) as gateway,
    ):
        asked = [begin(gateway.chat()) for _ in range(3)]
        await joined_by(gateway, 2)
        go.set()
        assert sorted(marks(*await asyncio.gather(*asked))) == ["joined", "joined", "miss"]
        assert gateway.app.cache.figures()["entries"] == 0


async def test_a_leader_at_the_end_of_a_drain(tmp_path):
    """Everybody hears that the gateway stops, and nothing hangs."""
    async with openai_engine([stall()]) as a:
        config = written(a, gateway={"drain": "50ms"})
        async with running_gateway(config, tmp_path) as gateway:
            asked = [begin(gateway.chat()) for _ in range(4)]
            await joined_by(gateway, 3)
            gateway.app.stop()
            replies = await asyncio.gather(*asked)
            assert {reply.status for reply in replies} == {503}
            await a.peers[-1].closed.wait()


async def test_signs_of_life_while_waiting_for_another(tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    soon = {"keep_alive": {"first": "20ms", "every": "20ms"}}
    async with openai_engine(script) as a, running_gateway(written(a, gateway=soon), tmp_path) as gateway:
        leader = begin(gateway.chat())
        await a.wait_for_requests(1)
        sign = {"x-fleetgate-keep-alive": "white-space"}
        async with gateway.asking(stream=False, headers=sign) as caller:
            head = await caller.head()
            assert (head.status, head.header("x-fleetgate-cache")) == (200, "pending")
            await caller.until(b" ")
            go.set()
            assert (await caller.rest()).json() == answer("hi")
        assert (await leader).json() == answer("hi")


# --- changes while it runs ------------------------------------------------------------------------------


async def test_settings_change_while_it_runs(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("x" * 500))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):

        async def change(**blocks):
            gateway.config.write_text(settings(nodes={"box": node(a)}, **blocks), encoding="utf-8")
            reply = await gateway.post("/admin/api/reload", {})
            assert reply.status == 200, reply.body

        for seed in range(4):
            await gateway.chat(seed=seed)
        assert gateway.app.cache.figures()["entries"] == 4
        await change(cache={"size": "3KiB"})
        figures = gateway.app.cache.figures()
        assert figures["entries"] == 2
        assert figures["bytes"] <= 3 * 1024
        assert marks(await gateway.chat(seed=3)) == ["hit"]
        await change(cache={"ttl": "10s"})
        now = gateway.app.gateway.wall() + 11
        gateway.app.cache.wall = lambda: now
        assert marks(await gateway.chat(seed=3)) == ["miss"]
        await change()
        assert gateway.app.gateway.cache is None
        assert marks(await gateway.chat(seed=3)) == [None]
        assert gateway.app.cache.figures()["enabled"] is False
        await change(cache={})
        assert marks(await gateway.chat(seed=3), await gateway.chat(seed=3)) == ["miss", "hit"]


async def test_a_reload_that_takes_it_away_from_a_request_on_its_way(tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    async with openai_engine(script) as a, running_gateway(written(a), tmp_path) as gateway:
        asked = [begin(gateway.chat()) for _ in range(3)]
        await joined_by(gateway, 2)
        gateway.config.write_text(settings(nodes={"box": node(a)}), encoding="utf-8")
        assert (await gateway.post("/admin/api/reload", {})).status == 200
        go.set()
        assert {reply.status for reply in await asyncio.gather(*asked)} == {200}
        assert gateway.app.cache.figures()["kept"] == 0


async def test_a_name_that_leads_elsewhere_now(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("a"))) as a,
        openai_engine(respond_json(200, answer("b"))) as b,
    ):
        nodes = {"a": node(a), "b": node(b)}
        config = settings(nodes=nodes, roles={"chat": chain("a/m")}, cache={})
        async with running_gateway(config, tmp_path) as gateway:
            assert (await gateway.chat("chat")).text == "a"
            changed = settings(nodes=nodes, roles={"chat": chain("b/m")}, cache={})
            gateway.config.write_text(changed, encoding="utf-8")
            assert (await gateway.post("/admin/api/reload", {})).status == 200
            assert (await gateway.chat("chat")).text == "b"


async def test_a_restart_forgets(tmp_path):
    async with openai_engine(respond_json(200, answer("hi"))) as a:
        for _ in range(2):
            async with running_gateway(written(a), tmp_path) as gateway:
                assert marks(await gateway.chat()) == ["miss"]
        assert len(a.requests) == 2


async def test_a_flush_forgets_what_is_on_its_way_too(tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    async with openai_engine(script) as a, running_gateway(written(a), tmp_path) as gateway:
        asked = begin(gateway.chat())
        await a.wait_for_requests(1)
        assert (await gateway.post("/admin/api/cache/flush", {})).json()["flushed"] == 0
        go.set()
        await asked
        assert marks(await gateway.chat()) == ["miss"]


async def test_bytes_that_are_no_body(tmp_path):
    """Hostile bodies are refused as without a cache, and leave nothing behind."""
    bodies = [
        b"",
        b"[]",
        b'{"model":"m","cache":',
        b'{"model":"m","cache":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"model":"m","\\ud800":1}',
        b'{"model":"m","x":"\xff"}',
        b'{"model":"\\u0000m","cache":{"namespace":"\\u0000"}}',
    ]
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        for body in bodies:
            assert (await gateway.post("/v1/chat/completions", body)).status in (400, 404)
        assert not a.requests


async def test_a_torn_answer_with_a_length(tmp_path):
    whole = json.dumps(answer("hi")).encode()
    lines = [("Content-Type", "application/json"), ("Content-Length", str(len(whole)))]
    torn = [send(head(200, lines) + whole[:-10]), close()]
    async with (
        openai_engine(torn, torn, respond_json(200, answer("hi"))) as a,
        running_gateway(written(a), tmp_path) as gateway,
    ):
        replies = [await gateway.chat() for _ in range(2)]
        assert [reply.status for reply in replies][-1] == 200
        assert all(reply.header("x-fleetgate-cache") != "hit" for reply in replies)


# --- money ---------------------------------------------------------------------------------------------


def paid(upstream):
    price = {"input": "1 USD/Mtok", "output": "2 USD/Mtok"}
    return provider(upstream, models=[{"name": "m", "price": price, "context": 4_096}])


async def test_an_answer_that_was_paid_for_is_given_again_for_nothing(tmp_path):
    go = asyncio.Event()
    script = [stall(go), *respond_json(200, answer("hi"))]
    async with (
        openai_engine(script) as a,
        running_gateway(settings(providers={"p": paid(a)}, cache={}), tmp_path) as gateway,
    ):
        asked = [begin(gateway.chat(max_tokens=50)) for _ in range(3)]
        await joined_by(gateway, 2)
        go.set()
        await asyncio.gather(*asked)
        assert marks(await gateway.chat(max_tokens=50)) == ["hit"]
        await gateway.entry(4)
        assert sorted((one.cache, one.cost, one.cost_unknown) for one in gateway.entries) == [
            ("", 7_000, False),
            ("hit", 0, False),
            ("joined", 0, False),
            ("joined", 0, False),
        ]
        await gateway.store.flush()
        counts = await asyncio.to_thread(gateway.store.counters)
        assert sum(one.held for one in counts) == 0


async def test_an_answer_that_a_budget_shortened_is_given_to_nobody_else(tmp_path):
    limits = [{"scope": "global", "money": "0.001 USD"}]
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(settings(providers={"p": paid(a)}, limits=limits, cache={}), tmp_path) as gateway,
    ):
        replies = [await gateway.chat() for _ in range(2)]
        assert [request.json()["max_tokens"] > 0 for request in a.requests] == [True, True]
        assert marks(*replies) == ["miss", "miss"]
