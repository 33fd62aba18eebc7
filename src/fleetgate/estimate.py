"""How many tokens a request body may hold, before anybody has counted them.

A reservation needs a figure that is seldom too low, at once and for any model: half a token for each
byte. English has one in four, code one in three, and other scripts, which take two or three bytes a
letter, about one in two. Pictures, recordings and documents are written into the body as base64, and
what they cost has little to do with their bytes: they are counted by their kind instead.
"""

from __future__ import annotations

from typing import Final

import msgspec

BASE: Final = 64
"""what templates and roles add"""
PICTURE: Final = 4_096
"""Tokens of a picture: what a large one takes in most models."""
_RECORDING: Final = 64
"""Bytes of base64 for a token of sound, even if it is compressed well."""
_DOCUMENT: Final = 4
"""Bytes of base64 for a token of a document, which is compressed text at worst."""
_SHORTEST: Final = 512
"""Bytes of base64 that are worth a closer look; less is counted like text."""


def estimate_tokens(body: bytes) -> int:
    """Input tokens of a request, rather too many than too few.

    Four searches for a few bytes where nothing is written in base64: about a microsecond for a small body.
    """
    pictures = (body.count(b'"image_url"') + 1) // 2  # the part's type and its key
    if len(body) <= _SHORTEST:
        return (len(body) + 1) // 2 + BASE + pictures * PICTURE
    encoded, tokens, drawn = 0, 0, 0
    for kind, length in _encoded(body):
        encoded += length
        if kind == "image":
            drawn += 1
        else:
            tokens += -(-length // (_RECORDING if kind == "audio" else _DOCUMENT))
    return (len(body) - encoded + 1) // 2 + BASE + tokens + max(pictures, drawn) * PICTURE


def estimate_answer(body: bytes) -> int:
    """Output tokens of a whole answer that comes without usage: by the bytes of what was said in it."""
    try:
        choices = msgspec.json.decode(body)["choices"]
        said = sum(_bytes_in(one.get("message") or one.get("text")) for one in choices)
    except (msgspec.DecodeError, AttributeError, KeyError, RecursionError, TypeError):
        return 0  # an embedding, or nothing that somebody said
    return (said + 1) // 2


def _bytes_in(value: object) -> int:
    """Of all texts in it, but for the words of the form."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return sum(_bytes_in(one) for name, one in value.items() if name not in _FORM)
    return sum(map(_bytes_in, value)) if isinstance(value, list) else 0


_FORM: Final = frozenset({"role", "type", "id", "index"})


def _encoded(body: bytes) -> list[tuple[str, int]]:
    """What is written in base64: its kind and its length."""
    found = []
    at = body.find(b";base64,")
    while at >= 0:
        length = _run(body, at + 8)
        if length >= _SHORTEST:
            head = body[max(0, at - 40) : at]
            kind = head[head.rfind(b"data:") + 5 :].partition(b"/")[0]
            found.append((kind.decode("ascii", "replace"), length))
        at = body.find(b";base64,", at + 8 + length)
    at = body.find(b'"data"')
    while at >= 0:
        begin = at + 6
        while body[begin : begin + 1] in (b" ", b":", b"\n", b"\t"):
            begin += 1
        length = _run(body, begin + 1) if body[begin : begin + 1] == b'"' else 0
        if length >= _SHORTEST:
            found.append((_kind_of_part(body, at, begin + length), length))
        at = body.find(b'"data"', begin + length)
    return found


def _run(body: bytes, begin: int) -> int:
    """Length of the text from `begin` to its quote, where it may be base64; else 0.

    Words have spaces between them, or letters that are not ASCII; looking for the alphabet itself takes
    milliseconds.
    """
    end = body.find(b'"', begin)
    text = body[begin : end if end >= 0 else len(body)]
    return len(text) if text.isascii() and b" " not in text else 0


def _kind_of_part(body: bytes, begin: int, end: int) -> str:
    """Of a part whose content has a key of its own: `input_audio`, or a `media_type` beside it."""
    near = body[max(0, begin - 120) : begin] + body[end : end + 120]
    if b'"input_audio"' in near or b"audio/" in near:
        return "audio"
    return "image" if b"image/" in near else "document"
