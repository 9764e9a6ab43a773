"""What the kernel and the sessions show of uplinks, and which leaf is beyond each."""

from __future__ import annotations

from typing import Any

from bgpd.config.schema import VrfConfig
from bgpd.evpn.uplinks import Uplinks
from bgpd.kernel.host import Host
from bgpd.model.kernel import Address, Link, LinkChanged
from bgpd.model.prefix import parse_address as ip
from bgpd.model.source import Source, SourceKind

BLUE = VrfConfig(name="blue", table=1001, uplinks=("eth0.101",))


class Made(Uplinks):
    """Uplinks over a host that a test changes."""

    def __init__(self) -> None:
        self.host = Host(lambda _: None)
        super().__init__(self.host)

    def link(self, index: int, name: str, *, gone: bool = False, **fields: Any) -> None:
        mac = bytes((2, 0, 0, 0, 0, index))
        self.host.link(Link(index=index, name=name, up=True, mac=mac, **fields), gone=gone)

    def address(self, index: int, text: str, *, gone: bool = False, **fields: bool) -> None:
        packed, length = text.split("/")
        self.host.address(Address(index=index, packed=ip(packed), prefix_length=int(length), **fields), gone=gone)


def leaf(text: str, interface: str = "") -> Source:
    return Source(name="leaf1", kind=SourceKind.EBGP, address=ip(text), interface=interface)


def test_a_sub_interface_leads_to_the_neighbor_of_its_parent() -> None:
    for session in (leaf("172.16.0.0"), leaf("fe80::1", "eth0")):
        made = Made()
        made.link(1, "eth0")
        made.address(1, "172.16.0.1/31")
        made.link(2, "eth0.101")
        made.address(2, "10.1.0.1/31")
        made.neighbor_up(session)
        uplink = made.of(BLUE)["eth0.101"]
        assert (uplink.neighbor, uplink.gateways, uplink.up) == ("leaf1", (ip("10.1.0.0"),), True)


def test_the_kernel_s_word_on_the_parent_counts_whatever_the_names_are() -> None:
    made = Made()
    made.link(1, "bond0")
    made.address(1, "172.16.0.1/31")
    made.link(2, "storage")
    blue = VrfConfig(name="blue", table=1001, uplinks=("blue-up",))
    made.link(4, "blue-up", kind="vlan", parent=3)
    made.neighbor_up(leaf("172.16.0.0"))
    assert made.of(blue)["blue-up"].neighbor == ""
    assert made.below({"blue-up"}) == {"blue-up"}
    made.link(3, "outer", kind="vlan", parent=1)
    assert made.of(blue)["blue-up"].neighbor == "leaf1"
    assert made.below({"blue-up"}) == {"blue-up", "outer", "bond0"}
    made.link(3, "outer", kind="vlan", parent=4)
    assert made.of(blue)["blue-up"].neighbor == ""


def test_a_name_does_not_count_against_the_kernel_s_word() -> None:
    made = Made()
    made.link(1, "eth0")
    made.address(1, "172.16.0.1/31")
    made.link(2, "eth1")
    made.link(3, "eth0.101")
    made.neighbor_up(leaf("172.16.0.0"))
    assert made.of(BLUE)["eth0.101"].neighbor == "leaf1"
    made.link(3, "eth0.101", kind="vlan", parent=2)
    assert made.of(BLUE)["eth0.101"].neighbor == ""
    assert made.below({"eth0.101", "eth1.5.7"}) == {"eth0.101", "eth1", "eth1.5", "eth1.5.7"}


def test_a_session_in_the_uplinks_own_subnet_names_the_leaf_and_its_address() -> None:
    made = Made()
    made.link(2, "eth0.101")
    made.address(2, "10.1.0.9/24")
    made.neighbor_up(leaf("10.1.0.1"))
    uplink = made.of(BLUE)["eth0.101"]
    assert (uplink.neighbor, uplink.gateways) == ("leaf1", (ip("10.1.0.1"),))


def test_a_session_just_outside_the_uplinks_subnet_names_no_leaf() -> None:
    for outside in ("10.1.0.7", "10.1.0.16"):
        made = Made()
        made.link(2, "eth0.101")
        made.address(2, "10.1.0.9/29")
        made.neighbor_up(leaf(outside))
        uplink = made.of(BLUE, announced_gateways=[ip(outside), ip("10.1.0.8")])["eth0.101"]
        assert (uplink.neighbor, uplink.gateways) == ("", (ip("10.1.0.8"),))


def test_a_neighbor_that_is_down_is_beyond_no_uplink() -> None:
    made = Made()
    made.link(2, "eth0.101")
    made.address(2, "10.1.0.1/31")
    session = leaf("10.1.0.0")
    made.neighbor_up(session)
    made.neighbor_down(leaf("10.1.0.0"))
    assert made.of(BLUE)["eth0.101"].neighbor == "leaf1"
    made.neighbor_down(session)
    assert made.of(BLUE)["eth0.101"].neighbor == ""


def test_links_that_are_renamed_or_gone_and_addresses_that_are_tentative_count_for_nothing() -> None:
    made = Made()
    made.link(2, "eth0.101")
    made.address(2, "2001:db8::1/64", usable=False)
    assert made.of(BLUE)["eth0.101"].addresses == ()
    made.link(2, "old")
    assert not made.of(BLUE)["eth0.101"].up
    assert made.mac("eth0.101") == b""
    made.link(3, "eth0.101")
    assert made.mac("eth0.101") == bytes((2, 0, 0, 0, 0, 3))
    made.link(3, "eth0.101", gone=True)
    assert not made.of(BLUE)["eth0.101"].up


def test_an_uplink_that_does_not_exist_is_down() -> None:
    assert not Made().of(BLUE)["eth0.101"].up


def test_the_address_in_use_stays_first_while_it_exists() -> None:
    made = Made()
    made.link(2, "eth0.101")
    made.address(2, "10.1.0.9/24")
    first = made.of(BLUE)
    assert first["eth0.101"].address_for(4) == ip("10.1.0.9")
    made.address(2, "10.1.0.5/24")
    second = made.of(BLUE, former=first.values())
    assert second["eth0.101"].address_for(4) == ip("10.1.0.9")
    assert made.of(BLUE)["eth0.101"].address_for(4) == ip("10.1.0.5")
    made.address(2, "10.1.0.9/24", gone=True)
    assert made.of(BLUE, former=second.values())["eth0.101"].address_for(4) == ip("10.1.0.5")


def test_a_deprecated_address_is_chosen_last() -> None:
    made = Made()
    made.link(2, "eth0.101")
    made.address(2, "2001:db8::1/64", deprecated=True)
    made.address(2, "2001:db8::9/64")
    assert made.of(BLUE)["eth0.101"].address_for(16) == ip("2001:db8::9")


def test_what_uplinks_rest_on_is_the_links_themselves_and_those_below() -> None:
    made = Made()
    made.link(1, "eth0")
    made.link(2, "eth0.101", kind="vlan", parent=1)
    names = {"eth0.101"}
    eth0, other = made.host.links[1], Link(index=9, name="pod1", up=True)
    assert made.rest_on(LinkChanged(eth0), names)
    assert not made.rest_on(LinkChanged(other), names)
    made.link(1, "eth0", gone=True)
    assert made.rest_on(LinkChanged(eth0, gone=True), names)
