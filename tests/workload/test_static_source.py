"""Static workloads follow the configuration."""

from __future__ import annotations

import pytest

from bgpd.config.schema import Config, RouterConfig
from bgpd.config.schema_workloads import StaticWorkloadConfig, WorkloadConfig
from bgpd.workload.static_source import StaticSource
from tests.workload.fixtures import Rig, on


def config(*static: StaticWorkloadConfig) -> Config:
    return Config(router=RouterConfig(asn=65203, router_id="10.255.1.1"), workload=WorkloadConfig(static=static))


async def test_reload_changes_only_what_differs() -> None:
    rig = Rig(sources=("static",))
    rig.link("veth5")
    keep = StaticWorkloadConfig(prefix="10.64.1.5/32", interface="veth5")
    gone = StaticWorkloadConfig(prefix="10.64.1.6", interface="veth5", id="six")
    source = StaticSource(rig.parts(config(keep, gone)))
    await source.restore()
    rig.settle()
    assert rig.synchronised == 1
    assert rig.state("static", "six") == ("announced", "")
    rig.told.clear()
    source.reconfigure(config(keep).workloads)
    rig.settle()
    assert rig.told == [("withdraw", "", ["10.64.1.6/32"]), ("route", "", "10.64.1.6/32", None)]
    assert rig.kernel == {("", "10.64.1.5/32"): on("veth5")}


@pytest.mark.parametrize("id", ["", "db"])
async def test_one_prefix_in_two_vrfs_is_two_claims(id: str) -> None:
    """Of one name: without an ID, that is the prefix."""
    rig = Rig(sources=("static",))
    rig.link("veth5")
    rig.link("veth6")
    blue = StaticWorkloadConfig(prefix="10.64.1.5/32", interface="veth5", vrf="blue", id=id)
    red = StaticWorkloadConfig(prefix="10.64.1.5/32", interface="veth6", vrf="red")
    other = StaticWorkloadConfig(prefix="10.64.1.6/32", interface="veth6", vrf="red", id="10.64.1.5/32")
    source = StaticSource(rig.parts(config(blue, red, other)))
    await source.restore()
    rig.settle()
    assert set(rig.announced) == {("blue", "10.64.1.5/32"), ("red", "10.64.1.5/32"), ("red", "10.64.1.6/32")}
    source.reconfigure(config(red).workloads)
    rig.settle()
    assert set(rig.announced) == {("red", "10.64.1.5/32")}


async def test_bad_prefix_changes_nothing() -> None:
    rig = Rig()
    source = StaticSource(rig.parts(config(StaticWorkloadConfig(prefix="10.64.1.5/24", interface="veth5"))))
    with pytest.raises(ValueError, match="host bits"):
        await source.restore()
    assert list(rig.claims.views()) == []
