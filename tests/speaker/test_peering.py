"""Names of dynamic neighbors, and how a neighbor is dialed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bgpd.config.schema import RouterConfig, SpeakerConfig
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.kernel.host import Host
from bgpd.model.kernel import Address, Link
from bgpd.model.prefix import parse_address
from bgpd.runtime.descriptors import Shortage
from bgpd.speaker.admission import Admission
from bgpd.speaker.listening import Listening
from bgpd.speaker.peering import Changed, Peering, has_own_section, of_guest, of_listen, of_neighbor, of_saved
from bgpd.speaker.reach import Reach, Unreachable, target_of
from bgpd.speaker.saved import SavedSession
from tests.speaker.test_left_sessions import session


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
    for index, name in enumerate(("lo", "eth1", "eth10", "tap9"), start=1):
        known.link(Link(index=index, name=name, up=True))
    with pytest.raises(Unreachable, match="there is no interface eth0; this host has eth1, eth10, tap9"):
        target_of(peering, known)
    known.link(Link(index=7, name="eth0", up=False))
    with pytest.raises(Unreachable, match="interface eth0 is down"):
        target_of(peering, known)
    known.link(Link(index=7, name="eth0", up=True))
    with pytest.raises(Unreachable, match=r"eth0 has no IPv6 link-local address: is net.ipv6.conf.eth0.disable_ipv6"):
        target_of(peering, known)
    known.address(Address(index=7, packed=parse_address("fe80::7"), prefix_length=64))
    with pytest.raises(Unreachable, match="no Router Advertisement heard"):
        target_of(peering, known)
    heard = msgspec.structs.replace(peering, address=parse_address("fe80::1"))
    target = target_of(heard, known)
    assert (target.scope, target.port, str(target)) == (7, 179, "fe80::1%eth0 port 179")


def test_interface_that_many_others_hide_is_answered_with_the_nearest() -> None:
    known = Host(lambda _: None)
    for index in range(300):
        known.link(Link(index=index + 1, name=f"tap{index}", up=True))
    known.link(Link(index=999, name="enp3s0", up=True))
    with pytest.raises(Unreachable, match=r"there is no interface enp3s1; this host has enp3s0, .* and 289 more$"):
        target_of(of_neighbor(neighbor(interface="enp3s1")), known)


def test_a_neighbor_in_a_vrf_is_dialed_over_its_interface_or_the_vrf_device() -> None:
    known = Host(lambda _: None)
    tenant = neighbor(vrf="blue")
    with pytest.raises(Unreachable, match="there is no device of VRF blue"):
        target_of(of_neighbor(tenant), known)
    known.link(Link(index=8, name="tap1", up=True))
    over = of_neighbor(msgspec.structs.replace(tenant, interface="tap1"))
    assert target_of(over, known).interface == "tap1"
    known.link(Link(index=9, name="blue", up=True, kind="vrf"))
    assert target_of(of_neighbor(tenant), known).interface == "blue"
    known.link(Link(index=9, name="blue", up=True, kind="bridge"))
    with pytest.raises(Unreachable):
        target_of(of_neighbor(tenant), known)


def test_guest_at_an_own_address_faces_no_interface_whatever_network_that_is_in() -> None:
    known = Host(lambda _: None)
    for index, (name, *addresses) in enumerate((("lo", "10.1.0.9/32"), ("eth0", "10.1.0.5/24", "10.1.0.6/24")), 1):
        known.link(Link(index=index, name=name, up=True))
        for text in addresses:
            address, _, length = text.partition("/")
            known.address(Address(index=index, packed=parse_address(address), prefix_length=int(length)))
    listening = Listening(179, admission=Admission(neighbors=1, shortage=Shortage()))
    for address, expected in (("10.1.0.9", ""), ("10.1.0.5", ""), ("10.1.0.77", "eth0")):
        guest = GuestConfig(name="one", prefix=address, asn="external", prefixes=("10.9.0.0/16",), max_prefixes=1)
        reach = Reach(of_guest(guest), known, listening)
        assert reach.expected_interface() == expected


# What another process has left


ROUTER = RouterConfig(asn=65203, router_id="10.0.0.1")
LEAF = NeighborConfig(name="leaf1", asn=65201, import_="all", address="10.0.1.2")
UNNUMBERED = NeighborConfig(name="leaf2", asn=65201, import_="all", interface="eth0")
RANGE = ListenConfig(prefix="10.64.0.0/24", asn="external", import_="all")
GUEST = GuestConfig(name="one", prefix="127.0.0.2", asn="external", prefixes=("10.9.0.0/16",), max_prefixes=10)
GUESTS_OF_POD1 = msgspec.structs.replace(GUEST, name="many", prefix="10.70.0.0/24")
CONFIG = SpeakerConfig(router=ROUTER, neighbor=(LEAF, UNNUMBERED), listen=(RANGE, GUEST, GUESTS_OF_POD1))


def left(peering: Peering, **fields: object) -> SavedSession:
    """A session of this neighbor, as another process has left it."""
    values = {
        "name": peering.name,
        "section": peering.section,
        "config": msgspec.msgpack.encode(peering.config),
        "router": msgspec.msgpack.encode(ROUTER),
        "address": peering.address,
        "interface": peering.interface,
        "arrival": peering.arrival,
        **fields,
    }
    return msgspec.structs.replace(session(peering.name, 1), **values)  # type: ignore[arg-type]


LINK_LOCAL = parse_address("fe80::2")
LEFT = {
    "by its address": of_neighbor(LEAF),
    "by its interface": msgspec.structs.replace(of_neighbor(UNNUMBERED), address=LINK_LOCAL),
    "dynamic": of_listen(RANGE, parse_address("10.64.0.7"), "", arrival="pod1"),
    "a guest": of_guest(GUEST),
    "one of several guests": of_listen(GUESTS_OF_POD1, parse_address("10.70.0.5"), "pod1", arrival="pod1"),
}


@pytest.mark.parametrize("who", LEFT)
def test_a_session_goes_on_as_the_neighbor_that_it_was(who: str) -> None:
    assert of_saved(left(LEFT[who]), CONFIG) == LEFT[who]


@pytest.mark.parametrize("who", LEFT)
def test_a_session_of_nobody_in_the_configuration_does_not_go_on(who: str) -> None:
    with pytest.raises(Changed, match="removed from configuration"):
        of_saved(left(LEFT[who]), msgspec.structs.replace(CONFIG, neighbor=(), listen=()))


@pytest.mark.parametrize("who", LEFT)
def test_a_session_that_would_have_to_begin_anew_does_not_go_on(who: str) -> None:
    """Another hold time in its own section, or another AS number of this host."""
    other = msgspec.structs.replace(LEFT[who].config, hold_time_s=30)
    with pytest.raises(Changed, match="configuration changed"):
        of_saved(left(LEFT[who], config=msgspec.msgpack.encode(other)), CONFIG)
    with pytest.raises(Changed, match="configuration changed"):
        of_saved(left(LEFT[who], router=msgspec.msgpack.encode(msgspec.structs.replace(ROUTER, asn=65299))), CONFIG)


@pytest.mark.parametrize("who", LEFT)
@pytest.mark.parametrize("field", ["config", "router"])
def test_a_session_of_a_version_with_other_keys_does_not_go_on(who: str, field: str) -> None:
    with pytest.raises(Changed, match="another version of bgpd has left it"):
        of_saved(left(LEFT[who], **{field: msgspec.msgpack.encode({"what": 1})}), CONFIG)


def test_a_dynamic_neighbor_whose_range_has_another_name_for_it_does_not_go_on() -> None:
    with pytest.raises(Changed, match="removed from configuration"):
        of_saved(left(LEFT["dynamic"], name="10.0.0.0/8-10.64.0.7"), CONFIG)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"address": "10.64.0.7"}, True),
        ({"address": "10.64.0.7", "interface": "pod1"}, False),
        ({"address": "10.64.0.7", "vrf": "blue"}, False),
        ({"address": "10.64.0.8"}, False),
        ({"interface": "pod1"}, False),
    ],
)
def test_a_dynamic_neighbor_that_has_a_section_of_its_own_now_does_not_go_on(
    section: dict[str, str], expected: bool
) -> None:
    own = msgspec.structs.replace(LEAF, **{"name": "own", "address": "", **section})
    config = msgspec.structs.replace(CONFIG, neighbor=(LEAF, own))
    if not expected:
        assert of_saved(left(LEFT["dynamic"]), config) == LEFT["dynamic"]
        return
    with pytest.raises(Changed, match="removed from configuration"):
        of_saved(left(LEFT["dynamic"]), config)


def test_a_neighbor_of_an_interface_is_whoever_comes_from_a_link_local_address_there() -> None:
    assert has_own_section((UNNUMBERED,), LINK_LOCAL, "eth0")
    assert not has_own_section((UNNUMBERED,), LINK_LOCAL, "eth1")
    assert not has_own_section((UNNUMBERED,), parse_address("2001:db8::2"), "eth0")


def test_a_dynamic_neighbor_goes_on_though_guests_of_other_ports_have_a_range_inside_its_own() -> None:
    guests = msgspec.structs.replace(GUESTS_OF_POD1, prefix="10.64.0.0/28", port=1790)
    config = msgspec.structs.replace(CONFIG, listen=(RANGE, guests))
    assert of_saved(left(LEFT["dynamic"]), config) == LEFT["dynamic"]
