"""Single statements of frr.conf: what each comes to, or why it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgpd.config.schema import Config
from bgpd.config.schema_policies import MatchConfig, RuleConfig, SetConfig
from bgpd.migrate.draft import ImportFailed
from bgpd.migrate.importing import Imported
from tests.migrate.converting import config_of, imported, rules_of, written

ROUTER = "frr defaults datacenter\nrouter bgp 65001\n"
HEAD = ROUTER + " bgp router-id 10.0.0.1\n neighbor 10.0.1.2 remote-as 65201\n"


def converted(directory: Path, text: str) -> Imported:
    return imported("frr", written(directory, text))


def one(directory: Path, more: str) -> Config:
    return config_of(converted(directory, HEAD + more).text)


def losses(directory: Path, more: str) -> list[str]:
    """What is told, without the place."""
    return [loss.partition(": ")[2] for loss in converted(directory, HEAD + more).losses]


def uncommented(text: str) -> set[str]:
    """The lines of a configuration without the comments beside values."""
    return {line.partition("  #")[0].rstrip() for line in text.splitlines()}


@pytest.mark.parametrize(
    ("more", "router_id"),
    [
        ("router-id 10.0.0.9\n", "10.0.0.9"),
        ("ip router-id 10.0.0.8\n", "10.0.0.8"),
        ("ip router-id 10.0.0.8 vrf blue\n", "auto"),
        (" bgp router-id 10.0.0.7\nip router-id 10.0.0.8\n", "10.0.0.7"),
        (
            "interface lo\n ip address 10.0.0.3/32\n ip address 10.0.0.4/32\n ip address wrong\n"
            "interface eth0\n ip address 192.0.2.9/24\n",
            "10.0.0.4",
        ),
        ("interface eth0\n ip address 192.0.2.9/24\ninterface eth1\n ip address 192.0.2.10/24\n", "192.0.2.10"),
        ("interface eth0\n ipv6 address 2001:db8::1/64\n", "auto"),
    ],
)
def test_router_id(tmp_path: Path, more: str, router_id: str) -> None:
    """FRR takes the highest address of a loopback, else of any interface; without one the daemon works it out."""
    assert f'\nrouter_id = "{router_id}"' in converted(tmp_path, ROUTER + more).text


def test_as_number_with_a_dot(tmp_path: Path) -> None:
    text = "frr defaults datacenter\nrouter bgp 1.10\n bgp router-id 10.0.0.1\n neighbor 10.0.1.2 remote-as 2.3\n"
    config = config_of(converted(tmp_path, text).text)
    assert (config.router.asn, config.neighbor[0].asn) == (65546, 131075)


@pytest.mark.parametrize("asn", ["1.x", "x.1", "1.", "123456.654321"])
def test_what_is_no_as_number(tmp_path: Path, asn: str) -> None:
    with pytest.raises(ImportFailed, match="has no AS number"):
        converted(tmp_path, f"router bgp {asn}\n")


def test_without_a_router_outside_of_vrfs(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match='has no "router bgp" outside of VRFs'):
        converted(tmp_path, "router bgp 65001 vrf blue\n")


def test_views(tmp_path: Path) -> None:
    more = "router bgp 65001 view red\n neighbor 10.0.9.9 remote-as 65209\n"
    assert [leaf.address for leaf in one(tmp_path, more).neighbor] == ["10.0.1.2"]
    assert losses(tmp_path, more) == ["router bgp 65001 view red: views are not converted"]


@pytest.mark.parametrize(
    ("head", "policy"),
    [
        ("frr version 7.3\nfrr defaults traditional\n", "all"),
        ("frr version 7.4\n", "none"),
        ("frr version 10.1\n", "none"),
        ("frr version 8\n", "none"),
        ("frr version ten.one\n", "none"),
    ],
)
def test_since_which_version_external_neighbors_need_a_filter(tmp_path: Path, head: str, policy: str) -> None:
    text = head + HEAD.removeprefix("frr defaults datacenter\n")
    assert config_of(converted(tmp_path, text).text).neighbor[0].import_ == policy


def test_filters_that_external_neighbors_are_said_to_need(tmp_path: Path) -> None:
    assert one(tmp_path, " bgp ebgp-requires-policy\n").neighbor[0].import_ == "none"


# What is announced


def test_network_of_an_address_of_the_host(tmp_path: Path) -> None:
    more = " network 10.0.0.1/32\ninterface dummy7\n ip address 10.0.0.1/32\n"
    addresses = one(tmp_path, more).workload.addresses
    assert addresses is not None
    assert (addresses.interfaces, addresses.prefixes) == (("dummy7",), ("10.0.0.1/32",))
    assert losses(tmp_path, more) == []


def test_networks_of_several_addresses_are_one_table(tmp_path: Path) -> None:
    more = " network 10.0.0.1/32\n network 10.0.0.2/32\ninterface dummy7\n ip address 10.0.0.1/32\n"
    addresses = one(tmp_path, more).workload.addresses
    assert addresses is not None
    assert (addresses.interfaces, addresses.prefixes) == (("dummy7", "lo", "dummy*"), ("10.0.0.1/32", "10.0.0.2/32"))


@pytest.mark.parametrize(
    ("more", "interface"),
    [
        ("interface eth5\n ip address wrong\n ip address 10.5.0.1/24\n", "eth5"),
        ("interface eth5\n description x\n ip address 10.6.0.1/24\n", "INTERFACE"),
    ],
)
def test_network_of_an_interface_is_for_a_person_to_say(tmp_path: Path, more: str, interface: str) -> None:
    text = converted(tmp_path, HEAD + " network 10.5.0.7/24\n" + more).text
    assert {"#[[workload.static]]", '#prefix = "10.5.0.0/24"', f'#interface = "{interface}"'} <= uncommented(text)
    (told,) = losses(tmp_path, " network 10.5.0.7/24\n" + more)
    assert "FRR announces it while the host has a route to it" in told


def test_network_in_a_vrf(tmp_path: Path) -> None:
    more = "router bgp 65001 vrf blue\n address-family ipv4 unicast\n  network 10.5.0.1/32\n"
    text = converted(tmp_path, HEAD + more).text
    assert '#prefix = "10.5.0.1/32"' in text
    assert '#vrf = "blue"' in text


def test_network_with_a_route_map(tmp_path: Path) -> None:
    more = " network 10.0.0.1/32 route-map M\n"
    assert losses(tmp_path, more) == [
        'the route-map of "network 10.0.0.1/32 route-map M" is not converted; use an export policy'
    ]
    assert one(tmp_path, more).workload.addresses is not None


def test_network_that_is_none(tmp_path: Path) -> None:
    assert losses(tmp_path, " network wrong\n") == ['"network wrong": "wrong" is no prefix']


def test_aggregate_in_a_vrf(tmp_path: Path) -> None:
    more = "router bgp 65001 vrf blue\n address-family ipv4 unicast\n  aggregate-address 10.5.0.0/16 as-set\n"
    (aggregate,) = one(tmp_path, more).aggregate
    assert (aggregate.prefix, aggregate.vrf, aggregate.summary_only) == ("10.5.0.0/16", "blue", False)
    assert '"as-set" of "aggregate-address 10.5.0.0/16 as-set" is not converted' in losses(tmp_path, more)


@pytest.mark.parametrize(
    ("more", "interfaces"),
    [
        ("", '["cali*", "tap*"]'),
        (" route-map M\nroute-map M permit 10\n match interface veth0\nroute-map M deny 20\n", '["veth0"]'),
    ],
)
def test_routes_of_other_programs(tmp_path: Path, more: str, interfaces: str) -> None:
    for source in ("kernel", "static"):
        text = converted(tmp_path, HEAD + f" redistribute {source}{more}\n").text
        assert {"#[workload.kernel]", f"#interfaces = {interfaces}"} <= uncommented(text)


ADDRESSES = (
    "ip prefix-list HOSTS permit 10.0.0.0/24 ge 32\nip prefix-list HOSTS permit 10.9.0.0/16 le 24\n"
    "ip prefix-list HOSTS permit 10.0.0.0/24 ge 32\n"
)


@pytest.mark.parametrize(
    ("route_map", "interfaces", "prefixes"),
    [
        ("", ("lo", "dummy*"), ()),
        ("route-map M permit 10\n match interface lo\n", ("lo",), ()),
        ("route-map M permit 10\n match ip address prefix-list HOSTS\n", ("lo", "dummy*"), ("10.0.0.0/24",)),
        ("route-map M permit 10\n match community C\n", ("lo", "dummy*"), ()),
        ("route-map M permit 10\n match peer local\n", ("lo", "dummy*"), ()),
        (
            "route-map M deny 5\n match ip address prefix-list HOSTS\nroute-map M permit 10\n",
            ("lo", "dummy*"),
            (),
        ),
    ],
)
def test_addresses_of_the_host(
    tmp_path: Path, route_map: str, interfaces: tuple[str, ...], prefixes: tuple[str, ...]
) -> None:
    """Only what a route map surely lets through is named; ranges that end before whole addresses mean networks."""
    line = " redistribute connected route-map M\n" if route_map else " redistribute connected\n"
    addresses = one(tmp_path, line + route_map + ADDRESSES).workload.addresses
    assert addresses is not None
    assert (addresses.interfaces, addresses.prefixes) == (interfaces, prefixes)
    assert any("the networks of interfaces" in told for told in losses(tmp_path, line + route_map + ADDRESSES))


def test_prefixes_that_then_count_for_other_statements_are_told(tmp_path: Path) -> None:
    more = " network 10.0.0.1/32\n redistribute connected\n"
    assert any("prefixes count for all interfaces here" in told for told in losses(tmp_path, more))
    assert not any("prefixes count" in told for told in losses(tmp_path, " redistribute connected\n"))


@pytest.mark.parametrize("line", ["redistribute ospf", "redistribute isis"])
def test_routes_of_other_protocols(tmp_path: Path, line: str) -> None:
    assert losses(tmp_path, f" {line}\n") == [
        f'"{line}" is not converted; name what is to be announced: [[workload.static]], [workload.kernel]'
    ]


def test_routes_of_a_vrf_are_not_those_of_the_host(tmp_path: Path) -> None:
    more = "router bgp 65001 vrf blue\n address-family ipv4 unicast\n  redistribute connected\n"
    assert one(tmp_path, more).workload.addresses is None
    assert any('"redistribute connected" is not converted' in told for told in losses(tmp_path, more))


# VRFs and EVPN


def test_vrfs(tmp_path: Path) -> None:
    more = (
        "vrf unused\n ip route 10.0.0.0/8 blackhole\nexit-vrf\nvrf red\n vni 5002\nexit-vrf\n"
        "router bgp 65001 vrf blue\n address-family l2vpn evpn\n  rd 10.0.0.1:7\n  route-target both 65000:1 65000:2\n"
        "  route-target export 65000:1 65000:3\n  dup-addr-detection\n"
        "router bgp 65001 vrf plain\n neighbor 10.9.0.1 remote-as external\n"
    )
    red, blue, plain = sorted(one(tmp_path, more).vrf, key=lambda vrf: ("red", "blue", "plain").index(vrf.name))
    assert (red.vni, red.import_rt, red.export_rt) == (5002, ("auto",), ("auto",))
    assert (blue.rd, blue.import_rt, blue.export_rt) == (
        "10.0.0.1:7",
        ("65000:1", "65000:2"),
        ("65000:1", "65000:2", "65000:3"),
    )
    assert (plain.vni, plain.import_rt, plain.export_rt) == (0, (), ())
    assert len({red.table, blue.table, plain.table}) == 3
    assert '"dup-addr-detection" is not converted' in losses(tmp_path, more)


def test_vxlan(tmp_path: Path) -> None:
    more = " address-family l2vpn evpn\n  advertise-all-vni\n  no advertise-svi-ip\n"
    assert losses(tmp_path, more) == [
        '"advertise-all-vni": there is no VXLAN here; [[vrf]] has EVPN without an overlay'
    ]


# What is told


def test_what_has_no_counterpart(tmp_path: Path) -> None:
    more = (
        " bgp cluster-id 1.1.1.1\n no bgp dampening\n bgp log-neighbor-changes\nrpki\nip route 10.0.0.0/8 blackhole\n"
    )
    assert losses(tmp_path, more) == [
        '"bgp cluster-id 1.1.1.1" is not converted',
        '"rpki" is not converted',
        '"ip route 10.0.0.0/8 blackhole" is not converted',
    ]


def test_preferred_source_of_routes(tmp_path: Path) -> None:
    more = (
        "ip protocol bgp route-map SOURCE\nipv6 protocol bgp route-map SOURCE6\n"
        "route-map SOURCE permit 10\n set src 10.0.0.1\nroute-map SOURCE6 permit 10\n set src 2001:db8::1\n"
    )
    assert one(tmp_path, more).fib.preferred_source == ("10.0.0.1", "2001:db8::1")
    assert losses(tmp_path, more) == []


@pytest.mark.parametrize(
    ("route_map", "sources"),
    [
        ("route-map S permit 10\n match ip address X\n set src 10.0.0.1\n", ("10.0.0.1",)),
        ("route-map S deny 10\n set src 10.0.0.1\n", ""),
        ("route-map S permit 10\n set src 10.0.0.1\nroute-map S permit 20\n set src 10.0.0.2\n", ""),
        ("route-map S deny 10\n", ""),
    ],
)
def test_what_else_decides_which_routes_are_installed_is_told(
    tmp_path: Path, route_map: str, sources: tuple[str, ...] | str
) -> None:
    more = f"ip protocol bgp route-map S\n{route_map}"
    assert one(tmp_path, more).fib.preferred_source == sources
    assert losses(tmp_path, more) == [
        '"ip protocol bgp route-map S" is not converted; import policies say which routes are installed'
    ]


# Filters


def rules(directory: Path, entry: str, lists: str = "") -> tuple[RuleConfig, ...]:
    """The rules of an import route map with one entry."""
    more = " neighbor 10.0.1.2 route-map IN in\nroute-map IN permit 10\n"
    return rules_of(one(directory, f"{more}{entry}{lists}"), "IN")


@pytest.mark.parametrize(
    ("line", "lists", "match"),
    [
        (
            "match ip address 10",
            "access-list 10 permit 10.0.0.0/8\naccess-list 10 permit 10.1.0.0/16 exact-match\n",
            MatchConfig(prefix=("10.0.0.0/8 le 32", "10.1.0.0/16")),
        ),
        (
            "match ipv6 address SIX",
            "ipv6 access-list SIX seq 5 permit 2001:db8::/32\n",
            MatchConfig(prefix=("2001:db8::/32 le 128",)),
        ),
        ("match ip address ALL", "access-list ALL permit any\n", MatchConfig(prefix=("0.0.0.0/0 le 32",))),
        ("match ipv6 address ALL", "ipv6 access-list ALL permit any\n", MatchConfig(prefix=("::/0 le 128",))),
        (
            "match ip address prefix-list P",
            "ip prefix-list P description hosts\nip prefix-list P permit any\n",
            MatchConfig(prefix=("0.0.0.0/0 le 32",)),
        ),
        (
            "match large-community L",
            "bgp large-community-list standard L permit 65000:1:2\n",
            MatchConfig(large_community=("65000:1:2",)),
        ),
        (
            "match large-community L",
            "bgp large-community-list expanded L permit _65000:1:2_\n",
            MatchConfig(large_community=("65000:1:2",)),
        ),
        (
            "match community C any",
            "bgp community-list expanded C permit _65000:1_\n",
            MatchConfig(community=("65000:1",)),
        ),
        (
            "match community C",
            "bgp community-list standard C permit local-AS\n",
            MatchConfig(community=("no-export-subconfed",)),
        ),
        ("match ip next-hop address 10.0.1.2", "", MatchConfig(next_hop=("10.0.1.2",))),
        ("match as-path P", "bgp as-path access-list P permit ^65201$\n", MatchConfig(as_path=("^65201$",))),
    ],
)
def test_matches(tmp_path: Path, line: str, lists: str, match: MatchConfig) -> None:
    assert rules(tmp_path, f" {line}\n", lists) == (RuleConfig(match=match, action="accept"),)


def test_a_list_that_lets_all_through(tmp_path: Path) -> None:
    more = " neighbor 10.0.1.2 route-map IN in\nroute-map IN permit 10\n match community C\n"
    assert one(tmp_path, more + "bgp community-list standard C permit internet\n").neighbor[0].import_ == "all"


def test_the_order_of_a_list_is_that_of_its_numbers(tmp_path: Path) -> None:
    lists = "ip prefix-list P seq 20 permit 10.0.0.0/8 le 32\nip prefix-list P seq 10 deny 10.1.0.0/16 le 32\n"
    found = rules(tmp_path, " match ip address prefix-list P\n", lists)
    assert [(rule.match.prefix, rule.action) for rule in found] == [
        (("10.1.0.0/16 le 32",), "reject"),
        (("10.0.0.0/8 le 32",), "accept"),
    ]


@pytest.mark.parametrize(
    ("line", "lists", "changes"),
    [
        ("set metric 7", "", SetConfig(med=7)),
        ("set local-preference 300", "", SetConfig(local_pref=300)),
        ("set large-community 65000:1:2 additive", "", SetConfig(add_large_community=("65000:1:2",))),
        ("set community no-export 65000:1 additive", "", SetConfig(add_community=("no-export", "65000:1"))),
        (
            "set comm-list C delete",
            "bgp community-list standard C permit 65000:1\nbgp community-list standard C permit 65000:2\n",
            SetConfig(remove_community=("65000:1", "65000:2")),
        ),
        ("set as-path prepend 65001 65001", "", SetConfig(prepend=2)),
    ],
)
def test_changes(tmp_path: Path, line: str, lists: str, changes: SetConfig) -> None:
    (rule,) = rules(tmp_path, f" {line}\n", lists)
    assert (rule.set, rule.action) == (changes, "accept")


def test_communities_that_replace_others_are_told(tmp_path: Path) -> None:
    more = " neighbor 10.0.1.2 route-map IN in\nroute-map IN permit 10\n set community 65000:1\n"
    assert any(
        "replaces the communities of a route in FRR; here it adds to them" in told for told in losses(tmp_path, more)
    )
    assert rules(tmp_path, " set community 65000:1\n")[0].set == SetConfig(add_community=("65000:1",))


def test_a_preference_that_cannot_be_said_is_left_out(tmp_path: Path) -> None:
    more = " neighbor 10.0.1.2 route-map IN in\nroute-map IN permit 10\n set weight 5\n set metric +5\n"
    told = losses(tmp_path, more)
    assert any('"set weight 5" is left out' in one for one in told)
    assert any('"set metric +5" is left out' in one for one in told)
    assert rules(tmp_path, " set weight 5\n set metric 6\n")[0].set == SetConfig(med=6)


@pytest.mark.parametrize(
    ("line", "lists", "said"),
    [
        ("match ip address prefix-list P", "ip prefix-list P permit\n", "cannot be understood"),
        ("match ip address prefix-list P", "ip prefix-list P permit 10.0.0.0/8 ge\n", "cannot be understood"),
        ("match ip address prefix-list P", "ip prefix-list P permit 10.0.0.0/8 le x\n", "cannot be understood"),
        ("match ip address prefix-list P", "ip prefix-list P allow 10.0.0.0/8\n", "cannot be understood"),
        ("match ip address prefix-list P", "ip prefix-list P permit 2001:db8::/32\n", "is of the other IP version"),
        ("match ip address 10", "access-list 10 permit 10.0.0.1\n", "has no counterpart"),
        ("match ip address 10", "access-list 10 permit 10.0.0.0/8 0.0.0.255\n", "has no counterpart"),
        ("match ip address 10", "access-list 10 permit host 10.0.0.1\n", "cannot be understood"),
        ("match ip address 10", "access-list 10 permit\n", "cannot be understood"),
        ("match ip next-hop address leaf1", "", "has no counterpart"),
        ("match community C", "", 'no community-list "C"'),
        ("match large-community L", "", 'no large-community-list "L"'),
        ("match community C", "bgp community-list standard C permit 65000:x\n", "65000:x"),
        ("match large-community L", "bgp large-community-list standard L permit 65000:1\n", "65000:1"),
        ("match as-path P", "bgp as-path access-list P permit (\n", "as-path access-list P permit ("),
        ("set community none", "", "has no counterpart"),
        ("set community 65000:x additive", "", "65000:x"),
        ("set comm-list C delete", "bgp community-list standard C deny 65000:1\n", "has no counterpart"),
        ("set extcommunity rt 65000:1", "", "has no counterpart"),
    ],
)
def test_what_lets_nothing_through(tmp_path: Path, line: str, lists: str, said: str) -> None:
    more = f" neighbor 10.0.1.2 route-map IN in\nroute-map IN permit 10\n {line}\n{lists}"
    assert one(tmp_path, more).neighbor[0].import_ == "none"
    assert any(said in told for told in losses(tmp_path, more))


def test_only_routes_of_this_host_go_out(tmp_path: Path) -> None:
    more = " neighbor 10.0.1.2 route-map OUT out\nroute-map OUT permit 10\n match peer local\n"
    assert one(tmp_path, more).neighbor[0].export == "local"


def test_entries_that_go_on_for_ever(tmp_path: Path) -> None:
    more = " neighbor 10.0.1.2 route-map IN in\n" + "".join(
        f"route-map IN permit {number}\n match ip next-hop address 10.0.1.{number}\n on-match next\n"
        for number in range(1, 30)
    )
    assert one(tmp_path, more).neighbor[0].import_ == "none"
    assert any("too many entries go on to others" in told for told in losses(tmp_path, more))
