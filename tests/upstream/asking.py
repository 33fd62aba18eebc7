"""How the contract suite asks a transport: requests, whole exchanges, expected failures."""

import asyncio
from contextlib import contextmanager

import pytest

from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.upstream.port import Target, UpstreamRequest, read_all

F = FailureClass
CHUNKED = [("Transfer-Encoding", "chunked")]
A_LOT = 1 << 30
PATIENT = 9.0
"""seconds to connect: on a busy machine a thread may wait long for its turn"""


def ask(at, *, method="POST", path="/v1/chat/completions", headers=(), body=b"{}", fresh=False, **target):
    port = at if isinstance(at, int) else at.port
    target.setdefault("connect_timeout", PATIENT)
    hosts = target.pop("hosts", None) or ("127.0.0.1" if isinstance(at, int) else at.host,)
    return UpstreamRequest(
        Target(hosts, port, **target), method=method, path=path, headers=headers, body=body, fresh=fresh
    )


async def soon(awaitable):
    """So that a test that would hang fails instead."""
    async with asyncio.timeout(10):
        return await awaitable


async def turns(count=200):
    """Let both sides of all sockets act until nothing more happens by itself."""
    for _ in range(count):
        await asyncio.sleep(0)


async def exchange(transport, request):
    answer = await soon(transport.open(request))
    return answer.status, await soon(read_all(answer, A_LOT))


@contextmanager
def fails(*expected):
    with pytest.raises(AttemptFailed) as caught:
        yield caught
    assert caught.value.failure in expected, caught.value
