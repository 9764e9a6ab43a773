"""Routes that the kernel tells: bgpd's own in runs, every layout and mix as a walk message by message would read them;
other programs' as pyroute2 reads them.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from bgpd.kernel.netlink import ATTRIBUTE, MessageKind, message
from bgpd.kernel.netlink import messages as split
from bgpd.kernel.route_decoder import read_foreign_routes, read_routes, read_runs
from bgpd.kernel.route_messages import RTA_NH_ID, UNKNOWN, RouteForm, encode_adds
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute
from tests.kernel.test_link_messages import IPV4, IPV6, Attributes, encoded, named
from tests.kernel.test_route_messages import family_batches, forms, targets

parts = st.lists(st.tuples(family_batches, forms, targets), min_size=1, max_size=6)


@given(parts)
def test_mixed_datagrams_are_read_whole_and_in_order(
    given_parts: list[tuple[tuple[Family, list[bytes]], RouteForm, int]],
) -> None:
    data, single = b"", []
    for (family, keys), form, target in given_parts:
        for key in keys:
            one = encode_adds(family, [key], target, form)
            data += one
            single += [(run.family, run.table, run.keys[0], run.targets[0], run.metrics[0]) for run in read_runs(one)]
    data += message(MessageKind.DONE, 0, bytes(4))
    found = [
        (run.family, run.table, key, target, metric)
        for run in read_runs(data)
        for key, target, metric in zip(run.keys, run.targets, run.metrics)
    ]
    assert found == single


@pytest.mark.parametrize("place", [18, 19], ids=["sources", "type of service"])
def test_own_routes_for_some_packets_are_passed_over(place: int) -> None:
    keys = [b"\x18\x0a\1\2", b"\x18\x0a\1\3", b"\x18\x0a\1\4"]
    first, other, last = (encode_adds(Family.IPV4_UNICAST, [key], 7, RouteForm(254, 217, 20)) for key in keys)
    for_some = other[:place] + b"\x10" + other[place + 1 :]
    assert [key for run in read_runs(first + for_some + last) for key in run.keys] == [keys[0], keys[2]]


@given(st.binary(max_size=300))
def test_any_bytes_end(data: bytes) -> None:
    for _ in zip(read_runs(data), range(100)):
        pass


def test_attribute_that_is_longer_than_its_message_is_none() -> None:
    whole = encode_adds(Family.IPV4_UNICAST, [b"\x18\x0a\1\2"], 7, RouteForm(254, 217, 20))
    assert [run.targets for run in read_runs(whole)] == [[7]]
    at = whole.index(ATTRIBUTE.pack(8, RTA_NH_ID))
    damaged = whole[:at] + ATTRIBUTE.pack(200, RTA_NH_ID) + whole[at + 4 :]
    (run,) = read_runs(damaged)
    assert list(run.targets) == [UNKNOWN]
    assert not list(read_runs(damaged[:-1]))


def route_message(kind: int = 1, protocol: int = 4, flags: int = 0, attributes: Attributes | None = None) -> bytes:
    fields = {
        "family": socket.AF_INET,
        "dst_len": 24,
        "table": 254,
        "proto": protocol,
        "type": kind,
        "flags": flags,
    }
    data = bytearray(encoded(rtmsg, fields, attributes or [("RTA_DST", "10.1.2.0"), ("RTA_OIF", 7)]))
    data[4] = MessageKind.NEW_ROUTE
    return bytes(data)


def test_route_is_read() -> None:
    data = route_message(
        attributes=[
            ("RTA_DST", "10.1.2.0"),
            ("RTA_TABLE", 1001),
            ("RTA_PRIORITY", 50),
            ("RTA_GATEWAY", "10.0.0.1"),
            ("RTA_OIF", 7),
        ]
    )
    assert read_routes(data, 16, len(data), named) == (
        KernelRoute(
            family=Family.IPV4_UNICAST,
            key=b"\x18\x0a\x01\x02",
            table=1001,
            protocol=4,
            metric=50,
            interface="if7",
            gateway=b"\x0a\0\0\1",
        ),
    )


@pytest.mark.parametrize("kind", [1, 6])
def test_route_to_an_interface_is_the_same_in_whatever_order_its_attributes_stand(kind: int) -> None:
    attributes: Attributes = [("RTA_TABLE", 1001), ("RTA_DST", "10.1.2.0"), ("RTA_OIF", 7)]
    messages = [route_message(kind, attributes=list(order)) for order in itertools.permutations(attributes)]
    found = {read_routes(data, 16, len(data), named) for data in messages}
    details = b"" if kind == 1 else bytes((kind,))
    route = KernelRoute(
        family=Family.IPV4_UNICAST,
        key=b"\x18\x0a\x01\x02",
        table=1001,
        protocol=4,
        interface="if7",
        details=details,
    )
    assert found == {(route,)}


def test_multipath_route_is_a_way_for_each_next_hop_that_is_not_dead() -> None:
    data = route_message(
        attributes=[
            ("RTA_DST", "10.1.2.0"),
            (
                "RTA_MULTIPATH",
                [
                    {"oif": 7, "attrs": [("RTA_GATEWAY", "10.0.0.1")]},
                    {"oif": 8, "flags": 1, "attrs": [("RTA_GATEWAY", "10.0.1.1")]},
                    {"oif": 9},
                ],
            ),
        ]
    )
    ways = read_routes(data, 16, len(data), named)
    assert [(way.interface, way.gateway, way.multipath) for way in ways] == [
        ("if7", b"\x0a\0\0\1", True),
        ("if9", b"", True),
    ]


def test_routes_that_differ_in_anything_that_the_kernel_tells_apart_are_not_equal() -> None:
    plain: Attributes = [("RTA_DST", "10.1.2.0"), ("RTA_OIF", 7)]
    messages = [
        route_message(attributes=plain),
        route_message(attributes=[*plain, ("RTA_PREFSRC", "10.0.0.1")]),
        route_message(attributes=[*plain, ("RTA_FLOW", 5)]),
        route_message(attributes=[*plain, ("RTA_FLOW", 6)]),
        route_message(6, attributes=plain),
    ]
    assert len({read_routes(data, 16, len(data), named) for data in messages}) == len(messages)


@pytest.mark.parametrize(("kind", "flags"), [(2, 0), (3, 0), (5, 0), (1, 0x200)])
def test_what_is_no_forwarding_decision_is_no_route(kind: int, flags: int) -> None:
    data = route_message(kind, flags=flags)
    assert read_routes(data, 16, len(data), named) == ()


MANY = [
    *(route_message(protocol=197, attributes=[("RTA_DST", f"10.1.{n}.0")]) for n in range(2)),
    route_message(protocol=197, attributes=[("RTA_DST", "10.2.0.0"), ("RTA_PRIORITY", 20)]),
    *(route_message(protocol=4, attributes=[("RTA_DST", f"10.3.{n}.0")]) for n in range(2)),
    route_message(protocol=4, attributes=[("RTA_DST", "10.4.0.0"), ("RTA_PRIORITY", 20)]),
    b"\x14\0\0\0\x03\0\x02\0" + bytes(12),  # NLMSG_DONE
]


@given(st.lists(st.sampled_from(MANY), max_size=40))
def test_own_routes_are_passed_over(datagram: list[bytes]) -> None:
    data = b"".join(datagram)
    foreign = [
        route
        for kind, _, _, start, end in split(data)
        if kind == MessageKind.NEW_ROUTE and data[start + 5] == 4
        for route in read_routes(data, start, end, named)
    ]
    assert list(read_foreign_routes(data, 197, named)) == foreign


def pyroute2_route(data: bytes) -> tuple[KernelRoute, ...]:
    """The ways of a message as pyroute2 reads it."""
    found = rtmsg(data)
    found.decode()

    def packed(text: str | None) -> bytes:
        return ipaddress.ip_address(text).packed if text else b""

    length = found["dst_len"]
    hops = found.get_attr("RTA_MULTIPATH") or []
    hops = [(hop["oif"], hop.get_attr("RTA_GATEWAY")) for hop in hops if not hop["flags"] & 1] or [
        (found.get_attr("RTA_OIF") or 0, found.get_attr("RTA_GATEWAY"))
    ]
    return tuple(
        KernelRoute(
            family=Family.IPV4_UNICAST if found["family"] == socket.AF_INET else Family.IPV6_UNICAST,
            key=bytes((length,)) + packed(found.get_attr("RTA_DST"))[: (length + 7) >> 3],
            table=found.get_attr("RTA_TABLE") or found["table"],
            protocol=found["proto"],
            metric=found.get_attr("RTA_PRIORITY") or 0,
            tos=found["tos"],
            interface=named(index),
            gateway=packed(gateway),
            source=packed(found.get_attr("RTA_PREFSRC")),
            multipath=len(hops) > 1 and found["family"] == socket.AF_INET,
        )
        for index, gateway in hops
    )


@given(st.data(), st.sampled_from([socket.AF_INET, socket.AF_INET6]), st.integers(0, 255), st.integers(0, 255))
def test_foreign_routes_are_what_pyroute2_reads(data: st.DataObject, family: int, tos: int, protocol: int) -> None:
    address, longest = (IPV4, 32) if family == socket.AF_INET else (IPV6, 128)
    index = st.integers(1, 1 << 20)

    def some(name: str, values: st.SearchStrategy[object]) -> Attributes:
        return data.draw(st.lists(st.tuples(st.just(name), values), max_size=1))

    attributes = [("RTA_DST", data.draw(address)), *some("RTA_PRIORITY", st.integers(1, 2**32 - 1))]
    attributes += some("RTA_TABLE", st.integers(1, 2**32 - 1)) + some("RTA_PREFSRC", address)
    gateways = st.lists(st.tuples(st.just("RTA_GATEWAY"), address), max_size=1)
    if data.draw(st.booleans()):
        hop = st.fixed_dictionaries({"oif": index, "flags": st.sampled_from([0, 1, 4, 16]), "attrs": gateways})
        attributes.append(("RTA_MULTIPATH", data.draw(st.lists(hop, min_size=1, max_size=4))))
    else:
        attributes += [*some("RTA_OIF", index), *data.draw(gateways)]
    fields = {"family": family, "dst_len": data.draw(st.integers(0, longest)), "tos": tos, "proto": protocol}
    found = encoded(rtmsg, fields | {"table": 254, "type": 1}, data.draw(st.permutations(attributes)))
    assert read_routes(found, 16, len(found), named) == pyroute2_route(found)
