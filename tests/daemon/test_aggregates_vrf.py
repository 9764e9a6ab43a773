"""Aggregates of a VRF: originated as EVPN type 5, what is inside suppressed, exceptions told beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.daemons import Frr
from labs.namespace import link
from tests.daemon.fabric import Fabric, Host, frr_config, leaf, started
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API

pytestmark = pytest.mark.netns

BLOCK, POOL = "10.66.0.0/24", "10.67.0.0/24"
TABLES = (
    leaf(1, families=["ipv4-unicast", "l2vpn-evpn"]),
    API,
    toml("[[vrf]]", name="blue", table=1001, import_rt=["65201:1"], export_rt=["65201:1"], vni=5001, uplinks=["blue0"])
    + 'uplink_neighbors = { blue0 = "leaf1" }\n',
    toml("[[aggregate]]", vrf="blue", prefix=BLOCK, summary_only=True, blackhole=True),
    toml("[[aggregate]]", vrf="blue", prefix=POOL, auto="exact"),
)
EVPN = """address-family l2vpn evpn
neighbor 10.0.1.1 activate
exit-address-family
"""


@pytest.fixture(scope="module")
def frr(fabric: Fabric) -> Iterator[Frr]:
    link(fabric.host, "blue0", fabric.leaf1, "blue0")
    fabric.host.addresses("blue0", "10.0.91.1/24")
    fabric.leaf1.addresses("blue0", "10.0.91.2/24")
    text = frr_config(1).removesuffix("exit\n") + EVPN + "exit\n"
    with Frr(fabric.leaf1, text) as frr:
        yield frr


@pytest.fixture(scope="module")
def host(fabric: Fabric, frr: Frr) -> Iterator[Host]:
    with started(fabric, *TABLES) as host:
        host.wait_ready()
        yield host


def heard(frr: Frr) -> set[str]:
    """The prefixes of the type 5 routes that the leaf has."""
    routes = frr.vtysh_json("show bgp l2vpn evpn route type prefix json")
    keys = (key for rd in routes.values() if isinstance(rd, dict) for key in rd)
    return {f"{parts[3].strip('[]')}/{parts[2].strip('[]')}" for key in keys if len(parts := key.split(":")) == 4}


def claim(host: Host, id: str, *addresses: str, exception: bool = False) -> None:
    words = [word for address in addresses for word in ("--address", address)]
    words += ["--vrf", "blue", "--interface", "pod1", *(["--exception"] if exception else [])]
    host.cli("workload", "add", id, *words)


def test_aggregate_of_a_vrf_is_a_type_5_route_and_lasts_as_long_as_its_contributors(host: Host, frr: Frr) -> None:
    assert not heard(frr) & {BLOCK}
    claim(host, "a", "10.66.0.1")
    host.wait(lambda: BLOCK in heard(frr), "the leaf to hear the aggregate")
    assert "10.66.0.1/32" not in heard(frr)
    claim(host, "moved", "10.66.0.2", exception=True)
    host.wait(lambda: "10.66.0.2/32" in heard(frr), "the leaf to hear the exception")
    view = next(view for view in host.get("workloads") if view["id"] == "a")
    assert (view["state"], view["reason"]) == ("suppressed", f"covered by {BLOCK}")
    assert (view["announced"], view["neighbors"]) == (True, ["leaf1"])
    host.cli("workload", "del", "a")
    host.wait(lambda: BLOCK not in heard(frr), "the leaf to forget the aggregate")
    assert "10.66.0.2/32" in heard(frr)
    host.cli("workload", "del", "moved")


def test_exact_cover_of_a_vrf(host: Host, frr: Frr) -> None:
    claim(host, "four", *(f"10.67.0.{number}" for number in range(4)))
    host.wait(
        lambda: {p for p in heard(frr) if p.startswith("10.67.")} == {"10.67.0.0/30"}, "the leaf to hear the cover"
    )
    host.cli("workload", "del", "four")
    host.wait(lambda: not [p for p in heard(frr) if p.startswith("10.67.")], "the leaf to forget it")


def test_the_same_address_in_main_table_and_vrf_is_no_conflict(fabric: Fabric, host: Host, frr: Frr) -> None:
    claim(host, "blue1", "10.66.0.9")
    assert host.cli("workload", "add", "main1", "--address", "10.66.0.9", "--interface", "pod2") == "main1 announced\n"
    assert "dev pod1" in fabric.host.ip("route", "show", "table", "1001", "10.66.0.9")
    assert "dev pod2" in fabric.host.ip("route", "show", "10.66.0.9")
    for id in ("blue1", "main1"):
        host.cli("workload", "del", id)
