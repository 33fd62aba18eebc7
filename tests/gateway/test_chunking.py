"""What a caller gets never depends on how the bytes of the engine were cut, nor on how its lines end."""

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.support.gateway import node, openai_engine, running_gateway, settings
from tests.support.upstreams import chunk, head, send

from fleetgate import sse
from fleetgate.dialects.openai import Stream
from fleetgate.gateway import relay as relays
from fleetgate.gateway.attempt import Flow, _first_content

SSE_HEAD = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
END = b"data: [DONE]\n\n"
LINE_ENDS = (b"\n", b"\r", b"\r\n")
EVENTS = [
    [b": hello"],
    [b'data: {"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'],
    [b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"H\xc3\xa9"}}]}'],
    [b"event: x", b'data: {"id":"1","choices":[{"index":0,', b'data: "delta":{"content":"l"}}]}'],
    [b": mid"],
    [b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"lo \xf0\x9f\x98\x80"}}]}'],
    [b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'],
    [b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'],
    [b"data: [DONE]"],
]


def stream_of(line_end):
    return b"".join(b"".join(line + line_end for line in event) + line_end for event in EVENTS)


def expected(line_end):
    """What the caller gets: all but the usage frame, and our own end mark."""
    frames = [b"".join(line + line_end for line in event) + line_end for event in EVENTS]
    return b"".join(frames[:-2]) + END


def cut(raw, places):
    edges = [0, *sorted(place % len(raw) for place in places), len(raw)]
    return [raw[a:b] for a, b in itertools.pairwise(edges) if a < b]


class Pieces:
    """An answer of the transport that comes in given pieces."""

    status = 200
    reused = False

    def __init__(self, pieces):
        self._pieces = list(pieces)

    def header(self, name):
        return None

    async def read(self):
        return self._pieces.pop(0) if self._pieces else b""

    def abort(self):
        self._pieces.clear()


class Sink:
    def __init__(self):
        self.body = b""

    async def piece(self, data):
        self.body += data


class NoStall:
    def reading(self, *, progress=True):
        pass

    def writing(self):
        pass


async def through(pieces):
    flow = await _first_content(Pieces(pieces), sse.Cutter(), Stream(strip_usage=True))
    assert isinstance(flow, Flow)
    sink = Sink()
    ended = await relays.relay(flow, sink, NoStall(), relays.Outlet(False, b"".join))
    return sink.body + END, flow.reader.usage, ended.note


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    line_end=st.sampled_from(LINE_ENDS),
    places=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_the_relay_does_not_depend_on_how_the_bytes_were_cut(line_end, places):
    got, usage, note = asyncio.run(through(cut(stream_of(line_end), places)))
    assert got == expected(line_end)
    assert (usage.input_tokens, usage.output_tokens, note) == (3, 4, "")


def test_the_relay_takes_single_bytes():
    for line_end in LINE_ENDS:
        raw = stream_of(line_end)
        got, usage, note = asyncio.run(through([raw[place : place + 1] for place in range(len(raw))]))
        assert got == expected(line_end)
        assert (usage.output_tokens, note) == (4, "")


def test_every_single_boundary():
    for line_end in LINE_ENDS:
        raw = stream_of(line_end)
        for place in range(1, len(raw)):
            got, *_ = asyncio.run(through([raw[:place], raw[place:]]))
            assert got == expected(line_end), (line_end, place)


@pytest.mark.asyncio
async def test_the_whole_gateway_does_not_depend_on_how_the_bytes_were_cut(tmp_path):
    """Each request of one gateway is answered in pieces that hypothesis chose."""
    scripts = []

    def route(request):
        return scripts.pop(0)

    async with (
        openai_engine(route=route) as a,
        running_gateway(settings(nodes={"a": node(a)}), tmp_path) as gateway,
    ):
        loop = asyncio.get_running_loop()

        async def ask(pieces):
            async def play(peer):
                for piece in pieces:
                    await peer.send(chunk(piece))
                    await asyncio.sleep(0)
                await peer.send(chunk(b""))

            scripts.append([send(head(200, SSE_HEAD)), play])
            return await gateway.chat("a/m", stream=True)

        @hypothesis_settings(
            max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
        )
        @given(
            line_end=st.sampled_from(LINE_ENDS),
            places=st.lists(st.integers(0, 10_000), max_size=8),
        )
        def property_holds(line_end, places):
            asked = asyncio.run_coroutine_threadsafe(ask(cut(stream_of(line_end), places)), loop)
            reply = asked.result(10)
            assert reply.complete
            assert reply.body == expected(line_end)

        await asyncio.to_thread(property_holds)
        assert {entry.outcome for entry in gateway.entries} == {"ok"}


def test_what_is_told_apart():
    """The frames above are what the reader takes them for."""
    reader = Stream(strip_usage=True)
    cutter = sse.Cutter()
    looks = [reader.look(frame).name for frame in cutter.feed(stream_of(b"\n"))]
    assert looks == ["HOLD", "HOLD", "CONTENT", "PASS", "PASS", "PASS", "FINISH", "DROP", "END"]
