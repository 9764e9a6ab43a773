"""Events that the kernel could not deliver (ENOBUFS) are made up for, those too that it drops while the queue is full.

Once a netlink socket's queue has overflowed, Linux drops everything until the queue has been read empty, and tells of
it once (netlink_overrun, NETLINK_S_CONGESTED).
"""

from __future__ import annotations

import asyncio
import time

import pytest

from bgpd.kernel import monitor as monitor_module
from bgpd.kernel.monitor import KernelMonitor
from bgpd.model.kernel import KernelEvent, KernelResynchronised
from tests.own_network import ip, ip_batch, own_network
from tests.waiting import until

pytestmark = pytest.mark.netns

TURN_S = 0.005
FLOOD = 3000


def flood() -> None:
    """More events than the queue holds, none of which matters."""
    lines = [
        f"route {act} blackhole 10.9.{n >> 8}.{n & 255} table 999" for act in ("add", "del") for n in range(FLOOD // 2)
    ]
    ip_batch(*lines)


async def test_what_is_dropped_while_the_queue_is_still_full_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "_RECEIVE_BYTES", 128 << 10)
    for steps in ("_DATAGRAMS_PER_STEP", "_DRAINED_PER_STEP"):
        monkeypatch.setattr(monitor_module, steps, 1)

    def slow() -> None:
        """A loop that has much else to do."""
        time.sleep(TURN_S)
        loop.call_soon(slow)

    loop = asyncio.get_running_loop()
    with own_network():
        ip("link add cali1 type veth peer name cali1p")
        ip("link set cali1 up")
        ip("route add 10.65.1.1/32 dev cali1")
        monitor = KernelMonitor()
        await monitor.start()
        try:
            events: list[KernelEvent] = []
            monitor.subscribe(events.append)
            behind: list[bool] = []
            monitor.events_lost.append(lambda: behind.append(monitor.is_behind))
            slow()
            flood()
            await until(lambda: monitor.resynchronised > 0)
            assert behind == [True] * monitor.resynchronised
            assert monitor.is_behind
            await asyncio.sleep(0.3)  # long enough for a reading of links, and the queue is not empty
            assert monitor.is_behind
            assert KernelResynchronised() not in events
            ip("link set cali1 name cali9")
            ip("link del cali9")
            await until(lambda: monitor.host.named("cali1") is None)
            await until(lambda: not monitor.is_behind)
            assert monitor.host.named("cali9") is None
            known = [one for routes in monitor.routes.routes.values() for one in routes]
            assert not any(one.interface for one in known if one.table == 254)
            assert events.count(KernelResynchronised()) == 1
        finally:
            await monitor.stop()
