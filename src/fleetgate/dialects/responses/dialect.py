"""The dialect as the port wants it, and its second form: asked in it, answered in chat completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects import openai
from fleetgate.dialects.responses import answer, inchat
from fleetgate.dialects.responses.native import NATIVE
from fleetgate.dialects.responses.request import Memory, read_request
from fleetgate.dialects.responses.stream import Answering

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.openai import ErrorForm
    from fleetgate.dialects.port import Dialect, Native, Translated
    from fleetgate.errors import Refused

_STREAM_TYPE: Final = b"text/event-stream; charset=utf-8"


def looks_like_responses(members: Mapping[str, Any]) -> bool:
    """Whether a body that was sent to chat completions is one of this API."""
    return "input" in members and "messages" not in members


class _Asked:
    """Asked in the Responses API."""

    stream_type: Final = _STREAM_TYPE

    def request(self, body: Mapping[str, Any]) -> Translated:
        return read_request(body)

    def error_form(self, refused: Refused, request_id: str) -> ErrorForm:
        return openai.error_form(refused, request_id)


class Responses(_Asked):
    """Answered in it as well."""

    name: Final = "responses"
    native: Native | None = NATIVE

    def answer(self, body: Mapping[str, Any], memory: Any, request_id: str) -> Mapping[str, Any]:
        return answer.whole(body, _memory(memory), request_id)

    def answering(self, memory: Any, request_id: str) -> Answering:
        return Answering(_memory(memory), request_id)


class ResponsesInChat(_Asked):
    """Answered in chat completions."""

    name: Final = "responses-in-chat"
    native: Native | None = None

    def answer(self, body: Mapping[str, Any], memory: Any, request_id: str) -> Mapping[str, Any]:  # noqa: ARG002  (the port)
        return inchat.whole(body, _memory(memory))

    def answering(self, memory: Any, request_id: str) -> inchat.Answering:
        return inchat.Answering(_memory(memory), request_id)


def _memory(found: Any) -> Memory:
    return found if isinstance(found, Memory) else Memory()


DIALECT: Final = Responses()
IN_CHAT: Final = ResponsesInChat()
BOTH: Final[tuple[Dialect, ...]] = (DIALECT, IN_CHAT)
