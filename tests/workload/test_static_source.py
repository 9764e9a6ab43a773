"""Static workloads follow the configuration."""

from __future__ import annotations

import pytest

from bgpd.config.schema import StaticWorkloadConfig
from bgpd.workload.static_source import StaticSource
from tests.workload.fixtures import Rig, on


def test_reload_changes_only_what_differs() -> None:
    rig = Rig(sources=("static",))
    source = StaticSource(rig.table)
    rig.link("veth5")
    keep = StaticWorkloadConfig(prefix="10.64.1.5/32", interface="veth5")
    gone = StaticWorkloadConfig(prefix="10.64.1.6", interface="veth5", id="six")
    source.apply((keep, gone))
    rig.settle()
    assert rig.synchronised == 1
    assert rig.state("static", "six") == ("announced", "")
    rig.told.clear()
    source.apply((keep,))
    rig.settle()
    assert rig.told == [("withdraw", "", ["10.64.1.6/32"]), ("route", "", "10.64.1.6/32", None)]
    assert rig.kernel == {("", "10.64.1.5/32"): on("veth5")}


def test_bad_prefix_changes_nothing() -> None:
    rig = Rig()
    source = StaticSource(rig.table)
    with pytest.raises(ValueError, match="host bits"):
        source.apply((StaticWorkloadConfig(prefix="10.64.1.5/24", interface="veth5"),))
    assert list(rig.table.views()) == []
