"""Where a body names addresses that an engine would fetch from: pictures, sounds, films, files. Pure.

Found by the names of the members that hold them, in whatever dialect: each engine knows a few forms more than
it documents, and one that is missed here is a hole. What is only talked about (texts, arguments of tools,
schemas) is not looked at. `suspected` is asked for every body: it reads names only, and decodes no text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fleetgate.gateway.form import Upload

CARRIERS: Final = frozenset(
    {"image_url", "audio_url", "video_url", "file_url", "document_url", "server_url", "url", "uri"}
    | {"image", "images", "audio", "video", "videos", "file", "files", "mask", "ref_images"}
    | {"input_image", "input_audio", "input_video", "input_file"}
)
"""members that hold what an engine may fetch"""
_TAIL: Final = re.compile(rb'(?:ur[li]|images?|audio|videos?|files?|mask)"')
"""A carrier's name ends like this, so most small bodies need no closer look"""
_SMALL: Final = 1_024
"""bytes up to which that is the quicker question"""
_BARE: Final = frozenset({"url", "uri"})
"""of them those that mean it only inside another one, or where `type` says the same"""
_NOT_ENTERED: Final = frozenset(
    {"text", "parameters", "input_schema", "schema", "json_schema", "arguments", "metadata"}
    | {"response_format", "tool_calls", "function", "functions", "thinking", "refusal", "cache_control"}
    | {"chat_template_kwargs", "logit_bias", "stop", "model"}
)
_OF_TOOLS: Final = frozenset(
    {"tool_use", "server_tool_use", "tool_call", "function_call", "custom_tool_call"}
)
"""what a model wrote: its arguments are nobody's to fetch"""
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:")
_RAW_BASE64: Final = re.compile(r"[A-Za-z0-9+/_=\s-]*")
DEEPEST: Final = 64
"""levels after which a body is looked at closely, whatever its names are"""
_IN_CHAT: Final = re.compile(r"\.content(?:\[\d+\])+\.(?:image|audio)_url(?:\.url)?\Z")
_WEB: Final = ("http://", "https://")
_LOOKED_AT: Final = 4_096
"""signs of a value by which it is told from data"""
_QUOTE: Final = ord('"')
_LIST: Final = ord("[")
_OBJECT: Final = ord("{")
_OPENING: Final = frozenset({_LIST, _OBJECT})
_split: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_rows: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.encode


@dataclass(slots=True)
class Place:
    """One address of a body."""

    path: str
    """such as `messages[0].content[1].image_url.url`"""
    text: str
    inside: Any
    """the decoded object or list that holds it, …"""
    at: str | int
    """… and where"""

    @property
    def fetchable(self) -> bool:
        """Whether data may stand in its place: the forms of a chat that all engines take."""
        return _IN_CHAT.search(self.path) is not None and self.text.strip()[:8].lower().startswith(_WEB)

    def put(self, data: str) -> None:
        self.inside[self.at] = data


@dataclass(slots=True)
class Addresses:
    """The addresses of one body."""

    places: list[Place]
    members: dict[str, msgspec.Raw]
    opened: list[dict[str, Any]]
    """members that hold some, decoded, each by its name"""

    @classmethod
    def none(cls) -> Addresses:
        return cls([], {}, [])

    def encode(self) -> bytes:
        """The members as JSON without the braces around them: those without addresses byte by byte."""
        members = dict(self.members)
        for holder in self.opened:
            members.update({name: msgspec.Raw(_encode(value)) for name, value in holder.items()})
        return _encode(members)[1:-1]


def suspected(members: Mapping[str, msgspec.Raw], rest: bytes) -> bool:
    """Whether a body may hold addresses. Never False where it does. `rest`: the members as JSON."""
    if len(rest) < _SMALL and rest.isascii() and b"\\u" not in rest and _TAIL.search(rest.lower()) is None:
        return False
    return any(_suspected(name, raw, 0) for name, raw in members.items())


def _suspected(name: str, raw: msgspec.Raw, depth: int) -> bool:
    if depth > DEEPEST:
        return True
    if name in _NOT_ENTERED:
        return False
    begin = memoryview(raw)[0]
    if begin not in _OPENING:
        return begin == _QUOTE and _carries(name)
    if _carries(name):
        return True
    try:
        rows = _rows(raw) if begin == _LIST else (_split(raw),)
    except (msgspec.DecodeError, RecursionError):
        return _OBJECT in bytes(raw)  # a list of other things; `find` looks into it
    return any(_suspected(key, value, depth + 1) for row in rows for key, value in row.items())


def _carries(name: str) -> bool:
    """Engines written in Go take the names of members in any case."""
    return name in CARRIERS or name.casefold() in CARRIERS


def find(members: bytes) -> Addresses:
    """All addresses in a JSON object that was read before. Raises Refused where it is nested too deeply."""
    found = Addresses([], _split(members), [])
    for name, raw in found.members.items():
        if _suspected(name, raw, 0):
            holder = {name: _decode(raw)}
            try:
                places = list(_members_of(holder, "", inside=False))
            except RecursionError:
                raise Refused(400, "malformed", f"`{name}` is nested too deeply", param=name) from None
            if places:
                found.places += places
                found.opened.append(holder)
    return found


def in_form(upload: Upload) -> Addresses:
    """All addresses in the fields of a form. What is in its files is read by nobody here."""
    found = Addresses.none()
    for part in upload.parts:
        name = part.head.name
        if part.head.file is None and _carries(name.partition("[")[0]):
            text = upload.begin_of(part, _LOOKED_AT).decode("utf-8", "replace")
            if is_address(text, strictly=True):
                found.places.append(Place(name, text, None, name))
    return found


def _members_of(value: Mapping[str, Any], path: str, *, inside: bool) -> Iterator[Place]:
    kind = value.get("type")
    kind = kind if isinstance(kind, str) else ""
    if kind in _OF_TOOLS:
        return
    for name, one in value.items():
        if name in _NOT_ENTERED:
            continue
        carries = _carries(name) and (name.casefold() not in _BARE or inside or kind in _BARE)
        yield from _look(one, value, name, f"{path}.{name}" if path else name, (inside or carries, carries))


def _look(one: Any, holder: Any, at: str | int, path: str, carried: tuple[bool, bool]) -> Iterator[Place]:
    """`carried`: whether it is inside a carrier, and whether it is the value of one itself."""
    inside, itself = carried
    if isinstance(one, str):
        if inside and is_address(one, strictly=itself):
            yield Place(path, one, holder, at)
    elif isinstance(one, dict):
        yield from _members_of(one, path, inside=inside)
    elif isinstance(one, list):
        for index, item in enumerate(one):
            yield from _look(item, one, index, f"{path}[{index}]", carried)


def is_address(text: str, *, strictly: bool) -> bool:
    """Whether it is no data. `strictly`: whatever is neither a data URL nor base64 is one."""
    begin = text[:_LOOKED_AT].lstrip("".join(map(chr, range(33)))).lower()
    if begin.startswith("data:"):
        return False
    if _SCHEME.match(begin):
        return strictly or "://" in begin[:64] or begin.startswith("file:")
    if begin.startswith(("//", "\\\\")):
        return True
    return strictly and _RAW_BASE64.fullmatch(begin) is None
