"""A provider that speaks Anthropic's dialect alone, simulated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fleetgate.demo.kinds.provider import Provider
from fleetgate.demo.wire import Reply, reply_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.demo.engine import Spec


class Messages(Provider):
    """Anthropic's own API."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.work = {(method, path): one for (method, path), one in self.work.items() if "messages" in path}

    def key_of(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-api-key") or super().key_of(headers)

    def error(self, status: int, message: str, kind: str = "", code: str | None = None) -> Reply:
        found = super().error(status, message, kind, code)
        assert isinstance(found.body, bytes)
        return reply_json({"type": "error", **json.loads(found.body)}, status)
