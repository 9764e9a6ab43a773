"""Guests of the host: what BGP speakers on it announce becomes claims, and nothing else of it reaches a leaf."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from labs.daemons import Frr
from labs.process import LabError
from tests.daemon.fabric import (
    Fabric,
    Host,
    announce,
    frr_paths,
    heard_from_host,
    kernel_hops,
    kernel_routes,
    leaf,
    table,
)
from tests.daemon.managed import ManagedHost, managed
from tests.daemon.wire_guest import WireGuest, connected
from tests.daemon.wire_peer import (
    KEEPALIVE,
    Restart,
    attribute,
    message,
    notification,
    open_message,
    update,
    withdrawal,
)

pytestmark = pytest.mark.netns

COMMUNITY = attribute(0xC0, 8, bytes.fromhex("fe000001")) + attribute(0x80, 4, bytes.fromhex("000003e8"))
"""65024:1, and MED 1000."""
BLOCK = table("[[aggregate]]", prefix="10.9.6.0/26")


def guest(name: str, address: str, *prefixes: str, **fields: object) -> str:
    values = {
        "asn": "external",
        "prefixes": prefixes or ["10.9.9.0/24 le 32"],
        "max_prefixes": 10,
        "connect_retry_s": 1,
        **fields,
    }
    return table("[[workload.bgp]]", name=name, address=address, **values)


LEAF = leaf(1, graceful_restart={})
ONE = guest("one", "127.0.0.2", communities="keep", med="keep")
MANY = guest("many", "10.70.0.128/25", "10.9.8.0/24 le 32")
BOX = guest("box", "10.70.0.2", "10.9.0.0/16 ge 16 le 32", "10.0.1.0/24 le 32", interface="pod1")
STRICT = guest("strict", "127.0.0.3", asn=65203, next_hop="local", port=1790)
TABLES = (LEAF, ONE, MANY, BOX, STRICT, BLOCK)


@pytest.fixture(scope="module")
def network(fabric: Fabric) -> Fabric:
    fabric.host.addresses("pod1", "10.70.0.1/24", "2001:db8:70::1/64")
    fabric.pods.addresses("pod1", *(f"10.70.0.{last}/24" for last in (2, 129, 130)), "2001:db8:70::2/64")
    return fabric


@pytest.fixture(scope="module")
def host(network: Fabric, frr: Frr) -> Iterator[ManagedHost]:
    with managed(network, *TABLES) as host:
        host.wait_established("leaf1")
        yield host


def claims(host: Host, prefix: str) -> list[dict[str, Any]]:
    """The claims of a prefix, its holder first."""
    return [view for view in host.get("workloads") if view["prefix"] == prefix]


def refused(host: Host, name: str) -> dict[str, str]:
    """Why each prefix that a guest announces is refused."""
    return {view["prefix"]: view["rejected"] for view in host.get("received", neighbor=name) if view["rejected"]}


def wait_heard(host: Host, frr: Frr, *prefixes: str) -> None:
    for prefix in prefixes:
        host.wait(lambda prefix=prefix: heard_from_host(frr, prefix), f"the leaf to hear {prefix}")  # type: ignore[misc]


def wait_lost(host: Host, frr: Frr, *prefixes: str) -> None:
    for prefix in prefixes:
        host.wait(lambda prefix=prefix: not frr_paths(frr, prefix), f"the leaf to lose {prefix}")  # type: ignore[misc]


def test_a_guest_on_loopback_is_a_workload_and_explained(host: Host, fabric: Fabric, frr: Frr) -> None:
    with WireGuest(fabric.host, asn=64512) as one:
        one.announce("10.9.9.1/32", extra=COMMUNITY)
        wait_heard(host, frr, "10.9.9.1/32")
        (view,) = claims(host, "10.9.9.1/32")
        assert (view["source"], view["id"], view["guests"]) == ("bgp", "one/10.9.9.1/32", ["one"])
        assert (view["state"], view["neighbors"]) == ("announced", ["leaf1"])
        (path,) = frr_paths(frr, "10.9.9.1/32")
        assert (path["aspath"]["string"], path["community"]["string"], path["metric"]) == ("65203", "65024:1", 1000)
        assert kernel_hops(fabric.host, "10.9.9.1") == []
        found = host.explain("10.9.9.1")
        assert "as said by guest one" in found["verdict"]
        assert "one" in [neighbor["name"] for neighbor in found["neighbors"]], "leaf1 may have sent the route back"
        assert found["guest"]["candidates"][0]["next_hop"] == "127.0.0.2"
        one.announce("10.9.10.1/32")
        host.wait(lambda: "10.9.10.1/32" in refused(host, "one"), "it to be refused")
        assert "its prefixes do not permit it" in host.explain("10.9.10.1")["verdict"]
        assert "guest one announces it, but its prefixes do not permit it" in host.cli(
            "why-not", "10.9.10.1/32", check=False
        )
        assert "nothing is missing" in host.cli("why-not", "10.9.9.1/32")
        assert host.get("what-if", down="leaf1")["neighbors_left"] == []
    wait_lost(host, frr, "10.9.9.1/32")
    host.wait(lambda: not host.get("workloads"), "the claims to go")
    assert host.neighbor("one")["state"] != "established"


def test_a_guest_behind_an_interface_is_routed_to_and_leaks_nothing(host: Host, fabric: Fabric, frr: Frr) -> None:
    """The default route, the leaf's address and network, this host's block, one below and one above it."""
    announce(frr, "10.9.20.1/32")
    with WireGuest(fabric.pods, asn=64512, source="10.70.0.2", to="10.70.0.1") as box:
        leaks = {"0.0.0.0/0", "10.9.6.0/26", "10.9.6.0/24", "10.9.0.0/16", "10.10.0.1/32"}
        of_leaf = {"10.0.1.2/32", "10.0.1.0/24"}
        box.announce("10.9.7.1/32", "10.9.6.9/32", *leaks, *of_leaf, next_hop="10.0.1.2")
        wait_heard(host, frr, "10.9.7.1/32", "10.9.6.9/32")
        assert kernel_hops(fabric.host, "10.9.7.1") == ["10.70.0.2%pod1"]
        assert set(refused(host, "box")) == leaks
        assert "a block that this host announces" in refused(host, "box")["10.9.6.0/26"]
        assert [prefix for prefix in leaks | of_leaf if heard_from_host(frr, prefix)] == ["10.9.6.0/26"], "its own"
        for prefix in of_leaf:
            (view,) = claims(host, prefix)
            assert (view["state"], view["announced"]) == ("failed", False)
            assert "10.0.1.2, neighbor leaf1" in view["reason"]
            assert prefix.split("/")[0] not in kernel_routes(fabric.host)
        assert host.neighbor("leaf1")["flaps"] == 0
        fabric.host.ip("link", "set", "pod1", "down")
        wait_lost(host, frr, "10.9.7.1/32")
        fabric.host.ip("link", "set", "pod1", "up")
    wait_lost(host, frr, "10.9.6.9/32")
    host.wait(lambda: kernel_hops(fabric.host, "10.9.7.1") == [], "the route to go")
    announce(frr, "10.9.20.1/32", withdraw=True)


def test_guests_of_a_range_share_an_address(host: Host, fabric: Fabric, frr: Frr) -> None:
    sources = ("10.70.0.129", "10.70.0.130")
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(WireGuest(fabric.pods, asn=64512, source=one, to="10.70.0.1", router_id=(10, 1, 1, at)))
            for at, one in enumerate(sources, 1)
        )
        first.announce("10.9.8.1/32", "10.9.8.2/32")
        second.announce("10.9.8.1/32")
        wait_heard(host, frr, "10.9.8.1/32", "10.9.8.2/32")
        host.wait_hops("10.9.8.1/32", *(f"{one}%pod1" for one in sources))
        assert claims(host, "10.9.8.1/32")[0]["guests"] == [f"many-{one}" for one in sources]
        second.close()
        host.wait_hops("10.9.8.1/32", "10.70.0.129%pod1")
        first.withdraw("10.9.8.2/32")
        wait_lost(host, frr, "10.9.8.2/32")
        assert heard_from_host(frr, "10.9.8.1/32")


def test_the_next_hop_must_be_local_where_that_is_said(host: Host, fabric: Fabric, frr: Frr) -> None:
    with WireGuest(fabric.host, asn=65203, source="127.0.0.3", port=1790, router_id=(10, 1, 1, 3)) as strict:
        local_pref = attribute(0x40, 5, bytes.fromhex("00000064"))
        empty = attribute(0x40, 2, b"")
        strict.announce("10.9.9.3/32", next_hop="127.0.0.3", extra=local_pref, as_path=empty)
        strict.announce("10.9.9.4/32", next_hop="10.0.1.2", extra=local_pref, as_path=empty)
        wait_heard(host, frr, "10.9.9.3/32")
        host.wait(lambda: "10.9.9.4/32" in refused(host, "strict"), "a next hop elsewhere to be refused")
        assert "neither this host nor beside the guest" in refused(host, "strict")["10.9.9.4/32"]
        assert not frr_paths(frr, "10.9.9.4/32")


@pytest.mark.parametrize(
    ("source", "port", "opened", "code", "said"),
    [
        ("127.0.0.3", 1790, {"asn": 65203, "router_id": (10, 255, 1, 1)}, (2, 3), "strict"),
        ("127.0.0.2", 179, {"asn": 65203}, (2, 2), "one"),
    ],
    ids=["router ID of the host by iBGP", "AS number of the host where an external one is expected"],
)
def test_a_guest_that_is_set_up_wrong_is_told(
    host: Host, fabric: Fabric, source: str, port: int, opened: dict[str, Any], code: tuple[int, int], said: str
) -> None:
    connection = connected(fabric.host, source, "127.0.0.1", port)
    connection.sendall(open_message(**opened) + message(KEEPALIVE))
    assert notification(connection) == code
    connection.close()
    assert host.neighbor(said)["last_error"]


def test_a_stranger_on_loopback_is_refused(host: Host, fabric: Fabric) -> None:
    for source, port in (("127.0.0.9", 179), ("127.0.0.2", 1790), ("127.0.0.3", 179)):
        connection = connected(fabric.host, source, "127.0.0.1", port)
        connection.sendall(open_message(64512))
        with pytest.raises(LabError):
            notification(connection)
        connection.close()


def test_too_much_ends_the_guests_session_and_nothing_else(host: Host, fabric: Fabric, frr: Frr) -> None:
    with WireGuest(fabric.host, asn=64512) as one:
        one.announce("10.9.9.1/32")
        wait_heard(host, frr, "10.9.9.1/32")
        with contextlib.suppress(OSError):
            one.announce(*(f"10.{100 + (n >> 16)}.{n >> 8 & 255}.{n & 255}/32" for n in range(100_000)))
        host.wait(lambda: host.neighbor("one")["state"] != "established", "the session to end")
    assert "more than max_prefixes" in host.neighbor("one")["last_error"]
    wait_lost(host, frr, "10.9.9.1/32")
    assert host.neighbor("leaf1")["flaps"] == 0
    assert not host.get("workloads")
    host.reload_with(LEAF, guest("one", "127.0.0.2", max_prefixes_action="discard", communities="keep"), BLOCK)
    with WireGuest(fabric.host, asn=64512) as one:
        one.announce(*(f"10.9.9.{last}/32" for last in range(1, 31)))
        host.wait(lambda: len(host.get("workloads")) == 10, "ten to be taken")
        counts = host.neighbor("one")["families"]["ipv4-unicast"]
        assert (counts["received"], counts["discarded"]) == (10, 20)
    host.reload_with(*TABLES)


def test_claims_of_a_guest_stay_while_it_restarts(host: Host, fabric: Fabric, frr: Frr) -> None:
    with WireGuest(fabric.host, asn=64512, restart=Restart(time_s=60)) as one:
        one.announce("10.9.9.1/32", "10.9.9.2/32")
        one.end_of_rib()
        wait_heard(host, frr, "10.9.9.1/32", "10.9.9.2/32")
    host.wait(lambda: host.neighbor("one")["stale_routes"] == 2, "its routes to be stale")
    since = {prefix: frr_paths(frr, prefix)[0]["version"] for prefix in ("10.9.9.1/32", "10.9.9.2/32")}
    with WireGuest(fabric.host, asn=64512, restart=Restart(time_s=60, restarted=True)) as one:
        one.announce("10.9.9.1/32")
        one.end_of_rib()
        wait_lost(host, frr, "10.9.9.2/32")
        assert frr_paths(frr, "10.9.9.1/32")[0]["version"] == since["10.9.9.1/32"], "nothing was said of it"
        host.reload_with(*(one for one in TABLES if one is not ONE))
        wait_lost(host, frr, "10.9.9.1/32")
    host.reload_with(*TABLES)


def test_the_first_claim_of_an_address_holds_it(host: Host, fabric: Fabric, frr: Frr) -> None:
    static = table("[[workload.static]]", prefix="10.9.9.1/32", interface="pod2")
    fabric.host.ip("link", "set", "pod2", "up")
    fabric.pods.ip("link", "set", "pod2", "up")
    with WireGuest(fabric.host, asn=64512) as one:
        one.announce("10.9.9.1/32", extra=COMMUNITY)
        wait_heard(host, frr, "10.9.9.1/32")
        host.reload_with(*TABLES, static)
        host.wait(lambda: len(claims(host, "10.9.9.1/32")) == 2, "both to claim it")
        assert [(view["source"], view["announced"]) for view in claims(host, "10.9.9.1/32")] == [
            ("bgp", True),
            ("static", False),
        ]
        one.withdraw("10.9.9.1/32")
        host.wait_hops("10.9.9.1/32", "pod2")
        one.announce("10.9.9.1/32", extra=COMMUNITY)
        host.wait(lambda: claims(host, "10.9.9.1/32")[-1]["state"] == "conflict", "the guest to come second")
        assert "community" not in frr_paths(frr, "10.9.9.1/32")[0]
        host.reload_with(*TABLES)
        host.wait(lambda: "community" in (frr_paths(frr, "10.9.9.1/32") or [{}])[0], "the guest's to follow")


def test_an_alarm_tells_of_another_host_with_the_address_unless_that_is_meant(
    host: Host, fabric: Fabric, frr: Frr
) -> None:
    announce(frr, "10.9.9.1/32")
    with WireGuest(fabric.host, asn=64512) as one:
        one.announce("10.9.9.1/32")
        host.wait(lambda: claims(host, "10.9.9.1/32")[0]["also_announced_by"] == ["leaf1"], "an alarm")
        assert any("10.9.9.1/32" in text for text in host.health()["warnings"])
        host.reload_with(LEAF, guest("one", "127.0.0.2", communities="keep", med="keep", anycast=True), *TABLES[2:])
        host.wait(lambda: claims(host, "10.9.9.1/32")[0]["also_announced_by"] == [], "no alarm")
        assert not any("10.9.9.1/32" in text for text in host.health()["warnings"])
        host.reload_with(*TABLES)
    announce(frr, "10.9.9.1/32", withdraw=True)


def test_a_reload_narrows_what_a_guest_may_say(host: Host, fabric: Fabric, frr: Frr) -> None:
    with WireGuest(fabric.host, asn=64512) as one:
        one.announce("10.9.9.1/32", "10.9.9.200/32", extra=COMMUNITY)
        wait_heard(host, frr, "10.9.9.1/32", "10.9.9.200/32")
        narrow = guest("one", "127.0.0.2", "10.9.9.0/25 le 32")
        host.reload_with(LEAF, narrow, BLOCK)
        wait_lost(host, frr, "10.9.9.200/32")
        host.wait(lambda: "community" not in frr_paths(frr, "10.9.9.1/32")[0], "the community to go")
        host.reload_with(LEAF, ONE, table("[[aggregate]]", prefix="10.9.9.64/26"))
        wait_heard(host, frr, "10.9.9.200/32")
        assert host.neighbor("one")["flaps"] == host.neighbor("one")["established_count"] - 1
        host.reload_with(*TABLES)


def test_a_guest_does_not_notice_a_hand_over(host: ManagedHost, fabric: Fabric, frr: Frr) -> None:
    with (
        WireGuest(fabric.host, asn=64512) as one,
        WireGuest(fabric.pods, asn=64513, source="10.70.0.129", to="10.70.0.1") as of_many,
    ):
        one.announce("10.9.9.101/32", extra=COMMUNITY)
        of_many.announce("10.9.8.101/32")
        wait_heard(host, frr, "10.9.9.101/32", "10.9.8.101/32")
        began = host.neighbor("one")["since"]
        before, since = host.pid(), frr_paths(frr, "10.9.9.101/32")[0]["version"]
        host.hand_over()
        assert host.pid() != before
        assert {"leaf1", "one", "many-10.70.0.129"} <= set(host.established())
        assert host.neighbor("one")["since"] == began
        one.announce("10.9.9.102/32")
        wait_heard(host, frr, "10.9.9.102/32")
        assert frr_paths(frr, "10.9.9.101/32")[0]["version"] == since
        one.withdraw("10.9.9.101/32")
        wait_lost(host, frr, "10.9.9.101/32")


def test_claims_of_a_guest_that_restarts_meanwhile_stay_over_a_hand_over(
    host: ManagedHost, fabric: Fabric, frr: Frr
) -> None:
    """Its session is over then: only what is kept for it says that they are here."""
    with WireGuest(fabric.host, asn=64512, restart=Restart(time_s=60)) as one:
        one.announce("10.9.9.111/32", "10.9.9.112/32")
        one.end_of_rib()
        wait_heard(host, frr, "10.9.9.111/32", "10.9.9.112/32")
    host.wait(lambda: host.neighbor("one")["stale_routes"] == 2, "its routes to be stale")
    since = frr_paths(frr, "10.9.9.111/32")[0]["version"]
    host.hand_over()
    assert host.neighbor("one")["stale_routes"] == 2
    with WireGuest(fabric.host, asn=64512, restart=Restart(time_s=60, restarted=True)) as one:
        one.announce("10.9.9.111/32")
        one.end_of_rib()
        wait_lost(host, frr, "10.9.9.112/32")
        assert frr_paths(frr, "10.9.9.111/32")[0]["version"] == since, "nothing was said of it"
        one.withdraw("10.9.9.111/32")
        wait_lost(host, frr, "10.9.9.111/32")


def test_half_a_message_of_a_guest_before_a_hand_over_and_half_after(
    host: ManagedHost, fabric: Fabric, frr: Frr
) -> None:
    with WireGuest(fabric.host, asn=64512, is_quiet=True, hold_time_s=90) as one:
        one.announce("10.9.9.101/32", extra=COMMUNITY)
        wait_heard(host, frr, "10.9.9.101/32")
        began = host.neighbor("one")["since"]
        whole = update(("10.9.9.103/32",), asn=64512, next_hop="127.0.0.2")
        received = host.neighbor("one")["messages_received"]
        one.socket.sendall(withdrawal("10.9.9.101/32") + whole[:30])
        host.wait(lambda: host.neighbor("one")["messages_received"] > received, "the whole message")
        host.hand_over()
        one.socket.sendall(whole[30:])
        wait_heard(host, frr, "10.9.9.103/32")
        wait_lost(host, frr, "10.9.9.101/32")
        assert host.neighbor("one")["since"] == began
