"""What neighbors were sent and what they announced; and `announced` says to whom, or why to nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labs.daemons import Bgpd
from labs.process import wait_until
from tests.daemon.fabric import Fabric, Host, frr_paths, heard_from_host, leaf, started, table
from tests.daemon.wire_peer import WirePeer
from tests.interop.evpn_fabric import EvpnFabric, host_config, static, vrf

pytestmark = pytest.mark.netns

POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
POD6 = table("[[workload.static]]", prefix="2001:db8:64::5/128", interface="pod1")
POLICY = """[policy.no-8]
rules = [
  { match = { prefix = ["10.8.0.0/16"] }, action = "reject" },
  { set = { local_pref = 200, add_community = ["65203:7"] }, action = "accept" },
]
"""
TAGGED = """[policy.tagged]
rules = [{ set = { add_community = ["65203:9"], med = 30 }, action = "accept" }]
"""


def workload(host: Host | Bgpd, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = next(view for view in host.show("workloads") if view["prefix"] == prefix)
    return found


@pytest.fixture
def host(fabric: Fabric) -> Iterator[Host]:
    """Leaf 1 is sent what is tagged, leaf 2 nothing; leaf 1's 10.8.0.0/16 is rejected."""
    own = leaf(1, import_="no-8", export="tagged"), leaf(2, export="none")
    with (
        fabric.frr(1, networks=("10.9.0.0/16", "10.8.0.0/16")) as frr,
        fabric.frr(2),
        started(fabric, *own, POD, POD6, POLICY, TAGGED) as host,
    ):
        host.wait_ready()
        host.wait(lambda: heard_from_host(frr, "10.64.1.5/32"), "the leaf to hear the pod")
        host.wait(lambda: heard_from_host(frr, "2001:db8:64::5/128"), "the leaf to hear the pod by IPv6")
        (path,) = frr_paths(frr, "10.64.1.5/32")
        assert path["metric"] == 30
        yield host


def test_routes_are_shown_as_they_were_sent_and_received(host: Host) -> None:
    sent = {view["prefix"]: view for view in host.show("advertised", "--neighbor", "leaf1")}
    assert sent.keys() == {"10.64.1.5/32", "2001:db8:64::5/128"}
    pod, pod6 = sent["10.64.1.5/32"], sent["2001:db8:64::5/128"]
    assert (pod["as_path"], pod["origin"], pod["next_hop"], pod["med"]) == ("65203", "igp", "10.0.1.1", 30)
    assert pod["communities"] == ["65203:9"]
    assert pod.get("local_pref") is None
    assert pod6["next_hop"].startswith("2001:db8:1::1, fe80::")
    assert host.show("advertised", "--neighbor", "leaf2") == []
    received = {view["prefix"]: view for view in host.show("received", "leaf1", "--family", "ipv4-unicast")}
    assert received.keys() >= {"10.8.0.0/16", "10.9.0.0/16"}
    taken = received["10.9.0.0/16"]
    assert (taken["as_path"], taken["next_hop"], taken["rejected"]) == ("65201", "10.0.1.2", "")
    assert not taken["communities"], "as received, not as the policy made it"
    assert taken.get("local_pref") is None
    rejected = {
        view["prefix"]: view["rejected"] for view in host.show("received", "--neighbor", "10.0.1.2", "--rejected")
    }
    assert "10.8.0.0/16" in rejected
    assert "10.9.0.0/16" not in rejected
    assert all(rejected.values()), "FRR sends our own routes back, which is a loop"
    assert "no-8" in received["10.8.0.0/16"]["rejected"]
    assert [view["prefix"] for view in host.show("advertised", "10.64.1.5")] == ["10.64.1.5/32"]
    text = host.cli("show", "received", "--neighbor", "leaf1", "--rejected")
    assert "10.8.0.0/16" in text
    assert "10.9.0.0/16" not in text


def test_announced_says_to_whom(host: Host) -> None:
    view = workload(host, "10.64.1.5/32")
    assert (view["announced"], view["neighbors"]) == (True, ["leaf1"])
    assert host.explain("10.64.1.5")["verdict"].endswith("announced to the neighbors leaf1")
    assert "to leaf1" in host.cli("show", "workloads")


@pytest.mark.parametrize(
    ("fields", "prefix", "why"),
    [
        ({"export": "none"}, "10.64.1.5/32", 'export of leaf1 is "none"'),
        ({"export": "refuse"}, "10.64.1.5/32", 'leaf1: export policy "refuse": rejected by rule 0'),
        ({"families": ["ipv4-unicast"]}, "2001:db8:64::5/128", "leaf1 does not speak ipv6-unicast"),
    ],
    ids=["export none", "policy", "family"],
)
def test_announced_to_nobody_says_why(fabric: Fabric, fields: dict[str, Any], prefix: str, why: str) -> None:
    refuse = '[policy.refuse]\nrules = [{ action = "reject" }]\n'
    with fabric.frr(1), started(fabric, leaf(1, **fields), POD, POD6, refuse) as host:
        host.wait_established("leaf1")
        host.wait_ready()
        view = workload(host, prefix)
        assert (view["announced"], view["neighbors"], view["reason"]) == (False, [], f"to nobody: {why}")
        assert f"announced to nobody: {why}" in host.explain(prefix.partition("/")[0])["verdict"]
        assert host.show("advertised", "--neighbor", "leaf1", "--prefix", prefix) == []


def test_aggregate_says_to_whom_it_is_announced_or_why_to_nobody(fabric: Fabric) -> None:
    block = table("[[aggregate]]", prefix="10.64.1.0/24")
    for export, neighbors, reason in (("local", ["leaf1"], ""), ("none", [], 'to nobody: export of leaf1 is "none"')):
        with fabric.frr(1), started(fabric, leaf(1, export=export), POD, block) as host:
            host.wait_ready()
            host.wait(lambda: host.show("aggregates")[0]["announced"], "the aggregate")
            host.wait(lambda wanted=neighbors: host.show("aggregates")[0]["neighbors"] == wanted, "its neighbors")
            assert host.show("aggregates")[0]["reason"] == reason
            assert (reason or "to leaf1") in host.cli("show", "aggregates")


def test_without_a_session_nothing_is_announced_to_anybody(fabric: Fabric) -> None:
    with started(fabric, leaf(1), POD, table("[workload.api]")) as host:
        host.wait(lambda: workload(host, "10.64.1.5/32")["state"] == "announced", "the kernel's route")
        assert workload(host, "10.64.1.5/32")["reason"] == "to nobody: no neighbor is established"
        said = host.cli("workload", "add", "vm1", "--address", "10.64.1.9", "--interface", "pod2")
        assert said == "vm1 announced: to nobody: no neighbor is established\n"
        backends = [{"id": "vm1", "addresses": ["10.64.1.9"]}]
        service = {"addresses": ["10.64.1.80"], "backends": backends}
        file = host.config_path.with_name("service.json")
        file.write_text(json.dumps(service))
        said = host.cli("service", "add", "web", str(file))
        assert said == "web announced: to nobody: no neighbor is established\n"
        assert host.show("services")[0]["announced"] is False


def test_family_without_a_next_hop_is_announced_to_nobody(fabric: Fabric) -> None:
    fabric.host.set_sysctls({"net.ipv6.conf.eth0.disable_ipv6": "1"})
    try:
        with fabric.frr(1), started(fabric, leaf(1), POD, POD6) as host:
            host.wait_ready()
            why = "to nobody: this host has no address to give leaf1 as the next hop of ipv6-unicast"
            host.wait(lambda: workload(host, "2001:db8:64::5/128")["reason"] == why, "the reason")
            host.wait(lambda: workload(host, "10.64.1.5/32")["neighbors"] == ["leaf1"], "the other family")
    finally:
        fabric.host.set_sysctls({"net.ipv6.conf.eth0.disable_ipv6": "0"})
        fabric.host.addresses("eth0", "2001:db8:1::1/64")


def test_ipv6_workload_of_a_vrf_whose_uplinks_have_none_is_announced_to_nobody() -> None:
    own, other = "10.66.0.7/32", "2001:db8:66::7/128"
    tables = vrf("red"), static(own, tenant="red"), static(other, tenant="red")

    def settled(daemon: Bgpd, prefix: str) -> Callable[[], bool]:
        return lambda: workload(daemon, prefix)["state"] == "announced"

    with (
        EvpnFabric() as fabric,
        WirePeer(fabric.leaf, "10.0.1.0") as peer,
        fabric.bgpd(1, host_config(1, *tables)) as daemon,
    ):
        peer.establish(families=((25, 70),))
        for prefix in (own, other):
            wait_until(settled(daemon, prefix), 20, prefix, logs=daemon.logs)
        wait_until(lambda: workload(daemon, own)["neighbors"] == ["leaf"], 10, "the leaf", logs=daemon.logs)
        view = workload(daemon, other)
        assert not view["announced"]
        assert view["reason"].startswith("to nobody: VRF red has no uplink to leaf with an IPv6 address")
        sent = [view["prefix"] for view in daemon.show("advertised", "--neighbor", "leaf")]
        assert any("10.66.0.7/32" in prefix for prefix in sent)
        assert not any("2001:db8:66::7" in prefix for prefix in sent)
        shown = next(view for view in daemon.show("advertised") if "10.66.0.7/32" in view["prefix"])
        assert (shown["gateway_ip"], shown["labels"]) == ("10.2.1.1", [5002])


def test_what_an_aggregate_stands_for_is_announced_to_those_who_have_the_aggregate(fabric: Fabric) -> None:
    pods = [table("[[workload.static]]", prefix=f"10.67.0.{number}/32", interface="pod1") for number in (4, 5)]
    summary = table("[[aggregate]]", prefix="10.64.1.0/24", summary_only=True)
    pool = table("[[aggregate]]", prefix="10.67.0.0/24", auto="exact")
    with fabric.frr(1) as frr, started(fabric, leaf(1), POD, *pods, summary, pool) as host:
        host.wait(lambda: heard_from_host(frr, "10.64.1.0/24"), "the leaf to hear the aggregate")
        host.wait(lambda: heard_from_host(frr, "10.67.0.4/31"), "the leaf to hear the cover")
        for prefix in ("10.64.1.5/32", "10.67.0.4/32"):
            view = workload(host, prefix)
            assert (view["state"], view["announced"], view["neighbors"]) == ("suppressed", True, ["leaf1"])
        assert workload(host, "10.64.1.5/32")["reason"] == "covered by 10.64.1.0/24"
        frr.kill()
        host.wait(lambda: not workload(host, "10.64.1.5/32").get("announced"), "nobody to have it")
        expected = "covered by 10.64.1.0/24; to nobody: no neighbor is established"
        assert workload(host, "10.64.1.5/32")["reason"] == expected
