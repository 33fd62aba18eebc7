"""Anthropic's Messages, inbound: the port's implementation. Pure; the parts have the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.anthropic import answer, errors, request
from fleetgate.dialects.anthropic.native import NATIVE
from fleetgate.dialects.anthropic.stream import Events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.dialects.openai import ErrorForm
    from fleetgate.dialects.port import Native, Translated
    from fleetgate.errors import Refused


class Messages:
    """`/v1/messages`."""

    name = "anthropic"
    stream_type = b"text/event-stream; charset=utf-8"
    native: Native = NATIVE

    def request(self, body: Mapping[str, Any]) -> Translated:
        return request.translate(body)

    def answer(self, body: Mapping[str, Any], memory: Any, request_id: str) -> Mapping[str, Any]:
        return answer.message(body, memory, request_id)

    def answering(self, memory: Any, request_id: str) -> Events:
        return Events(memory, request_id)

    def error_form(self, refused: Refused, request_id: str) -> ErrorForm:
        return errors.error_form(refused, request_id)


DIALECT: Final = Messages()
"""the one there is: it keeps nothing"""
