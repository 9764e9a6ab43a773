"""The kernel's known state: every change is told once, and a reading of the tables tells only differences."""

from __future__ import annotations

from bgpd.kernel.monitor import KernelSnapshot, KernelState
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, AddressChanged, KernelEvent, KernelRoute, Link, LinkChanged, RouteChanged

ETH0 = Link(index=2, name="eth0", up=True)
ADDRESS = Address(interface="eth0", packed=b"\x0a\0\0\1", prefix_length=24)


def route(metric: int = 0, interface: str = "eth0") -> KernelRoute:
    return KernelRoute(
        family=Family.IPV4_UNICAST, key=b"\x18\x0a\0\0", table=254, protocol=2, metric=metric, interface=interface
    )


def started() -> tuple[KernelState, list[KernelEvent]]:
    events: list[KernelEvent] = []
    return KernelState(events.append), events


def test_repeated_notifications_make_one_event() -> None:
    state, events = started()
    for _ in range(2):
        state.link(ETH0, gone=False)
        state.address(ADDRESS, gone=False)
        state.route(route(), gone=False)
    assert events == [LinkChanged(ETH0), AddressChanged(ADDRESS), RouteChanged(route())]


def test_replaced_route_is_gone() -> None:
    state, events = started()
    state.route(route(), gone=False)
    state.route(route(5), gone=False)
    state.route(route(interface="eth1"), gone=False, replaces=True)
    assert events[2:] == [RouteChanged(route(), gone=True), RouteChanged(route(interface="eth1"))]


def test_renamed_link_is_gone_by_its_old_name() -> None:
    state, events = started()
    state.link(ETH0, gone=False)
    renamed = Link(index=2, name="uplink", up=True)
    state.link(renamed, gone=False)
    assert events[1:] == [LinkChanged(ETH0, gone=True), LinkChanged(renamed)]


def test_reading_tells_differences_only() -> None:
    state, events = started()
    state.link(ETH0, gone=False)
    state.route(route(), gone=False)
    events.clear()
    state.begin_reading()
    state.replace(KernelSnapshot(links={2: ETH0}, addresses=[ADDRESS], routes=[route(7)]))
    assert events == [AddressChanged(ADDRESS), RouteChanged(route(), gone=True), RouteChanged(route(7))]


def test_what_was_notified_during_a_reading_is_newer_than_it() -> None:
    state, events = started()
    state.begin_reading()
    state.route(route(), gone=False)
    state.link(ETH0, gone=False)
    state.link(ETH0, gone=True)
    state.replace(KernelSnapshot(links={2: ETH0}))
    assert events == [RouteChanged(route()), LinkChanged(ETH0), LinkChanged(ETH0, gone=True)]
    assert state.routes
