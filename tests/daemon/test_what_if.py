"""`bgpd what-if`: what it says comes true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, config, kernel_hops, leaf, started, table
from tests.daemon.wire_peer import WirePeer, update

pytestmark = pytest.mark.netns

BOTH, ONLY_1, ONLY_2, DEFAULT = "10.9.0.0/16", "10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0"


def asked(host: Host, name: str) -> dict[str, Any]:
    view: dict[str, Any] = json.loads(host.cli("what-if", "--json", "--down", name, check=False))
    return view


def test_what_is_foreseen_comes(fabric: Fabric) -> None:
    with (
        WirePeer(fabric.leaf1) as peer1,
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as peer2,
        started(fabric, leaf(1), leaf(2), wait=False) as host,
        peer1.establish() as first,
        peer2.establish() as second,
    ):
        host.wait_established("leaf1", "leaf2")
        first.sendall(update((BOTH, ONLY_1), asn=65201))
        second.sendall(update((BOTH, ONLY_2, DEFAULT), asn=65202, next_hop="10.0.2.2"))
        host.wait_hops(BOTH, "10.0.1.2%eth0", "10.0.2.2%eth1")
        host.wait_hops(ONLY_1, "10.0.1.2%eth0")
        for name in ("leaf1", "10.0.1.2", "eth0"):
            view = asked(host, name)
            table = next(one for one in view["tables"] if one["family"] == "ipv4-unicast")
            assert (view["neighbors_down"], view["neighbors_left"]) == (["leaf1"], ["leaf2"])
            assert (table["unchanged"], table["fewer"], table["moved"], table["lost"]) == (2, 1, 0, 1)
            assert view["uplinks_left"] == [{"interface": "eth1", "speed_mbps": 10_000}]
            assert (table["examples"], table["default_route"]) == ({"lost": [ONLY_1]}, "unchanged")
            assert view["verdict"].startswith("1 route lost; 1 route left with fewer next hops")
            assert "(the default route takes them)" in view["verdict"]
        assert [one["lost"] for one in asked(host, "leaf2")["tables"] if one["family"] == "ipv4-unicast"] == [2]
        assert 'did you mean "leaf' in _refusal(host, "leaf")
        fabric.leaf1.ip("link", "set", "swp1", "down")
        host.wait_hops(BOTH, "10.0.2.2%eth1")
        host.wait(lambda: not kernel_hops(fabric.host, ONLY_1), "the loss")
        assert kernel_hops(fabric.host, ONLY_2)
        assert asked(host, "leaf2")["verdict"].startswith("no neighbor would be left")
        fabric.leaf1.ip("link", "set", "swp1", "up")


POLICY = """[policy.own]
rules = [
  {{ match = {{ prefix = ["{}"] }}, action = "reject" }},
  {{ action = "accept" }},
]
"""
POD, SERVICE = "10.64.1.1/32", "10.64.100.1/32"


def test_another_configuration_and_a_drain_are_foreseen_and_then_come(fabric: Fabric, tmp_path: Path) -> None:
    pod = table("[[workload.static]]", prefix=POD, interface="pod1")
    sections = (pod, table("[workload.api]"), table("[drain]", settle_s=1))
    with (
        WirePeer(fabric.leaf1) as peer1,
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as peer2,
        started(fabric, leaf(1), leaf(2), *sections, wait=False) as host,
        peer1.establish() as first,
        peer2.establish() as second,
    ):
        host.wait_established("leaf1", "leaf2")
        first.sendall(update((BOTH, ONLY_1), asn=65201))
        second.sendall(update((BOTH, ONLY_2), asn=65202, next_hop="10.0.2.2"))
        host.wait_hops(BOTH, "10.0.1.2%eth0", "10.0.2.2%eth1")
        host.wait_hops(ONLY_1, "10.0.1.2%eth0")
        host.wait_hops(ONLY_2, "10.0.2.2%eth1")
        tables = (leaf(1, import_="own"), *sections, POLICY.format(BOTH))
        file = tmp_path / "other.toml"
        file.write_text(config(*tables))
        view = json.loads(host.cli("what-if", "--json", "--reload", str(file), check=False))
        (main,) = [one for one in view["tables"] if one["family"] == "ipv4-unicast"]
        assert (view["neighbors_down"], view["neighbors_left"]) == (["leaf2"], ["leaf1"])
        assert (main["lost"], main["unchanged"]) == (2, 2), "the pod's stays as well"
        assert set(main["examples"]["lost"]) == {BOTH, ONLY_2}
        assert kernel_hops(fabric.host, BOTH), "nothing has changed"
        assert [one["state"] for one in host.get("neighbors")] == ["established"] * 2

        payload = {"addresses": [SERVICE], "backends": [{"id": "b", "addresses": [POD.partition("/")[0]]}]}
        (tmp_path / "service.json").write_text(json.dumps(payload))
        host.cli("service", "add", "web", str(tmp_path / "service.json"))
        host.wait(lambda: SERVICE in sent(host), "the service to be announced")
        assert host.cli("what-if", "--drain", check=False).startswith(
            "drained (services): refused, since no other host"
        )
        view = json.loads(host.cli("what-if", "--json", "--drain", "--force"))
        assert view["last"] == [SERVICE]
        assert [(one["neighbor"], one["withdrawn"]) for one in view["told"]] == [("leaf1", 1), ("leaf2", 1)]
        assert view["told"][0]["examples"]["withdrawn"] == [SERVICE]
        assert SERVICE in sent(host)
        host.cli("drain", "on", "--force")
        host.wait(lambda: SERVICE not in sent(host), "the withdrawal")
        host.cli("drain", "off")

        host.reload_with(*tables)
        host.wait(lambda: not kernel_hops(fabric.host, BOTH), "the loss")
        host.wait(lambda: not kernel_hops(fabric.host, ONLY_2), "the other loss")
        assert kernel_hops(fabric.host, ONLY_1)


def sent(host: Host) -> set[str]:
    return {view["prefix"] for view in host.get("advertised", neighbor="leaf1")}


def _refusal(host: Host, name: str) -> str:
    with pytest.raises(LabError) as refused:
        host.cli("what-if", "--down", name)
    return str(refused.value)
