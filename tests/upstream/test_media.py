"""Fetching what a caller names: every rule of the guard, over loopback with a rule of the test's own."""

import asyncio
import socket
import ssl

import pytest
import pytest_asyncio
import trustme
from tests.support.upstreams import ScriptedUpstream, drip, head, respond, send, stall

from fleetgate.upstream.media import MOST_AT_ONCE, Media, NotFetched, check_host, kind_of, read
from fleetgate.upstream.public import not_public

pytestmark = pytest.mark.asyncio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)
ANY = ("*",)


def only_here(address):
    """Loopback is where the tests are; everything else is judged as ever."""
    return None if address == "127.0.0.1" else not_public(address)


class Names:
    """A resolver that gives each name's answers one after the other, the last for ever after."""

    def __init__(self, **names):
        self.names = {name.replace("_", "."): list(addresses) for name, addresses in names.items()}
        self.asked = []

    def __call__(self, host, port):
        self.asked.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        address = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))]


@pytest_asyncio.fixture
async def media():
    made = []

    def make(resolve=None, refused=only_here):
        made.append(Media(resolve or Names(pics_test=["127.0.0.1"]), refused))
        return made[-1]

    yield make
    for one in made:
        one.close()


def picture(body=PNG, content_type="image/png", status=200, headers=()):
    return respond(status, body, content_type, headers)


def moved(where, status=302):
    return respond(status, b"", "text/plain", [("Location", where)])


async def fetch(media, address, hosts=ANY, most=10_000):
    taken = 0

    def take(size):
        nonlocal taken
        taken += size
        if taken > most:
            raise NotFetched("", "too large")

    async with asyncio.timeout(10):
        return await media.fetch(address, hosts, take)


async def refused(media, address, **options):
    with pytest.raises(NotFetched) as caught:
        await fetch(media, address, **options)
    return str(caught.value)


async def test_a_picture_comes_with_headers_of_ours_alone(media, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with ScriptedUpstream(picture(headers=[("Set-Cookie", "a=b")])) as there:
        one = media()
        for _ in range(2):
            found = await fetch(one, f"http://pics.test:{there.port}/a%20b/ü.png?x=1&y=%2F#part")
            assert (found.type, found.data) == ("image/png", PNG)
        assert there.connection_count == 2
        for request in there.requests:
            names = [name for name, _ in request.headers]
            assert sorted(names) == ["accept", "accept-encoding", "host", "user-agent"]
            assert request.header("host") == f"pics.test:{there.port}"
            assert request.header("user-agent").startswith("fleetgate/")
            assert request.path == "/a%20b/%C3%BC.png?x=1&y=%2F"


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"BM1234", "image/bmp"),
        (b"RIFF1234WEBP", "image/webp"),
        (b"RIFF1234WAVE", "audio/wav"),
        (b"RIFF1234AVI ", None),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"OggS", "audio/ogg"),
        (b"fLaC", "audio/flac"),
        (b"1234ftypM4A ", "audio/mp4"),
        (b"1234ftypisom", None),
        (b"<svg xmlns=", None),
        (b"<?xml version", None),
        (b"<html>", None),
        (b'{"secret": 1}', None),
        (b"", None),
    ],
)
async def test_what_the_first_bytes_tell(begin, kind):
    assert kind_of(begin) == kind


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (PNG, "text/html"),
        (PNG, ""),
        (PNG, "application/octet-stream"),
        (PNG, "audio/wav"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"<svg/>", "image/png"),
        (b'{"AccessKeyId": "x"}', "image/png"),
        (b"", "image/png"),
    ],
)
async def test_what_is_no_picture_is_refused_and_not_shown(media, body, content_type):
    async with ScriptedUpstream(picture(body, content_type)) as there:
        text = await refused(media(), f"http://pics.test:{there.port}/a.png")
        assert text.startswith("pics.test: what is there")
        assert "AccessKeyId" not in text
        assert "svg" not in text


async def test_compressed_answers_and_errors(media):
    packed = picture(headers=[("Content-Encoding", "gzip")])
    async with ScriptedUpstream(packed, picture(status=404), picture(status=206)) as there:
        one, address = media(), f"http://pics.test:{there.port}/"
        assert await refused(one, address) == "pics.test: what is there comes compressed"
        assert await refused(one, address) == "pics.test: it answers with status 404"
        assert await refused(one, address) == "pics.test: it answers with status 206"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("ftp://pics.test/a.png", "neither"),
        ("file:///etc/passwd", "neither"),
        ("gopher://pics.test/", "neither"),
        ("//pics.test/a.png", "neither"),
        ("a.png", "neither"),
        ("", "neither"),
        ("http://user:secret@pics.test/", "holds a name or password"),
        ("http://user@pics.test/", "holds a name or password"),
        ("http://@pics.test/", "holds a name or password"),
        ("http:///a.png", "names no host"),
        ("http://pics.test:99999/", "cannot be read"),
        ("http://[::1/", "cannot be read"),
        ("http://pics.test\\@127.0.0.1/", "backslashes"),
        ("http://pics.test/a b", "spaces"),
        ("http://pics.test/\r\nHost: x", "spaces"),
        ("http://pics\ttest/", "spaces"),
        ("http://pi cs.test/", "spaces"),
        ("http://pics..test/", "cannot be read"),
        ("http://pics.test:22/", "no port of the web"),
        ("http://pics.test:0/", "no port of the web"),
        ("http://pics.test/" + "a" * 5000, "longer than"),
        ("http://[fe80::1%25eth0]/", "names no host"),
        ("http://pics%2etest/", "names no host"),
    ],
)
async def test_addresses_that_are_none(media, address, why):
    names = Names(pics_test=["127.0.0.1"])
    text = await refused(media(names), address)
    assert why in text
    assert "secret" not in text
    assert names.asked == []


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "0.0.0.0"),
        *(
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "127.0.0.1.",
            "①27.0.0.1",
        ),
        *("169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1", "100.64.0.1"),
    ],
)
async def test_loopback_and_metadata_in_every_spelling(host):
    """With the guard as it is, and the system's own resolver."""
    async with ScriptedUpstream(picture()) as there:
        one = Media()
        try:
            text = await refused(one, f"http://{host}:{there.port}/a.png")
        finally:
            one.close()
        assert there.connection_count == 0
        assert "127.0.0.1" not in text.removeprefix(f"{read(f'http://{host}/').host}: ")


async def test_a_name_that_changes_between_check_and_use_gains_nothing(media):
    """It is looked up once; what was checked is what is connected to."""
    async with ScriptedUpstream(picture()) as there:
        names = Names(pics_test=["127.0.0.1", "169.254.169.254"], meta_test=["169.254.169.254", "127.0.0.1"])
        one = media(names)
        assert (await fetch(one, f"http://pics.test:{there.port}/")).type == "image/png"
        assert names.asked == ["pics.test"]
        assert there.connection_count == 1
        # Now it leads to the metadata address, and is refused with nobody asked anything.
        assert await refused(one, f"http://pics.test:{there.port}/") == "pics.test: it has no public address"
        assert await refused(one, f"http://meta.test:{there.port}/") == "meta.test: it has no public address"
        assert there.connection_count == 1


async def test_of_several_addresses_only_public_ones_are_tried():
    def both(_host, port):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (one, port))
            for one in ("127.0.0.2", "127.0.0.1")
        ]

    async with (
        ScriptedUpstream(picture()) as there,
        ScriptedUpstream(picture(), host="127.0.0.2", port=there.port) as forbidden,
    ):
        one = Media(both, only_here)
        try:
            await fetch(one, f"http://pics.test:{there.port}/")
        finally:
            one.close()
        assert (there.connection_count, forbidden.connection_count) == (1, 0)


async def test_redirects_are_followed_and_each_is_checked(media):
    async with ScriptedUpstream(picture()) as canary:
        targets = {
            "/1": moved("/2", 301),
            "/2": moved("there?x=1", 307),
            "/there?x=1": moved("//other.test:{port}/last", 308),
            "/last": picture(),
            "/loop": moved("/loop"),
            "/nowhere": respond(302, b"", "text/plain"),
            "/inside": moved(f"http://10.0.0.1:{canary.port}/"),
            "/meta": moved("http://169.254.169.254/latest/meta-data/"),
            "/file": moved("file:///etc/passwd"),
            "/login": moved("http://a:b@pics.test/"),
            "/bad": moved("http://[::1/"),
        }

        def route(request):
            script = targets[request.path]
            if request.path == "/there?x=1":
                return moved(f"//other.test:{there.port}/last", 308)
            return script

        async with ScriptedUpstream(route=route) as there:
            one = media(Names(pics_test=["127.0.0.1"], other_test=["127.0.0.1"]))
            base = f"http://pics.test:{there.port}"
            assert (await fetch(one, f"{base}/1")).data == PNG
            assert [request.path for request in there.requests] == ["/1", "/2", "/there?x=1", "/last"]
            assert "none of the hosts" in await refused(one, f"{base}/1", hosts=("pics.test",))
            assert "redirects" in await refused(one, f"{base}/loop")
            assert "redirects to nowhere" in await refused(one, f"{base}/nowhere")
            assert await refused(one, f"{base}/inside") == "10.0.0.1: it has no public address"
            assert await refused(one, f"{base}/meta") == "169.254.169.254: it has no public address"
            assert "neither" in await refused(one, f"{base}/file")
            assert "password" in await refused(one, f"{base}/login")
            assert "no address" in await refused(one, f"{base}/bad")
        assert canary.connection_count == 0


async def test_bytes_are_counted_as_they_come(media):
    endless = [send(head(200, [("Content-Type", "image/png")])), drip(PNG + bytes(100_000), 1_000), stall()]
    async with ScriptedUpstream(endless) as there:
        assert await refused(media(), f"http://pics.test:{there.port}/", most=50_000) == "too large"
        async with asyncio.timeout(5):
            await there.peers[0].closed.wait()


async def test_whoever_gives_up_leaves_no_socket(media):
    async with ScriptedUpstream([stall()]) as there:
        asking = asyncio.get_running_loop().create_task(fetch(media(), f"http://pics.test:{there.port}/"))
        async with asyncio.timeout(5):
            await there.wait_for_requests(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            await there.peers[0].closed.wait()


async def test_only_so_many_at_once(media):
    go = asyncio.Event()
    async with ScriptedUpstream([stall(go), *picture()]) as there:
        one, address = media(), f"http://pics.test:{there.port}/"
        async with asyncio.TaskGroup() as group:
            for _ in range(MOST_AT_ONCE + 4):
                group.create_task(fetch(one, address))
            async with asyncio.timeout(5):
                await there.wait_for_requests(MOST_AT_ONCE)
            assert there.connection_count == MOST_AT_ONCE
            go.set()
        assert there.connection_count == MOST_AT_ONCE + 4


async def test_names_that_lead_nowhere_and_hosts_that_do_not_answer(media, unused_tcp_port):
    one = media()
    assert await refused(one, "http://nobody.test/") == "nobody.test: it cannot be reached"
    assert await refused(one, f"http://pics.test:{unused_tcp_port}/") == "pics.test: it cannot be reached"
    async with ScriptedUpstream([send(b"SSH-2.0-OpenSSH\r\n"), stall()]) as there:
        text = await refused(one, f"http://pics.test:{there.port}/")
        assert text == "pics.test: it broke off, or does not speak HTTP"


async def test_the_certificate_is_checked_against_the_name(media):
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("pics.test").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    names = Names(pics_test=["127.0.0.1"], other_test=["127.0.0.1"])
    plain = moved("http://pics.test/a.png")
    async with ScriptedUpstream(picture(), plain, ssl=serving) as there:
        one = media(names)
        text = await refused(one, f"https://pics.test:{there.port}/")
        assert text == "pics.test: its certificate is not in order, or it speaks no TLS"
        one._dialler._trust[None] = trusting
        assert (await fetch(one, f"https://pics.test:{there.port}/")).data == PNG
        assert "certificate" in await refused(one, f"https://other.test:{there.port}/")
        assert "from https to http" in await refused(one, f"https://pics.test:{there.port}/")


@pytest.mark.parametrize(
    ("host", "hosts", "fine"),
    [
        ("a.example.net", ("*",), True),
        ("a.example.net", ("a.example.net",), True),
        ("a.example.net", ("A.Example.NET",), True),
        ("a.example.net.", ("a.example.net",), True),
        ("a.example.net", ("*.example.net",), True),
        ("example.net", ("*.example.net",), False),
        ("badexample.net", ("*.example.net", "example.net"), False),
        ("a.example.net.evil.test", ("*.example.net",), False),
        ("a.example.net", (), False),
    ],
)
async def test_which_hosts(host, hosts, fine):
    if fine:
        check_host(host, hosts)
    else:
        with pytest.raises(NotFetched):
            check_host(host, hosts)
