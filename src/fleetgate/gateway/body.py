"""The replayable body of a request: read once, bounded, sent as often as attempts need it.

Only the top level is decoded. Three members are ours to set per attempt (`model`, `stream`,
`stream_options`); all others are re-encoded once with their values byte-identical, so duplicate
keys cannot survive and engine and gateway see the same request. Large bodies wait on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.errors import Refused
from fleetgate.estimate import estimate_tokens
from fleetgate.gateway import addresses, demands
from fleetgate.gateway.likeness import Likeness, likeness
from fleetgate.gateway.spool import IN_MEMORY, BodyBudget, on_disk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fleetgate.gateway.form import Upload
    from fleetgate.gateway.native import Original
    from fleetgate.gateway.replaced import Replaced

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

LONGEST_END_USER: Final = 200
"""Characters of the body's `user` that are recorded."""
MOST_INSIDE: Final = 1_000_000
"""Brackets in a body that is decoded as a whole: nobody else has a turn meanwhile."""
_LENGTHS: Final = ("max_completion_tokens", "max_tokens")
_OURS: Final = ("model", "stream", "stream_options")
_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.encode


class CallerGone(Exception):
    """The caller left before its body was complete."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the body asks of the gateway itself."""

    model: str
    stream: bool
    stream_written: bool
    usage: bool
    """the caller asked for the usage frame"""
    whole_only: bool
    """the answer cannot be put together from a stream (audio)"""
    choices: int = 1
    """answers asked for (`n`): a stream is whole when so many have a finish reason"""
    end_user: str | None = None
    """for whom the caller asks (`user`), as it says"""
    max_tokens: int | None = None
    """the longest answer it wants; None: it does not say, or nothing that bounds anything"""
    length_written: bool = False
    """it says something about the length, understood or not"""


class Body:
    """One request body. `close` gives its memory back; it may be called twice."""

    __slots__ = (
        "_budget",
        "_file",
        "_options",
        "_rest",
        "_rest_size",
        "characters",
        "events_wanted",
        "inputs",
        "likeness",
        "may_hold_addresses",
        "names",
        "needs",
        "opening",
        "original",
        "replaced",
        "size",
        "tokens",
        "translated",
        "upload",
        "wanted",
    )

    def __init__(
        self, wanted: Wanted, options: dict[str, Any], rest: bytes, size: int, budget: BodyBudget | None
    ) -> None:
        self.wanted = wanted
        self.size = size
        self.tokens = estimate_tokens(rest)
        """input tokens, estimated"""
        self.likeness: Likeness | None = None
        """what equal requests have in common; None: no answers are kept"""
        self.needs = 0
        """bits (`forecast.task`) of what a chat needs beside words"""
        self.inputs = 1
        """texts to embed"""
        self.characters: int | None = None
        """of the text to embed, to speak or to look at, where it is one"""
        self.upload: Upload | None = None
        """the form with files that it is; then it has no members"""
        self.events_wanted = False
        """its answer may go through as events, and its caller wants that"""
        self.opening = b""
        """the first bytes of the prompt"""
        self.names: frozenset[str] = frozenset()
        """of its top-level members, but for those that are set per attempt"""
        self.translated = False
        """it was made from another dialect"""
        self.original: Original | None = None
        """as its caller wrote it, where that is another dialect which upstreams may speak themselves"""
        self.may_hold_addresses = False
        """something in it may name what an engine would fetch"""
        self.replaced: Replaced | None = None
        """what became of that, once it was looked at; None: nothing stands in the way"""
        self._options = options
        self._budget = budget
        self._file: Any = None
        self._rest = rest
        self._rest_size = len(rest)
        if len(rest) > IN_MEMORY:
            self._file = on_disk("body", rest)
            self._rest = b""

    def encode(
        self, model: str, *, stream: bool | None, cap: int | None = None, rest: bytes | None = None
    ) -> bytes:
        """The body for one attempt. `stream` None leaves the member out (embeddings); `cap` bounds an
        answer whose length the caller left open; `rest` stands in for the other members."""
        head = b'{"model":' + _encode(model)
        if cap is not None:
            head += b',"max_tokens":%d' % cap
        if stream is None and self.events_wanted:
            head += b',"stream":true'
        elif stream:
            head += b',"stream":true,"stream_options":' + _encode({**self._options, "include_usage": True})
        elif stream is False and self.wanted.stream_written:
            head += b',"stream":false'
        if rest is None:
            rest = self.rest()
        return head + b"," + rest + b"}" if rest else head + b"}"

    def rest(self) -> bytes:
        """All members but those that are set per attempt, without the braces around them."""
        if self._file is None:
            return self._rest
        self._file.seek(0)
        return bytes(self._file.read())

    def close(self) -> None:
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.give_back(self.size)
            self._rest = self.opening = b""
            if self.original is not None:
                self.original.close()
            if self.replaced is not None:
                self.replaced.close()
            if self._file is not None:
                self._file.close()
        if self.upload is not None:
            self.upload.close()


async def read(receive: Receive, limit: int, declared: int | None, budget: BodyBudget) -> tuple[bytes, int]:
    """The raw bytes, at most `limit`. The budget holds their size until it is given back.

    Raises Refused (413, 503) or CallerGone.
    """
    if declared is not None and declared > limit:
        raise _too_large()
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerGone
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(first) > limit:
            raise _too_large()
        budget.take(len(first))
        return first, len(first)
    return await _read_on(receive, limit, first, budget)


async def _read_on(receive: Receive, limit: int, first: bytes, budget: BodyBudget) -> tuple[bytes, int]:
    whole = bytearray(first)
    budget.take(len(whole))
    held, more = len(whole), True
    try:
        while more:
            piece, more = await _piece(receive, limit - len(whole))
            budget.take(len(piece))
            held += len(piece)
            whole += piece
    except BaseException:
        budget.give_back(held)
        raise
    return bytes(whole), held


async def _piece(receive: Receive, room: int) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerGone
    piece = message.get("body", b"")
    if len(piece) > room:
        raise _too_large()
    return piece, message.get("more_body", False)


def parse(raw: bytes, budget: BodyBudget, *, compare: bool = False, held: int | None = None) -> Body:
    """Decode the top level. Raises Refused (400) with what is wrong and where.

    `compare`: answers are kept, so it is compared with other requests; large ones are not. `held`: bytes that
    the budget holds for it, where that is not its own size.
    """
    try:
        if not raw.isascii():
            raw.decode()
        members = _decoder.decode(raw)  # refuses deep nesting by itself (RecursionError)
        wanted, options = _wanted(members)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        what = "the body is empty" if not raw else f"the body is not a JSON object: {error}"
        raise Refused(400, "malformed", what, advice="Send one JSON object.") from None
    for key in _OURS:
        members.pop(key, None)
    like = None
    if compare:
        like = likeness(members, options, stream=wanted.stream, compare=len(raw) <= IN_MEMORY)
    rest = _encode(members)[1:-1]
    body = Body(wanted, options, rest, len(raw) if held is None else held, budget)
    body.likeness = like
    body.names = frozenset(members)
    body.needs = demands.needs(members, rest)
    body.opening = demands.opening(members)
    body.may_hold_addresses = addresses.suspected(members, rest)
    if "input" in members:
        body.inputs = demands.inputs(members)
        body.characters = demands.characters(members)
    return body


def json_object(raw: bytes) -> dict[str, Any]:
    """A whole body, decoded. Raises Refused (400)."""
    if len(raw) > IN_MEMORY and raw.count(b"{") + raw.count(b"[") > MOST_INSIDE:
        what = f"the body has more than {MOST_INSIDE} objects and lists"
        raise Refused(400, "malformed", what, advice="Send less.")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        what = "the body is empty" if not raw else f"the body is not JSON: {error}"
        raise Refused(400, "malformed", what, advice="Send one JSON object.") from None
    if not isinstance(value, dict):
        raise Refused(400, "malformed", "the body is not a JSON object", advice="Send one JSON object.")
    return value


def _wanted(members: dict[str, msgspec.Raw]) -> tuple[Wanted, dict[str, Any]]:
    model = _member(members, "model", str, "a text")
    if not model:
        raise Refused(
            400,
            "model_missing_in_request",
            "the request names no model",
            advice="Set `model`; GET /v1/models lists the names.",
            param="model",
        )
    stream = _member(members, "stream", bool, "true or false")
    options = _member(members, "stream_options", dict, "an object") or {}
    modalities = bytes(members.get("modalities", b""))
    number = msgspec.json.decode(members["n"]) if "n" in members else 1
    wanted = Wanted(
        model=model,
        stream=bool(stream),
        stream_written=stream is not None,
        usage=bool(options.get("include_usage")),
        whole_only=b"audio" in modalities,
        end_user=_end_user(members.get("user")),
        max_tokens=_longest(members),
        length_written=not members.keys().isdisjoint(_LENGTHS),
        choices=(number if isinstance(number, int) and number > 0 else 1) * _prompts(members.get("prompt")),
    )
    return wanted, options


def _end_user(raw: msgspec.Raw | None) -> str | None:
    """Only recorded, so a form that is not ours to know is no reason to refuse."""
    value = msgspec.json.decode(raw) if raw is not None else None
    return value[:LONGEST_END_USER] if isinstance(value, str) and value else None


def _longest(members: dict[str, msgspec.Raw]) -> int | None:
    """What bounds the answer. Engines know values such as -1 for `no bound`; those are not refused here."""
    for name in _LENGTHS:
        raw = members.get(name)
        value = msgspec.json.decode(raw) if raw is not None else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _prompts(prompt: msgspec.Raw | None) -> int:
    """Several prompts in one completion have an answer each; a list of numbers is one prompt."""
    if prompt is None or bytes(memoryview(prompt)[:2]) not in (b'["', b"[["):
        return 1
    return max(1, len(msgspec.json.decode(prompt, type=list[msgspec.Raw])))


def _member(members: dict[str, msgspec.Raw], name: str, kind: type, form: str) -> Any:
    raw = members.get(name)
    if raw is None:
        return None
    value = msgspec.json.decode(raw)
    if value is None or isinstance(value, kind):
        return value
    raise Refused(400, "malformed", f"`{name}` must be {form}", param=name)


def _too_large() -> Refused:
    return Refused(
        413,
        "too_large",
        "the body is larger than the gateway accepts",
        advice="Send less, or raise `gateway.body_limit`.",
    )
