"""Other programs' routes are counted as the kernel counts them: each message changes what it changed there, no more."""

from __future__ import annotations

from typing import Any

import msgspec

from bgpd.kernel.foreign_routes import ForeignRoutes
from bgpd.kernel.nexthop_messages import NexthopObject
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute, RouteChanged

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST
KEY = {V4: b"\x20\x0a\x41\x01\x01", V6: b"\x80" + bytes.fromhex("20010db8") + bytes(11) + b"\1"}


def route(interface: str = "pod1", family: Family = V4, **fields: Any) -> KernelRoute:
    values = {"table": 254, "protocol": 3, "metric": 0 if family is V4 else 1024, **fields}
    return KernelRoute(family=family, key=KEY[family], interface=interface, **values)


class Rig(ForeignRoutes):
    def __init__(self) -> None:
        self.burst_ended: list[RouteChanged] = []
        self.doubts: list[tuple[Family, str]] = []
        super().__init__(
            self.burst_ended.append,
            name_of=lambda index: f"pod{index}",
            doubted=lambda family, interface: self.doubts.append((family, interface)),
        )

    def add(self, *ways: KernelRoute, replaces: bool = False, appends: bool = False) -> None:
        self.changed(ways, replaces=replaces, appends=appends)

    def delete(self, *ways: KernelRoute) -> None:
        self.changed(ways, gone=True)

    @property
    def ways(self) -> list[str]:
        """Interfaces that lead there, in order."""
        return [one.interface for routes in self.routes.values() for one in routes]

    @property
    def told(self) -> list[str]:
        found = [("-" if event.gone else "+") + event.route.interface for event in self.burst_ended]
        self.burst_ended.clear()
        return found


def test_repeated_notification_makes_one_event() -> None:
    rig = Rig()
    rig.add(route())
    rig.add(route())
    assert rig.told == ["+pod1"]


def test_of_two_routes_of_one_prefix_and_metric_one_goes() -> None:
    rig = Rig()
    rig.add(route())
    rig.add(route("pod2"), appends=True)
    rig.delete(route())
    assert rig.told == ["+pod1", "+pod2", "-pod1"]
    assert rig.ways == ["pod2"]


def test_routes_that_differ_in_tos_or_details_go_one_by_one() -> None:
    rig = Rig()
    others = [route(tos=16), route(details=b"\1mtu"), route(source=b"\x0a\0\0\1"), route(protocol=4)]
    rig.add(route())
    for other in others:
        rig.add(other, appends=True)
    for other in others:
        rig.delete(other)
        assert rig.ways
    assert rig.ways == ["pod1"]
    rig.delete(route())
    assert not rig.routes


def test_route_whose_source_address_the_kernel_dropped_silently_is_gone_by_what_is_left_of_it() -> None:
    rig = Rig()
    rig.add(route(family=V6, source=bytes(16)))
    rig.delete(route(family=V6))
    assert not rig.routes


def test_replacing_takes_the_place_of_the_first_alone_and_the_rest_is_looked_at() -> None:
    rig = Rig()
    rig.add(route())
    rig.add(route("pod2"), appends=True)
    rig.add(route("pod3"), replaces=True)
    assert rig.ways == ["pod3", "pod2"]
    assert rig.told == ["+pod1", "+pod2", "+pod3", "-pod1"]
    assert {name for _family, name in rig.doubts} == {"pod1", "pod2", "pod3"}


def test_replacing_the_only_route_leaves_no_doubt() -> None:
    rig = Rig()
    rig.add(route())
    rig.add(route("pod2", metric=5))
    rig.add(route("pod3"), replaces=True)
    assert sorted(rig.ways) == ["pod2", "pod3"]
    assert not rig.doubts


def test_new_way_is_told_before_the_old_one_is_gone() -> None:
    rig = Rig()
    rig.add(route())
    rig.add(route("pod2"), replaces=True)
    assert rig.told == ["+pod1", "+pod2", "-pod1"]


def test_prepended_ipv4_route_comes_first_and_an_ipv6_one_last() -> None:
    rig = Rig()
    rig.add(route())
    rig.add(route("pod2"))
    assert rig.ways == ["pod2", "pod1"]
    six = Rig()
    six.add(route(family=V6))
    six.add(route("pod2", V6))
    assert six.ways == ["pod1", "pod2"]


def test_ipv6_siblings_are_told_together_and_go_one_by_one() -> None:
    rig = Rig()
    first, second = route("pod1", V6, gateway=b"\1"), route("pod2", V6, gateway=b"\1")
    rig.add(first)
    rig.add(second, first, appends=True)
    assert rig.told == ["+pod1", "+pod2"]
    rig.delete(first)
    assert rig.ways == ["pod2"]
    rig.add(second, first, appends=True)
    rig.delete(second, first)
    assert not rig.routes


def test_replacing_ipv6_siblings_replaces_all_of_them() -> None:
    rig = Rig()
    rig.add(route("pod1", V6, gateway=b"\1"), route("pod2", V6, gateway=b"\1"))
    rig.add(route("pod3", V6), replaces=True)
    assert rig.ways == ["pod3"]


def test_route_by_nexthop_object_leads_where_that_leads_and_goes_with_it() -> None:
    rig = Rig()
    rig.nexthop(NexthopObject(id=5, protocol=4, ifindex=1))
    rig.nexthop(NexthopObject(id=6, protocol=4, ifindex=2, gateway=b"\1"))
    rig.nexthop(NexthopObject(id=7, protocol=4, members=((5, 1), (6, 1))))
    rig.add(route("", nexthop=5))
    assert rig.told == ["+pod1"]
    rig.nexthop(NexthopObject(id=5, protocol=4, ifindex=3))
    assert rig.told == ["+pod3", "-pod1"]
    rig.nexthop(NexthopObject(id=5, protocol=4), gone=True)
    assert rig.told == ["-pod3"]
    assert not rig.routes


def test_route_by_a_group_follows_its_members() -> None:
    rig = Rig()
    for identifier in (1, 2):
        rig.nexthop(NexthopObject(id=identifier, protocol=4, ifindex=identifier))
    rig.nexthop(NexthopObject(id=7, protocol=4, members=((1, 1), (2, 1))))
    rig.add(route("", nexthop=7))
    assert rig.ways == ["pod1", "pod2"]
    rig.nexthop(NexthopObject(id=7, protocol=4, members=((2, 1),)))
    assert rig.ways == ["pod2"]
    rig.nexthop(NexthopObject(id=2, protocol=4, ifindex=3))
    assert rig.ways == ["pod3"]
    rig.delete(route("", nexthop=7))
    assert not rig.routes


def test_nexthop_object_that_a_reading_lacks_takes_its_routes_along() -> None:
    rig = Rig()
    rig.nexthop(NexthopObject(id=5, protocol=4, ifindex=1))
    rig.add(route("", nexthop=5))
    rig.begin_reading()
    rig.settle({}, {})
    assert not rig.routes


def test_what_was_notified_during_a_reading_is_newer_than_it() -> None:
    rig = Rig()
    rig.add(route())
    place = next(iter(rig.routes))
    rig.begin_reading()
    rig.add(route("pod2"), appends=True)
    rig.settle({place: ()})
    assert rig.ways == ["pod1", "pod2"]
    rig.begin_reading()
    rig.settle({place: ()})
    assert not rig.routes


def test_nexthop_object_that_was_notified_during_a_reading_is_newer_than_it() -> None:
    rig = Rig()
    rig.begin_reading()
    rig.nexthop(NexthopObject(id=5, protocol=4, ifindex=1))
    rig.add(route("", nexthop=5))
    rig.settle({}, {})
    assert rig.ways == ["pod1"]


def test_what_differs_and_was_notified_during_a_reading_is_read_again() -> None:
    rig = Rig()
    rig.add(route())
    place = next(iter(rig.routes))
    rig.begin_reading()
    rig.add(route("pod2"), appends=True)
    rig.settle({place: ()})
    assert rig.doubts == [(V4, "pod1"), (V4, "pod2")]


def test_a_copy_of_what_is_known_does_not_change() -> None:
    rig = Rig()
    rig.add(route())
    known = rig.begin_reading()
    rig.delete(route())
    assert msgspec.structs.asdict(known[V4, 254, KEY[V4]][0])["interface"] == "pod1"


def test_ipv6_siblings_of_several_protocols_are_told_by_one_and_go_together() -> None:
    rig = Rig()
    first, second = (route("pod1", V6, gateway=bytes((n,)) * 16, protocol=n) for n in (3, 4))
    rig.add(first)
    rig.add(second, msgspec.structs.replace(first, protocol=4), appends=True)
    assert len(rig.ways) == 2
    assert rig.doubts == [(V6, "pod1")]
    rig.delete(first, msgspec.structs.replace(second, protocol=3))
    assert rig.ways == []
