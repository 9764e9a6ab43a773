"""Which interface faces a neighbor, and which of its addresses a session may offer."""

from __future__ import annotations

from bgpd.model.kernel import Address, AddressChanged, Link, LinkChanged
from bgpd.model.prefix import parse_address
from bgpd.speaker.interfaces import Interfaces, is_link_local


def address(interface: str, text: str, *, usable: bool = True) -> Address:
    packed, _, length = text.partition("/")
    return Address(interface=interface, packed=parse_address(packed), prefix_length=int(length), usable=usable)


def interfaces(*addresses: Address) -> Interfaces:
    known = Interfaces()
    for number, name in enumerate(("lo", "eth0", "eth1"), 1):
        known.apply(LinkChanged(Link(index=number, name=name, up=True)))
    for entry in addresses:
        known.apply(AddressChanged(entry))
    return known


def test_the_most_specific_connected_network_faces_a_neighbor() -> None:
    known = interfaces(address("eth0", "10.0.0.1/8"), address("eth1", "10.0.1.1/24"), address("lo", "10.9.9.9/32"))
    assert known.facing(parse_address("10.0.1.2")) == "eth1"
    assert known.facing(parse_address("10.2.0.1")) == "eth0"
    assert known.facing(parse_address("192.0.2.1")) == ""
    assert known.facing(parse_address("2001:db8::1")) == ""


def test_next_hops_are_usable_addresses_of_their_kind() -> None:
    known = interfaces(
        address("eth0", "fe80::2/64"),
        address("eth0", "2001:db8::9/64"),
        address("eth0", "2001:db8::5/64", usable=False),
        address("eth0", "10.0.1.1/24"),
    )
    assert known.ipv4("eth0") == parse_address("10.0.1.1")
    assert known.ipv6("eth0") == parse_address("2001:db8::9")
    assert known.link_local("eth0") == parse_address("fe80::2")
    assert known.ipv4("eth1") is None
    assert parse_address("10.0.1.1") in known
    assert known.owner(parse_address("10.0.1.1")) == "eth0"


def test_removed_link_takes_its_addresses_and_a_renamed_one_its_old_name() -> None:
    known = interfaces(address("eth0", "10.0.1.1/24"))
    known.apply(LinkChanged(Link(index=2, name="eth0", up=False), gone=True))
    assert parse_address("10.0.1.1") not in known
    assert known.index("eth0") == 0
    known.apply(LinkChanged(Link(index=3, name="uplink", up=True)))
    assert (known.index("eth1"), known.name(3)) == (0, "uplink")


def test_link_local_range() -> None:
    assert is_link_local(parse_address("febf::1"))
    assert not is_link_local(parse_address("fec0::1"))
    assert not is_link_local(parse_address("169.254.0.1"))


def test_equal_networks_of_two_vrfs_are_told_apart() -> None:
    known = Interfaces()
    for index, (name, vrf) in enumerate((("eth0", ""), ("eth1", "blue"))):
        known.apply(LinkChanged(Link(index=index + 1, name=name, up=True, vrf=vrf)))
        known.apply(AddressChanged(address(name, "10.0.1.1/24")))
    assert known.facing(parse_address("10.0.1.2")) == "eth0"
    assert known.facing(parse_address("10.0.1.2"), "blue") == "eth1"
