"""Listening sockets from one process to the next, against the real kernel."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.config.schema_sessions import ListenConfig, NeighborConfig
from bgpd.model.prefix import parse_address
from bgpd.runtime.descriptors import Shortage
from bgpd.speaker.admission import Admission
from bgpd.speaker.authentication import Md5, TcpAo, left_keys, saved_keys
from bgpd.speaker.listening import Listening
from bgpd.speaker.socket_options import set_md5_key
from bgpd.speaker.tcp_ao import TcpAoKey
from bgpd.speaker.transport import Wire
from tests.own_network import ip, own_network
from tests.speaker.test_speaker import free_port
from tests.waiting import PATIENCE_S, until

PEER = parse_address("127.0.0.2")
NEIGHBOR = NeighborConfig(name="leaf1", address="127.0.0.2", asn=65201, import_="all")
KEY = b"a secret of both"


class Taker:
    """Keeps what comes in."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []

    def take(self, vrf: str, port: int, wire: Wire) -> None:
        self.wires.append(wire)


@pytest.fixture
def admission() -> Iterator[Admission]:
    found = Admission(neighbors=10, shortage=Shortage())
    yield found
    found.reserve.close()


async def is_taken(port: int, taker: Taker, *, key: bytes = b"") -> None:
    """Returns once a connection of the peer, signed with a key, is."""
    before = len(taker.wires)
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.2", 0))
        if key:
            set_md5_key(sock, parse_address("127.0.0.1"), 32, key)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        await until(lambda: len(taker.wires) > before)


def handed_over(former: Listening, port: int, admission: Admission) -> Listening:
    left = [(saved, socket.socket(fileno=os.dup(number))) for saved, number in former.saved()]
    former.close()
    after = Listening(port, admission=admission)
    after.inherit(left)
    return after


@pytest.mark.parametrize("is_range", [True, False])
@pytest.mark.parametrize("is_wanted", [True, False])
async def test_password_that_the_next_configuration_lacks_is_wanted_no_more(
    admission: Admission, tmp_path: Path, is_range: bool, is_wanted: bool
) -> None:
    """A neighbor that connects without it was answered by nobody: the socket had the key for good."""
    port, taker, password = free_port(), Taker(), tmp_path / "password"
    password.write_bytes(KEY)
    password.chmod(0o600)
    section = ListenConfig(
        prefix="127.0.0.0/29", asn=65201, import_="all", max_neighbors=2, password_file=str(password)
    )

    def sign(listening: Listening) -> None:
        if is_range:
            listening.sign_ranges([section])
        else:
            listening.sign(NEIGHBOR, PEER, Md5(KEY))

    listening = Listening(port, admission=admission)
    listening.open(taker)
    sign(listening)
    for _ in range(2):
        listening = handed_over(listening, port, admission)
        listening.open(taker)
        if is_wanted:
            sign(listening)
        listening.inherited_are_over()
        try:
            await is_taken(port, taker, key=KEY if is_wanted else b"")
        finally:
            for wire in taker.wires:
                wire.abort()
    listening.close()


@pytest.mark.netns
async def test_listens_anew_in_a_vrf_whose_device_was_made_anew(admission: Admission) -> None:
    """The kernel accepted nothing there any more: a socket stays bound to the device that was."""
    with own_network():
        ip("link add blue type veth peer name other")
        listening, door = Listening(free_port(), admission=admission), ("blue", 1790)
        listening.open(Taker())
        assert listening.follow({door}) == {door}
        ip("link set blue address 02:00:00:00:00:01")
        assert listening.follow({door}) == set()
        ip("link del blue")
        ip("link add blue type veth peer name other")
        assert listening.follow({door}) == {door}
        assert listening.follow({door}) == set()
        listening.close()


def test_what_is_left_of_keys_has_their_names_and_no_secret() -> None:
    ao = TcpAo((TcpAoKey(send_id=1, receive_id=101, algorithm="hmac-sha-1-96", key=KEY),))
    for authentication in (Md5(KEY), ao):
        saved = saved_keys(PEER, 32, authentication)
        assert KEY not in repr(saved).encode()
        left = left_keys(saved)
        assert type(left) is type(authentication)
        if isinstance(left, TcpAo):
            assert [key.ids for key in left.keys] == [(1, 101)]
