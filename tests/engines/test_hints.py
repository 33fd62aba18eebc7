"""When to come back: every form seen in the wild, and the absurd ones."""

from __future__ import annotations

import pytest

from fleetgate.engines import hints

NOW = 1_784_000_000.0  # Tue, 14 Jul 2026 03:33:20 GMT


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        pytest.param({}, b"", None, id="nothing said"),
        pytest.param({"retry-after": "7"}, b"", 7.0, id="seconds"),
        pytest.param({"retry-after": "0.5"}, b"", 0.5, id="fraction"),
        pytest.param({"retry-after": " 12 "}, b"", 12.0, id="spaces"),
        pytest.param({"retry-after": "-5"}, b"", 0.0, id="negative"),
        pytest.param({"retry-after": "86400"}, b"", 300.0, id="a day is clamped"),
        pytest.param({"retry-after": "1e9"}, b"", None, id="no number at all"),
        pytest.param({"retry-after": "nan"}, b"", None, id="not a number"),
        pytest.param({"retry-after": "9" * 400}, b"", None, id="endless digits"),
        pytest.param({"retry-after": "soon"}, b"", None, id="a word"),
        pytest.param({"retry-after": "1m30s"}, b"", 90.0, id="a span"),
        pytest.param({"retry-after-ms": "1500", "retry-after": "2"}, b"", 1.5, id="milliseconds are finer"),
        pytest.param({"retry-after": "Tue, 14 Jul 2026 03:33:50 GMT"}, b"", 30.0, id="date"),
        pytest.param({"retry-after": "Tue, 14 Jul 2026 03:30:00 GMT"}, b"", 0.0, id="date in the past"),
        pytest.param({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, b"", 300.0, id="date far away"),
        pytest.param(
            {"retry-after": "Sat, 01 Jan 2000 00:00:20 GMT", "date": "Sat, 01 Jan 2000 00:00:00 GMT"},
            b"", 20.0, id="their clock is theirs",
        ),
        pytest.param({}, b"Rate limit reached. Please try again in 1m12.5s.", 72.5, id="in words"),
        pytest.param({}, b'{"error":{"details":[{"retryDelay": "34s"}]}}', 34.0, id="in Gemini's details"),
        pytest.param({"retry-after": "3"}, b"try again in 9s", 3.0, id="the header is asked first"),
    ],
)  # fmt: skip
def test_retry_after(headers: dict[str, str], body: bytes, expected: float | None) -> None:
    assert hints.retry_after(headers, NOW, body=body) == expected


def test_reset_tells_what_was_really_said() -> None:
    assert hints.reset({"retry-after": "86400"}, NOW) == 86_400
    assert hints.reset({"x-ratelimit-reset-requests": "6m0s"}, also=("x-ratelimit-reset-requests",)) == 360


def test_a_date_without_any_clock_is_unknown() -> None:
    assert hints.reset({"retry-after": "Tue, 14 Jul 2026 03:33:50 GMT"}) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250ms", 0.25), ("7m12.5s", 432.5), ("2h", 7200.0), ("1d", 86_400.0), ("7x", None)],
)
def test_span(text: str, expected: float | None) -> None:
    assert hints.span(text) == expected
