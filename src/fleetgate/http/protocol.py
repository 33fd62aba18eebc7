"""HTTP/1.1 as this gateway accepts it: uvicorn's protocol with what it leaves open closed.

The parser refuses ambiguous framing (both lengths, two lengths, bare line feeds, folded headers).
Added here: limits on the size of a head, on slow heads and bodies, and on answers that nobody takes;
no pipelining, no trailers, no other transfer coding than `chunked`, no other version than 1.0 and
1.1; offers to upgrade are not taken, and their body is read all the same (Java's client makes them
with its first request). What is refused here is answered in the OpenAI form, and its connection
ends: nothing behind bytes that were not understood is ever read as a request.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fleetgate.dialects import openai
from fleetgate.errors import Refused
from fleetgate.http.call import CUT
from fleetgate.http.door import new_request_id

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

IDLE: Final = 75.0
"""Seconds an idle client connection is kept."""
MAX_HEAD: Final = 64 * 1024
"""Bytes of a request line and its headers."""
BODY_WINDOW: Final = 10.0
"""Seconds in which a body that is still coming has to bring `BODY_LEAST` bytes."""
BODY_LEAST: Final = 5_000
LINGER: Final = 10.0
"""Seconds in which the rest of a body is still taken, and thrown away, after its answer."""
FETCH: Final = 60.0
"""Seconds in which a caller has to take something of an answer that is complete."""


class _Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class _Pipelined(Exception):
    """Another request began before the answer to the last one was complete."""


def make_protocol(header_read: float) -> type[asyncio.Protocol]:
    """uvicorn makes the protocol itself, so the limit comes in through the class."""

    class Limited(Protocol):
        head_limit = header_read

    return Limited


class Protocol(HttpToolsProtocol):
    """One client connection."""

    head_limit = 10.0
    body_limit = BODY_WINDOW
    linger_limit = LINGER
    fetch_limit = FETCH

    _phase = _Phase.IDLE
    _deaf = False
    """whatever else comes is not read any more; an answer may still be going out"""
    _timer: asyncio.TimerHandle | None = None
    _slow: asyncio.TimerHandle | None = None
    _fed = 0
    """bytes of the present head, or of the body in the present window; at least"""
    _feeding = 0
    _body_seen = False
    _answered_at: float | None = None
    """when the answer was complete although the body was not"""

    # -- asyncio's side ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(IDLE, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_watch()
        if self._slow is not None:
            self._slow.cancel()
        if self.scope is not None:
            self.scope.pop("extensions", None)  # it leads back here
        self._deaf = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._deaf:
            return
        self._feeding = len(data)
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                self._decline(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._stop_reading(error)
            return
        self._fed += len(data)
        if self._phase is not _Phase.IDLE:
            self._watch()

    # -- the parser's side -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = _Phase.HEAD
        self._fed = 0
        self._body_seen = False
        self._answered_at = None

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is _Phase.BODY:
            return  # a trailer
        name = name.lower()
        if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise _refusal(501, "transfer_coding_not_supported", "no other transfer coding than `chunked`")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._answering():
            raise _Pipelined
        if self._fed + self._feeding > MAX_HEAD and self._head_size() > MAX_HEAD:
            raise _head_too_large()
        version = self.parser.get_http_version()
        if version != "1.1":
            self._check_version(version)
        super().on_headers_complete()
        self.scope["extensions"] = {CUT: self._cut}  # type: ignore[dict-item]  # of functions, too
        self._phase = _Phase.BODY
        self._fed = 0
        self._end_watch()

    def on_body(self, body: bytes) -> None:
        self._body_seen = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # its body is still to come
        self.body_complete()

    def body_complete(self) -> None:
        self._phase = _Phase.IDLE
        self._end_watch()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if unsent := self.transport.get_write_buffer_size():
            self._slow = self.loop.call_later(self.fetch_limit, self._fetched_none, unsent)
        if self._phase is not _Phase.BODY:
            return
        if self.expect_100_continue and not self._body_seen:
            # It waits for our leave to send the body. Whether it still comes now, nobody can know.
            self.transport.close()
        else:
            self._answered_at = self.loop.time()
            self._watch()

    def _cut(self) -> None:
        """The answer under way has no proper end: its last chunk is missing. Where only the end of the
        connection tells of it, that is no proper one either."""
        cycle: RequestResponseCycle = self.cycle
        if cycle.response_complete or cycle.disconnected:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        self._deaf = True
        if not cycle.chunked_encoding or self.parser.get_http_version() == "1.0":
            self.transport.abort()
            return
        self.transport.close()
        if unsent := self.transport.get_write_buffer_size():
            self._slow = self.loop.call_later(self.fetch_limit, self._fetched_none, unsent)

    # -- upgrades ----------------------------------------------------------------------------------------

    def _decline(self, rest: bytes) -> None:
        """Go on in HTTP/1.1. The parser stops behind such a head, so another one reads the body."""
        framing = [pair for pair in self.headers if pair[0] in (b"content-length", b"transfer-encoding")]
        self.cycle.keep_alive = False
        self.parser = httptools.HttpRequestParser(_BodyOnly(self))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        lines = [b"POST / HTTP/1.1", b"connection: close", *(b"%b: %b" % pair for pair in framing), b"\r\n"]
        self.parser.feed_data(b"\r\n".join(lines) + rest)

    # -- limits ------------------------------------------------------------------------------------------

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _check_version(self, version: str) -> None:
        if version != "1.0":
            raise _refusal(505, "version_not_supported", "this is an HTTP/1.1 port")
        if any(name == b"transfer-encoding" for name, _ in self.headers):
            raise _refusal(400, "malformed_http", "HTTP/1.0 has no transfer coding")

    def _watch(self) -> None:
        """What did not come in one piece has a limit."""
        if self._phase is _Phase.HEAD and self._fed > MAX_HEAD:
            self._refuse(_head_too_large())
        elif self._timer is None:
            if self._phase is _Phase.HEAD:
                self._timer = self.loop.call_later(self.head_limit, self._head_late)
            else:
                self._timer = self.loop.call_later(self.body_limit, self._body_late)

    def _end_watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_late(self) -> None:
        self._timer = None
        self._end_reading()

    def _body_late(self) -> None:
        """A window is over: enough has come, or we did not read, or the connection ends."""
        self._timer = None
        over = self._answered_at is not None and self.loop.time() - self._answered_at >= self.linger_limit
        if (self._fed >= BODY_LEAST or self.flow.read_paused) and not over:
            self._fed = 0
            self._watch()
        else:
            self._refuse(_refusal(408, "body_too_slow", "the body of the request did not come in time"))

    def _fetched_none(self, before: int) -> None:
        """Throw an answer away that nobody takes: closing would keep it for as long as the caller likes."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent >= before:
            self.transport.abort()
        elif unsent:
            self._slow = self.loop.call_later(self.fetch_limit, self._fetched_none, unsent)

    # -- ends --------------------------------------------------------------------------------------------

    def _stop_reading(self, error: httptools.HttpParserError) -> None:
        """The parser cannot go on."""
        why = error.__context__
        if isinstance(why, _Pipelined):
            self._end_reading()
        elif isinstance(why, Refused):
            self._refuse(why)
        else:
            text = "this is not a proper HTTP request"
            self._refuse(_refusal(400, "malformed_http", text if why is not None else f"{text}: {error}"))

    def _refuse(self, refused: Refused) -> None:
        """Say why, unless an answer is on its way already, and end the connection."""
        if self._phase is not _Phase.BODY and self._answering():
            self._end_reading()  # the answer to the request before this one
            return
        began = self._phase is _Phase.BODY and self.cycle.response_started
        if not began and not self.transport.is_closing():
            form = openai.error_form(refused, new_request_id())
            lines = [*form.headers, (b"content-length", b"%d" % len(form.body)), (b"connection", b"close")]
            head = b"".join(b"%b: %b\r\n" % line for line in lines)
            self.transport.write(STATUS_LINE[form.status] + head + b"\r\n" + form.body)
        self._deaf = True
        self._end_watch()
        self.transport.close()

    def _answering(self) -> bool:
        """Whether a request was taken whose answer is not complete."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _end_reading(self) -> None:
        """No further request on this connection; an answer on its way is finished first."""
        self._deaf = True
        self._end_watch()
        if self._answering():
            self.cycle.keep_alive = False
        else:
            self.transport.close()


class _BodyOnly:
    """What the second parser of a declined upgrade calls."""

    def __init__(self, protocol: Protocol) -> None:
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.body_complete


def _head_too_large() -> Refused:
    return _refusal(431, "head_too_large", f"the head of the request is larger than {MAX_HEAD} bytes")


def _refusal(status: int, code: str, message: str) -> Refused:
    return Refused(status, code, message)
