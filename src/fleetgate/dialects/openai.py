"""OpenAI's dialect: chat completions, completions, embeddings. Pure: bytes in, values out.

A stream is looked at frame by frame and never parsed as a whole: before the first content each
frame is decoded (there are one or two), afterwards a few patterns find the frames
that say how it ended or what it used. Strings cannot fool it: a quote inside a JSON string is
escaped, so `"finish_reason":"` with bare quotes is always a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate import sse
from fleetgate.dialects.timings import read_timings
from fleetgate.dialects.usage import read_usage, usage_in
from fleetgate.domain import Timings, Usage
from fleetgate.errors import AttemptFailed, FailureClass, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

END: Final = b"data: [DONE]\n\n"
JSON: Final = "application/json"

_FINISH: Final = re.compile(rb'finish_reason"\s*:\s*"')
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
_ERROR: Final = re.compile(rb'"error"\s*:\s*[{"]')
_CONTENT_KEYS: Final = (
    "content",
    "reasoning_content",
    "reasoning",
    "refusal",
    "tool_calls",
    "function_call",
    "audio",
)
_THOUGHTS: Final = frozenset({"reasoning_content", "reasoning"})
"""content that is no part of what was asked for"""
_SAID: Final = re.compile(
    rb'"(?:content|text|refusal)"\s*:\s*"[^"]|"(?:tool_calls|function_call|audio)"\s*:\s*[\[{]\s*["{]'
)
"""in a piece of a stream: something was said"""
_SPENT: Final = "length"
"""the finish reason of an answer that its bound ended"""
UNSAID: Final = "nothing was said within max_tokens: the model spent them on thinking"
"""what is noted of such an answer, which is whole all the same"""


class Look(Enum):
    """What a frame means for the relay."""

    HOLD = auto()
    """nothing in it that commits: a comment, a role, an empty delta"""
    CONTENT = auto()
    PASS = auto()
    DROP = auto()
    """the usage frame that the caller did not ask for"""
    FINISH = auto()
    """carries a finish reason: the answer is whole"""
    END = auto()
    """`[DONE]`"""


class _Answer(msgspec.Struct):
    usage: Any = None
    error: msgspec.Raw = msgspec.Raw()
    timings: Any = None


class _Ends(msgspec.Struct):
    choices: list[dict[str, Any]] = []


class _Pictures(msgspec.Struct):
    data: list[msgspec.Raw]


_pictures: Final = msgspec.json.Decoder(_Pictures)
_answer: Final = msgspec.json.Decoder(_Answer)
_ends: Final = msgspec.json.Decoder(_Ends)


def read_answer(body: bytes) -> Usage:
    """The usage of a whole answer. Raises AttemptFailed when it is none, or an error in disguise."""
    return read_whole(body)[0]


def read_whole(body: bytes) -> tuple[Usage, Timings | None]:
    """The usage of a whole answer, and what its engine measured. Raises like `read_answer`."""
    try:
        answer = _answer.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise AttemptFailed(FailureClass.GARBAGE, f"the answer is not JSON: {error}") from None
    if bytes(answer.error) not in (b"null", b""):
        raise failure_in_band(bytes(answer.error))
    return read_usage(answer.usage), None if answer.timings is None else read_timings(answer.timings)


def pictures_in(body: bytes) -> int | None:
    """How many pictures a whole answer has; None: it does not look like one."""
    try:
        return len(_pictures.decode(body).data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def is_unsaid(body: bytes) -> bool:
    """Whether a whole chat answer came to the end of its bound before anything was said."""
    if b'"length"' not in body:
        return False
    try:
        choices = _ends.decode(body).choices
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return bool(choices) and all(
        one.get("finish_reason") == _SPENT
        and isinstance(one.get("message"), dict)
        and not _says(one["message"])
        for one in choices
    )


def _says(message: dict[str, Any]) -> bool:
    return any(message.get(key) for key in _CONTENT_KEYS if key not in _THOUGHTS)


class InBand(AttemptFailed):
    """An error inside an answer that began well. `body`: as an error answer would have said it."""

    body: bytes = b""


def failure_in_band(error: bytes) -> InBand:
    """The failure that an error inside a 200 answer stands for: by its code, else server_error."""
    text, status = "the upstream reported an error inside its answer", None
    try:
        value = msgspec.json.decode(error)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        value = None
    if isinstance(value, str):
        text = value
    elif isinstance(value, dict):
        text = str(value.get("message") or text)
        code = value.get("code", value.get("status"))
        if isinstance(code, str) and code.isdigit():
            code = int(code)
        status = code if isinstance(code, int) and 400 <= code < 600 else None
    failure = FailureClass.SERVER_ERROR
    if status is not None and status < 500 and status not in (408, 409, 425):
        failure = _BY_STATUS.get(status, FailureClass.BAD_REQUEST)
    found = InBand(failure, text, status=status)
    found.body = b'{"error":' + error + b"}"
    return found


_BY_STATUS: Final = {
    401: FailureClass.KEY_INVALID,
    402: FailureClass.KEY_UNFUNDED,
    403: FailureClass.KEY_FORBIDDEN,
    404: FailureClass.MODEL_MISSING,
    429: FailureClass.RATE_LIMITED,
}


def _is_notable(frame: bytes) -> bool:
    """Whether it says how the stream ended or what it used. One pattern for all takes twice as long."""
    return (
        _FINISH.search(frame) is not None
        or b"[DONE]" in frame
        or (b'"usage"' in frame and _USAGE.search(frame) is not None)
        or (b'"error"' in frame and _ERROR.search(frame) is not None)
    )


class Stream:
    """Reads one upstream stream: when content begins, how it ended, what it used."""

    answer_id = ""
    __slots__ = (
        "_choices",
        "_finished",
        "_last_usage",
        "_mute",
        "_tells_of_load",
        "committed",
        "ended",
        "frames",
        "reasons",
        "strip_usage",
        "timings",
    )

    def __init__(
        self,
        *,
        strip_usage: bool,
        choices: int = 1,
        tells_of_load: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> None:
        """`choices`: how many answers were asked for. `tells_of_load`: knows the engine's own words about a
        load, which are dropped."""
        self.strip_usage = strip_usage
        self._tells_of_load = tells_of_load
        self._mute = True
        """nothing was said yet; thinking is not saying"""
        self._choices = choices
        self._finished: set[Any] = set()
        self._last_usage: Usage | None = None
        self.reasons: set[str] = set()
        """the finish reasons"""
        self.timings: Timings | None = None
        """as the engine measured, where it says"""
        self.committed = False
        self.ended = False
        self.frames = 0
        """frames seen so far: each has about one token, so an answer had at least about as many"""

    @property
    def usage(self) -> Usage:
        return self._last_usage or Usage()

    @property
    def end_mark(self) -> bytes:
        """It is always the same: `END`."""
        return b""

    @property
    def finished(self) -> bool:
        """A finish reason was seen: an end in good order is the end of the answer."""
        return bool(self._finished)

    @property
    def whole(self) -> bool:
        """All answers have their finish reason: whatever breaks now takes nothing from them."""
        return len(self._finished) >= self._choices

    def goes_on(self) -> None:
        """It is the second part of an answer, so something was said before it."""
        self._mute = False

    @property
    def unsaid(self) -> bool:
        """The answer came to the end of its bound before anything was said."""
        return self._mute and self.reasons == {_SPENT}

    def look(self, frame: bytes) -> Look:
        """What `frame` is. Raises AttemptFailed for an in-band error or something that is no frame."""
        self.frames += 1
        if self._mute and _SAID.search(frame) is not None:
            self._mute = False
        if not self.committed:
            return self._look_closely(frame)
        return self._look_closely(frame) if _is_notable(frame) else Look.PASS

    def _look_closely(self, frame: bytes) -> Look:
        data = sse.data_of(frame)
        if data is None:
            return self._quiet()
        if data.strip() == b"[DONE]":
            self.ended = True
            return Look.END
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            if self.committed:
                return Look.PASS  # not ours to judge after the first content: bytes pass
            raise AttemptFailed(FailureClass.GARBAGE, "a frame of the stream is not JSON") from None
        if not isinstance(chunk, dict):
            return self._quiet()
        if chunk.get("error"):
            raise self._error(chunk["error"])
        return self._look_at_chunk(chunk)

    def _error(self, error: Any) -> AttemptFailed:
        found = failure_in_band(msgspec.json.encode(error))
        if self.committed:
            return AttemptFailed(FailureClass.STREAM_BROKEN, found.text, status=found.status)
        return found

    def _look_at_chunk(self, chunk: dict[str, Any]) -> Look:
        choices = chunk.get("choices")
        choices = choices if isinstance(choices, list) else []
        if "timings" in chunk:
            self.timings = read_timings(chunk["timings"]) or self.timings
        usage = usage_in(chunk)
        if isinstance(usage, dict):
            self._last_usage = read_usage(usage)
            if not choices and "usage" in chunk:
                if self.strip_usage:
                    return Look.DROP
                return self._quiet()
        finishing = [one for one in choices if isinstance(one, dict) and one.get("finish_reason")]
        if finishing:
            self._finished.update(str(one.get("index")) for one in finishing)
            self.reasons.update(str(one["finish_reason"]) for one in finishing)
            self.committed = True
            return Look.FINISH
        if self.committed:
            return Look.PASS
        return self._look_for_content(chunk, choices)

    def _look_for_content(self, chunk: dict[str, Any], choices: list[Any]) -> Look:
        """What a piece before the first content is."""
        if self._tells_of_load is not None and self._tells_of_load(chunk):
            self.frames -= 1
            return Look.DROP
        if any(_has_content(choice) for choice in choices):
            self.committed = True
            return Look.CONTENT
        return Look.HOLD

    def _quiet(self) -> Look:
        return Look.PASS if self.committed else Look.HOLD


def _has_content(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    if choice.get("text"):
        return True
    delta = choice.get("delta")
    return isinstance(delta, dict) and any(delta.get(key) for key in _CONTENT_KEYS)


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """An error as this dialect says it: status, extra headers, body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}
_SHORT: Final = 120.0
"""seconds that a program may as well wait"""


def error_object(refused: Refused, request_id: str) -> dict[str, Any]:
    """OpenAI's error object, with what we add: class, source, request id and advice."""
    message = refused.message
    if refused.advice:
        message = f"{message.rstrip('.')}. {refused.advice}"
    return {
        "message": message,
        "type": _type_of(refused),
        "param": refused.param,
        "code": refused.code,
        "class": refused.failure.value if refused.failure else None,
        "source": refused.source.value,
        "request_id": request_id,
    }


def _type_of(refused: Refused) -> str:
    """A limit with a long wait is called what OpenAI calls a quota that is used up: Codex waits as long as
    `retry-after` says, in silence, and only by this word knows that somebody should be told."""
    if refused.status == 429 and (refused.retry_after or 0.0) > _SHORT:
        return "insufficient_quota"
    return _TYPES.get(refused.status, "api_error" if refused.status >= 500 else "invalid_request_error")


def error_form(refused: Refused, request_id: str) -> ErrorForm:
    headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
    if refused.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(refused.retry_after))))
    if refused.terminal:
        headers.append((b"x-should-retry", b"false"))
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = msgspec.json.encode({"error": error_object(refused, request_id)})
    return ErrorForm(refused.status, tuple(headers), body)


def error_frame(refused: Refused, request_id: str) -> bytes:
    """The error as a stream event: after it nothing follows, no finish reason and no `[DONE]`."""
    return sse.frame(msgspec.json.encode({"error": error_object(refused, request_id)}))
