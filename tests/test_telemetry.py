from __future__ import annotations

import fcntl
import io
import json
import logging
import os
from datetime import UTC, datetime

import pytest
import structlog

from fleetgate.domain import Attempt, Entry, Usage
from fleetgate.telemetry import Redactor, configure, console_line, json_line

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC).timestamp()
CANARY = 'hush "hush"\\n/ü'


def entry(**changes) -> Entry:
    values = {
        "request_id": "req-1",
        "at": NOON,
        "principal": "app",
        "route": "/v1/chat/completions",
        "model": "fast",
        "status": 200,
        "outcome": "ok",
        "duration": 1.25,
        "deployment": "box/ollama/qwen3:4b",
        "streamed": True,
        "first_content": 0.21,
        "usage": Usage(12, 345, 4),
        "attempts": (
            Attempt("box/ollama/qwen3:4b", "ok", 0.001, 1.25, step=1, status=200, first_content=0.21),
        ),
        **changes,
    }
    return Entry(**values)


def fail(text):
    raise RuntimeError(text)


@pytest.fixture
def log():
    """Starts logs on a StringIO (or what is given) and ends them after the test."""
    started = []

    def start(stream=None, **changes):
        stream = stream or io.StringIO()
        telemetry = configure(stream, **{"clock": lambda: NOON, "form": "json", "gather": 0, **changes})
        started.append(telemetry)
        return telemetry, stream

    yield start
    for telemetry in reversed(started):
        telemetry.close(0.5)


def lines(telemetry, stream):
    assert telemetry.flush(30)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# Lines


def test_an_exchange_is_one_json_line(log):
    telemetry, stream = log()
    telemetry.record(entry())
    assert lines(telemetry, stream) == [
        {
            "timestamp": "2026-03-04T12:00:01.250Z",
            "level": "info",
            "event": "exchange",
            "request_id": "req-1",
            "principal": "app",
            "route": "/v1/chat/completions",
            "model": "fast",
            "deployment": "box/ollama/qwen3:4b",
            "status": 200,
            "outcome": "ok",
            "streamed": True,
            "duration_ms": 1250.0,
            "first_content_ms": 210.0,
            "input_tokens": 12,
            "output_tokens": 345,
            "cached_tokens": 4,
            "attempts": [
                {
                    "deployment": "box/ollama/qwen3:4b",
                    "outcome": "ok",
                    "began_ms": 1.0,
                    "ended_ms": 1250.0,
                    "first_content_ms": 210.0,
                    "step": 1,
                    "status": 200,
                }
            ],
        }
    ]


def test_what_is_unknown_is_left_out_of_the_json_line():
    bare = json.loads(json_line(entry(deployment=None, first_content=None, usage=Usage(), attempts=())))
    assert not {"deployment", "first_content_ms", "input_tokens", "attempts", "note"} & set(bare)


def local(unix):
    return datetime.fromtimestamp(unix, UTC).astimezone().strftime("%H:%M:%S")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {},
            (
                "200 /v1/chat/completions fast -> box/ollama/qwen3:4b  1.2 s"
                "  first content 210 ms  12 -> 345 tokens"
            ),
        ),
        (
            {"duration": 0.0124, "first_content": None, "usage": Usage(5, None, estimated=True)},
            "200 /v1/chat/completions fast -> box/ollama/qwen3:4b  12 ms  about 5 -> ? tokens",
        ),
        (
            {
                "status": 503,
                "outcome": "nothing_available",
                "deployment": None,
                "first_content": None,
                "usage": Usage(),
                "duration": 130,
                "attempts": (Attempt("a/b/c", "full", 0, 1), Attempt("d/e/f", "full", 1, 2)),
                "note": "every seat was taken",
            },
            "503 /v1/chat/completions fast  130 s  2 attempts  nothing_available  every seat was taken",
        ),
        (
            {"model": "a\n12:00:00 200 forged \x1b[2J", "usage": Usage(), "first_content": None},
            "200 /v1/chat/completions a\\x0a12:00:00 200 forged \\x1b[2J -> box/ollama/qwen3:4b  1.2 s",
        ),
    ],
)
def test_an_exchange_is_one_readable_line(changes, text):
    told = entry(**changes)
    assert console_line(told).decode() == f"{local(told.at + told.duration)} {text}\n"


def test_an_exchange_that_cannot_be_written_is_told_about_and_keeps_nobody_else_out(log):
    telemetry, stream = log()
    telemetry.record(entry(at=float("nan"), request_id="odd"))
    telemetry.record(entry(model="half \ud83d"))
    telemetry.record(entry(request_id="good"))
    first, second, third = lines(telemetry, stream)
    assert "odd" in first["event"]
    assert "could not be written" in second["event"] or second["model"] == "half ?"
    assert third["request_id"] == "good"


def test_a_logger_binds_values_and_dates_its_lines(log):
    telemetry, stream = log()
    logger = telemetry.logger("fleet").bind(node="box")
    logger.info("engine found", kind="ollama", models=("a", "b"), address=b"10.0.0.5", why=ValueError("odd"))
    logger.debug("not shown")
    with structlog.contextvars.bound_contextvars(request_id="req-9"):
        logger.warning("engine lost")
    found, lost = lines(telemetry, stream)
    assert found == {
        "timestamp": "2026-03-04T12:00:00.000Z",
        "level": "info",
        "event": "engine found",
        "logger": "fleet",
        "node": "box",
        "kind": "ollama",
        "models": ["a", "b"],
        "address": "10.0.0.5",
        "why": "odd",
    }
    assert (lost["level"], lost["request_id"]) == ("warning", "req-9")


def test_values_that_are_no_json_are_told_as_text(log):
    telemetry, stream = log()
    inside = []
    inside.append(inside)
    telemetry.logger("fleet").info("odd", speed=float("nan"), inside=inside, half="\ud83d")
    (line,) = lines(telemetry, stream)
    assert (line["event"], line["speed"], line["inside"]) == ("odd", "nan", "[[...]]")


def test_records_of_the_standard_library_take_the_same_way(log):
    telemetry, stream = log()
    try:
        fail("the disk is on fire")
    except RuntimeError:
        logging.getLogger("uvicorn.error").exception("it failed: %s", "badly", extra={"port": 4000})
    logging.getLogger("aiohttp.client").warning("odd %d", "argument")
    failed, odd = lines(telemetry, stream)
    assert failed["event"] == "it failed: badly"
    assert (failed["logger"], failed["level"], failed["port"]) == ("uvicorn.error", "error", 4000)
    assert failed["exception"].endswith("RuntimeError: the disk is on fire")
    assert "odd %d" in odd["event"]


def test_the_standard_library_gets_its_own_way_back():
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    telemetry = configure(io.StringIO(), clock=lambda: NOON, form="json", level="error")
    assert root.handlers != before[1]
    telemetry.close()
    assert (root.level, root.handlers) == before


def test_events_for_people_are_one_line_and_their_traceback(log):
    telemetry, stream = log(form="console")
    telemetry.logger("fleet").info("engine found", kind="ollama", slots=4)
    try:
        fail("no\x1b[2J")
    except RuntimeError:
        telemetry.logger("fleet").exception("it failed")
    telemetry.flush(30)
    first, second, *trace = stream.getvalue().splitlines()
    assert first == f"{local(NOON)} engine found  kind=ollama  slots=4"
    assert second == f"{local(NOON)} error: it failed"
    assert trace[0].startswith("Traceback")
    assert trace[-1] == "RuntimeError: no\\x1b[2J"


def test_the_form_follows_the_terminal(log):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, first in ((Terminal(), f"{local(NOON)} up"), (io.StringIO(), '{"timestamp"')):
        telemetry, _ = log(stream, form=None)
        telemetry.logger("app").info("up")
        telemetry.flush(30)
        assert stream.getvalue().startswith(first)


def test_above_info_only_exchanges_that_failed_here_are_logged(log):
    telemetry, stream = log(level="warning")
    telemetry.record(entry())
    telemetry.record(entry(status=404))
    telemetry.record(entry(status=502, request_id="bad"))
    (line,) = lines(telemetry, stream)
    assert (line["request_id"], line["level"]) == ("bad", "warning")


# Secrets


@pytest.mark.parametrize("form", ["json", "console"])
def test_known_secrets_appear_nowhere(log, form):
    telemetry, stream = log(form=form)
    telemetry.redactor.add(CANARY)
    telemetry.redactor.add("plain-canary-1")
    for canary in (CANARY, "plain-canary-1"):
        logger = telemetry.logger("app").bind(bound=canary)
        message = f"in the message {canary}"
        logger.info(message, nested={"list": [canary, {"deep": canary}]}, raw=canary.encode())
        logging.getLogger("uvicorn").warning("in arguments: %s %r", canary, canary, extra={"more": [canary]})
        try:
            fail(canary)
        except RuntimeError:
            logger.exception("in an exception")
            logging.getLogger("aiohttp").exception("in another")
        telemetry.record(
            entry(note=canary, model=canary, attempts=(Attempt("a/b/c", canary, 0, 1, text=f"<{canary}>"),))
        )
    telemetry.flush(30)
    text = stream.getvalue()
    assert "hush" not in text
    assert "canary-1" not in text
    assert text.count("[redacted]") >= 20
    if form == "json":
        assert len([json.loads(line) for line in text.splitlines()]) == 10


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("key sk-proj-abcdefghijkl.", "key [redacted]."),
        ("Authorization: Bearer abc.def-ghi=", "Authorization: Bearer [redacted]"),
        ("authorization: bearer  abcdefgh123", "authorization: bearer  [redacted]"),
        ("AUTHORIZATION: BEARER abcdefgh123", "AUTHORIZATION: BEARER [redacted]"),
        ("fg_app_a1b2c3d4e5f6_" + "x" * 49, "[redacted]"),
        ("gsk_" + "a" * 30 + " hf_" + "b" * 30, "[redacted] [redacted]"),
        ('{"key":"sk-ant-api03-AbCdEfGh"}', '{"key":"[redacted]"}'),
        # What only looks a little like a key stays readable.
        ("the task-scheduler-thread", "the task-scheduler-thread"),
        ("key fg_app_a1b2c3d4e5f6 was used", "key fg_app_a1b2c3d4e5f6 was used"),
        ("sk-learn", "sk-learn"),
    ],
)
def test_whatever_looks_like_a_key_is_taken_out(text, clean):
    assert Redactor().text(text) == clean


def test_a_secret_inside_another_leaves_no_rest():
    redactor = Redactor(["abcdef", "abcdef-ghijkl"])
    assert redactor.text("x abcdef-ghijkl y abcdef z") == "x [redacted] y [redacted] z"


def test_values_too_short_to_be_secrets_are_left_alone():
    assert Redactor(["4000"]).text("port 4000") == "port 4000"


# A stream that takes nothing


@pytest.fixture
def pipe():
    """A pipe that nobody reads yet: its reading end, and a stream on its writing end."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    stream = os.fdopen(writing, "w")
    yield reading, stream
    os.close(reading)
    stream.close()


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="needs a pipe of a known size")
@pytest.mark.parametrize("blocking", [True, False])
def test_a_blocked_pipe_stalls_nobody_and_the_loss_is_told(log, pipe, blocking):
    reading, stream = pipe
    os.set_blocking(stream.fileno(), blocking)
    telemetry, _ = log(stream, limit=50)
    for number in range(5000):
        telemetry.record(entry(request_id=f"req-{number}"))
        logging.getLogger("uvicorn").info("also")
    dropped = telemetry.dropped
    assert dropped > 5000

    losses = 0
    with os.fdopen(os.dup(reading)) as lines:
        assert json.loads(lines.readline())["request_id"] == "req-0"
        while losses < dropped:
            line = json.loads(lines.readline())
            losses += line["count"] if "were dropped" in line["event"] else 0
    assert losses == dropped == telemetry.dropped


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="needs a pipe of a known size")
def test_closing_leaves_a_blocked_pipe_behind(pipe):
    reading, stream = pipe
    telemetry = configure(stream, clock=lambda: NOON, gather=0)
    for _ in range(100):
        telemetry.record(entry())
    telemetry.close(0.05)
    telemetry.record(entry())
    assert telemetry.dropped == 1
    while b"req-1" not in os.read(reading, 65536):
        pass


def test_a_closed_pipe_is_counted_and_does_no_harm(log):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        telemetry, _ = log(stream)
        telemetry.record(entry())
        assert telemetry.flush(30)
        assert telemetry.dropped == 1
        telemetry.record(entry())
        assert telemetry.flush(30)
        assert telemetry.dropped >= 2
        telemetry.close()
