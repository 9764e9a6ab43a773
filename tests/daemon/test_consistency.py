"""What the parts of a running daemon believe of a route is made to differ: it is noticed, told, counted and repaired.

No message from outside can bring that about, so the test's own code does, within the daemon: Python imports
`sitecustomize` from PYTHONPATH at its start, and that runs a file of the test when the process gets a signal.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.daemons import Frr
from tests.daemon import fabric as fabric_module
from tests.daemon.fabric import Fabric, Host, heard_from_host, kernel_routes, leaf, started, table

pytestmark = pytest.mark.netns

POD, STRAY = "10.64.1.5/32", "10.64.9.9/32"
LEARNED = "10.9.0.0/16"
HOOK = """
import gc, signal

def plant(*_):
    from bgpd.model.prefix import parse_prefix
    from bgpd.routing import WORKLOAD_SOURCE, Routing
    gc.unfreeze()
    (routing,) = [one for one in gc.get_objects() if isinstance(one, Routing)]
    (fib,) = [fib for vrf, fib in routing.tables.fibs.items() if not vrf]
    names = {{"routing": routing, "fib": fib, "source": WORKLOAD_SOURCE, "place": parse_prefix}}
    exec(open({path!r}).read(), names)

signal.signal(signal.SIGUSR2, plant)
"""
REPAIR_S = 20.0
"""A round every 5 s, a second until a difference counts, and a busy machine."""


@pytest.fixture
def host(fabric: Fabric, frr: Frr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    (tmp_path / "sitecustomize.py").write_text(HOOK.format(path=str(tmp_path / "plant.py")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(fabric_module, "DEFECTS", ("bgpd.defect", "consistency.failed", "Traceback"))
    pod = table("[[workload.static]]", prefix=POD, interface="pod1")
    with started(fabric, leaf(1), pod) as host:
        host.wait_ready()
        host.wait_hops(LEARNED, "10.0.1.2%eth0")
        host.wait(lambda: heard_from_host(frr, POD), "the leaf to hear the pod")
        yield host


def plant(host: Host, folder: Path, code: str) -> None:
    (folder / "plant.py").write_text(code)
    host.processes[-1].send_signal(signal.SIGUSR2)


def wait_told(host: Host, what: str) -> None:
    """Wait until one difference of `what` was told and counted, made the host not ready, and is no more."""
    host.wait(lambda: host.log("consistency.repairing"), "the difference to be told", timeout_s=REPAIR_S)
    (told,) = host.log("consistency.repairing")
    assert (told["what"], told["routes"], told["level"]) == (what, 1, "error")
    assert host.metric("bgpd_consistency_repairs_total", compared=what) == 1
    host.wait(
        lambda: any(what in record["reason"] for record in host.log("bgpd.readiness") if not record["ready"]),
        "the host not to be ready",
    )
    host.wait_ready()


def test_route_that_the_kernel_lost_without_a_word_is_written_again(fabric: Fabric, host: Host, tmp_path: Path) -> None:
    """The table believes that it never was there, so that the kernel's word of its end means nothing to it."""
    plant(
        host,
        tmp_path,
        f"""
import subprocess
family, key = place({LEARNED!r})
fib.families[family].believe(key, None)
subprocess.run(["ip", "route", "del", {LEARNED!r}, "proto", "217"], check=True)
""",
    )
    host.wait(lambda: LEARNED not in kernel_routes(fabric.host), "the route to be gone")
    wait_told(host, "ipv4-unicast routes in the kernel")
    host.wait_hops(LEARNED, "10.0.1.2%eth0")


def test_workload_that_the_rib_lost_is_announced_again(host: Host, frr: Frr, tmp_path: Path) -> None:
    plant(
        host,
        tmp_path,
        f"""
family, key = place({POD!r})
routing.rib.withdraw_local(source, family, [key])
""",
    )
    host.wait(lambda: not heard_from_host(frr, POD), "the leaf to lose the pod")
    wait_told(host, "ipv4-unicast addresses of workloads")
    host.wait(lambda: heard_from_host(frr, POD), "the leaf to hear the pod again")


def test_route_that_a_neighbor_still_has_is_withdrawn(host: Host, frr: Frr, tmp_path: Path) -> None:
    """The neighbor was told of a prefix that this host does not have."""
    plant(
        host,
        tmp_path,
        f"""
from bgpd.model.route_batch import RouteBatch
(family, key), (_, stray) = place({POD!r}), place({STRAY!r})
(export,) = [one for one in routing.rib.dissemination.all() if one.family is family]
export.advertised[stray] = export.advertised[key]
batch = RouteBatch(family=family, announced=[stray], attributes=export.advertised[key].attributes)
routing.speaker.neighbors.send(export.source, batch)
""",
    )
    host.wait(lambda: heard_from_host(frr, STRAY), "the leaf to hear of it")
    wait_told(host, "ipv4-unicast routes sent to neighbor leaf1")
    host.wait(lambda: not heard_from_host(frr, STRAY), "the leaf to forget it")
    assert heard_from_host(frr, POD)
