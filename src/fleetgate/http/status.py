"""What the gateway knows about itself: configuration, database, start. Filled by `app`."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  (a field of a dataclass)
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Status:
    """Live facts for health pages and the admin API."""

    version: str
    started: float
    fingerprint: str = ""
    """of the configuration in effect"""
    sources: tuple[str, ...] = ()
    rejected: str | None = None
    """why the file on disk is not in effect"""
    rejected_findings: list[dict[str, Any]] = field(default_factory=list)
    held: bool = False
    """it waits for a confirmation"""
    origins: Callable[[], list[dict[str, Any]]] = list
    store_healthy: Callable[[], bool] = bool
    reload: Callable[[], Any] | None = None
    """read the file again and apply it, confirmed: a coroutine function that returns what happened"""

    def rejected_briefly(self) -> str | None:
        """Without a key: that it was rejected and how often, not what it says."""
        if self.rejected is None:
            return None
        if self.held:
            return "waits for `fleetgate reload`"
        count = len(self.rejected_findings)
        found = "1 finding" if count == 1 else f"{count} findings" if count else "it needs a restart"
        return f"{found}; see `fleetgate config show`"
