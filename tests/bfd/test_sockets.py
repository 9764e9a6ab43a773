"""The quiet socket beside a receiving one: which packets it gets, with which time, and whose the port is."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from bgpd.bfd import sockets
from bgpd.bfd.live import Receiver
from bgpd.bfd.packet import Packet, State
from labs.namespace import Namespace
from labs.process import wait_until

PEER = socket.inet_aton("127.0.0.2")
HERE = socket.inet_aton("127.0.0.1")
PROGRAM = sockets.filter_program(4, [7, 8], [PEER])


@pytest.fixture
def both() -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """A receiving socket, the quiet one beside it, and one that sends to them."""
    with (
        Namespace("host", prefix="q") as host,
        host.entered(),
        sockets.open_receiver(HERE, "") as receiver,
        sockets.open_quiet(receiver, HERE, "", PROGRAM) as quiet,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sockets.set_filter(receiver, PROGRAM)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        sender.bind(("127.0.0.2", 0))
        sender.connect(("127.0.0.1", sockets.PORT))
        yield receiver, quiet, sender


def data(state: State = State.UP, *, to: int = 7, **flags: bool) -> bytes:
    made = Packet(
        state=state,
        multiplier=3,
        my_discriminator=9,
        your_discriminator=to,
        desired_min_tx_us=100_000,
        required_min_rx_us=100_000,
        **flags,
    )
    return made.encode()


def has_one(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


@pytest.mark.netns
def test_only_plain_up_packets_of_the_chosen_are_quiet(
    both: tuple[socket.socket, socket.socket, socket.socket],
) -> None:
    receiver, quiet, sender = both
    cases = [
        (data(), True),
        (data(independent=True), True),
        (data(poll=True), False),
        (data(final=True), False),
        (data(demand=True), False),
        (data(State.DOWN), False),
        (data(State.INIT), False),
        (data(State.ADMIN_DOWN), False),
        (data(State.DOWN, to=0), False),
        (data(to=8), False),
    ]
    sender.send(data())
    assert not has_one(quiet), "nobody was chosen"
    sockets.receive(receiver)
    sockets.choose_quiet(receiver, [7])
    for packet, is_quiet in cases:
        sender.send(packet)
        assert (has_one(quiet), has_one(receiver)) == (is_quiet, not is_quiet), packet
        assert (quiet if is_quiet else receiver).recv(100) == packet
    for foreign in (data()[:1], b"", data(to=0x0BADCAFE)):
        sender.send(foreign)
        assert not has_one(quiet)
        assert not has_one(receiver)
    quiet.close()
    sender.send(data())
    assert sockets.receive(receiver)[0] == data(), "without the quiet socket all come here"


@pytest.mark.netns
def test_packet_of_the_quiet_socket_has_the_time_when_it_came(
    both: tuple[socket.socket, socket.socket, socket.socket],
) -> None:
    """The kernel begins to note it shortly after the first socket has asked for it."""
    receiver, quiet, sender = both
    sockets.choose_quiet(receiver, [7])

    def is_noted() -> bool:
        before = time.time()
        sender.send(data())
        after = time.time()
        time.sleep(0.02)
        (packet, _, name), came = sockets.receive_quiet(quiet)
        assert (packet, sockets.address_of(quiet, name)) == (data(), PEER)
        return before - 0.001 <= came <= after + 0.001

    wait_until(is_noted, 10, "the time of a packet")
    with pytest.raises(BlockingIOError):
        sockets.receive_quiet(quiet)


@pytest.mark.netns
def test_port_is_not_shared_with_another_program(
    both: tuple[socket.socket, socket.socket, socket.socket],
) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
        sockets.open_receiver(HERE, "")


def test_time_of_packets_is_not_known_when_the_hosts_clock_was_set() -> None:
    with socket.socket() as sock:
        receiver = Receiver((HERE, "", 0), sock)
        assert receiver.begin_look(10.0, 1000.0) == float("inf"), "the first look"
        assert receiver.begin_look(10.1, 1000.1) == pytest.approx(990.0)
        assert receiver.begin_look(10.2, 1000.20001) == pytest.approx(990.0, abs=0.001), "drift"
        assert receiver.begin_look(10.3, 4600.3) == float("inf"), "set forward"
        assert receiver.begin_look(10.4, 4600.4) == pytest.approx(4590.0)
        assert receiver.begin_look(10.5, 1.5) == float("inf"), "set back"
