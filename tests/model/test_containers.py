"""ShardedDict behaves as a dict does; WeakMemo keeps what is alive and forgets the rest, without the collector."""

from __future__ import annotations

import gc
import struct
import sys
import weakref

from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.containers import ShardedDict, WeakMemo

prefixes = st.integers(0, 32).flatmap(
    lambda length: st.binary(min_size=(length + 7) // 8, max_size=(length + 7) // 8).map(
        lambda address: bytes((length,)) + address
    )
)
anything = st.binary(min_size=1, max_size=6)


@given(st.lists(st.lists(prefixes, max_size=8)), st.lists(prefixes))
def test_bulk_work_on_prefixes_is_that_of_a_dict(batches: list[list[bytes]], gone: list[bytes]) -> None:
    table: ShardedDict[int] = ShardedDict()
    expected: dict[bytes, int] = {}
    _apply(table, expected, batches, gone)


@given(st.lists(st.lists(anything, max_size=8)), st.lists(anything))
def test_bulk_work_on_any_keys_is_that_of_a_dict(batches: list[list[bytes]], gone: list[bytes]) -> None:
    table: ShardedDict[int] = ShardedDict(of_prefixes=False)
    expected: dict[bytes, int] = {}
    _apply(table, expected, batches, gone)


def _apply(table: ShardedDict[int], expected: dict[bytes, int], batches: list[list[bytes]], gone: list[bytes]) -> None:
    for number, keys in enumerate(batches):
        assert table.get_all(keys) == list(map(expected.get, keys))
        parts = table.split(keys)
        assert all(part is table.part(key) for part, chosen in parts for key in chosen)
        assert sorted(key for _, chosen in parts for key in chosen) == sorted(keys)
        table.set_all(keys, number)
        expected.update(dict.fromkeys(keys, number))
    table.discard_all(gone)
    for key in gone:
        expected.pop(key, None)
    assert dict(table) == expected
    assert len(table) == len(expected)
    assert all(key in table and table[key] == value for key, value in expected.items())
    assert sorted(key for keys in table.slices(3) for key in keys) == sorted(expected)
    for key in expected:
        del table[key]
    assert not table


def test_neighboring_host_routes_are_in_few_dicts_and_many_in_all() -> None:
    table: ShardedDict[None] = ShardedDict()
    keys = [b"\x20" + struct.pack("!I", 0x0A000000 + number) for number in range(65536)]
    assert len(table.split(keys[:800])) == 1
    table.set_all(keys, None)
    sizes = [len(part) for part in table.parts]
    assert max(sizes) < 65536 // 10
    assert len(set(sizes)) > 2


def test_room_of_what_is_gone_is_given_back_and_the_rest_stays() -> None:
    table: ShardedDict[int] = ShardedDict()
    keys = [b"\x20" + struct.pack("!I", number) for number in range(60_000)]
    table.set_all(keys, 1)
    full = _room(table)
    for _ in table.shrink():
        pass
    assert _room(table) == full
    left = set(keys[::12])
    table.discard_all([key for key in keys if key not in left])
    assert _room(table) == full
    for _ in table.shrink():
        pass
    assert _room(table) < full / 4
    assert dict(table) == dict.fromkeys(left, 1)


@given(st.integers(0, 30_000))
def test_growing_dict_is_not_shrunk(count: int) -> None:
    table: ShardedDict[int] = ShardedDict()
    for number in range(count):
        table[b"\x20" + struct.pack("!I", number)] = 1
    before = _room(table)
    for _ in table.shrink():
        pass
    assert _room(table) == before


def _room(table: ShardedDict[int]) -> int:
    return sum(map(sys.getsizeof, table.parts))


class Value:
    pass


def test_an_entry_goes_with_its_value() -> None:
    memo: WeakMemo[str, Value] = WeakMemo()
    value = Value()
    memo.set("a", value)
    assert memo.get("a") is value
    assert list(memo.values()) == [value]
    del value
    assert memo.get("a") is None
    assert len(memo) == 0


def test_the_end_of_a_replaced_value_leaves_its_successor() -> None:
    memo: WeakMemo[str, Value] = WeakMemo()
    first, second = Value(), Value()
    memo.set("a", first)
    memo.set("a", second)
    del first
    assert memo.get("a") is second


def test_a_memo_that_is_dropped_is_freed_with_its_last_value() -> None:
    gc.collect()
    gc.disable()
    try:
        memo: WeakMemo[Value, Value] = WeakMemo()
        key, value = Value(), Value()
        memo.set(key, value)
        watched = weakref.ref(key)
        del memo, key
        assert watched() is not None
        del value
        assert watched() is None
    finally:
        gc.enable()


def test_a_table_is_true_while_any_of_its_dicts_has_a_key() -> None:
    table: ShardedDict[int] = ShardedDict()
    assert not table
    table[b"\x20\xff\xff\xff\xff"] = 1
    assert table
    del table[b"\x20\xff\xff\xff\xff"]
    assert not table
