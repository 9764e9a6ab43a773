"""Kernel routes of workloads beside learned ones: a workload wins, and what was learned comes back after it."""

from __future__ import annotations

from bgpd.host_routes import HostRoutes
from bgpd.model.iana import Family
from bgpd.model.path import NextHop, NextHops
from bgpd.model.prefix import parse_address, parse_prefix

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
KEY = parse_prefix("10.64.1.5/32")[1]
OTHER = parse_prefix("10.9.0.0/16")[1]
POD: NextHops = (NextHop(b"", "pod1"),)
LEAF: NextHops = (NextHop(parse_address("10.0.1.2")),)


class Learned:
    def __init__(self) -> None:
        self.wishes: dict[tuple[str, Family, bytes], NextHops] = {}

    def __call__(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        return self.wishes.get((vrf, family, key))


def test_wish_of_a_workload_wins_and_the_learned_route_follows_it() -> None:
    learned = Learned()
    routes = HostRoutes(learned)
    learned.wishes["", V4, KEY] = LEAF
    assert routes.wish("", V4, KEY) == LEAF
    assert routes.set("", V4, {KEY: POD}) == {KEY: POD}
    assert routes.wish("", V4, KEY) == POD
    assert len(routes) == 1
    assert routes.set("", V4, {KEY: None}) == {KEY: LEAF}
    assert routes.wish("", V4, KEY) == LEAF
    assert len(routes) == 0


def test_route_that_was_never_learned_goes_with_its_workload() -> None:
    routes = HostRoutes(Learned())
    routes.set("", V4, {KEY: POD})
    assert routes.set("", V4, {KEY: None}) == {KEY: None}
    assert routes.set("", V4, {KEY: None}) == {KEY: None}


def test_learned_changes_do_not_reach_a_workload_s_key() -> None:
    routes = HostRoutes(Learned())
    changes: dict[bytes, NextHops | None] = {KEY: LEAF, OTHER: LEAF}
    assert routes.overlay("", V4, changes) is changes
    routes.set("", V4, {KEY: POD})
    assert routes.overlay("", V4, changes) == {OTHER: LEAF}
    assert routes.overlay("", V4, {KEY: None}) == {}


def test_tables_and_families_are_apart() -> None:
    routes = HostRoutes(Learned())
    routes.set("blue", V4, {KEY: POD})
    assert routes.wish("", V4, KEY) is None
    assert routes.wish("blue", V6, KEY) is None
    assert routes.wish("blue", V4, KEY) == POD
    assert routes.among("blue", V4, [OTHER, KEY]) == [KEY]
    assert routes.among("", V4, [OTHER, KEY]) == []
