"""What `bgpd check` lets through compiles, and what does not compile is told by it: one language, two readers."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.config.check import check_config
from bgpd.config.schema import Config, RouterConfig
from bgpd.config.schema_policies import PolicyConfig
from bgpd.rib.policy import build_policy
from bgpd.rib.policy_match import PolicyError

GOOD = [
    {"match": {"prefix": ["10.0.0.0/8", "10.0.0.0/8 le 24", "10.0.0.0/8 ge 24 le 32", "2001:db8::/32 ge 48"]}},
    {"match": {"as_path": ["65201", "^65201( |$)", "\\b65300\\b"]}},
    {"match": {"community": ["65000:1", "no-export"], "large_community": ["1:2:3"]}},
    {"match": {"extended_community": ["rt:65000:1", "rt:10.0.0.1:5", "soo:4200000000:1", "030c000000000008"]}},
    {"match": {"next_hop": ["10.0.1.2", "10.0.0.0/8", "2001:db8::1"], "family": ["ipv4-unicast"]}},
    {"set": {"local_pref": 200, "med": 1, "add_community": ["blackhole"], "prepend": 2}, "action": "next"},
    {"set": {"add_extended_community": ["rt:1:1"], "remove_large_community": ["1:2:3"]}, "action": "reject"},
]
BAD = [
    {"match": {"prefix": ["10.0.0.0/8 le 4"]}},
    {"match": {"prefix": ["10.0.0.1/8"]}},
    {"match": {"prefix": ["10.0.0.0/8 eq 24"]}},
    {"match": {"as_path": ["("]}},
    {"match": {"as_path": ["_65201_"]}},
    {"match": {"as_path": ["4294967296"]}},
    {"match": {"community": ["65536:1"]}},
    {"match": {"community": ["1:2:3"]}},
    {"match": {"large_community": ["1:2"]}},
    {"match": {"extended_community": ["rt:1"]}},
    {"match": {"extended_community": ["0x03"]}},
    {"match": {"next_hop": ["leaf1"]}},
    {"match": {"family": ["ipv4"]}},
    {"set": {"add_community": ["x"]}},
    {"set": {"remove_extended_community": ["x"]}},
    {"action": "permit"},
]


def config(rule: dict[str, object]) -> Config:
    policy = msgspec.convert({"rules": [rule]}, PolicyConfig)
    return Config(router=RouterConfig(asn=65203, router_id="10.0.0.1"), policy={"p": policy})


def compile_policy(config: Config) -> None:
    build_policy("p", config.policy, where="neighbor leaf1.import", exporting=False)


@pytest.mark.parametrize("rule", GOOD)
def test_good_rules_are_good_to_both(rule: dict[str, object]) -> None:
    assert list(check_config(config(rule))) == []
    compile_policy(config(rule))


@pytest.mark.parametrize("rule", BAD)
def test_bad_rules_are_bad_to_both(rule: dict[str, object]) -> None:
    assert list(check_config(config(rule)))
    with pytest.raises(PolicyError):
        compile_policy(config(rule))
