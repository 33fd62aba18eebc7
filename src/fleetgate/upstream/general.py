"""The general transport: aiohttp, for TLS, names and anything odd.

What aiohttp would do of its own accord is switched off: time limits, retries of idempotent
methods, redirects, cookies, decompression, proxies and credentials from the environment, limits of
connections. Each target has a session and a connector of its own, because expiry, authorities and
hosts belong to the target.

aiohttp says too little about how an exchange failed, so the connection itself (`_Line`) notes
whether it had served before, whether any byte of the answer came, and how it ended.
"""

from __future__ import annotations

import asyncio
import io
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from fleetgate.errors import AttemptFailed, FailureClass
from fleetgate.upstream.dial import Dialler
from fleetgate.upstream.port import MAX_HEAD
from fleetgate.upstream.wire import check_request

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawResponseMessage
    from aiohttp.tracing import Trace

    from fleetgate.upstream.port import Pieces, Target, UpstreamRequest

_BUFFER: Final = 64 * 1024
"""bytes of a body that aiohttp keeps before it pauses the connection (at twice this)"""

_MAX_HEADERS: Final = 256

_NO_LIMIT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)

_NOT_SENT_BY_ITSELF: Final = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class GeneralTransport:
    """Exchanges over aiohttp. One per event loop."""

    def __init__(self, dialler: Dialler | None = None) -> None:
        """`dialler`: one that others use too, and whoever made it closes it."""
        self._dialler = dialler or Dialler()
        self._lent = dialler is not None
        self._sessions: dict[Target, aiohttp.ClientSession] = {}

    async def open(self, request: UpstreamRequest) -> GeneralAnswer:
        names_encoding = check_request(request)
        target = request.target
        headers = [("Host", target.authority), *request.headers]
        if not names_encoding:
            headers.append(("Accept-Encoding", "identity"))
        scheme = "https" if target.tls else "http"
        passage = _Passage(fresh=request.fresh)
        response = await self._session(target).request(
            request.method,
            URL(f"{scheme}://{target.authority}{request.path}", encoded=True),
            headers=headers,
            data=_data(request.body),
            allow_redirects=False,
            middlewares=(passage,),
        )
        return GeneralAnswer(response, passage)

    async def close(self) -> None:
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()
        if not self._lent:
            self._dialler.close()

    def _session(self, target: Target) -> aiohttp.ClientSession:
        session = self._sessions.get(target)
        if session is None:
            session = self._sessions[target] = aiohttp.ClientSession(
                connector=_Connector(target, self._dialler),
                request_class=_Request,
                timeout=_NO_LIMIT,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=_NOT_SENT_BY_ITSELF,
                read_bufsize=_BUFFER,
                max_line_size=MAX_HEAD,
                max_field_size=MAX_HEAD,
                max_headers=_MAX_HEADERS,
            )
        return session


def _data(body: bytes | Pieces) -> bytes | io.BytesIO | _Payload | None:
    """aiohttp writes bytes in one piece and complains above 1 MiB; a file it writes in steps."""
    if not isinstance(body, bytes):
        return _Payload(body)
    return io.BytesIO(body) if len(body) > _BUFFER else body or None


class _Payload(aiohttp.Payload):
    """A body in pieces, as aiohttp takes it."""

    _autoclose = True  # whoever made the pieces closes what they are read from

    def __init__(self, pieces: Pieces) -> None:
        super().__init__(pieces)
        self._size = len(pieces)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise NotImplementedError  # only for those who look into a body

    async def write(self, writer: AbstractStreamWriter) -> None:
        left = len(self._value)
        for piece in self._value:
            left -= len(piece)
            if left < 0:
                break
            await writer.write(piece)  # waits while the connection takes nothing
        if left:
            raise OSError("the body is not as long as was said")

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002  (its own)
    ) -> None:
        await self.write(writer)


class GeneralAnswer:
    """An answer that aiohttp reads."""

    __slots__ = ("_broken", "_close_delimited", "_passage", "_response")

    def __init__(self, response: aiohttp.ClientResponse, passage: _Passage) -> None:
        self._response = response
        self._passage = passage
        self._broken: AttemptFailed | None = None
        headers = response.headers
        self._close_delimited = "Content-Length" not in headers and "Transfer-Encoding" not in headers

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def reused(self) -> bool:
        return self._passage.reused

    def header(self, name: str) -> str | None:
        return self._response.headers.get(name)

    async def read(self) -> bytes:
        if self._broken is not None:
            raise self._broken
        passage = self._passage
        try:
            piece = await self._response.content.readany()
        except asyncio.CancelledError:
            self.abort()
            raise
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            self._broken = passage.failure(error)
        except RuntimeError as error:
            # aiohttp's word for a connection that broke between two steps of this read.
            if passage.line is None or passage.line.connected:
                raise
            self._broken = passage.failure(error)
        else:
            if piece:
                return piece
            # aiohttp takes a reset for the end where the body has no length.
            if self._close_delimited and passage.line is not None and passage.line.lost is not None:
                self._broken = passage.failure(passage.line.lost)
        if self._broken is not None:
            self._response.close()
        if passage.rest:
            rest, passage.rest = passage.rest, b""
            return rest
        if self._broken is not None:
            raise self._broken
        return b""

    def abort(self) -> None:
        connection = self._response.connection
        if connection is None:
            return  # the body has ended, and the connection may serve somebody else by now
        if self._broken is None:
            self._broken = AttemptFailed(FailureClass.CUT_SHORT, "aborted")
        if connection.transport is not None:
            connection.transport.abort()  # close() would first write what is still in the buffer
        self._response.close()


class _Passage:
    """One exchange on its way through aiohttp: a middleware, the only place below its retries."""

    __slots__ = ("fresh", "line", "rest", "reused")

    def __init__(self, *, fresh: bool) -> None:
        self.fresh = fresh
        self.reused = False
        self.line: _Line | None = None
        self.rest = b""
        """what had arrived of the body when the connection broke; aiohttp would drop it"""

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        assert isinstance(request, _Request)
        request.passage = self
        done = False
        try:
            response = await handler(request)
            self._check(response)
            done = True
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise self.failure(error) from error
        finally:
            if not done and self.line is not None:
                self.line.sever()
        return response

    def enter(self, line: _Line) -> None:
        """The connection that this exchange got."""
        self.line = line
        self.reused = line.served
        line.begin(self)

    def failure(self, error: BaseException) -> AttemptFailed:
        line = self.line
        if line is not None and line.garbage is not None:
            return AttemptFailed(FailureClass.GARBAGE, line.garbage)
        if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
            return AttemptFailed(FailureClass.GARBAGE, error.message)
        if self.reused and line is not None and not line.answered:
            return AttemptFailed(FailureClass.STALE_CONNECTION, "the idle connection was closed")
        if line is not None and line.lost is not None:
            error = line.lost
        return AttemptFailed(FailureClass.CUT_SHORT, str(error) or type(error).__name__)

    def _check(self, response: aiohttp.ClientResponse) -> None:
        """Refuse what aiohttp lets pass although nobody can say where such an answer ends."""
        headers = response.headers
        lengths = headers.getall("Content-Length", ())
        coding = headers.get("Transfer-Encoding")
        problem = None
        if response.status == 101:
            problem = "switches protocols unasked"
        elif coding is not None and coding.lower() != "chunked":
            problem = "has a transfer encoding nobody asked for"
        elif lengths and coding is not None:
            problem = "has both a length and chunks"
        elif len(lengths) > 1:
            problem = "has two lengths"
        elif sum(len(name) + len(value) + 4 for name, value in response.raw_headers) > MAX_HEAD:
            problem = f"has a head above {MAX_HEAD} bytes"
        if problem is not None:
            response.close()
            raise AttemptFailed(FailureClass.GARBAGE, f"the answer {problem}")


class _Request(aiohttp.ClientRequest):
    """Carries the passage from the middleware to the connector."""

    passage: _Passage | None = None


class _Connector(aiohttp.BaseConnector):
    """The connections to one target."""

    def __init__(self, target: Target, dialler: Dialler) -> None:
        super().__init__(keepalive_timeout=target.idle_expiry, limit=0)
        self._target = target
        self._dialler = dialler

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        assert isinstance(req, _Request)
        passage = req.passage
        assert passage is not None
        while True:
            if passage.fresh:
                line = await self._create_connection(req, traces, timeout)
                self._acquired.add(line)
                connection = Connection(self, req.connection_key, line, self._loop)
            else:
                connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert isinstance(protocol, _Line)
            if not (protocol.served and protocol.should_close):
                break
            # Bytes that came while it was idle would be taken for our answer.
            connection.close()
        passage.enter(protocol)
        return connection

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,  # noqa: ARG002 - aiohttp's signature
        traces: list[Trace],  # noqa: ARG002
        timeout: aiohttp.ClientTimeout,  # noqa: ARG002, ASYNC109
    ) -> ResponseHandler:
        _, line = await self._dialler.connect(self._target, lambda: _Line(self._loop))
        return line


class _Line(ResponseHandler):
    """A connection that remembers what happened to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._wire: asyncio.Transport | None = None
        self.begin(None)

    def begin(self, passage: _Passage | None) -> None:
        self._passage = passage
        self.served = passage is not None
        """it has been given to an exchange"""
        self.answered = False
        """a byte of the answer has come"""
        self.garbage: str | None = None
        self.lost: BaseException | None = None
        self._head: int | None = 0
        """bytes of the head so far, None when it is complete"""

    def sever(self) -> None:
        """Close the socket now, whatever is still to be written."""
        if self._wire is not None:
            self._wire.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = self.transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost = exc
        self._wire = None
        if self._passage is not None and self._payload is not None and not self._payload.is_eof():
            self._passage.rest = _drain(self._payload)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if data:
            self.answered = True
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self.set_exception(HttpProcessingError(message=f"head above {MAX_HEAD} bytes"))
                self.sever()

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        if data[0].code >= 200:
            self._head = None
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        if isinstance(exc, HttpProcessingError) and self.garbage is None:
            self.garbage = str(exc_cause or exc.message)[:200]
        if exc_cause is None:
            super().set_exception(exc)
        else:
            super().set_exception(exc, exc_cause)


def _drain(payload: aiohttp.StreamReader) -> bytes:
    if payload.exception() is not None:
        return b""
    pieces: list[bytes] = []
    # A reader that waits has taken everything; aiohttp raises RuntimeError then.
    with suppress(RuntimeError):
        while piece := payload.read_nowait():
            pieces.append(piece)
    return b"".join(pieces)
