"""What policies and aggregates of simulated hosts mean: the model that bgpd is compared with."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.config.schema import Config, RouterConfig
from bgpd.config.schema_policies import PolicyConfig
from bgpd.simulation import aggregates, policies
from bgpd.simulation.policies import PLAIN, Said, Sort

CONFIG = Config(router=RouterConfig(asn=65100, router_id="10.255.0.1"), policy=policies.ALL)
INSIDE = {"10.64.0.1/32", "10.64.0.2/32", "10.64.0.3/32"}
OUTSIDE = "10.64.1.1/32"


@pytest.mark.parametrize(
    ("kind", "prefixes", "blackholes"),
    [
        (0, INSIDE, set[str]()),
        (1, {*INSIDE, "10.64.0.0/24"}, set[str]()),
        (2, {"10.64.0.0/24"}, set[str]()),
        (3, {"10.64.0.0/24"}, {"10.64.0.0/24"}),
        (4, {"10.64.0.1/32", "10.64.0.2/31"}, set[str]()),
    ],
)
def test_what_is_announced_for_workloads_inside(kind: int, prefixes: set[str], blackholes: set[str]) -> None:
    config = aggregates.with_kind(CONFIG, 0, kind, is_v6=True)
    found = aggregates.announced(config, {*INSIDE, OUTSIDE})
    assert found.prefixes == {*prefixes, OUTSIDE}
    assert found.blackholes == blackholes


def test_workloads_are_suppressed_by_what_is_announced_for_them() -> None:
    config = aggregates.with_kind(CONFIG, 0, 4, is_v6=True)
    found = aggregates.announced(config, INSIDE)
    assert found.aggregates == {"10.64.0.2/31"}
    assert found.suppressed == (("10.64.0.2/32", "10.64.0.2/31"), ("10.64.0.3/32", "10.64.0.2/31"))


def test_aggregate_with_nothing_inside_is_not_announced() -> None:
    config = aggregates.with_kind(CONFIG, 0, 3, is_v6=True)
    assert aggregates.announced(config, {OUTSIDE}) == aggregates.Announced(frozenset({OUTSIDE}))


@pytest.mark.parametrize(
    ("export", "sort", "said"),
    [
        ("local", PLAIN, Said((65100,))),
        ("mark", PLAIN, Said((65100,), is_marked=True)),
        ("prepend", PLAIN, Said((65100, 65100))),
        ("without-second", PLAIN, Said((65100,))),
        ("without-second", Sort.of("10.64.3.2/32"), None),
        ("none", PLAIN, None),
    ],
)
def test_what_a_host_says(export: str, sort: Sort, said: Said | None) -> None:
    assert policies.said(CONFIG, export, sort) == said


@pytest.mark.parametrize(
    ("import_", "sort", "is_marked", "preference"),
    [
        ("all", PLAIN, True, 100),
        ("none", PLAIN, False, None),
        ("prefer", PLAIN, False, 200),
        ("changing", PLAIN, False, 200),
        ("avoid", PLAIN, False, 50),
        ("without-first", Sort.of("fd64::1:3/128"), False, None),
        ("without-first", Sort.of("10.64.1.1/32"), False, 100),
        ("without-marked", PLAIN, True, None),
        ("without-marked", PLAIN, False, 100),
    ],
)
def test_what_a_host_takes(import_: str, sort: Sort, is_marked: bool, preference: int | None) -> None:
    assert policies.preference(CONFIG, import_, sort, is_default=False, is_marked=is_marked) == preference


@pytest.mark.parametrize(
    ("import_", "takes_all"),
    [("all", True), ("without-first", True), ("without-marked", False), ("default-only", False)],
)
def test_whether_all_of_tenants_is_taken(import_: str, takes_all: bool) -> None:
    assert policies.takes_all(CONFIG, import_) is takes_all


def test_policy_of_a_user_is_known_by_its_rules() -> None:
    config = policies.with_rules(CONFIG, "avoid")
    assert policies.preference(config, "changing", PLAIN, is_default=False, is_marked=False) == 50
    other = msgspec.structs.replace(CONFIG, policy={"prefer": PolicyConfig()})
    assert policies.preference(other, "prefer", PLAIN, is_default=False, is_marked=False) is None
