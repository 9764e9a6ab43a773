"""`bgpd why-not`: the first thing that is missing, for own and for learned prefixes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labs.process import LabError
from tests.daemon.fabric import Fabric, Host, leaf, started, table
from tests.daemon.wire_peer import WirePeer, update

pytestmark = pytest.mark.netns

POD = table("[[workload.static]]", prefix="10.64.1.5/32", interface="pod1")
NOWHERE = table("[[workload.static]]", prefix="10.64.1.6/32", interface="pod9")
POLICY = '[policy.some]\nrules = [{ match = { prefix = ["10.64.0.0/16 le 32", "10.9.0.0/16"] }, action = "accept" }]\n'


def asked(host: Host, *arguments: str) -> dict[str, Any]:
    view: dict[str, Any] = json.loads(host.cli("why-not", "--json", *arguments, check=False))
    return view


def test_first_thing_that_is_missing_is_said(fabric: Fabric) -> None:
    leaves = (leaf(1, import_="some", export="some"), leaf(2, export="none"))
    with (
        WirePeer(fabric.leaf1) as peer,
        started(fabric, *leaves, POLICY, POD, NOWHERE, wait=False) as host,
        peer.establish() as connection,
    ):
        host.wait_established("leaf1")
        connection.sendall(update(("10.9.0.0/16", "10.8.0.0/16"), asn=65201))
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        host.wait(lambda: asked(host, "10.64.1.5", "--neighbor", "leaf1")["well"], "the workload to be announced")
        own = asked(host, "10.64.1.5")
        assert own["verdict"].startswith("not announced to leaf2: leaf2 is not established (")
        assert {one["neighbor"]: one["announced"] for one in own["withheld"]} == {"leaf1": True, "leaf2": False}
        assert host.cli("why-not", "10.64.1.5", "--neighbor", "leaf1").splitlines()[0].endswith("announced to leaf1")
        waits = asked(host, "10.64.1.6/32")["verdict"]
        assert waits.startswith("workload 10.64.1.6/32 (static) has it, but ")
        assert "pod9" in waits
        learned = asked(host, "10.9.0.0/16")
        assert (learned["well"], learned["near"]) == (True, [])
        assert learned["verdict"].startswith("nothing is missing: it is installed, as said by leaf1")
        rejected = asked(host, "10.8.0.0/16")
        assert rejected["verdict"].startswith('leaf1 announces it, but policy "some": no rule accepts it')
        never = asked(host, "10.0.0.0/8")
        assert never["verdict"].startswith("no neighbor has announced it, and nothing on this host claims it; leaf2 is")
        assert never["near"] == ["10.8.0.0/16", "10.9.0.0/16", "10.64.1.5/32"]
        assert asked(host, "10.9.7.0/24")["near"] == ["10.9.0.0/16"]
        to_itself = asked(host, "10.9.0.0/16", "--neighbor", "leaf1")["verdict"]
        assert to_itself == "not announced to leaf1: leaf1: its own path is the best one"
        for wrong in (("10.9.0.0/8",), ("leaf1",), ("10.9.0.0/16", "--vrf", "x"), ("10.9.0.0/16", "--neighbor", "x")):
            with pytest.raises(LabError):
                host.cli("why-not", *wrong)
