"""OpenAI's Responses API, without its store: every request stands alone."""

from __future__ import annotations

from fleetgate.dialects.fates import Fate, Row
from fleetgate.dialects.responses.dialect import DIALECT, IN_CHAT, looks_like_responses
from fleetgate.dialects.responses.table import TABLE

__all__ = ["DIALECT", "IN_CHAT", "TABLE", "Fate", "Row", "looks_like_responses"]
