"""Answers that go through as they come: sound, texts and events, whole or visibly broken."""

import asyncio

import pytest
from tests.support.forms import recording
from tests.support.gateway import chain, error, node, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import (
    chunk,
    close,
    head,
    reset,
    respond,
    respond_json,
    send,
    stall,
    stream_sse,
)

pytestmark = pytest.mark.asyncio

SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
ASK = {"model": "m", "input": "hello there", "voice": "alloy"}
CHUNKED = [("Content-Type", "audio/mpeg"), ("Transfer-Encoding", "chunked")]


def one(engine, **gateway):
    return settings(nodes={"box": node(engine)}, gateway=gateway)


def two(a, b):
    roles = {"voice": chain("a/openai/m", "b/openai/m")}
    return settings(nodes={"a": node(a), "b": node(b)}, roles=roles)


def delta(text):
    return {"type": "transcript.text.delta", "delta": text}


DONE = {
    "type": "transcript.text.done",
    "text": "hello there",
    "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17},
}


async def test_sound_is_passed_on_while_it_is_made(tmp_path):
    more = asyncio.Event()
    script = [
        send(head(200, CHUNKED)),
        send(chunk(b"ID3")),
        stall(more),
        send(chunk(b"\x00\xff")),
        send(chunk(b"")),
    ]
    async with openai_engine(script) as engine, running_gateway(one(engine), tmp_path) as gateway:
        async with gateway.caller() as caller:
            body = b'{"model": "m", "voice": "alloy", "input": "hello there", "stream": false}'
            await caller.ask("POST", SPEECH, gateway.headers(), body)
            reply = await caller.head()
            assert (reply.status, reply.header("content-type")) == (200, "audio/mpeg")
            assert reply.header("x-fleetgate-deployment") == "box/openai/m"
            assert reply.header("content-length") is None
            assert await caller.piece() == b"ID3"
            more.set()
            reply = await caller.rest()
        assert (reply.body, reply.complete) == (b"ID3\x00\xff", True)
        (request,) = engine.requests
        assert (request.header("accept"), request.header("content-type")) == ("*/*", "application/json")
        assert "stream" not in request.json()
        entry = await gateway.entry()
        assert (entry.outcome, entry.usage.characters, entry.bytes_out) == ("ok", 11, 5)
        assert entry.first_content is not None


@pytest.mark.parametrize("end", [reset, close], ids=["reset", "close"])
@pytest.mark.parametrize("sized", [False, True])
async def test_a_sound_that_breaks_off_does_not_look_whole(tmp_path, end, sized):
    lines = [("Content-Type", "audio/mpeg"), ("Content-Length", "9")] if sized else CHUNKED
    begun = asyncio.Event()
    script = [send(head(200, lines) + (b"ID3" if sized else chunk(b"ID3"))), stall(begun), end()]
    async with openai_engine(script) as engine, running_gateway(one(engine), tmp_path) as gateway:
        async with gateway.caller() as caller:
            await caller.ask("POST", SPEECH, gateway.headers(), b'{"model": "m", "input": "x"}')
            await caller.head()
            assert await caller.piece() == b"ID3"
            begun.set()
            reply = await caller.rest()
            assert (reply.status, reply.body, reply.complete) == (200, b"ID3", False)
            assert await caller.reader.read() == b""
        entry = await gateway.entry()
        assert (entry.outcome, entry.attempts[0].outcome) == ("stream_broken", "stream_broken")
        assert await gateway.count_logged("request_failed") == 0


@pytest.mark.parametrize(
    "script",
    [
        respond_json(500, error("tired")),
        respond_json(200, error("tired")),
        [close()],
        respond(200, b"", "audio/mpeg"),
        respond(200, b"<html>", "text/html"),
        stream_sse([], end=True),
        stream_sse([error("tired")]),
        [send(head(200, CHUNKED)), close()],
    ],
    ids=["500", "in disguise", "closed", "empty", "a page", "no events", "an error event", "no bytes"],
)
async def test_what_fails_before_the_first_byte_is_asked_elsewhere(tmp_path, script):
    good = respond(200, b"RIFF", "audio/wav")
    async with (
        openai_engine(script) as a,
        openai_engine(good) as b,
        running_gateway(two(a, b), tmp_path) as gateway,
    ):
        reply = await gateway.post(SPEECH, {**ASK, "model": "voice"})
        assert (reply.status, reply.body, reply.header("content-type")) == (200, b"RIFF", "audio/wav")
        assert reply.complete
        assert (await gateway.entry()).deployment == "b/openai/m"


async def test_the_limit_is_for_the_first_byte(tmp_path):
    go_on = asyncio.Event()
    slow = [send(head(200, CHUNKED)), stall()]
    lasting = [send(head(200, CHUNKED)), send(chunk(b"a")), stall(go_on), send(chunk(b"b")), send(chunk(b""))]
    steps = [{"pool": "a/openai/m", "answer": "100ms"}, {"pool": "b/openai/m", "answer": "300ms"}]
    async with openai_engine(slow) as a, openai_engine(lasting) as b:
        house = settings(nodes={"a": node(a), "b": node(b)}, roles={"voice": chain(*steps)})
        async with running_gateway(house, tmp_path) as gateway, gateway.caller() as caller:
            await caller.ask("POST", SPEECH, gateway.headers(), b'{"model": "voice", "input": "x"}')
            assert (await caller.head()).header("x-fleetgate-deployment") == "b/openai/m"
            assert await caller.piece() == b"a"
            await asyncio.sleep(0.4)  # longer than the limit: only the first byte was limited
            go_on.set()
            assert (await caller.rest()).complete


async def test_silence_inside_a_sound(tmp_path):
    script = [send(head(200, CHUNKED)), send(chunk(b"a")), stall()]
    async with (
        openai_engine(script) as engine,
        running_gateway(one(engine, between_tokens="100ms"), tmp_path) as gateway,
    ):
        reply = await gateway.post(SPEECH, ASK)
        assert (reply.status, reply.body, reply.complete) == (200, b"a", False)
        assert (await gateway.entry()).outcome == "stream_broken"


async def test_nothing_is_mixed_into_a_sound(tmp_path):
    go_on = asyncio.Event()
    script = [stall(go_on), *respond(200, b"RIFF", "audio/wav")]
    signs = {"keep_alive": {"first": "20ms", "every": "20ms"}}
    async with (
        openai_engine(script) as engine,
        running_gateway(one(engine, **signs), tmp_path) as gateway,
        gateway.caller() as caller,
    ):
        wish = gateway.headers({"x-fleetgate-keep-alive": "white-space"})
        await caller.ask("POST", SPEECH, wish, b'{"model": "m", "input": "x", "stream": true}')
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await caller.reader.read(1)
        go_on.set()
        await caller.head()
        assert (await caller.rest()).body == b"RIFF"


async def test_the_caller_leaves_during_a_sound(tmp_path):
    script = [send(head(200, CHUNKED)), send(chunk(b"a")), stall()]
    async with openai_engine(script) as engine, running_gateway(one(engine), tmp_path) as gateway:
        async with gateway.caller() as caller:
            await caller.ask("POST", SPEECH, gateway.headers(), b'{"model": "m", "input": "x"}')
            await caller.head()
            await caller.piece()
            caller.reset()
        assert (await gateway.entry()).outcome == "caller_gone"
        await asyncio.wait_for(engine.peers[-1].closed.wait(), 10)


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("hello", "text/plain; charset=utf-8"),
        ("", "text/plain; charset=utf-8"),
        ("hello", "application/json"),
    ],
)
async def test_texts_go_through(tmp_path, form, said, kind):
    script = respond(200, said.encode(), kind, [("Content-Language", "de")])
    async with openai_engine(script) as engine, running_gateway(one(engine), tmp_path) as gateway:
        body, headers = recording(b"RIFF", response_format=form)
        reply = await gateway.post(TRANSCRIPTIONS, body, headers)
        assert (reply.status, reply.body.decode(), reply.complete) == (200, said, True)
        assert (reply.header("content-type"), reply.header("content-language")) == (kind, "de")
        assert (await gateway.entry()).outcome == "ok"


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}, (14, 45, None)),
        ({"type": "duration", "seconds": 9}, (None, None, 9_000)),
    ],
)
async def test_usage_of_a_transcription(tmp_path, usage, counted):
    said = respond_json(200, {"text": "hello", "usage": usage})
    async with openai_engine(said) as engine:
        price = {"second": "0.006 USD/min"} if counted[2] else {"input": "1 USD/Mtok", "output": "2 USD/Mtok"}
        model = {"id": "m", "does": ["transcribe"], "price": price}
        house = settings(providers={"p": provider(engine, models=[model])})
        async with running_gateway(house, tmp_path) as gateway:
            body, headers = recording(b"RIFF" * 1000)
            reply = await gateway.post(TRANSCRIPTIONS, body, headers)
            assert reply.json()["usage"] == usage
            entry = await gateway.entry()
            assert (entry.usage.input_tokens, entry.usage.output_tokens, entry.usage.milliseconds) == counted
            cost = 900_000 if counted[2] else 14 * 1_000 + 45 * 2_000
            assert (entry.attempts[0].cost, entry.attempts[0].estimated) == (cost, False)


async def test_speech_is_charged_by_its_letters(tmp_path):
    async with openai_engine(respond(200, b"RIFF", "audio/wav")) as engine:
        model = {"id": "m", "does": ["speak"], "price": {"character": "15 USD/Mchar"}}
        house = settings(providers={"p": provider(engine, models=[model])})
        async with running_gateway(house, tmp_path) as gateway:
            assert (await gateway.post(SPEECH, {**ASK, "input": "größe"})).status == 200
            attempt = (await gateway.entry()).attempts[0]
            assert (attempt.cost, attempt.estimated) == (5 * 15_000, False)


async def test_events_of_a_transcription(tmp_path):
    more = asyncio.Event()
    script = stream_sse([b": ping\n\n", delta("hello"), stall(more), delta(" there"), DONE])
    async with openai_engine(script) as engine, running_gateway(one(engine), tmp_path) as gateway:
        async with gateway.caller() as caller:
            body, headers = recording(b"RIFF", stream="true")
            await caller.ask("POST", TRANSCRIPTIONS, gateway.headers(headers), body)
            assert (await caller.head()).header("content-type") == "text/event-stream"
            await caller.until(b"hello")
            more.set()
            reply = await caller.rest()
        assert reply.complete
        assert [event["type"].rpartition(".")[2] for event in reply.events] == ["delta", "delta", "done"]
        entry = await gateway.entry()
        assert (entry.streamed, entry.note) == (True, "")
        assert (entry.usage.input_tokens, entry.usage.output_tokens) == (14, 3)


async def test_events_that_break_off_end_with_an_error(tmp_path):
    torn = b'data: {"type": "transcript.te'
    begun = asyncio.Event()
    script = stream_sse([delta("hello"), stall(begun), torn, reset()])
    async with openai_engine(script) as engine, running_gateway(one(engine), tmp_path) as gateway:
        async with gateway.caller() as caller:
            body, headers = recording(b"RIFF", stream="true")
            await caller.ask("POST", TRANSCRIPTIONS, gateway.headers(headers), body)
            await caller.head()
            await caller.until(b"hello")
            begun.set()
            reply = await caller.rest()
        assert reply.complete
        assert reply.error["code"] == "stream_broken"
        assert b"transcript.te\n" not in reply.body
        assert (await gateway.entry()).outcome == "stream_broken"


async def test_an_error_among_events(tmp_path):
    both = b"".join(
        b"data: " + text + b"\n\n"
        for text in (b'{"type": "transcript.text.delta"}', b'{"error": {"message": "tired"}}')
    )
    script = stream_sse([both])
    async with openai_engine(script) as engine, running_gateway(one(engine), tmp_path) as gateway:
        body, headers = recording(b"RIFF", stream="true")
        reply = await gateway.post(TRANSCRIPTIONS, body, headers)
        assert reply.events[0] == {"type": "transcript.text.delta"}
        assert "tired" in reply.error["message"]
        assert len(reply.events) == 2


async def test_pictures_in_the_making(tmp_path):
    partial = {"type": "image_generation.partial_image", "b64_json": "aGk="}
    last = {
        "type": "image_generation.completed",
        "b64_json": "aGk=",
        "usage": {"input_tokens": 5, "output_tokens": 9},
    }
    async with (
        openai_engine(stream_sse([partial, last])) as engine,
        running_gateway(one(engine), tmp_path) as gateway,
    ):
        ask = {"model": "m", "prompt": "a lighthouse", "stream": True, "partial_images": 1}
        reply = await gateway.post("/v1/images/generations", ask)
        assert reply.events == [partial, last]
        sent = engine.requests[0].json()
        assert sent["stream"] is True
        assert "stream_options" not in sent
        usage = (await gateway.entry()).usage
        assert (usage.images, usage.input_tokens, usage.output_tokens) == (1, 5, 9)


async def test_an_engine_that_does_not_stream_pictures(tmp_path):
    async with (
        openai_engine(respond_json(200, {"data": [{"b64_json": "aGk="}]})) as engine,
        running_gateway(one(engine), tmp_path) as gateway,
    ):
        reply = await gateway.post("/v1/images/generations", {"model": "m", "prompt": "x", "stream": True})
        assert reply.header("content-type") == "application/json"
        assert (await gateway.entry()).usage.images == 1


async def test_answers_are_not_kept(tmp_path):
    async with openai_engine(respond(200, b"RIFF", "audio/wav")) as engine:
        house = settings(nodes={"box": node(engine)}, cache={"ttl": "1h"})
        async with running_gateway(house, tmp_path) as gateway:
            for _ in range(2):
                assert (await gateway.post(SPEECH, ASK)).body == b"RIFF"
            assert len(engine.requests) == 2


@pytest.mark.parametrize("does", [["transcribe"], ["chat"]])
async def test_who_only_writes_down_does_not_translate(tmp_path, does):
    async with openai_engine(respond_json(200, {"text": "x"})) as engine:
        model = {"name": "m", "does": does}
        async with running_gateway(
            settings(nodes={"box": node(engine, models=[model])}), tmp_path
        ) as gateway:
            body, headers = recording(b"RIFF")
            assert (await gateway.post("/v1/audio/translations", body, headers)).status == 400
            assert (await gateway.post(TRANSCRIPTIONS, body, headers)).status == (
                200 if "chat" not in does else 400
            )
