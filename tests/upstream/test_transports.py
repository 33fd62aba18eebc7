"""Which transport carries what."""

import pytest
from tests.support.upstreams import ScriptedUpstream, respond

from fleetgate.upstream.port import Target, UpstreamRequest, read_all
from fleetgate.upstream.transports import Transports

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("choice", "name"), [("auto", "LeanAnswer"), ("lean", "LeanAnswer"), ("general", "GeneralAnswer")]
)
async def test_plain_http(choice, name):
    transports = Transports()
    async with ScriptedUpstream(respond(200, b"a")) as upstream:
        request = UpstreamRequest(Target(("127.0.0.1",), upstream.port), "GET", "/")
        answer = await transports.choose(choice).open(request)
        assert type(answer).__name__ == name
        assert await read_all(answer, 10) == b"a"
        await transports.close()


async def test_tls_is_never_lean():
    transports = Transports()
    request = UpstreamRequest(Target(("127.0.0.1",), 1, tls=True), "GET", "/")
    with pytest.raises(ValueError, match="no TLS"):
        await transports.lean.open(request)
    await transports.close()
