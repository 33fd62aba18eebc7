"""What simulated engines make of forms with files, and what they answer."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from fleetgate.demo.wire import event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fleetgate.demo.wire import Request

LENGTH: Final = MappingProxyType({"type": "duration", "seconds": 1})
"""usage of what was heard"""
SUBTITLES: Final = MappingProxyType(
    {
        "text": "{}\n",
        "srt": "1\n00:00:00,000 --> 00:00:01,000\n{}\n",
        "vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{}\n",
    }
)
"""by `response_format`"""
_FIELD: Final = re.compile(rb'; name="([\w\[\]]+)"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL)
_HARM: Final = ("hate", "harassment", "self-harm", "sexual", "violence")


def form_of(request: Request) -> dict[str, Any]:
    """The fields of a form; files are not looked at."""
    return {name.decode(): value.decode("utf-8", "replace") for name, value in _FIELD.findall(request.body)}


async def heard_in_pieces(text: str) -> AsyncGenerator[bytes, None]:
    """The events of a transcription."""
    for place, word in enumerate(text.split(" ")):
        yield event({"type": "transcript.text.delta", "delta": f" {word}" if place else word})
    yield event({"type": "transcript.text.done", "text": text, "usage": dict(LENGTH)})


def moderated(text: str) -> dict[str, Any]:
    """What is harmful in a text: whatever calls itself so."""
    found = {name: name in text.lower() for name in _HARM}
    scores = {name: 0.99 if there else 0.001 for name, there in found.items()}
    return {"flagged": any(found.values()), "categories": found, "category_scores": scores}
