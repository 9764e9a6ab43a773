"""Names of dynamic neighbors, and how a neighbor is dialed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bgpd.config.schema import ListenConfig, NeighborConfig
from bgpd.kernel.host import Host
from bgpd.model.kernel import Link
from bgpd.model.prefix import parse_address
from bgpd.speaker.peering import of_listen, of_neighbor
from bgpd.speaker.reach import Unreachable, target_of


def neighbor(**fields: Any) -> NeighborConfig:
    known = {"name": "leaf1", "address": "10.0.1.2", "asn": 65201, "import": "all"}
    return msgspec.convert({**known, **fields}, NeighborConfig)


def listen(prefix: str) -> ListenConfig:
    return msgspec.convert({"prefix": prefix, "asn": "external", "import": "all"}, ListenConfig)


def test_dynamic_neighbor_has_a_stable_unique_name() -> None:
    assert of_listen(listen("10.0.0.0/8"), parse_address("10.1.2.3"), "").name == "10.0.0.0/8-10.1.2.3"
    assert of_listen(listen("fe80::/10"), parse_address("fe80::1"), "eth0").name == "fe80::/10-fe80::1%eth0"


def test_unnumbered_neighbor_is_unreachable_until_it_was_heard() -> None:
    peering = of_neighbor(neighbor(address="", interface="eth0"))
    known = Host(lambda _: None)
    with pytest.raises(Unreachable, match="no Router Advertisement heard"):
        target_of(peering, known, password=b"")
    heard = msgspec.structs.replace(peering, address=parse_address("fe80::1"))
    with pytest.raises(Unreachable, match="there is no interface eth0"):
        target_of(heard, known, password=b"")
    known.link(Link(index=7, name="eth0", up=True))
    target = target_of(heard, known, password=b"")
    assert (target.scope, target.port, str(target)) == (7, 179, "fe80::1%eth0 port 179")


def test_a_neighbor_in_a_vrf_is_dialed_over_its_interface_or_the_vrf_device() -> None:
    known = Host(lambda _: None)
    tenant = neighbor(vrf="blue")
    with pytest.raises(Unreachable, match="there is no device of VRF blue"):
        target_of(of_neighbor(tenant), known, password=b"")
    over = of_neighbor(msgspec.structs.replace(tenant, interface="tap1"))
    assert target_of(over, known, password=b"").interface == "tap1"
    known.link(Link(index=9, name="blue", up=True, kind="vrf"))
    assert target_of(of_neighbor(tenant), known, password=b"").interface == "blue"
    known.link(Link(index=9, name="blue", up=True, kind="bridge"))
    with pytest.raises(Unreachable):
        target_of(of_neighbor(tenant), known, password=b"")
