"""Addresses in every body, header and query of every route: nobody here connects to any of them."""

import asyncio
import itertools
import json
import socket
from functools import partial

import pytest
from tests.http.test_sweep import KEYS, body_of, target
from tests.support.gateway import answer, error, node, openai_engine, provider, running_gateway, settings
from tests.support.upstreams import ScriptedUpstream, respond, respond_json

from fleetgate.upstream import dial
from fleetgate.upstream.media import Media

pytestmark = pytest.mark.asyncio

METADATA = "http://169.254.169.254/latest/meta-data/"
NAMES = (
    *(
        "api_base",
        "base_url",
        "url",
        "uri",
        "host",
        "endpoint",
        "proxy",
        "callback",
        "webhook",
        "webhook_url",
    ),
    *("user", "system", "suffix", "template", "chat_template", "format", "stop", "prompt", "query", "text"),
    *("messages", "input", "documents", "instructions", "metadata", "tools", "functions", "tool_choice"),
    *(
        "response_format",
        "options",
        "keep_alive",
        "context",
        "previous_response_id",
        "conversation",
        "container",
    ),
    *("mcp_servers", "extra_body", "extra_headers", "image", "images", "image_url", "mask", "audio", "file"),
    *("input_image", "video_url", "ref_images", "voice", "prediction", "grammar", "chat_template_kwargs"),
    *("cache_control", "include", "modalities", "store", "litellm_params", "model_info", "source", "path"),
)
HEADERS = (
    *("referer", "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"),
    *("x-original-url", "x-rewrite-url", "x-url", "x-target-url", "x-base-url", "x-proxy", "x-callback-url"),
    *(
        "x-portkey-custom-host",
        "helicone-target-url",
        "openai-base-url",
        "anthropic-beta",
        "anthropic-version",
    ),
    *("openai-organization", "x-fleetgate-timeout", "x-fleetgate-conversation", "x-session-id", "x-user"),
    *(
        "user-agent",
        "accept",
        "cookie",
        "traceparent",
        "cache-control",
        "idempotency-key",
        "from",
        "location",
    ),
)
QUERY = ("url", "model", "base_url", "callback", "host", "key", "capability", "prompt", "from", "path")


PLACES = (
    "http://127.0.0.1:CANARY/canary",
    "http://canary.test:CANARY/canary",
    "http://self.test:SELF/v1/models",
    "http://[::ffff:127.0.0.1]:SELF/v1/models",
    "http://127.0.0.1:CANARY/canary.png",
    METADATA,
    "http://meta.test/latest/",
)
FORMS = 8
CLOSELY = {"/v1/chat/completions", "/v1/messages", "/v1/responses"}


class Connections:
    """Everything that the gateway connects to."""

    def __init__(self, monkeypatch):
        self.made = set()
        start = dial.aiohappyeyeballs.start_connection

        async def recorded(addresses, **options):
            self.made |= {entry[4][:2] for entry in addresses}
            return await start(addresses, **options)

        monkeypatch.setattr(dial.aiohappyeyeballs, "start_connection", recorded)


def forms(address):
    """How an address may stand in a member."""
    part = {"type": "image_url", "image_url": {"url": address}}
    source = {"type": "image", "source": {"type": "url", "url": address}}
    inputs = {"type": "input_image", "image_url": address}
    return (
        address,
        [address],
        {"url": address, "type": "url"},
        [{"role": "user", "content": [part]}],
        [{"role": "user", "content": [source]}],
        [{"role": "user", "content": [inputs]}],
        [{"role": "user", "content": address, "images": [address]}],
        [{"type": "mcp", "server_url": address, "server_label": "x"}],
    )


async def ask(gateway, row, body, headers=None, path=None):
    async with gateway.caller() as caller:
        extra = {"content-type": "application/json"} if row.method != "GET" else {}
        host = {"host": f"127.0.0.1:{gateway.port}"}
        body = body if row.method in {"POST", "PATCH", "PUT"} else b""
        await caller.ask(
            row.method, path or target(row), {**host, **KEYS["master key"], **extra, **(headers or {})}, body
        )
        reply = await caller.head()
        return reply if row.method == "HEAD" else await caller.rest()


def bodies(row, turn):
    """The row's body with an address in one member after the other. Forms and places take turns from row to
    row; where messages stand, every form is tried at every place."""
    base = json.loads(body_of(row.template))
    # the forms of the admin API take their own members alone
    for name in row.request.model_fields if row.request is not None else NAMES:
        number = next(turn)
        yield {**base, name: forms(PLACES[number % len(PLACES)])[number % FORMS]}
    for name in ("messages", "input") if row.template in CLOSELY else ():
        for place in PLACES:
            for form in forms(place):
                yield {**base, name: form}


def multipart(address):
    edge = b"edge"
    parts = [
        b'--edge\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value.encode())
        for name, value in (("model", "m"), *((name, address) for name in NAMES))
    ]
    file = (
        b'--edge\r\ncontent-disposition: form-data; name="file"; filename="%b"\r\n\r\nx\r\n'
        % address.encode()
    )
    return b"".join(parts) + file + b"--" + edge + b"--\r\n"


def written(upstream, far, **gateway):
    return settings(gateway=gateway, nodes={"box": node(upstream)}, providers={"p": provider(far, "far")})


@pytest.mark.parametrize("fetches", [False, True])
async def test_no_member_of_any_body_is_connected_to(tmp_path, monkeypatch, fetches):
    asked = []

    def resolve(host, port):
        asked.append(host)
        where = "169.254.169.254" if host == "meta.test" else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (where, port))]

    extra = {"fetch_media": {}} if fetches else {}
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    reply = respond_json(200, {**answer("hi"), "data": [vector]})
    async with (
        ScriptedUpstream(respond(200, b"\x89PNG\r\n\x1a\n", "image/png")) as canary,
        openai_engine(reply) as own,
        openai_engine(reply) as far,
        running_gateway(written(own, far, **extra), tmp_path) as gateway,
    ):
        media = gateway.app.gateway.media = Media(resolve)  # with the guard as it is
        connections = Connections(monkeypatch)
        put = partial(_put, {"CANARY": canary.port, "SELF": gateway.port})
        count, turn = 0, itertools.cycle(range(7 * FORMS))
        for row in (row for row in gateway.app.surface.table.rows if row.method in {"POST", "PATCH", "PUT"}):
            for body in bodies(row, turn):
                found = await ask(gateway, row, put(json.dumps(body).encode()))
                assert found.status != 500, body
                count += 1
            form = {"content-type": "multipart/form-data; boundary=edge"}
            await ask(gateway, row, put(multipart(PLACES[next(turn) % len(PLACES)])), form)
        media.close()
        assert count > 1_000
        assert canary.connection_count == 0
        assert connections.made <= {("127.0.0.1", own.port), ("127.0.0.1", far.port)}
        assert bool(asked) is fetches


def _put(ports, raw):
    for name, port in ports.items():
        raw = raw.replace(name.encode(), str(port).encode())
    return raw


async def test_no_header_and_no_query_is_connected_to(tmp_path, monkeypatch):
    reply = respond_json(200, answer("hi"))
    async with (
        ScriptedUpstream(respond(200)) as canary,
        openai_engine(reply) as own,
        openai_engine(reply) as far,
        running_gateway(written(own, far), tmp_path) as gateway,
    ):
        connections = Connections(monkeypatch)
        for row in gateway.app.surface.table.rows:
            for address in (f"http://127.0.0.1:{canary.port}/", METADATA):
                body = body_of(row.template)
                await ask(gateway, row, body, dict.fromkeys(HEADERS, address))
                for name in ("host", "origin", "x-api-key", "authorization", "content-type"):
                    await ask(gateway, row, body, {name: address})
                query = "&".join(f"{name}={address}" for name in QUERY)
                path = target(row).partition("?")[0]
                await ask(gateway, row, body, path=f"{path}?{query}")
                if "{" in row.template:
                    await ask(gateway, row, body, path=row.template.partition("{")[0] + address)
                await ask(gateway, row, body, path=address)
        assert canary.connection_count == 0
        assert connections.made <= {("127.0.0.1", own.port), ("127.0.0.1", far.port)}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stream", [False, True])
async def test_no_redirect_of_an_upstream_is_followed(tmp_path, monkeypatch, status, stream):
    async with ScriptedUpstream(respond(200)) as canary:
        headers = [("Location", f"http://127.0.0.1:{canary.port}/v1/chat/completions")]
        async with (
            openai_engine(respond_json(status, error("over there"), headers)) as own,
            running_gateway(settings(nodes={"box": node(own)}), tmp_path) as gateway,
        ):
            connections = Connections(monkeypatch)
            reply = await gateway.chat(stream=stream)
            assert reply.status == 502
            assert f"the upstream redirects ({status})" in reply.json()["error"]["message"]
            assert canary.connection_count == 0
            assert connections.made == {("127.0.0.1", own.port)}


async def test_probes_follow_no_redirect(tmp_path, monkeypatch):
    asked = asyncio.Event()

    def route(request):
        asked.set()
        return respond(302, b"", "text/plain", [("Location", f"http://127.0.0.1:{canary.port}/v1/models")])

    async with (
        ScriptedUpstream(respond_json(200, {"data": [{"id": "m"}]})) as canary,
        ScriptedUpstream(route=route) as own,
    ):
        connections = Connections(monkeypatch)
        async with running_gateway(settings(nodes={"box": node(own)}), tmp_path):
            async with asyncio.timeout(5):
                await asked.wait()
        assert canary.connection_count == 0
        assert connections.made == {("127.0.0.1", own.port)}
