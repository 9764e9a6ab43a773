"""Reading dumps in runs: every layout, in any mix, gives what a walk message by message gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bgpd.kernel.netlink import MessageKind, message
from bgpd.kernel.route_messages import RouteForm, encode_adds, read_runs
from bgpd.model.iana import Family
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


@given(st.binary(max_size=300))
def test_any_bytes_end(data: bytes) -> None:
    for _ in zip(read_runs(data), range(100)):
        pass
