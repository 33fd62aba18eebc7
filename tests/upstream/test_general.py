"""The general transport's own ground: TLS."""

import asyncio
import socket
import ssl

import pytest
import pytest_asyncio
import trustme
from tests.support.upstreams import ScriptedUpstream, close, respond, send, stall, stream_sse

from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.upstream.dial import Dialler
from fleetgate.upstream.general import GeneralTransport
from fleetgate.upstream.port import Target, UpstreamRequest, read_all

pytestmark = pytest.mark.asyncio


def resolve(host, port):
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="module")
def serving(authority):
    """The upstream's side, for the name engine.test and for 127.0.0.1."""
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("engine.test", "127.0.0.1").configure_cert(settings)
    return settings


@pytest_asyncio.fixture
async def transport():
    transport = GeneralTransport(Dialler(resolve))
    yield transport
    await transport.close()


def ask(upstream, host="engine.test", **target):
    return UpstreamRequest(Target((host,), upstream.port, tls=True, **target), "POST", "/v1/x", (), b"{}")


async def fails(transport, request):
    with pytest.raises(AttemptFailed) as caught:
        async with asyncio.timeout(10):
            await transport.open(request)
    assert caught.value.failure is FailureClass.TLS_FAILED
    return caught.value.text


@pytest.mark.parametrize("host", ["engine.test", "127.0.0.1"])
async def test_trusted_by_its_file_and_reused(transport, serving, ca_file, host):
    async with ScriptedUpstream(respond(200, b"a"), ssl=serving) as upstream:
        for reused in (False, True):
            answer = await transport.open(ask(upstream, host, ca=ca_file))
            assert (answer.status, answer.reused) == (200, reused)
            assert await read_all(answer, 100) == b"a"
        assert upstream.requests[0].header("host") == f"{host}:{upstream.port}"


async def test_unknown_authority(transport, serving):
    async with ScriptedUpstream(respond(200, b"a"), ssl=serving) as upstream:
        assert "certificate" in await fails(transport, ask(upstream))
        assert upstream.requests == []


async def test_wrong_name(transport, serving, ca_file):
    async with ScriptedUpstream(respond(200, b"a"), ssl=serving) as upstream:
        text = await fails(transport, ask(upstream, "other.test", ca=ca_file))
        assert "other.test" in text
        assert upstream.requests == []


async def test_no_tls_there(transport, ca_file):
    async with ScriptedUpstream(connections=[[send(b"HTTP/1.1 400 Bad\r\n\r\n"), close()]]) as upstream:
        await fails(transport, ask(upstream, ca=ca_file))


async def test_closed_in_the_handshake(transport, ca_file):
    async with ScriptedUpstream(connections=[[close()]]) as upstream:
        await fails(transport, ask(upstream, ca=ca_file))


async def test_handshake_without_end(transport, ca_file):
    async with ScriptedUpstream(connections=[[stall()]]) as upstream:
        text = await fails(transport, ask(upstream, ca=ca_file, connect_timeout=0.05))
        assert "handshake" in text
        async with asyncio.timeout(10):
            await upstream.peers[0].closed.wait()


async def test_no_such_file(transport):
    assert "/no/such" in await fails(
        transport, UpstreamRequest(Target(("engine.test",), 1, tls=True, ca="/no/such"), "GET", "/")
    )


async def test_abort_and_cancel_close_the_socket(transport, serving, ca_file):
    async with ScriptedUpstream(stream_sse(["a", stall()]), [stall()], ssl=serving) as upstream:
        async with asyncio.timeout(10):
            answer = await transport.open(ask(upstream, ca=ca_file))
            assert await answer.read() == b"data: a\n\n"
            answer.abort()
            await upstream.peers[0].closed.wait()
            task = asyncio.get_running_loop().create_task(transport.open(ask(upstream, ca=ca_file)))
            await upstream.wait_for_requests(2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await upstream.peers[1].closed.wait()
