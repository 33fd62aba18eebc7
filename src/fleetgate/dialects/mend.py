"""What is odd in the answers of providers that speak OpenAI's dialect: a table, and its mending. Pure.

Most of an answer is never looked into: a frame is decoded only where its bytes may concern a row. A row
stands here because the vendor's documentation or reports of others say so; none was tried from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate import sse

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Oddities:
    """One provider's."""

    calls_end_as_stop: bool = False
    """an answer with tool calls ends with `stop` where `tool_calls` is due"""
    content_in_parts: bool = False
    """`content` may be a list of parts, some of which are thoughts"""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """finish reasons under names of its own"""
    broken: frozenset[str] = frozenset()
    """finish reasons of answers that are no answers"""
    told_in: str = ""
    """member of a good answer whose `status_code` and `status_msg` tell of a failure"""
    codes: Mapping[int, int] = field(default_factory=dict)
    """such a code -> the status that it stands for; others are 500"""


ODDITIES: Final[Mapping[str, Oddities]] = MappingProxyType(
    {
        "gemini": Oddities(calls_end_as_stop=True),
        "mistral": Oddities(
            content_in_parts=True, reasons={"model_length": "length"}, broken=frozenset({"error"})
        ),
        "deepseek": Oddities(broken=frozenset({"insufficient_system_resource"})),
        "openrouter": Oddities(broken=frozenset({"error"})),
        "together": Oddities(reasons={"eos": "stop"}),
        "cohere": Oddities(
            reasons={
                "COMPLETE": "stop",
                "STOP_SEQUENCE": "stop",
                "MAX_TOKENS": "length",
                "TOOL_CALL": "tool_calls",
            },
            broken=frozenset({"ERROR"}),
        ),
        "minimax": Oddities(
            told_in="base_resp",
            codes={
                1000: 500,
                1001: 500,
                1002: 429,
                1004: 401,
                1008: 402,
                1026: 400,
                1027: 400,
                1039: 429,
                2013: 400,
                2049: 401,
            },
        ),
    }
)
"""by the name of the provider; `docs/providers.md` lists them"""

_CALLS: Final = re.compile(rb'"tool_calls"\s*:\s*\[\s*\{')
_PARTS: Final = re.compile(rb'"content"\s*:\s*\[')
_FINISH: Final = re.compile(rb'finish_reason"\s*:\s*"([^"]*)"')
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.encode


class Mender:
    """For one answer, whole or in frames. `feed` and `end` are those of a cutter."""

    __slots__ = ("_called", "_cutter", "_odd", "_reasons")

    def __init__(self, odd: Oddities) -> None:
        self._odd = odd
        self._reasons = frozenset(reason.encode() for reason in (*odd.reasons, *odd.broken))
        self._cutter = sse.Cutter()
        self._called: set[int] = set()
        """places of choices in which a tool was called"""

    def whole(self, body: bytes) -> bytes:
        """A whole answer; what cannot be read passes."""
        return self._mended(body) or body if self._may_concern(body) else body

    def feed(self, piece: bytes) -> list[bytes]:
        return [self._frame(frame) for frame in self._cutter.feed(piece)]

    def end(self) -> bytes:
        rest = self._cutter.end()
        return self._frame(rest) if rest and sse.is_complete(rest) else rest

    def _frame(self, frame: bytes) -> bytes:
        if not self._may_concern(frame):
            return frame
        data = sse.data_of(frame)
        mended = self._mended(data) if data is not None else None
        return frame if mended is None else b"data: " + mended + b"\n\n"

    def _may_concern(self, raw: bytes) -> bool:
        odd = self._odd
        if odd.calls_end_as_stop and (_CALLS.search(raw) or (self._called and _FINISH.search(raw))):
            return True
        if odd.content_in_parts and _PARTS.search(raw):
            return True
        if self._reasons and any(one in self._reasons for one in _FINISH.findall(raw)):
            return True
        return bool(odd.told_in) and odd.told_in.encode() in raw

    def _mended(self, raw: bytes) -> bytes | None:
        """None: nothing is odd in it."""
        try:
            value = _decode(raw)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        if not isinstance(value, dict):
            return None
        if (failed := self._told(value)) is not None:
            return _encode({"error": failed})
        changed = False
        for choice in _objects(value.get("choices")):
            reason = choice.get("finish_reason")
            if isinstance(reason, str) and reason in self._odd.broken:
                text = f"the provider ended its answer with {reason}"
                return _encode(value if value.get("error") else {"error": {"message": text, "code": 503}})
            changed = self._choice(choice) or changed
        return _encode(value) if changed else None

    def _told(self, value: dict[str, Any]) -> dict[str, Any] | None:
        """The failure that a good answer tells of."""
        told = value.get(self._odd.told_in) if self._odd.told_in else None
        code = told.get("status_code") if isinstance(told, dict) else None
        if not isinstance(told, dict) or not code:
            return None
        text = str(told.get("status_msg") or f"the provider reported {code}")
        return {"message": text, "code": self._odd.codes.get(code, 500) if isinstance(code, int) else 500}

    def _choice(self, choice: dict[str, Any]) -> bool:
        """Mend one choice in place; whether anything was odd."""
        index, reason = choice.get("index"), choice.get("finish_reason")
        index = index if isinstance(index, int) else 0
        parts = [one for one in (choice.get("message"), choice.get("delta")) if isinstance(one, dict)]
        if any(one.get("tool_calls") for one in parts):
            self._called.add(index)
        changed = False
        if isinstance(reason, str):
            due = self._odd.reasons.get(reason, reason)
            if self._odd.calls_end_as_stop and due == "stop" and index in self._called:
                due = "tool_calls"
            changed = due != reason
            choice["finish_reason"] = due
        if self._odd.content_in_parts:
            for one in parts:
                changed = _joined(one) or changed
        return changed


def _joined(message: dict[str, Any]) -> bool:
    """`content` in parts as text and thoughts; what is neither is left out, with the rest as it is."""
    content = message.get("content")
    if not isinstance(content, list):
        return False
    said = _texts(content)
    thoughts = (one.get("thinking") for one in _objects(content) if one.get("type") == "thinking")
    thought = "".join(_texts(one) if isinstance(one, list) else str(one or "") for one in thoughts)
    message["content"] = said if said or not thought else None
    if thought:
        message["reasoning_content"] = str(message.get("reasoning_content") or "") + thought
    return True


def _texts(parts: list[Any]) -> str:
    return "".join(
        one if isinstance(one, str) else str(one.get("text") or "")
        for one in parts
        if isinstance(one, str) or (isinstance(one, dict) and one.get("type", "text") == "text")
    )


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
