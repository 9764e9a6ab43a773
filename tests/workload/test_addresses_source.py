"""Which addresses of the host are announced, followed live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bgpd.config.schema import Config, RouterConfig, VrfConfig
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.config.schema_workloads import AddressesWorkloadConfig, StaticWorkloadConfig, WorkloadConfig
from bgpd.model.kernel import Address, AddressChanged, AddressScope, KernelEvent, Link, LinkChanged
from bgpd.model.prefix import parse_address
from bgpd.workload.addresses_source import SLICE, AddressesSource
from bgpd.workload.static_source import StaticSource
from tests.workload.fixtures import V4, Rig, claim

ONE = "10.255.0.1/32"
LO, DUMMY, UPLINK, IPVS = 1, 2, 3, 4


def config(
    *interfaces: str, neighbors: tuple[NeighborConfig, ...] = (), vrf: tuple[VrfConfig, ...] = (), **fields: Any
) -> Config:
    fields.setdefault("interfaces", interfaces or ("lo", "dummy*", "kube-ipvs0"))
    return Config(
        router=RouterConfig(asn=65203, router_id="10.255.1.1"),
        workload=WorkloadConfig(addresses=AddressesWorkloadConfig(**fields)),
        neighbor=neighbors,
        vrf=vrf,
    )


NUMBERED = NeighborConfig(name="leaf1", address="10.0.1.2", asn="external", import_="none", export="none")
UNNUMBERED = NeighborConfig(name="leaf2", interface="dummy7", asn="external", import_="none", export="none")


class Addresses(Rig):
    """A rig with the source in it; links and addresses are the host's."""

    def __init__(self, used: Config | None = None) -> None:
        self.source: AddressesSource | None = None
        self._soon: list[Callable[[], None]] = []
        super().__init__(sources=("addresses",))
        for index, name in ((LO, "lo"), (DUMMY, "dummy0"), (UPLINK, "eth0")):
            self.link(name, index=index)
        self.source = AddressesSource(self.parts(used or config()), schedule=self._soon.append)

    def has(self, text: str, index: int = LO, *, gone: bool = False, **fields: Any) -> None:
        address, _, length = text.partition("/")
        one = Address(index=index, packed=parse_address(address), prefix_length=int(length), **fields)
        self.host.address(one, gone=gone)

    def run(self) -> list[str]:
        """Settle; what is announced then."""
        while self._soon:
            self._soon.pop(0)()
        self.settle()
        return sorted(f"{vrf} {prefix}".strip() for vrf, prefix in self.announced)

    def _host_changed(self, event: KernelEvent) -> None:
        super()._host_changed(event)
        if self.source is not None and isinstance(event, LinkChanged | AddressChanged):
            self.source.host_changed(event)


async def started(used: Config | None = None, *addresses: tuple[str, int]) -> Addresses:
    rig = Addresses(used)
    for text, index in addresses:
        rig.has(text, index)
    assert rig.source is not None
    await rig.source.restore()
    return rig


async def test_addresses_of_the_start_are_its_first_state() -> None:
    rig = await started(None, (ONE, LO), ("2001:db8::1/128", DUMMY), ("10.0.1.1/30", UPLINK))
    assert rig.run() == ["10.255.0.1/32", "2001:db8::1/128"]
    assert rig.synchronised == 1
    assert rig.kernel == {}
    (view, _) = rig.claims.views()
    assert (view.source, view.id, view.interface, view.state) == ("addresses", ONE, "lo", "announced")


async def test_first_state_has_come_where_nothing_is_configured_or_there() -> None:
    for used in (Config(router=RouterConfig(asn=65203, router_id="10.255.1.1")), config()):
        rig = await started(used)
        assert rig.run() == []
        assert rig.synchronised == 1


async def test_addresses_are_followed_live() -> None:
    rig = await started()
    rig.has(ONE)
    assert rig.run() == [ONE]
    rig.has(ONE, gone=True)
    assert rig.run() == []
    rig.has(ONE, IPVS)
    assert rig.run() == []
    rig.link("kube-ipvs0", index=IPVS, up=False)
    rig.has(ONE, IPVS)
    assert rig.run() == [ONE]
    rig.link("kube-ipvs0", index=IPVS, gone=True)
    assert rig.run() == []


async def test_address_is_announced_as_a_host_prefix_whatever_its_length() -> None:
    rig = await started()
    rig.has("10.9.0.5/24", DUMMY)
    rig.has("2001:db8:9::5/64", DUMMY)
    assert rig.run() == ["10.9.0.5/32", "2001:db8:9::5/128"]


async def test_address_on_an_interface_that_is_down_is_announced() -> None:
    """The kernel answers for it: kube-ipvs0 is never up."""
    rig = await started()
    rig.link("dummy0", index=DUMMY, up=False)
    rig.has(ONE, DUMMY)
    assert rig.run() == [ONE]
    rig.link("dummy0", index=DUMMY, up=True)
    rig.link("dummy0", index=DUMMY, up=False)
    assert rig.run() == [ONE]
    assert [told[0] for told in rig.told] == ["announce"]


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1/8", "127.0.0.53/32", "169.254.1.1/32", "0.1.2.3/32", "224.0.0.9/32", "240.0.0.1/32"),
        *("::1/128", "fe80::1/64", "ff05::2/128"),
    ],
)
async def test_addresses_that_mean_something_here_only_are_not_announced(text: str) -> None:
    rig = await started()
    rig.has(text)
    assert rig.run() == []
    assert list(rig.claims.views()) == []


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (ONE, {"scope": AddressScope.HOST}),
        (ONE, {"scope": AddressScope.LINK}),
        ("2001:db8::1/128", {"usable": False}),
        ("2001:db8::1/64", {"secondary": True}),
    ],
)
async def test_addresses_that_may_not_be_used_from_elsewhere_are_not_announced(
    text: str, fields: dict[str, Any]
) -> None:
    rig = await started()
    rig.has(text, **fields)
    assert rig.run() == []
    rig.has(text)
    assert rig.run() == [f"{text.partition('/')[0]}/{32 if '.' in text else 128}"]
    rig.has(text, **fields)
    assert rig.run() == []


async def test_secondary_and_deprecated_addresses_are_announced() -> None:
    """Deprecated says that it is not chosen as a source address: keepalived gives its addresses so."""
    rig = await started()
    rig.has("10.255.0.2/24", secondary=True)
    rig.has("2001:db8::2/128", deprecated=True)
    assert rig.run() == ["10.255.0.2/32", "2001:db8::2/128"]


async def test_families_can_be_left_out() -> None:
    for used, expected in ((config(ipv4=False), "2001:db8::1/128"), (config(ipv6=False), ONE)):
        rig = await started(used, (ONE, LO), ("2001:db8::1/128", LO))
        assert rig.run() == [expected]


async def test_only_permitted_addresses_are_announced() -> None:
    used = config(prefixes=("10.255.0.0/16", "10.64.0.0/24 le 32", "2001:db8:1::/48"))
    rig = await started(used, (ONE, LO), ("10.64.0.7/32", LO), ("10.64.1.7/32", LO), ("2001:db8:1::1/128", LO))
    rig.has("2001:db8:2::1/128")
    assert rig.run() == ["10.255.0.1/32", "10.64.0.7/32", "2001:db8:1::1/128"]


async def test_uplink_is_announced_only_by_its_whole_name() -> None:
    neighbors = (NUMBERED, UNNUMBERED)
    there = (("10.0.1.1/30", UPLINK), (ONE, LO))
    rig = await started(config("*", neighbors=neighbors), *there)
    rig.link("dummy7", index=7)
    rig.has("10.7.0.1/32", 7)
    rig.has("10.255.0.2/32", DUMMY)
    assert rig.run() == [ONE, "10.255.0.2/32"]
    rig = await started(config("eth0", "dummy*", neighbors=neighbors), *there)
    assert rig.run() == ["10.0.1.1/32"]


async def test_interface_becomes_an_uplink_by_an_address_and_no_longer_is_one_without() -> None:
    rig = await started(config("eth*", "dummy*", neighbors=(NUMBERED,)), ("10.77.0.1/32", UPLINK), (ONE, DUMMY))
    assert rig.run() == [ONE, "10.77.0.1/32"]
    rig.has("10.0.1.1/30", UPLINK)
    assert rig.run() == [ONE]
    rig.has("10.0.1.1/30", UPLINK, gone=True)
    assert rig.run() == [ONE, "10.77.0.1/32"]
    rig.has("10.0.0.1/8", DUMMY)
    assert rig.run() == ["10.77.0.1/32"]
    rig.has("10.0.1.1/30", UPLINK)
    assert rig.run() == ["10.0.0.1/32", ONE]


async def test_link_local_neighbor_makes_no_uplink_of_other_interfaces() -> None:
    """All interfaces are in fe80::/64."""
    linked = msgspec.structs.replace(NUMBERED, address="fe80::1", interface="eth0")
    rig = await started(config("eth*", "dummy*", neighbors=(linked,)), (ONE, DUMMY), ("10.0.1.1/30", UPLINK))
    rig.has("fe80::2/64", DUMMY, scope=AddressScope.LINK)
    rig.has("fe80::3/64", UPLINK, scope=AddressScope.LINK)
    assert rig.run() == [ONE]
    rig.has("fe80::3/64", UPLINK, scope=AddressScope.LINK, gone=True)
    assert rig.run() == [ONE]


async def test_uplink_that_changes_its_name_is_an_uplink_by_its_network() -> None:
    rig = await started(config("*", neighbors=(NUMBERED,)), ("10.0.1.1/30", UPLINK), (ONE, LO))
    assert rig.run() == [ONE]
    rig.link("lan0", index=UPLINK)
    assert rig.run() == [ONE]


async def test_renamed_interface_is_judged_by_its_new_name() -> None:
    rig = await started(None, (ONE, DUMMY))
    assert rig.run() == [ONE]
    rig.link("other0", index=DUMMY)
    assert rig.run() == []
    rig.link("dummy5", index=DUMMY)
    assert rig.run() == [ONE]


async def test_address_of_two_interfaces_is_one_claim_and_stays_with_the_one_left() -> None:
    rig = await started(None, (ONE, LO), (ONE, DUMMY), ("10.255.0.1/24", DUMMY))
    assert rig.run() == [ONE]
    rig.told.clear()
    rig.has(ONE, LO, gone=True)
    assert rig.run() == [ONE]
    rig.has(ONE, DUMMY, gone=True)
    assert rig.run() == [ONE]
    assert rig.told == []
    rig.has("10.255.0.1/24", DUMMY, gone=True)
    assert rig.run() == []


async def test_vrf_is_that_of_the_interface() -> None:
    rig = await started(config(vrf=(VrfConfig(name="blue", table=1001),)), (ONE, DUMMY))
    rig.host.link(Link(index=DUMMY, name="dummy0", up=True, vrf="blue"))
    rig.has(ONE, LO)
    assert rig.run() == [ONE, f"blue {ONE}"]
    assert rig.claims.interfaces("blue") == set(), "it is in the VRF, and may leave it"
    rig.claims.claim("api", "pod", (claim("10.9.0.1/32", "dummy0", source="api", vrf="blue"),))
    assert rig.claims.interfaces("blue") == {"dummy0"}
    rig.claims.claim("api", "pod")
    rig.host.link(Link(index=DUMMY, name="dummy0", up=True, vrf="unknown"))
    assert rig.run() == [ONE]
    rig.host.link(Link(index=DUMMY, name="dummy0", up=True))
    rig.has(ONE, LO, gone=True)
    assert rig.run() == [ONE]


async def test_reload_changes_only_what_differs() -> None:
    rig = await started(config("lo", "eth0"), (ONE, LO), ("10.255.0.2/32", DUMMY), ("10.0.1.1/30", UPLINK))
    assert rig.run() == ["10.0.1.1/32", ONE]
    rig.told.clear()
    assert rig.source is not None
    rig.source.reconfigure(config("lo", "dummy*").workloads)
    assert rig.run() == [ONE, "10.255.0.2/32"]
    assert {told[0]: told[2] for told in rig.told} == {"withdraw": ["10.0.1.1/32"], "announce": ["10.255.0.2/32"]}
    rig.source.reconfigure(msgspec.structs.replace(config(), workload=WorkloadConfig()).workloads)
    assert rig.run() == []
    rig.source.reconfigure(config("dummy*").workloads)
    assert rig.run() == ["10.255.0.2/32"]


async def test_static_workload_of_the_same_address_and_interface_shares_it() -> None:
    used = msgspec.structs.replace(
        config(),
        workload=WorkloadConfig(
            static=(StaticWorkloadConfig(prefix=ONE, interface="lo"),),
            addresses=AddressesWorkloadConfig(interfaces=("lo",)),
        ),
    )
    rig = Addresses(used)
    rig.has(ONE)
    await StaticSource(rig.parts(used)).restore()
    assert rig.source is not None
    await rig.source.restore()
    assert rig.run() == [ONE]
    assert [view.state for view in rig.claims.views()] == ["announced", "announced"]
    assert rig.kernel == {}
    rig.told.clear()
    rig.claims.claim("static", ONE)
    assert rig.run() == [ONE]
    assert rig.told == []


async def test_others_that_claim_the_same_address_are_told_by_name() -> None:
    rig = await started(None, (ONE, LO))
    rig.link("pod1")
    rig.claims.order.starting = False
    assert rig.run() == [ONE]
    for source in ("api", "kernel", "mqtt", "bgp"):
        rig.claims.claim(source, "a", (claim(ONE, "pod1", source=source, managed=source != "kernel"),))
    assert rig.run() == [ONE]
    first, *others = rig.claims.views()
    assert (first.source, first.state, first.announced) == ("addresses", "conflict", True)
    for source in ("api", "kernel", "mqtt", "bgp"):
        assert f"{source} workload a on pod1" in first.reason
    for view in others:
        assert (view.state, view.announced) == ("conflict", False)
        assert "held by addresses workload 10.255.0.1/32 on lo" in view.reason
    rig.told.clear()
    rig.has(ONE, gone=True)
    assert rig.run() == [ONE]
    assert rig.claims.claims_at("", V4, b"\x20\x0a\xff\x00\x01")[0].source == "api"
    rig.has(ONE)
    rig.run()
    assert {view.source: view.announced for view in rig.claims.views()}["addresses"] is False


async def test_what_the_host_needs_is_no_reason_against_its_own_address() -> None:
    rig = Addresses(config("eth0", neighbors=(NUMBERED,)))
    rig.reserves[b"\x20\x0a\x00\x01\x01"] = "the gateway"
    rig.has("10.0.1.1/30", UPLINK)
    assert rig.source is not None
    await rig.source.restore()
    assert rig.run() == ["10.0.1.1/32"]


async def test_many_addresses_are_taken_in_steps() -> None:
    rig = await started()
    for number in range(2 * SLICE + 1):
        rig.has(f"10.100.{number >> 8}.{number & 255}/32", DUMMY)
    steps = 0
    while rig._soon:
        rig._soon.pop(0)()
        steps += 1
    assert steps == 3
    rig.settle()
    assert len(rig.announced) == 2 * SLICE + 1


async def test_nothing_is_looked_at_without_configuration() -> None:
    rig = await started(Config(router=RouterConfig(asn=65203, router_id="10.255.1.1")))
    rig.has(ONE)
    rig.link("dummy9", index=9)
    assert rig._soon == []
