"""Reading a form with files: once, bounded, and refused where it is not understood.

Of the fields the gateway needs five. A field of these that comes twice, or as a file, is refused: an engine
might take the other one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetgate.errors import Refused
from fleetgate.estimate import BASE, PICTURE
from fleetgate.gateway.body import LONGEST_END_USER, Body, CallerGone, Wanted
from fleetgate.gateway.form import Part, Upload
from fleetgate.gateway.multipart import Head, Malformed, Scanner, boundary_of
from fleetgate.gateway.spool import BodyBudget, Contents

if TYPE_CHECKING:
    from fleetgate.gateway.body import Receive

LONGEST_FIELD: Final = 4 * 1024
"""Bytes of a field that the gateway itself reads."""
_OURS: Final = frozenset({"model", "stream", "response_format", "n", "user"})
_BYTES_PER_TOKEN: Final = 500
"""of sound, as it is usually compressed"""
_TRUE: Final = frozenset({"true", "1", "on", "yes"})


class _Reading:
    """A form while it comes."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.fields: dict[str, bytearray] = {}
        self.text = 0
        """bytes of fields"""
        self.files = 0
        self._parts: list[tuple[Head, int]] = []
        self._ours: bytearray | None = None

    def take(self, one: Head | bytes) -> None:
        if isinstance(one, Head):
            self._begin(one)
            return
        if self._ours is not None:
            self._ours += one
            if len(self._ours) > LONGEST_FIELD:
                name = self._parts[-1][0].name
                raise Refused(400, "malformed", f"the field {name!r} is too long", param=name)
        elif self._parts[-1][0].file is None:
            self.text += len(one)
        self.contents.add(one)

    def _begin(self, head: Head) -> None:
        self._parts.append((head, self.contents.size))
        self._ours = None
        self.files += head.file is not None
        if head.name not in _OURS:
            return
        if head.file is not None or head.name in self.fields:
            what = f"the field {head.name!r} {'is a file' if head.file is not None else 'came twice'}"
            raise Refused(400, "malformed", what, advice="Send it once, as text.", param=head.name)
        self._ours = self.fields[head.name] = bytearray()

    def parts(self) -> tuple[Part, ...]:
        ends = [*(begin for _, begin in self._parts[1:]), self.contents.size]
        return tuple(
            Part(head, begin, end - begin) for (head, begin), end in zip(self._parts, ends, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Room:
    """How large an upload may be, and where it is counted."""

    limit: int
    bodies: BodyBudget
    uploads: BodyBudget


async def read(receive: Receive, content_type: str, declared: int | None, room: Room) -> Body:
    """A form as a body. Raises Refused (400, 413, 503) or CallerGone."""
    contents = Contents(room.bodies, room.uploads)
    try:
        reading = await _read(receive, content_type, declared, room.limit, contents)
        fields = {name: _text(name, bytes(value)) for name, value in reading.fields.items()}
        upload = Upload(reading.parts(), fields, contents)
        body = Body(_wanted(fields), {}, b"", contents.size, None)
    except Malformed as error:
        contents.close()
        raise _malformed(error) from None
    except BaseException:
        contents.close()
        raise
    body.upload = upload
    body.names = frozenset(part.head.name for part in upload.parts)
    body.tokens = _tokens(upload, reading)
    return body


async def _read(
    receive: Receive, content_type: str, declared: int | None, limit: int, contents: Contents
) -> _Reading:
    scanner = Scanner(boundary_of(content_type))
    if declared is not None and declared > limit:
        raise _too_large(limit)
    reading = _Reading(contents)
    came, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        piece, more = message.get("body", b""), message.get("more_body", False)
        came += len(piece)
        if came > limit:
            raise _too_large(limit)
        for one in scanner.feed(piece):
            reading.take(one)
    scanner.finish()
    contents.whole()
    return reading


def _wanted(fields: dict[str, str]) -> Wanted:
    if not fields.get("model"):
        raise Refused(
            400,
            "model_missing_in_request",
            "the request names no model",
            advice="Set the field `model`; GET /v1/models lists the names.",
            param="model",
        )
    number = fields.get("n", "")
    return Wanted(
        model=fields["model"],
        stream=fields.get("stream", "").strip().lower() in _TRUE,
        stream_written="stream" in fields,
        usage=False,
        whole_only=False,
        choices=max(1, int(number)) if number.isascii() and number.isdigit() and len(number) < 6 else 1,
        end_user=fields.get("user", "")[:LONGEST_END_USER] or None,
    )


def _tokens(upload: Upload, reading: _Reading) -> int:
    """What it may be billed as input, rather too much than too little."""
    files = [part for part in upload.parts if part.head.file is not None]
    drawn = sum((part.head.type or "").startswith("image/") for part in files)
    sound = sum(part.size for part in files if not (part.head.type or "").startswith("image/"))
    return (reading.text + 1) // 2 + BASE + drawn * PICTURE + sound // _BYTES_PER_TOKEN


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Refused(400, "malformed", f"the field {name!r} is no text", param=name) from None


def _malformed(error: Malformed) -> Refused:
    return Refused(
        400,
        "malformed",
        f"the form is not understood: {error}",
        advice="Send `multipart/form-data` as usual clients write it, its boundary in `Content-Type`.",
    )


def _too_large(limit: int) -> Refused:
    return Refused(
        413,
        "too_large",
        f"the form is larger than {limit} bytes",
        advice="Send less, or raise `gateway.media_limit`.",
    )
