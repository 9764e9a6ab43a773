"""Limits below what neighbors have sent already."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.config.limits import exceeded_limits
from bgpd.config.schema import Config
from bgpd.model.views.sessions import FamilyCounts, NeighborView


def config(**limits: int | str) -> Config:
    leaf = {"name": "leaf1", "address": "10.0.1.2", "asn": 65201, "import": "all", **limits}
    ranges = [{"prefix": "fe80::/10", "asn": "external", "import": "all", **limits}]
    router = {"asn": 65203, "router_id": "10.255.1.1"}
    return msgspec.convert({"router": router, "neighbor": [leaf], "listen": ranges}, Config)


def neighbor(name: str = "leaf1", *, address: str = "10.0.1.2", received: int = 7, size: int = 0) -> NeighborView:
    return NeighborView(
        name=name,
        address=address,
        interface="",
        asn=65201,
        local_asn=65203,
        state="established",
        since=0.0,
        dynamic=name != "leaf1",
        families={"ipv4-unicast": FamilyCounts(received=received, rejected=received, announced=0)},
        attribute_bytes=size,
    )


@pytest.mark.parametrize(("most", "warned"), [(6, True), (7, False), (0, False)])
def test_max_prefixes_below_what_a_neighbor_has_announced(most: int, warned: bool) -> None:
    found = exceeded_limits(config(max_prefixes=most), [neighbor()])
    assert found == (
        [
            "neighbor leaf1: max_prefixes is 6, but it has announced 7 ipv4-unicast prefixes; raise it, "
            "or its session ends with the next route that it announces"
        ]
        if warned
        else []
    )


def test_where_what_is_too_much_is_discarded_nothing_more_is_taken() -> None:
    (found,) = exceeded_limits(config(max_prefixes=6, max_prefixes_action="discard"), [neighbor()])
    assert found.endswith("raise it, or nothing more that it announces is taken")


def test_max_attribute_bytes_and_ranges_count_too() -> None:
    (found,) = exceeded_limits(config(max_attribute_bytes=1000), [neighbor(size=1001)])
    assert "max_attribute_bytes is 1000, but its attributes take 1001 bytes" in found
    assert exceeded_limits(config(max_attribute_bytes=0, max_prefixes=0), [neighbor(size=1 << 40)]) == []
    (found,) = exceeded_limits(config(max_prefixes=1), [neighbor("fe80::5%eth0", address="fe80::5%eth0")])
    assert found.startswith("neighbor fe80::5%eth0: max_prefixes is 1")


def test_neighbors_that_the_configuration_lacks_or_that_are_down_are_no_matter() -> None:
    gone = neighbor("192.0.2.1", address="192.0.2.1")
    down = msgspec.structs.replace(neighbor(), families={})
    assert exceeded_limits(config(max_prefixes=1), [gone, down]) == []
