"""`kill -9` under load, three times: the short form of `python -m chaos kill`."""

from __future__ import annotations

from chaos import kill

OF_TIME = ("late starts", "inexact", "lost rows")
"""Promises with seconds in them are for the long form: this machine may be busy."""


def test_no_paid_attempt_is_missing_or_charged_twice_after_a_kill(tmp_path):
    outcome = kill.run(tmp_path, times=3, seed=1, longest=0.6)
    figures = outcome.verdict.figures
    assert [text for text in outcome.verdict.broken if not text.startswith(OF_TIME)] == []
    assert outcome.times == 3
    assert figures["attempts"] > 0
    assert figures["ended by the next start"] > 0
