"""What an answer needs of its request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetgate.domain import Capability


class Operation(StrEnum):
    """Which of the ways to ask it was."""

    CHAT = "chat"
    GENERATE = "generate"
    EMBED = "embed"
    EMBEDDINGS = "embeddings"
    """the older one: one text, one vector"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as far as its answer has to know it."""

    operation: Operation
    capability: Capability
    """what it became: a chat, a completion or embeddings"""
    model: str
    """as the caller wrote it"""
    began: float
    """when it was read, unix seconds"""
    only_loads: bool = False
    """it has no prompt: it is about the model in memory, and nothing is to be answered by it"""
