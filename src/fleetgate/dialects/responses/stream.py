"""A streamed answer as the events of this API, in their order, numbered from 0.

Text and thoughts are one item at a time. Calls stay open to the end, because the pieces of several may come
in any order. An end without an error is `response.completed` or `response.incomplete`, with the whole
response; an error is `response.failed`, with what had come until then, and nothing follows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate import sse
from fleetgate.dialects.responses import answer, said
from fleetgate.dialects.responses.custom import Unwrapping
from fleetgate.dialects.responses.said import ENDS, Kind
from fleetgate.dialects.responses.tools import Called

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.responses.request import Memory
    from fleetgate.errors import Refused

_encode: Final = msgspec.json.encode
_PARTS: Final = {Kind.TEXT: "output_text", Kind.REFUSAL: "refusal"}


@dataclass(slots=True)
class _Thought:
    number: int
    item_id: str
    text: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Message:
    number: int
    item_id: str
    done: list[dict[str, Any]] = field(default_factory=list)
    """parts that are whole"""
    kind: Kind | None = None
    """the part that is open"""
    text: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _Call:
    call_id: str = ""
    number: int = -1
    """-1: its name is not known yet, so nothing was said of it"""
    item_id: str = ""
    called: Called = field(default_factory=lambda: Called(""))
    arguments: list[str] = field(default_factory=list)
    unwrapping: Unwrapping | None = None

    @property
    def given(self) -> str:
        return self.unwrapping.text if self.unwrapping is not None else "".join(self.arguments)


class Answering:
    """One streamed answer."""

    def __init__(self, memory: Memory, request_id: str, *, begun: bool = False) -> None:
        self._memory = memory
        self._request_id = request_id
        self._ids = answer.Ids(request_id)
        self._sequence = 0
        self._begun = begun
        self._out: list[bytes] = []
        self._output: dict[int, dict[str, Any]] = {}
        """items that are whole, by their number"""
        self._numbers = 0
        self._open: _Thought | _Message | None = None
        self._calls: dict[Any, _Call] = {}
        self._last_call: Any = None
        self._model = ""
        self._tier = ""
        self._reason: Any = None
        self._usage: Any = None

    def begin(self) -> bytes:
        """The events that open the response; once."""
        self._begin()
        return self._taken()

    def alive(self) -> bytes:
        """A sign of life that is an event: clients that count their idle time from event to event see no
        comments."""
        if self._begun:
            self._emit("response.in_progress", response=self._frame("in_progress"))
        self._begin()
        return self._taken()

    def feed(self, frame: bytes) -> bytes:
        """Raises AttemptFailed (garbage) for a piece that cannot be part of an answer."""
        data = sse.data_of(frame)
        if data is None:
            return b""
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            said.garbage()  # what it said would be missing, and nobody would know
        if not isinstance(chunk, dict):
            return b""
        self._begin()
        self._note(chunk)
        for choice in said.choices(chunk):
            self._add(choice)
        return self._taken()

    def end(self) -> bytes:
        """The end of a good answer."""
        cut = isinstance(self._reason, str) and ENDS.get(self._reason) is not None
        self._begin()
        self._close_all(cut=cut)
        output = [self._output[number] for number in sorted(self._output)]
        frame = answer.finished(self._frame("completed"), self._reason, output, self._usage)
        self._emit(f"response.{frame['status']}", response=frame)
        return self._taken()

    def fail(self, refused: Refused) -> bytes:
        """The end of a bad one. What is open stays open: it never looks whole."""
        self._begin()
        frame = self._frame("failed")
        frame["output"] = [self._output[number] for number in sorted(self._output)]
        self._emit("response.failed", response=answer.failed(frame, refused, self._request_id))
        return self._taken()

    # -- pieces ----------------------------------------------------------------------------------------

    def _note(self, chunk: Mapping[str, Any]) -> None:
        """What stands beside the pieces."""
        if isinstance(chunk.get("model"), str):
            self._model = chunk["model"]
        if isinstance(chunk.get("service_tier"), str):
            self._tier = chunk["service_tier"]
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]

    def _add(self, choice: Mapping[str, Any]) -> None:
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            said.garbage()
        for kind, text in said.pieces(delta):
            if not text:
                continue
            if kind is Kind.THOUGHT:
                self._think(text)
            else:
                self._say(kind, text, said.logprobs(choice) if kind is Kind.TEXT else [])
        for piece in said.calls(delta):
            self._call(piece)
        if choice.get("finish_reason"):
            self._reason = choice["finish_reason"]

    def _think(self, text: str) -> None:
        thought = self._open
        if not isinstance(thought, _Thought):
            thought = self._begin_thought()
        thought.text.append(text)
        if self._memory.summary:
            self._at(thought, "response.reasoning_summary_text.delta", summary_index=0, delta=text)
        else:
            self._at(thought, "response.reasoning_text.delta", content_index=0, delta=text)

    def _begin_thought(self) -> _Thought:
        self._close_open("completed")
        number = self._next()
        thought = self._open = _Thought(number, self._ids.item("rs", number))
        summary = self._memory.summary
        self._added(number, answer.thought_item(thought.item_id, None, "in_progress", summary=summary))
        part = answer.thought_part("", summary=summary)
        if summary:
            self._at(thought, "response.reasoning_summary_part.added", summary_index=0, part=part)
        else:
            self._at(thought, "response.content_part.added", content_index=0, part=part)
        return thought

    def _say(self, kind: Kind, text: str, logprobs: list[dict[str, Any]]) -> None:
        message = self._open
        if not isinstance(message, _Message):
            self._close_open("completed")
            number = self._next()
            message = self._open = _Message(number, self._ids.item("msg", number))
            self._added(number, answer.message_item(message.item_id, [], "in_progress"))
        if message.kind is not kind:
            self._close_part(message)
            message.kind = kind
            part = answer.text_part("", []) if kind is Kind.TEXT else answer.refusal_part("")
            self._at(message, "response.content_part.added", content_index=len(message.done), part=part)
        message.text.append(text)
        message.logprobs += logprobs
        beside = {"logprobs": logprobs} if kind is Kind.TEXT else {}
        event = f"response.{_PARTS[kind]}.delta"
        self._at(message, event, content_index=len(message.done), delta=text, **beside)

    def _call(self, piece: Mapping[str, Any]) -> None:
        call = self._call_of(piece)
        name, arguments = said.function_of(piece)
        call.call_id = call.call_id or (piece["id"] if isinstance(piece.get("id"), str) else "")
        if call.number < 0:
            call.arguments.append(arguments)
            if not name:
                return
            arguments = self._begin_call(call, name)
        elif call.unwrapping is None:
            call.arguments.append(arguments)
        self._give(call, arguments)

    def _call_of(self, piece: Mapping[str, Any]) -> _Call:
        """The call that a piece belongs to. Some engines leave the index out, or give all calls the same:
        then a new id begins the next one."""
        index, new_id = piece.get("index"), piece.get("id")
        new_id = new_id if isinstance(new_id, str) else None
        key = index if isinstance(index, int) else self._last_call
        call = self._calls.get(key)
        if call is not None and new_id and call.call_id and new_id != call.call_id:
            key = next((one for one, other in self._calls.items() if other.call_id == new_id), new_id)
            call = self._calls.get(key)
        elif call is not None and not isinstance(index, int) and new_id and not call.call_id:
            key, call = new_id, None
        if call is None:
            key = 0 if key is None else key
            call = self._calls[key] = _Call()
        self._last_call = key
        return call

    def _begin_call(self, call: _Call, name: str) -> str:
        """Say that the call is there; gives the arguments that came before its name."""
        self._close_open("completed")
        call.called = self._memory.names.get(name) or Called(name)
        call.number = self._next()
        call.item_id = self._ids.item(answer.prefix_of(call.called), call.number)
        call.call_id = call.call_id or self._ids.item("call", call.number)
        self._added(call.number, answer.call_item(call.item_id, call.call_id, call.called, "", "in_progress"))
        if call.called.custom:
            call.unwrapping = Unwrapping()
        return "".join(call.arguments)

    def _give(self, call: _Call, arguments: str) -> None:
        if call.unwrapping is not None:
            arguments = call.unwrapping.feed(arguments)
        if arguments:
            custom = call.unwrapping is not None
            what = "custom_tool_call_input" if custom else "function_call_arguments"
            self._at(call, f"response.{what}.delta", delta=arguments)

    # -- ends ------------------------------------------------------------------------------------------

    def _close_all(self, *, cut: bool) -> None:
        """`cut`: the answer ended early, and the item that began last is not whole."""
        for call in self._calls.values():
            if call.number < 0 and call.call_id + "".join(call.arguments):  # a call without a name
                self._give(call, self._begin_call(call, ""))
        last = self._numbers - 1
        if self._open is not None:
            self._close_open("incomplete" if cut and self._open.number == last else "completed")
        for call in sorted(self._calls.values(), key=lambda one: one.number):
            if call.number >= 0:
                self._close_call(call, "incomplete" if cut and call.number == last else "completed")

    def _close_open(self, status: str) -> None:
        item = self._open
        self._open = None
        if isinstance(item, _Thought):
            self._close_thought(item, status)
        elif item is not None:
            self._close_part(item)
            self._done(item.number, answer.message_item(item.item_id, item.done, status))

    def _close_thought(self, thought: _Thought, status: str) -> None:
        text, summary = "".join(thought.text), self._memory.summary
        part = answer.thought_part(text, summary=summary)
        if summary:
            self._at(thought, "response.reasoning_summary_text.done", summary_index=0, text=text)
            self._at(thought, "response.reasoning_summary_part.done", summary_index=0, part=part)
        else:
            self._at(thought, "response.reasoning_text.done", content_index=0, text=text)
            self._at(thought, "response.content_part.done", content_index=0, part=part)
        self._done(thought.number, answer.thought_item(thought.item_id, text, status, summary=summary))

    def _close_part(self, message: _Message) -> None:
        if message.kind is None:
            return
        at, text = len(message.done), "".join(message.text)
        if message.kind is Kind.TEXT:
            part = answer.text_part(text, message.logprobs)
            event = "response.output_text.done"
            self._at(message, event, content_index=at, text=text, logprobs=message.logprobs)
        else:
            part = answer.refusal_part(text)
            self._at(message, "response.refusal.done", content_index=at, refusal=text)
        self._at(message, "response.content_part.done", content_index=at, part=part)
        message.done.append(part)
        message.kind, message.text, message.logprobs = None, [], []

    def _close_call(self, call: _Call, status: str) -> None:
        if call.unwrapping is not None:
            rest = call.unwrapping.end()
            if rest:
                self._at(call, "response.custom_tool_call_input.delta", delta=rest)
            self._at(call, "response.custom_tool_call_input.done", input=call.given)
        else:
            if status == "completed" and not call.given.strip():
                call.arguments = [answer.NO_ARGUMENTS]
                self._give(call, answer.NO_ARGUMENTS)
            event = "response.function_call_arguments.done"
            self._at(call, event, name=call.called.name, arguments=call.given)
        item = answer.call_item(call.item_id, call.call_id, call.called, call.given, status)
        self._done(call.number, item)

    # -- events ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for event in ("response.created", "response.in_progress"):
                self._emit(event, response=self._frame("in_progress"))

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers - 1

    def _added(self, number: int, item: dict[str, Any]) -> None:
        self._emit("response.output_item.added", output_index=number, item=item)

    def _done(self, number: int, item: dict[str, Any]) -> None:
        self._output[number] = item
        self._emit("response.output_item.done", output_index=number, item=item)

    def _at(self, item: _Thought | _Message | _Call, event: str, **members: Any) -> None:
        self._emit(event, item_id=item.item_id, output_index=item.number, **members)

    def _emit(self, event: str, **members: Any) -> None:
        data = _encode({"type": event, "sequence_number": self._sequence, **members})
        self._out.append(sse.frame(data, event))
        self._sequence += 1

    def _taken(self) -> bytes:
        out, self._out = self._out, []
        return b"".join(out)

    def _frame(self, status: str) -> dict[str, Any]:
        frame = answer.frame_of(self._memory, self._ids, self._model, status)
        if self._tier:
            frame["service_tier"] = self._tier
        return frame
