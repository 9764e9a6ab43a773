"""Logging: what is written, what is kept, and how repeats are counted."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from bgpd.config.schema import LogConfig
from bgpd.log import EventRing, LibraryLogs, set_up_logging


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    yield
    structlog.reset_defaults()


def test_json_line_has_event_level_time_and_fields() -> None:
    out = io.StringIO()
    set_up_logging(LogConfig(), stream=out)
    structlog.get_logger().info("session.established", neighbor="leaf1", router_id=b"\x0a\0\0\1", hold_time_s=9)
    line = json.loads(out.getvalue())
    assert line.pop("timestamp") > 1e9
    assert line == {
        "event": "session.established",
        "level": "info",
        "neighbor": "leaf1",
        "router_id": "0a000001",
        "hold_time_s": 9,
    }


def test_level_holds_back_what_is_written_and_events_are_kept_all_the_same_but_debug() -> None:
    out, ring = io.StringIO(), EventRing()
    set_up_logging(LogConfig(level="debug"), ring, stream=out)
    structlog.get_logger().debug("detail")
    set_up_logging(LogConfig(level="warning"), ring, stream=out)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["detail", "loud"]
    assert [event.event for event in ring.since()] == ["quiet", "loud"]


def test_journal_lines_begin_with_their_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    out = io.StringIO()
    set_up_logging(LogConfig(), stream=out)
    structlog.get_logger().error("fib.failed")
    assert out.getvalue().startswith('<3>{"')


def test_console_lines_and_tracebacks_are_readable() -> None:
    out = io.StringIO()
    set_up_logging(LogConfig(format="console"), stream=out)
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        structlog.get_logger().exception("task.failed", task="fib")
    assert "task.failed" in out.getvalue()
    assert "RuntimeError: boom" in out.getvalue()


def test_what_libraries_say_is_a_record_too() -> None:
    out, ring = io.StringIO(), EventRing()
    set_up_logging(LogConfig(), ring, stream=out)
    set_up_logging(LogConfig(), ring, stream=out)
    library = logging.getLogger("aiohttp.server")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        library.exception("handling %s", "a request")
    library.info("nothing to worry about")
    (line,) = map(json.loads, out.getvalue().splitlines())
    assert (line["event"], line["level"], line["library"]) == ("library.message", "error", "aiohttp.server")
    assert line["message"] == "handling a request"
    assert "RuntimeError: boom" in line["exception"]
    assert [event.event for event in ring.since()] == ["library.message"]


def test_library_that_says_the_same_without_end_fills_no_log() -> None:
    out = io.StringIO()
    set_up_logging(LogConfig(), stream=out)
    handler = LibraryLogs(logging.WARNING)

    def say(at: float, message: str, *values: object) -> None:
        record = logging.LogRecord("mqtt", logging.ERROR, "", 0, message, values, None)
        record.created = at
        handler.emit(record)

    for number in range(20_000):
        say(number * 0.0005, "unexpected id %d", number)
    say(11.0, "another kind")
    say(61.0, "unexpected id %d", 7)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["message"] for line in lines] == [
        *(f"unexpected id {n}" for n in range(5)),
        "another kind",
        "unexpected id 7",
    ]
    assert lines[-1]["not_written"] == 20_000 - 5
    for number in range(2_000):
        say(100.0, f"kind {number}")
    assert len(handler._said) <= 501


def test_ring_keeps_the_latest_and_numbers_on() -> None:
    ring = EventRing(size=2)
    calls: list[int] = []
    end = ring.subscribe(lambda: calls.append(ring.latest))
    for number in range(3):
        ring(None, "info", {"event": f"e{number}", "timestamp": 1.0, "n": number})
    end()
    ring(None, "info", {"event": "e3"})
    assert [(event.sequence, event.event) for event in ring.since()] == [(3, "e2"), (4, "e3")]
    assert [event.sequence for event in ring.since(3)] == [4]
    assert calls == [1, 2, 3]
