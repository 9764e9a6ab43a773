"""Sessions with guests by other ways than IPv4 loopback, signed ones, and what a restart of bgpd costs their claims."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bgpd.speaker.socket_options import set_md5_key
from labs.daemons import Frr
from labs.process import LabError
from tests.daemon.fabric import Fabric, announce, frr_paths, heard_from_host, kernel_hops, leaf, started, table
from tests.daemon.wire_guest import WireGuest
from tests.daemon.wire_peer import Restart

pytestmark = pytest.mark.netns

SECRET = b"secret"


def guest(name: str, address: str, **fields: object) -> str:
    values = {
        "asn": "external",
        "prefixes": ["10.9.9.0/24 le 32", "2001:db8:9::/64 le 128"],
        "max_prefixes": 10,
        "connect_retry_s": 1,
        **fields,
    }
    return table("[[workload.bgp]]", name=name, address=address, **values)


def signed(sock: socket.socket, to: str) -> None:
    set_md5_key(sock, socket.inet_aton(to), 32, SECRET)


def test_ipv6_link_local_and_signed_guests(fabric: Fabric, frr: Frr, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET + b"\n")
    secret.chmod(0o600)
    for namespace, address in ((fabric.host, "fe80::1/64"), (fabric.pods, "fe80::2/64")):
        namespace.ip("link", "set", "pod1", "up")
        namespace.ip("-6", "address", "add", address, "dev", "pod1", "nodad")
    guests = [
        guest("six", "::1"),
        guest("link", "fe80::2", interface="pod1"),
        guest("key", "127.0.0.2", password_file=str(secret)),
        guest("port", "127.0.0.2", password_file=str(secret), port=1790),
        guest("range", "127.0.1.0/24", password_file=str(secret), port=1791),
    ]
    with started(fabric, leaf(1), *guests) as host:
        host.wait_established("leaf1")
        with (
            WireGuest(fabric.host, asn=64512, source="::1", to="::1") as six,
            WireGuest(
                fabric.pods, asn=64513, source="fe80::2%pod1", to="fe80::1%pod1", router_id=(10, 1, 1, 2)
            ) as link,
            WireGuest(fabric.host, asn=64514, sign=signed) as key,
            WireGuest(fabric.host, asn=64515, port=1790, sign=signed) as port,
            WireGuest(fabric.host, asn=64516, source="127.0.1.9", port=1791, sign=signed) as many,
        ):
            host.wait_established("six", "link", "key", "port", "range-127.0.1.9")
            for at, one in enumerate((six, link, key, port, many), 1):
                one.announce(f"10.9.9.{at}/32", next_hop="192.0.2.1")
            for at in range(1, 6):
                host.wait(lambda at=at: heard_from_host(frr, f"10.9.9.{at}/32"), f"the leaf to hear {at}")  # type: ignore[misc]
            assert kernel_hops(fabric.host, "10.9.9.2") == ["fe80::2%pod1"]
            assert host.neighbor("key")["authentication"] == "md5"
        with pytest.raises((LabError, OSError)):
            WireGuest(fabric.host, asn=64514, patience_s=1.0)
        host.reload_with(leaf(1), guests[0], guest("link", "fe80::/64", interface="pod1"))
        host.wait(lambda: "range-127.0.1.9" not in host.established(), "guests that are removed to go")
        with pytest.raises((LabError, OSError)):
            WireGuest(fabric.host, asn=64515, port=1790, patience_s=1.0)
        with WireGuest(fabric.pods, asn=64513, source="fe80::2%pod1", to="fe80::1%pod1", router_id=(10, 1, 1, 2)):
            host.wait_established("link-fe80::2%pod1")


def test_a_restart_of_bgpd_waits_for_guests_before_the_leaf_is_told_that_all_is_said(fabric: Fabric, frr: Frr) -> None:
    """The leaf keeps what it had; without the wait it would lose the address until the guest is back."""
    tables = (leaf(1, graceful_restart={}), guest("one", "127.0.0.3"))
    with started(fabric, *tables) as host:
        host.wait_ready()
        with WireGuest(fabric.host, asn=64512, source="127.0.0.3") as one:
            one.announce("10.9.9.1/32")
            host.wait(lambda: heard_from_host(frr, "10.9.9.1/32"), "the leaf to hear it")
        with WireGuest(fabric.host, asn=64512, source="127.0.0.3", restart=Restart()) as one:
            one.announce("10.9.9.1/32")
            one.end_of_rib()
            host.wait(lambda: heard_from_host(frr, "10.9.9.1/32"), "the leaf to hear it again")
            version = frr_paths(frr, "10.9.9.1/32")[0]["version"]
            host.kill()
        host.start()
        host.wait(lambda: "leaf1" in host.established(), "the session with the leaf")
        assert not host.health()["ready"]
        with WireGuest(fabric.host, asn=64512, source="127.0.0.3", restart=Restart()) as one:
            one.announce("10.9.9.1/32")
            one.end_of_rib()
            host.wait_ready()
            host.wait(lambda: not frr_paths(frr, "10.9.9.1/32")[0].get("stale", False), "the leaf to have it anew")
            assert frr_paths(frr, "10.9.9.1/32")[0]["version"] == version


def test_a_guest_connects_from_an_address_of_the_host_that_is_in_the_network_of_an_interface(
    fabric: Fabric, frr: Frr
) -> None:
    """Packets between the two never see that interface. And a guest at the loopback keeps no learned route from the
    kernel that covers it, beside another program's default route."""
    fabric.host.addresses("pod1", "10.70.0.1/24")
    fabric.host.addresses("lo", "10.70.0.99/32", "10.255.1.1/32")
    fabric.host.ip("route", "add", "default", "via", "10.70.0.77")
    with started(fabric, leaf(1), guest("own", "10.70.0.99"), guest("loop", "10.255.1.1")) as host:
        with WireGuest(fabric.host, asn=64513, source="10.255.1.1", to="127.0.0.1", router_id=(10, 1, 1, 3)):
            host.wait_established("leaf1", "loop")
            announce(frr, "10.255.1.0/24")
            host.wait_hops("10.255.1.0/24", "10.0.1.2%eth0")
        with WireGuest(fabric.host, asn=64512, source="10.70.0.99", to="10.70.0.1") as own:
            own.announce("10.9.9.1/32")
            host.wait(lambda: heard_from_host(frr, "10.9.9.1/32"), "the leaf to hear it")
            fabric.host.ip("link", "set", "pod1", "down")
            host.wait(lambda: host.neighbor("leaf1")["state"] == "established", "the leaf")
            assert host.neighbor("own")["interface"] == ""
            own.announce("10.9.9.2/32")
            host.wait(lambda: heard_from_host(frr, "10.9.9.2/32"), "the session to go on")
    fabric.host.batch(
        "addr del 10.70.0.1/24 dev pod1",
        "link set pod1 up",
        "addr del 10.70.0.99/32 dev lo",
        "addr del 10.255.1.1/32 dev lo",
    )


def test_an_address_that_guest_kernel_and_api_claim_has_one_holder_and_goes_to_the_next(
    fabric: Fabric, frr: Frr
) -> None:
    """The first one holds it. Then the API has it, by another interface than the kernel's route: nobody announces what
    two say differently, until one of them goes."""
    address = "10.9.9.77/32"

    def claims() -> list[tuple[str, bool]]:
        """Source, and whether it is announced by it; a conflict is shown on all."""
        return [(view["source"], view["announced"]) for view in host.get("workloads") if view["prefix"] == address]

    def api_reason() -> str:
        (reason,) = [view["reason"] for view in host.get("workloads") if view["source"] == "api"]
        return str(reason)

    kernel = table("[workload.kernel]", interfaces=["pod2"])
    with started(fabric, leaf(1), guest("one", "127.0.0.2"), kernel, table("[workload.api]")) as host:
        host.wait_established("leaf1")
        with WireGuest(fabric.host, asn=64512) as one:
            one.announce(address)
            host.wait(lambda: heard_from_host(frr, address), "the leaf to hear it")
            said = ["workload", "add", "vm", "--address", address, "--interface", "pod1", "--timeout", "0"]
            host.cli(*said, check=False)
            fabric.host.ip("route", "add", address, "dev", "pod2", "proto", "99")
            host.wait(lambda: len(claims()) == 3, "all three to claim it")
            assert claims()[0] == ("bgp", True)
            assert [is_announced for _, is_announced in claims()[1:]] == [False, False]
            assert {view["state"] for view in host.get("workloads")} == {"conflict"}
            one.withdraw(address)
            host.wait(lambda: claims() == [("api", False), ("kernel", False)], "the guest's claim to go")
            assert api_reason() == "another program's route of it leads to pod2"
            fabric.host.ip("link", "set", "pod1", "down")
            host.wait(lambda: api_reason() == "interface pod1 is down", "that which comes before to be said")
            assert claims() == [("api", False), ("kernel", False)]
            fabric.host.ip("link", "set", "pod1", "up")
            host.wait(lambda: "leads to pod2" in api_reason(), "the rest to be said again")
            host.wait(lambda: not frr_paths(frr, address), "the leaf to lose it")
            host.cli("workload", "del", "vm")
            host.wait(lambda: claims() == [("kernel", True)], "the kernel's route to be left")
            host.wait(lambda: heard_from_host(frr, address), "the leaf to have it")
            fabric.host.ip("route", "del", address, "dev", "pod2")
            host.wait(lambda: not frr_paths(frr, address), "the leaf to lose it")
