"""Pictures named by address: kept from engines of one's own, fetched for them where that is enabled."""

import asyncio
import base64
import json
import socket
from contextlib import asynccontextmanager

import pytest
from tests.support import forms
from tests.support.gateway import (
    answer,
    chain,
    error,
    node,
    openai_engine,
    provider,
    running_gateway,
    said,
    settings,
)
from tests.support.upstreams import ScriptedUpstream, respond, respond_json, stall, stream_sse

from fleetgate.upstream.media import Media
from fleetgate.upstream.public import not_public

pytestmark = pytest.mark.asyncio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
AS_DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
FETCHES = {"fetch_media": {"timeout": "5s"}}


def only_here(address):
    return None if address == "127.0.0.1" else not_public(address)


def to_loopback(host, port):
    assert host.endswith(".test")
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]


@asynccontextmanager
async def serving(config, tmp_path):
    """A gateway that may fetch from loopback, under names that end in `.test`."""
    async with running_gateway(config, tmp_path) as gateway:
        media = gateway.app.gateway.media = Media(to_loopback, only_here)
        try:
            yield gateway
        finally:
            media.close()


def pictures(*replies):
    return ScriptedUpstream(*(replies or (respond(200, PNG, "image/png"),)))


def asking(*addresses):
    parts = [{"type": "image_url", "image_url": {"url": one, "detail": "low"}} for one in addresses]
    return [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, *parts]}]


def seen(engine, number=0):
    """The addresses in what an engine got."""
    content = json.loads(engine.requests[number].body)["messages"][0]["content"]
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


def engine(*replies):
    return openai_engine(*(replies or (respond_json(200, answer("a cat")),)))


async def test_an_own_engine_gets_no_address_and_the_caller_is_told_what_to_do(tmp_path):
    async with (
        pictures() as there,
        engine() as own,
        serving(settings(nodes={"box": node(own)}), tmp_path) as gateway,
    ):
        reply = await gateway.chat(messages=asking(f"http://127.0.0.1:{there.port}/a.png"))
        told = reply.json()["error"]
        assert (reply.status, told["code"]) == (400, "address_not_fetched")
        assert told["param"] == "messages[0].content[1].image_url.url"
        assert "fetch_media" in told["message"]
        assert "fetches_media: true" in told["message"]
        assert (own.requests, there.connection_count) == ([], 0)
        assert (await gateway.entry()).attempts == ()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_dialect_of_the_error_is_the_callers(tmp_path, stream):
    async with engine() as own, serving(settings(nodes={"box": node(own)}), tmp_path) as gateway:
        part = {"type": "image", "source": {"type": "url", "url": "http://pics.test/a.png"}}
        body = {
            "model": "m",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": [part]}],
            "stream": stream,
        }
        reply = await gateway.post("/v1/messages", body)
        assert (reply.status, reply.json()["type"]) == (400, "error")
        assert reply.json()["error"]["type"] == "invalid_request_error"
        part = {"type": "input_image", "image_url": "http://pics.test/a.png"}
        body = {"model": "m", "input": [{"role": "user", "content": [part]}], "stream": stream}
        reply = await gateway.post("/v1/responses", body)
        assert (reply.status, reply.json()["error"]["code"]) == (400, "address_not_fetched")
        assert own.requests == []


async def test_data_and_talk_of_addresses_pass(tmp_path):
    async with engine() as own, serving(settings(nodes={"box": node(own)}), tmp_path) as gateway:
        assert (await gateway.chat(messages=asking(AS_DATA))).status == 200
        text = 'see "image_url": "http://10.0.0.1/a.png"'
        assert (await gateway.chat(messages=[{"role": "user", "content": text}])).status == 200
        assert seen(own) == [AS_DATA]


async def test_an_engine_that_fetches_gets_addresses_as_written(tmp_path):
    address = "http://10.9.9.9/a.png"
    async with (
        engine() as own,
        serving(settings(nodes={"box": node(own, fetches_media=True)}), tmp_path) as gateway,
    ):
        assert (await gateway.chat(messages=asking(address))).status == 200
        assert seen(own) == [address]


async def test_a_provider_gets_addresses_and_the_engine_before_it_is_passed_over(tmp_path):
    address = "https://pics.test/a.png"
    async with (
        engine() as own,
        engine() as far,
        serving(
            settings(
                nodes={"box": node(own)},
                providers={"p": provider(far)},
                roles={"r": chain("box/m", "p/m")},
            ),
            tmp_path,
        ) as gateway,
    ):
        reply = await gateway.chat("r", messages=asking(address))
        assert (reply.status, reply.header("x-fleetgate-deployment")) == (200, "p/m")
        assert reply.header("x-fleetgate-attempts") == "1"
        assert seen(far) == [address]
        assert own.requests == []


@pytest.mark.parametrize("stream", [False, True])
async def test_fetched_pictures_take_the_place_of_addresses(tmp_path, stream):
    script = stream_sse(said("a ", "cat")) if stream else respond_json(200, answer("a cat"))
    async with (
        pictures() as there,
        engine(script) as own,
        serving(settings(gateway=FETCHES, nodes={"box": node(own)}), tmp_path) as gateway,
    ):
        address = f"http://pics.test:{there.port}/a.png"
        reply = await gateway.chat(messages=asking(address, AS_DATA, address), stream=stream, seed=7)
        assert (reply.status, reply.text) == (200, "a cat")
        assert seen(own) == [AS_DATA, AS_DATA, AS_DATA]
        assert there.connection_count == 1
        sent = json.loads(own.requests[0].body)
        assert (sent["seed"], sent["messages"][0]["content"][1]["image_url"]["detail"]) == (7, "low")
        assert (await gateway.entry()).note == f"1 fetched from pics.test: {len(PNG)} bytes"


async def test_both_forms_of_one_body(tmp_path):
    """The engine that fails gets data, the provider behind it the address."""
    async with (
        pictures() as there,
        engine(respond_json(500, error("broken"))) as own,
        engine() as far,
        serving(
            settings(
                gateway=FETCHES,
                nodes={"box": node(own)},
                providers={"p": provider(far)},
                roles={"r": chain("box/m", "p/m")},
            ),
            tmp_path,
        ) as gateway,
    ):
        address = f"http://pics.test:{there.port}/a.png"
        assert (await gateway.chat("r", messages=asking(address))).status == 200
        assert (seen(own), seen(far)) == ([AS_DATA], [address])
        assert there.connection_count == 1


async def test_only_providers_and_nothing_is_fetched(tmp_path):
    async with (
        pictures() as there,
        engine() as far,
        serving(settings(gateway=FETCHES, providers={"p": provider(far)}), tmp_path) as gateway,
    ):
        address = f"http://pics.test:{there.port}/a.png"
        assert (await gateway.chat(messages=asking(address))).status == 200
        assert (seen(far), there.connection_count) == ([address], 0)


async def test_large_pictures_wait_on_disk_and_are_given_back(tmp_path):
    large = PNG + bytes(3_000_000)
    async with (
        pictures(respond(200, large, "image/png")) as there,
        engine() as own,
        serving(settings(gateway=FETCHES, nodes={"box": node(own)}), tmp_path) as gateway,
    ):
        address = f"http://pics.test:{there.port}/a.png"
        assert (await gateway.chat(messages=asking(address))).status == 200
        assert base64.b64decode(seen(own)[0].partition(",")[2]) == large


@pytest.mark.parametrize(
    ("rule", "reply", "addresses", "why"),
    [
        ({}, respond(404, b"the secret"), 1, "pics.test: it answers with status 404"),
        ({}, respond(200, b"the secret", "image/png"), 1, "is not what it calls itself"),
        ({"most": "50B"}, respond(200, PNG + b"12345678901", "image/png"), 1, "larger than 50 bytes"),
        ({"count": 1}, respond(200, PNG, "image/png"), 2, "there are 2 addresses, and at most 1 are fetched"),
        ({"from": "*.example.net"}, respond(200, PNG, "image/png"), 1, "none of the hosts"),
        ({"timeout": "50ms"}, [stall()], 1, "was not there within 0.05 s"),
    ],
)
async def test_what_cannot_be_fetched_is_told_without_its_content(tmp_path, rule, reply, addresses, why):
    async with (
        pictures(reply) as there,
        engine() as own,
        serving(settings(gateway={"fetch_media": rule}, nodes={"box": node(own)}), tmp_path) as gateway,
    ):
        names = [f"http://pics.test:{there.port}/{one}" for one in range(addresses)]
        reply = await gateway.chat(messages=asking(*names))
        told = reply.json()["error"]
        assert (reply.status, told["code"]) == (400, "address_not_fetched")
        assert why in told["message"]
        assert told["param"] == f"messages[0].content[{addresses}].image_url.url"
        assert "secret" not in told["message"]
        assert own.requests == []


async def test_bytes_are_counted_over_all_pictures_of_a_request(tmp_path):
    async with (
        pictures() as there,
        engine() as own,
        serving(
            settings(gateway={"fetch_media": {"most": "100B"}}, nodes={"box": node(own)}), tmp_path
        ) as gateway,
    ):
        names = [f"http://pics.test:{there.port}/{one}" for one in range(3)]
        reply = await gateway.chat(messages=asking(*names))
        assert (reply.status, own.requests) == (400, [])
        assert "together they are larger than 100 bytes" in reply.json()["error"]["message"]


async def test_a_provider_still_answers_what_could_not_be_fetched(tmp_path):
    async with (
        pictures(respond(404)) as there,
        engine() as own,
        engine() as far,
        serving(
            settings(
                gateway=FETCHES,
                nodes={"box": node(own)},
                providers={"p": provider(far)},
                roles={"r": chain("box/m", "p/m")},
            ),
            tmp_path,
        ) as gateway,
    ):
        address = f"http://pics.test:{there.port}/a.png"
        reply = await gateway.chat("r", messages=asking(address))
        assert (reply.status, reply.header("x-fleetgate-deployment")) == (200, "p/m")
        assert own.requests == []


async def test_forms_that_are_never_fetched_are_refused_though_it_is_enabled(tmp_path):
    part = {"type": "video_url", "video_url": {"url": "https://pics.test/a.mp4"}}
    async with (
        engine() as own,
        serving(settings(gateway=FETCHES, nodes={"box": node(own)}), tmp_path) as gateway,
    ):
        for content in ([part], [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]):
            reply = await gateway.chat(messages=[{"role": "user", "content": content}])
            assert (reply.status, reply.json()["error"]["code"]) == (400, "address_not_fetched")
            assert "Only pictures and sounds in messages" in reply.json()["error"]["message"]
        assert own.requests == []


async def test_the_other_dialects_get_their_pictures_too(tmp_path):
    async with (
        pictures() as there,
        engine() as own,
        serving(settings(gateway=FETCHES, nodes={"box": node(own)}), tmp_path) as gateway,
    ):
        address = f"http://pics.test:{there.port}/a.png"
        part = {"type": "image", "source": {"type": "url", "url": address}}
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [part]}]}
        assert (await gateway.post("/v1/messages", body)).status == 200
        part = {"type": "input_image", "image_url": address}
        body = {"model": "m", "input": [{"role": "user", "content": [part]}]}
        assert (await gateway.post("/v1/responses", body)).status == 200
        assert (seen(own), seen(own, 1)) == ([AS_DATA], [AS_DATA])


async def test_own_words_with_addresses_pass_to_no_own_engine(tmp_path):
    """An engine that speaks the caller's dialect gets the request translated, with data."""
    address = "https://pics.test/a.png"
    hidden = {"type": "url", "url": address, "name": "x"}
    part = {"type": "image", "source": {"type": "url", "url": address}}
    async with (
        engine() as own,
        serving(settings(nodes={"box": node(own, dialects=["anthropic"])}), tmp_path) as gateway,
    ):

        async def ask(**members):
            body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], **members}
            own.requests.clear()
            reply = await gateway.post("/v1/messages", body)
            assert all(address not in request.body.decode() for request in own.requests)
            return reply.status, {request.path for request in own.requests}

        assert (await ask())[1] == {"/v1/messages"}
        assert await ask(messages=[{"role": "user", "content": [part]}]) == (400, set())
        assert await ask(mcp_servers=[hidden]) == (400, set())
        assert (await ask(container={"file": address}))[1] <= {"/v1/chat/completions"}


async def test_a_caller_who_leaves_ends_the_fetch(tmp_path):
    async with (
        pictures([stall()]) as there,
        engine() as own,
        serving(settings(gateway=FETCHES, nodes={"box": node(own)}), tmp_path) as gateway,
    ):
        body = {"model": "m", "messages": asking(f"http://pics.test:{there.port}/a.png")}
        async with gateway.asking(messages=body["messages"]):
            async with asyncio.timeout(5):
                await there.wait_for_requests(1)
        async with asyncio.timeout(5):
            await there.peers[0].closed.wait()
        assert (await gateway.entry()).outcome == "caller_gone"
        assert own.requests == []


async def test_explain_says_what_becomes_of_them(tmp_path):
    body = {"messages": asking("https://pics.test/a.png")}
    for extra, said_there in (({}, "refused: `messages[0]"), (FETCHES, "1 addresses: the gateway fetches")):
        place = tmp_path / str(len(extra))
        place.mkdir()
        async with (
            engine() as own,
            engine() as far,
            serving(
                settings(
                    gateway=extra,
                    nodes={"box": node(own)},
                    providers={"p": provider(far)},
                    roles={"r": chain("box/m", "p/m")},
                ),
                place,
            ) as gateway,
        ):
            plan = (await gateway.post("/admin/api/explain", {"model": "r", "body": body})).json()
            rows = {row["deployment"]: row for step in plan["steps"] for row in step["candidates"]}
            assert rows["p/m"]["changes"] == []
            assert rows["box/openai/m"]["changes"][0].startswith(said_there)
            assert ("addresses" in json.dumps(rows["box/openai/m"].get("reason"))) is not bool(extra)


@pytest.mark.parametrize(("address", "asked"), [(AS_DATA, True), ("https://pics.test/a.png", False)])
async def test_whoever_counts_tokens_gets_no_addresses_either(tmp_path, address, asked):
    source = {"type": "url", "url": address}
    if asked:
        source = {"type": "base64", "media_type": "image/png", "data": address.partition(",")[2]}
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
    async with (
        openai_engine(respond_json(200, {"input_tokens": 7})) as own,
        serving(settings(nodes={"box": counting(own)}), tmp_path) as gateway,
    ):
        reply = await gateway.post("/v1/messages/count_tokens", body)
        assert (reply.status, reply.header("x-fleetgate-estimated")) == (200, None if asked else "true")
        assert len(own.requests) == asked


def counting(engine):
    entry = {"kind": "vllm", "port": engine.port, "dialects": ["anthropic"], "models": [{"name": "m"}]}
    return {"engines": [entry]}


@pytest.mark.parametrize("name", ["url", "url[]", "image", "image_url"])
async def test_fields_of_forms(tmp_path, name):
    async with (
        openai_engine(respond_json(200, {"data": []})) as own,
        serving(settings(gateway=FETCHES, nodes={"box": node(own)}), tmp_path) as gateway,
    ):
        prompt = ("prompt", "http://10.0.0.1/")
        body, headers = form_of(("model", "m"), prompt, (name, "http://10.0.0.1/a.png"))
        reply = await gateway.post("/v1/images/edits", body, headers)
        assert (reply.status, reply.json()["error"]["code"]) == (400, "address_not_fetched")
        assert reply.json()["error"]["param"] == name
        body, headers = form_of(("model", "m"), prompt, (name, "aGVsbG8="))
        assert (await gateway.post("/v1/images/edits", body, headers)).status == 200
        assert len(own.requests) == 1


def form_of(*fields):
    return forms.written(*(forms.Part(name, text.encode()) for name, text in fields))
