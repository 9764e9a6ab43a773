"""What goes wrong while the kernel is read: it is tried again, or reported as the defect that it is."""

from __future__ import annotations

import asyncio
import errno
import subprocess
from typing import Any

import pytest

from bgpd.kernel import monitor as monitor_module
from bgpd.kernel.monitor import KernelMonitor
from tests.workload.broker import own_network, until

pytestmark = pytest.mark.netns


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


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
