"""Messages that nobody expected, connections without end, defects of bgpd itself: what each costs a whole daemon."""

from __future__ import annotations

import contextlib
import itertools
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.daemons import Frr, unit_environment
from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, announce, config, kernel_hops, leaf, started
from tests.daemon.wire_peer import (
    KEEPALIVE,
    NOTIFICATION,
    UPDATE,
    WirePeer,
    attribute,
    message,
    notification,
    open_message,
    update,
)

pytestmark = pytest.mark.netns

EVPN = (25, 70)
RD = "0001010101010007"
TWO_INDEXES = bytes.fromhex(
    f"0522 {RD} 00010101010101010101 00000000 18 28003200 00000000 001389"
    f"0522 {RD} 00000000000000000000 00000000 18 28003300 0a000302 001389"
)
"""Two legal type 5 routes, one with an ESI and one with a gateway IP (RFC 9136 sections 3.2, 4.1 and 4.2)."""

DEFECT = """
from bgpd.message.update_decoder import UpdateDecoder
decode = UpdateDecoder.decode
def defective(self, body):
    if b"\\xde\\xad" in body:
        raise RecursionError("for the test")
    return decode(self, body)
UpdateDecoder.decode = defective
"""
MARK = attribute(0xC0, 200, b"\xde\xad")


@contextlib.contextmanager
def unharmed(host: Host) -> Iterator[None]:
    """leaf2's session and its route stay."""
    host.wait_established("leaf2")
    host.wait_hops("10.9.0.0/16", "10.0.2.2%eth1")
    before = host.neighbor("leaf2")["established_count"]
    yield
    view = host.neighbor("leaf2")
    assert (view["state"], view["established_count"]) == ("established", before)
    assert kernel_hops(host.namespace, "10.9.0.0/16") == ["10.0.2.2%eth1"]


@pytest.fixture(scope="module")
def host(fabric: Fabric, leaf2: Frr) -> Iterator[Host]:
    """leaf1 is for the tests to play; leaf2 hears what it says."""
    first = leaf(1, families=["ipv4-unicast", "l2vpn-evpn"])
    with started(fabric, first, leaf(2, export="all")) as host:
        yield host


@pytest.mark.parametrize("kind", [14, 15], ids=["MP_REACH", "MP_UNREACH"])
def test_an_esi_and_a_gateway_in_one_field_are_two_routes(host: Host, fabric: Fabric, kind: int) -> None:
    head = b"\0\x19\x46" + (b"\4\x0a\0\1\2\0" if kind == 14 else b"")
    block = attribute(0x80, kind, head + TWO_INDEXES)
    if kind == 14:
        block += bytes.fromhex("40010100 400206020100 00feb1 c010080002feb100001389")
    with unharmed(host), WirePeer(fabric.leaf1) as peer:
        connection = peer.establish(families=((1, 1), EVPN))
        connection.sendall(message(UPDATE, b"\0\0" + len(block).to_bytes(2, "big") + block))
        connection.sendall(update(("10.20.0.0/16",), asn=65201))
        host.wait_hops("10.20.0.0/16", "10.0.1.2%eth0")
        received = host.neighbor("leaf1")["families"]["l2vpn-evpn"]["received"]
        assert received == (2 if kind == 14 else 0)


def test_a_hard_reset_of_hard_resets_ends_its_session_only(host: Host, fabric: Fabric) -> None:
    with unharmed(host), WirePeer(fabric.leaf1) as peer:
        connection = peer.establish()
        connection.sendall(message(NOTIFICATION, b"\6\x09" * 1100))
        host.wait(lambda: "hard-reset" in host.neighbor("leaf1")["last_error"], "the reason")
        assert host.neighbor("leaf1")["last_error"].endswith("cease/hard-reset (cease/hard-reset)")


def test_sessions_that_end_as_they_begin_while_routes_go_out_cost_themselves_only(
    host: Host, fabric: Fabric, leaf2: Frr
) -> None:
    """leaf1 hears leaf2's routes, which come and go meanwhile."""
    with unharmed(host):
        for turn in range(12):
            with WirePeer(fabric.leaf1) as peer:
                connection = peer.accept()
                connection.sendall(open_message(65201) + message(KEEPALIVE) + message(NOTIFICATION, b"\6\4"))
                announce(leaf2, *(f"10.{30 + number}.0.0/16" for number in range(8)), withdraw=bool(turn % 2))
                host.wait(
                    lambda: host.neighbor("leaf1")["last_error"].endswith("sent cease/administrative-reset"), "it"
                )


def test_idle_connections_of_a_leafs_address_keep_nobody_out(host: Host, fabric: Fabric) -> None:
    with unharmed(host), WirePeer(fabric.leaf1) as peer, contextlib.ExitStack() as idle:
        connection = peer.establish()
        with fabric.leaf1.entered():
            for _ in range(300):
                sock = idle.enter_context(socket.socket())
                sock.bind(("10.0.1.2", 0))
                with contextlib.suppress(ConnectionError):
                    sock.connect(("10.0.1.1", 179))
        host.wait(lambda: host.metric("bgpd_connections_refused_total") > 250, "what waits to be refused")
        connection.sendall(update(("10.20.0.0/16",), asn=65201))
        host.wait_hops("10.20.0.0/16", "10.0.1.2%eth0")


def test_a_daemon_without_descriptors_goes_on(host: Host, fabric: Fabric) -> None:
    """No number below the limit is free, but for what closes meanwhile; the reserve is below it."""
    pid = host.health()["pid"]
    with unharmed(host), WirePeer(fabric.leaf1) as peer, contextlib.ExitStack() as clients:
        connection = peer.establish()
        used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
        free = next(number for number in itertools.count() if number not in used)
        former = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, former[1]))
        try:
            with fabric.leaf1.entered():
                for _ in range(6):
                    sock = clients.enter_context(socket.socket())
                    sock.bind(("10.0.1.2", 0))
                    sock.settimeout(5)
                    with contextlib.suppress(OSError):
                        sock.connect(("10.0.1.1", 179))
            with contextlib.suppress(OSError):
                while sock.recv(4096):
                    pass
            with pytest.raises(LabError):
                host.request("/v1/health")
            connection.sendall(update(("10.21.0.0/16",), asn=65201))
            host.wait_hops("10.21.0.0/16", "10.0.1.2%eth0")
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, former)
        host.wait(lambda: host.metric("bgpd_descriptors_exhausted_total") > 0, "the count")
        assert any("out of file descriptors" in warning for warning in host.health()["warnings"])


class DefectiveHost(Host):
    """bgpd with a decoder that raises on UPDATEs with MARK."""

    def start(self, *, wait: bool = True) -> None:
        (self.directory / "sitecustomize.py").write_text(DEFECT)
        command = (sys.executable, "-m", "bgpd", "run", "--config", str(self.config_path))
        process = self._start("env", *unit_environment(), f"PYTHONPATH={self.directory}", *command)
        self._wait_for_socket(self.socket_path, process)

    def __exit__(self, *exception: object) -> None:
        log = self.log_path.read_text()
        super(Host, self).__exit__(*exception)  # type: ignore[arg-type]
        assert "bgpd.defect" not in log


def test_a_defect_costs_the_session_that_uncovers_it(fabric: Fabric, host: Host, leaf2: Frr) -> None:
    host.terminate()
    bad = update(("10.20.0.0/16",), asn=65201, extra=MARK)
    neighbors = config(leaf(1, families=["ipv4-unicast"]), leaf(2))
    try:
        with (
            DefectiveHost(fabric.host, neighbors) as defective,
            unharmed(defective),
            WirePeer(fabric.leaf1) as peer,
        ):
            connection = peer.establish()
            connection.sendall(update(("10.21.0.0/16",), asn=65201))
            defective.wait_hops("10.21.0.0/16", "10.0.1.2%eth0")
            connection.sendall(bad)
            assert notification(connection) == (3, 0)
            defective.wait_hops("10.21.0.0/16")
            view = defective.neighbor("leaf1")
            assert (view["defects"], view["last_defect"]) == (1, "RecursionError: for the test")
            assert bytes.fromhex(view["last_defect_messages"]) == bad
            assert "refused for 5 s" in view["last_error"]
            assert defective.metric("bgpd_neighbor_defects_total", neighbor="leaf1") == 1
            (record,) = defective.log("session.defect")
            assert bytes.fromhex(record["messages"]) == bad
            again = peer.establish()
            again.sendall(bad)
            assert notification(again) == (3, 0)
            defective.wait(lambda: "refused for 10 s" in defective.neighbor("leaf1")["last_error"], "it")
    finally:
        host.start()
