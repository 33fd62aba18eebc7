"""What one route asks of an exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetgate.dialects.port import Dialect
    from fleetgate.domain import Capability


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route asks for, and how its callers speak."""

    capability: Capability
    row: str
    """the route's template, for the record"""
    dialect: Dialect | None = None
    """None: OpenAI's, which passes"""
    form: str | None = None
    """the `Content-Type` of a form with files; None: the body is JSON"""
    cut: Callable[[], None] | None = None
    """ends the connection without a proper end"""
