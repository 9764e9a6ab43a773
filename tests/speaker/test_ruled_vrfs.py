"""Guests of VRFs without a device: where they connect to, and which of them cannot."""

from __future__ import annotations

import msgspec

from bgpd.config.schema_sessions import TcpAoKeyConfig
from bgpd.config.schema_workloads import GuestConfig
from bgpd.kernel.host import Host
from bgpd.model.kernel import Link
from bgpd.speaker.ruled_vrfs import doors, problems

GUEST = GuestConfig(
    name="vm", prefix="10.70.0.2/32", asn="external", prefixes=("10.9.9.0/24",), max_prefixes=1, vrf="blue"
)
NAMED = msgspec.structs.replace(GUEST, interface="pod1", port=1790)
KEY = TcpAoKeyConfig(send_id=1, receive_id=1, key_file="/k")
SIGNED = msgspec.structs.replace(NAMED, password_file="/p")
AO = msgspec.structs.replace(NAMED, tcp_ao=(KEY,))


def host(*, has_device: bool = False) -> Host:
    found = Host(lambda event: None)
    if has_device:
        found.link(Link(index=1, name="blue", up=True, kind="vrf"))
    return found


def test_a_guest_needs_an_interface_and_has_no_key() -> None:
    assert doors([NAMED], host()) == {("", 1790)}
    assert problems([NAMED], host()) == []
    for guest, why in ((GUEST, "no interface says"), (SIGNED, "keys count in VRFs"), (AO, "keys count in VRFs")):
        (problem,) = problems([guest], host())
        assert problem.startswith("guest vm cannot connect: the kernel has no device of VRF blue, and ")
        assert why in problem
        assert not doors([guest], host())


def test_with_a_device_or_in_the_main_table_nothing_is_special() -> None:
    for guest in (GUEST, NAMED, SIGNED, AO):
        assert not problems([guest], host(has_device=True))
        assert not doors([guest], host(has_device=True))
        main = msgspec.structs.replace(guest, vrf="")
        assert not problems([main], host())
        assert not doors([main], host())
