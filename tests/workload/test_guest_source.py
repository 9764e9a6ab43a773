"""What guests announce becomes claims: where the packets go, with which communities, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import cycle

import pytest

from bgpd.config.schema import Config, RouterConfig
from bgpd.config.schema_workloads import GuestConfig, WorkloadConfig
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, AddressChanged
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.source import Source, SourceKind
from bgpd.model.views.sessions import NeighborView
from bgpd.model.workload import NO_COMMUNITIES, Communities
from bgpd.workload import guest_source
from bgpd.workload.guest_source import QUIET_S, GuestSource
from tests.workload.fixtures import Rig, claim, on

V4 = Family.IPV4_UNICAST
COMMUNITY = 65203 << 16 | 7


def guest(name: str = "one", address: str = "127.0.0.2", **fields: object) -> GuestConfig:
    values = {"asn": "external", "prefixes": ("10.9.0.0/16 le 32",), "max_prefixes": 10, **fields}
    return GuestConfig(name=name, prefix=address, **values)  # type: ignore[arg-type]


def config(*guests: GuestConfig) -> Config:
    return Config(router=RouterConfig(asn=65203, router_id="10.255.1.1"), workload=WorkloadConfig(bgp=guests))


class Guests:
    """A rig with a source of guests: veth0 has 10.70.0.1/24, lo 127.0.0.1/8."""

    def __init__(self, *guests: GuestConfig, restarting: bool = False) -> None:
        self.rig = Rig(sources=("bgp",))
        self.rig.restarting = restarting
        for interface, *addresses in (("lo", "127.0.0.1/8"), ("veth0", "10.70.0.1/24", "2001:db8::1/64"), ("veth1",)):
            self.rig.link(interface)
            for address in addresses:
                self.rig.address(interface, address)
        self.scheduled: list[Callable[[], None]] = []
        self.source = GuestSource(self.rig.parts(config(*guests)), schedule=self.scheduled.append)

    def says(
        self,
        prefix: str,
        *speakers: tuple[str, str],
        name: str = "one",
        next_hop: str = "192.0.2.1",
        communities: tuple[int, ...] = (),
        med: int | None = None,
        otcs: tuple[int | None, ...] = (None,),
    ) -> None:
        """A key has these paths: of sessions that come from an address by an interface."""
        family, key = parse_prefix(prefix)
        paths = []
        for (address, interface), otc in zip(speakers, cycle(otcs)):
            attributes = Attributes.of(communities=communities, med=med, only_to_customer=otc)
            source = Source(
                name=name if len(speakers) == 1 else f"{name}-{address}",
                kind=SourceKind.EBGP,
                address=parse_address(address),
                interface=interface,
                guest=name,
            )
            paths.append(Path.of(source, attributes, NextHop(parse_address(next_hop)), attributes, 1.0))
        self.rig.paths[name, family, key] = tuple(paths)
        self.source.routes_changed(name, family, [key])
        self.turn()

    def turn(self) -> None:
        while self.scheduled:
            self.scheduled.pop(0)()
        self.rig.settle()


def via(*addresses: str) -> NextHops:
    return tuple(sorted(NextHop(parse_address(address)) for address in addresses))


def test_guest_on_this_host_needs_no_route() -> None:
    for address, interface in (("127.0.0.2", "lo"), ("127.0.0.1", ""), ("10.70.0.1", "")):
        guests = Guests(guest())
        guests.says("10.9.1.1/32", (address, interface))
        assert guests.rig.state("bgp", "one/10.9.1.1/32") == ("announced", "")
        assert guests.rig.kernel == {}


def test_guest_behind_an_interface_is_routed_to_whatever_next_hop_it_says() -> None:
    guests = Guests(guest(address="10.70.0.2"))
    guests.says("10.9.1.1/32", ("10.70.0.2", "veth0"))
    assert guests.rig.kernel == {("", "10.9.1.1/32"): via("10.70.0.2")}
    assert guests.rig.state("bgp", "one/10.9.1.1/32") == ("announced", "")
    guests.rig.link("veth0", up=False)
    guests.turn()
    assert guests.rig.state("bgp", "one/10.9.1.1/32") == ("pending", "interface veth0 is down")
    guests.says("10.9.1.1/32")
    assert guests.rig.kernel == {}
    assert list(guests.rig.claims.views()) == []


def test_next_hop_leads_where_it_must_be_local() -> None:
    guests = Guests(guest(address="10.70.0.2", next_hop="local"))
    guests.says("10.9.1.1/32", ("10.70.0.2", "veth0"), next_hop="10.70.0.9")
    guests.says("10.9.1.2/32", ("10.70.0.2", "veth0"), next_hop="10.70.0.1")
    assert guests.rig.kernel == {("", "10.9.1.1/32"): via("10.70.0.9")}
    assert guests.rig.state("bgp", "one/10.9.1.2/32") == ("announced", "")


def test_ipv6_over_ipv4_needs_an_ipv6_next_hop() -> None:
    guests = Guests(guest(address="10.70.0.2"))
    guests.says("2001:db8:9::1/128", ("10.70.0.2", "veth0"), next_hop="::ffff:10.70.0.2")
    assert guests.rig.state("bgp", "one/2001:db8:9::1/128") == (
        "pending",
        "IPv6 routes need an IPv6 next hop, and the session with one is one of IPv4",
    )
    guests.says("2001:db8:9::1/128", ("10.70.0.2", "veth0"), next_hop="2001:db8::2")
    assert guests.rig.kernel == {("", "2001:db8:9::1/128"): via("2001:db8::2")}
    guests.says("2001:db8:9::2/128", ("10.70.0.2", "veth0"), next_hop="fe80::2")
    assert guests.rig.kernel["", "2001:db8:9::2/128"] == (NextHop(parse_address("fe80::2"), "veth0"),)


def test_guests_of_a_section_share_what_they_all_announce() -> None:
    guests = Guests(guest(address="10.70.0.0/24"))
    guests.says("10.9.1.1/32", ("10.70.0.2", "veth0"), ("10.70.0.3", "veth0"))
    assert guests.rig.kernel == {("", "10.9.1.1/32"): via("10.70.0.2", "10.70.0.3")}
    (view,) = guests.rig.claims.views()
    assert (view.source, view.guests, view.interface) == ("bgp", ["one-10.70.0.2", "one-10.70.0.3"], "veth0")
    guests.says("10.9.1.1/32", ("10.70.0.2", "veth0"), ("10.71.0.3", "veth1"))
    (view,) = guests.rig.claims.views()
    assert view.interface == ""


@pytest.mark.parametrize(("mode", "expected"), [("none", b""), ("keep", COMMUNITY.to_bytes(4, "big"))])
def test_communities_are_kept_where_that_is_said(mode: str, expected: bytes) -> None:
    guests = Guests(guest(communities=mode))
    guests.says("10.9.1.1/32", ("127.0.0.2", "lo"), communities=(COMMUNITY,))
    assert guests.rig.announced["", "10.9.1.1/32"].communities == Communities(standard=expected)
    other = "keep" if mode == "none" else "none"
    guests.source.reconfigure(config(guest(communities=other)).workloads)
    guests.turn()
    assert guests.rig.announced["", "10.9.1.1/32"].communities.standard != expected


def test_med_is_kept_where_that_is_said() -> None:
    guests = Guests(guest(med="keep"))
    guests.says("10.9.1.1/32", ("127.0.0.2", "lo"), med=1000)
    assert guests.rig.announced["", "10.9.1.1/32"].med == 1000
    guests.source.reconfigure(config(guest()).workloads)
    guests.turn()
    assert guests.rig.announced["", "10.9.1.1/32"].med is None


@pytest.mark.parametrize("otcs", [(64999,), (None, 64999)])
def test_otc_is_preserved_whatever_else_is_kept(otcs: tuple[int | None, ...]) -> None:
    """RFC 9234 section 5; also if only one of those who share the address has it."""
    guests = Guests(guest(address="10.70.0.0/28"))
    guests.says("10.9.1.1/32", ("10.70.0.2", "veth0"), ("10.70.0.3", "veth0"), otcs=otcs)
    info = guests.rig.announced["", "10.9.1.1/32"]
    assert (info.only_to_customer, info.communities, info.med) == (64999, NO_COMMUNITIES, None)
    guests.says("10.9.1.1/32", ("10.70.0.2", "veth0"))
    assert guests.rig.announced["", "10.9.1.1/32"].only_to_customer is None


def test_others_may_announce_what_is_anycast() -> None:
    guests = Guests(guest())
    guests.says("10.9.1.1/32", ("127.0.0.2", "lo"))
    assert not guests.rig.announced["", "10.9.1.1/32"].is_service
    guests.source.reconfigure(config(guest(anycast=True)).workloads)
    guests.turn()
    assert guests.rig.announced["", "10.9.1.1/32"].is_service


def test_claims_of_a_section_that_is_removed_go() -> None:
    guests = Guests(guest())
    guests.says("10.9.1.1/32", ("127.0.0.2", "lo"))
    guests.source.reconfigure(config().workloads)
    guests.turn()
    assert list(guests.rig.claims.views()) == []


def test_guests_address_that_leaves_this_host_is_routed_to() -> None:
    guests = Guests(guest(address="10.70.0.1"))
    guests.says("10.9.1.1/32", ("10.70.0.1", "veth0"))
    assert guests.rig.kernel == {}
    guests.rig.address("veth0", "10.70.0.1/24", gone=True)
    guests.source._claim_again()
    guests.turn()
    assert guests.rig.kernel == {("", "10.9.1.1/32"): via("10.70.0.1")}


def test_other_addresses_of_the_host_are_no_reason_to_look_again() -> None:
    """With kube-ipvs0 a host has thousands, which come and go."""
    guests = Guests(guest(address="10.70.0.1"))
    guests.says("10.9.1.1/32", ("10.70.0.1", "veth0"))
    for packed, is_asked in (("10.96.0.1", False), ("2001:db8::9", False), ("10.70.0.1", True), ("127.0.0.1", True)):
        guests.source.host_changed(AddressChanged(Address(index=1, packed=parse_address(packed), prefix_length=32)))
        assert bool(guests.scheduled) is is_asked
        guests.turn()
    guests.rig.address("veth0", "10.70.0.1/24", gone=True)
    gone = Address(index=1, packed=parse_address("10.70.0.1"), prefix_length=24)
    guests.source.host_changed(AddressChanged(gone, gone=True))
    guests.turn()
    assert guests.rig.kernel == {("", "10.9.1.1/32"): via("10.70.0.1")}


def test_more_addresses_than_are_kept_are_looked_at_again_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_source, "_MOST_KNOWN", 2)
    guests = Guests(guest(address="10.70.0.0/24"))
    for last in range(2, 7):
        guests.says(f"10.9.1.{last}/32", (f"10.70.0.{last}", "veth0"))
    guests.rig.address("lo", "10.70.0.2/32")
    own = Address(index=1, packed=parse_address("10.70.0.2"), prefix_length=32)
    guests.source.host_changed(AddressChanged(own))
    guests.turn()
    assert ("", "10.9.1.2/32") not in guests.rig.kernel
    assert len(guests.rig.kernel) == 4
    assert guests.scheduled == []


def test_link_local_address_of_a_guest_may_be_this_hosts_on_another_interface() -> None:
    guests = Guests(guest(address="fe80::2", interface="veth0"))
    guests.rig.address("veth1", "fe80::2/64")
    guests.says("2001:db8:9::1/128", ("fe80::2", "veth0"))
    guests.says("2001:db8:9::2/128", ("fe80::2", "veth1"))
    assert guests.rig.kernel == {("", "2001:db8:9::1/128"): (NextHop(parse_address("fe80::2"), "veth0"),)}


def test_guests_own_address_is_on_its_link() -> None:
    guests = Guests(guest(address="10.70.0.2"))
    guests.says("10.70.0.2/32", ("10.70.0.2", "veth0"))
    assert guests.rig.kernel == {("", "10.70.0.2/32"): on("veth0")}


def test_what_was_missed_is_found_by_a_comparison() -> None:
    guests = Guests(guest())
    guests.says("10.9.1.1/32", ("127.0.0.2", "lo"))
    keys = [parse_prefix(prefix)[1] for prefix in ("10.9.1.1/32", "10.9.1.2/32")]
    assert guests.source.differing("one", V4, keys) == []
    guests.rig.paths["one", V4, keys[1]] = guests.rig.paths.pop(("one", V4, keys[0]))
    assert guests.source.differing("one", V4, keys) == keys
    assert guests.source.claimed("one", V4) == keys[:1]
    guests.source.routes_changed("one", V4, keys)
    assert guests.source.differing("one", V4, keys) == []
    guests.turn()
    assert guests.source.claimed("one", V4) == keys[1:]
    assert guests.source.differing("one", V4, keys) == []


def test_very_many_are_made_claims_in_steps() -> None:
    guests = Guests(guest())
    family, first = parse_prefix("10.9.0.0/32")
    guests.says("10.9.0.0/32", ("127.0.0.2", "lo"))
    paths = guests.rig.paths["one", family, first]
    keys = [parse_prefix(f"10.9.{number >> 8}.{number & 255}/32")[1] for number in range(1200)]
    guests.rig.paths.update({("one", family, key): paths for key in keys})
    guests.source.routes_changed("one", family, keys)
    steps = 0
    while guests.scheduled:
        guests.scheduled.pop(0)()
        steps += 1
    assert steps == 3
    assert len(guests.rig.claims.claimed("bgp")) == 1200


def test_another_sources_claim_stays_and_says_so() -> None:
    guests = Guests(guest())
    guests.rig.claims.claim("api", "pod", (claim("10.9.1.1/32", "veth1", id="pod", source="api"),))
    guests.turn()
    guests.says("10.9.1.1/32", ("127.0.0.2", "lo"))
    assert guests.rig.state("bgp", "one/10.9.1.1/32")[0] == "conflict"
    assert guests.rig.kernel == {("", "10.9.1.1/32"): on("veth1")}
    guests.rig.claims.claim("api", "pod")
    guests.turn()
    assert guests.rig.state("bgp", "one/10.9.1.1/32") == ("announced", "")


async def test_first_start_waits_for_no_guest() -> None:
    guests = Guests(guest())
    await guests.source.restore()
    guests.turn()
    assert guests.rig.synchronised == 1


async def test_all_that_was_handed_over_is_claimed_before_that_is_the_first_state() -> None:
    guests = Guests(guest(), restarting=True)
    guests.says("10.9.0.0/32", ("127.0.0.2", "lo"))
    keys = [parse_prefix(f"10.9.{number >> 8}.{number & 255}/32")[1] for number in range(1200)]
    guests.rig.paths.update({("one", V4, key): guests.rig.paths["one", V4, keys[0]] for key in keys})
    guests.source.routes_changed("one", V4, keys)
    guests.source.remember(guests.source.save())
    await guests.source.restore()
    assert guests.rig.first_state.awaited == []
    assert len(guests.rig.claims.claimed("bgp")) == 1200


async def test_guests_that_do_not_come_are_not_looked_for_for_ever() -> None:
    guests = Guests(guest(), restarting=True)
    await guests.source.restore()
    assert guests.rig.first_state.time_out() == ["bgp"]
    async with asyncio.timeout(60):
        await guests.source.run()


async def test_hand_over_waits_for_no_guest() -> None:
    guests = Guests(guest(), restarting=True)
    guests.source.remember(guests.source.save())
    await guests.source.restore()
    guests.turn()
    assert guests.rig.synchronised == 1


@pytest.mark.parametrize("sends_end", [True, False])
async def test_restart_waits_for_guests_of_known_addresses(sends_end: bool) -> None:
    guests = Guests(guest(), guest("many", "10.70.0.0/24"), restarting=True)
    await guests.source.restore()
    assert guests.source.initial_wait_s is not None
    view = NeighborView(
        name="one", address="127.0.0.2", interface="lo", asn=64512, local_asn=65203, state="established", since=100.0
    )
    view.families, view.neighbor_graceful_restart = {"ipv4-unicast": None}, "helper" if sends_end else "off"  # type: ignore[dict-item]
    guests.rig.sessions = [view]
    guests.source._look(100.0 + QUIET_S / 2)
    guests.turn()
    assert guests.rig.synchronised == 0
    if sends_end:
        guests.source._look(200.0)
        guests.turn()
        assert guests.rig.synchronised == 0
        view.end_of_rib = ["ipv4-unicast"]
    guests.rig.paths["one", V4, parse_prefix("10.9.1.1/32")[1]] = ()
    guests.source.routes_changed("one", V4, [parse_prefix("10.9.1.1/32")[1]])
    guests.source._look(100.5 + QUIET_S)
    assert guests.rig.first_state.awaited == ["bgp"], "what it has said is not claimed yet"
    guests.turn()
    guests.source._look(100.5 + QUIET_S)
    guests.turn()
    assert guests.rig.synchronised == 1
