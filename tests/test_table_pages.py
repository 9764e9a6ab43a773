"""Pages of tables: in order, each row once, whatever the cursor, the search and the changes between two pages."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd import page_keys, table_pages
from bgpd.api.backend import Rejected
from bgpd.evpn.key_search import evpn_routes_with
from bgpd.fib.pending import PendingChanges
from bgpd.model.communities import parse_route_distinguisher
from bgpd.model.containers import ShardedDict
from bgpd.model.evpn import mac_ip_key, prefix_key
from bgpd.model.prefix import parse_prefix
from bgpd.model.service import ServiceView
from bgpd.model.views.queries import PageQuery
from bgpd.page_keys import Keys, of_search, smallest
from tests.rib.build import V4
from tests.test_listings import Rig


def keys(slices: Iterable[Sequence[bytes]], **fields: Any) -> Keys:
    chosen = list(slices)
    return Keys(family="ipv4-unicast", vrf="", what="", slices=lambda: chosen, views=lambda key: [], size=0, **fields)


def found(table: Keys, after: bytes | None, count: int) -> list[bytes]:
    *nothing, last = smallest(table, after, count)
    assert not any(nothing)
    assert last is not None
    return last


prefix_numbers = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32))


@given(st.sets(prefix_numbers), st.data())
def test_pages_one_after_the_other_are_the_sorted_table(prefixes: set[tuple[int, int]], data: st.DataObject) -> None:
    table = set()
    for value, length in prefixes:
        network = (value >> (32 - length) << (32 - length)).to_bytes(4)
        table.add(bytes((length,)) + network[: (length + 7) // 8])
    some = sorted(table)
    random.Random(1).shuffle(some)
    size, count = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    slices = [some[start : start + size] for start in range(0, len(some), size)]
    pages: list[bytes] = []
    after = None
    while page := found(keys(slices), after, count):
        pages += page
        after = page[-1]
    assert pages == sorted(table, key=lambda key: (key[1:], key[0]))


@given(st.sets(prefix_numbers, min_size=1), st.data())
def test_search_finds_the_prefixes_inside_whatever_bounds_a_look_has(
    prefixes: set[tuple[int, int]], data: st.DataObject
) -> None:
    networks = {ipaddress.ip_network((value, length), strict=False) for value, length in prefixes}
    value, length = data.draw(prefix_numbers)
    outer = ipaddress.ip_network(
        (data.draw(st.sampled_from([value, *(one for one, _ in sorted(prefixes))])), length), strict=False
    )
    table = [parse_prefix(str(one))[1] for one in networks]
    size, count = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    slices = [table[start : start + size] for start in range(0, len(table), size)]
    searched = of_search(keys(slices), str(outer), *parse_prefix(str(outer)))
    pages: list[bytes] = []
    after = None
    while page := found(searched, after, count):
        pages += page
        after = page[-1]
    inside = [one for one in networks if one.subnet_of(outer)]
    assert pages == [parse_prefix(str(one))[1] for one in sorted(inside)]


def test_key_that_is_in_two_slices_is_one_row() -> None:
    some = [b"\x08\x0a", b"\x08\x0b", b"\x08\x0c"]
    assert found(keys([some, some[:2], some[1:]]), None, 2) == some[:2]


def test_routes_that_wait_are_looked_for_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_keys, "SLICE", 2)
    monkeypatch.setattr(table_pages, "SLICE", 2)
    kernel: Any = SimpleNamespace(
        pending=PendingChanges(lot=3), changing={b"\x08\x0a"}, failed={b"\x08\x01": "why"}, blocked=ShardedDict()
    )
    for number in range(10, 20):
        kernel.pending.merge({bytes((8, number)): None})
    slices = list(table_pages._in_state(kernel, "pending"))
    assert max(map(len, slices)) == 2
    assert {key for one in slices for key in one} == {bytes((8, number)) for number in range(10, 20)}
    assert list(table_pages._in_state(kernel, "failed")) == [[b"\x08\x01"]]
    assert not any(table_pages._in_state(kernel, "blocked"))


RD = parse_route_distinguisher("10.255.1.1:100")
MAC = bytes.fromhex("020000000001")
HOST_ROUTE = mac_ip_key(RD, mac=MAC, ip=b"\x0a\x40\1\5")
OF_VTEP = mac_ip_key(parse_route_distinguisher("65001:7"), mac=bytes.fromhex("0200000000ff"), ip=b"\x0a\xff\1\1")
WIDE, NARROW = (prefix_key(RD, prefix=b"\x0a\x09\0\0", prefix_length=length) for length in (16, 24))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("02:00:00:00:00:01", [HOST_ROUTE]),
        ("10.64.1.5", [HOST_ROUTE]),
        ("10.64.1.5/32", [HOST_ROUTE]),
        ("10.255.1.1", [OF_VTEP]),  # not those whose route distinguisher is made of it
        ("0.0.0.0", []),  # though zeros are in all keys
        ("10.9.0.0", [WIDE, NARROW]),
        ("10.9.0.0/16", [WIDE]),
        ("10.255.1.1:100", [HOST_ROUTE, WIDE, NARROW]),
        ("10.9.0.0/x", None),
        ("10.9.0.0/-1", None),
        ("10.9.0.0/+16", None),
        ("10.9.0.0/", None),
        ("leaf1", None),
    ],
)
def test_evpn_routes_are_searched_by_their_fields(text: str, wanted: list[bytes] | None) -> None:
    keep = evpn_routes_with(text)
    assert (keep and keep((HOST_ROUTE, OF_VTEP, WIDE, NARROW))) == wanted


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(table_pages, "AHEAD", 2)
    return Rig()


def page(rig: Rig, kind: str = "routes", **query: Any) -> list[str]:
    paged = rig.backend.pagers[kind](PageQuery(**query))
    rows = [row for step in paged.steps if step is not None for row in step[1]]
    return [getattr(row, "prefix", "") or getattr(row, "name", "") for row in rows]


def places(rig: Rig, **query: Any) -> list[str]:
    return [step[0] for step in rig.backend.pagers["routes"](PageQuery(**query)).steps if step is not None]


@pytest.mark.parametrize(
    ("query", "prefixes"),
    [
        ({}, ["10.8.0.0/16", "10.9.0.0/16", "10.9.1.0/24"]),
        ({"search": "10.9.0.0/16"}, ["10.9.0.0/16", "10.9.1.0/24"]),
        ({"search": "10.9.1.7"}, ["10.9.0.0/16", "10.9.1.0/24"]),
        ({"search": "10.8.0.0/13"}, ["10.8.0.0/16", "10.9.0.0/16", "10.9.1.0/24"]),
        ({"search": "0.0.0.0/0"}, ["10.8.0.0/16", "10.9.0.0/16", "10.9.1.0/24"]),
        ({"search": "10.9.0.0/15"}, []),
        ({"search": "::/0"}, []),
        ({"search": "leaf2"}, ["10.9.0.0/16"]),
        ({"family": "ipv6-unicast"}, []),
        ({"vrf": ""}, ["10.8.0.0/16", "10.9.0.0/16", "10.9.1.0/24"]),
        ({"vrf": "blue"}, []),
        ({"state": "local"}, []),
        ({"state": "installed"}, []),
        ({"state": "failed"}, []),
    ],
)
def test_routes_are_searched(rig: Rig, query: dict[str, Any], prefixes: list[str]) -> None:
    if query.get("search") == "10.9.0.0/15":  # host bits: neither a prefix nor a neighbor
        with pytest.raises(Rejected):
            page(rig, **query)
        return
    assert page(rig, **query) == prefixes


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("routes", {"type": 2}),
        ("routes", {"family": "l2vpn-evpn"}),
        ("evpn", {"state": "installed"}),
        ("evpn", {"family": "ipv4-unicast"}),
        ("workloads", {"state": "installed"}),
        ("services", {"state": "failed"}),
        ("services", {"family": "ipv4-unicast"}),
    ],
)
def test_what_a_table_is_not_narrowed_by_is_refused(rig: Rig, kind: str, query: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as refused:
        page(rig, kind, **query)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "query",
    [{"vrf": "green"}, {"search": "nobody"}, {"state": "x"}, {"family": "ipv5"}, {"after": "x"}, {"after": "18.x.y"},
     {"after": "0a.ipv4-unicast.gone"}],
)  # fmt: skip
def test_wrong_query_is_refused(rig: Rig, query: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        page(rig, **query)


def test_page_goes_on_after_a_place_that_is_gone(rig: Rig) -> None:
    first, second, _third = places(rig)
    assert first == f"{parse_prefix('10.8.0.0/16')[1].hex()}.ipv4-unicast."
    assert page(rig, after=first) == ["10.9.0.0/16", "10.9.1.0/24"]
    del rig.rib.tables["", V4].routes[parse_prefix("10.9.0.0/16")[1]]
    assert page(rig, after=first) == ["10.9.1.0/24"]  # those that were found before are looked up anew
    assert page(rig, after=second) == ["10.9.1.0/24"]


@pytest.mark.parametrize("cursor", [".ipv4-unicast.", "xx.ipv4-unicast.", "."])
def test_cursor_that_no_page_has_given_is_refused(rig: Rig, cursor: str) -> None:
    with pytest.raises(Rejected, match="is no place in this table"):
        page(rig, after=cursor)


def test_look_is_shared_as_long_as_it_is_fresh(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(table_pages.time, "monotonic", lambda: clock[0])
    with monkeypatch.context() as large:
        took = count(0.0, 0.1)
        large.setattr(table_pages.time, "thread_time", lambda: next(took))
        assert len(page(rig)) == 3
    looks = []
    monkeypatch.setattr(table_pages, "smallest", lambda *given: looks.append(given) or iter([[]]))
    assert len(page(rig)) == 3
    assert looks == []
    first, _, last = places(rig)
    assert len(page(rig, after=first)) == 2
    assert page(rig, after=last) == []
    assert looks == []
    clock[0] += table_pages.FRESH_S + 1
    page(rig)
    assert looks == []  # the table has as many routes as before
    clock[0] += table_pages.SETTLED_S
    page(rig)
    assert len(looks) == 1


def test_new_route_is_on_the_next_page_that_is_asked_for_after_a_moment(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(table_pages.time, "monotonic", lambda: clock[0])
    assert len(page(rig)) == len(page(rig, search="10.0.0.0/8")) == 3
    routes = rig.rib.tables["", V4].routes
    routes[parse_prefix("10.8.7.0/24")[1]] = routes[parse_prefix("10.8.0.0/16")[1]]
    clock[0] += table_pages.FRESH_S + 1
    assert page(rig)[:2] == page(rig, search="10.0.0.0/8")[:2] == ["10.8.0.0/16", "10.8.7.0/24"]


def test_route_that_came_for_another_is_on_the_page_after_a_moment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(table_pages.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(table_pages.time, "thread_time", lambda: 0.0)
    assert page(rig) == ["10.8.0.0/16", "10.9.0.0/16", "10.9.1.0/24"]
    routes = rig.rib.tables["", V4].routes
    routes[parse_prefix("10.8.7.0/24")[1]] = routes[parse_prefix("10.8.0.0/16")[1]]
    del routes[parse_prefix("10.9.0.0/16")[1]]
    clock[0] += table_pages.FRESH_S + 1
    assert page(rig) == ["10.8.0.0/16", "10.8.7.0/24", "10.9.1.0/24"]


def test_what_is_remembered_is_bounded(rig: Rig) -> None:
    backend = rig.backend
    pages = table_pages.TablePages(backend._routing, backend._advertised, refuse=lambda vrf, neighbor: None)
    for number in range(200):
        list(pages.pagers["routes"](PageQuery(search=f"10.{number}.0.0/16")).steps)
    assert len(pages._found) == table_pages._KEPT


def test_services_and_workloads_are_searched_by_what_is_shown(rig: Rig) -> None:
    rig.services |= {
        name: ServiceView(name=name, source="mqtt", addresses=[f"10.64.100.{number}/32"])
        for number, name in enumerate(("api", "dns", "web"))
    }
    assert page(rig, "services") == ["api", "dns", "web"]
    assert page(rig, "services", search="100.1") == ["dns"]
    assert page(rig, "services", search="WEB") == ["web"]
    assert page(rig, "services", state="announced") == []
    assert page(rig, "services", state="withheld") == ["api", "dns", "web"]
