"""[[neighbor]] with a pattern for its interface."""

from __future__ import annotations

import pytest

from bgpd.config.effects import config_diff
from bgpd.config.load import ConfigError, parse_config
from bgpd.config.patterns import MOST_MATCHES, match_neighbors
from bgpd.config.schema import Config

ROUTER = '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'
LEAVES = '[[neighbor]]\nname = "leaf"\ninterface = "eth*"\nasn = "external"\nimport = "default-only"\n'
SPINE = '[[neighbor]]\nname = "spine"\ninterface = "eth3"\nasn = 65210\nimport = "default-only"\n'
GUEST = (
    '[[workload.bgp]]\nname = "leaf-eth0"\naddress = "127.0.0.2"\nasn = "external"\nprefixes = ["10.9.0.0/24 le 32"]\n'
    "max_prefixes = 10\n"
)
BLUE = '[[vrf]]\nname = "blue"\ntable = 1001\nvni = 5001\nuplinks = ["eth0.101"]\n'


def parsed(*sections: str) -> Config:
    return parse_config("".join((ROUTER, *sections)), "x.toml")[0]


def names(config: Config, *interfaces: str, vrfs: dict[str, str] | None = None) -> dict[str, str]:
    """Neighbor -> interface on a host that has these interfaces."""
    known = {name: (vrfs or {}).get(name, "") for name in interfaces}
    return {one.name: one.interface for one in match_neighbors(config, known).config.neighbor}


def test_each_matching_interface_has_a_neighbor_of_its_own() -> None:
    assert names(parsed(LEAVES), "lo", "eth0", "eth1", "pod1") == {"leaf-eth0": "eth0", "leaf-eth1": "eth1"}


def test_letters_count_as_they_are() -> None:
    config = parsed(LEAVES.replace("eth*", "[e]th?"))
    assert names(config, "eth0", "ETH1", "eth10", "xeth1") == {"leaf-eth0": "eth0"}


def test_an_interface_whose_name_is_no_utf_8_has_no_neighbor() -> None:
    """The kernel takes any bytes."""
    name = b"eth\xff".decode(errors="surrogateescape")
    assert names(parsed(LEAVES), "eth0", name) == {"leaf-eth0": "eth0"}


def test_an_interface_that_a_neighbor_names_is_that_ones() -> None:
    assert names(parsed(LEAVES, SPINE), "eth0", "eth3") == {"leaf-eth0": "eth0", "spine": "eth3"}
    assert names(parsed(SPINE, LEAVES), "eth3", "eth0") == {"leaf-eth0": "eth0", "spine": "eth3"}
    assert names(parsed(LEAVES, SPINE), "eth3") == {"spine": "eth3"}, (
        "nothing is left for the pattern, nor is it missed"
    )


def test_of_two_patterns_the_first_has_the_interface() -> None:
    second = LEAVES.replace('"leaf"', '"other"').replace("eth*", "eth1*")
    assert names(parsed(LEAVES, second), "eth1") == {"leaf-eth1": "eth1"}
    assert names(parsed(second, LEAVES), "eth1", "eth2") == {"other-eth1": "eth1", "leaf-eth2": "eth2"}


def test_a_pattern_that_matches_nothing_stays_to_be_seen() -> None:
    config = parsed(LEAVES)
    assert names(config, "lo", "pod1") == {"leaf": "eth*"}


def test_a_pattern_matches_in_its_vrf_only() -> None:
    config = parsed(LEAVES, BLUE)
    assert names(config, "eth0", "eth0.101") == {"leaf-eth0": "eth0"}, (
        "an uplink is in its VRF before the kernel has it"
    )
    assert names(config, "eth0", "eth1", vrfs={"eth1": "red"}) == {"leaf-eth0": "eth0"}
    inside = parsed(LEAVES.replace('name = "leaf"', 'name = "leaf"\nvrf = "blue"'), BLUE)
    assert names(inside, "eth0", "eth0.101") == {"leaf-eth0.101": "eth0.101"}


def test_too_many_interfaces_are_an_error_and_new_ones_take_no_place() -> None:
    every = [f"eth{number}" for number in range(MOST_MATCHES, 0, -1)]
    matched = match_neighbors(parsed(LEAVES), dict.fromkeys([*every, "eth0"], ""))
    assert [one.interface for one in matched.config.neighbor] == every
    assert 'interface = "eth*" matches 65 interfaces' in matched.problems[0]
    assert "eth0 and so on have none" in matched.problems[0]


BAD = [
    (LEAVES.replace("eth*", "*"), "neighbor[0].interface", "matches every interface"),
    (LEAVES.replace("eth*", "?*"), "neighbor[0].interface", "matches every interface"),
    (LEAVES.replace("eth*", "eth[0"), "neighbor[0].interface", 'has a "["'),
    (LEAVES.replace("eth*", "eth *"), "neighbor[0].interface", "cannot match"),
    (LEAVES + 'address = "fe80::1"\n', "neighbor[0].interface", "there is an address"),
    (LEAVES + LEAVES.replace('"leaf"', '"two"'), "neighbor[1].interface", "already neighbor[0]"),
    (LEAVES + GUEST, "workload.bgp[0].name", "may be the name"),
    (LEAVES + SPINE.replace('"spine"', '"leaf-eth7"'), "neighbor[1].name", "may be the name"),
]


@pytest.mark.parametrize(("text", "path", "what"), BAD)
def test_patterns_that_cannot_be_meant_are_errors(text: str, path: str, what: str) -> None:
    with pytest.raises(ConfigError) as error:
        parsed(text)
    (problem,) = error.value.problems
    assert problem.path == path
    assert what in problem.what


def test_policies_may_name_the_neighbors_that_a_pattern_makes() -> None:
    policy = '[policy.p]\nrules = [{ match = { neighbor = ["%s"] } }]\n'
    leaves = LEAVES.replace("default-only", "p")
    parsed(leaves, policy % "leaf-eth0")
    for name in ("leaf", "leaf-pod1"):
        with pytest.raises(ConfigError):
            parsed(leaves, policy % name)


def test_an_explicit_neighbor_may_take_the_name_that_its_interface_has_by_the_pattern() -> None:
    config = parsed(LEAVES, SPINE.replace('"spine"', '"leaf-eth3"'))
    assert names(config, "eth0", "eth3") == {"leaf-eth0": "eth0", "leaf-eth3": "eth3"}


def test_a_changed_pattern_resets_only_whom_it_leaves() -> None:
    here = {"eth0": "", "eth1": "", "eth2": ""}
    old, new = parsed(LEAVES), parsed(LEAVES.replace("eth*", "eth[1-9]"))
    found = config_diff(match_neighbors(old, here).config, match_neighbors(new, here).config)
    assert [(change.path, change.change, change.effect) for change in found] == [
        ("neighbor.leaf-eth0", "removed", "reset")
    ]
    nowhere = config_diff(match_neighbors(old, {}).config, match_neighbors(new, {}).config)
    assert [(change.path, change.effect, change.neighbors) for change in nowhere] == [
        ("neighbor.leaf.interface", "no-op", [])
    ]
    appears = config_diff(match_neighbors(old, {}).config, match_neighbors(old, {"eth1": ""}).config)
    assert [(change.path, change.effect) for change in appears] == [
        ("neighbor.leaf", "no-op"),
        ("neighbor.leaf-eth1", "no-op"),
    ]
