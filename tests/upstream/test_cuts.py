"""However an answer is cut into segments, both transports read the same body from it."""

import asyncio
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.upstreams import ScriptedUpstream, chunk, close, head

from fleetgate.upstream.general import GeneralTransport
from fleetgate.upstream.lean import LeanTransport
from fleetgate.upstream.port import Target, UpstreamRequest, read_all

PIECES = st.lists(st.binary(min_size=1, max_size=200), max_size=6)
CUTS = st.lists(st.integers(0, 1500), max_size=12)
FRAMINGS = st.sampled_from(["length", "chunks", "connection"])
INTERIM = st.sampled_from([b"", head(100), head(103, [("Link", "</x>")])])


def answer_of(framing, pieces, interim):
    body = b"".join(pieces)
    if framing == "length":
        return interim + head(200, [("Content-Length", str(len(body)))]) + body
    if framing == "chunks":
        chunks = b"".join(chunk(piece) for piece in pieces)
        return interim + head(200, [("Transfer-Encoding", "chunked")]) + chunks + chunk(b"")
    return interim + head(200) + body


def cut(whole, places):
    async def step(peer):
        edges = sorted({0, len(whole), *(place % len(whole) for place in places)})
        for start, end in pairwise(edges):
            await peer.send(whole[start:end])
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    return step


async def read_through(transport, script):
    async with asyncio.timeout(10), ScriptedUpstream(script) as upstream:
        request = UpstreamRequest(Target(("127.0.0.1",), upstream.port), "GET", "/")
        bodies = [await read_all(await transport.open(request), 1 << 20) for _ in range(2)]
        await transport.close()
        return bodies, upstream.connection_count


@settings(deadline=None, max_examples=60)
@given(pieces=PIECES, places=CUTS, framing=FRAMINGS, interim=INTERIM)
def test_cuts_do_not_matter(pieces, places, framing, interim):
    async def both():
        script = [cut(answer_of(framing, pieces, interim), places)]
        if framing == "connection":
            script.append(close())
        for transport in (GeneralTransport(), LeanTransport()):
            bodies, connections = await read_through(transport, script)
            assert bodies == [b"".join(pieces)] * 2
            assert connections == (2 if framing == "connection" else 1)

    asyncio.run(both())
