"""A streamed chat answer as the events of a message.

Blocks of a message come one after the other: one is open, and what belongs to another waits until the open
one is complete. Text and thinking are complete when something else comes; a call when its arguments are a
whole JSON object, since engines may send parallel calls in turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate import sse
from fleetgate.dialects.anthropic import answer, errors
from fleetgate.dialects.anthropic.table import FAILED
from fleetgate.dialects.usage import read_usage
from fleetgate.domain import Usage
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from fleetgate.dialects.anthropic.request import Memory
    from fleetgate.errors import Refused

SILENCE: Final = 32
"""Pieces of thinking that is not shown between two signs of life."""
_TEXT: Final = "text"
_THINKING: Final = "thinking"
_TOOL: Final = "tool_use"
_KEEP_ALIVE: Final = sse.comment("keep-alive")
_PING: Final = sse.frame(b'{"type":"ping"}', "ping")
_DELTAS: Final = {
    _TEXT: ("text_delta", "text"),
    _THINKING: ("thinking_delta", "thinking"),
    _TOOL: ("input_json_delta", "partial_json"),
}


@dataclass(slots=True, eq=False)
class _Block:
    """One block: open, or waiting for its turn."""

    kind: str
    id: str = ""
    name: str = ""
    waiting: list[str] = field(default_factory=list)
    said: str = ""
    """arguments that were sent"""
    closed: bool = False

    @property
    def complete(self) -> bool:
        if self.kind != _TOOL:
            return True
        return self.said.rstrip().endswith("}") and answer.parsed(self.said) is not None

    def begin(self) -> dict[str, Any]:
        if self.kind == _TOOL:
            return {"type": _TOOL, "id": self.id, "name": self.name, "input": {}}
        if self.kind == _THINKING:
            return {"type": _THINKING, "thinking": "", "signature": ""}
        return {"type": _TEXT, "text": ""}


class Events:
    """One answer on its way to the caller."""

    __slots__ = (
        "_calls",
        "_count",
        "_finish",
        "_hidden",
        "_index",
        "_last",
        "_line",
        "_memory",
        "_met",
        "_open",
        "_out",
        "_refused",
        "_request_id",
        "_usage",
    )

    def __init__(self, memory: Memory, request_id: str) -> None:
        self._memory = memory
        self._request_id = request_id
        self._out: list[bytes] = []
        self._open: _Block | None = None
        self._line: list[_Block] = []
        """blocks that wait, in order"""
        self._index = -1
        """of the newest block that was begun"""
        self._calls: dict[int, _Block] = {}
        """by index, the newest of each"""
        self._count = 0
        """of calls"""
        self._last = -1
        """index of the call that came last"""
        self._hidden = 0
        self._finish: Any = None
        self._met: Any = None
        self._refused = False
        self._usage = Usage()

    def begin(self) -> bytes:
        """The input's tokens are not known yet; the last events say them."""
        self._event("message_start", message=answer.head(self._memory, self._request_id))
        return self._flush()

    def alive(self) -> bytes:
        """A comment: a `ping` would have to come behind the beginning of the message."""
        return _KEEP_ALIVE

    def fail(self, refused: Refused) -> bytes:
        return errors.error_frame(refused, self._request_id)

    def feed(self, frame: bytes) -> bytes:
        """Raises AttemptFailed where a piece cannot be part of a message."""
        data = sse.data_of(frame)
        if data is None:
            return b""
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return b""
        if not isinstance(chunk, dict):
            return b""
        if isinstance(chunk.get("usage"), dict):
            self._usage = read_usage(chunk["usage"])
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                self._choice(choice)
        return self._flush()

    def end(self) -> bytes:
        self._close_all()
        finish = "content_filter" if self._refused else self._finish
        reason, sequence = answer.stop(finish, self._met, self._memory, called=self._count > 0)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        self._event("message_delta", delta=delta, usage=answer.usage_form(self._usage))
        self._event("message_stop")
        return self._flush()

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            thought = answer.thought_in(delta)
            if thought:
                self._think(thought)
            text = answer.text_in(delta.get("content"))
            if text:
                self._say(_TEXT, text)
            refusal = delta.get("refusal")
            if isinstance(refusal, str) and refusal:
                self._refused = True
                self._say(_TEXT, refusal)
            for piece in _list(delta.get("tool_calls")):
                self._call(piece)
        if choice.get("finish_reason"):
            self._finish, self._met = choice["finish_reason"], choice.get("stop_reason")
            if isinstance(self._finish, str) and self._finish in FAILED:
                what = f"the engine ended the answer with {self._finish!r}"
                raise AttemptFailed(FailureClass.STREAM_BROKEN, what)
            self._close_all()

    def _think(self, thought: str) -> None:
        if self._memory.thinking:
            self._say(_THINKING, thought)
            return
        if self._hidden % SILENCE == 0:
            self._out.append(_PING)
        self._hidden += 1

    def _say(self, kind: str, text: str) -> None:
        """Text or thinking goes on in the newest block, if that is of its kind."""
        newest = self._line[-1] if self._line else self._open
        if newest is None or newest.kind != kind:
            newest = _Block(kind)
            self._line.append(newest)
        self._add(newest, text)

    def _call(self, piece: Any) -> None:
        if not isinstance(piece, dict):
            raise answer.garbage("a piece of a call is no object")
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        name = function.get("name")
        block = self._block_of(piece, name)
        if isinstance(name, str) and name and not block.name:
            block.name = name
        self._add(block, answer.arguments_of(function.get("arguments")))

    def _block_of(self, piece: dict[str, Any], name: Any) -> _Block:
        """The call a piece belongs to. Some engines leave the index out, or give the same to all calls: then
        an id begins the next one."""
        index, given = piece.get("index"), piece.get("id")
        if type(index) is not int:
            index = self._last + 1 if given or self._last < 0 else self._last
        block = self._calls.get(index)
        self._last = index
        if block is None or (given and name and given != block.id):
            block = _Block(_TOOL, answer.call_id(given, self._request_id, self._count))
            self._count += 1
            self._calls[index] = block
            self._line.append(block)
        return block

    def _add(self, block: _Block, text: str) -> None:
        if block.closed:
            if text.strip():
                raise answer.garbage("a call goes on after its arguments were whole")
            return
        if block is self._open:
            self._delta(block, text)
        elif text:
            block.waiting.append(text)
        while self._line and (self._open is None or self._open.complete) and self._may_begin(self._line[0]):
            self._next()

    def _may_begin(self, block: _Block) -> bool:
        return block.kind != _TOOL or bool(block.name)

    def _next(self) -> None:
        self._close()
        block = self._open = self._line.pop(0)
        self._index += 1
        self._event("content_block_start", index=self._index, content_block=block.begin())
        for text in block.waiting:
            self._delta(block, text)
        block.waiting.clear()

    def _delta(self, block: _Block, text: str) -> None:
        if not text:
            return
        if block.kind == _TOOL:
            block.said += text
        kind, name = _DELTAS[block.kind]
        self._event("content_block_delta", index=self._index, delta={"type": kind, name: text})

    def _close(self) -> None:
        if self._open is not None:
            self._open.closed = True
            self._open = None
            self._event("content_block_stop", index=self._index)

    def _close_all(self) -> None:
        """Nothing more comes: what still waits goes out as it is."""
        while self._line:
            if not self._may_begin(self._line[0]):
                raise answer.garbage("a call names no function")
            self._next()
        self._close()

    def _event(self, kind: str, **members: Any) -> None:
        self._out.append(sse.frame(msgspec.json.encode({"type": kind, **members}), kind))

    def _flush(self) -> bytes:
        out = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return out


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise answer.garbage("its calls are no list")
    return value
