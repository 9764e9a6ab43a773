"""The importer against a naive reference: whatever neighbors say in whatever order, each VRF has what they say last."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.model.source import Source
from tests.evpn.build import V4, Host, host_route, prefix_route

TARGETS = {"blue": "65201:5001", "red": "65201:5002", "": "65201:9"}
KEYS = [
    *[
        host_route(f"10.64.0.{number}", mac=f"02:00:00:00:00:0{mac}", host=f"10.255.9.{rd}:7")
        for number in (1, 2)
        for mac in (1, 2, 3)
        for rd in (1, 2)
    ],
    *[prefix_route(prefix, host="10.255.9.1:7") for prefix in ("10.64.0.1/32", "10.65.0.0/16", "0.0.0.0/0")],
]
BATCHES = st.lists(st.sampled_from(KEYS), min_size=1, max_size=6, unique=True)
STEPS = st.one_of(
    st.tuples(st.just("hear"), st.sampled_from([1, 2]), BATCHES, st.sampled_from(list(TARGETS))),
    st.tuples(st.just("unhear"), st.sampled_from([1, 2]), BATCHES, st.just("")),
    st.tuples(st.just("flap"), st.sampled_from([1, 2]), st.just([]), st.just("")),
)


def prefix_of(key: bytes) -> bytes:
    return b"\x20" + key[19:] if key[0] == 2 else key[13 : 14 + ((key[13] + 7) >> 3)]


def expected(said: dict[int, dict[bytes, str]], vrf: str) -> dict[bytes, int]:
    """Candidates by prefix: one for each leaf, route type and route distinguisher."""
    found: dict[bytes, set[tuple[int, bytes]]] = defaultdict(set)
    for number, routes in said.items():
        for key, target in routes.items():
            if target == vrf:
                found[prefix_of(key)].add((number, key[:9]))
    return {prefix: len(heads) for prefix, heads in found.items()}


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_each_vrf_has_what_neighbors_said_last(steps: list[tuple[str, int, list[bytes], str]]) -> None:
    host = Host()
    sources: dict[int, Source] = {1: host.up(1), 2: host.up(2)}
    said: dict[int, dict[bytes, str]] = {1: {}, 2: {}}
    for what, number, keys, vrf in steps:
        if what == "hear":
            host.hear(sources[number], *keys, target=TARGETS[vrf])
            said[number].update(dict.fromkeys(keys, vrf))
        elif what == "unhear":
            host.unhear(sources[number], *keys)
            for key in keys:
                said[number].pop(key, None)
        else:
            host.down(sources[number])
            sources[number], said[number] = host.up(number), {}
        for name in ("blue", "red"):
            routes = host.rib.table(name, V4).routes
            wanted = expected(said, name)
            ambiguous = _ambiguous(said)
            assert {
                prefix: len(decision.candidates) for prefix, decision in routes.items() if prefix not in ambiguous
            } == {prefix: count for prefix, count in wanted.items() if prefix not in ambiguous}
    for number in (1, 2):
        host.unhear(sources[number], *KEYS)
    assert not host.rib.table("blue", V4).routes
    assert not host.rib.table("red", V4).routes


def _ambiguous(said: dict[int, dict[bytes, str]]) -> set[bytes]:
    """Prefixes whose MACs, by one leaf with one route distinguisher, are in different VRFs: one of them is in one."""
    targets: dict[tuple[int, bytes, bytes], set[str]] = defaultdict(set)
    for number, routes in said.items():
        for key, target in routes.items():
            if target:
                targets[number, key[:9], prefix_of(key)].add(target)
    return {prefix for (_, _, prefix), found in targets.items() if len(found) > 1}
