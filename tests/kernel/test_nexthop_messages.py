"""Nexthop objects as messages: byte for byte what pyroute2 encodes as a whole, and read as pyroute2 reads them."""

from __future__ import annotations

import socket
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bgpd.kernel.netlink import messages
from bgpd.kernel.nexthop_messages import (
    MAX_WEIGHT,
    Members,
    NexthopObject,
    encode_delete,
    encode_group,
    encode_nexthop,
    read_deleted,
    read_id,
    read_objects,
)
from bgpd.model.prefix import format_address
from tests.kernel.pyroute2_messages import NexthopMessage

IDS = st.integers(1, 2**32 - 1)
PROTOCOLS = st.integers(0, 255)
GATEWAYS = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
INDEXES = st.integers(1, 2**31 - 1)
MEMBERS = st.dictionaries(IDS, st.integers(1, MAX_WEIGHT), min_size=1, max_size=40).map(
    lambda weights: tuple(sorted(weights.items()))
)
CREATE, REPLACE = 0x601, 0x101


def whole(kind: int, flags: int, fields: dict[str, int], attributes: list[tuple[str, Any]]) -> bytes:
    """One message as pyroute2 writes it."""
    made = NexthopMessage()
    made["header"] = {"type": kind, "flags": flags, "sequence_number": 0, "pid": 0}
    for name, value in fields.items():
        made[name] = value
    made["attrs"] = attributes
    made.encode()
    return bytes(made.data)


def read_by_pyroute2(data: bytes) -> NexthopObject:
    found = NexthopMessage(data)
    found.decode()
    entries = struct.iter_unpack("=IBBH", found.get_attr("NHA_GROUP") or b"")
    gateway = found.get_attr("NHA_GATEWAY")
    family = socket.AF_INET6 if gateway and ":" in gateway else socket.AF_INET
    return NexthopObject(
        id=found.get_attr("NHA_ID"),
        protocol=found["protocol"],
        gateway=socket.inet_pton(family, gateway) if gateway else b"",
        ifindex=found.get_attr("NHA_OIF") or 0,
        members=tuple(sorted((single, 1 + low + (high << 8)) for single, low, high, _ in entries)),
        resilient=found.get_attr("NHA_GROUP_TYPE") == 1,
    )


@given(IDS, PROTOCOLS, GATEWAYS, INDEXES, st.booleans())
def test_singles_equal_pyroute2(identifier: int, protocol: int, gateway: bytes, index: int, replace: bool) -> None:
    family = socket.AF_INET if len(gateway) == 4 else socket.AF_INET6
    fields = {"family": family, "protocol": protocol, "flags": 4}
    attributes = [("NHA_ID", identifier), ("NHA_OIF", index), ("NHA_GATEWAY", format_address(gateway))]
    data = encode_nexthop(identifier, protocol, gateway, index, replace=replace)
    assert data == whole(104, REPLACE if replace else CREATE, fields, attributes)
    assert list(read_objects(data)) == [read_by_pyroute2(data)]


@given(IDS, PROTOCOLS, MEMBERS, st.booleans(), st.booleans())
def test_groups_equal_pyroute2(
    identifier: int, protocol: int, members: Members, replace: bool, resilient: bool
) -> None:
    entries = b"".join(struct.pack("=IBBH", single, weight - 1, 0, 0) for single, weight in members)
    attributes: list[tuple[str, Any]] = [("NHA_ID", identifier), ("NHA_GROUP", entries)]
    if resilient:
        attributes.append(("NHA_GROUP_TYPE", 1))
    if resilient and not replace:
        attributes.append(("NHA_RES_GROUP", {"attrs": [("NHA_RES_GROUP_BUCKETS", 512)]}))
    data = encode_group(identifier, protocol, members, replace=replace, resilient=resilient)
    assert data == whole(104, REPLACE if replace else CREATE, {"protocol": protocol}, attributes)
    assert list(read_objects(data)) == [read_by_pyroute2(data)]


def test_a_group_is_these_bytes() -> None:
    """nhmsg: family 0, protocol 217; NHA_ID 7; NHA_GROUP of 5 with weight 1 and 6 with weight 3."""
    expected = "340000006800010600000000000000000000d90000000000" + "0800010007000000" + "14000200"
    assert encode_group(7, 217, ((5, 1), (6, 3))).hex() == expected + "0500000000000000" + "0600000002000000"


def test_a_resilient_group_is_these_bytes() -> None:
    """Then NHA_GROUP_TYPE 1, and NHA_RES_GROUP, which is nested and says so, with 512 buckets."""
    expected = "400000006800010600000000000000000000d90000000000" + "0800010007000000" + "0c000200" + "0500000000000000"
    expected += "0600030001000000" + "0c000c80" + "0600010000020000"
    assert encode_group(7, 217, ((5, 1),), resilient=True).hex() == expected


@given(st.lists(IDS, max_size=5))
def test_deletes_equal_pyroute2(identifiers: list[int]) -> None:
    data = encode_delete(identifiers)
    assert data == b"".join(whole(105, 1, {}, [("NHA_ID", identifier)]) for identifier in identifiers)
    assert [read_id(data[start - 16 : end]) for _kind, _flags, _sequence, start, end in messages(data)] == identifiers


def test_what_a_batch_deletes_is_read_from_it() -> None:
    batch = encode_nexthop(7, 197, b"\x0a\0\0\1", 2) + encode_delete([8, 9]) + encode_group(10, 197, ((7, 1),))
    assert read_deleted(batch) == [8, 9]
