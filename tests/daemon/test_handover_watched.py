"""A hand-over while collectors, files and the page follow the host, and the disk of its state is full: nobody misses
anything, and the neighbor is told nothing."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.message.mrt import MessageRecord, read_records
from labs.process import run_command
from tests.daemon.fabric import Fabric, leaf, table
from tests.daemon.managed import ManagedHost, managed, said
from tests.daemon.test_handover import IPV4, POD, spoken
from tests.daemon.wire_peer import WirePeer, update

pytestmark = pytest.mark.netns

BMP_PORT = 11019
PEER_UP, INITIATION = 3, 4
"""RFC 7854 section 4.1."""


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk that has no place left."""
    small = tmp_path / "small"
    small.mkdir()
    run_command(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)])
    try:
        with contextlib.suppress(OSError), (small / "full").open("wb", buffering=0) as file:
            for _ in range(1000):
                file.write(b"x" * 4096)
        yield small
    finally:
        run_command(["umount", str(small)])


def announced(directory: Path) -> list[bytes]:
    """The prefixes at the end of the UPDATEs in MRT files."""
    found = []
    for path in sorted(directory.glob("updates-*.mrt")):
        with path.open("rb") as file:
            found += [one.message[-3:] for one in read_records(file) if isinstance(one, MessageRecord) and one.message]
    return found


def bmp_kinds(server: socket.socket) -> tuple[socket.socket, list[int]]:
    """A connection of the daemon, and the types of its first two messages (RFC 7854 section 4.1)."""
    connection, _ = server.accept()
    connection.settimeout(30)
    kinds = []
    for _ in range(2):
        _, length, kind = struct.unpack("!BIB", connection.recv(6, socket.MSG_WAITALL))
        connection.recv(length - 6, socket.MSG_WAITALL)
        kinds.append(kind)
    return connection, kinds


def live(host: ManagedHost) -> socket.socket:
    """The page's stream, which has begun."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(30)
    stream.connect(str(host.socket_path))
    stream.sendall(b"GET /v1/live HTTP/1.1\r\nHost: bgpd\r\n\r\n")
    heard = b""
    while b"event: overview" not in heard:
        heard += stream.recv(65536)
    return stream


def ends(stream: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        while stream.recv(65536):
            pass
    return True


def test_nobody_who_watches_misses_anything(fabric: Fabric, full: Path, tmp_path: Path) -> None:
    fabric.host.batch("link set lo up")
    with fabric.host.entered():
        station = socket.create_server(("127.0.0.1", BMP_PORT))
    station.settimeout(30)
    files = tmp_path / "mrt"
    files.mkdir()
    tables = (
        table("[state]", directory=str(full)),
        table("[[bmp]]", address="127.0.0.1", port=BMP_PORT),
        table("[mrt]", directory=str(files)),
    )
    with station, WirePeer(fabric.leaf1) as peer, managed(fabric, leaf(1, **IPV4), POD, *tables) as host:
        connection = spoken(peer, host, "10.9.0.0/16")
        collector, kinds = bmp_kinds(station)
        assert kinds[0] == INITIATION  # it may have connected before the session was there
        stream = live(host)
        connection.sendall(update(("10.10.0.0/16",), asn=65201))
        host.wait(lambda: host.get("routes", prefix="10.10.0.0/16"), "the last route")
        host.hand_over()
        assert said(connection) == []
        assert announced(files).count(b"\x10\x0a\x0a") == 1, "what was said before is written"
        assert ends(stream)
        live(host).close()
        again, kinds = bmp_kinds(station)
        with collector, again:
            assert kinds == [INITIATION, PEER_UP]
        connection.sendall(update(("10.11.0.0/16",), asn=65201))
        host.wait(lambda: announced(files).count(b"\x10\x0a\x0b") == 1, "the file to go on")
        assert host.health()["last_handover"]["adopted"] == 1
