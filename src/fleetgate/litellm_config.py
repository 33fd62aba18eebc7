"""Placeholder until the reader arrives."""

from __future__ import annotations

from typing import Any


def convert(document: Any, environ: Any) -> Any:
    return document
