"""VRFs of a whole daemon with a GoBGP leaf: reload, a router in a VRF, moves that contradict, routes to nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import pytest

from labs.daemons import Bgpd, Bird, Gobgp
from labs.process import LoggedProcess, wait_until
from tests.interop.evpn_fabric import BLUE, MAC, RED, EvpnFabric, add_vm, evpn, host_config, kernel_routes, static, vrf
from tests.interop.test_evpn_gobgp import gobgp_config, table

pytestmark = pytest.mark.netns

VM = "10.64.1.20/32"
WAIT_S = 30.0


@pytest.fixture
def gobgp(fabric: EvpnFabric) -> Iterator[Gobgp]:
    with Gobgp(fabric.leaf, gobgp_config("l2vpn-evpn")) as made:
        yield made


def tell(gobgp: Gobgp, *words: str, target: str = BLUE, rd: str = "10.255.2.2:1001", do: str = "add") -> None:
    """Have the leaf announce a route, or withdraw it."""
    gobgp.run("global", "rib", do, "-a", "evpn", *words, "etag", "0", "label", "5001", "rd", rd, "rt", target)


def apply(bgpd: Bgpd, config: str) -> None:
    """Another configuration, applied when this returns."""
    bgpd.write_config(config)
    assert "problem" not in bgpd.cli("reload").lower()


def in_kernel(fabric: EvpnFabric, number: int, prefix: str, kernel_table: int = 1001) -> bool:
    return prefix in kernel_routes(fabric.hosts[number], kernel_table)


def vrf_view(bgpd: Bgpd, name: str = "blue") -> dict[str, Any]:
    found: dict[str, Any] = next(view for view in bgpd.show("vrfs") if view["name"] == name)
    return found


def standing(bgpd: Bgpd) -> str:
    """What the VM is on a host: "held", or what the alarm says."""
    alarms = vrf_view(bgpd)["alarms"]
    return alarms[0]["standing"] if alarms else "held"


def vm_state(bgpd: Bgpd) -> str:
    return next((view["state"] for view in bgpd.show("workloads") if view["id"] == "vm"), "")


def watching(bgpd: Bgpd) -> LoggedProcess:
    """`ip monitor` of routes and rules, once it surely hears them."""
    host = bgpd.namespace
    watch = host.popen("ip", "-o", "monitor", "route", "rule", log_path=bgpd.directory / "monitor.log")

    def hears() -> bool:
        host.ip("route", "replace", "192.0.2.1", "dev", "lo", "table", "999")
        host.ip("route", "del", "192.0.2.1", "table", "999")
        return "table 999" in watch.log_path.read_text()

    wait_until(hears, WAIT_S, "ip monitor to hear")
    return watch


def ways_after_each(notifications: list[str], former: str) -> list[set[str]]:
    """The ways that the kernel had to one address after each notification of its routes; `former`: the one before."""
    ways = {former}
    states = []
    for line in notifications:
        way = "there" if "nhid" in line else "here"
        ways = ways - {way} if line.startswith("Deleted") else ways | {way}
        states.append(ways)
    return states


def test_a_vrf_comes_changes_and_goes_by_reload_and_another_notices_nothing(fabric: EvpnFabric, gobgp: Gobgp) -> None:
    host = fabric.hosts[1]
    blue = (vrf("blue"), static("10.64.0.0/24"))
    with fabric.bgpd(1, host_config(1, *blue)) as bgpd:
        tell(gobgp, "prefix", "10.64.3.0/24", "gw", "10.1.1.9")
        tell(gobgp, "prefix", "10.64.3.0/24", "gw", "10.2.1.9", target=RED, rd="10.255.2.2:1002")
        wait_until(lambda: in_kernel(fabric, 1, "10.64.3.0/24"), WAIT_S, "blue's route", logs=bgpd.logs)
        wait_until(lambda: (5, "", "10.64.0.0/24") in table(gobgp), WAIT_S, "blue's prefix at the leaf", logs=bgpd.logs)
        (before,) = bgpd.show("neighbors")
        watch = watching(bgpd)

        apply(bgpd, host_config(1, *blue, vrf("red"), static("10.64.0.0/24", tenant="red", interface="eth0.102")))
        wait_until(lambda: in_kernel(fabric, 1, "10.64.3.0/24", 1002), WAIT_S, "red's route", logs=bgpd.logs)
        rd = {"type": 1, "admin": "10.255.1.1", "assigned": 1002}
        wait_until(
            lambda: rd in [one["rd"] for one in table(gobgp).values()], WAIT_S, "red at the leaf", logs=bgpd.logs
        )
        wait_until(lambda: "lookup 1002" in host.ip("rule"), WAIT_S, "red's rules", logs=bgpd.logs)

        apply(bgpd, host_config(1, *blue, vrf("red").replace(f'import_rt = ["{RED}"]', 'import_rt = ["65201:99"]')))
        wait_until(lambda: not in_kernel(fabric, 1, "10.64.3.0/24", 1002), WAIT_S, "red without it", logs=bgpd.logs)

        apply(bgpd, host_config(1, *blue))
        wait_until(lambda: "lookup 1002" not in host.ip("rule"), WAIT_S, "red's rules to go", logs=bgpd.logs)
        wait_until(lambda: not kernel_routes(host, 1002), WAIT_S, "red's table to be empty", logs=bgpd.logs)
        wait_until(lambda: rd not in [one["rd"] for one in table(gobgp).values()], WAIT_S, "red gone", logs=bgpd.logs)

        watch.stop()
        touched = [line for line in watch.log_path.read_text().splitlines() if "1001" in line]
        assert not touched, touched
        assert in_kernel(fabric, 1, "10.64.3.0/24")
        (after,) = bgpd.show("neighbors")
        assert (after["state"], after["since"]) == ("established", before["since"])


def test_another_table_and_another_route_distinguisher_move_a_vrf_by_reload(fabric: EvpnFabric, gobgp: Gobgp) -> None:
    def told() -> list[dict[str, Any]]:
        return [one["rd"] for place, one in table(gobgp, "10.0.1.1").items() if place[0] == 5]

    red = (vrf("red"), static("10.64.0.0/24", tenant="red", interface="eth0.102"))
    blue = (vrf("blue"), static("10.64.1.0/24"))
    with fabric.bgpd(1, host_config(1, *blue, *red)) as bgpd:
        tell(gobgp, "prefix", "10.64.3.0/24", "gw", "10.1.1.9")
        wait_until(lambda: in_kernel(fabric, 1, "10.64.3.0/24"), WAIT_S, "blue's route", logs=bgpd.logs)
        apply(bgpd, host_config(1, blue[0].replace("table = 1001", "table = 1005"), blue[1], *red))
        wait_until(lambda: in_kernel(fabric, 1, "10.64.3.0/24", 1005), WAIT_S, "it in the new table", logs=bgpd.logs)
        wait_until(lambda: not kernel_routes(fabric.hosts[1], 1001), WAIT_S, "the old one to go", logs=bgpd.logs)
        distinguishers = [{"type": 1, "admin": "10.255.1.1", "assigned": number} for number in (1002, 1005)]
        key = itemgetter("assigned")
        wait_until(lambda: sorted(told(), key=key) == distinguishers, WAIT_S, "the new one at the leaf", logs=bgpd.logs)
        apply(bgpd, host_config(1, vrf("blue", 'rd = "65203:7"'), blue[1], *red))
        wait_until(lambda: in_kernel(fabric, 1, "10.64.3.0/24"), WAIT_S, "it back in its table", logs=bgpd.logs)
        own = {"type": 0, "admin": 65203, "assigned": 7}
        expected = [own, distinguishers[0]]
        wait_until(lambda: sorted(told(), key=key) == expected, WAIT_S, "the written one at the leaf", logs=bgpd.logs)


CE = """
router id 10.255.9.1;
protocol device {}
protocol static { ipv4; route 10.77.0.0/16 blackhole; }
protocol bgp host {
  local as 65300;
  neighbor 10.9.9.1 as 65203;
  connect retry time 1;
  ipv4 { import all; export all; };
}
"""
CE_NEIGHBOR = """
[[neighbor]]
name = "ce"
address = "10.9.9.2"
interface = "vm"
asn = 65300
vrf = "blue"
families = ["ipv4-unicast"]
import = "all"
export = "all"
connect_retry_s = 1
"""


def test_routes_of_a_router_in_a_vrf_are_passed_on_and_it_hears_those_of_the_fabric(
    fabric: EvpnFabric, gobgp: Gobgp
) -> None:
    fabric.hosts[1].addresses("vm", "10.9.9.1/30")
    fabric.ends.addresses("vm1", "10.9.9.2/30")
    blue = vrf("blue", 'originate = "all"').replace('["eth0.101"]', '["eth0.101", "vm"]')
    try:
        with (
            fabric.bgpd(1, host_config(1, blue, CE_NEIGHBOR)) as first,
            fabric.bgpd(2, host_config(2, vrf())) as second,
            Bird(fabric.ends, CE) as bird,
        ):
            wait_until(bird.established, WAIT_S, "the session in the VRF", logs=[*first.logs, *bird.logs])
            wait_until(lambda: in_kernel(fabric, 2, "10.77.0.0/16"), WAIT_S, "host2 to have it", logs=second.logs)
            route = evpn(second)[5, "", "10.77.0.0/16"]
            assert (route["as_path"], route["gateway_ip"]) == ("65201 65203 65300", "10.1.1.1")
            tell(gobgp, "prefix", "10.64.3.0/24", "gw", "10.1.1.9")
            wait_until(
                lambda: "10.64.3.0/24" in bird.birdc("show route"), WAIT_S, "the router to have it", logs=first.logs
            )
            assert "rt, 65201" not in bird.birdc("show route all 10.64.3.0/24")
            assert "10.77.0.0/16" not in kernel_routes(fabric.hosts[1], 254)
            bird.kill()
            wait_until(lambda: not in_kernel(fabric, 2, "10.77.0.0/16"), WAIT_S, "host2 to lose it", logs=second.logs)
    finally:
        fabric.hosts[1].ip("address", "flush", "dev", "vm")
        fabric.ends.ip("address", "flush", "dev", "vm1")


def test_of_two_hosts_with_one_sequence_the_lower_router_id_has_the_address(fabric: EvpnFabric, gobgp: Gobgp) -> None:
    with fabric.bgpd(1, host_config(1, vrf())) as bgpd:
        add_vm(bgpd, VM)
        tell(gobgp, "macadv", MAC, "10.64.1.20", rd="10.255.9.9:1001")
        wait_until(
            lambda: "the lower address wins" in str(vrf_view(bgpd)["alarms"]), WAIT_S, "the alarm", logs=bgpd.logs
        )
        assert vm_state(bgpd) == "announced"
        wait_until(lambda: (2, MAC, "10.64.1.20") in table(gobgp, "10.0.1.1"), WAIT_S, "the route", logs=bgpd.logs)
        tell(gobgp, "macadv", MAC, "10.64.1.20", rd="10.255.0.5:1001")
        wait_until(lambda: vm_state(bgpd) == "moved", WAIT_S, "the VM to be given up", logs=bgpd.logs)
        wait_until(
            lambda: (2, MAC, "10.64.1.20") not in table(gobgp, "10.0.1.1"), WAIT_S, "its withdrawal", logs=bgpd.logs
        )
        tell(gobgp, "macadv", MAC, "10.64.1.20", rd="10.255.0.5:1001", do="del")
        tell(gobgp, "macadv", MAC, "10.64.1.20", rd="10.255.9.9:1001", do="del")
        wait_until(lambda: vm_state(bgpd) == "announced", WAIT_S, "the VM to be taken back", logs=bgpd.logs)


def test_a_move_leaves_neither_host_a_moment_without_a_route(fabric: EvpnFabric, gobgp: Gobgp) -> None:
    def way(number: int) -> str:
        route = kernel_routes(fabric.hosts[number]).get("10.64.1.20", {})
        return "here" if route.get("dev") == "vm" else "there" if "nhid" in route else ""

    with fabric.bgpd(1, host_config(1, vrf())) as first, fabric.bgpd(2, host_config(2, vrf())) as second:
        hosts = {1: first, 2: second}
        add_vm(first, VM)
        wait_until(lambda: way(2) == "there", WAIT_S, "host2 to have its route", logs=second.logs)
        watches = {number: watching(host) for number, host in hosts.items()}
        former = {number: way(number) for number in hosts}
        for here, there in ((2, 1), (1, 2), (2, 1)):
            add_vm(hosts[here], VM)
            wait_until(lambda there=there: vm_state(hosts[there]) == "moved", WAIT_S, "the move", logs=first.logs)
            wait_until(lambda h=here, t=there: (way(h), way(t)) == ("here", "there"), WAIT_S, "routes", logs=first.logs)
            hosts[there].cli("workload", "del", "vm")
        for number, watch in watches.items():
            watch.stop()
            said = [line for line in watch.log_path.read_text().splitlines() if "10.64.1.20 " in line]
            states = ways_after_each(said, former[number])
            assert {"here"} in states, (number, said)
            assert {"there"} in states, (number, said)
            assert set() not in states, (number, said)
            assert states[-1] == {way(number)}, (number, said)


def test_a_sticky_endpoint_stays_and_says_who_challenges_it(fabric: EvpnFabric, gobgp: Gobgp) -> None:
    with fabric.bgpd(1, host_config(1, vrf())) as first, fabric.bgpd(2, host_config(2, vrf())) as second:
        add_vm(first, VM, sticky=True)
        wait_until(lambda: (2, MAC, VM) in evpn(second), WAIT_S, "host2 to hear of it", logs=second.logs)
        said = add_vm(second, VM, check=False)
        assert said.startswith("vm moved: announced as sticky by another host")
        assert standing(second) == "conflict"
        assert vm_state(first) == "announced"
        tell(gobgp, "macadv", MAC, "10.64.1.20", rd="10.255.0.5:1001")
        wait_until(lambda: "sticky here" in str(vrf_view(first)["alarms"]), WAIT_S, "the alarm", logs=first.logs)
        assert vm_state(first) == "announced"


def test_two_hosts_that_take_a_mac_from_each_other_are_stopped_with_an_alarm(fabric: EvpnFabric, gobgp: Gobgp) -> None:
    with fabric.bgpd(1, host_config(1, vrf())) as first, fabric.bgpd(2, host_config(2, vrf())) as second:
        hosts = (first, second)
        add_vm(first, VM)
        wait_until(lambda: (2, MAC, VM) in evpn(second), WAIT_S, "host2 to hear of it", logs=second.logs)
        for move in range(10):
            here, there = hosts[(move + 1) % 2], hosts[move % 2]
            here.cli("workload", "del", "vm", check=False)
            add_vm(here, VM, check=False)
            if "frozen" in (standing(here), standing(there)):
                break
            wait_until(
                lambda there=there: vm_state(there) in ("moved", ""), WAIT_S, "the other to give up", logs=there.logs
            )
        frozen = next((host for host in hosts if standing(host) == "frozen"), None)
        assert frozen is not None, [standing(host) for host in hosts]
        (alarm,) = vrf_view(frozen)["alarms"]
        assert "duplicate, frozen for 540 s" in alarm["reason"]
        assert "mobility.frozen" in frozen.log_path.read_text()
        other = hosts[1 - hosts.index(frozen)]
        wait_until(lambda: vm_state(other) == "announced", WAIT_S, "the other to have it", logs=other.logs)
        assert standing(frozen) == "frozen"
        other.cli("workload", "del", "vm")
        wait_until(lambda: vm_state(frozen) == "announced", WAIT_S, "what nobody else has", logs=frozen.logs)


def test_a_table_that_another_program_uses_is_refused_and_other_vrfs_work(fabric: EvpnFabric, gobgp: Gobgp) -> None:
    host = fabric.hosts[1]
    host.ip("route", "add", "10.99.0.0/16", "dev", "eth0.101", "proto", "static", "table", "1003")
    try:
        config = host_config(1, vrf("blue").replace("1001", "1003"), vrf("red"))
        with fabric.bgpd(1, config) as bgpd:
            tell(gobgp, "prefix", "10.64.3.0/24", "gw", "10.1.1.9")
            tell(gobgp, "prefix", "10.64.3.0/24", "gw", "10.2.1.9", target=RED, rd="10.255.2.2:1002")
            wait_until(lambda: in_kernel(fabric, 1, "10.64.3.0/24", 1002), WAIT_S, "red's route", logs=bgpd.logs)
            assert set(kernel_routes(host, 1003)) == {"10.99.0.0/16"}
            assert "vrf.refused" in bgpd.log_path.read_text()
            assert "table 1003" in bgpd.log_path.read_text()
            host.ip("route", "del", "10.99.0.0/16", "table", "1003")
            bgpd.cli("reload")
            wait_until(lambda: in_kernel(fabric, 1, "10.64.3.0/24", 1003), WAIT_S, "blue's route", logs=bgpd.logs)
    finally:
        host.run("ip", "route", "flush", "table", "1003", check=False)


def test_routes_that_lead_nowhere_are_listed_with_the_reason_until_they_lead_somewhere(
    fabric: EvpnFabric, gobgp: Gobgp
) -> None:
    with fabric.bgpd(1, host_config(1, vrf())) as bgpd:
        tell(gobgp, "prefix", "10.5.0.0/16", "gw", "10.5.0.1")
        tell(gobgp, "prefix", "10.6.0.0/16", "gw", "10.1.1.1")
        tell(gobgp, "prefix", "10.7.0.0/16", "gw", "10.1.1.9")
        wait_until(lambda: in_kernel(fabric, 1, "10.7.0.0/16"), WAIT_S, "what resolves", logs=bgpd.logs)
        unresolved = {place[2]: route["unresolved"] for place, route in evpn(bgpd, "--unresolved").items()}
        assert unresolved.keys() == {"10.5.0.0/16", "10.6.0.0/16"}
        assert "no uplink subnet of VRF blue holds 10.5.0.1" in unresolved["10.5.0.0/16"]
        assert "an address of this host" in unresolved["10.6.0.0/16"]
        assert kernel_routes(fabric.hosts[1]).keys().isdisjoint(unresolved)
        # The gateway gets a subnet of its own, as another uplink address; then its link goes.
        fabric.hosts[1].addresses("eth0.101", "10.5.0.2/24")
        wait_until(lambda: in_kernel(fabric, 1, "10.5.0.0/16"), WAIT_S, "it to be resolved", logs=bgpd.logs)
        fabric.leaf.ip("link", "set", "swp1.101", "down")
        try:
            wait_until(
                lambda: not in_kernel(fabric, 1, "10.5.0.0/16"), WAIT_S, "it to go with its link", logs=bgpd.logs
            )
            assert {"10.5.0.0/16", "10.7.0.0/16"} <= {place[2] for place in evpn(bgpd, "--unresolved")}
        finally:
            fabric.leaf.ip("link", "set", "swp1.101", "up")
            fabric.hosts[1].ip("address", "del", "10.5.0.2/24", "dev", "eth0.101")
        wait_until(lambda: in_kernel(fabric, 1, "10.7.0.0/16"), WAIT_S, "all to come back", logs=bgpd.logs)


def test_explain_goes_from_prefix_to_gateway_to_its_type_2_route_to_uplink_and_kernel_group(
    fabric: EvpnFabric, gobgp: Gobgp
) -> None:
    blue = vrf("blue", 'uplink_gateways = { "eth0.101" = ["10.1.1.254"] }')
    with fabric.bgpd(1, host_config(1, blue)) as bgpd:
        tell(gobgp, "prefix", "10.64.3.0/24", "gw", "10.9.0.1")
        wait_until(lambda: (5, "", "10.64.3.0/24") in evpn(bgpd), WAIT_S, "the prefix", logs=bgpd.logs)
        assert not in_kernel(fabric, 1, "10.64.3.0/24")
        assert "no type 2 route announces it" in bgpd.cli("explain", "10.64.3.1", "--vrf", "blue", check=False)
        tell(gobgp, "macadv", MAC, "10.9.0.1")
        wait_until(lambda: in_kernel(fabric, 1, "10.64.3.0/24"), WAIT_S, "its gateway's route", logs=bgpd.logs)
        said = bgpd.cli("explain", "10.64.3.1", "--vrf", "blue")
        group = kernel_routes(fabric.hosts[1])["10.64.3.0/24"]["nhid"]
        for line in (
            "kernel and RIB agree",
            f"nexthop group {group}",
            "10.64.3.0/24 is a route of VRF blue",
            "leaf rd 10.255.2.2:1001 type-5: by 10.9.0.1",
            "10.9.0.1 has a type 2 route",
            "leaf is 10.1.1.254 on eth0.101",
            "leaves by 10.1.1.254%eth0.101",
        ):
            assert line in said, said
        tell(gobgp, "macadv", MAC, "10.9.0.1", do="del")
        wait_until(lambda: not in_kernel(fabric, 1, "10.64.3.0/24"), WAIT_S, "it to go with that", logs=bgpd.logs)
