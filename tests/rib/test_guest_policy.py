"""What a guest of this host may announce: its prefixes, no default route, no block of this host."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bgpd.config.schema import RibConfig, RouterConfig
from bgpd.config.schema_policies import AggregateConfig, PolicyConfig, RuleConfig, SetConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address
from bgpd.model.source import Source, SourceKind
from bgpd.rib.adj_rib_in import AdjRibIn
from bgpd.rib.guest_policy import import_policy
from bgpd.rib.next_hops import LocalNextHops, allowed_next_hops
from bgpd.rib.policy import PolicyError, Route, build_policy
from tests.rib.build import LOCAL_ASN, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session
from tests.workload.fixtures import Rig

ROUTER = RouterConfig(asn=LOCAL_ASN, router_id="10.255.1.1")


def guest(*prefixes: str, **fields: object) -> GuestConfig:
    values = {"name": "one", "prefix": "127.0.0.2", "asn": "external", "max_prefixes": 10, **fields}
    return GuestConfig(prefixes=prefixes or ("10.9.0.0/16 le 32",), **values)  # type: ignore[arg-type]


def verdicts(config: GuestConfig, *prefixes: str, **rib: object) -> dict[str, str]:
    """Why each prefix is refused, "" if it is not."""
    policy = import_policy(config, RibConfig(router=ROUTER, **rib), where="x")  # type: ignore[arg-type]
    route = Route(
        attributes=attributes(), next_hop=None, family=Family.IPV4_UNICAST, neighbor="one", local_asn=LOCAL_ASN
    )
    names = {key(prefix): prefix for prefix in prefixes}
    found: dict[str, str] = {}
    for trace, chosen in policy.split(route, list(names)):
        found.update((names[one], policy.verdict(route, trace)[1]) for one in chosen)
    assert found.keys() == set(prefixes)
    return found


def refused(found: dict[str, str]) -> Sequence[str]:
    return sorted(prefix for prefix, why in found.items() if why)


def test_only_what_is_permitted_is_taken() -> None:
    found = verdicts(guest(), "10.9.1.1/32", "10.9.0.0/16", "10.10.0.1/32", "10.0.0.0/8")
    assert refused(found) == ["10.0.0.0/8", "10.10.0.1/32"]
    assert found["10.0.0.0/8"] == "its prefixes do not permit it (workload.bgp one)"


@pytest.mark.parametrize("permitted", ["0.0.0.0/0 le 32", "10.0.0.0/8 le 32"])
def test_no_guest_may_announce_a_default_route(permitted: str) -> None:
    found = verdicts(guest(permitted), "0.0.0.0/0", "10.0.0.0/8")
    assert found == {"0.0.0.0/0": "no guest may announce a default route (workload.bgp one)", "10.0.0.0/8": ""}


def test_a_block_of_this_host_and_what_is_above_it_are_its_own() -> None:
    blocks = (AggregateConfig(prefix="10.9.1.0/26"), AggregateConfig(prefix="10.9.2.0/26", vrf="blue"))
    found = verdicts(
        guest(), "10.9.1.0/26", "10.9.1.0/24", "10.9.1.0/27", "10.9.1.5/32", "10.9.2.0/26", aggregate=blocks
    )
    assert refused(found) == ["10.9.1.0/24", "10.9.1.0/26"]


def test_what_is_permitted_passes_the_policy_that_is_named() -> None:
    rule = RuleConfig(set=SetConfig(add_community=("65203:1",)))
    config = RibConfig(router=ROUTER, policy={"mark": PolicyConfig(rules=(rule,))})
    policy = import_policy(guest(import_="mark"), config, where="x")
    route = Route(
        attributes=attributes(), next_hop=None, family=Family.IPV4_UNICAST, neighbor="one", local_asn=LOCAL_ASN
    )
    by_key = {
        one: policy.verdict(route, trace)
        for trace, chosen in policy.split(route, [key("10.9.1.1/32")])
        for one in chosen
    }
    assert by_key[key("10.9.1.1/32")][0].communities == (65203 << 16 | 1,)
    with pytest.raises(PolicyError):
        import_policy(guest(import_="gone"), config, where="x")


def test_local_next_hops_are_this_hosts_and_those_beside_the_guest() -> None:
    rig = Rig()
    rig.link("lo")
    rig.link("veth0")
    rig.address("lo", "127.0.0.1/8")
    rig.address("veth0", "10.70.0.1/24")
    strict = guest(next_hop="local")

    def allowed(address: str, interface: str) -> LocalNextHops:
        source = Source(
            name="one", kind=SourceKind.EBGP, address=parse_address(address), interface=interface, guest="one"
        )
        found = allowed_next_hops(source, rig.host, strict)
        assert isinstance(found, LocalNextHops)
        assert allowed_next_hops(source, rig.host, guest()) is None
        return found

    def takes(found: LocalNextHops, text: str) -> bool:
        return not found.why_not(NextHop(parse_address(text)))

    on_host = allowed("127.0.0.2", "lo")
    assert [takes(on_host, text) for text in ("127.0.0.2", "10.70.0.1", "10.70.0.2", "0.0.0.0", "192.0.2.1")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    behind = allowed("10.70.0.2", "veth0")
    assert [takes(behind, text) for text in ("10.70.0.2", "10.70.0.3", "10.70.0.1", "10.71.0.1")] == [
        True,
        True,
        True,
        False,
    ]


def test_other_addresses_of_this_host_change_nothing_of_next_hops_in_use() -> None:
    """With kube-ipvs0 a host has thousands, which come and go: the guest's routes are not judged anew each time."""
    used, other = parse_address("10.70.0.1"), parse_address("10.96.0.1")
    source = Source(name="one", kind=SourceKind.EBGP, address=parse_address("127.0.0.2"), guest="one")
    routes = AdjRibIn(
        source,
        policy=build_policy("all", {}, where="", exporting=False),
        local_asn=65203,
        router_id=bytes(4),
        allow_own_as=0,
        now=lambda: 1.0,
        allowed=LocalNextHops(own=frozenset({used}), beside=None),
    )
    path = routes.path(V4, Attributes.of(), NextHop(used))
    routes.interned(V4).has_come(path)
    assert routes.allow(LocalNextHops(own=frozenset({used, other}), beside=None)) is False
    assert routes.path(V4, Attributes.of(), NextHop(used)) is path
    assert routes.path(V4, Attributes.of(med=1), NextHop(other)).rejected == ""
    assert routes.allow(LocalNextHops(own=frozenset({other}), beside=None)) is True
    assert routes.path(V4, Attributes.of(), NextHop(used)).rejected


class Told:
    """What the source of claims is told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, tuple[bytes, ...]]] = []

    def routes_changed(self, guest: str, family: Family, keys: Sequence[bytes]) -> None:
        self.changes.append((guest, tuple(keys)))


def speaking(config: GuestConfig) -> tuple[Recorder, Told, Source]:
    """A RIB with a leaf that is sent all, and a guest."""
    recorder, told = Recorder(CONFIG), Told()
    recorder.rib.connect(kernel=recorder, neighbors=recorder, evpn=recorder, workloads=recorder, guests=told)
    recorder.up(leaf(1), CONFIG.neighbor[0])
    source = Source(name="one", kind=SourceKind.EBGP, asn=64512, address=parse_address("127.0.0.2"), guest="one")
    recorder.up(source, config)  # type: ignore[arg-type]
    return recorder, told, source


CONFIG = configuration(session("leaf1", export="all"))


def test_routes_of_a_guest_are_in_its_own_table_alone() -> None:
    recorder, told, source = speaking(guest())
    recorder.announce(source, attributes(64512), hop("127.0.0.2"), "10.9.1.1/32", "10.10.0.1/32")
    recorder.rib.flush()
    recorder.turn()
    assert told.changes == [("one", (key("10.9.1.1/32"), key("10.10.0.1/32")))]
    (path,) = recorder.rib.guest_paths("one", V4, key("10.9.1.1/32"))
    assert path.source is source
    assert recorder.rib.guest_paths("one", V4, key("10.10.0.1/32")) == ()
    assert recorder.rib.guest_paths("two", V4, key("10.9.1.1/32")) == ()
    assert recorder.rib.decision("", V4, key("10.9.1.1/32")) is None
    assert (recorder.fib_calls, recorder.sent) == ([], [])
    told.changes.clear()
    recorder.withdraw(source, "10.9.1.1/32")
    assert told.changes == [("one", (key("10.9.1.1/32"),))]
    drain(recorder.rib.received.neighbor_down(source))
    assert told.changes[-1] == ("one", (key("10.10.0.1/32"),))
    assert recorder.rib.guests["one", V4].received == {}
    assert recorder.fib_calls == []


def test_a_guest_is_told_the_default_route_at_most() -> None:
    recorder, _, source = speaking(guest(export="default-only"))
    recorder.announce(leaf(2), attributes(65202), hop("10.0.2.2"), "0.0.0.0/0")
    other = recorder.up(leaf(2), session("leaf2"))
    recorder.announce(other, attributes(65202), hop("10.0.2.2"), "0.0.0.0/0", "10.0.0.0/8")
    recorder.acknowledge(key("0.0.0.0/0"), key("10.0.0.0/8"))
    recorder.rib.flush()
    recorder.turn()
    assert list(recorder.told[source]) == [key("0.0.0.0/0")]


def test_ever_other_next_hops_of_a_guest_are_forgotten() -> None:
    recorder, _, source = speaking(guest())
    for number in range(6000):
        recorder.announce(source, attributes(64512), hop(f"10.{number >> 8}.{number & 255}.1"), "10.9.1.1/32")
    assert len(recorder.rib.guests["one", V4]._next_hop_table.asked) < 4200
