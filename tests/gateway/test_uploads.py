"""Forms with files through a running gateway: whole at every engine that is asked, bounded, never half."""

import asyncio
import hashlib
import random

import pytest
from tests.support.forms import BOUNDARY, Part, read, recording, written
from tests.support.gateway import MASTER_KEY, chain, error, node, openai_engine, running_gateway, settings
from tests.support.upstreams import close, hold, respond, respond_json, stall, tell, wait_for_head

pytestmark = pytest.mark.asyncio

SAID = respond_json(200, {"text": "hello"})
PATH = "/v1/audio/transcriptions"


def noise(size):
    return random.Random(size).randbytes(size)


def house(*engines, **blocks):
    names = [f"n{number}" for number in range(len(engines))]
    nodes = {name: node(engine) for name, engine in zip(names, engines, strict=True)}
    steps = [f"{name}/openai/m" for name in names]
    return settings(nodes=nodes, roles={"ears": chain(*steps)}, **blocks)


async def post(gateway, form, path=PATH):
    body, headers = form
    return await gateway.post(path, body, headers)


@pytest.mark.parametrize("size", [0, 10, 1024 * 1024 - 700, 1024 * 1024, 1024 * 1024 + 1, 5_000_000])
async def test_only_the_model_changes(tmp_path, size):
    content = noise(size)
    form = written(
        Part("language", b"de"),
        Part("file", content, 'a "quoted" name.wav'.replace('"', "%22"), "audio/wav"),
        Part("model", b"n0/openai/m"),
        Part("timestamp_granularities[]", b"word"),
        Part("timestamp_granularities[]", b"segment"),
        Part("prompt", "größer\r\n--form".encode()),
    )
    async with openai_engine(SAID) as engine, running_gateway(house(engine), tmp_path) as gateway:
        reply = await post(gateway, form)
        assert (reply.status, reply.json()) == (200, {"text": "hello"})
        (request,) = engine.requests
        assert request.path == PATH
        assert BOUNDARY not in request.header("content-type")
        assert read(request) == [
            Part("language", b"de"),
            Part("file", content, "a %22quoted%22 name.wav", "audio/wav"),
            Part("model", b"m"),
            Part("timestamp_granularities[]", b"word"),
            Part("timestamp_granularities[]", b"segment"),
            Part("prompt", "größer\r\n--form".encode()),
        ]
        entry = await gateway.entry()
        assert (entry.route, entry.outcome, entry.deployment) == (PATH, "ok", "n0/openai/m")
        assert entry.bytes_in >= size


@pytest.mark.parametrize("size", [1_000, 3_000_000])
async def test_another_engine_gets_the_same(tmp_path, size):
    content = noise(size)
    failing = openai_engine(respond_json(500, error("tired")))
    async with failing as a, openai_engine(SAID) as b, running_gateway(house(a, b), tmp_path) as gateway:
        assert (await post(gateway, recording(content, "ears", response_format="json"))).status == 200
        (file, *_), (same, *_) = read(a.requests[0]), read(b.requests[0])
        assert hashlib.sha256(file.content).digest() == hashlib.sha256(content).digest()
        assert hashlib.sha256(same.content).digest() == hashlib.sha256(content).digest()
        outcomes = [one.outcome for one in (await gateway.entry()).attempts]
        assert outcomes == ["server_error", "server_error", "ok"]
        assert a.requests[0].body == a.requests[1].body


async def test_an_engine_that_leaves_during_the_upload(tmp_path):
    content = noise(8_000_000)
    async with (
        openai_engine(SAID) as a,
        openai_engine(SAID) as b,
        running_gateway(house(a, b), tmp_path) as gateway,
    ):
        a._connections = [[wait_for_head(), close()]] * 9
        assert (await post(gateway, recording(content, "ears"))).status == 200
        assert a.requests == []
        assert read(b.requests[0])[0].content == content


FORM_TYPE = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.mark.parametrize(
    ("form", "status", "code", "param"),
    [
        (written(Part("file", b"x", "a.wav")), 400, "model_missing_in_request", "model"),
        (written(Part("model", b"")), 400, "model_missing_in_request", "model"),
        (written(Part("model", b"m"), Part("model", b"n")), 400, "malformed", "model"),
        (written(Part("model", b"m", "a.txt")), 400, "malformed", "model"),
        (written(Part("model", b"\xff")), 400, "malformed", "model"),
        (written(Part("model", b"m" * 5_000)), 400, "malformed", "model"),
        (written(Part("model", b"nobody")), 404, "model_not_found", "model"),
        ((b"{}", {"content-type": "multipart/form-data"}), 400, "malformed", None),
        ((b"{}", FORM_TYPE), 400, "malformed", None),
        ((recording(b"x")[0][:-5], FORM_TYPE), 400, "malformed", None),
        ((b'{"model":"m"}', {"content-type": "application/json"}), 415, "form_only", None),
        ((b'{"model":"m"}', {"content-type": "text/plain"}), 415, "form_only", None),
        (recording(b"x" * 40_000), 413, "too_large", None),
        (written(*(Part(f"f{n}", b"") for n in range(200))), 400, "malformed", None),
    ],
)
async def test_refusals(tmp_path, form, status, code, param):
    limits = {"media_limit": "30KB"}
    async with (
        openai_engine(SAID) as engine,
        running_gateway(house(engine, gateway=limits), tmp_path) as gateway,
    ):
        reply = await post(gateway, form)
        assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, param)
        assert engine.requests == []


async def test_a_form_has_no_place_where_json_is_taken(tmp_path):
    async with openai_engine(SAID) as engine, running_gateway(house(engine), tmp_path) as gateway:
        reply = await post(gateway, recording(b"x"), "/v1/embeddings")
        assert (reply.status, reply.error["code"]) == (415, "json_only")


async def test_the_limit_of_json_is_another_one(tmp_path):
    limits = {"body_limit": "2KB"}
    async with (
        openai_engine(SAID) as engine,
        running_gateway(house(engine, gateway=limits), tmp_path) as gateway,
    ):
        assert (await post(gateway, recording(noise(50_000), "n0/openai/m"))).status == 200
        speech = await gateway.post("/v1/audio/speech", {"model": "m", "input": "x" * 3_000})
        assert speech.status == 413


async def test_too_large_in_chunks(tmp_path):
    limits = {"media_limit": "100KB"}
    async with (
        openai_engine(SAID) as engine,
        running_gateway(house(engine, gateway=limits), tmp_path) as gateway,
    ):
        body, headers = recording(noise(300_000))
        async with gateway.caller() as caller:
            lines = {**gateway.headers(headers), "transfer-encoding": "chunked"}
            head = f"POST {PATH} HTTP/1.1\r\n" + "".join(
                f"{name}: {value}\r\n" for name, value in lines.items()
            )
            await caller.send(head.encode() + b"\r\n")
            for at in range(0, len(body), 20_000):
                piece = body[at : at + 20_000]
                await caller.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert (await caller.head()).status == 413


@pytest.mark.parametrize("sent", [200, 2_500_000])
async def test_the_caller_leaves_during_the_upload(tmp_path, sent):
    async with openai_engine(SAID) as engine, running_gateway(house(engine), tmp_path) as gateway:
        body, headers = recording(noise(4_000_000))
        async with gateway.caller() as caller:
            lines = {**gateway.headers(headers), "content-length": str(len(body))}
            head = f"POST {PATH} HTTP/1.1\r\n" + "".join(
                f"{name}: {value}\r\n" for name, value in lines.items()
            )
            await caller.send(head.encode() + b"\r\n" + body[:sent])
            spool = gateway.app.gateway
            await gateway.until(lambda: spool.uploads.held + spool.bodies.held)
            caller.reset()
        assert (await gateway.entry()).outcome == "caller_gone"
        assert spool.uploads.held == spool.bodies.held == 0
        assert engine.requests == []


async def test_the_caller_leaves_while_it_is_sent_on(tmp_path):
    held = asyncio.Event()
    stuck = openai_engine(route=lambda _: SAID)
    async with stuck as engine, running_gateway(house(engine), tmp_path) as gateway:
        # From now on it takes no more than the head of anything.
        engine._connections = [[wait_for_head(), hold(), tell(held), stall()]]
        body, headers = recording(noise(12_000_000), "n0/openai/m")
        async with gateway.caller() as caller:
            await caller.ask("POST", PATH, gateway.headers(headers), body)
            await asyncio.wait_for(held.wait(), 10)
            caller.reset()
        assert (await gateway.entry()).outcome == "caller_gone"
        assert gateway.app.gateway.uploads.held == 0


async def test_many_at_once(tmp_path):
    def echo(request):
        file = read(request)[0].content
        return respond(200, hashlib.sha256(file).hexdigest().encode(), "text/plain")

    async with openai_engine(route=echo) as engine, running_gateway(house(engine), tmp_path) as gateway:

        async def one(number):
            content = noise(1_000 + number)
            reply = await post(gateway, recording(content, "n0/openai/m", response_format="text"))
            return reply.body.decode() == hashlib.sha256(content).hexdigest()

        assert all(await asyncio.gather(*(one(number) for number in range(100))))


async def test_uploads_have_a_bound_of_their_own(tmp_path):
    async with openai_engine(SAID) as engine, running_gateway(house(engine), tmp_path) as gateway:
        gateway.app.gateway.uploads.limit = 2_000_000
        reply = await post(gateway, recording(noise(3_000_000)))
        assert (reply.status, reply.error["code"]) == (503, "too_many_bodies")
        assert gateway.app.gateway.bodies.held == 0
        assert (await post(gateway, recording(noise(1_500_000), "n0/openai/m"))).status == 200


async def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    async with openai_engine(SAID) as engine, running_gateway(house(engine), tmp_path) as gateway:
        monkeypatch.setattr("fleetgate.gateway.spool.tempfile.TemporaryFile", full)
        reply = await post(gateway, recording(noise(3_000_000)))
        assert (reply.status, reply.error["code"]) == (503, "no_room")
        assert "No space left" in reply.error["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_disk_that_is_full_for_large_json(tmp_path, monkeypatch, path):
    def full(**_):
        raise OSError(28, "No space left on device")

    async with openai_engine(SAID) as engine, running_gateway(house(engine), tmp_path) as gateway:
        monkeypatch.setattr("fleetgate.gateway.spool.tempfile.TemporaryFile", full)
        turns = [{"role": "user", "content": "x" * 2_000_000}]
        reply = await gateway.post(path, {"model": "m", "max_tokens": 9, "messages": turns})
        assert (reply.status, "No space left" in reply.json()["error"]["message"]) == (503, True)
        assert (await gateway.entry()).outcome == "no_room"
        assert gateway.app.gateway.bodies.held == 0


OPEN = {"auth": "open", "cors": ["https://chat.example.net"]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 403),
        ({"origin": "https://chat.example.net", "sec-fetch-site": "cross-site"}, 200),
    ],
)
async def test_forms_of_web_pages_in_open_mode(tmp_path, headers, status):
    async with (
        openai_engine(SAID) as engine,
        running_gateway(house(engine, gateway=OPEN), tmp_path) as gateway,
    ):
        body, kind = recording(b"x", "n0/openai/m")
        own = {"host": f"127.0.0.1:{gateway.port}", **kind, **headers}
        async with gateway.caller() as caller:
            await caller.ask("POST", PATH, own, body)
            assert (await caller.head()).status == status
            await caller.rest()
        assert len(engine.requests) == (status == 200)


async def test_a_form_does_not_open_json_routes_to_web_pages(tmp_path):
    async with (
        openai_engine(SAID) as engine,
        running_gateway(house(engine, gateway=OPEN), tmp_path) as gateway,
    ):
        body, kind = recording(b"x")
        own = {"host": f"127.0.0.1:{gateway.port}", **kind}
        async with gateway.caller() as caller:
            await caller.ask("POST", "/v1/chat/completions", own, body)
            assert (await caller.head()).status == 415


async def test_a_key_may_not_use_every_name_in_forms_either(tmp_path):
    async with openai_engine(SAID) as engine, running_gateway(house(engine), tmp_path) as gateway:
        made = await gateway.post(
            "/admin/api/keys", {"names": ["other"]}, {"authorization": f"Bearer {MASTER_KEY}"}
        )
        key = made.json()["secret"]
        body, headers = recording(b"x", "n0/openai/m")
        reply = await gateway.post(PATH, body, {**headers, "authorization": f"Bearer {key}"})
        assert reply.status in (403, 404)
        assert engine.requests == []
