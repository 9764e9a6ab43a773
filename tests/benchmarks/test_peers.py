"""Peers that write no kernel routes take a table and say how many routes they have."""

from __future__ import annotations

import pytest

from benchmarks import peers
from benchmarks.internet_table import InternetTable
from benchmarks.measurement import bench

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("name", ["OpenBGPD", "GoBGP"])
@pytest.mark.parametrize("kind", ["internet-v4", "internet-v6"])
def test_a_daemon_without_kernel_routes_counts_its_own(name: str, kind: str) -> None:
    assert name in peers.available(own_table=True)
    assert name not in peers.available()
    with bench(name, leaves=2) as ready:
        assert ready.load(InternetTable(kind=kind, count=300))["routes_per_s"] > 0
        assert ready.daemon.count is not None
        assert ready.daemon.count() == 300
