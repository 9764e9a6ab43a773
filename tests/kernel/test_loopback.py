"""The host's loopback: which address it is of all on lo and dummy interfaces, in whatever order they come."""

from __future__ import annotations

import itertools
import subprocess
from typing import Any

import pytest

from bgpd.kernel.host import Host
from bgpd.kernel.loopback import Loopback, loopback_of, read_loopback
from bgpd.model.kernel import Address, Link
from bgpd.model.prefix import parse_address, parse_prefix
from tests.own_network import own_network

LO = Link(index=1, name="lo", up=True)
DUMMY = Link(index=7, name="dummy0", up=True, kind="dummy")
LO1 = Link(index=8, name="lo1", up=False, kind="dummy")
IPVS = Link(index=9, name="kube-ipvs0", up=False, kind="dummy")
OF_VRF = Link(index=10, name="dummy5", up=True, kind="dummy", vrf="blue")
ETH0 = Link(index=2, name="eth0", up=True)
LINKS = (LO, DUMMY, LO1, IPVS, OF_VRF, ETH0)
LOOPBACK_ONLY = ("127.0.0.1/8", "::1/128")


def at(text: str, link: Link, **fields: Any) -> Address:
    packed, _, length = text.partition("/")
    return Address(index=link.index, packed=parse_address(packed), prefix_length=int(length), **fields)


def packed(text: str) -> bytes:
    return parse_address(text) if text else b""


def chosen(*addresses: Address) -> Loopback:
    """The answer, which is the same in every order, and for whoever follows the kernel."""
    present = [*(at(text, LO) for text in LOOPBACK_ONLY), *addresses]
    (found,) = {loopback_of(LINKS, order) for order in itertools.permutations(present)}
    host = Host(lambda event: None)
    for link in LINKS:
        host.link(link)
    for address in present:
        host.address(address)
    assert host.loopback() == found
    return found


@pytest.mark.parametrize(
    ("addresses", "ipv4", "ipv6"),
    [
        ([], "", ""),
        ([at("10.255.1.1/32", LO)], "10.255.1.1", ""),
        ([at("10.255.1.1/32", LO), at("2001:db8::1/128", LO)], "10.255.1.1", "2001:db8::1"),
        ([at("10.255.1.9/32", LO), at("10.255.1.10/32", LO)], "10.255.1.9", ""),
        ([at("10.0.0.1/32", DUMMY), at("10.255.1.1/32", LO)], "10.255.1.1", ""),
        ([at("10.0.0.1/32", DUMMY), at("10.0.0.2/32", LO1)], "10.0.0.1", ""),
        ([at("10.0.0.3/32", DUMMY), at("10.0.0.2/32", LO1)], "10.0.0.2", ""),
        ([at("10.96.0.1/32", IPVS), at("10.0.1.1/24", ETH0), at("10.3.0.1/32", OF_VRF)], "", ""),
        ([at("169.254.20.10/32", DUMMY), at("fe80::1/64", DUMMY), at("ff02::9/128", LO)], "", ""),
        ([at("10.0.0.1/32", LO, deprecated=True), at("10.0.0.2/32", LO)], "10.0.0.2", ""),
        ([at("2001:db8::1/128", LO, usable=False)], "", ""),
    ],
)
def test_the_loopback_is_one_whatever_the_order(addresses: list[Address], ipv4: str, ipv6: str) -> None:
    found = chosen(*addresses)
    assert (found.ipv4, found.ipv6) == (packed(ipv4), packed(ipv6))


def test_prefixes_say_which_of_several_is_meant_for_each_family_that_they_name() -> None:
    addresses = [at(text, LO) for text in ("10.100.0.53/32", "10.255.1.1/32", "2001:db8::1/128")]
    within = [parse_prefix("10.255.0.0/16")]
    assert loopback_of(LINKS, addresses, within).ipv4 == packed("10.255.1.1")
    assert loopback_of(LINKS, addresses, within).ipv6 == packed("2001:db8::1")
    assert loopback_of(LINKS, addresses, [parse_prefix("a00::/8")]).ipv6 == b""
    assert loopback_of(LINKS, addresses, [parse_prefix("192.0.2.0/24")]).ipv4 == b""
    host = Host(lambda event: None)
    host.link(LO)
    for address in addresses:
        host.address(address)
    assert host.loopback().ipv4 == packed("10.100.0.53")
    host.loopbacks = within
    assert host.loopback().ipv4 == packed("10.255.1.1")


def ip(command: str) -> bool:
    return subprocess.run(["ip", *command.split()], check=False, capture_output=True).returncode == 0


@pytest.mark.netns
def test_the_kernel_is_asked_at_once() -> None:
    with own_network():
        assert read_loopback() == Loopback()
        assert ip("link set lo up")
        assert ip("address add 10.255.1.2/32 dev lo")
        assert ip("address add 10.255.1.1/32 dev lo preferred_lft 0")
        assert ip("link add eth0 type veth peer name leaf0")
        assert ip("address add 2001:db8::1/64 dev eth0 nodad")
        found = read_loopback()
        assert (found.ipv4, found.ipv6) == (packed("10.255.1.2"), b"")
        if not ip("link add dummy0 type dummy"):
            return  # a kernel without them
        assert ip("address add 2001:db8::7/128 dev dummy0")
        assert ip("link add kube-ipvs0 type dummy")
        assert ip("address add 2001:db8::2/128 dev kube-ipvs0")
        assert ip("link add dummy9 type dummy")
        assert ip("address add 2001:db8::3/128 dev dummy9")
        if ip("link add blue type vrf table 1001"):
            assert ip("link set dummy9 master blue")
            found = read_loopback()
            assert (found.ipv6, found.ipv6_interface) == (packed("2001:db8::7"), "dummy0")
