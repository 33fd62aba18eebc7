from __future__ import annotations

import itertools

import pytest

from fleetgate.domain import Attempt, Entry, Usage


@pytest.fixture
def clock():
    """Unix time that moves on by a second per reading."""
    seconds = itertools.count(1_790_000_000)
    return lambda: float(next(seconds))


@pytest.fixture
def entry():
    def make(number: int = 0, **changes) -> Entry:
        values = {
            "request_id": f"req-{number:06}",
            "at": 1_790_000_000.0 + number,
            "principal": "app",
            "route": "/v1/chat/completions",
            "model": "fast",
            "status": 200,
            "outcome": "ok",
            "duration": 1.25,
            "deployment": "box/ollama/qwen3:4b",
            "usage": Usage(12, 34, None),
            "attempts": (Attempt("box/ollama/qwen3:4b", "ok", 0.001, 1.2, status=200, first_content=0.2),),
            **changes,
        }
        return Entry(**values)

    return make
