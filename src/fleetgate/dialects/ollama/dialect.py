"""The port of dialects, once per operation of Ollama's.

The wall clock is handed in: every object of an answer is dated, and the last one tells how long it took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fleetgate.dialects.ollama import answer, embedding, errors
from fleetgate.dialects.ollama.asked import Asked, Operation
from fleetgate.dialects.ollama.names import untagged
from fleetgate.dialects.ollama.native import AsWritten
from fleetgate.dialects.ollama.request import Reader
from fleetgate.dialects.ollama.stream import Lines
from fleetgate.domain import Capability

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetgate.dialects.openai import ErrorForm
    from fleetgate.dialects.port import Answering, Native, Translated
    from fleetgate.errors import Refused

NAME: Final = "ollama"
LINES: Final = b"application/x-ndjson"


class Ollama:
    """One operation. `name_of` turns a name as Ollama prints it into ours, which takes `:latest` off."""

    name = NAME
    stream_type = LINES

    def __init__(
        self, operation: Operation, wall: Callable[[], float], name_of: Callable[[str], str] = untagged
    ) -> None:
        self.operation = operation
        self._wall = wall
        embeds = operation in (Operation.EMBED, Operation.EMBEDDINGS)
        self.native: Native | None = None if embeds else AsWritten(operation, wall, name_of)
        reader = Reader(wall, name_of)
        self._read: Callable[[Mapping[str, Any]], Translated] = {
            Operation.CHAT: reader.chat,
            Operation.GENERATE: reader.generate,
            Operation.EMBED: reader.embed,
            Operation.EMBEDDINGS: reader.embeddings,
        }[operation]

    def request(self, body: Mapping[str, Any]) -> Translated:
        """Its memory is an `Asked`, which says what it became (`capability`), and whether it is only about
        loading (`memory`). Raises Refused."""
        return self._read(body)

    def answer(self, body: Mapping[str, Any], memory: Asked, request_id: str) -> Mapping[str, Any]:
        """Raises AttemptFailed (garbage) where it cannot be said in this form."""
        if memory.capability is Capability.EMBED:
            return embedding.vectors(memory, body, self._wall())
        return answer.whole(memory, body, request_id, self._wall())

    def answering(self, memory: Asked, request_id: str) -> Answering:
        return Lines(memory, request_id, self._wall)

    def error_form(self, refused: Refused, request_id: str) -> ErrorForm:
        return errors.error_form(refused, request_id)


PATHS: Final = {
    "/api/chat": Operation.CHAT,
    "/api/generate": Operation.GENERATE,
    "/api/embed": Operation.EMBED,
    "/api/embeddings": Operation.EMBEDDINGS,
}
"""where each operation is asked for"""


def dialects(wall: Callable[[], float], name_of: Callable[[str], str] = untagged) -> dict[str, Ollama]:
    """One implementation of the port per path."""
    return {path: Ollama(operation, wall, name_of) for path, operation in PATHS.items()}
