"""What goes wrong while the kernel is read: it is tried again, or reported as the defect that it is."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from bgpd.kernel import monitor as monitor_module
from bgpd.kernel.monitor import KernelMonitor
from bgpd.model.kernel import KernelEvent, LinkChanged, RouteChanged
from tests.own_network import ip, ip_batch, own_network
from tests.waiting import until

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("part", ["links", "routes"])
async def test_defect_in_a_reading_is_reported_at_once(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    with own_network():
        monitor = KernelMonitor()
        await monitor.start()
        try:

            def fail(*_anything: object) -> Any:
                raise RuntimeError("no such case")

            target = monitor if part == "links" else monitor._foreign
            monkeypatch.setattr(target, "_read_host" if part == "links" else "_plan", fail)
            ip("link set lo mtu 9000")
            await until(lambda: reports)
        finally:
            await monitor.stop()
    assert str(reports[0]["exception"]) == "no such case"
    assert part in reports[0]["message"]


async def test_what_the_kernel_would_not_tell_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "_UNREAD_PAUSE_S", 0.01)
    with own_network():
        monitor = KernelMonitor()
        await monitor.start()
        try:
            read, refusals = monitor._read_host, [OSError(errno.ENOMEM, "no memory")]

            def refuse_once() -> Any:
                if refusals:
                    raise refusals.pop()
                return read()

            monkeypatch.setattr(monitor, "_read_host", refuse_once)
            ip("link add eth0 type veth peer name leaf0")
            await until(lambda: not refusals and monitor.host.named("eth0") is not None)
            await until(lambda: monitor._refreshing is not None and monitor._refreshing.done())
        finally:
            await monitor.stop()


async def test_a_route_alone_is_acted_on_before_others_hear_of_it_and_links_keep_their_place() -> None:
    """What is read first is a burst of its own; who hears later hears of a link only after the routes before it."""
    heard: list[str] = []

    def name(event: KernelEvent) -> str:
        if isinstance(event, RouteChanged):
            return f"{'-' if event.gone else '+'}{event.route.key[4]}"
        return event.link.name if isinstance(event, LinkChanged) else ""

    with own_network():
        ip("link add cali1 type veth peer name cali1p")
        ip("link set cali1 up")
        monitor = KernelMonitor()
        await monitor.start()
        await asyncio.sleep(0.3)  # the link's own events
        try:
            monitor.subscribe(lambda event: heard.append(f"later {name(event)}"))
            monitor.subscribe(
                lambda event: heard.append(f"prompt {name(event)}"),
                gather=lambda event: heard.append(f"gathered {name(event)}"),
            )
            monitor.burst_ended.append(lambda: heard.append("acted"))
            ip("route add 10.65.1.1/32 dev cali1")
            await until(lambda: "later +1" in heard)
            assert heard == ["gathered +1", "acted", "later +1"]
            heard.clear()
            lines = ["route add 10.65.1.2/32 dev cali1", "route add 10.65.1.3/32 dev cali1", "link set cali1 mtu 1400"]
            lines.append("route del 10.65.1.2/32 dev cali1")
            ip_batch(*lines)
            await until(lambda: "later -2" in heard)
        finally:
            await monitor.stop()
    assert heard == [
        *("gathered +2", "acted", "later +2"),
        *("gathered +3", "later +3", "later cali1", "prompt cali1", "gathered -2", "acted", "later -2"),
    ]
