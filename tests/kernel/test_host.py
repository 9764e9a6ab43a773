"""The host's links, addresses and connected networks: one copy, whatever order the kernel's words come in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.kernel.host import Host, OwnAddresses
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, AddressChanged, KernelEvent, KernelRoute, Link, LinkChanged
from bgpd.model.prefix import parse_address, parse_prefix

ETH0 = Link(index=2, name="eth0", up=True)
ETH1 = Link(index=3, name="eth1", up=True)


def at(text: str, index: int = 2, **fields: Any) -> Address:
    packed, _, length = text.partition("/")
    return Address(index=index, packed=parse_address(packed), prefix_length=int(length), **fields)


def named(address: Address, interface: str) -> Address:
    return Address(**{**{name: getattr(address, name) for name in address.__struct_fields__}, "interface": interface})


def started(*links: Link) -> tuple[Host, list[KernelEvent]]:
    events: list[KernelEvent] = []
    host = Host(events.append)
    for link in links or (ETH0, ETH1):
        host.link(link)
    events.clear()
    return host, events


def texts(host: Host, interface: str) -> list[bytes]:
    return [address.packed for address in host.addresses(interface)]


def test_each_change_is_told_once_with_what_was_before() -> None:
    host, events = started()
    down = Link(index=2, name="eth0", up=False)
    for _ in range(2):
        host.link(down)
        host.address(at("10.0.0.1/24"))
    assert events == [LinkChanged(down, before=ETH0), AddressChanged(named(at("10.0.0.1/24"), "eth0"))]


def test_an_address_stays_on_one_interface_when_it_leaves_another() -> None:
    host, _ = started()
    for index in (2, 3):
        host.address(at("fe80::1/64", index))
    host.address(at("fe80::1/64", 3), gone=True)
    assert host.bears("eth0", parse_address("fe80::1"))
    assert not host.bears("eth1", parse_address("fe80::1"))
    assert host.has_address(parse_address("fe80::1"))


def test_an_address_of_two_networks_stays_until_it_left_both() -> None:
    host, _ = started()
    host.address(at("10.0.0.1/24"))
    host.address(at("10.0.0.1/30"))
    assert host.facing(parse_address("10.0.0.2")) == "eth0"
    host.address(at("10.0.0.1/24"), gone=True)
    assert host.bears("eth0", parse_address("10.0.0.1"))
    assert host.facing(parse_address("10.0.0.2")) == "eth0"
    assert host.facing(parse_address("10.0.0.9")) == ""
    host.address(at("10.0.0.1/30"), gone=True)
    assert not host.has_address(parse_address("10.0.0.1"))


def test_an_address_with_two_peers_stays_until_both_left() -> None:
    host, _ = started()
    for peer in ("10.9.0.1", "10.9.0.2"):
        host.address(at("10.0.0.1/32", peer=parse_address(peer)))
    host.address(at("10.0.0.1/32", peer=parse_address("10.9.0.1")), gone=True)
    assert host.facing(parse_address("10.9.0.2")) == "eth0"
    assert host.facing(parse_address("10.9.0.1")) == ""
    assert host.has_address(parse_address("10.0.0.1"))


def test_a_renamed_link_is_gone_by_its_old_name_and_has_all_it_had_by_its_new_one() -> None:
    host, events = started()
    host.address(at("10.0.0.1/24"))
    events.clear()
    renamed = Link(index=2, name="uplink", up=True)
    host.link(renamed)
    assert events == [
        LinkChanged(ETH0, gone=True),
        LinkChanged(renamed),
        AddressChanged(named(at("10.0.0.1/24"), "uplink")),
    ]
    assert (texts(host, "eth0"), texts(host, "uplink")) == ([], [parse_address("10.0.0.1")])
    assert (host.index_of("eth0"), host.name_of(2)) == (0, "uplink")


def test_a_link_renamed_and_renamed_back_has_its_addresses_and_networks() -> None:
    host, _ = started()
    host.address(at("10.0.0.1/24"))
    family, key = parse_prefix("10.0.0.0/24")
    host.route_changed(KernelRoute(family=family, key=key, table=254, protocol=2, interface="eth0"), gone=False)
    host.link(Link(index=2, name="x", up=True))
    assert host.networks("eth0") == set()
    host.link(ETH0)
    assert texts(host, "eth0") == [parse_address("10.0.0.1")]
    assert host.networks("eth0") == {(family, key)}
    assert host.facing(parse_address("10.0.0.2")) == "eth0"


def test_a_network_that_two_routes_attach_stays_until_both_are_gone() -> None:
    host, _ = started()
    family, key = parse_prefix("10.0.0.0/24")
    first, second = (
        KernelRoute(family=family, key=key, table=254, protocol=2, interface="eth0", source=parse_address(text))
        for text in ("10.0.0.1", "10.0.0.2")
    )
    host.route_changed(first, gone=False)
    host.route_changed(second, gone=False)
    host.route_changed(first, gone=True)
    assert host.networks("eth0") == {(family, key)}
    host.route_changed(second, gone=True)
    assert host.networks("eth0") == set()


def test_an_interface_made_again_by_the_same_name_has_none_of_the_old_ones_addresses() -> None:
    host, events = started()
    host.address(at("10.0.0.1/24"))
    events.clear()
    again = Link(index=9, name="eth0", up=True)
    host.link(again)
    host.link(ETH0, gone=True)
    assert [event for event in events if isinstance(event, LinkChanged)] == [
        LinkChanged(ETH0, gone=True),
        LinkChanged(again),
    ]
    assert host.index_of("eth0") == 9
    assert not host.has_address(parse_address("10.0.0.1"))
    host.address(at("10.0.0.1/24"), gone=True)
    assert host.addresses("eth0") == []


def test_an_index_used_again_starts_without_addresses() -> None:
    host, _ = started()
    host.address(at("10.0.0.1/24"))
    host.link(ETH0, gone=True)
    host.link(Link(index=2, name="dummy0", up=True))
    assert host.addresses("dummy0") == []
    assert not host.has_address(parse_address("10.0.0.1"))


def test_a_reading_corrects_what_was_missed_and_exchanged_names() -> None:
    host, events = started()
    host.address(at("10.0.0.1/24"))
    host.address(at("10.0.1.1/24", 3))
    events.clear()
    exchanged = [Link(index=2, name="eth1", up=True), Link(index=3, name="eth0", up=True)]
    host.begin_reading()
    host.replace(exchanged, [at("10.0.0.1/24"), at("10.0.1.1/24", 3), at("10.0.2.1/24", 3)])
    assert texts(host, "eth1") == [parse_address("10.0.0.1")]
    assert texts(host, "eth0") == [parse_address("10.0.1.1"), parse_address("10.0.2.1")]
    events.clear()
    host.begin_reading()
    host.replace(exchanged, [at("10.0.0.1/24"), at("10.0.1.1/24", 3), at("10.0.2.1/24", 3)])
    assert events == []


def test_what_is_told_during_a_reading_is_newer_than_it() -> None:
    host, _ = started()
    host.address(at("10.0.0.1/24"))
    host.begin_reading()
    host.address(at("10.0.0.1/24"), gone=True)
    host.address(at("10.0.0.9/24"))
    host.link(Link(index=3, name="eth1", up=False))
    host.replace([ETH0, ETH1], [at("10.0.0.1/24")])
    assert texts(host, "eth0") == [parse_address("10.0.0.9")]
    assert not host.is_up("eth1")


def test_addresses_are_chosen_preferred_first_and_never_while_tentative() -> None:
    host, _ = started()
    host.address(at("2001:db8::1/64", deprecated=True))
    host.address(at("2001:db8::2/64", secondary=True))
    host.address(at("2001:db8::9/64"))
    host.address(at("2001:db8::3/64", usable=False))
    order = ["2001:db8::9", "2001:db8::2", "2001:db8::1"]
    assert texts(host, "eth0") == [parse_address(text) for text in order]


def test_the_most_specific_connected_network_of_the_vrf_faces_a_neighbor() -> None:
    host, _ = started(ETH0, ETH1, Link(index=4, name="eth2", up=True, vrf="blue"))
    host.address(at("10.0.0.1/8"))
    host.address(at("10.0.1.1/24", 3))
    host.address(at("10.0.1.1/24", 4))
    assert host.facing(parse_address("10.0.1.2")) == "eth1"
    assert host.facing(parse_address("10.2.0.1")) == "eth0"
    assert host.facing(parse_address("10.0.1.2"), "blue") == "eth2"
    assert host.facing(parse_address("192.0.2.1")) == ""
    assert host.facing(parse_address("2001:db8::1")) == ""
    host.assign("eth1", "red")
    assert host.facing(parse_address("10.0.1.2")) == "eth0"
    assert host.facing(parse_address("10.0.1.2"), "red") == "eth1"


def test_a_link_that_another_vrf_gets_by_a_rule_is_told_once_with_the_former_one() -> None:
    host, events = started(ETH0, Link(index=4, name="eth2", up=True, vrf="blue"))
    told: list[tuple[str, str]] = []
    host.reassigned = lambda link, former: told.append((link.name, former))
    published = len(events)
    for interface, vrf in (("eth0", "red"), ("eth0", "red"), ("none", "red"), ("eth2", "blue"), ("eth0", None)):
        host.assign(interface, vrf)
    assert told == [("eth0", ""), ("eth0", "red")]
    assert len(events) == published


def test_a_session_s_own_addresses_are_those_of_its_interface_and_vrf() -> None:
    host, _ = started(ETH0, ETH1, Link(index=4, name="eth2", up=True, vrf="blue"))
    host.address(at("fe80::1/64", 3))
    host.address(at("10.0.0.1/24", 3))
    host.address(at("10.7.0.1/24", 4))
    own = OwnAddresses(host, interface="eth0", vrf="")
    assert parse_address("10.0.0.1") in own
    assert parse_address("fe80::1") not in own
    assert parse_address("10.7.0.1") not in own
    assert parse_address("fe80::1") in OwnAddresses(host, interface="eth1", vrf="")


# Any sequence of events and readings.

NAMES = ("eth0", "eth1", "lo", "x")
PREFIXES = ("10.0.0.1/24", "10.0.0.1/30", "10.0.1.1/24", "fe80::1/64", "2001:db8::1/64")


class Kernel:
    """What the kernel has; each operation answers the messages that it sends."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self.addresses: dict[tuple[int, bytes, int], Address] = {}

    def set_link(self, index: int, name: str, up: bool, vrf: str) -> list[tuple[Link | Address, bool]]:
        """A link is made, renamed, or changed; refused if another has the name."""
        if any(link.name == name and link.index != index for link in self.links.values()):
            return []
        self.links[index] = Link(index=index, name=name, up=up, vrf=vrf)
        return [(self.links[index], False)]

    def delete_link(self, index: int) -> list[tuple[Link | Address, bool]]:
        """A link is deleted, or moved to another namespace."""
        if index not in self.links:
            return []
        gone = [address for address in self.addresses.values() if address.index == index]
        for address in gone:
            del self.addresses[address.index, address.packed, address.prefix_length]
        return [*((address, True) for address in gone), (self.links.pop(index), True)]

    def set_address(self, index: int, text: str, usable: bool) -> list[tuple[Link | Address, bool]]:
        if index not in self.links:
            return []
        address = at(text, index, usable=usable)
        self.addresses[index, address.packed, address.prefix_length] = address
        return [(address, False)]

    def delete_address(self, index: int, text: str) -> list[tuple[Link | Address, bool]]:
        address = at(text, index)
        known = self.addresses.pop((index, address.packed, address.prefix_length), None)
        return [(known, True)] if known is not None else []


INDEX = st.integers(1, 4)
OPERATION = st.one_of(
    st.tuples(st.just("set_link"), INDEX, st.sampled_from(NAMES), st.booleans(), st.sampled_from(("", "", "blue"))),
    st.tuples(st.just("delete_link"), INDEX),
    st.tuples(st.just("set_address"), INDEX, st.sampled_from(PREFIXES), st.booleans()),
    st.tuples(st.just("delete_address"), INDEX, st.sampled_from(PREFIXES)),
    st.tuples(st.sampled_from(("begin", "dump", "replace", "deliver", "lose"))),
)


def tell(host: Host, message: tuple[Link | Address, bool]) -> None:
    value, gone = message
    if isinstance(value, Link):
        host.link(value, gone=gone)
    else:
        host.address(value, gone=gone)


def answers(host: Host) -> dict[str, object]:
    """What consumers ask."""
    asked = [parse_address(text) for text in ("10.0.0.1", "10.0.0.2", "10.0.1.9", "fe80::1", "2001:db8::2")]
    return {
        "links": host.links,
        "names": [(host.index_of(name), host.is_up(name), host.vrf_of(name)) for name in NAMES],
        "addresses": [host.addresses(name) for name in NAMES],
        "bearers": [host.bearers(packed) for packed in asked],
        "facing": [host.facing(packed, vrf) for packed in asked for vrf in ("", "blue")],
        "attached": sorted(host.attached(Family.IPV4_UNICAST, 254)),
        "all": sorted(host.all_addresses(), key=str),
    }


@given(st.lists(OPERATION, max_size=60))
def test_after_a_fresh_reading_the_answers_are_those_of_the_reading_alone(operations: list[tuple[Any, ...]]) -> None:
    kernel, told = Kernel(), []
    host = Host(told.append)
    waiting: list[tuple[Link | Address, bool]] = []
    dump: tuple[list[Link], list[Address]] | None = None
    reading = False
    for name, *arguments in operations:
        match name:
            case "begin":
                host.begin_reading()
                reading, dump = True, None
            case "dump" if reading:
                dump = list(kernel.links.values()), list(kernel.addresses.values())
            case "replace" if reading and dump is not None:
                host.replace(*dump)
                reading, dump = False, None
            case "deliver":
                for message in waiting:
                    tell(host, message)
                waiting.clear()
            case "lose":
                waiting.clear()
            case "dump" | "replace":
                pass
            case _:
                waiting += getattr(kernel, name)(*arguments)
    for message in waiting:
        tell(host, message)
    host.begin_reading()
    host.replace(kernel.links.values(), kernel.addresses.values())
    fresh = Host(lambda _: None)
    fresh.replace(kernel.links.values(), kernel.addresses.values())
    assert answers(host) == answers(fresh)
    assert followed(told) == followed(list(fresh.events()))


def followed(events: list[KernelEvent]) -> tuple[dict[str, Link], dict[tuple[str, bytes, int], Address]]:
    """What somebody believes who goes by the events alone, by name."""
    links: dict[str, Link] = {}
    addresses: dict[tuple[str, bytes, int], Address] = {}
    for event in events:
        match event:
            case LinkChanged(link, gone):
                if gone:
                    assert links.pop(link.name).index == link.index
                    addresses = {place: one for place, one in addresses.items() if place[0] != link.name}
                else:
                    links[link.name] = link
            case AddressChanged(address, gone):
                place = (address.interface, address.packed, address.prefix_length)
                if gone:
                    addresses.pop(place, None)
                else:
                    addresses[place] = address
    return links, addresses


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_words_on_an_address_that_come_before_those_on_its_link_are_made_good_by_the_reading(
    order: tuple[int, int],
) -> None:
    host = Host(lambda _: None)
    words: list[Link | Address] = [ETH0, at("10.0.0.1/24")]
    for which in order:
        tell(host, (words[which], False))
    host.begin_reading()
    host.replace([ETH0], [at("10.0.0.1/24")])
    assert texts(host, "eth0") == [parse_address("10.0.0.1")]


def test_host_prefixes_lead_to_nobody_else_and_are_found_one_by_one() -> None:
    """An interface may have thousands of them (kube-ipvs0): who asks what faces an address does not walk through."""
    host, _ = started()
    for number in range(3):
        host.address(at(f"10.96.0.{number}/32", 3))
    host.address(at("10.96.0.1/24", 2))
    assert host.facing(parse_address("10.96.0.2")) == "eth0"
    assert list(host.attached(Family.IPV4_UNICAST, 254)) == [(parse_prefix("10.96.0.0/24")[1], "eth0")]
    found = host.with_address(parse_address("10.96.0.1"))
    assert [(one.interface, one.prefix_length) for one in found] == [("eth0", 24), ("eth1", 32)]
    host.link(Link(index=3, name="other", up=True))
    assert [one.interface for one in host.with_address(parse_address("10.96.0.1"))] == ["eth0", "other"]
    host.address(at("10.96.0.1/24", 2), gone=True)
    assert host.facing(parse_address("10.96.0.2")) == ""
    assert host.bearers(parse_address("10.96.0.1")) == ["other"]
    host.link(Link(index=3, name="other", up=True), gone=True)
    assert host.with_address(parse_address("10.96.0.1")) == []


def test_other_end_of_a_point_to_point_address_is_faced_though_it_is_a_host_prefix() -> None:
    host, _ = started()
    one = at("10.0.0.1/32", 3, peer=parse_address("10.0.0.2"))
    host.address(one)
    assert host.facing(parse_address("10.0.0.2")) == "eth1"
    host.address(one, gone=True)
    assert host.facing(parse_address("10.0.0.2")) == ""
