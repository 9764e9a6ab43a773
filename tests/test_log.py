"""Logging: what is written, what is kept, and how repeats are counted."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bgpd import log as logging_of_bgpd
from bgpd.config.schema import LogConfig
from bgpd.log import EventRing, LibraryLogs, set_up_logging
from bgpd.runtime.events import Event, log
from tests.logs import log_plainly


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    yield
    log_plainly()


def test_json_line_has_event_level_time_and_fields() -> None:
    out = io.StringIO()
    set_up_logging(LogConfig(), stream=out)
    log.info("session.established", neighbor="leaf1", router_id=b"\x0a\0\0\1", hold_time_s=9)
    line = json.loads(out.getvalue())
    assert line.pop("timestamp") > 1e9
    assert line == {
        "event": "session.established",
        "level": "info",
        "neighbor": "leaf1",
        "router_id": "0a000001",
        "hold_time_s": 9,
    }


def test_any_value_can_be_a_field() -> None:
    out, ring = io.StringIO(), EventRing()
    set_up_logging(LogConfig(), ring, stream=out)
    log.info("odd", path=Path("/x"), members={1}, error=ValueError("no"), inner=[b"\x01", Path("/y")], name="\udcff")
    line = json.loads(out.getvalue())
    assert (line["path"], line["members"], line["error"], line["inner"]) == ("/x", "{1}", "no", ["01", "/y"])
    assert ring.since()[0].fields["members"] == "{1}"


def test_level_holds_back_what_is_written_and_events_are_kept_all_the_same_but_debug() -> None:
    out, ring = io.StringIO(), EventRing()
    set_up_logging(LogConfig(level="debug"), ring, stream=out)
    log.debug("detail")
    set_up_logging(LogConfig(level="warning"), ring, stream=out)
    log.info("quiet")
    log.warning("loud")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["detail", "loud"]
    assert [event.event for event in ring.since()] == ["quiet", "loud"]


def test_journal_lines_begin_with_their_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    out = io.StringIO()
    set_up_logging(LogConfig(), stream=out)
    log.error("fib.failed")
    assert out.getvalue().startswith('<3>{"')


class PlayedJournald:
    """A socket that plays journald, and the standard error that systemd would connect with it."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream = (directory / "stderr").open("w+")
        found = os.fstat(self.stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        path = str(directory / "socket")
        monkeypatch.setattr(logging_of_bgpd, "JOURNALD_SOCKET", path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)

    def record(self) -> dict[str, str]:
        """The next one, taken apart as journald does."""
        data, found = self.socket.recv(1 << 20), {}
        while data:
            line, _, data = data.partition(b"\n")
            name, is_short, value = line.partition(b"=")
            if not is_short:
                (length,) = struct.unpack("<Q", data[:8])
                value, data = data[8 : 8 + length], data[8 + length + 1 :]
            found[name.decode()] = value.decode()
        return found


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedJournald]:
    played = PlayedJournald(tmp_path, monkeypatch)
    with played.stream, played.socket:
        yield played


def test_journald_gets_records_with_fields(journald: PlayedJournald) -> None:
    set_up_logging(LogConfig(), stream=journald.stream)
    log.warning("session.closed", neighbor="leaf1", **{"last-error": "a\nb"}, router_id=b"\x0a\0\0\1")
    record = journald.record()
    assert json.loads(record.pop("MESSAGE"))["event"] == "session.closed"
    assert record == {
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "bgpd",
        "BGPD_EVENT": "session.closed",
        "BGPD_NEIGHBOR": "leaf1",
        "BGPD_LAST_ERROR": "a\nb",
        "BGPD_ROUTER_ID": "0a000001",
    }
    set_up_logging(LogConfig(format="console"), stream=journald.stream)
    log.error("fib.failed")
    record = journald.record()
    assert (record["PRIORITY"], record["BGPD_EVENT"]) == ("3", "fib.failed")
    assert "fib.failed" in record["MESSAGE"]
    try:
        raise RuntimeError("a bug")
    except RuntimeError:
        log.exception("bgpd.defect")
    assert "RuntimeError: a bug" in journald.record()["MESSAGE"]


def test_journald_that_hangs_is_not_waited_for(journald: PlayedJournald) -> None:
    set_up_logging(LogConfig(), stream=journald.stream)
    for number in range(5_000):
        log.info("x", number=number)
    received = 0
    journald.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while journald.record():
            received += 1
    log.info("y")
    assert int(journald.record()["BGPD_NOT_WRITTEN"]) == 5_000 - received
    log.info("z")
    assert "BGPD_NOT_WRITTEN" not in journald.record()


def test_what_journald_cannot_be_sent_goes_to_standard_error(journald: PlayedJournald) -> None:
    set_up_logging(LogConfig(), stream=journald.stream)
    log.info("long", text="x" * 1_000_000)
    journald.socket.close()
    log.error("gone")
    journald.stream.seek(0)
    first, second = journald.stream.read().splitlines()
    assert first.startswith('<6>{"text"')
    assert second.startswith("<3>{")


def test_another_stream_than_systemds_is_written_to(journald: PlayedJournald) -> None:
    out = io.StringIO()
    set_up_logging(LogConfig(), stream=out)
    log.error("fib.failed")
    assert out.getvalue().startswith("<3>{")


def test_console_lines_and_tracebacks_are_readable() -> None:
    out = io.StringIO()
    set_up_logging(LogConfig(format="console"), stream=out)
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log.exception("task.failed", task="fib")
    assert "task.failed" in out.getvalue()
    assert "RuntimeError: boom" in out.getvalue()


def test_what_libraries_say_is_a_record_too() -> None:
    out, ring = io.StringIO(), EventRing()
    set_up_logging(LogConfig(), ring, stream=out)
    set_up_logging(LogConfig(), ring, stream=out)
    library = logging.getLogger("paho.mqtt")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        library.exception("handling %s", "a request")
    library.info("nothing to worry about")
    (line,) = map(json.loads, out.getvalue().splitlines())
    assert (line["event"], line["level"], line["library"]) == ("library.message", "error", "paho.mqtt")
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
        ring.keep(Event("info", f"e{number}", {"n": number}, 1.0))
    end()
    ring.keep(Event("info", "e3", {}, 1.0))
    assert [(event.sequence, event.event) for event in ring.since()] == [(3, "e2"), (4, "e3")]
    assert [event.sequence for event in ring.since(3)] == [4]
    assert calls == [1, 2, 3]


class FullDisk(io.StringIO):
    """A file on it."""

    def write(self, text: str, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("format", ["json", "console"])
def test_full_disk_costs_the_line_and_nothing_else(format: Any) -> None:
    ring = EventRing()
    set_up_logging(LogConfig(format=format), ring, stream=FullDisk())
    log.warning("disk.full", free=0)
    assert [event.event for event in ring.since()] == ["disk.full"]


def test_what_nobody_has_read_is_told_when_somebody_reads_again() -> None:
    """Nothing waits for a reader: neighbors would hear nothing meanwhile."""
    reader, writer = os.pipe()
    with open(reader, "rb") as reading, open(writer, "w") as stream:
        set_up_logging(LogConfig(), stream=stream)
        for number in range(2000):
            log.info("number", number=number, text="x" * 100)
        os.set_blocking(reader, False)
        first = reading.read().splitlines()
        log.info("later")
        told, later = (json.loads(line) for line in reading.read().splitlines())
        assert (told["event"], told["level"], told["events"]) == ("log.not_written", "warning", 2000 - len(first))
        assert later["event"] == "later"
        log_plainly()


class Terminal(io.StringIO):
    """It can show colors."""

    def isatty(self) -> bool:
        return True


def test_console_line_has_sorted_fields_and_quotes_what_could_be_misread() -> None:
    out = io.StringIO()
    set_up_logging(LogConfig(format="console"), stream=out)
    fields = {"b": b"\x01", "text": "a b", "quote": 'a"b', "equal": "a=b", "lines": "a\nb", "empty": "", "none": None}
    log.info("session.established", neighbor="leaf1", **fields)
    log.warning("alone")
    first, second = out.getvalue().splitlines()
    assert re.sub(r"^\d\d:\d\d:\d\d\.\d{6} ", "", first) == (
        "[info     ] session.established            b=b'\\x01' empty= equal='a=b' lines='a\\nb' neighbor=leaf1"
        " none=None quote='a\"b' text='a b'"
    )
    assert second.endswith(" [warning  ] alone")


def test_colors_are_for_terminals() -> None:
    out = Terminal()
    set_up_logging(LogConfig(format="console"), stream=out)
    log.error("fib.failed", reason="x")
    bold, red, cyan, magenta, reset = "\x1b[1m", "\x1b[31m", "\x1b[36m", "\x1b[35m", "\x1b[0m"
    label, title = f"[{red}{bold}error    {reset}]", f"{bold}{'fib.failed':30}{reset}"
    assert f" {label} {title} {cyan}reason{reset}={magenta}x{reset}\n" in out.getvalue()


def test_before_anything_is_set_up_events_are_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    log_plainly()
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log.exception("task.failed", task="fib")
    text = capsys.readouterr().err
    assert text.startswith("[error] task.failed task='fib'\nTraceback")
    assert text.endswith("RuntimeError: boom\n")


def test_exception_may_be_given() -> None:
    out = io.StringIO()
    set_up_logging(LogConfig(), stream=out)
    log.error("bgpd.defect", exc_info=RuntimeError("of another task"))
    log.exception("nothing.at_hand")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["exception"] == "RuntimeError: of another task"
    assert "exc_info" not in first
    assert "exception" not in second
