"""HTTP/1.1 over a unix socket, as much of it as bgpd's API needs: one request, and its answer part by part.

Python's own client brings the parsers of electronic mail and TLS with it: half of the time in which a command starts.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

_PART_BYTES = 256 * 1024
_LINE_BYTES = 65_536
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


class BrokenOff(ConnectionError):
    """The other side has ended before its answer did, or does not speak HTTP."""


class OutputClosed(Exception):
    """Nobody reads what is made of the answer any more."""


class _WatchedSocket(io.RawIOBase):
    """A socket that is waited for as long as somebody reads the output."""

    def __init__(self, source: socket.socket, output: int) -> None:
        self._socket, self._output = source, output
        self._poll = select.poll()
        self._poll.register(source, select.POLLIN)
        self._poll.register(output, 0)  # its end is told all the same (poll(2))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises: OutputClosed."""
        if any(descriptor == self._output for descriptor, _ in self._poll.poll()):
            raise OutputClosed
        return self._socket.recv_into(buffer)


class UnixConnection:
    """For one request. `peer` is the process that answers there, 0 if unknown, `uid` its user. With `output`, a
    descriptor, parts are waited for only while somebody reads there."""

    def __init__(self, path: str, timeout_s: float | None, *, output: int | None = None) -> None:
        self.timeout_s = timeout_s
        self.peer = 0
        self.uid: int | None = None
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._reader: io.BufferedReader = (
            self._socket.makefile("rb") if output is None else io.BufferedReader(_WatchedSocket(self._socket, output))
        )
        self._length: int | None = None
        self._is_chunked = False

    def ask(self, method: str, target: str, body: bytes | None) -> int:
        """The status of the answer. Raises: OSError. BrokenOff."""
        self._socket.connect(self._path)
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.peer, self.uid, _ = struct.unpack("3i", credentials)
        head = f"{method} {target} HTTP/1.1\r\nHost: bgpd\r\nConnection: close\r\n"
        if body is not None or method != "GET":
            head += f"Content-Length: {len(body or b'')}\r\n"
        with contextlib.suppress(BrokenPipeError):  # it may have answered before it had heard all
            self._socket.sendall(head.encode() + b"\r\n" + (body or b""))
        return self._read_head()

    def parts(self) -> Iterator[bytes]:
        """The body as it comes. Raises: OSError. BrokenOff. OutputClosed."""
        if self._is_chunked:
            while length := self._chunk_length():
                yield from self._take(length)
                self._line()
        elif self._length is not None:
            yield from self._take(self._length)
        else:
            while part := self._reader.read1(_PART_BYTES):
                yield part

    def close(self) -> None:
        """Close the connection; an answer that is not read to its end is given up."""
        self._reader.close()
        self._socket.close()

    def _read_head(self) -> int:
        version, _, rest = self._line().partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise BrokenOff("no HTTP")
        while line := self._line():
            name, _, value = line.partition(b":")
            match name.lower(), value.strip().lower():
                case b"content-length", digits if digits.isdigit() and len(digits) < 20:
                    self._length = int(digits)
                case b"transfer-encoding", b"chunked":
                    self._is_chunked = True
        status = int(rest[:3])
        if status == 204:
            self._length = 0
        return status

    def _chunk_length(self) -> int:
        length = self._line().partition(b";")[0].strip()
        if not length or not _HEX_DIGITS.issuperset(length):  # int() would also take a sign, "_" and "0x"
            raise BrokenOff("no length of a part")
        return int(length, 16)

    def _take(self, length: int) -> Iterator[bytes]:
        while length:
            part = self._reader.read1(min(length, _PART_BYTES))
            if not part:
                raise BrokenOff("it ended")
            length -= len(part)
            yield part

    def _line(self) -> bytes:
        line = self._reader.readline(_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise BrokenOff("it ended")
        return line.rstrip(b"\r\n")
