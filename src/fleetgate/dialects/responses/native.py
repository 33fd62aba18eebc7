"""Responses as they pass to upstreams that speak them: hosted tools and encrypted thoughts stay. Pure.

The gateway keeps no conversations, so a provider is not asked to keep any either unless the caller says so:
`store` is false where it is not written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fleetgate import sse
from fleetgate.dialects.events import (
    UNSIGNED,
    EventReader,
    OfEvents,
    data_of,
    failure_of,
    name_of,
    object_of,
)
from fleetgate.dialects.port import Altered
from fleetgate.dialects.responses.answer import Ids
from fleetgate.dialects.responses.request import Memory
from fleetgate.dialects.responses.stream import Answering
from fleetgate.dialects.responses.table import NOT_STORED
from fleetgate.dialects.usage import read_usage
from fleetgate.errors import AttemptFailed, FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.openai import Look
    from fleetgate.dialects.port import Facts
    from fleetgate.domain import Timings, Usage
    from fleetgate.errors import Refused

_NOWHERE: Final = frozenset({*NOT_STORED, "background", "generate", "moderation"})
"""what stands on something kept, or on an answer that nobody waits for: refused wherever it would go"""
_REFERENCE: Final = "item_reference"
_UNSIGNED: Final = "input[].reasoning"
_SAID: Final = frozenset(
    {b"response.output_text.delta", b"response.refusal.delta", b"response.function_call_arguments.delta"}
    | {b"response.custom_tool_call_input.delta"}
)
_OPENINGS: Final = frozenset({b"response.created", b"response.queued", b"response.in_progress"})
_ENDS: Final = frozenset({b"response.completed", b"response.incomplete"})
_RUN_THERE: Final = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call"}
)
"""items of tools that the provider runs, and bills apart"""
_QUIET_ITEMS: Final = frozenset({"message", "reasoning"})
_SYSTEMS: Final = frozenset({"system", "developer"})
_PLAIN_ITEMS: Final = frozenset({"message", "reasoning", "function_call", "function_call_output"})
_LENGTHS: Final = frozenset({"max_output_tokens", "max_tokens"})
_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_item: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.encode


class Responses(OfEvents):
    """`/v1/responses` at an upstream that knows it."""

    name: Final = "responses"
    length = "max_output_tokens"

    def reopened(self, frame: bytes, request_id: str) -> bytes:
        """A response is opened once, and has one id from its first event to its last: clients insist."""
        name = name_of(frame)
        if name in _OPENINGS:
            return b""
        if name not in _ENDS:
            return frame
        return _renamed(frame, Ids(request_id).response)

    def fail(self, refused: Refused, request_id: str, answer_id: str) -> bytes:
        frame = Answering(Memory(), request_id, begun=True).fail(refused)
        return _renamed(frame, answer_id) if answer_id else frame

    def passes(self, refused: Refused) -> bool:
        """Hosted tools and files are known to the upstream; what would have to be stored here is not."""
        where = refused.param or ""
        return refused.code == "unsupported" and where not in _NOWHERE and _REFERENCE not in refused.message

    def is_plain(self, body: Mapping[str, Any]) -> bool:
        """Codex offers namespaces, custom and hosted tools: llama.cpp leaves them out, Ollama and vLLM give
        their calls back under names that Codex does not know."""
        tools, items = body.get("tools") or [], body.get("input")
        if not isinstance(tools, list) or any(object_of(one).get("type") != "function" for one in tools):
            return False
        if not isinstance(items, list):
            return True
        systems = [at for at, one in enumerate(items) if object_of(one).get("role") in _SYSTEMS]
        beginning = [] if body.get("instructions") is not None else [0]
        return systems in ([], beginning) and all(_is_plain(object_of(one)) for one in items)

    def prepare(self, members: dict[str, msgspec.Raw], facts: Facts) -> list[Altered]:
        if not facts.signed:
            return []
        members.setdefault("store", msgspec.Raw(b"false"))
        raw = members.get("input")
        if raw is None or b'"reasoning"' not in bytes(raw):
            return []
        try:
            items = _list.decode(raw)
        except msgspec.DecodeError:
            return []  # a text, or something that the upstream judges
        kept = [one for one in items if not _is_unsigned(one)]
        if len(kept) == len(items):
            return []
        members["input"] = msgspec.Raw(_encode(kept))
        return [Altered(_UNSIGNED, UNSIGNED)]

    def reader(self) -> Reader:
        return Reader()

    def gathering(self) -> Gathering:
        return Gathering()

    def read_whole(self, body: bytes) -> tuple[Usage, Timings | None, bool]:
        try:
            response = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise AttemptFailed(FailureClass.GARBAGE, f"the answer is not JSON: {error}") from None
        response = object_of(response)
        if response.get("error"):
            raise failure_of(response["error"])
        if not isinstance(response.get("output"), list):
            raise AttemptFailed(FailureClass.GARBAGE, "the answer is no response")
        reason = _reason(response)
        if reason is None:
            raise AttemptFailed(FailureClass.SERVER_ERROR, f"the response is {response.get('status')}")
        said = any(object_of(one).get("type") != "reasoning" for one in response["output"])
        return _usage(response), None, reason == "length" and not said


NATIVE: Final = Responses()


def _usage(response: dict[str, Any]) -> Usage:
    """With whether the provider ran tools of its own: they stand among what it gave."""
    usage = read_usage(response.get("usage"))
    output = response.get("output")
    ran = isinstance(output, list) and any(object_of(one).get("type") in _RUN_THERE for one in output)
    return replace(usage, fees=True) if ran else usage


def _renamed(frame: bytes, answer_id: str) -> bytes:
    event = data_of(frame)
    event["response"] = object_of(event.get("response")) | {"id": answer_id}
    return sse.frame(_encode(event), name_of(frame).decode())


def _is_plain(item: dict[str, Any]) -> bool:
    known = item.get("type", "message") in _PLAIN_ITEMS and item.get("namespace") is None
    return known and isinstance(item.get("output", ""), str)


def _is_unsigned(raw: msgspec.Raw) -> bool:
    """A thought that another model had: nobody but its own maker knows it by its id."""
    if b'"reasoning"' not in bytes(raw):
        return False
    try:
        item = _item.decode(raw)
    except msgspec.DecodeError:
        return False
    return item.get("type") == "reasoning" and not item.get("encrypted_content")


def _reason(response: dict[str, Any]) -> str | None:
    """Why it ended, in the words of the form between; None: it did not end well."""
    status = response.get("status", "completed")
    if status == "incomplete":
        why = object_of(response.get("incomplete_details")).get("reason")
        return "length" if why in _LENGTHS else "content_filter"
    return "stop" if status == "completed" else None


class Reader(EventReader):
    """The events of one response. The event that ends it holds all of it."""

    def _look(self, name: bytes, frame: bytes) -> Look:
        if name.endswith(b".delta"):
            self.frames += 1
            if self.committed and not self._mute:
                return self._content(said=True)
            if not data_of(frame).get("delta"):
                return self._quiet()
            return self._content(said=name in _SAID)
        match name:
            case b"response.output_item.added":
                kind = object_of(data_of(frame).get("item")).get("type")
                return self._quiet() if kind in _QUIET_ITEMS else self._content(said=True)
            case b"response.created":
                self.answer_id = str(object_of(data_of(frame).get("response")).get("id") or "")
            case b"response.completed" | b"response.incomplete":
                return self._close(frame)
            case b"response.failed":
                raise self._fail(object_of(data_of(frame).get("response")).get("error"))
            case b"error":
                event = data_of(frame)
                raise self._fail(event.get("error") or event)
        return self._quiet()

    def _close(self, frame: bytes) -> Look:
        response = object_of(data_of(frame).get("response"))
        self._usage = _usage(response)
        self.reasons.add(_reason(response) or "stop")
        return self._end(frame)


class Gathering:
    """A response out of its events: the last one has it."""

    def __init__(self) -> None:
        self._response: dict[str, Any] = {}

    def add(self, frame: bytes) -> None:
        found = object_of(data_of(frame).get("response"))
        self._response = found or self._response

    def body(self) -> bytes:
        return _encode(self._response)
