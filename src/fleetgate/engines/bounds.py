"""How much of anything an engine of one's own is asked at once: generous bounds that only abuse meets. Pure.

Engines crash, or stand still for minutes, on what nobody means: a billion answers, a schema that folds into
itself a thousand times, a million stop texts. What is above a bound is refused by its name, never cut.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_CHOICES: Final = 8
"""answers at once"""
MOST_RANKED: Final = 100
"""likely tokens that are told beside each one"""
MOST_MESSAGES: Final = 10_000
MOST_PICTURES: Final = 100
"""pictures, sounds and films of one request"""
MOST_TOOLS: Final = 1_000
MOST_STOPS: Final = 64
LONGEST_STOP: Final = 1_000
MOST_INPUTS: Final = 10_000
"""texts to embed, or prompts to complete"""
DEEPEST: Final = 64
"""levels of a schema"""
MOST_REPEATS: Final = 1_000_000
"""in a schema: engines write each repetition out"""
UNBOUNDED: Final = -2
"""the least that engines know as a length: -1 stands for no bound, -2 for all that fits"""

_COUNTS: Final = {
    "n": MOST_CHOICES,
    "best_of": MOST_CHOICES,
    "top_logprobs": MOST_RANKED,
    "n_probs": MOST_RANKED,
    "prompt_logprobs": MOST_RANKED,
}
_LENGTHS: Final = (
    *("max_tokens", "max_completion_tokens", "max_output_tokens"),
    *("n_predict", "num_predict", "min_tokens"),
)
_STOPS: Final = ("stop", "stop_sequences")
_SCHEMAS: Final = frozenset(
    {"tools", "functions", "response_format", "json_schema", "guided_json", "structured_outputs"}
    | {"text", "format", "output_config", "output_format"}
)
_LISTS: Final = {
    "messages": MOST_MESSAGES,
    "tools": MOST_TOOLS,
    "functions": MOST_TOOLS,
    "input": MOST_INPUTS,
    "prompt": MOST_INPUTS,
}
_OPTIONS: Final = "options"
"""member of Ollama's dialect that holds some of these"""
WATCHED: Final = frozenset({*_COUNTS, *_SCHEMAS, *_STOPS, _OPTIONS, "n_predict", "min_tokens"})
"""members that are looked at whenever they are there; of the others only large bodies are"""
_SMALLEST: Final = 10
"""bytes of one entry of a list that says anything"""
LARGE: Final = MOST_MESSAGES * _SMALLEST
"""bytes of a body from which its lists may be too long"""
_REPEATS: Final = re.compile(
    rb'"m(?:ax|in)(?:Items|Length|Properties|Contains)"\s*:\s*(\d{7,}|\d[\d.]*[eE][+\d]+)'
)
_MARKS: Final = re.compile(rb'"(?:input_)?(?:image|audio|video|file|document)s?"')
_LIST: Final = ord("[")
_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode: Final = msgspec.json.Decoder().decode


class _Part(msgspec.Struct):
    type: str = "text"
    content: msgspec.Raw = msgspec.Raw(b"null")
    """of the result of a tool"""


class _Message(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw(b"null")
    images: msgspec.Raw = msgspec.Raw(b"null")
    """as Ollama's dialect has them"""


_messages: Final = msgspec.json.Decoder(list[_Message]).decode
_parts: Final = msgspec.json.Decoder(list[_Part]).decode
_FILES: Final = frozenset(
    {"image", "image_url", "input_image", "audio_url", "input_audio", "video", "video_url", "input_video"}
    | {"file", "input_file", "document"}
)


def may_hold_files(body: bytes) -> bool:
    """Whether pictures or other files may be in a body of another dialect."""
    return len(body) > LARGE or _MARKS.search(body) is not None


def concern(body: bytes, names: frozenset[str], longest: int | None, *, pictures: bool) -> bool:
    """Whether a body has to be looked at. `longest`: tokens of the answer, where that was understood;
    `pictures`: there may be some."""
    if pictures or len(body) > LARGE or not WATCHED.isdisjoint(names):
        return True
    return longest is None and not names.isdisjoint(_LENGTHS)


def check(members: Mapping[str, msgspec.Raw]) -> None:
    """Raises AttemptFailed for the first member that asks too much, or for no number of a thing."""
    for name in members.keys() & _COUNTS.keys():
        _count(name, members[name], _COUNTS[name])
    for name in _LENGTHS:
        if name in members and (length := _whole(name, members[name])) is not None and length < UNBOUNDED:
            raise unfit(f"`{name}` is {length}: it cannot be less than nothing")
    for name in members.keys() & _LISTS.keys():
        _length(name, members[name], _LISTS[name])
    for name in members.keys() & _STOPS:
        _stops(name, members[name])
    for name in ("messages", "input"):
        if name in members:
            _pictures(name, members[name])
    if _OPTIONS in members:
        _options(members[_OPTIONS])
    for name in members.keys() & _SCHEMAS:
        _schema(name, members[name])


def unfit(text: str) -> AttemptFailed:
    """It is not for this candidate; others are asked."""
    return AttemptFailed(FailureClass.ABSENT_FEATURE, text, status=400)


def _count(name: str, raw: msgspec.Raw, most: int) -> None:
    if bytes(raw) in {b"true", b"false"}:
        return  # some engines take that for a few
    count = _whole(name, raw)
    if count is None:
        return
    if count > most:
        what = f"at most {most} answers at once" if most == MOST_CHOICES else f"at most {most}"
        raise unfit(f"`{name}` is {count}: {what}")
    if count < (name in {"n", "best_of"}):
        raise unfit(f"`{name}` is {count}: it cannot be less than {int(name in {'n', 'best_of'})}")


def _whole(name: str, raw: msgspec.Raw) -> int | None:
    """A whole number; None: it is `null`."""
    try:
        value = _decode(raw)
    except msgspec.DecodeError:
        value = ""
    if value is None or type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise unfit(f"`{name}` must be a whole number")


def _length(name: str, raw: msgspec.Raw, most: int) -> None:
    if len(raw) > most and (rows := _rows(raw)) is not None and len(rows) > most:
        # A list of numbers is one text, as tokens.
        if bytes(rows[0])[:1] in b"-0123456789":
            return
        raise unfit(f"`{name}` has {len(rows)} entries: at most {most}")


def _rows(raw: msgspec.Raw) -> list[msgspec.Raw] | None:
    try:
        return _list(raw)
    except (msgspec.DecodeError, RecursionError):
        return None  # the engine says what is wrong with it


def _stops(name: str, raw: msgspec.Raw) -> None:
    rows = _rows(raw)
    if rows is None:
        rows = [raw]
    elif len(rows) > MOST_STOPS:
        raise unfit(f"`{name}` has {len(rows)} entries: at most {MOST_STOPS}")
    # Written with escapes, one sign has up to twelve bytes.
    if any(len(row) > LONGEST_STOP and len(str(_decode(row))) > LONGEST_STOP for row in rows):
        raise unfit(f"`{name}` has a text of more than {LONGEST_STOP} characters")


def _options(raw: msgspec.Raw) -> None:
    try:
        options = _object(raw)
    except (msgspec.DecodeError, RecursionError):
        return  # the engine says what is wrong with them
    options.pop(_OPTIONS, None)
    check(options)


def _pictures(name: str, raw: msgspec.Raw) -> None:
    try:
        count = sum(_files(one.content) + _length_of(one.images) for one in _messages(raw))
    except (msgspec.DecodeError, RecursionError):
        return
    if count > MOST_PICTURES:
        raise unfit(f"`{name}` has {count} pictures or other files: at most {MOST_PICTURES}")


def _files(content: msgspec.Raw) -> int:
    """How many there are, those in results of tools among them."""
    if memoryview(content)[0] != _LIST:
        return 0
    try:
        parts = _parts(content)
    except msgspec.DecodeError:
        return 0  # the engine says what is wrong with it
    return sum((part.type in _FILES) + _files(part.content) for part in parts)


def _length_of(raw: msgspec.Raw) -> int:
    return len(_list(raw)) if memoryview(raw)[0] == _LIST else 0


def _schema(name: str, raw: msgspec.Raw) -> None:
    text = bytes(raw)
    for found in _REPEATS.finditer(text):
        if float(found[1]) > MOST_REPEATS:
            raise unfit(f"`{name}` asks for {found[0].decode('ascii')}: at most {MOST_REPEATS}")
    if text.count(b"{") + text.count(b"[") > DEEPEST and _is_deep(raw):
        raise unfit(f"`{name}` is nested more than {DEEPEST} levels deep")


def _is_deep(raw: msgspec.Raw) -> bool:
    try:
        value = _decode(raw)
    except RecursionError:
        return True
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        inside = [one.values() if type(one) is dict else one for one in level]
        level = [one for values in inside for one in values if type(one) is dict or type(one) is list]
        if not level:
            return False
    return True
