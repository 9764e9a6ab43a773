"""WeakMemo keeps what is alive and forgets the rest, without the garbage collector."""

from __future__ import annotations

import gc
import weakref

from bgpd.model.containers import WeakMemo, WeighedMemo


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


def test_weight_counts_while_values_live_also_replaced_ones() -> None:
    memo: WeighedMemo[str, Value] = WeighedMemo()
    first, second, other = Value(), Value(), Value()
    memo.weigh("a", first, 10)
    memo.weigh("a", second, 5)
    memo.weigh("b", other, 100)
    assert (memo.weight, memo.get("a"), len(memo)) == (115, second, 2)
    assert set(memo.all_values()) == {first, second, other}
    del first
    assert memo.weight == 105
    del second, other
    assert (memo.weight, memo.replaced, list(memo.all_values())) == (0, {}, [])
