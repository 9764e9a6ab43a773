"""Another host with this host's AS number or router ID: what tells of it, and what does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec

from bgpd.config.schema import VrfConfig
from bgpd.model.communities import automatic_route_distinguisher
from bgpd.model.evpn import prefix_key
from bgpd.model.iana import Family
from bgpd.model.identity import Chosen, Origin
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.model.views.host import ConfigurationView
from bgpd.routing import Routing
from bgpd.twins import Twins
from tests.logs import capture_logs
from tests.rib.build import LOCAL, LOCAL_ASN, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

HOP1, HOP2 = hop("10.0.1.2"), hop("10.0.2.2")
CHOSEN = Chosen(value=str(LOCAL_ASN), origin=Origin.LOOPBACK, of="10.255.1.1", asn_range="64512-65534")
EVPN = Family.L2VPN_EVPN


class Host:
    """This host: its RIB, two leaves, and a look at what they announce."""

    def __init__(self, *, is_auto: bool = True, vrf: tuple[VrfConfig, ...] = (), **fields: object) -> None:
        fields = {"families": ("ipv4-unicast", "l2vpn-evpn"), **fields}
        configs = session("leaf1", **fields), session("leaf2", **fields)
        config = msgspec.structs.replace(configuration(*configs), vrf=vrf)
        self.recorder = Recorder(config)
        self.leaf1 = self.recorder.up(leaf(1), configs[0], families=(V4, EVPN))
        self.leaf2 = self.recorder.up(leaf(2), configs[1], families=(V4, EVPN))
        self.views: list[Any] = []
        speaker = SimpleNamespace(neighbor_views=lambda: self.views)
        self.sources: dict[str, Source] = {}
        routing = SimpleNamespace(rib=self.recorder.rib, sources=self.sources, speaker=speaker)
        chosen = ConfigurationView(asn=CHOSEN if is_auto else None)
        self.twins = Twins(cast(Routing, routing), config=lambda: config, chosen=lambda: chosen)

    def own(self, *prefixes: str) -> None:
        self.recorder.rib.announce_local(LOCAL, V4, [key(prefix) for prefix in prefixes], attributes())

    def looks(self, times: int = 2) -> list[str]:
        for _ in range(times):
            drain(self.twins.look())
        return self.twins.warnings()


def test_a_route_from_this_as_that_this_host_has_not_is_a_twins() -> None:
    host = Host()
    host.own("10.64.1.5/32")
    host.recorder.announce(host.leaf1, attributes(65201, 65301, LOCAL_ASN), HOP1, "10.64.7.5/32", "10.64.1.5/32")
    with capture_logs() as logs:
        assert host.looks(1) == [], "it may be what was withdrawn here a moment ago"
        assert host.looks(1) == [
            f"another host has this host's AS {LOCAL_ASN}: it announces 10.64.7.5/32, heard from leaf1 "
            f"(AS path 65201 65301 {LOCAL_ASN}, next hop 10.0.1.2)"
        ]
        host.looks(3)
        host.recorder.withdraw(host.leaf1, "10.64.7.5/32")
        assert host.looks(1) == []
    assert [one["event"] for one in logs if one["event"].startswith("identity")] == [
        "identity.twin",
        "identity.twin_ended",
    ]


def test_this_hosts_own_routes_that_come_back_are_none() -> None:
    host = Host()
    host.own("10.64.1.5/32", "10.64.1.6/32")
    for source, asn, next_hop in ((host.leaf1, 65201, HOP1), (host.leaf2, 65202, HOP2)):
        path = attributes(asn, 65301, LOCAL_ASN)
        host.recorder.announce(source, path, next_hop, "10.64.1.5/32", "10.64.1.6/32")
    assert host.looks(5) == []
    host.recorder.rib.withdraw_local(LOCAL, V4, [key("10.64.1.6/32")])
    assert host.looks(1) == []
    host.recorder.withdraw(host.leaf1, "10.64.1.6/32")
    host.recorder.withdraw(host.leaf2, "10.64.1.6/32")
    assert host.looks(5) == []


def test_hosts_that_share_a_configured_as_number_are_none() -> None:
    host = Host(is_auto=False)
    host.recorder.announce(host.leaf1, attributes(65201, LOCAL_ASN), HOP1, "10.64.7.5/32")
    assert host.looks() == []


def test_this_as_in_the_middle_of_a_path_is_none() -> None:
    host = Host()
    host.recorder.announce(host.leaf1, attributes(65201, LOCAL_ASN, 65300), HOP1, "10.64.7.5/32")
    host.recorder.announce(host.leaf2, attributes(65202, 65300), HOP2, "10.64.8.5/32")
    assert host.looks() == []


def test_many_routes_of_a_twin_are_a_few_lines() -> None:
    host = Host()
    prefixes = [f"10.64.7.{number}/32" for number in range(200)]
    host.recorder.announce(host.leaf1, attributes(65201, LOCAL_ASN), HOP1, *prefixes)
    found = host.looks()
    assert len(found) == 5
    assert found[-1] == "there are more signs of a host with the same numbers"


def test_a_reflected_route_of_this_router_id_that_this_host_has_not_is_a_twins() -> None:
    configs = session("leaf1", asn="internal")
    host = Host(is_auto=False)
    source = host.recorder.up(leaf(3, kind=SourceKind.IBGP, asn=LOCAL_ASN, name="rr"), configs)
    reflected = attributes(originator_id=parse_address("10.255.1.1"), local_pref=100)
    host.recorder.announce(source, reflected, HOP1, "10.64.7.5/32")
    (found,) = host.looks()
    assert found.startswith(
        "another host has this host's router ID, 10.255.1.1: it announces 10.64.7.5/32, heard from rr"
    )


def test_an_evpn_route_with_this_hosts_distinguisher_is_a_twins() -> None:
    blue = VrfConfig(name="blue", table=1001, vni=5001)
    host = Host(is_auto=False, vrf=(blue,))
    own_rd = automatic_route_distinguisher(parse_address("10.255.1.1"), 1001)
    other_rd = automatic_route_distinguisher(parse_address("10.255.1.2"), 1001)
    for rd, prefix in ((own_rd, "10.64.7.0"), (other_rd, "10.64.8.0")):
        found = prefix_key(rd, prefix=parse_address(prefix), prefix_length=24)
        batch = RouteBatch(EVPN, announced=(found,), attributes=attributes(65201, 65209), next_hop=HOP1)
        host.recorder.rib.received.routes_received(host.leaf1, [batch])
    (said,) = host.looks()
    assert said == (
        "another host has this host's router ID, 10.255.1.1: it announces type 5 10.255.1.1:1001 10.64.7.0/24, "
        "heard from leaf1 (AS path 65201 65209, next hop 10.0.1.2)"
    )


def test_a_neighbor_with_this_router_id_is_named_by_what_it_calls_itself() -> None:
    host = Host()
    assert host.twins.warnings() == []
    twin = Source(name="leaf1", kind=SourceKind.EBGP, asn=65201, router_id=parse_address("10.255.1.1"))
    host.sources["leaf1"] = twin
    host.views = [SimpleNamespace(name="leaf1", hostname="node9")]
    assert host.twins.warnings() == [
        'neighbor leaf1 (host name "node9") has this host\'s router ID, 10.255.1.1: one needs another'
    ]


def test_a_look_that_raises_ends_nothing() -> None:
    host = Host()
    host.twins._routing = cast(Routing, SimpleNamespace(converged=True))
    with capture_logs() as logs:
        for _ in range(2):
            drain(host.twins._guarded())
    assert [one["event"] for one in logs] == ["identity.look_failed"]


def test_a_look_goes_through_many_routes_of_this_host_in_steps() -> None:
    host = Host()
    host.own(*[f"10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}/32" for number in range(10_000)])
    without = sum(1 for _ in host.twins.look())
    host.recorder.announce(host.leaf1, attributes(65201, LOCAL_ASN), HOP1, "10.64.0.1/32")
    assert sum(1 for _ in host.twins.look()) >= without + 4
