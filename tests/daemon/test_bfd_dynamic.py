"""BFD with neighbors whose addresses are not configured: unnumbered and dynamic ones, across a restart."""

from __future__ import annotations

import signal

import pytest

from labs.daemons import Bfd, Bird
from tests.bfd.switched import LEARNED, SwitchedFabric
from tests.daemon.fabric import started, table
from tests.daemon.test_bfd import bfd, downs, process_table, views, wait_up
from tests.interop.test_bird import bird_config

pytestmark = pytest.mark.netns


@pytest.mark.interop("BIRD", "bfd")
def test_bird_sees_no_restart_of_a_graceful_daemon() -> None:
    """BIRD ends BFD with BGP; it helps with graceful restart, and so keeps both."""
    timers = "min rx interval 100 ms; min tx interval 100 ms; multiplier 3;"
    text = f'{bird_config("bfd on;")}\nprotocol bfd {{ interface "swp1" {{ {timers} }}; }}\n'
    with (
        SwitchedFabric() as fabric,
        Bfd(fabric.host) as process,
        Bird(fabric.leaf1, text) as bird,
        started(fabric, bfd(1) + "graceful_restart = {}\n", process_table(process)) as host,
    ):
        host.wait_established("leaf1")
        wait_up(host, "leaf1")
        before = views(host)["leaf1"]["discriminator"]
        for number in (signal.SIGTERM, signal.SIGKILL):
            host.terminate(number)
            host.start()
            host.wait_established("leaf1")
            wait_up(host, "leaf1")
        view = views(host)["leaf1"]
        assert (view["discriminator"], view["ups"], view["downs"]) == (before, 1, 0)
        assert "Up" in bird.birdc("show bfd sessions")
        fabric.cut(1)
        host.wait(lambda: not host.established(), "the failure")
        assert host.neighbor("leaf1")["last_error"].startswith("BFD down")
        fabric.mend(1)


def test_unnumbered_and_dynamic_neighbors_have_it_across_a_restart() -> None:
    unnumbered = bfd(1, address=None, interface="eth0", asn="external")
    listen = table("[[listen]]", prefix="10.0.2.0/24", asn=65202, import_="all").rstrip()
    dynamic = f"{listen}\nbfd = {{ interval_ms = 100 }}\n"
    with (
        SwitchedFabric() as fabric,
        Bfd(fabric.host) as process,
        fabric.bfd_leaf(1, peer="swp1") as leaf1,
        fabric.bfd_leaf(2) as leaf2,
        started(fabric, unnumbered, dynamic, process_table(process)) as host,
    ):
        name = "10.0.2.0/24-10.0.2.2"
        host.wait_established("leaf1", name)
        wait_up(host, "leaf1", name)
        assert views(host)["leaf1"]["address"].startswith("fe80::")
        before = (downs(leaf1), downs(leaf2), views(host)[name]["discriminator"])
        host.terminate(signal.SIGKILL)
        host.start()
        host.wait_established("leaf1", name)
        wait_up(host, "leaf1", name)
        assert (downs(leaf1), downs(leaf2), views(host)[name]["discriminator"]) == before
        fabric.cut(2)
        try:
            host.wait_hops(LEARNED, f"{views(host)['leaf1']['address']}%eth0")
            assert name not in host.established()
        finally:
            fabric.mend(2)


def test_guest_that_dies_silently_is_found_out_and_its_claims_go() -> None:
    guest = table("[[workload.bgp]]", name="box", address="10.0.2.2", asn=65202, prefixes=[LEARNED], max_prefixes=10)
    guest = f"{guest.rstrip()}\nhold_time_s = 180\nbfd = {{ interval_ms = 100 }}\n"
    with (
        SwitchedFabric() as fabric,
        Bfd(fabric.host) as process,
        fabric.bfd_leaf(2),
        started(fabric, bfd(1, passive=True), guest, process_table(process), wait=False) as host,
    ):
        host.wait_established("box")
        wait_up(host, "box")
        host.wait(lambda: [view["id"] for view in host.get("workloads")] == [f"box/{LEARNED}"], "its claim")
        host.wait_hops(LEARNED, "10.0.2.2%eth1")
        fabric.cut(2)
        try:
            host.wait_hops(LEARNED)
            host.wait(lambda: not host.get("workloads"), "the claim to go")
            assert host.neighbor("box")["last_error"].startswith("BFD down")
        finally:
            fabric.mend(2)
        host.wait_hops(LEARNED, "10.0.2.2%eth1")
