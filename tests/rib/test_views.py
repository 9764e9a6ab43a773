"""Views and look-ups over the tables."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import key_of, parse_address
from bgpd.model.route_batch import RouteBatch
from bgpd.rib import views as lookup
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.shared_decisions import Decision
from tests.rib.build import LOCAL, V4, Recorder, attributes, configuration, hop, key, leaf, session

HOP1, HOP2, HOP3 = hop("10.0.1.2"), hop("10.0.2.2"), hop("10.0.3.2")


def loaded() -> Recorder:
    configs = [session("leaf1"), session("leaf2", import_="default-only")]
    recorder = Recorder(configuration(*configs))
    leaf1, leaf2 = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    recorder.announce(
        leaf1, attributes(65201, 65301, communities=(65000 << 16 | 1,)), HOP1, "10.1.0.0/24", "10.1.0.7/32"
    )
    recorder.announce(leaf2, attributes(65201), HOP2, "10.1.0.0/24", "0.0.0.0/0")
    recorder.rib.announce_local(LOCAL, V4, [key("10.64.1.5/32")], attributes())
    return recorder


def test_view_shows_every_candidate_with_its_reason_best_first() -> None:
    view = lookup.route_view(loaded().rib.table("", V4), V4, key("10.1.0.0/24"))
    assert view is not None
    assert (view.prefix, view.family, view.fib) == ("10.1.0.0/24", "ipv4-unicast", "")
    best, rejected = view.candidates
    assert (best.source, best.role, best.reason, best.as_path) == ("leaf1", "best", "", "65201 65301")
    assert (best.next_hop, best.communities, best.neighbor_asn, best.heard_at) == (
        "10.0.1.2",
        ["65000:1"],
        65201,
        1000.0,
    )
    assert (rejected.source, rejected.role) == ("leaf2", "rejected")
    assert rejected.reason == 'policy "default-only": not a default route (step 0)'


def test_local_route_is_shown_as_local_and_no_route_as_none() -> None:
    table = loaded().rib.table("", V4)
    view = lookup.route_view(table, V4, key("10.64.1.5/32"))
    assert view is not None
    assert view.fib == "local"
    assert lookup.route_view(table, V4, key("10.9.0.0/24")) is None


def _prefixes(recorder: Recorder, **filters: object) -> list[str]:
    pages = lookup.routes(recorder.rib.table("", V4), V4, **filters)  # type: ignore[arg-type]
    return [view.prefix for page in pages for view in page]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["0.0.0.0/0", "10.1.0.0/24", "10.1.0.7/32", "10.64.1.5/32"]),
        ({"inside": key("10.1.0.0/24")}, ["10.1.0.0/24", "10.1.0.7/32"]),
        ({"neighbor": "leaf2"}, ["0.0.0.0/0", "10.1.0.0/24"]),
        ({"neighbor": "workload"}, ["10.64.1.5/32"]),
        ({"limit": 2}, ["0.0.0.0/0", "10.1.0.0/24"]),
    ],
)
def test_routes_are_filtered_and_sorted(filters: dict[str, object], expected: list[str]) -> None:
    assert _prefixes(loaded(), **filters) == expected


def test_a_dump_of_many_routes_comes_in_short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_SCANNED", 10)
    monkeypatch.setattr(lookup, "_PAGE", 4)
    recorder = loaded()
    recorder.rib.announce_local(LOCAL, V4, [key(f"10.99.0.{n}/32") for n in range(50)], attributes())
    table = recorder.rib.table("", V4)
    pages = list(lookup.routes(table, V4))
    assert max(map(len, pages)) <= 4
    assert sum(map(len, pages)) == 54
    assert len(list(lookup.routes(table, V4, neighbor="nobody"))) == 6


def test_longest_match_skips_unusable_routes_unless_asked() -> None:
    recorder = loaded()
    table = recorder.rib.table("", V4)
    assert lookup.longest_match(table, V4, parse_address("10.1.0.7")) == key("10.1.0.7/32")
    assert lookup.longest_match(table, V4, parse_address("10.1.0.8")) == key("10.1.0.0/24")
    assert lookup.longest_match(table, V4, parse_address("192.0.2.1")) == b"\0"
    source = next(iter(table.received))
    keys = [key("192.0.2.0/24")]
    batch = RouteBatch(family=V4, announced=keys, attributes=attributes(65203), next_hop=HOP1)
    recorder.rib.received.routes_received(source, [batch])
    assert lookup.longest_match(table, V4, parse_address("192.0.2.1")) == b"\0"
    assert lookup.longest_match(table, V4, parse_address("192.0.2.1"), usable=False) == keys[0]


@given(st.integers(0, 2**32 - 1) | st.integers(0, 2**128 - 1).map(lambda value: value | 1 << 127))
def test_covering_keys_are_the_supernets(value: int) -> None:
    address = ipaddress.ip_address(value)
    family = Family.IPV4_UNICAST if address.version == 4 else Family.IPV6_UNICAST
    expected = [
        key_of(ipaddress.ip_network((value, length), strict=False)) for length in range(address.max_prefixlen, -1, -1)
    ]
    assert list(lookup.covering_keys(family, address.packed)) == expected


def test_fallback_is_what_most_routes_of_the_set_would_use() -> None:
    configs = [session(f"leaf{number}") for number in (1, 2, 3)]
    recorder = Recorder(configuration(*configs))
    one, two, three = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    recorder.announce(one, attributes(1), HOP1, "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24")
    recorder.announce(two, attributes(1), HOP2, "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24")
    recorder.announce(three, attributes(1, 2), HOP3, "10.3.0.0/24")
    tables = recorder.rib.tables.values()
    both = recorder.fib[key("10.1.0.0/24")]
    assert lookup.fallback(tables, {HOP1})(both) == (HOP2,)
    assert lookup.fallback(tables, {HOP1, HOP2})(both) is None
    assert lookup.fallback(tables, {HOP1, HOP2})((HOP3,)) is None
    recorder.announce(three, attributes(1, 2), HOP3, "10.1.0.0/24", "10.2.0.0/24")
    assert lookup.fallback(tables, {HOP1, HOP2})(both) == (HOP3,)


def test_fallbacks_of_many_sets_look_at_the_decisions_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    several = LocRib.several
    monkeypatch.setattr(LocRib, "several", lambda table: looked.append(table) or several(table))
    configs = [session(f"leaf{number}") for number in (1, 2)]
    recorder = Recorder(configuration(*configs))
    one, two = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    hops = [NextHop(bytes((10, 0, 1, number))) for number in range(1, 101)]
    for number, gateway in enumerate(hops):
        recorder.announce(one, attributes(1), gateway, f"10.1.{number}.0/24")
        recorder.announce(two, attributes(1), HOP2, f"10.1.{number}.0/24")
    tables = list(recorder.rib.tables.values())
    looked.clear()
    instead = lookup.fallback(tables, set(hops))
    assert {instead(recorder.fib[key(f"10.1.{number}.0/24")]) for number in range(100)} == {(HOP2,)}
    assert {instead((NextHop(gateway.address, "", 3),)) for gateway in hops} == {None}
    assert len(looked) == len(tables)


def test_fallback_of_one_set_looks_at_few_of_many_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets are lost meanwhile."""
    configs = [session(f"leaf{number}") for number in (1, 2)]
    recorder = Recorder(configuration(*configs))
    one, two = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    for number in range(1, 601):
        prefix = f"10.{number >> 8}.{number & 255}.0/24"
        recorder.announce(one, attributes(1, 100_000 + number), HOP1, prefix)
        recorder.announce(two, attributes(1, 100_000 + number, 5), HOP2, prefix)
    looked: list[Decision] = []
    several = LocRib.several

    def watched(table: LocRib) -> Iterator[Decision]:
        for decision in several(table):
            looked.append(decision)
            yield decision

    monkeypatch.setattr(LocRib, "several", watched)
    assert lookup.fallback(recorder.rib.tables.values(), {HOP1})((HOP1,)) == (HOP2,)
    assert 0 < len(looked) < 300


def test_fallback_of_what_is_left_of_a_weighted_set_disregards_weights() -> None:
    configs = [session(f"leaf{number}") for number in (1, 2)]
    recorder = Recorder(configuration(*configs))
    one, two = (recorder.up(leaf(number), config) for number, config in enumerate(configs, 1))
    recorder.announce(one, attributes(1), HOP1, "10.1.0.0/24")
    recorder.announce(two, attributes(1, 2), HOP2, "10.1.0.0/24")
    left = (NextHop(HOP1.address, HOP1.interface, 3),)
    assert lookup.fallback(recorder.rib.tables.values(), {HOP1})(left) == (HOP2,)
