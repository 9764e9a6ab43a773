"""Route target constraint: what this host asks for, and what it tells neighbors that ask."""

from __future__ import annotations

from bgpd.model.communities import format_membership, membership_key, parse_route_target
from bgpd.model.iana import Family
from bgpd.model.path import RouteBatch, Source
from tests.evpn.build import CONFIG, Host

RTC = Family.ROUTE_TARGET
BLUE = parse_route_target("65201:5001")


def asks(host: Host, source: Source, *keys: bytes, withdrawn: tuple[bytes, ...] = ()) -> None:
    if host.evpn.memberships_received(source, RouteBatch(family=RTC, announced=keys, withdrawn=withdrawn)):
        host.rib.received.refresh_requested(source, Family.L2VPN_EVPN)
    host.turn()


def told_types(host: Host, name: str = "leaf1") -> list[int]:
    return sorted({key[0] for key, batch in host.announced_to(name).items() if batch.family is Family.L2VPN_EVPN})


def test_the_import_targets_are_asked_for() -> None:
    host = Host()
    host.up(1, RTC)
    keys = [key for key, batch in host.announced_to("leaf1").items() if batch.family is RTC]
    assert sorted(map(format_membership, keys)) == ["65203 wants 65201:5001", "65203 wants 65201:5002"]
    host.reconfigure(CONFIG[: CONFIG.index('[[vrf]]\nname = "red"')])
    keys = [key for key, batch in host.announced_to("leaf1").items() if batch.family is RTC]
    assert list(map(format_membership, keys)) == ["65203 wants 65201:5001"]


def test_a_neighbor_that_can_ask_is_told_what_it_asks_for() -> None:
    host = Host()
    leaf1 = host.up(1, RTC)
    host.up(2)
    host.workload("10.64.1.5/32")
    assert told_types(host) == []
    assert told_types(host, "leaf2") == [2, 5]
    asks(host, leaf1, membership_key(65201, BLUE))
    assert {key[1:9][-1:] for key in host.announced_to("leaf1") if key[0] in (2, 5)} == {b"\xe9"}
    assert told_types(host) == [2, 5]
    asks(host, leaf1, withdrawn=(membership_key(65201, BLUE),))
    assert told_types(host) == []
    asks(host, leaf1, b"\0")
    assert told_types(host) == [2, 5]


def test_a_new_session_asks_anew() -> None:
    host = Host()
    leaf1 = host.up(1, RTC)
    asks(host, leaf1, b"\0")
    host.down(leaf1)
    host.told.clear()
    host.up(1, RTC)
    assert told_types(host) == []
