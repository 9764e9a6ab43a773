"""Dumps that lie, end early or are left unread, from a scripted socket: what a dump may lack is told, never hidden."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from bgpd.kernel.netlink import HEADER, DumpInterrupted, MessageFlag, MessageKind, dump, message

REQUEST = message(MessageKind.GET_ROUTE, 0x301, bytes(12))
INTERRUPTED = int(MessageFlag.DUMP_INTERRUPTED)


class ScriptedSocket:
    """Answers each request with the datagrams of its next script, a number being an errno of recv; then with `late`."""

    def __init__(self, *scripts: list[tuple[int, int, bytes] | int]) -> None:
        self.scripts = list(scripts)
        self.queue: list[bytes | OSError] = []
        self.late: list[bytes] = []
        self.requests = 0

    def send(self, request: bytes) -> None:
        self.requests += 1
        sequence = HEADER.unpack_from(request)[3]
        for one in self.scripts.pop(0):
            if isinstance(one, int):
                self.queue.append(OSError(one, "scripted"))
            else:
                kind, flags, payload = one
                self.queue.append(message(kind, flags, payload, sequence=sequence))

    def recv(self, _size: int) -> bytes:
        found = self.queue.pop(0) if self.queue else self.late.pop(0)
        if isinstance(found, OSError):
            raise found
        return found


def route(flags: int = 0) -> tuple[int, int, bytes]:
    return MessageKind.NEW_ROUTE, flags, bytes(24)


def done(code: int = 0, flags: int = 0) -> tuple[int, int, bytes]:
    return MessageKind.DONE, flags, struct.pack("=i", -code)


def error(code: int) -> tuple[int, int, bytes]:
    return MessageKind.ERROR, 0, struct.pack("=i", -code) + REQUEST


def read(*scripts: list[tuple[int, int, bytes] | int]) -> int:
    opened: socket.socket = ScriptedSocket(*scripts)  # type: ignore[assignment]
    return len(list(dump(opened, REQUEST)))


def test_whole_dump_is_read() -> None:
    assert read([route(), route(), done()]) == 3


@pytest.mark.parametrize(
    "script",
    [
        [route(), route(INTERRUPTED), route(), done()],
        [route(INTERRUPTED), done()],
        [route(), done(flags=INTERRUPTED)],
    ],
    ids=["in the middle", "at the start", "at the end"],
)
def test_change_that_is_told_once_anywhere_interrupts(script: list[tuple[int, int, bytes] | int]) -> None:
    with pytest.raises(DumpInterrupted):
        read(script)


def test_part_that_the_kernel_had_no_memory_for_interrupts_after_the_rest_was_read() -> None:
    opened = ScriptedSocket([route(), errno.ENOBUFS, route(), done()], [route(), done()])
    with pytest.raises(DumpInterrupted):
        list(dump(opened, REQUEST))  # type: ignore[arg-type]
    assert not opened.queue
    assert len(list(dump(opened, REQUEST))) == 2  # type: ignore[arg-type]


def test_dump_that_ends_in_an_error_is_no_whole_dump() -> None:
    with pytest.raises(OSError, match="ended the dump early") as raised:
        read([route(), done(errno.ENOMEM)])
    assert raised.value.errno == errno.ENOMEM


def test_table_that_does_not_exist_is_told_so() -> None:
    with pytest.raises(FileNotFoundError):
        read([done(errno.ENOENT)])


def test_refusal_is_raised() -> None:
    with pytest.raises(PermissionError):
        read([error(errno.EPERM)])


def test_dump_that_nobody_read_to_its_end_ends_before_the_next_begins() -> None:
    opened = ScriptedSocket([route()], [error(errno.EBUSY)], [route(), done()])
    first = next(dump(opened, REQUEST))  # type: ignore[arg-type]
    found = dump(opened, REQUEST)  # type: ignore[arg-type]
    late = message(MessageKind.DONE, 0, bytes(4), sequence=HEADER.unpack_from(first)[3])
    opened.late = [first, late]
    assert len(list(found)) == 2
    assert opened.requests == 3
