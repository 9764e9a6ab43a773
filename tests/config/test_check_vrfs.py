"""[[vrf]]: bad input is told with line and reason; route distinguishers and targets that are left to bgpd."""

from __future__ import annotations

import pytest

from bgpd.config.effects import config_diff
from bgpd.config.load import ConfigError, Problem, parse_config
from bgpd.config.schema import Config
from bgpd.config.words import vrf_distinguisher, vrf_targets
from bgpd.model.communities import format_route_distinguisher, format_route_target

ROUTER = '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'
LEAF = '[[neighbor]]\nname = "leaf1"\naddress = "10.0.1.2"\nasn = 65201\nimport = "all"\nfamilies = ["l2vpn-evpn"]\n'
BLUE = '[[vrf]]\nname = "blue"\ntable = 1001\nvni = 5001\nuplinks = ["eth0.101"]\n'
RED = '[[vrf]]\nname = "red"\ntable = 1002\nvni = 5002\nuplinks = ["eth0.102"]\n'
GOOD = ROUTER + LEAF + BLUE + RED


def parse(text: str) -> Config:
    return parse_config(text, "x.toml")[0]


def problems_of(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "x.toml")
    return caught.value.problems


def test_what_is_automatic_comes_of_router_id_table_and_vni() -> None:
    config = parse(GOOD)
    blue = config.vrf[0]
    assert format_route_distinguisher(vrf_distinguisher(config.router, blue)) == "10.255.1.1:1001"
    (target,) = vrf_targets(config.router, blue, blue.import_rt)
    assert format_route_target(target) == "65203:5001"
    assert blue.resolve == "gateway-ip"


def test_import_from_several_vrfs_is_several_targets() -> None:
    config = parse(GOOD.replace("vni = 5001", 'vni = 5001\nimport_rt = ["auto", "65203:5002", "10.0.0.1:7"]'))
    targets = vrf_targets(config.router, config.vrf[0], config.vrf[0].import_rt)
    assert list(map(format_route_target, targets)) == ["65203:5001", "65203:5002", "10.0.0.1:7"]


BAD = [
    ("table = 1002", "table = 1001", "vrf[1].table", "is the table of vrf[0]"),
    ("table = 1002", "table = 254", "vrf[1].table", 'the kernel\'s table "main"'),
    ("table = 1002", "table = 1002\n[fib]\ntable = 1002", "vrf[1].table", "is 1002, the table of [fib]"),
    ("table = 1002", 'table = 1002\nrd = "65203:7"\n[fib]\ntable = 1001', "vrf[0].table", "the table of [fib]"),
    ("table = 1002", "table = 100000", "vrf[1].rd", "does not fit the 16 bits"),
    ("table = 1002", 'table = 1002\nrd = "10.255.1.1:1001"', "vrf[1].rd", "is already the rd of vrf[0]"),
    ("table = 1002", 'table = 1002\nrd = "65203"', "vrf[1].rd", "is not ADMINISTRATOR:NUMBER"),
    ('name = "red"', 'name = "blue"', "vrf[1].name", "is already vrf[0]"),
    ('name = "red"', 'name = "a/b"', "vrf[1].name", "cannot be an interface"),
    ('"eth0.102"', '"eth0.101"', "vrf[1].uplinks[0]", "is already an uplink of vrf[0]"),
    ('"eth0.102"', '"eth1", "eth1"', "vrf[1].uplinks[1]", "is given twice"),
    ("vni = 5002", "vni = 16777216", "vrf[1].vni", "is 16777216"),
    ("vni = 5002", "", "vrf[1].import_rt[0]", "is made of the VNI"),
    ("vni = 5002", 'vni = 5002\nimport_rt = ["65203:5002:1"]', "vrf[1].import_rt[0]", "is not an AS number"),
    ("vni = 5002", 'vni = 5002\nexport_rt = ["1:1", "1:1"]', "vrf[1].export_rt[1]", "is given twice"),
    ("vni = 5002", 'vni = 5002\noriginate = "none"', "vrf[1].originate", "is unknown"),
    ("vni = 5002", 'vni = 5002\nresolve = "gateway"', "vrf[1].resolve", "is unknown"),
    ("vni = 5002", 'vni = 5002\nuplink_neighbors = { "eth9" = "leaf1" }', "vrf[1].uplink_neighbors.eth9", "no uplink"),
    ("vni = 5002", 'vni = 5002\nuplink_neighbors = { "eth0.102" = "leaf" }', "vrf[1].uplink_neighbors", "is unknown"),
    (
        "vni = 5002",
        'vni = 5002\nuplink_gateways = { "eth0.102" = ["x"] }',
        "vrf[1].uplink_gateways",
        "not an IP address",
    ),
    ("[[vrf]]", '[[aggregate]]\nprefix = "10.0.0.0/8"\nvrf = "blu"\n[[vrf]]', "aggregate[0].vrf", 'no VRF "blu"'),
    (
        "[[vrf]]",
        '[[workload.static]]\nprefix = "10.0.0.1/32"\ninterface = "p"\nvrf = "green"\n[[vrf]]',
        "workload.static[0].vrf",
        'no VRF "green"',
    ),
    ("asn = 65201\n", 'asn = 65201\nvrf = "green"\n', "neighbor[0].vrf", 'no VRF "green"'),
    (
        "[[vrf]]",
        '[[listen]]\nprefix = "10.0.0.0/8"\nasn = 1\nimport = "all"\nvrf = "blue"\n[[vrf]]',
        "listen[0].vrf",
        "puts dynamic neighbors into a VRF",
    ),
    ("asn = 65201\n", 'asn = 65201\nvrf = "blue"\n', "neighbor[0].families", "has l2vpn-evpn, in a VRF"),
]


@pytest.mark.parametrize(("old", "new", "path", "what"), BAD)
def test_bad_vrf_is_told(old: str, new: str, path: str, what: str) -> None:
    found = problems_of(GOOD.replace(old, new, 1))
    assert any(problem.path.startswith(path) and what in f"{problem.what} {problem.right}" for problem in found), found


def test_a_large_as_number_needs_a_route_target_by_hand() -> None:
    (first, *_) = problems_of(GOOD.replace("asn = 65203", "asn = 4200000001").replace("vni = 5001", "vni = 70000"))
    assert "does not fit beside the 4-octet AS number" in first.what


def test_one_prefix_may_be_in_two_tenants() -> None:
    static = '[[workload.static]]\nprefix = "10.0.0.1/32"\ninterface = "p{0}"\nvrf = "{0}"\n'
    parse(GOOD + static.format("blue") + static.format("red"))
    twice = GOOD + static.format("red") * 2
    assert any("is already in workload.static[0]" in problem.what for problem in problems_of(twice))


def test_a_vrf_that_can_learn_nothing_is_warned_about() -> None:
    _, warnings = parse_config(GOOD.replace("l2vpn-evpn", "ipv4-unicast"), "x.toml")
    assert any("no neighbor speaks l2vpn-evpn" in warning.what for warning in warnings)


def test_an_added_or_changed_vrf_costs_no_session() -> None:
    changes = config_diff(parse(ROUTER + LEAF + BLUE), parse(GOOD.replace("vni = 5001", "vni = 5009")))
    assert {change.effect for change in changes} == {"no-op"}
    assert [change.path for change in changes] == ["vrf.blue.vni", "vrf.red"]


def test_one_aggregate_in_two_vrfs_is_two_entries() -> None:
    both = '[[aggregate]]\nprefix = "10.1.0.0/16"\nvrf = "blue"\n[[aggregate]]\nprefix = "10.1.0.0/16"\nvrf = "red"\n'
    (change,) = config_diff(parse(GOOD + both), parse(GOOD + both.replace('"red"', '"red"\nblackhole = true')))
    assert change.path == "aggregate.10.1.0.0/16 vrf red.blackhole"


def test_a_vrf_with_a_neighbor_of_its_own_learns_something() -> None:
    text = GOOD.replace("l2vpn-evpn", "ipv4-unicast")
    own = '[[neighbor]]\nname = "vm"\naddress = "10.0.9.9"\nasn = 65301\nimport = "all"\nvrf = "blue"\n'
    _, warnings = parse_config(text + own, "x.toml")
    assert [warning.path for warning in warnings if "learns and announces nothing" in warning.right] == ["vrf[1]"]
    _, warnings = parse_config(GOOD.replace('uplinks = ["eth0.102"]', ""), "x.toml")
    assert [warning.path for warning in warnings if "names no interface" in warning.what] == ["vrf[1].uplinks"]
