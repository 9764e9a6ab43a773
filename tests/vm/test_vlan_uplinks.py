"""An uplink that is a VLAN device of any name: the kernel says which leaf's link it is on."""

from __future__ import annotations

import pytest

from labs.daemons import Bgpd, Gobgp
from labs.namespace import Namespace, link
from labs.process import wait_until
from tests.interop.evpn_fabric import host_config, static, vrf
from tests.interop.test_evpn_gobgp import gobgp_config, table

pytestmark = pytest.mark.vm

WAIT_S = 60.0


def test_a_vlan_device_of_any_name_leads_to_the_leaf_of_its_parent() -> None:
    with (
        Namespace("host", prefix="L") as host,
        Namespace("leaf", prefix="L") as leaf,
        Namespace("vm", prefix="L") as vm,
    ):
        link(host, "eth0", leaf, "swp1")
        link(host, "vm", vm, "eth0")
        host.addresses("eth0", "10.0.1.1/31")
        leaf.addresses("swp1", "10.0.1.0/31")
        host.batch("link add link eth0 name blue-up type vlan id 101", "link set blue-up up")
        leaf.batch("link add link swp1 name swp1.101 type vlan id 101", "link set swp1.101 up")
        host.addresses("blue-up", "10.1.1.1/24")
        config = host_config(1, vrf().replace("eth0.101", "blue-up"), static("10.64.0.0/24"))
        with Gobgp(leaf, gobgp_config("l2vpn-evpn")) as gobgp, Bgpd(host, config) as bgpd:
            route = (5, "", "10.64.0.0/24")
            wait_until(lambda: route in table(gobgp), WAIT_S, "the prefix at the leaf", logs=bgpd.logs)
            assert table(gobgp)[route]["gateway"] == "10.1.1.1"
            (view,) = bgpd.show("vrfs")
            assert [uplink["neighbor"] for uplink in view["uplinks"]] == ["leaf"]
