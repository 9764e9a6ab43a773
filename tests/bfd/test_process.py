"""The BFD process in a namespace, against FRR's bfdd, BIRD and packets made by hand; what they say is their own."""

from __future__ import annotations

import marshal
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bgpd.bfd import handover
from bgpd.bfd.packet import Packet, State, decode
from bgpd.bfd.session import Session
from bgpd.bfd.sockets import open_receiver
from labs.daemons import Bfd, Bird, Frr
from labs.namespace import Namespace, link
from labs.process import wait_until
from tests.bfd.daemon_side import DaemonSide, desired
from tests.bfd.test_packet import GOLDEN, changed

pytestmark = pytest.mark.netns

IPV4 = desired()
IPV6 = desired("2001:db8:1::1", "2001:db8:1::2")


class Pair:
    """host eth0 10.0.1.1, 2001:db8:1::1 - leaf swp1 10.0.1.2, 2001:db8:1::2, and 10.0.1.3 of a stranger."""

    def __init__(self, host: Namespace, leaf: Namespace) -> None:
        self.host = host
        self.leaf = leaf


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Namespace("host", prefix="d") as host, Namespace("leaf", prefix="d") as leaf:
        link(host, "eth0", leaf, "swp1")
        host.addresses("eth0", "10.0.1.1/24", "2001:db8:1::1/64")
        leaf.addresses("swp1", "10.0.1.2/24", "10.0.1.3/24", "2001:db8:1::2/64")
        yield Pair(host, leaf)


@pytest.fixture
def process(pair: Pair) -> Iterator[Bfd]:
    with Bfd(pair.host) as process:
        yield process


def frr_config(*peers: str) -> str:
    blocks = [f"peer {peer}\nreceive-interval 100\ntransmit-interval 100\nexit" for peer in peers]
    return "\n".join(["bfd", *blocks, "exit", ""])


def link_local(namespace: Namespace, interface: str) -> str:
    found = re.search(r"inet6 (fe80::\S+)/64", namespace.ip("-6", "addr", "show", "dev", interface))
    assert found
    return found[1]


def counters(frr: Frr) -> dict[str, tuple[int, int]]:
    """Ups and downs by peer, as FRR counts them."""
    found = frr.vtysh_json("show bfd peers counters json")
    return {one["peer"]: (one["session-up"], one["session-down"]) for one in found}


def test_frr_over_ipv4_ipv6_and_link_local(pair: Pair, process: Bfd) -> None:
    ours, theirs = link_local(pair.host, "eth0"), link_local(pair.leaf, "swp1")
    local = desired(ours, theirs)
    peers = (
        "10.0.1.1 interface swp1",
        "2001:db8:1::1 local-address 2001:db8:1::2 interface swp1",
        f"{ours} local-address {theirs} interface swp1",
    )
    with Frr(pair.leaf, frr_config(*peers), bfd=True) as frr, DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4, IPV6, local)
        for one in (IPV4, IPV6, local):
            daemon.wait_state(one, State.UP)
        seen = [peer for peer in frr.vtysh_json("show bfd peers json") if peer["status"] == "up"]
        assert len(seen) == 3
        reports = [daemon.reports[one.key] for one in (IPV4, IPV6, local)]
        assert {peer["remote-id"] for peer in seen} == {report.discriminator for report in reports}
        wait_until(lambda: daemon.hear() and daemon.reports[local.key].detection_time_us == 300_000, 10, "the timers")
        assert len({report.source_port for report in reports}) == 3
        assert all(49152 <= report.source_port <= 65535 for report in reports)
        assert all(peer["remote-transmit-interval"] == 100 for peer in frr.vtysh_json("show bfd peers json"))


def test_daemon_that_goes_and_comes_back_is_not_noticed_by_the_peer(pair: Pair, process: Bfd) -> None:
    with Frr(pair.leaf, frr_config("10.0.1.1 interface swp1"), bfd=True) as frr:
        with DaemonSide(process.socket_path) as daemon:
            daemon.want(IPV4)
            daemon.wait_state(IPV4, State.UP)
            before = daemon.reports[IPV4.key].discriminator
        assert counters(frr)["10.0.1.1"] == (1, 0)
        with DaemonSide(process.socket_path) as daemon:
            wait_until(lambda: daemon.hear() and daemon.ends, 5, "what is running")
            assert daemon.reports[IPV4.key].discriminator == before
            daemon.want(desired(interval_ms=200, times=4))
            wait_until(
                lambda: frr.vtysh_json("show bfd peers json")[0]["remote-transmit-interval"] == 200, 5, "the Poll"
            )
            assert frr.vtysh_json("show bfd peers json")[0]["remote-detect-multiplier"] == 4
            assert counters(frr)["10.0.1.1"] == (1, 0)
            daemon.want()
            wait_until(lambda: frr.vtysh_json("show bfd peers json")[0]["status"] == "down", 5, "AdminDown")
            assert "administratively" in frr.vtysh_json("show bfd peers json")[0]["remote-diagnostic"]
            daemon.wait_state(IPV4, None)


def test_end_of_the_process_tells_the_peer_admin_down(pair: Pair, process: Bfd) -> None:
    with Frr(pair.leaf, frr_config("10.0.1.1 interface swp1"), bfd=True) as frr:
        with DaemonSide(process.socket_path) as daemon:
            daemon.want(IPV4)
            daemon.wait_state(IPV4, State.UP)
        assert process.processes[-1].stop(signal.SIGTERM, 5.0) == 0
        assert not process.socket_path.exists()
        peer = frr.vtysh_json("show bfd peers json")[0]
        assert (peer["status"], peer["remote-diagnostic"]) == ("down", "administratively down")


def test_process_that_becomes_its_next_version_is_not_noticed_by_the_peer(pair: Pair, process: Bfd) -> None:
    peers = ("10.0.1.1 interface swp1", "2001:db8:1::1 local-address 2001:db8:1::2 interface swp1")
    with Frr(pair.leaf, frr_config(*peers), bfd=True) as frr, DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4, IPV6)
        daemon.wait_state(IPV4, State.UP)
        daemon.wait_state(IPV6, State.UP)
        before = {key: (one.discriminator, one.source_port, one.ups) for key, one in daemon.reports.items()}
        for times in (1, 2, 3):
            os.kill(process.pid, signal.SIGHUP)
            os.kill(process.pid, signal.SIGHUP)
            wait_until(lambda: process.log_path.read_text().count("with ") > times, 10, "it to begin again")  # noqa: B023
        with DaemonSide(process.socket_path) as after:
            after.want(IPV4, IPV6)
            now = {key: (one.discriminator, one.source_port, one.ups) for key, one in after.reports.items()}
            assert now == before
            sent = after.reports[IPV4.key].sent
            after.want(desired(interval_ms=150), IPV6)
            wait_until(
                lambda: 150 in [one["remote-transmit-interval"] for one in frr.vtysh_json("show bfd peers json")],
                5,
                "the Poll",
            )
            wait_until(lambda: after.hear() and after.reports[IPV4.key].sent > sent, 10, "it to count on")
            assert set(counters(frr).values()) == {(1, 0)}
            after.want(IPV6)
            after.wait_state(IPV4, None)
            assert after.state(IPV6) is State.UP


def test_what_cannot_be_read_of_a_former_program_is_begun_anew(pair: Pair, process: Bfd) -> None:
    process.kill()
    nonsense = os.memfd_create("nonsense", 0)
    os.write(nonsense, b"nonsense")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path = process.directory / "other.sock"
        listener.bind(str(path))
        listener.listen()
        numbers = (nonsense, listener.fileno())
        command = [sys.executable, "-m", "bgpd.bfd", str(path), "--resume", *map(str, numbers)]
        with subprocess.Popen(command, pass_fds=numbers, stderr=subprocess.PIPE, text=True) as other:
            with DaemonSide(path) as daemon:
                daemon.want(IPV4)
                assert IPV4.key in daemon.reports
            other.terminate()
            assert other.stderr is not None
            assert "cannot go on with all sessions: bad marshal data" in other.stderr.read()
    os.close(nonsense)


def former(receiver: socket.socket, **values: float) -> bytes:
    """What a former program hands over of IPV4: it has this receiving socket, and no sending one that is left."""
    session = Session(7, interval_us=100_000, multiplier=3, random=lambda: 0.5, now=0.0)
    wanted, shown = (*IPV4.key, IPV4.interval_us, IPV4.multiplier), (50_000, 1.0, float("inf"))
    saved = (wanted, session.saved() | values, shown, (999, receiver.fileno(), 0))
    return marshal.dumps((handover.FORMAT, [saved]))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda receiver: marshal.dumps((handover.FORMAT + 1, [])), "another form"),
        (lambda receiver: marshal.dumps((handover.FORMAT, 7)), "another form"),
        (lambda receiver: former(receiver)[:-9], "nothing that can be read"),
        (lambda receiver: former(receiver, state=9), "9 is not a valid State"),
        (lambda receiver: former(receiver, interval_us=None), "interval_us is None"),
        (former, "Bad file descriptor"),
    ],
)
def test_sockets_that_nobody_goes_on_with_do_not_keep_the_port_from_their_session(
    pair: Pair, process: Bfd, made: Callable[[socket.socket], bytes], said: str
) -> None:
    path = process.directory / "other.sock"
    with (
        pair.host.entered(),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        open_receiver(IPV4.local, IPV4.interface) as receiver,
        os.fdopen(os.memfd_create("former", 0), "wb", buffering=0) as memory,
    ):
        listener.bind(str(path))
        listener.listen()
        memory.write(made(receiver))
        numbers = (memory.fileno(), listener.fileno(), receiver.fileno())
        command = [sys.executable, "-m", "bgpd.bfd", str(path), "--resume", *map(str, numbers[:2])]
        other = subprocess.Popen(command, pass_fds=numbers, stderr=subprocess.PIPE, text=True)
    with other, HandMade(pair.leaf) as peer, DaemonSide(path) as daemon:
        try:
            daemon.want(IPV4)
            assert daemon.reports[IPV4.key].problem == ""
            peer.come_up(daemon)
            daemon.wait_state(IPV4, State.UP)
        finally:
            other.terminate()
        assert other.stderr is not None
        assert said in other.stderr.read()


def test_bird(pair: Pair, process: Bfd) -> None:
    config = """
router id 10.255.0.1;
protocol device {}
protocol bfd {
  interface "swp1" { min rx interval 100 ms; min tx interval 100 ms; idle tx interval 1 s; multiplier 3; };
  neighbor 10.0.1.1 dev "swp1";
  neighbor 2001:db8:1::1 dev "swp1";
}
"""
    with Bird(pair.leaf, config) as bird, DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4, IPV6)
        daemon.wait_state(IPV4, State.UP)
        daemon.wait_state(IPV6, State.UP)

        def shown() -> list[list[str]]:
            return [line.split() for line in bird.birdc("show bfd sessions").splitlines() if "swp1" in line]

        wait_until(lambda: [row[2] for row in shown()] == ["Up", "Up"], 5, "BIRD to be Up")
        wait_until(lambda: {(row[4], row[5]) for row in shown()} == {("0.100", "0.300")}, 5, "BIRD's timers")
        bird.kill()
        report = daemon.wait_state(IPV4, State.DOWN)
        assert report is not None
        assert (report.diagnostic, report.downs) == (1, 1)


class HandMade:
    """A peer whose packets the test makes: on the leaf, from an address and with a TTL."""

    def __init__(self, leaf: Namespace, address: str = "10.0.1.2", *, ttl: int = 255) -> None:
        with leaf.entered():
            self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            self._sender.bind((address, 0))
            self._sender.connect(("10.0.1.1", 3784))
            self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._receiver.bind((address, 3784))
            self._receiver.settimeout(5)

    def __enter__(self) -> HandMade:
        return self

    def __exit__(self, *exception: object) -> None:
        self._sender.close()
        self._receiver.close()

    def send(self, data: bytes) -> None:
        self._sender.send(data)

    def receive(self) -> tuple[Packet, int]:
        """The next packet, and the port it came from."""
        data, (_, port) = self._receiver.recvfrom(512)
        return decode(data), port

    def come_up(self, daemon: DaemonSide) -> int:
        """Take the session to Up; the discriminator of the other end."""
        assert daemon.reports[IPV4.key].problem == ""
        theirs = 0
        for state in (State.DOWN, State.INIT, State.UP):
            self.send(packet(state, theirs))
            theirs = self.receive()[0].my_discriminator
        return theirs


def packet(state: State, theirs: int, *, multiplier: int = 50) -> bytes:
    made = Packet(
        state=state,
        multiplier=multiplier,
        my_discriminator=7,
        your_discriminator=theirs,
        desired_min_tx_us=100_000,
        required_min_rx_us=100_000,
    )
    return made.encode()


def test_no_bad_packet_is_used_and_the_session_stays_up(pair: Pair, process: Bfd) -> None:
    with HandMade(pair.leaf) as peer, DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4)
        theirs = peer.come_up(daemon)
        report = daemon.wait_state(IPV4, State.UP)
        assert report is not None
        good = packet(State.DOWN, theirs)
        bad = {
            "version": changed(0, 0x00, good),
            "length": changed(3, 40, good),
            "multiplier": changed(2, 0, good),
            "multipoint": changed(1, 0x41, good),
            "discriminator": good[:4] + bytes(4) + good[8:],
            "authentication": changed(3, 26, changed(1, 0x44, good)) + b"\1\2",
            "state": changed(1, 0x80, good[:8] + bytes(4) + good[12:]),
        }
        for data in bad.values():
            peer.send(data)
        for data in (good[:23], b"", GOLDEN[:8] + bytes.fromhex("0badcafe") + GOLDEN[12:], os.urandom(500)):
            peer.send(data)
        with HandMade(pair.leaf, "10.0.1.3") as stranger, HandMade(pair.leaf, ttl=254) as far:
            stranger.send(good)
            stranger.send(packet(State.DOWN, 0))
            far.send(good)
        peer.send(changed(1, 0xC0 | 0x20, packet(State.UP, theirs)))
        while not peer.receive()[0].final:
            pass
        assert daemon.state(IPV4) is State.UP
        assert report.downs == 0
        wait_until(lambda: daemon.hear() and set(bad) <= set(daemon.discarded), 10, "the counts of what was discarded")
        assert "ttl" not in daemon.discarded, "the kernel's filter drops it"
        assert daemon.discarded.get("stranger", 0) == 1, "it knows our discriminator"
        peer.send(good)
        daemon.wait_state(IPV4, State.DOWN)


def test_what_is_as_ever_does_not_wake_the_process_and_counts_from_when_it_came(pair: Pair, process: Bfd) -> None:
    """The peer sends much more often than we do, and then nothing: it is Down, and its last packet is in the count."""
    with HandMade(pair.leaf) as peer, DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4)
        theirs = peer.come_up(daemon)
        daemon.wait_state(IPV4, State.UP)
        peer.send(changed(1, 0xC0 | 0x10, packet(State.UP, theirs)))
        wait_until(lambda: peer.receive()[0].poll is False, 5, "the end of our Poll Sequence")
        before, began = wake_ups(process.pid), time.monotonic()
        for _ in range(PACKETS):
            peer.send(packet(State.UP, theirs, multiplier=3))
        report = daemon.wait_state(IPV4, State.DOWN)
        own = (time.monotonic() - began) / 0.05  # its own packets of 100 ms, however long a busy machine took
        assert wake_ups(process.pid) - before < PACKETS / 2 + own
        assert report is not None
        assert report.received >= PACKETS
        assert (report.diagnostic, report.downs) == (1, 1)


def test_down_is_heard_at_once_and_what_came_before_it_counts_before_it(pair: Pair, process: Bfd) -> None:
    with HandMade(pair.leaf) as peer, DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4)
        theirs = peer.come_up(daemon)
        daemon.wait_state(IPV4, State.UP)
        peer.send(changed(1, 0xC0 | 0x10, packet(State.UP, theirs)))
        for _ in range(5):
            peer.send(packet(State.UP, theirs))
        peer.send(packet(State.DOWN, theirs))
        report = daemon.wait_state(IPV4, State.DOWN)
        assert report is not None
        assert (report.remote_state, report.diagnostic) == (State.DOWN, 3)
        assert report.received >= 8, "one to come up, and what was sent since"


def test_peer_that_flaps_is_followed_each_time_and_nothing_is_left_of_it(pair: Pair, process: Bfd) -> None:
    with HandMade(pair.leaf) as peer, DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4)
        theirs = peer.come_up(daemon)
        daemon.wait_state(IPV4, State.UP)
        sockets = len(os.listdir(f"/proc/{process.pid}/fd"))
        for _ in range(FLAPS):
            peer.send(packet(State.DOWN, theirs))
            daemon.wait_state(IPV4, State.DOWN)
            for state in (State.DOWN, State.INIT, State.UP):
                peer.send(packet(state, theirs))
            report = daemon.wait_state(IPV4, State.UP)
        assert report is not None
        assert (report.ups, report.downs) == (FLAPS + 1, FLAPS)
        assert len(os.listdir(f"/proc/{process.pid}/fd")) == sockets


PACKETS = 120
FLAPS = 100


def wake_ups(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def test_flood_of_strangers_delays_nothing(pair: Pair, process: Bfd) -> None:
    """50,000 packets a second that are none of its sessions' do not even wake it."""
    flood = """
import socket, sys, time
down = bytes.fromhex("2040031800000007") + bytes(16)
packets = [down, bytes.fromhex("20c00318000000070badcafe") + bytes(12), b"x" * 24]
socks = []
for ttl in (255, 64):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    sock.bind(("10.0.1.3", 0)); sock.connect(("10.0.1.1", 3784)); socks.append(sock)
end, sent, start = time.monotonic() + 3, 0, time.monotonic()
while time.monotonic() < end:
    for sock in socks:
        for data in packets * 8:
            sock.send(data); sent += 1
    ahead = sent / 50_000 - (time.monotonic() - start)
    if ahead > 0: time.sleep(ahead)
print(sent)
"""
    config = frr_config("10.0.1.1 interface swp1")
    with Frr(pair.leaf, config, bfd=True) as frr, DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4)
        daemon.wait_state(IPV4, State.UP)
        before = cpu_s(process.pid)
        sent = int(pair.leaf.run("python3", "-c", flood))
        assert sent > 20_000
        assert daemon.state(IPV4) is State.UP
        assert counters(frr)["10.0.1.1"] == (1, 0)
        assert cpu_s(process.pid) - before < 0.5, "the packets reached the process"


def cpu_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def test_address_and_interface_that_come_later_are_used_then(pair: Pair, process: Bfd) -> None:
    later = desired("10.0.9.1", "10.0.9.2", interface="eth9")
    with DaemonSide(process.socket_path) as daemon:
        daemon.want(later)
        assert daemon.reports[later.key].problem == "there is no interface eth9"
        link(pair.host, "eth9", pair.leaf, "swp9")
        wait_until(lambda: daemon.hear() and "address" in daemon.reports[later.key].problem, 5, "the address to lack")
        pair.host.addresses("eth9", "10.0.9.1/24")
        wait_until(lambda: daemon.hear() and not daemon.reports[later.key].problem, 5, "its sockets")
        pair.leaf.addresses("swp9", "10.0.9.2/24")
        with Frr(pair.leaf, frr_config("10.0.9.1 interface swp9"), bfd=True):
            daemon.wait_state(later, State.UP)
            pair.host.ip("link", "del", "eth9")
            report = daemon.wait_state(later, State.DOWN)
            assert report is not None
            assert report.diagnostic == 1


def test_port_that_another_program_has_is_named(pair: Pair, process: Bfd) -> None:
    with pair.host.entered():
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.bind(("10.0.1.1", 3784))
    with other, DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4)
        assert "does another BFD program run" in daemon.reports[IPV4.key].problem


def test_second_process_is_refused_and_a_stale_socket_is_not(pair: Pair, process: Bfd) -> None:
    command = [*process.processes[-1].command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert "another BFD process listens" in done.stderr
    process.kill()
    assert process.socket_path.exists()
    process.start()


def test_socket_is_closed_to_others(process: Bfd) -> None:
    assert process.socket_path.stat().st_mode & 0o777 == 0o600
    process.socket_path.chmod(0o666)
    process.directory.chmod(0o755)
    code = (
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(process.socket_path)!r}); print(s.recv(1))"
    )
    done = subprocess.run(["python3", "-c", code], capture_output=True, text=True, check=False, user="nobody")
    assert done.stdout.strip() == "b''", done.stderr
    assert "was refused" in process.log_path.read_text()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"bgpd-bfd 1\nwant nonsense\n", b"bgpd-bfd 2\n"])
def test_nonsense_on_the_socket_costs_the_connection_only(process: Bfd, said: bytes) -> None:
    with DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(5)
        other.connect(str(process.socket_path))
        other.sendall(said)
        while other.recv(4096):
            pass
    with DaemonSide(process.socket_path) as daemon:
        wait_until(lambda: daemon.hear() and daemon.ends, 5, "it to answer")
        assert IPV4.key in daemon.reports


def test_process_that_was_stopped_blames_nobody(pair: Pair, process: Bfd) -> None:
    """What came meanwhile is read before anybody is declared silent; its peer, though, missed us."""
    with HandMade(pair.leaf) as peer, DaemonSide(process.socket_path) as daemon:
        daemon.want(IPV4)
        theirs = peer.come_up(daemon)
        daemon.wait_state(IPV4, State.UP)
        peer.send(packet(State.UP, theirs, multiplier=3))
        os.kill(process.pid, signal.SIGSTOP)
        for _ in range(20):
            time.sleep(0.05)
            peer.send(packet(State.UP, theirs, multiplier=3))
        os.kill(process.pid, signal.SIGCONT)
        peer.send(packet(State.UP, theirs, multiplier=200))
        wait_until(lambda: daemon.hear() and daemon.reports[IPV4.key].remote_multiplier == 200, 5, "it to read on")
        assert daemon.reports[IPV4.key].downs == 0
