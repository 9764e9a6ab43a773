"""EVPN with FRR: as relay between hosts, beside IPv4 with IPv6 next hops; and what tshark says of bgpd's messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.daemons import Bgpd, Frr
from labs.process import run_command, wait_until
from tests.interop.evpn_fabric import BLUE, MAC, EvpnFabric, add_vm, evpn, host_config, kernel_routes, static, vrf

pytestmark = pytest.mark.netns

ADDRESSES = ("10.64.1.20/32", "2001:db8:64:1::20/128")
PREFIXES = ("10.64.0.0/24", "2001:db8:64::/64")
BY_PEER = ('resolve = "peer"', 'uplink_gateways = { "eth0.101" = ["10.1.1.254", "2001:db8:101::254"] }')


def relay(*lines: str) -> str:
    """The leaf: EVPN to both hosts, nothing of its own."""
    peers = [
        line
        for number, asn in ((1, 65203), (2, 65204))
        for line in (f" neighbor 10.0.{number}.1 remote-as {asn}", f" neighbor 10.0.{number}.1 timers connect 1")
    ]
    block = ["router bgp 65201", " bgp router-id 10.255.0.1", " no bgp ebgp-requires-policy"]
    block += [" no bgp default ipv4-unicast", *peers, *lines, " address-family l2vpn evpn"]
    block += [f"  neighbor 10.0.{number}.1 activate" for number in (1, 2)]
    return "\n".join([*block, " exit-address-family", "exit", ""])


@pytest.fixture(scope="module")
def fabric() -> Iterator[EvpnFabric]:
    with EvpnFabric() as made:
        made.leaf.addresses("br101", "10.1.1.254/24", "2001:db8:101::254/64")
        yield made


def paths(frr: Frr, rd: str) -> dict[str, dict[str, Any]]:
    """FRR's only path of each route with a route distinguisher, by FRR's name of the route."""
    answer = frr.vtysh_json("show bgp l2vpn evpn json").get(rd, {})
    return {name: route["paths"][0] for name, route in answer.items() if isinstance(route, dict)}


def names(mac: str, *ips: str) -> set[str]:
    return {f"[2]:[0]:[48]:[{mac}]:[{128 if ':' in ip else 32}]:[{ip}]" for ip in ips}


def prefix_names(*prefixes: str) -> set[str]:
    return {f"[5]:[0]:[{length}]:[{address}]" for address, length in (prefix.split("/") for prefix in prefixes)}


@pytest.mark.interop("FRR", "evpn-2", "evpn-5")
def test_frr_relays_what_one_host_announces_to_the_other(fabric: EvpnFabric) -> None:
    tables = (vrf("blue", *BY_PEER), *map(static, PREFIXES))
    with (
        Frr(fabric.leaf, relay()) as frr,
        fabric.bgpd(1, host_config(1, *tables)) as first,
        fabric.bgpd(2, host_config(2, vrf("blue", *BY_PEER))) as second,
    ):
        add_vm(first, *ADDRESSES, sticky=True)
        own = fabric.hosts[1].mac("eth0.101")
        hosts = [address.partition("/")[0] for address in ADDRESSES]
        expected = names(MAC, *hosts) | names(own, "10.1.1.1", "2001:db8:101::1") | prefix_names(*ADDRESSES, *PREFIXES)
        wait_until(lambda: paths(frr, "10.255.1.1:1001").keys() == expected, 10, "FRR to have all", logs=frr.logs)
        for name, path in paths(frr, "10.255.1.1:1001").items():
            sticky = " MM:0, sticky MAC" if MAC in name else ""
            assert path["extendedCommunity"]["string"] == f"RT:{BLUE} ET:8{sticky}"
            assert (path["path"], path["origin"], path["valid"]) == ("65203", "IGP", True)
            assert [hop["ip"] for hop in path["nexthops"]] == ["10.0.1.1"]
        heard = _heard_by_the_other(first, second)
        assert [heard[2, MAC, address]["labels"] for address in ADDRESSES] == [[5001], [5001]]
        assert f"rt:{BLUE}" in heard[5, "", PREFIXES[0]]["extended_communities"]
        assert "mac-mobility:0 sticky" in heard[2, MAC, ADDRESSES[0]]["extended_communities"]
        for address, gateway in zip(("10.64.1.20", "2001:db8:64:1::20"), ("10.1.1.254", "2001:db8:101::254")):
            wait_until(
                lambda address=address, gateway=gateway: (
                    gateway
                    in fabric.hosts[2].ip(
                        "route", "get", address, "from", "::" if ":" in address else "0.0.0.0", "oif", "eth0.101"
                    )
                ),
                5,
                f"host2 to forward {address}",
            )
        # FRR tells a host its own routes: nothing to warn of.
        assert "update.malformed" not in first.log_path.read_text()


def _heard_by_the_other(first: Bgpd, second: Bgpd) -> dict[tuple[int, str, str], dict[str, Any]]:
    """Wait until the second host has all routes of the first from FRR."""
    told = {place for place, path in evpn(first).items() if path["rd"] == "10.255.1.1:1001"}

    def heard() -> dict[tuple[int, str, str], dict[str, Any]]:
        return {place: path for place, path in evpn(second).items() if path["rd"] == "10.255.1.1:1001"}

    wait_until(lambda: heard().keys() == told, 10, f"the second host to have {told}", logs=second.logs)
    return heard()


def test_gateway_ip_is_cleared_by_frr_which_the_other_host_says(fabric: EvpnFabric) -> None:
    with (
        Frr(fabric.leaf, relay()),
        fabric.bgpd(1, host_config(1, vrf(), static(PREFIXES[0]))),
        fabric.bgpd(2, host_config(2, vrf())) as second,
    ):
        place = (5, "", PREFIXES[0])
        wait_until(lambda: place in evpn(second), 10, "the route", logs=second.logs)
        assert evpn(second)[place]["gateway_ip"] == ""
        assert "uplink_gateways" in evpn(second, "--unresolved")[place]["unresolved"]
        assert PREFIXES[0] not in kernel_routes(fabric.hosts[2])


def test_evpn_and_ipv4_with_ipv6_next_hops_share_a_session(fabric: EvpnFabric) -> None:
    config = """
router bgp 65201
 bgp router-id 10.255.0.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 no bgp default ipv4-unicast
 neighbor 2001:db8:1::1 remote-as 65203
 neighbor 2001:db8:1::1 timers connect 1
 neighbor 2001:db8:1::1 capability extended-nexthop
 address-family ipv4 unicast
  neighbor 2001:db8:1::1 activate
  network 10.9.0.0/16
 exit-address-family
 address-family l2vpn evpn
  neighbor 2001:db8:1::1 activate
 exit-address-family
exit
"""
    families = ("ipv4-unicast", "l2vpn-evpn")
    host = host_config(1, vrf(), static(PREFIXES[0]), families=families)
    host = host.replace('address = "10.0.1.0"', 'address = "2001:db8:1::2"')
    main = '\n[[workload.static]]\nid = "main"\nprefix = "10.64.200.0/24"\ninterface = "eth0"\n'
    with Frr(fabric.leaf, config) as frr, fabric.bgpd(1, host + main) as bgpd:
        wait_until(bgpd.established, 10, "the session", logs=[*bgpd.logs, *frr.logs])
        wait_until(lambda: "10.9.0.0/16" in kernel_routes(fabric.hosts[1], 254), 10, "the IPv4 route", logs=bgpd.logs)
        (route,) = bgpd.show("routes", "--prefix", "10.9.0.0/16")
        assert route["candidates"][0]["next_hop"].startswith(("fe80:", "2001:db8:1::2"))
        wait_until(lambda: prefix_names(PREFIXES[0]) <= paths(frr, "10.255.1.1:1001").keys(), 10, "FRR to have type 5")
        hops = frr.vtysh_json("show bgp ipv4 unicast 10.64.200.0/24 json")["paths"][0]["nexthops"]
        assert "2001:db8:1::1" in {hop["ip"] for hop in hops}


def test_tshark_finds_nothing_malformed_in_what_bgpd_sends(fabric: EvpnFabric, tmp_path: Path) -> None:
    capture = tmp_path / "bgp.pcap"
    with (
        Frr(fabric.leaf, relay()) as frr,
        fabric.bgpd(1, host_config(1, vrf(), *map(static, PREFIXES), families=("l2vpn-evpn", "route-target"))) as bgpd,
    ):
        dump = fabric.leaf.popen(
            "tcpdump", "-U", "--immediate-mode", "-i", "swp1", "-w", str(capture), "tcp port 179 and src 10.0.1.1",
            log_path=tmp_path / "tcpdump.log",
        )  # fmt: skip
        wait_until(lambda: capture.exists(), 5, "tcpdump to listen")
        bgpd.terminate()
        bgpd.start()
        wait_until(bgpd.established, 10, "the session", logs=bgpd.logs)
        add_vm(bgpd, *ADDRESSES, sticky=True)
        expected = prefix_names(*ADDRESSES, *PREFIXES)
        wait_until(lambda: expected <= paths(frr, "10.255.1.1:1001").keys(), 10, "FRR to have all", logs=frr.logs)
        bgpd.cli("workload", "del", "vm")
        wait_until(lambda: not names(MAC, "10.64.1.20") & paths(frr, "10.255.1.1:1001").keys(), 10, "the withdrawal")
        dump.stop()
    seen = run_command(["tshark", "-r", str(capture), "-T", "fields", "-e", "bgp.evpn.nlri.rt", "-Y", "bgp.type == 2"])
    types = {kind for line in seen.split() for kind in line.split(",")}
    assert {"2", "5"} <= types
    wrong = "_ws.malformed || _ws.expert.severity == error || _ws.expert.severity == warning"
    said = run_command(["tshark", "-r", str(capture), "-Y", f"bgp && ({wrong})", "-V"])
    assert not said, said[-3000:]
