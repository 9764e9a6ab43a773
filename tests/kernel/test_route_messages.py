"""Bulk route messages: byte for byte what pyroute2 encodes, one by one."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from bgpd.kernel.netlink import messages
from bgpd.kernel.route_decoder import read_runs
from bgpd.kernel.route_messages import BLACKHOLE, RouteForm, encode_adds, encode_deletes, read_key
from bgpd.model.iana import Family
from bgpd.model.prefix import format_address, key_address

V4, V6 = Family.IPV4_UNICAST, Family.IPV6_UNICAST


class extended_rtmsg(rtmsg):
    """pyroute2's route message with the attribute that it lacks: RTA_NH_ID (30).

    Its own map is to be compiled even if the parent's was, by another test.
    """

    _nlmsg_base__compiled_nla = False
    nla_map = (
        *rtmsg.nla_map,
        *((f"RTA_{number}", "none") for number in range(len(rtmsg.nla_map), 30)),
        ("RTA_NH_ID", "uint32"),
    )


@st.composite
def keys_of(draw: st.DrawFn, family: Family) -> bytes:
    size = 4 if family is V4 else 16
    length = draw(st.integers(0, size * 8))
    number = draw(st.integers(0, (1 << length) - 1)) << (size * 8 - length)
    return bytes((length,)) + number.to_bytes(size, "big")[: (length + 7) >> 3]


def batches(family: Family) -> st.SearchStrategy[list[bytes]]:
    return st.lists(keys_of(family), min_size=1, max_size=40, unique=True)


families = st.sampled_from((V4, V6))
family_batches = families.flatmap(lambda family: st.tuples(st.just(family), batches(family)))
forms = st.builds(RouteForm, st.integers(1, 2**32 - 1), st.integers(1, 255), st.integers(1, 2**32 - 1))
targets = st.one_of(st.integers(1, 2**31 - 1), st.just(BLACKHOLE), st.integers(-100000, -1))


def by_pyroute2(family: Family, key: bytes, form: RouteForm, target: int | None) -> bytes:
    """One add (by target) or one delete (None)."""
    message: Any = extended_rtmsg()
    message["family"] = socket.AF_INET if family is V4 else socket.AF_INET6
    message["dst_len"] = key[0]
    message["table"] = form.table if form.table < 256 else 0
    message["proto"] = form.protocol
    message["scope"] = 255 if target is None else 253 if target < 0 and family is V4 else 0
    message["type"] = 0 if target is None else 6 if target == BLACKHOLE else 1
    message["attrs"] = [
        ("RTA_DST", format_address(key_address(family, key))),
        ("RTA_TABLE", form.table),
        ("RTA_PRIORITY", form.metric),
    ]
    if target is not None and target > 0:
        message["attrs"].append(("RTA_NH_ID", target))
    elif target is not None and target < 0:
        message["attrs"].append(("RTA_OIF", -target))
    message["header"]["type"] = 25 if target is None else 24
    message["header"]["flags"] = 0x1 if target is None else 0x601
    message["header"]["sequence_number"] = 0
    message["header"]["pid"] = 0
    message.encode()
    return bytes(message.data)


@given(family_batches, forms, targets)
def test_adds_equal_pyroute2(family_batch: tuple[Family, list[bytes]], form: RouteForm, target: int) -> None:
    family, keys = family_batch
    batch = encode_adds(family, keys, target, form)
    found = sorted(batch[start - 16 : end] for _kind, _flags, _sequence, start, end in messages(batch))
    assert found == sorted(by_pyroute2(family, key, form, target) for key in keys)


@given(family_batches, forms)
def test_deletes_equal_pyroute2_and_descend(family_batch: tuple[Family, list[bytes]], form: RouteForm) -> None:
    family, keys = family_batch
    batch = encode_deletes(family, keys, form)
    found = [batch[start - 16 : end] for _kind, _flags, _sequence, start, end in messages(batch)]
    assert found == [by_pyroute2(family, key, form, None) for key in sorted(keys, reverse=True)]


@pytest.mark.parametrize("count", [1, 2, 3, 32, 33, 300])
def test_many_prefixes_of_several_lengths_are_each_written_once_and_deleted_from_the_last(count: int) -> None:
    keys = [
        bytes((16 + number % 9,)) + bytes((10, number & 255, number >> 8))[: 2 + (number % 9 > 0)]
        for number in range(count)
    ]
    form = RouteForm(254, 217, 20)
    batch = encode_adds(Family.IPV4_UNICAST, keys, 7, form)
    found = [batch[start - 16 : end] for _kind, _flags, _sequence, start, end in messages(batch)]
    assert sorted(found) == sorted(by_pyroute2(Family.IPV4_UNICAST, key, form, 7) for key in keys)
    batch = encode_deletes(Family.IPV4_UNICAST, keys, form)
    found = [batch[start - 16 : end] for _kind, _flags, _sequence, start, end in messages(batch)]
    assert found == [by_pyroute2(Family.IPV4_UNICAST, key, form, None) for key in sorted(keys, reverse=True)]


@given(family_batches, forms, targets)
def test_what_is_written_is_read_back_by_error_and_by_dump(
    family_batch: tuple[Family, list[bytes]], form: RouteForm, target: int
) -> None:
    family, keys = family_batch
    batch = encode_adds(family, keys, target, form)
    requests = [batch[start - 16 : end] for _kind, _flags, _sequence, start, end in messages(batch)]
    assert sorted(map(read_key, requests)) == sorted((family, key) for key in keys)
    read = [
        (run.family, run.table, run.protocol, key, found, metric)
        for run in read_runs(batch)
        for key, found, metric in zip(run.keys, run.targets, run.metrics)
    ]
    assert sorted(read) == sorted((family, form.table, form.protocol, key, target, form.metric) for key in keys)
