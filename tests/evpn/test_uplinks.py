"""What the kernel and the sessions show of uplinks, and which leaf is beyond each."""

from __future__ import annotations

from bgpd.config.schema import VrfConfig
from bgpd.evpn.uplinks import Uplinks
from bgpd.model.kernel import Address, AddressChanged, Link, LinkChanged
from bgpd.model.path import Source, SourceKind
from bgpd.model.prefix import parse_address as ip

BLUE = VrfConfig(name="blue", table=1001, uplinks=("eth0.101",))


def link(index: int, name: str, *, up: bool = True, gone: bool = False) -> LinkChanged:
    return LinkChanged(Link(index=index, name=name, up=up, mac=bytes((2, 0, 0, 0, 0, index))), gone)


def address(interface: str, text: str, *, gone: bool = False, usable: bool = True) -> AddressChanged:
    packed, length = text.split("/")
    return AddressChanged(
        Address(interface=interface, packed=ip(packed), prefix_length=int(length), usable=usable), gone
    )


def leaf(text: str, interface: str = "") -> Source:
    return Source(name="leaf1", kind=SourceKind.EBGP, address=ip(text), interface=interface)


def uplinks(*events: LinkChanged | AddressChanged) -> Uplinks:
    made = Uplinks()
    for event in events:
        made.kernel_changed(event)
    return made


def test_a_sub_interface_leads_to_the_neighbor_of_its_parent() -> None:
    for session in (leaf("172.16.0.0"), leaf("fe80::1", "eth0")):
        made = uplinks(link(1, "eth0"), address("eth0", "172.16.0.1/31"), link(2, "eth0.101"))
        made.kernel_changed(address("eth0.101", "10.1.0.1/31"))
        made.neighbor_up(session)
        uplink = made.of(BLUE)["eth0.101"]
        assert (uplink.neighbor, uplink.gateways, uplink.up) == ("leaf1", (ip("10.1.0.0"),), True)


def test_the_kernel_s_word_on_the_parent_counts_whatever_the_names_are() -> None:
    made = uplinks(link(1, "bond0"), address("bond0", "172.16.0.1/31"), link(2, "storage"))
    blue = VrfConfig(name="blue", table=1001, uplinks=("blue-up",))
    stacked = Link(index=4, name="blue-up", up=True, kind="vlan", parent=3)
    made.kernel_changed(LinkChanged(stacked))
    made.neighbor_up(leaf("172.16.0.0"))
    assert made.of(blue)["blue-up"].neighbor == ""
    assert made.below({"blue-up"}) == {"blue-up"}
    made.kernel_changed(LinkChanged(Link(index=3, name="outer", up=True, kind="vlan", parent=1)))
    assert made.of(blue)["blue-up"].neighbor == "leaf1"
    assert made.below({"blue-up"}) == {"blue-up", "outer", "bond0"}
    made.kernel_changed(LinkChanged(Link(index=3, name="outer", up=True, kind="vlan", parent=4)))
    assert made.of(blue)["blue-up"].neighbor == ""


def test_a_name_does_not_count_against_the_kernel_s_word() -> None:
    made = uplinks(link(1, "eth0"), address("eth0", "172.16.0.1/31"), link(2, "eth1"), link(3, "eth0.101"))
    made.neighbor_up(leaf("172.16.0.0"))
    assert made.of(BLUE)["eth0.101"].neighbor == "leaf1"
    made.kernel_changed(LinkChanged(Link(index=3, name="eth0.101", up=True, kind="vlan", parent=2)))
    assert made.of(BLUE)["eth0.101"].neighbor == ""
    assert made.below({"eth0.101", "eth1.5.7"}) == {"eth0.101", "eth1", "eth1.5", "eth1.5.7"}


def test_a_session_in_the_uplinks_own_subnet_names_the_leaf_and_its_address() -> None:
    made = uplinks(link(2, "eth0.101"), address("eth0.101", "10.1.0.9/24"))
    made.neighbor_up(leaf("10.1.0.1"))
    uplink = made.of(BLUE)["eth0.101"]
    assert (uplink.neighbor, uplink.gateways) == ("leaf1", (ip("10.1.0.1"),))


def test_a_neighbor_that_is_down_is_beyond_no_uplink() -> None:
    made = uplinks(link(2, "eth0.101"), address("eth0.101", "10.1.0.1/31"))
    session = leaf("10.1.0.0")
    made.neighbor_up(session)
    made.neighbor_down(leaf("10.1.0.0"))
    assert made.of(BLUE)["eth0.101"].neighbor == "leaf1"
    made.neighbor_down(session)
    assert made.of(BLUE)["eth0.101"].neighbor == ""


def test_links_that_are_renamed_or_gone_and_addresses_that_are_tentative_count_for_nothing() -> None:
    made = uplinks(link(2, "eth0.101"), address("eth0.101", "2001:db8::1/64", usable=False))
    assert made.of(BLUE)["eth0.101"].addresses == ()
    made.kernel_changed(link(2, "old"))
    assert not made.of(BLUE)["eth0.101"].up
    assert made.mac("eth0.101") == b""
    made.kernel_changed(link(3, "eth0.101"))
    assert made.mac("eth0.101") == bytes((2, 0, 0, 0, 0, 3))
    made.kernel_changed(link(3, "eth0.101", gone=True))
    assert not made.of(BLUE)["eth0.101"].up


def test_an_uplink_that_does_not_exist_is_down() -> None:
    assert not Uplinks().of(BLUE)["eth0.101"].up
