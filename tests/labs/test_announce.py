"""The frames by which a moved VM tells where it is: byte for byte, and taken by the kernel."""

from __future__ import annotations

import pytest

from labs.announce import Announcer, frame
from labs.namespace import Namespace, link

MAC = bytes.fromhex("020000000114")


def test_gratuitous_arp_asks_for_its_own_address() -> None:
    assert frame(MAC, "10.64.1.20").hex() == (
        "ffffffffffff020000000114080600010800060400010200000001140a4001140000000000000a400114"
    )


@pytest.mark.netns
@pytest.mark.parametrize("address", ["10.64.1.20", "2001:db8:64:1::20"])
def test_kernel_that_asks_in_vain_hears_the_announcement(address: str) -> None:
    with Namespace("host", prefix="L") as host, Namespace("vm", prefix="L") as vm:
        link(host, "tap0", vm, "eth0")
        host.addresses("tap0", "10.0.0.1/24", "2001:db8::1/64")
        host.ip("route", "add", address, "dev", "tap0")
        announcer = Announcer(vm, "eth0", [address])
        host.run("ping", "-c", "1", "-W", "0.2", address, check=False)
        assert vm.mac("eth0") not in host.ip("neigh", "show", address)
        announcer.send()
        announcer.close()
        assert vm.mac("eth0") in host.ip("neigh", "show", address)
