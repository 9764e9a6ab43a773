"""How others' routes are taken over at the start."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

import pytest

from bgpd.kernel import foreign_monitor
from bgpd.kernel.foreign_monitor import ForeignMonitor
from bgpd.kernel.foreign_reader import Reading, Scope
from bgpd.kernel.monitor import KernelMonitor
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelEvent, KernelRoute, Link, LinkChanged, RouteChanged

V4 = Family.IPV4_UNICAST
ROUTES = 5 * foreign_monitor._STEP // 2


def route(number: int) -> KernelRoute:
    key = b"\x20\x0a" + number.to_bytes(3, "big")
    return KernelRoute(family=V4, key=key, table=254, protocol=4, metric=0, interface="eth0")


class Reader:
    """Finds `ROUTES` routes."""

    def __init__(self, own_protocol: int) -> None:
        pass

    def read(self, *_: object, **__: object) -> Reading:
        routes = map(route, range(ROUTES))
        return Reading(changes={(V4, 254, one.key): (one,) for one in routes}, nexthops={}, is_whole=True)

    def close(self) -> None:
        pass


async def test_many_routes_are_taken_over_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_monitor, "ForeignReader", Reader)
    told: list[RouteChanged] = []
    monitor = ForeignMonitor(
        told.append, own_protocol=197, interval_s=60.0, names=dict, name_of=lambda _index: "", looked=lambda: None
    )
    counts = {0}

    async def others_work() -> None:
        while True:
            counts.add(len(told))
            await asyncio.sleep(0)

    others = asyncio.create_task(others_work())
    await monitor.start()
    others.cancel()
    assert [event.route for event in told] == [route(number) for number in range(ROUTES)]
    seen = sorted(counts | {len(told)})
    assert max(after - before for before, after in itertools.pairwise(seen)) <= foreign_monitor._STEP
    await monitor.stop()


async def test_only_ipv6_routes_are_read_again_where_the_first_dump_may_have_lacked_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[Scope]] = []
    read_again = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Partial(Reader):
        """Its first dump is of several parts."""

        def read(self, scopes: Iterable[Scope], *_: object, **__: object) -> Reading:
            asked.append(list(scopes))
            if len(asked) > 1:
                loop.call_soon_threadsafe(read_again.set)
            return Reading(changes={}, nexthops={}, is_whole=len(asked) > 1)

    monkeypatch.setattr(foreign_monitor, "ForeignReader", Partial)
    monitor = ForeignMonitor(
        lambda _event: None, own_protocol=197, interval_s=60.0, names=dict, name_of=str, looked=lambda: None
    )
    await monitor.start()
    await asyncio.wait_for(read_again.wait(), 20)
    await monitor.stop()
    assert asked == [[Scope(V4), Scope(Family.IPV6_UNICAST)], [Scope(Family.IPV6_UNICAST)]]


async def test_where_the_protocols_are_known_only_their_routes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Scope] = []

    class Noting(Reader):
        """Notes what is read."""

        def read(self, scopes: Iterable[Scope], *_: object, **__: object) -> Reading:
            asked.extend(scopes)
            return Reading(changes={(V4, 254, b"\x08\x0a"): (route(1),)}, nexthops={}, is_whole=True)

    monkeypatch.setattr(foreign_monitor, "ForeignReader", Noting)
    monitor = ForeignMonitor(
        lambda _event: None, own_protocol=197, interval_s=60.0, names=dict, name_of=str, looked=lambda: None
    )
    await monitor.start([2, 186])
    await monitor.stop()
    assert {(one.family, one.protocol) for one in asked} == {
        (family, protocol) for family in (V4, Family.IPV6_UNICAST) for protocol in (2, 186)
    }
    assert monitor.protocols() == {4}


def test_routes_are_replayed_to_those_that_ask_for_them() -> None:
    monitor = KernelMonitor()
    monitor.host.link(Link(index=2, name="eth0", up=True))
    monitor.routes.changed((route(1),))
    links: list[KernelEvent] = []
    everything: list[KernelEvent] = []
    monitor.subscribe(links.append, replay=True)
    monitor.subscribe(everything.append, replay=True, replay_routes=True)
    assert [type(event) for event in links] == [LinkChanged]
    assert everything == [*links, RouteChanged(route(1))]
