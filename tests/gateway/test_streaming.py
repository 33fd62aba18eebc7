"""Streams and bodies end to end: what is held back, what passes untouched, and who notices an end."""

import asyncio
import json

import pytest
from tests.gateway.pairs import alone, both
from tests.support.gateway import (
    answer,
    chain,
    chat_body,
    content_frame,
    error,
    finish_frame,
    node,
    openai_engine,
    role_frame,
    running_gateway,
    said,
)
from tests.support.upstreams import (
    chunk,
    close,
    head,
    reset,
    respond_json,
    send,
    stall,
    stream_sse,
    tell,
)

from fleetgate.errors import FailureClass

pytestmark = pytest.mark.asyncio
F = FailureClass

COMMENT = b": keep-alive\n\n"
END = b"data: [DONE]\n\n"
SOON = {"keep_alive": {"first": "50ms", "every": "20ms"}}


def data(value):
    """A frame as `stream_sse` sends it."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


# --- S1, S2: nothing before the first content but signs of life -------------------------------------------


async def test_nothing_goes_out_before_the_first_content(tmp_path):
    more, seen = asyncio.Event(), asyncio.Event()
    frames = [
        b": hello\n\n",
        role_frame(),
        tell(seen),
        stall(more),
        content_frame("hi"),
        finish_frame(),
        "[DONE]",
    ]
    async with openai_engine(stream_sse(frames)) as a, running_gateway(alone(a), tmp_path) as gateway:
        async with gateway.asking("a/m") as caller:
            await seen.wait()
            await gateway.until(lambda: gateway.deployment("a/openai/m").in_flight == 1)
            first = asyncio.get_running_loop().create_task(caller.head())
            done, _ = await asyncio.wait((first,), timeout=0.05)
            assert not done
            more.set()
            assert (await first).status == 200
            reply = await caller.rest()
        held = [b": hello\n\n", data(role_frame()), data(content_frame("hi"))]
        assert reply.frames == [*held, data(finish_frame()), END]
        assert reply.header("x-fleetgate-deployment") == "a/openai/m"
        assert reply.header("content-type") == "text/event-stream; charset=utf-8"
        assert reply.header("cache-control") == "no-cache"
        assert reply.header("x-accel-buffering") == "no"


async def test_a_waiting_caller_gets_signs_of_life_and_the_truth_later(tmp_path):
    """The first engine dies after its role; the second one answers, with its own role and id."""
    more = asyncio.Event()
    dies = stream_sse([role_frame("first"), stall(more), reset()])
    lives = stream_sse(said("fi", "ne", answer_id="second"))
    async with (
        openai_engine(dies) as a,
        openai_engine(lives) as b,
        running_gateway(both(a, b, gateway=SOON), tmp_path) as gateway,
    ):
        async with gateway.asking("both") as caller:
            reply = await caller.head()
            assert reply.status == 200
            assert reply.header("x-fleetgate-deployment") == "pending"
            assert reply.header("x-fleetgate-attempts") == "pending"
            await caller.until(COMMENT * 2)
            more.set()
            await caller.rest()
        assert reply.complete
        events = [frame for frame in reply.frames if frame != COMMENT]
        assert events == [data(frame) for frame in said("fi", "ne", answer_id="second")[:-2]] + [END]
        entry = await gateway.entry()
        assert (entry.outcome, entry.deployment) == ("ok", "b/openai/m")
        assert [one.outcome for one in entry.attempts] == [F.CUT_SHORT, "ok"]


async def test_after_a_sign_of_life_an_error_travels_in_the_stream(tmp_path):
    more = asyncio.Event()
    script = [stall(more), *respond_json(401, error("no"))]
    async with openai_engine(script) as a, running_gateway(alone(a, gateway=SOON), tmp_path) as gateway:
        async with gateway.asking("a/m") as caller:
            await caller.head()
            await caller.until(COMMENT)
            more.set()
            reply = await caller.rest()
        assert (reply.status, reply.complete) == (200, True)
        assert reply.error["class"] == F.KEY_INVALID
        assert b"[DONE]" not in reply.body
        assert (await gateway.entry()).outcome == F.KEY_INVALID


async def test_signs_of_life_stop_when_the_answer_begins(tmp_path):
    more, end = asyncio.Event(), asyncio.Event()
    frames = [stall(more), content_frame("hi"), stall(end), finish_frame(), "[DONE]"]
    async with (
        openai_engine(stream_sse(frames)) as a,
        running_gateway(alone(a, gateway=SOON), tmp_path) as gateway,
    ):
        async with gateway.asking("a/m") as caller:
            await caller.head()
            await caller.until(COMMENT)
            more.set()
            await caller.until(b'"hi"')
            before = caller.reply.body.count(COMMENT)
            await asyncio.sleep(0.06)  # three signs' time
            end.set()
            reply = await caller.rest()
        assert reply.body.count(COMMENT) == before
        assert reply.frames[-1] == END


async def test_white_space_keeps_a_whole_answer_alive_where_it_is_asked_for(tmp_path):
    more = asyncio.Event()
    script = [stall(more), *respond_json(200, answer("hi"))]
    async with openai_engine(script) as a, running_gateway(alone(a, gateway=SOON), tmp_path) as gateway:
        asks = {"x-fleetgate-keep-alive": "white-space"}
        async with gateway.asking("a/m", stream=False, headers=asks) as caller:
            reply = await caller.head()
            assert reply.header("content-type") == "application/json"
            assert reply.header("x-fleetgate-deployment") == "pending"
            await caller.until(b"  ")
            more.set()
            await caller.rest()
        assert reply.complete
        assert reply.body.lstrip(b" ") == json.dumps(answer("hi")).encode()
        assert reply.text == "hi"


async def test_without_being_asked_a_whole_answer_has_no_signs_of_life(tmp_path):
    more = asyncio.Event()
    script = [stall(more), *respond_json(200, answer("hi"))]
    async with openai_engine(script) as a, running_gateway(alone(a, gateway=SOON), tmp_path) as gateway:
        async with gateway.asking("a/m", stream=False) as caller:
            first = asyncio.get_running_loop().create_task(caller.head())
            done, _ = await asyncio.wait((first,), timeout=0.1)
            assert not done
            more.set()
            await first
            reply = await caller.rest()
        assert reply.body == json.dumps(answer("hi")).encode()
        assert reply.header("content-length") == str(len(reply.body))


async def test_more_than_is_held_goes_out(tmp_path):
    """An engine that sends long frames without content is passed on at 16 KiB."""
    long = role_frame() | {"padding": "x" * 9000}
    end = asyncio.Event()
    frames = [long, long, stall(end), content_frame("hi"), finish_frame(), "[DONE]"]
    async with (
        openai_engine(stream_sse(frames)) as a,
        running_gateway(alone(a), tmp_path) as gateway,
        gateway.asking("a/m") as caller,
    ):
        await caller.head()
        await caller.until(data(long) * 2)
        end.set()
        assert (await caller.rest()).text == "hi"


# --- S17: usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True, "x": [1]}])
async def test_usage_is_always_asked_for_and_shown_only_to_who_asked(tmp_path, options):
    members = {} if options is None else {"stream_options": options}
    async with openai_engine(stream_sse(said("hi"))) as a, running_gateway(alone(a), tmp_path) as gateway:
        reply = await gateway.chat("a/m", stream=True, **members)
        asked = (options or {}).get("include_usage", False)
        wanted = said("hi")[:-1] if asked else said("hi")[:-2]
        assert reply.frames == [*map(data, wanted), END]
        sent = a.requests[0].json()
        assert sent["stream_options"] == {**(options or {}), "include_usage": True}
        usage = (await gateway.entry()).usage
        assert (usage.input_tokens, usage.output_tokens) == (3, 2)


async def test_usage_inside_the_last_content_frame_is_read_and_passes(tmp_path):
    last = finish_frame() | {"usage": {"prompt_tokens": 7, "completion_tokens": 9}}
    frames = [role_frame(), content_frame("hi"), last, "[DONE]"]
    async with openai_engine(stream_sse(frames)) as a, running_gateway(alone(a), tmp_path) as gateway:
        reply = await gateway.chat("a/m", stream=True)
        assert reply.frames[-2] == data(last)
        assert (await gateway.entry()).usage.output_tokens == 9


# --- what passes untouched --------------------------------------------------------------------------------

ODD = (
    rb'{"messages" : [ {"role":"user","content":"\u00e9\/\ud83d\ude00 1.0"} ],"model":"a/m","seed":1e400, '
    rb'"top_p":1.50,"x":{"b":1,"a":[ ]},"metadata":null}'
)


async def test_nested_values_stay_byte_identical_and_unknown_members_pass(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(alone(a), tmp_path) as gateway,
    ):
        assert (await gateway.post("/v1/chat/completions", ODD)).status == 200
        sent = a.requests[0].body
        for piece in (
            rb'[ {"role":"user","content":"\u00e9\/\ud83d\ude00 1.0"} ]',
            rb'"seed":1e400',
            rb'"top_p":1.50',
            rb'"x":{"b":1,"a":[ ]}',
            rb'"metadata":null',
            rb'"model":"m"',
        ):
            assert sent.count(piece) == 1, piece
        assert b"stream" not in sent


async def test_of_two_members_with_one_name_the_last_one_is_sent_alone(tmp_path):
    body = (
        b'{"model":"x","temperature":0,"model":"a/m","messages":[],"temperature":2,'
        b'"stream":true,"stream":false}'
    )
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(alone(a), tmp_path) as gateway,
    ):
        assert (await gateway.post("/v1/chat/completions", body)).text == "hi"
        sent = a.requests[0].body
        assert sent.count(b'"model"') == sent.count(b'"temperature"') == 1
        assert a.requests[0].json() == {"model": "m", "temperature": 2, "messages": [], "stream": False}


async def test_frames_of_the_answer_stay_byte_identical(tmp_path):
    odd = [
        b'data:{"choices" : [{"index":0,"delta":{"content":"\\u00e9"}}],  "x":1.50}\n\n',
        b'event: note\nid: 7\ndata: {"choices":[]}\n\n',
        b": a comment\n\n",
        b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"b"}}]}\n\n',
        b"retry: 10\n\n",
        b"data: not JSON at all\n\n",
        b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n',
        b'data: {"choices":[],"timings":{"x":1}}\n\n',
    ]
    async with (
        openai_engine(stream_sse([*odd, "[DONE]"])) as a,
        running_gateway(alone(a), tmp_path) as gateway,
    ):
        reply = await gateway.chat("a/m", stream=True)
        assert reply.body == b"".join(odd) + END


async def test_a_whole_answer_stays_byte_identical(tmp_path):
    raw = b'{ "choices" :[{"message":{"content":"\\u00e9"}}] , "usage":{"prompt_tokens":1}, "x":1.50 }\n'
    lengths = [("Content-Type", "application/json"), ("Content-Length", str(len(raw)))]
    async with (
        openai_engine([send(head(200, lengths) + raw)]) as a,
        running_gateway(alone(a), tmp_path) as gateway,
    ):
        assert (await gateway.chat("a/m")).body == raw


async def test_headers_of_neither_side_pass_but_the_trace(tmp_path):
    """S14: an allow-list; the engine sees our own headers, the caller none of the engine's."""
    script = respond_json(200, answer("hi"), [("Set-Cookie", "a=b"), ("X-Engine", "1"), ("Server", "x")])
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    hers = {"cookie": "secret=1", "x-forwarded-for": "10.0.0.1", "traceparent": trace, "x-own": "1"}
    async with openai_engine(script) as a, running_gateway(alone(a), tmp_path) as gateway:
        reply = await gateway.post("/v1/chat/completions", chat_body("a/m"), hers)
        assert {"set-cookie", "x-engine", "server"}.isdisjoint(dict(reply.headers))
        got = dict(a.requests[0].headers)
        assert got["traceparent"] == trace
        assert got["x-request-id"] == reply.header("x-request-id")
        assert got["x-fleetgate-via"] == reply.header("x-fleetgate-instance")
        assert {"cookie", "x-forwarded-for", "x-own", "authorization"}.isdisjoint(got)


# --- S10: time ----------------------------------------------------------------------------------------------


async def test_signs_of_life_of_the_engine_are_no_tokens(tmp_path):
    """Comments keep the connection open, not the limit between tokens."""

    async def comments(peer):
        while True:
            await peer.send(chunk(b": still here\n\n"))
            await asyncio.sleep(0.01)

    frames = [role_frame(), content_frame("Hel"), comments]
    async with (
        openai_engine(stream_sse(frames)) as a,
        running_gateway(alone(a, gateway={"between_tokens": "100ms"}), tmp_path) as gateway,
    ):
        reply = await gateway.chat("a/m", stream=True)
        assert reply.error["class"] == F.STREAM_BROKEN
        assert reply.frames[1] == data(content_frame("Hel"))


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_callers_deadline(tmp_path, streamed):
    async with openai_engine([stall()]) as a, running_gateway(alone(a), tmp_path) as gateway:
        reply = await gateway.chat("a/m", stream=streamed, headers={"x-fleetgate-timeout": "0.05"})
        assert (reply.status, reply.error["class"]) == (504, F.DEADLINE)
        assert reply.header("x-should-retry") == "false"
        await a.peers[-1].closed.wait()
        entry = await gateway.entry()
        assert (entry.status, entry.outcome) == (504, F.DEADLINE)
        assert gateway.deployment("a/openai/m").breaker.fails_in_row == 0


async def test_a_deadline_in_the_middle_of_a_stream(tmp_path):
    script = stream_sse([role_frame(), content_frame("Hel"), stall()])
    roles = {"r": chain("a/m", deadline="100ms")}
    async with openai_engine(script) as a, running_gateway(alone(a, roles=roles), tmp_path) as gateway:
        reply = await gateway.chat("r", stream=True)
        assert (reply.status, reply.text, reply.error["class"]) == (200, "Hel", F.DEADLINE)
        assert b"[DONE]" not in reply.body
        await a.peers[-1].closed.wait()


# --- S11: a connection that was closed while it was idle -------------------------------------------------


@pytest.mark.parametrize("transport", ["lean", "general"])
@pytest.mark.parametrize("end", [reset(), close()], ids=["reset", "end"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_stale_connection_loses_no_request(tmp_path, transport, end, streamed):
    reply_script = stream_sse(said("two")) if streamed else respond_json(200, answer("two"))
    first = stream_sse(said("one")) if streamed else respond_json(200, answer("one"))
    async with openai_engine(first, [end], reply_script) as a:
        text = alone(a, nodes={"a": node(a, transport=transport)})
        async with running_gateway(text, tmp_path) as gateway:
            assert (await gateway.chat("a/m", stream=streamed)).text == "one"
            reply = await gateway.chat("a/m", stream=streamed, user="somebody")
            assert (reply.status, reply.text) == (200, "two")
            assert reply.header("x-fleetgate-attempts") == "1"
            entry = await gateway.entry(2)
            assert [one.outcome for one in entry.attempts] == [F.STALE_CONNECTION, "ok"]
            assert gateway.deployment("a/openai/m").breaker.fails_in_row == 0
            assert [one.connection for one in a.requests] == [1, 1, 2]
            assert a.requests[1].body == a.requests[2].body


async def test_an_engine_that_closes_fresh_connections_too_is_no_stale_one(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("one")), [reset()], [reset()]) as a,
        running_gateway(alone(a, attempts=1), tmp_path) as gateway,
    ):
        await gateway.chat("a/m")
        reply = await gateway.chat("a/m")
        assert (reply.status, reply.error["class"]) == (502, F.CUT_SHORT)
        entry = await gateway.entry(2)
        assert [one.outcome for one in entry.attempts] == [F.STALE_CONNECTION, F.CUT_SHORT]


async def test_a_connection_is_used_again(tmp_path):
    async with openai_engine(stream_sse(said("hi"))) as a, running_gateway(alone(a), tmp_path) as gateway:
        for _ in range(5):
            assert (await gateway.chat("a/m", stream=True)).text == "hi"
        assert {one.connection for one in a.requests} == {1}


# --- S12: bodies ------------------------------------------------------------------------------------------


async def test_a_body_that_says_it_is_too_large_is_refused_unread(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("never"))) as a,
        running_gateway(alone(a, gateway={"body_limit": "2KB"}), tmp_path) as gateway,
    ):
        async with gateway.caller() as caller:
            lines = "".join(f"{name}: {value}\r\n" for name, value in gateway.headers().items())
            start = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}content-length: 2001\r\n\r\n"
            await caller.send(start.encode())
            await caller.head()
            reply = await caller.rest()
            assert (reply.status, reply.error["code"]) == (413, "too_large")
        assert a.requests == []


async def test_a_body_without_a_length_is_counted(tmp_path):
    async with (
        openai_engine(respond_json(200, answer("hi"))) as a,
        running_gateway(alone(a, gateway={"body_limit": "2KB"}), tmp_path) as gateway,
    ):
        for size, status in ((1000, 200), (3000, 413)):
            async with gateway.caller() as caller:
                lines = "".join(f"{name}: {value}\r\n" for name, value in gateway.headers().items())
                start = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}transfer-encoding: chunked\r\n\r\n"
                body = json.dumps(chat_body("a/m", user="x" * size)).encode()
                middle = len(body) // 2
                await caller.send(start.encode() + chunk(body[:middle]))
                await caller.send(chunk(body[middle:]) + chunk(b""))
                await caller.head()
                reply = await caller.rest()
                assert reply.status == status
        assert len(a.requests) == 1
        assert len(a.requests[0].json()["user"]) == 1000


async def test_a_large_body_is_replayed_byte_for_byte(tmp_path):
    """Above 1 MiB it waits in a file; the second engine gets what the first one got."""
    words = "".join(chr(0x20 + number % 90) for number in range(3 * 2**20))
    content = [{"role": "user", "content": words}]
    async with (
        openai_engine([reset()]) as a,
        openai_engine(respond_json(200, answer("hi"))) as b,
        running_gateway(both(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.chat("both", messages=content, seed=7)
        assert reply.text == "hi"
        assert a.requests[0].body == b.requests[0].body
        assert b.requests[0].json()["messages"] == content
        entry = await gateway.entry()
        assert entry.bytes_in > 3 * 2**20


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"[]", 400, "malformed"),
        (b'{"model":"a/m"', 400, "malformed"),
        (b'{"model":"a/m","x":"\xff"}', 400, "malformed"),
        (b'{"model":7}', 400, "malformed"),
        (b'{"messages":[]}', 400, "model_missing_in_request"),
        (b'{"model":"a/m","stream":"yes"}', 400, "malformed"),
        (b'{"model":"nobody"}', 404, "model_not_found"),
        (b'{"model":"a/m","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "malformed"),
    ],
)
async def test_a_body_that_cannot_be_right(tmp_path, body, status, code):
    async with (
        openai_engine(respond_json(200, answer("never"))) as a,
        running_gateway(alone(a), tmp_path) as gateway,
    ):
        reply = await gateway.post("/v1/chat/completions", body)
        assert (reply.status, reply.error["code"]) == (status, code)
        assert reply.error["source"] == "caller"
        assert a.requests == []
        assert (await gateway.entry()).outcome == code
