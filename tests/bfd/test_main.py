"""The BFD process's own loop: signals, and lines that nobody reads."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.bfd import handover
from bgpd.bfd.__main__ import Process, log


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    former = {number: signal.signal(number, lambda *_: None) for number in handover.SIGNALS}
    yield Process(str(tmp_path / "bfd.sock"))
    signal.set_wakeup_fd(-1)
    for number, handler in former.items():
        signal.signal(number, handler)


def test_a_line_that_nobody_can_read_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    log("nobody reads this")


def test_lines_that_nobody_reads_hold_up_no_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as reading, open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        writing = threading.Thread(target=lambda: [log("x" * 100) for _ in range(2000)], daemon=True)
        writing.start()
        writing.join(30)
        assert not writing.is_alive()
        assert reading.readline() == b"bgpd-bfd: " + b"x" * 100 + b"\n"


def test_a_stop_that_comes_while_it_becomes_its_next_version_is_not_lost(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed = []
    monkeypatch.setattr(handover, "execute", lambda *_, **__: executed.append("executed"))
    os.kill(os.getpid(), signal.SIGTERM)
    process._become_anew()
    assert not executed
    process.run()


def test_a_program_that_cannot_be_executed_leaves_signals_as_they_were(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    process._become_anew()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(handover.SIGNALS)
    os.kill(os.getpid(), signal.SIGTERM)
    process.run()
