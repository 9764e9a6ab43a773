"""Labels of routes that share everything else: shown and passed on as each came, though the routes share a path."""

from __future__ import annotations

import pytest

from bgpd.evpn.views import evpn_routes
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.model.attributes import Attributes
from bgpd.model.communities import parse_route_target
from bgpd.model.evpn import mac_ip_key, pack_labels
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.model.views.queries import ViewQuery
from tests.evpn.build import CONFIG, EVPN, VIA1, Host, rd

RD = rd("10.255.9.9:1001")
BOTH_WAYS = CONFIG.replace('import = "all"', 'import = "all"\nexport = "all"')
ATTRIBUTES = Attributes.of(extended_communities=(parse_route_target("65201:5001"),))


def key(number: int) -> bytes:
    return mac_ip_key(RD, mac=bytes((2, 0, 0, 0, 0, number)), ip=bytes((10, 64, 0, number)))


def nlri(number: int, *labels: int) -> bytes:
    body = RD + bytes(14) + b"\x30" + key(number)[13:19] + b"\x20" + key(number)[19:] + pack_labels(labels)
    return bytes((2, len(body))) + body


def nlri_of(address: bytes, label: int) -> bytes:
    body = RD + bytes(14) + b"\x30" + bytes((2, 0, 0, 0, 0, address[2])) + b"\x20" + address + pack_labels((label,))
    return bytes((2, len(body))) + body


def hear(host: Host, source: Source, *routes: bytes) -> None:
    decoded = EvpnNlri().decode(b"".join(routes))
    assert (list(decoded.errors), list(decoded.malformed)) == ([], [])
    for group in decoded.announced:
        batch = RouteBatch(
            EVPN, (), group.keys, ATTRIBUTES, NextHop(parse_address("192.0.2.1")), group.overlay, group.labels
        )
        host.rib.received.routes_received(source, [batch])
    host.turn()


def shown(host: Host) -> dict[str, list[list[int]]]:
    views = [view for view in evpn_routes(host.evpn, ViewQuery(type=2, rd="10.255.9.9:1001")) if view is not None]
    return {view.prefix: [one.labels for one in view.candidates] for view in views}


def sent(host: Host, name: str) -> dict[int, tuple[int, ...]]:
    """Labels of the routes that a neighbor has, by the last byte of their address."""
    batches = {key: batch for key, batch in host.announced_to(name).items() if key[1:9] == RD}
    return {key[-1]: batch.overlay.labels for key, batch in batches.items() if batch.overlay is not None}


def test_routes_with_labels_of_their_own_share_a_path_and_are_shown_with_their_labels() -> None:
    host = Host()
    hear(host, host.up(1), nlri(1, 101), nlri(2, 102), nlri(3, 103, 5001), nlri(4, 104, 5001))
    table = host.rib.table("", EVPN)
    assert len({table.routes[key(number)].candidates[0] for number in (1, 2)}) == 1
    assert shown(host) == {
        "10.64.0.1/32": [[101]],
        "10.64.0.2/32": [[102]],
        "10.64.0.3/32": [[103, 5001]],
        "10.64.0.4/32": [[104, 5001]],
    }
    assert host.forwards("10.64.0.2/32") == host.forwards("10.64.0.3/32") == (VIA1,)


def test_each_is_passed_on_with_its_label() -> None:
    host = Host(BOTH_WAYS)
    first = host.up(1)
    host.up(2)
    hear(host, first, nlri(1, 101), nlri(2, 102), nlri(3, 103))
    assert sent(host, "leaf2") == {1: (101,), 2: (102,), 3: (103,)}
    host.told.clear()
    hear(host, first, nlri(1, 101), nlri(2, 202), nlri(3, 103))
    assert sent(host, "leaf2") == {2: (202,)}


def test_a_label_is_the_same_in_whatever_company_it_comes() -> None:
    host = Host(BOTH_WAYS)
    first = host.up(1)
    host.up(2)
    hear(host, first, nlri(1, 101), nlri(2, 102))
    host.told.clear()
    hear(host, first, nlri(1, 101))
    hear(host, first, nlri(2, 102))
    assert sent(host, "leaf2") == {}
    hear(host, first, nlri(2, 7))
    hear(host, first, nlri(1, 8), nlri(3, 9))
    assert sent(host, "leaf2") == {1: (8,), 2: (7,), 3: (9,)}
    assert shown(host) == {"10.64.0.1/32": [[8]], "10.64.0.2/32": [[7]], "10.64.0.3/32": [[9]]}


def test_two_neighbors_label_the_same_route_each_in_their_way() -> None:
    host = Host()
    first, second = host.up(1), host.up(2)
    hear(host, first, nlri(1, 101), nlri(2, 102))
    hear(host, second, nlri(1, 201), nlri(2, 202))
    assert shown(host) == {"10.64.0.1/32": [[101], [201]], "10.64.0.2/32": [[102], [202]]}
    host.down(first)
    assert shown(host) == {"10.64.0.1/32": [[201]], "10.64.0.2/32": [[202]]}


def test_labels_go_with_their_routes() -> None:
    host = Host()
    source = host.up(1)
    labels = host.rib.table("", EVPN).labels
    hear(host, source, nlri(1, 101), nlri(2, 102), nlri(3, 103))
    host.unhear(source, key(1))
    assert len(labels) == 2
    hear(host, source, nlri(2, 102))
    assert len(labels) == 1
    host.down(source)
    assert len(labels) == 0


def test_labels_of_stale_routes_go_when_the_refresh_ends() -> None:
    host = Host()
    source = host.up(1)
    hear(host, source, nlri(1, 101), nlri(2, 102))
    host.rib.received.refresh_began(source, EVPN)
    hear(host, source, nlri(2, 102), nlri(3, 103))
    host.run(host.rib.received.refresh_ended(source, EVPN))
    assert shown(host) == {"10.64.0.2/32": [[102]], "10.64.0.3/32": [[103]]}
    assert len(host.rib.table("", EVPN).labels) == 2


def test_of_a_route_that_comes_twice_in_an_update_the_last_label_counts() -> None:
    host = Host()
    hear(host, host.up(1), nlri(1, 101), nlri(2, 102), nlri(1, 103))
    assert shown(host) == {"10.64.0.1/32": [[103]], "10.64.0.2/32": [[102]]}


def test_labels_of_their_own_count_for_what_a_neighbor_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(CONFIG.replace('import = "all"', 'import = "all"\nmax_attribute_bytes = 3000', 1))
    resets: list[str] = []
    monkeypatch.setattr(host, "reset", lambda name, **said: resets.append(f"{name}: {said['reason']}"))
    source = host.up(1)
    received = host.rib.received
    hear(host, source, nlri(1, 101))
    one = received.attribute_bytes(source)
    hear(host, source, nlri(1, 101), nlri(2, 102), nlri(3, 103))
    shared = received.attribute_bytes(source)
    assert shared == one + 3 * 100, "the path once, and three labels"
    host.unhear(source, key(1), key(2), key(3))
    assert received.attribute_bytes(source) == 0
    assert resets == []
    hear(host, source, *(nlri(number, number) for number in range(1, 30)))
    assert ["max_attribute_bytes (3000)" in reason for reason in resets] == [True]


def test_routes_beyond_the_limit_take_no_label_of_another() -> None:
    host = Host(CONFIG.replace('import = "all"', 'import = "all"\nmax_prefixes = 2\nmax_prefixes_action = "discard"'))
    source = host.up(1)
    hear(host, source, nlri(1, 101), nlri(2, 102), nlri(3, 103), nlri(4, 104))
    assert shown(host) == {"10.64.0.1/32": [[101]], "10.64.0.2/32": [[102]]}
    hear(host, source, nlri(4, 114), nlri(2, 112), nlri(1, 111))
    assert shown(host) == {"10.64.0.1/32": [[111]], "10.64.0.2/32": [[112]]}
    assert len(host.rib.table("", EVPN).labels) == 2


def test_labels_stay_with_their_routes_where_these_are_in_many_parts_of_the_table() -> None:
    host = Host()
    source = host.up(1)
    routes = [nlri_of(bytes((10, 64, third, 7)), 1000 + third) for third in range(0, 256, 5)]
    hear(host, source, *routes)
    assert shown(host) == {f"10.64.{third}.7/32": [[1000 + third]] for third in range(0, 256, 5)}
    hear(host, source, *(nlri_of(bytes((10, 64, third, 7)), 2000 + third) for third in range(250, -1, -10)))
    assert shown(host) == {
        f"10.64.{third}.7/32": [[(1000 if third % 10 else 2000) + third]] for third in range(0, 256, 5)
    }
