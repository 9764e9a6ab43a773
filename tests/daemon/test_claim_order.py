"""An address that MQTT and API both claim: who came first holds it, also after the daemon was started again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, Host, RouteWatch, heard_from_host, kernel_hops, leaf, started
from tests.daemon.fabric import table as toml
from tests.daemon.feed import API, MQTT, Orchestrator

pytestmark = pytest.mark.netns

CONTESTED = "10.64.1.1"
SERVICE = "10.64.100.1"
BEFORE = "10.64.1.2"


def claims(host: Host, address: str) -> list[tuple[str, str, bool]]:
    """Source, state and whether it is announced of each claim of an address, the holder first."""
    found = [view for view in host.get("workloads") if view["prefix"] == f"{address}/32"]
    return [(view["source"], view["state"], view["announced"]) for view in found]


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_holder_stays_the_holder_over_a_restart_and_its_route_is_never_touched(
    fabric: Fabric, frr: Frr, feed: Orchestrator, tmp_path: Path, end: str
) -> None:
    """The API came first with one address, a service with another, MQTT with a third."""
    tables = (leaf(1), MQTT, API, toml("[state]", directory=str(tmp_path / "state")))
    service = tmp_path / "service.json"
    service.write_text(json.dumps({"addresses": [SERVICE], "backends": [{"id": "b", "addresses": [BEFORE]}]}))
    with started(fabric, *tables) as host, RouteWatch(fabric.host, tmp_path) as watch:
        host.wait_ready()
        feed.workload("early", BEFORE, interface="pod2")
        feed.wait_state(host, "early", "announced")
        host.cli("workload", "add", "first", "--address", CONTESTED, "--interface", "pod2")
        host.cli("service", "add", "web", str(service))
        feed.workload("second", CONTESTED, SERVICE, interface="pod1")
        assert feed.wait_state(host, "second", "conflict")["reason"].endswith("which came first")
        host.cli("workload", "add", "late", "--address", BEFORE, "--interface", "pod1", check=False)
        wanted = {
            CONTESTED: [("api", "conflict", True), ("mqtt", "conflict", False)],
            SERVICE: [("service", "conflict", True), ("mqtt", "conflict", False)],
            BEFORE: [("mqtt", "conflict", True), ("api", "conflict", False)],
        }
        assert {address: claims(host, address) for address in wanted} == wanted
        routes = len(watch.lines())
        getattr(host, end)()
        host.start()
        host.wait_ready()
        host.wait(lambda: {a: claims(host, a) for a in wanted} == wanted, "the claims as they were")
        assert watch.lines()[routes:] == []
        assert kernel_hops(fabric.host, f"{CONTESTED}/32") == ["pod2"]
        assert heard_from_host(frr, f"{CONTESTED}/32")
        host.cli("workload", "del", "first")
        host.wait(lambda: kernel_hops(fabric.host, f"{CONTESTED}/32") == ["pod1"], "MQTT to follow")
        host.cli("workload", "add", "first", "--address", CONTESTED, "--interface", "pod2", check=False)
        getattr(host, end)()
        host.start()
        host.wait_ready()
        assert claims(host, CONTESTED) == [("mqtt", "conflict", True), ("api", "conflict", False)]
        feed.forget(host)
