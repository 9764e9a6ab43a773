"""A stream that nobody reads costs lines, and no time."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bgpd.runtime.lines import Lines

PATIENCE_S = 30.0


@pytest.fixture(params=["pipe", "terminal", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Who reads, and who writes."""
    if request.param == "pipe":
        reader, writer = os.pipe()
    elif request.param == "terminal":
        reader, writer = os.openpty()
    else:
        one, other = socket.socketpair()
        reader, writer = one.detach(), other.detach()
    yield reader, writer
    for number in (reader, writer):
        os.close(number)


def in_time(work: Callable[[], None]) -> None:
    """Carry it out in a thread, which may hang for all that is known."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_what_nobody_reads_is_counted_and_holds_up_nothing(ends: tuple[int, int]) -> None:
    reader, writer = ends
    with open(writer, "w", closefd=False) as stream:
        lines = Lines(stream)
        taken: list[bool] = []
        in_time(lambda: taken.extend(lines.write(f"{number:05} {'x' * 100}") for number in range(10_000)))
        assert taken[0]
        assert lines.lost == taken[::-1].index(True), "since the last one that was taken"
        assert False in taken
        os.set_blocking(reader, False)
        read = bytearray()

        def empty() -> None:
            try:
                while part := os.read(reader, 65536):
                    read.extend(part)
            except BlockingIOError:
                return

        empty()
        while not lines.write("there again"):  # a terminal passes on what it has in its own time
            empty()
        assert lines.lost == 0
        while b"there again" not in read:
            empty()
        assert {number for number, one in enumerate(taken) if one} <= {
            int(one) for one in read.split() if one.isdigit()
        }


def test_a_line_of_which_a_part_was_taken_is_ended_before_the_next() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as emptied, open(writer, "w") as stream:
        lines = Lines(stream)
        in_time(lambda: [lines.write("y" * 200_000) and None][0])
        assert lines.lost == 1
        os.set_blocking(reader, False)
        while emptied.read(65536):
            pass
        assert lines.write("next")
        assert emptied.read(100) == b"\nnext\n"


def test_a_reader_that_has_gone_and_what_is_no_file_are_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        assert Lines(stream).write("to nobody")
    text = io.StringIO()
    assert Lines(text).write("text")
    assert text.getvalue() == "text\n"
    with (tmp_path / "file").open("w") as file:
        assert Lines(file).write("ä\udcff".replace("\udcff", "?"))
    assert (tmp_path / "file").read_text() == "ä?\n"
